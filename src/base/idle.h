/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting that begins with looking. To wake a sleeping thread costs tens of microseconds, which two
 * sides that answer each other pay at every turn; so a thread whose last waits were short looks for
 * a while before it sleeps. Between two looks it offers its processor to whoever wants it: what it
 * waits for may be waiting for just that. If somebody took it, there are more threads than
 * processors, and it looks once more and sleeps.
 *
 * Usage, on one thread:
 *     idle_begin(&idle);
 *     while (!there && idle_look(&idle)) ...
 *     if (!there) sleep;
 *     idle_end(&idle);
 */
#ifndef LODGE_BASE_IDLE_H
#define LODGE_BASE_IDLE_H

#include <stdbool.h>
#include <stdint.h>

/* Zero-initialised. */
struct idle {
    uint64_t start_ns;
    bool displaced; /* somebody took the processor: one more look, then sleep */
    bool was_long;  /* the last wait: the next one does not look */
};

void idle_begin(struct idle *idle);
/* True: look again. Never on a host with one processor, where it would delay the other side. */
bool idle_look(struct idle *idle);
void idle_end(struct idle *idle);

#endif
