/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a command runs as, out of the image's own /etc/passwd and /etc/group. The C library's
 * look-ups are of no use here: the program is static, and the image may be anything.
 */
#ifndef LODGE_GUEST_USERS_H
#define LODGE_GUEST_USERS_H

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
 * root_fd/etc/passwd and group. */
int user_find(int root_fd, const char *spec, struct user *ret, struct err *err);

#endif
