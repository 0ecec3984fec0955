/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a command runs as, out of an image's own /etc/passwd and /etc/group, never the host's. Also
 * in the first process of a VM, which is static: the C library's look-ups are of no use there. The
 * image may be hostile: its symbolic links are resolved inside it, and sizes are capped.
 */
#ifndef LODGE_BASE_USERS_H
#define LODGE_BASE_USERS_H

#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>

#define USERS_GROUPS_MAX 64

struct user {
    uid_t uid;
    gid_t gid;
    gid_t groups[USERS_GROUPS_MAX]; /* supplementary */
    size_t nr_groups;
    char home[256];
};

/* spec: "" (root), "name", "uid", either with ":group" or ":gid". A number needs no entry. Reads
 * etc/passwd and etc/group below root_fd (AT_FDCWD: the current directory). -ESRCH: no such user or
 * group. */
int user_find(int root_fd, const char *spec, struct user *ret, struct err *err);

#endif
