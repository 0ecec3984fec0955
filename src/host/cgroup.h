/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup of an instance as the allocator sees it: weight, cap, memory bounds, frozen or not,
 * and the kernel's counters. A container's own cgroup is opened; for a VM's process one is made and
 * the process put into it. Version 1 (a directory in each of cpu, cpuacct, memory, freezer, blkio,
 * cpuset) and version 2 alike; on a hybrid host the version 1 controllers are used, and the version
 * 2 hierarchy beside them for pressure.
 *
 * Invariants: 1. a path starts with "/" and has no "..";  2. a controller that the host lacks is an
 * error only where it is needed (-EOPNOTSUPP names it). Threads: one at a time for each object.
 * Specification: the kernel's cgroup-v1/, cgroup-v2.rst, scheduler/sched-bwc.rst.
 */
#ifndef LODGE_HOST_CGROUP_H
#define LODGE_HOST_CGROUP_H

#include "base/err.h"
#include "policy/allocation.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct host_cgroup;

/* What the kernel counted; what it does not count here is UINT64_MAX (or a negative share). */
struct host_figures {
    uint64_t cpu_ns;       /* processor time used */
    uint64_t periods;      /* cpu.stat: periods in which a cap was in force and it ran */
    uint64_t throttled;    /* ... in which it was stopped */
    uint64_t throttled_ns; /* for how long */
    uint64_t memory_bytes; /* memory.current, memory.usage_in_bytes */
    uint64_t file_bytes;   /* of it: pages of files (active and inactive), which reclaim can take */
    uint64_t reclaimed;   /* pages scanned for reclaim (v2: pgscan) or failures of the limit (v1) */
    uint64_t io_requests; /* requests to block devices, and their bytes */
    uint64_t io_bytes;
    double cpu_pressure; /* PSI some avg10, 0 ... 1; version 1 alone has none, a hybrid host has */
    double memory_pressure;
    double io_pressure;
};

/* Makes the directories that are missing (and their parents). -EPERM, -EROFS, -EOPNOTSUPP. */
int host_cgroup_make(const char *path, struct host_cgroup **ret, struct err *err);
/* -ENOENT: it is in no hierarchy. */
int host_cgroup_open(const char *path, struct host_cgroup **ret, struct err *err);
/* The same below another directory than /sys/fs/cgroup. */
int host_cgroup_make_at(const char *root, const char *path, struct host_cgroup **ret,
                        struct err *err);
int host_cgroup_open_at(const char *root, const char *path, struct host_cgroup **ret,
                        struct err *err);
void host_cgroup_close(struct host_cgroup *cgroup);
static inline void host_cgroup_closep(struct host_cgroup **cgroup)
{
    if (*cgroup)
        host_cgroup_close(*cgroup);
}
/* Removes the directories; no process may be left. -EBUSY. The object stays to be closed. */
int host_cgroup_remove(struct host_cgroup *cgroup);

int host_cgroup_attach(struct host_cgroup *cgroup, pid_t pid, struct err *err);

/*
 * All processes of one cgroup into another, until none is left in the first (bounded: -EBUSY).
 * Right to do again after it was broken off. Version 1 leaves charged memory where it is.
 */
int host_cgroup_move(const struct host_cgroup *from, struct host_cgroup *to, struct err *err);
/* The cgroup at path and those below it, in every hierarchy below /sys/fs/cgroup, whoever made
 * them there; processes must be gone. -EBUSY. */
int host_cgroup_remove_tree(const char *path);
/* Whether there is one at path in any hierarchy. */
bool host_cgroup_exists(const char *path);
/* Where a process is, as the kernel says it (the cpu controller's hierarchy, or version 2's): a
 * path from the root of cgroups. -ESRCH. */
int host_cgroup_of_process(pid_t pid, char *ret, size_t size);

int host_cgroup_set_cpu(struct host_cgroup *cgroup, const struct allocation_cgroup *cpu,
                        struct err *err);
/*
 * Above high_bytes the kernel reclaims and slows the cgroup down (memory.high; version 1 has only
 * the soft limit, which counts when the host itself is short). UINT64_MAX: none.
 */
int host_cgroup_set_memory_high(struct host_cgroup *cgroup, uint64_t high_bytes, struct err *err);

/* A limit that is kept by reclaim, and then by the killer; UINT64_MAX: none. */
int host_cgroup_set_memory_limit(struct host_cgroup *cgroup, uint64_t bytes, struct err *err);
/* The processors it may use, as the kernel writes lists ("0-1,4"); "": all of its parent's. */
int host_cgroup_set_cpuset(struct host_cgroup *cgroup, const char *list, struct err *err);
/* 10 ... 1000, as the OCI runtime specification has it: io.weight is set to what a runtime sets it
 * to. -EOPNOTSUPP where the kernel has no weights for block devices. */
int host_cgroup_set_io_weight(struct host_cgroup *cgroup, uint64_t weight, struct err *err);
/* The same answer without setting anything. */
int host_cgroup_check_io_weight(const struct host_cgroup *cgroup, struct err *err);

/* Stops all its processes where they are, or lets them go on; returns when the kernel says it is so
 * (bounded: -ETIMEDOUT, and thawed). */
int host_cgroup_set_frozen(struct host_cgroup *cgroup, bool frozen, struct err *err);
/* 1: all its processes stand; 0: they do not (or not all yet); -ENOENT: no freezer says. */
int host_cgroup_is_frozen(const struct host_cgroup *cgroup);

/*
 * Makes the kernel reclaim until the cgroup holds about target_bytes, without leaving a limit
 * behind, and without killing: version 2 by memory.reclaim, version 1 by lowering the limit for a
 * moment, while nothing may be killed for it. Less than asked for is not an error: the next reading
 * says what came of it. The working set has to fit the target, or the processes wait meanwhile.
 */
int host_cgroup_reclaim(struct host_cgroup *cgroup, uint64_t target_bytes, struct err *err);
/* What one that was killed meanwhile may have left in version 1, a limit too low and the killer
 * off: the limit is limit_bytes (UINT64_MAX: none) again, and the killer on. Right at any time. */
int host_cgroup_reclaim_undo(struct host_cgroup *cgroup, uint64_t limit_bytes, struct err *err);

/*
 * How long the cgroup's living tasks have been ready to run without a processor (the run delay of
 * schedstat: the steal time of a VM's vCPUs), and their number. Tasks that ended are not in it.
 */
int host_cgroup_waiting(const struct host_cgroup *cgroup, uint64_t *ret_ns, uint32_t *ret_tasks,
                        struct err *err);

int host_cgroup_read(const struct host_cgroup *cgroup, struct host_figures *ret, struct err *err);

#endif
