/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weights, water-filling of one resource, and a round over all resources of all instances. What is
 * said about it in words is in allocation_text.c, what the kernel takes in allocation_cgroup.c.
 */
#include "policy/allocation.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <math.h>

/* A claim, ready to be filled: clamp(level * weight, low, high), and where it meets both. */
struct vessel {
    double weight, low, high;
    double from, to; /* low / weight, high / weight */
};

double allocation_weight(double alpha, double priority, double beta, double run_seconds)
{
    return fmax(alpha * priority + beta * run_seconds, ALLOCATION_WEIGHT_MIN);
}

double allocation_run_time(double run_seconds, double newly_run_seconds, double elapsed_seconds,
                           double window_seconds)
{
    if (!(window_seconds > 0))
        return newly_run_seconds;
    return run_seconds * exp(-fmax(elapsed_seconds, 0) / window_seconds) + newly_run_seconds;
}

static int check_claim(const struct allocation_claim *claim, size_t i, struct err *err)
{
    if (!(claim->weight > 0) || isinf(claim->weight))
        return err_set(err, -EINVAL, "instance %zu: weight %g is not above 0", i, claim->weight);
    if (!(claim->reservation >= 0) || isinf(claim->reservation))
        return err_set(err, -EINVAL, "instance %zu: reservation %g is no amount", i,
                       claim->reservation);
    if (!(claim->limit >= claim->reservation))
        return err_set(err, -EINVAL, "instance %zu: limit %g is below its reservation %g", i,
                       claim->limit, claim->reservation);
    if (!(claim->demand >= 0))
        return err_set(err, -EINVAL, "instance %zu: demand %g is no amount", i, claim->demand);
    return 0;
}

static struct vessel vessel_of(const struct allocation_claim *claim)
{
    double demand = claim->hold ? fmax(claim->demand, claim->reservation) : claim->demand;
    struct vessel v = {.weight = claim->weight,
                       .low = fmin(claim->reservation, demand),
                       .high = fmin(claim->limit, demand)};

    v.from = v.low / v.weight;
    v.to = v.high / v.weight;
    return v;
}

/* A point strictly between `from` and `to` at which some vessel bends: the median of three. */
static double pivot(const struct vessel *vessels, size_t n, double from, double to)
{
    double points[3];

    for (unsigned k = 0; k < 3; k++) {
        const struct vessel *v = &vessels[(n - 1) * k / 2];

        points[k] = v->from > from && v->from < to ? v->from : v->to;
    }
    return fmax(fmin(points[0], points[1]), fmin(fmax(points[0], points[1]), points[2]));
}

/*
 * The level at which the vessels hold `capacity`, which is between the sums of their lows and
 * highs. Vessels that bend nowhere between `from` and `to` are settled: they are in `fixed` or
 * `slope`, and out of the array.
 */
static double find_level(struct vessel *vessels, size_t n, double capacity)
{
    double from = 0, to = ALLOCATION_UNLIMITED, fixed = 0, slope = 0;

    for (;;) {
        double at, sum;
        size_t left = 0;

        for (size_t i = 0; i < n; i++) {
            struct vessel v = vessels[i];

            if (v.to <= from)
                fixed += v.high;
            else if (v.from >= to)
                fixed += v.low;
            else if (v.from <= from && v.to >= to)
                slope += v.weight;
            else
                vessels[left++] = v;
        }
        if (!(n = left))
            break;
        at = pivot(vessels, n, from, to);
        sum = fixed + slope * at;
        for (size_t i = 0; i < n; i++)
            sum += fmin(fmax(at * vessels[i].weight, vessels[i].low), vessels[i].high);
        if (sum >= capacity)
            to = at;
        else
            from = at;
    }
    return slope > 0 ? fmin(fmax((capacity - fixed) / slope, from), to) : to;
}

static struct allocation_share share_at(const struct allocation_claim *claim, double level)
{
    struct vessel v = vessel_of(claim);
    double by_weight = level * v.weight;

    if (by_weight < v.low)
        return (struct allocation_share){
            v.low, v.low < claim->reservation ? ALLOCATION_BY_DEMAND : ALLOCATION_BY_RESERVATION};
    if (by_weight > v.high)
        return (struct allocation_share){v.high, claim->limit <= v.high ? ALLOCATION_BY_LIMIT
                                                                        : ALLOCATION_BY_DEMAND};
    return (struct allocation_share){by_weight, ALLOCATION_BY_WEIGHT};
}

int allocation_divide(double capacity, const struct allocation_claim *claims, size_t n,
                      struct allocation_share *ret_shares, struct allocation_fill *ret_fill,
                      struct err *err)
{
    CLEANUP(freep) struct vessel *vessels = NULL;
    struct allocation_fill fill = {.level = ALLOCATION_UNLIMITED};
    double low = 0, high = 0, sum = 0;

    if (!(capacity >= 0) || isinf(capacity))
        return err_set(err, -EINVAL, "capacity %g is no amount", capacity);
    vessels = calloc(n ? n : 1, sizeof(*vessels));
    if (!vessels)
        return err_set(err, -ENOMEM, "allocation of %zu instances: out of memory", n);
    for (size_t i = 0; i < n; i++) {
        int r = check_claim(&claims[i], i, err);

        if (r < 0)
            return r;
        vessels[i] = vessel_of(&claims[i]);
        low += vessels[i].low;
        high += vessels[i].high;
        fill.reserved += claims[i].reservation;
    }
    fill.short_of_reserve = low > capacity * (1 + 1e-12);
    if (low < capacity && high > capacity)
        fill.level = find_level(vessels, n, capacity);
    else if (low >= capacity)
        fill.level = 0;
    for (size_t i = 0; i < n; i++) {
        ret_shares[i] = share_at(&claims[i], fill.level);
        if (fill.short_of_reserve)
            ret_shares[i] = (struct allocation_share){ret_shares[i].amount * (capacity / low),
                                                      ALLOCATION_SCALED_DOWN};
        sum += ret_shares[i].amount;
    }
    fill.idle = fmax(capacity - sum, 0);
    if (fill.idle < capacity * 1e-12)
        fill.idle = 0;
    if (ret_fill)
        *ret_fill = fill;
    return 0;
}

double allocation_demand(const struct allocation_policy *policy, double used, double pressure)
{
    double headroom = policy->headroom > 0 ? policy->headroom : 0.25;
    double low = policy->pressure_low > 0 ? policy->pressure_low : 0.02;
    double high = policy->pressure_high > 0 ? policy->pressure_high : 0.20;
    double wanted = used * (1 + headroom);

    if (pressure >= high)
        return ALLOCATION_UNLIMITED;
    if (pressure <= low)
        return wanted;
    return wanted / (1 - (pressure - low) / (high - low));
}

/* What the first pass by demand left goes to all by weight, up to their limits. */
static int share_out_spare(struct allocation_claim *claims, size_t n, double spare,
                           struct allocation_share *shares, struct allocation_share *more,
                           struct allocation_fill *fill, struct err *err)
{
    struct allocation_fill second;
    int r;

    for (size_t i = 0; i < n; i++) {
        claims[i].limit = fmax(claims[i].limit - shares[i].amount, 0);
        claims[i].demand = ALLOCATION_UNLIMITED;
        claims[i].reservation = 0;
    }
    r = allocation_divide(spare, claims, n, more, &second, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        if (more[i].bound == ALLOCATION_BY_LIMIT)
            shares[i].bound = ALLOCATION_BY_LIMIT;
        else if (more[i].amount > 0)
            shares[i].bound = ALLOCATION_BY_SPARE;
        shares[i].amount += more[i].amount;
    }
    fill->idle = second.idle;
    return 0;
}

struct round_scratch {
    struct allocation_claim *claims;
    struct allocation_share *shares, *more;
};

static void round_scratch_done(struct round_scratch *scratch)
{
    free(scratch->claims);
    free(scratch->shares);
    free(scratch->more);
}

static int round_one(double capacity, const struct allocation_policy *policy,
                     const struct allocation_instance *instances, size_t n,
                     enum allocation_resource resource, struct round_scratch *scratch,
                     struct allocation_result *ret, struct allocation_fill *fill, struct err *err)
{
    struct allocation_claim *claims = scratch->claims;
    int r;

    for (size_t i = 0; i < n; i++)
        claims[i] = (struct allocation_claim){.weight = ret[i].weight,
                                              .reservation = instances[i].reservation[resource],
                                              .limit = instances[i].limit[resource],
                                              .demand = ALLOCATION_UNLIMITED,
                                              .hold = true};
    r = allocation_divide(capacity, claims, n, scratch->shares, fill, err);
    for (size_t i = 0; r >= 0 && i < n; i++) {
        ret[i].entitled[resource] = scratch->shares[i].amount;
        ret[i].share[resource] = scratch->shares[i];
    }
    if (r < 0 || policy->mode == ALLOCATION_STATIC || fill->short_of_reserve)
        return r;
    for (size_t i = 0; i < n; i++) {
        double used = instances[i].used[resource], pressure = instances[i].pressure[resource];

        if (!(used >= 0) || !(pressure >= 0))
            return err_set(err, -EINVAL, "instance %zu: use %g, pressure %g: not measured?", i,
                           used, pressure);
        claims[i].demand = allocation_demand(policy, used, pressure);
        claims[i].hold = false;
    }
    r = allocation_divide(capacity, claims, n, scratch->shares, fill, err);
    if (r >= 0 && fill->idle > 0)
        r = share_out_spare(claims, n, fill->idle, scratch->shares, scratch->more, fill, err);
    for (size_t i = 0; r >= 0 && i < n; i++)
        ret[i].share[resource] = scratch->shares[i];
    return r;
}

int allocation_round(const double capacity[ALLOCATION_RESOURCES],
                     const struct allocation_policy *policy,
                     const struct allocation_instance *instances, size_t n,
                     struct allocation_result *ret, struct allocation_fill *ret_fill,
                     struct err *err)
{
    CLEANUP(round_scratch_done)
    struct round_scratch scratch = {.claims = calloc(n + 1, sizeof(*scratch.claims)),
                                    .shares = calloc(n + 1, sizeof(*scratch.shares)),
                                    .more = calloc(n + 1, sizeof(*scratch.more))};
    double sum = 0;

    if (!scratch.claims || !scratch.shares || !scratch.more)
        return err_set(err, -ENOMEM, "allocation of %zu instances: out of memory", n);
    for (size_t i = 0; i < n; i++) {
        ret[i] = (struct allocation_result){
            .weight = allocation_weight(instances[i].alpha, instances[i].priority,
                                        instances[i].beta, instances[i].run_seconds)};
        if (isnan(instances[i].alpha) || isnan(instances[i].beta) || isnan(instances[i].priority) ||
            isnan(instances[i].run_seconds) || isinf(ret[i].weight))
            return err_set(err, -EINVAL, "instance %zu: priority and run time give no weight", i);
        sum += ret[i].weight;
    }
    for (size_t i = 0; i < n; i++)
        ret[i].fraction = ret[i].weight / sum;
    for (unsigned resource = 0; resource < ALLOCATION_RESOURCES; resource++) {
        struct allocation_fill fill = {0};
        int r = 0;

        if (capacity[resource] > 0)
            r = round_one(capacity[resource], policy, instances, n,
                          (enum allocation_resource)resource, &scratch, ret, &fill, err);
        if (r < 0)
            return err_wrap(err, "%s",
                            allocation_resource_name((enum allocation_resource)resource));
        if (ret_fill)
            ret_fill[resource] = fill;
    }
    return 0;
}
