/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/pid_namespace.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>

int pid_namespace_enter(int fd, int *ret_own)
{
    CLEANUP(fd_closep) int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);

    if (own < 0 || setns(fd, CLONE_NEWPID) < 0)
        return -errno;
    *ret_own = TAKE_FD(own);
    return 0;
}

void pid_namespace_leave(int own)
{
    if (own >= 0)
        setns(own, CLONE_NEWPID);
}
