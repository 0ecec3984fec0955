/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the runtime and the container's first process say to one another while the container is
 * made, over a socket pair that closes by itself when the process executes its program.
 *
 *   runtime                           first process
 *      | -------- SYNC_CGROUP --------> |   the cgroup is there (sent only where both work at
 * once); |                                |   with the process's pid. Where nothing is needed from
 * the |                                |   runtime any more, the next message is the end of file |
 * -------- SYNC_MAPPED --------> |   user namespace mapped (sent only when there is one) | |
 * cgroup, mounts, devices, pivot_root, terminal | <------ SYNC_MOUNTED --------- |   before
 * pivot_root; only when the runtime has hooks | ------- SYNC_HOOKED ---------> |   they have run |
 * <------- SYNC_READY ---------- |   (terminal: its master comes along as a descriptor) | --------
 * SYNC_START ---------> |   state is written. run: at once |                                |
 * create: the exec FIFO stands for it | <------- end of file --------- |   the program was executed
 *      | <------- SYNC_FAILED --------- |   instead of any of its messages: a struct err
 */
#ifndef LODGE_OCI_SYNC_H
#define LODGE_OCI_SYNC_H

#include "base/err.h"

#include <sys/types.h>

enum sync_kind {
    SYNC_MAPPED = 1,
    SYNC_READY,
    SYNC_START,
    SYNC_FAILED,
    SYNC_MOUNTED,
    SYNC_HOOKED,
    SYNC_CGROUP,
};

/* fd: a descriptor to pass along, or -1. -errno. */
int sync_send(int socket, enum sync_kind kind, const struct err *failure, int fd);
/* To a process that works on its own and may have failed meanwhile: that is no error here, what it
 * said is read by who waits for its report; and it does not wait for us any more. */
int sync_tell(int socket, enum sync_kind kind, pid_t pid, struct err *err);
/*
 * Waits for `kind`. 0; 1 at end of file; negative with err set when the peer reported a failure or
 * spoke out of turn. ret_fd (may be NULL) gets a descriptor that came along, or -1.
 */
int sync_wait(int socket, enum sync_kind kind, int *ret_fd, struct err *err);
/* The same, with the pid of sync_tell. */
int sync_wait_pid(int socket, enum sync_kind kind, pid_t *ret, struct err *err);

#endif
