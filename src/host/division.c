/* SPDX-License-Identifier: Apache-2.0 */
#include "host/division.h"

#include "base/cleanup.h"

#include <math.h>

int host_division_weights(const struct allocation_instance *instances,
                          const struct allocation_result *results, size_t n,
                          struct host_division *ret, struct err *err)
{
    CLEANUP(freep) double *weights = calloc(n + 1, sizeof(*weights));
    double sum = 0, scale;

    if (!weights)
        return err_set(err, -ENOMEM, "division among %zu instances: out of memory", n);
    for (size_t i = 0; i < n; i++)
        sum += results[i].share[ALLOCATION_CPU].amount;
    for (size_t i = 0; i < n; i++) {
        ret[i].expected = sum > 0 ? results[i].share[ALLOCATION_CPU].amount / sum : 0;
        weights[i] = fmax(ret[i].expected * (double)n, ALLOCATION_WEIGHT_MIN);
    }
    scale = allocation_cgroup_scale(weights, n);
    for (size_t i = 0; i < n; i++)
        allocation_cgroup(weights[i], scale, instances[i].limit[ALLOCATION_CPU], 0,
                          &ret[i].written);
    return 0;
}

int host_division_apply(double cores, const struct allocation_policy *policy,
                        const struct allocation_instance *instances,
                        struct host_cgroup *const *cgroups, size_t n,
                        struct allocation_result *results, struct host_division *ret,
                        struct err *err)
{
    const double capacity[ALLOCATION_RESOURCES] = {[ALLOCATION_CPU] = cores};
    int r = allocation_round(capacity, policy, instances, n, results, NULL, err);

    if (r >= 0)
        r = host_division_weights(instances, results, n, ret, err);
    for (size_t i = 0; r >= 0 && i < n; i++)
        r = host_cgroup_set_cpu(cgroups[i], &ret[i].written, err);
    return r;
}

int host_division_verify(const struct host_division *expected, const struct host_figures *before,
                         const struct host_figures *after, size_t n, double *ret_shares,
                         double *ret_deviation)
{
    double total = 0, deviation = 0;

    for (size_t i = 0; i < n; i++) {
        if (after[i].cpu_ns < before[i].cpu_ns)
            return -ENODATA;
        total += (double)(after[i].cpu_ns - before[i].cpu_ns);
    }
    if (!(total > 0))
        return -ENODATA;
    for (size_t i = 0; i < n; i++) {
        ret_shares[i] = (double)(after[i].cpu_ns - before[i].cpu_ns) / total;
        if (expected[i].expected > 0)
            deviation = fmax(deviation, fabs(ret_shares[i] / expected[i].expected - 1));
    }
    *ret_deviation = deviation;
    return 0;
}
