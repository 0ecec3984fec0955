/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One period of the memory policy on real cgroups: figures in, targets by policy/memory.h, what is
 * to shrink is reclaimed. For containers; a VM's memory comes back through its balloon, whose owner
 * takes the target from the same policy.
 */
#ifndef LODGE_HOST_MEMORY_ROUND_H
#define LODGE_HOST_MEMORY_ROUND_H

#include "host/cgroup.h"
#include "policy/memory.h"

/* MemTotal, MemAvailable, and the host's memory pressure (0 where the kernel does not tell it). */
int host_memory_read(struct memory_host *ret, struct err *err);

/*
 * instances: limit, reservation, weight and target in force are the owner's; used, reclaimable and
 * pressure are read here (ret has room for n targets). One cgroup that is gone or refuses does not
 * stop the others: its target stays, and the count of those is returned. -errno: no targets.
 */
int host_memory_round(const struct memory_policy *policy, const struct memory_host *host,
                      struct memory_instance *instances, struct host_cgroup *const *cgroups,
                      size_t n, struct memory_target *ret, struct err *err);

#endif
