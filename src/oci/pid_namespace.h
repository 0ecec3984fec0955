/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joining a pid namespace concerns a process's children, not the process: between enter and leave
 * the runtime makes one child there. What it makes later (hooks, a leak checker's tracer) belongs
 * beside itself.
 */
#ifndef LODGE_OCI_PID_NAMESPACE_H
#define LODGE_OCI_PID_NAMESPACE_H

/* fd: a pidfd or a namespace. *ret_own leads back; the caller closes it. -errno. */
int pid_namespace_enter(int fd, int *ret_own);

/* -1: nothing to do. A user namespace joined meanwhile may forbid it, which does no harm. */
void pid_namespace_leave(int own);

#endif
