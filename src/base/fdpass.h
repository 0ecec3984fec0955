/* SPDX-License-Identifier: Apache-2.0 */
/* One message over a unix socket, with at most one descriptor along (unix(7), SCM_RIGHTS). */
#ifndef LODGE_BASE_FDPASS_H
#define LODGE_BASE_FDPASS_H

#include <stddef.h>
#include <sys/types.h>

/* fd -1: none. 0 or -errno; no SIGPIPE. */
int fdpass_send(int socket, const void *data, size_t length, int fd);
/* Bytes received (0: end of file) or -errno. *ret_fd: the descriptor (close-on-exec), or -1. */
ssize_t fdpass_receive(int socket, void *data, size_t length, int *ret_fd);

#endif
