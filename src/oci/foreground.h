/* SPDX-License-Identifier: Apache-2.0 */
/* `run` without --detach: the runtime stays as the container's parent until it ends. */
#ifndef LODGE_OCI_FOREGROUND_H
#define LODGE_OCI_FOREGROUND_H

#include "base/err.h"

#include <sys/types.h>

/*
 * Passes the signals that arrive here on to the container, copies between our standard streams and
 * the terminal's master (-1: none; raw mode and window size included), and reaps the first process.
 * *ret_status: its exit status, 128 + n for signal n.
 */
int foreground_wait(pid_t pid, int pid_fd, int master, int *ret_status, struct err *err);

#endif
