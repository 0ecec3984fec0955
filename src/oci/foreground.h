/* SPDX-License-Identifier: Apache-2.0 */
/* `run` without --detach: the runtime stays as the container's parent until it ends. */
#ifndef LODGE_OCI_FOREGROUND_H
#define LODGE_OCI_FOREGROUND_H

#include "base/err.h"

#include "oci/notify_socket.h"

#include <signal.h>
#include <sys/types.h>

/* Sent to us by the kernel when our parent died, if it asked for that
 * (foreground_exit_with_parent): the container is killed. */
#define FOREGROUND_PARENT_DIED SIGRTMAX

/* From now on the death of `parent`, which must be our parent, ends the container. -errno; -ESRCH:
 * it is dead already. */
int foreground_exit_with_parent(pid_t parent);

/* Holds back every signal from now on, so that none ends us while a container is half made or
 * before its program is watched. Call before the container is made; foreground_wait passes on what
 * came meanwhile. */
void foreground_hold_signals(sigset_t *ret_before);

/*
 * Passes the signals that arrive here on to the container, copies between our standard streams and
 * the terminal's master (-1: none; raw mode and window size included), and reaps the first process.
 * notify (may be NULL): reports of readiness to pass on.
 * *ret_status: its exit status, 128 + n for signal n.
 */
int foreground_wait(pid_t pid, int pid_fd, int master, struct notify_proxy *notify, int *ret_status,
                    struct err *err);

#endif
