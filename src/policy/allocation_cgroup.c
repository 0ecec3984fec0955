/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel takes for a weight and a cap: cpu.shares, cpu.weight, cpu.max, io.weight. */
#include "policy/allocation.h"

#include "base/util.h"

#include <math.h>

/* Below this a weight's rounding to a whole number is more than a twentieth. */
#define WEIGHT_PRECISE  10
#define WEIGHT_MAX      10000
#define PERIOD_MIN_US   1000
#define PERIOD_US       100000
#define PERIOD_MAX_US   1000000
#define QUOTA_MIN_US    1000
#define SHARED_QUOTA_US 250000

static uint64_t clamp_round(double value, double low, double high)
{
    return (uint64_t)fmin(fmax(isnan(value) ? low : round(value), low), high);
}

double allocation_cgroup_scale(const double *weights, size_t n)
{
    double low = ALLOCATION_UNLIMITED, high = 0;

    for (size_t i = 0; i < n; i++) {
        low = fmin(low, weights[i]);
        high = fmax(high, weights[i]);
    }
    if (!n || !(low > 0))
        return 1;
    if (high * 100 > WEIGHT_MAX)
        return WEIGHT_MAX / (high * 100);
    if (low * 100 < WEIGHT_PRECISE)
        return fmin(WEIGHT_PRECISE / (low * 100), WEIGHT_MAX / (high * 100));
    return 1;
}

void allocation_cgroup(double weight, double scale, double cores, uint64_t period_us,
                       struct allocation_cgroup *ret)
{
    double quota;

    period_us = period_us ? MIN(MAX(period_us, PERIOD_MIN_US), PERIOD_MAX_US) : PERIOD_US;
    *ret = (struct allocation_cgroup){.v1_shares = clamp_round(1024 * weight * scale, 2, 262144),
                                      .v2_weight = clamp_round(100 * weight * scale, 1, WEIGHT_MAX),
                                      .quota_us = -1,
                                      .period_us = period_us};
    if (!(cores < 1e6))
        return;
    quota = cores * (double)period_us;
    if (quota < QUOTA_MIN_US) {
        ret->period_us = cores > 0 ? clamp_round(ceil(QUOTA_MIN_US / cores), (double)period_us,
                                                 PERIOD_MAX_US)
                                   : PERIOD_MAX_US;
        quota = cores * (double)ret->period_us;
    }
    ret->quota_us = (int64_t)clamp_round(quota, QUOTA_MIN_US, 1e12);
}

uint64_t allocation_shared_period_us(double cores)
{
    if (!(cores > 0))
        return PERIOD_MAX_US;
    return clamp_round(SHARED_QUOTA_US / cores, PERIOD_US, PERIOD_MAX_US);
}

uint64_t allocation_io_weight(double weight, double scale)
{
    return clamp_round(100 * weight * scale, 10, 1000);
}
