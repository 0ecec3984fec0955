/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An allocation of processors made true: what the policy gives each instance becomes the kernel's
 * weights and caps, and the kernel's counters say afterwards whether it is so.
 *
 * The kernel has weights and caps but no reservations. The division therefore writes as weight what
 * the instance is entitled to (reservation, limit and weight already in it): when all want
 * everything the kernel divides in these ratios, which is the allocation; when some do not, the
 * rest have at least theirs. The limit is also written as a cap.
 */
#ifndef LODGE_HOST_DIVISION_H
#define LODGE_HOST_DIVISION_H

#include "host/cgroup.h"

struct host_division {
    double
        expected; /* part of all that the instances use together, 0 ... 1, all wanting everything */
    struct allocation_cgroup written;
};

/*
 * What a decision comes to for the kernel: weights in proportion to the amounts of processor time,
 * limits as caps. ret has room for n. -ENOMEM.
 */
int host_division_weights(const struct allocation_instance *instances,
                          const struct allocation_result *results, size_t n,
                          struct host_division *ret, struct err *err);

/*
 * Divides `cores` among n instances and writes it to their cgroups. results gets the allocation
 * (for allocation_explain); ret has room for n. The first failure ends it: -errno, err names it.
 */
int host_division_apply(double cores, const struct allocation_policy *policy,
                        const struct allocation_instance *instances,
                        struct host_cgroup *const *cgroups, size_t n,
                        struct allocation_result *results, struct host_division *ret,
                        struct err *err);

/*
 * Between two readings of the counters: each one's part of what all used (0 ... 1), and the largest
 * deviation from what was expected, relative to that. Nothing used: -ENODATA.
 */
int host_division_verify(const struct host_division *expected, const struct host_figures *before,
                         const struct host_figures *after, size_t n, double *ret_shares,
                         double *ret_deviation);

#endif
