/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory targets. Two passes: what each could give (its target down to its working set, within the
 * step), then, when the host is pressed, how much of that is taken: the missing amount divided by
 * water-filling with what each could give as limit and unused / weight as weight.
 */
#include "policy/memory.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "policy/allocation.h"

#include <math.h>

static double either(double given, double otherwise)
{
    return given > 0 ? given : otherwise;
}

static struct memory_policy complete(const struct memory_policy *policy)
{
    struct memory_policy p = *policy;

    p.free_low = either(p.free_low, 0.10);
    p.free_high = fmax(either(p.free_high, 0.20), p.free_low);
    p.pressure_high = either(p.pressure_high, 0.10);
    p.step_down = fmin(either(p.step_down, 0.30), 1);
    p.step_up = either(p.step_up, 0.25);
    p.margin = either(p.margin, 0.10);
    if (!p.floor_bytes)
        p.floor_bytes = 32 * MIB;
    return p;
}

static int check(const struct memory_host *host, const struct memory_instance *instances, size_t n,
                 struct err *err)
{
    if (!host->total_bytes || host->available_bytes > host->total_bytes ||
        !(host->pressure >= 0 && host->pressure <= 1))
        return err_set(err, -EINVAL, "host: %llu of %llu bytes available, pressure %g: impossible",
                       (unsigned long long)host->available_bytes,
                       (unsigned long long)host->total_bytes, host->pressure);
    for (size_t i = 0; i < n; i++) {
        const struct memory_instance *m = &instances[i];

        if (!m->limit_bytes || m->reservation_bytes > m->limit_bytes)
            return err_set(err, -EINVAL, "instance %zu: limit %llu, reservation %llu", i,
                           (unsigned long long)m->limit_bytes,
                           (unsigned long long)m->reservation_bytes);
        if (!(m->pressure >= 0 && m->pressure <= 1) || !(m->weight >= 0) || isinf(m->weight))
            return err_set(err, -EINVAL, "instance %zu: pressure %g, weight %g", i, m->pressure,
                           m->weight);
    }
    return 0;
}

static uint64_t current_target(const struct memory_instance *m)
{
    return m->target_bytes ? MIN(m->target_bytes, m->limit_bytes) : m->limit_bytes;
}

static uint64_t working_set(const struct memory_policy *p, const struct memory_instance *m)
{
    uint64_t hot = m->used_bytes - MIN(m->reclaimable_bytes, m->used_bytes);
    double with_margin = (double)hot * (1 + p->margin);
    uint64_t ws = with_margin < (double)m->limit_bytes ? (uint64_t)with_margin : m->limit_bytes;

    return MIN(MAX(MAX(ws, m->reservation_bytes), p->floor_bytes), m->limit_bytes);
}

static void grow(const struct memory_policy *p, const struct memory_instance *m,
                 struct memory_target *t)
{
    double step = (double)current_target(m) * (1 + p->step_up);

    step = fmax(step, (double)t->working_set_bytes);
    t->target_bytes = step < (double)m->limit_bytes ? (uint64_t)step : m->limit_bytes;
    if (t->target_bytes > current_target(m))
        t->action = MEMORY_GROW;
}

/* The lowest target for this period: a step from what it holds (or may hold, if that is less). */
static uint64_t lowest(const struct memory_policy *p, const struct memory_instance *m,
                       const struct memory_target *t)
{
    uint64_t held = MIN(current_target(m), MAX(m->used_bytes, t->working_set_bytes));
    uint64_t step = (uint64_t)((double)held * (1 - p->step_down));

    return MAX(step, MIN(t->working_set_bytes, current_target(m)));
}

static int take(const struct memory_policy *p, double missing,
                const struct memory_instance *instances, size_t n, struct memory_target *ret,
                struct err *err)
{
    CLEANUP(freep) struct allocation_claim *claims = calloc(n + 1, sizeof(*claims));
    CLEANUP(freep) struct allocation_share *shares = calloc(n + 1, sizeof(*shares));
    size_t count = 0;
    int r;

    if (!claims || !shares)
        return err_set(err, -ENOMEM, "memory targets: out of memory");
    for (size_t i = 0; i < n; i++) {
        const struct memory_instance *m = &instances[i];
        uint64_t low = lowest(p, m, &ret[i]);
        double unused = (double)(m->used_bytes - MIN(low, m->used_bytes));

        if (m->pressure >= p->pressure_high || !(unused > 0))
            continue;
        claims[count++] = (struct allocation_claim){.weight = unused / either(m->weight, 1),
                                                    .limit = unused,
                                                    .demand = ALLOCATION_UNLIMITED};
    }
    r = allocation_divide(missing, claims, count, shares, NULL, err);
    count = 0;
    for (size_t i = 0; r >= 0 && i < n; i++) {
        const struct memory_instance *m = &instances[i];
        uint64_t low = lowest(p, m, &ret[i]), amount, target;

        if (m->pressure >= p->pressure_high || low >= m->used_bytes)
            continue;
        amount = (uint64_t)ceil(shares[count++].amount);
        target = m->used_bytes - MIN(amount, m->used_bytes - low);
        if (target >= current_target(m))
            continue;
        ret[i].target_bytes = target;
        ret[i].freed_bytes = m->used_bytes - target;
        ret[i].action = MEMORY_SHRINK;
    }
    return r;
}

int memory_targets(const struct memory_policy *policy, const struct memory_host *host,
                   const struct memory_instance *instances, size_t n, struct memory_target *ret,
                   struct err *err)
{
    struct memory_policy p = complete(policy);
    double free = (double)host->available_bytes / (double)fmax((double)host->total_bytes, 1);
    bool pressed = free < p.free_low || host->pressure >= p.pressure_high;
    bool at_ease = !pressed && free >= p.free_high;
    int r = check(host, instances, n, err);

    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        const struct memory_instance *m = &instances[i];
        bool stalls = m->pressure >= p.pressure_high;

        ret[i] = (struct memory_target){.target_bytes = current_target(m),
                                        .working_set_bytes = working_set(&p, m)};
        if (at_ease || stalls || current_target(m) < ret[i].working_set_bytes)
            grow(&p, m, &ret[i]);
    }
    if (pressed)
        r = take(&p, fmax(p.free_high - free, p.free_low) * (double)host->total_bytes, instances, n,
                 ret, err);
    return r;
}

const char *memory_action_name(enum memory_action action)
{
    static const char *const names[] = {"keep", "shrink", "grow"};

    return (unsigned)action < ARRAY_LEN(names) ? names[action] : "?";
}
