/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines for devices. One thread sleeps until the earliest and calls back; a test instead drives
 * the clock by hand. A callback may arm timers again.
 *
 * timer_disarm returns only when the callback is not running (unless called from it): so never call
 * it with a lock that the callback takes. Under such a lock arm the timer with TIMER_NEVER instead,
 * and let the callback, once it has the lock, check that its time has really come.
 */
#ifndef LODGE_MACHINE_TIMERS_H
#define LODGE_MACHINE_TIMERS_H

#include "base/err.h"

#include <stdint.h>

struct timers;
struct timer;

#define TIMER_NEVER UINT64_MAX /* as deadline_ns: not armed */

typedef void timer_fn(void *context);

int timers_new(struct timers **ret, struct err *err); /* starts the thread */
/* No thread: time stands still until timers_advance. */
int timers_new_manual(struct timers **ret, struct err *err);
void timers_free(struct timers *timers);
uint64_t timers_now_ns(struct timers *timers); /* CLOCK_MONOTONIC, or the manual clock */
void timers_advance(struct timers *timers,
                    uint64_t to_ns); /* manual: runs what falls due, in order */

int timer_new(struct timers *timers, timer_fn *fn, void *context, struct timer **ret,
              struct err *err);
void timer_free(struct timer *timer);
void timer_arm(struct timer *timer, uint64_t deadline_ns); /* replaces an earlier deadline */
void timer_disarm(struct timer *timer);

#endif
