/* SPDX-License-Identifier: Apache-2.0 */
#include "host/memory_round.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>

int host_memory_read(struct memory_host *ret, struct err *err)
{
    CLEANUP(file_closep) FILE *info = fopen("/proc/meminfo", "re");
    CLEANUP(file_closep) FILE *pressure = fopen("/proc/pressure/memory", "re");
    struct memory_host host = {0};
    char line[128];
    double percent;

    if (!info)
        return err_errno(err, -errno, "open /proc/meminfo");
    while (fgets(line, sizeof(line), info)) {
        uint64_t kib;

        if (sscanf(line, "MemTotal: %" SCNu64, &kib) == 1)
            host.total_bytes = kib * KIB;
        else if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            host.available_bytes = kib * KIB;
    }
    if (pressure && fscanf(pressure, "some avg10=%lf", &percent) == 1)
        host.pressure = percent / 100;
    if (!host.total_bytes)
        return err_set(err, -ENODATA, "/proc/meminfo has no MemTotal");
    *ret = host;
    return 0;
}

int host_memory_round(const struct memory_policy *policy, const struct memory_host *host,
                      struct memory_instance *instances, struct host_cgroup *const *cgroups,
                      size_t n, struct memory_target *ret, struct err *err)
{
    int failures = 0, r;

    for (size_t i = 0; i < n; i++) {
        struct host_figures figures;

        if (host_cgroup_read(cgroups[i], &figures, NULL) < 0 ||
            figures.memory_bytes == UINT64_MAX) {
            failures++;
            continue; /* as it was read last */
        }
        instances[i].used_bytes = figures.memory_bytes;
        instances[i].reclaimable_bytes = figures.file_bytes == UINT64_MAX
                                             ? 0
                                             : MIN(figures.file_bytes, figures.memory_bytes);
        instances[i].pressure = figures.memory_pressure > 0 ? MIN(figures.memory_pressure, 1) : 0;
    }
    r = memory_targets(policy, host, instances, n, ret, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        if (ret[i].action == MEMORY_SHRINK &&
            host_cgroup_reclaim(cgroups[i], ret[i].target_bytes, NULL) < 0)
            failures++;
    return failures;
}
