/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a host_cgroup, for the files that write and read more than cgroup.c does. */
#ifndef LODGE_HOST_CGROUP_INTERNAL_H
#define LODGE_HOST_CGROUP_INTERNAL_H

#include "host/cgroup.h"

#define HOST_NOT_COUNTED UINT64_MAX

enum host_controller {
    HOST_CPU,
    HOST_CPUACCT,
    HOST_MEMORY,
    HOST_FREEZER,
    HOST_BLKIO,
    HOST_CPUSET,
    HOST_UNIFIED, /* version 2 beside version 1: pressure alone */
    HOST_CONTROLLERS
};

#define HOST_CGROUP_ROOT "/sys/fs/cgroup"
#define HOST_STAT_MAX    16384 /* the longest, memory.stat, has about 3000 bytes */

struct host_cgroup {
    bool v2;
    char *root, *path;
    int fds[HOST_CONTROLLERS]; /* directories, -1: none; version 2: fds[0] alone */
};

static inline int host_cgroup_directory(const struct host_cgroup *cgroup,
                                        enum host_controller controller)
{
    return cgroup->fds[cgroup->v2 ? 0 : controller];
}

/* -EOPNOTSUPP names a controller or a file that is not there. */
int host_cgroup_write(const struct host_cgroup *cgroup, enum host_controller controller,
                      const char *file, const char *value, struct err *err);
/* A file that is not there reads as empty, one that is longer as its beginning. */
const char *host_read_text(int fd, const char *file, char text[HOST_STAT_MAX]);
/* The number that a file begins with; HOST_NOT_COUNTED. */
uint64_t host_read_number(int fd, const char *file);
/* The number after `name` on a line of its own; HOST_NOT_COUNTED. */
uint64_t host_read_field(int fd, const char *file, const char *name);

#endif
