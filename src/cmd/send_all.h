/* SPDX-License-Identifier: Apache-2.0 */
/* To a stream socket, all of it. */
#ifndef LODGE_CMD_SEND_ALL_H
#define LODGE_CMD_SEND_ALL_H

#include <signal.h>
#include <stddef.h>

/* 0; -errno, -EPIPE without a signal; -ECANCELED when a signal has set *stop (NULL: none ends it).
 */
int send_all(int fd, const void *data, size_t length, const volatile sig_atomic_t *stop);

#endif
