/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readiness and socket activation of service managers (sd_notify(3), sd_listen_fds(3)): a program
 * in the container reports to a socket of ours, and what concerns its readiness goes on to the
 * manager's. The manager's own socket never comes into the container: whoever writes to that may
 * name another main process.
 *
 * The socket is bound when the program starts, in a directory that is mounted (read-only) at
 * NOTIFY_DIRECTORY of the container.
 */
#ifndef LODGE_OCI_NOTIFY_SOCKET_H
#define LODGE_OCI_NOTIFY_SOCKET_H

#include "oci/container_making.h"

#define NOTIFY_DIRECTORY "/run/notify" /* in the container */
#define NOTIFY_STATE     "notify"      /* in the state directory */

struct notify_proxy {
    const char *host; /* the manager's socket: a path, or @name */
    int fd;           /* ours; -1: nobody wants to know */
    pid_t pid;        /* whom to name as the main process */
};

/* After making_state: the directory, its mount and the variable in the configuration. Nothing when
 * the caller has no NOTIFY_SOCKET. */
int notify_prepare(struct making *m, struct err *err);
bool notify_is_wanted(void);
/* Binds the socket, when notify_prepare has been there. */
int notify_bind(int state_fd, struct notify_proxy *ret, struct err *err);
/* One message from the container; true when it said that it is ready. */
bool notify_pass(struct notify_proxy *proxy);
/* Until it is ready or its process has ended. */
void notify_wait_ready(struct notify_proxy *proxy, int pid_fd);

/* How many descriptors from 3 on were passed to this process by socket activation. */
unsigned notify_listen_fds(void);

#endif
