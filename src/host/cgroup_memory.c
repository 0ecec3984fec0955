/* SPDX-License-Identifier: Apache-2.0 */
/* Memory given back on demand (cgroup-v2.rst, memory.reclaim; cgroup-v1/memory.rst, 4.1, 10). */
#include "host/cgroup_internal.h"

#include "base/file.h"

#include <inttypes.h>
#include <stdio.h>

static int reclaim_v2(struct host_cgroup *cgroup, uint64_t bytes, struct err *err)
{
    char value[32];
    int r;

    snprintf(value, sizeof(value), "%" PRIu64, bytes);
    r = host_cgroup_write(cgroup, HOST_MEMORY, "memory.reclaim", value, err);
    return r == -EAGAIN ? 0 : r; /* less than that */
}

/*
 * The limit comes down only as far as reclaim gets (else the kernel refuses with -EBUSY, having
 * tried). What the processes touch between the two writes would be over the limit: with the killer
 * off they wait for the second.
 */
static int reclaim_v1(struct host_cgroup *cgroup, uint64_t target_bytes, struct err *err)
{
    int fd = cgroup->fds[HOST_MEMORY], r;
    uint64_t limit = host_read_number(fd, "memory.limit_in_bytes");
    char value[32];
    bool killed; /* where it is off already, it stays off */

    if (limit == HOST_NOT_COUNTED)
        return err_set(err, -EOPNOTSUPP, "cgroup '%s': the host has no controller memory for it",
                       cgroup->path);
    if (limit <= target_bytes)
        return 0;
    killed = host_read_field(fd, "memory.oom_control", "oom_kill_disable") == 0;
    r = killed ? host_cgroup_write(cgroup, HOST_MEMORY, "memory.oom_control", "1", err) : 0;
    if (r < 0)
        return r;
    snprintf(value, sizeof(value), "%" PRIu64, target_bytes);
    r = file_write_string(fd, "memory.limit_in_bytes", value);
    snprintf(value, sizeof(value), "%" PRIu64, limit);
    if (r >= 0)
        r = file_write_string(fd, "memory.limit_in_bytes", value);
    else if (r == -EBUSY)
        r = 0;
    if (killed)
        file_write_string(fd, "memory.oom_control", "0");
    return r < 0 ? err_errno(err, r, "cgroup '%s': reclaim down to %" PRIu64 " bytes", cgroup->path,
                             target_bytes)
                 : 0;
}

int host_cgroup_reclaim(struct host_cgroup *cgroup, uint64_t target_bytes, struct err *err)
{
    struct host_figures figures;
    int r = host_cgroup_read(cgroup, &figures, err);

    if (r < 0)
        return r;
    if (figures.memory_bytes == HOST_NOT_COUNTED)
        return err_set(err, -EOPNOTSUPP, "cgroup '%s': the kernel does not count its memory",
                       cgroup->path);
    if (figures.memory_bytes <= target_bytes)
        return 0;
    return cgroup->v2 ? reclaim_v2(cgroup, figures.memory_bytes - target_bytes, err)
                      : reclaim_v1(cgroup, target_bytes, err);
}

/* The killer goes off first and on last: while it is on, nothing was left. */
int host_cgroup_reclaim_undo(struct host_cgroup *cgroup, uint64_t limit_bytes, struct err *err)
{
    int r;

    if (cgroup->v2 ||
        host_read_field(cgroup->fds[HOST_MEMORY], "memory.oom_control", "oom_kill_disable") != 1)
        return 0;
    r = host_cgroup_set_memory_limit(cgroup, limit_bytes, err);
    return r < 0 ? r : host_cgroup_write(cgroup, HOST_MEMORY, "memory.oom_control", "0", err);
}
