/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Narrowing the process before guest code runs. Private to vmm/.
 *
 *   jail_prepare   at the start: stray descriptors closed, no core dumps, no new privileges
 *   jail_enter     when everything is open: no capabilities in this thread and those that it makes,
 *                  a limit on descriptors, and a system call filter on all threads
 *
 * The filter is an allow-list. Opening files by name fails with EACCES; anything else outside the
 * list ends the process with one line that names the system call.
 */
#ifndef LODGE_VMM_JAIL_H
#define LODGE_VMM_JAIL_H

#include "base/err.h"

#include <stdbool.h>

/* keep_fd: a descriptor that stays open; -1: none. */
int jail_prepare(int keep_fd, struct err *err);
/* What this VM needs beyond the common list. */
struct jail_needs {
    bool kvm;
    bool tap;     /* a tap interface is adopted; its offloads are changed when a driver starts */
    bool profile; /* timers of threads */
    bool sockets; /* a user-mode network makes sockets towards the outside */
};

int jail_enter(const struct jail_needs *needs, struct err *err);

#define JAIL_EXIT_STATUS 159 /* 128 + SIGSYS */

#endif
