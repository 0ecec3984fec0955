/* SPDX-License-Identifier: Apache-2.0 */
/* An allocation in words: names, units, and why an instance has what it has. */
#include "policy/allocation.h"

#include "base/util.h"

#include <math.h>
#include <stdio.h>

static const struct {
    const char *name, *unit;
    double divisor; /* of the quantity, for the unit */
} resources[] = {
    {"cpu", "cores", 1},
    {"memory", "MiB", 1 << 20},
    {"io", "MiB/s", 1 << 20},
    {"network", "MiB/s", 1 << 20},
};

static const char *const bounds[] = {
    [ALLOCATION_BY_WEIGHT] = "by its weight",
    [ALLOCATION_BY_RESERVATION] = "raised to its reservation",
    [ALLOCATION_BY_LIMIT] = "held at its limit",
    [ALLOCATION_BY_DEMAND] = "all it wants",
    [ALLOCATION_BY_SPARE] = "what it wants and its part of what nobody wants",
    [ALLOCATION_BY_DOMINANCE] = "by equal dominant shares",
    [ALLOCATION_SCALED_DOWN] = "its reservation, scaled down: the reservations exceed the capacity",
};

const char *allocation_resource_name(enum allocation_resource resource)
{
    return (unsigned)resource < ARRAY_LEN(resources) ? resources[resource].name : "?";
}

const char *allocation_bound_text(enum allocation_bound bound)
{
    return (unsigned)bound < ARRAY_LEN(bounds) ? bounds[bound] : "?";
}

int allocation_explain(const struct allocation_instance *instance,
                       const struct allocation_result *result, const struct allocation_fill *fill,
                       enum allocation_resource resource, double capacity, char *text, size_t size)
{
    const struct allocation_share *share;
    char limit[64] = "no limit", weight_gives[96] = "";
    double unit;

    if ((unsigned)resource >= ALLOCATION_RESOURCES)
        return snprintf(text, size, "no such resource");
    share = &result->share[resource];
    unit = resources[resource].divisor;
    if (!isinf(instance->limit[resource]))
        snprintf(limit, sizeof(limit), "limit %.6g", instance->limit[resource] / unit);
    if (!isinf(fill->level) &&
        (share->bound == ALLOCATION_BY_RESERVATION || share->bound == ALLOCATION_BY_LIMIT))
        snprintf(weight_gives, sizeof(weight_gives), " (the weight alone would give %.6g)",
                 fill->level * result->weight / unit);
    return snprintf(
        text, size,
        "%s: %.6g of %.6g %s, %s%s; weight %.6g = %.6g * %.6g + %.6g * %.6g s, %.3g %% "
        "of all; reservation %.6g, %s; %.6g if all wanted everything",
        resources[resource].name, share->amount / unit, capacity / unit, resources[resource].unit,
        allocation_bound_text(share->bound), weight_gives, result->weight, instance->alpha,
        instance->priority, instance->beta, instance->run_seconds, 100 * result->fraction,
        instance->reservation[resource] / unit, limit, result->entitled[resource] / unit);
}
