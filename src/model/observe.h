/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a host counts, for fitting models to it: processor time, stalls, block and network traffic
 * of one container or process, or of the whole host. Two samples and the time between give rates.
 *
 * Sources: cgroup v2 cpu.stat, io.stat, cpu.pressure and io.pressure; v1 cpuacct.usage, cpu.stat,
 * blkio.throttle; /proc/PID/{stat,cgroup,net/dev}; for the host /proc/{stat,diskstats,pressure}.
 * What is missing on this host reads as 0 and `has` says so. Blocking file reads, any thread.
 */
#ifndef LODGE_MODEL_OBSERVE_H
#define LODGE_MODEL_OBSERVE_H

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define OBSERVE_CPU   1u
#define OBSERVE_IO    2u
#define OBSERVE_NET   4u
#define OBSERVE_PSI   8u
#define OBSERVE_LIMIT 16u /* throttled time is known */

struct observe_target {
    char cpu_dir[PATH_MAX], io_dir[PATH_MAX]; /* cgroups; empty: the whole host */
    bool v2;
    pid_t pid; /* whose network namespace; 0: ours */
};

struct observe_sample {
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    unsigned has;
    double cpu_s, throttled_s;
    double cpu_stalled_s, io_stalled_s; /* PSI "some" */
    double io_operations, io_bytes;
    double net_bytes;
};

/* The cgroup that a process is in. -ENOENT. */
int observe_process(pid_t pid, struct observe_target *ret, struct err *err);
/* path: a directory with cgroup files, or the cgroup's path within the hierarchy. */
int observe_cgroup(const char *path, struct observe_target *ret, struct err *err);
void observe_host(struct observe_target *ret);

int observe_take(const struct observe_target *target, struct observe_sample *ret, struct err *err);
/* later - earlier; `has` is what both have; time_ns the time between. */
void observe_difference(const struct observe_sample *earlier, const struct observe_sample *later,
                        struct observe_sample *ret);

#endif
