/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much each instance gets of a host (or of an environment's part of it), and why.
 *
 *   weight        R_i = alpha_i * P_i + beta_i * T_i     (P priority, T run time in the window, s)
 *   share         x_i = clamp(level * R_i, low_i, high_i), sum x_i = capacity   (water-filling)
 *   low, high     reservation; the smaller of limit and demand
 *   R_free        R_total * overcommit - sum of reservations
 *
 * Water-filling is the weighted max-min fair division: nobody can get more without taking from one
 * that has less for its weight. If all highs together are below the capacity, all get their high
 * and the rest is idle. If the reservations together are above the capacity (a host shrank below
 * what was admitted), each gets its reservation scaled down in proportion, and the result says so.
 *
 * Quantities are doubles in whatever unit the owner uses per resource (cores, bytes); functions are
 * pure. Bad numbers (NaN, negative, infinite where it makes no sense) are refused with -EINVAL and
 * the index and field. Same input, same output to the last bit. Threads: any, on separate data.
 *
 * Sources: Bertsekas and Gallager, Data Networks 6.5 (max-min fairness); Ghodsi et al., Dominant
 * Resource Fairness, NSDI 2011; VMware resource management (reservation, limit, shares); kernel
 * Documentation/admin-guide/cgroup-v2.rst (weights, cpu.max).
 */
#ifndef LODGE_POLICY_ALLOCATION_H
#define LODGE_POLICY_ALLOCATION_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum allocation_resource {
    ALLOCATION_CPU,     /* cores */
    ALLOCATION_MEMORY,  /* bytes */
    ALLOCATION_IO,      /* bytes/s of disk */
    ALLOCATION_NETWORK, /* bytes/s */
    ALLOCATION_RESOURCES
};

#define ALLOCATION_UNLIMITED __builtin_inf()

/* ---- one resource ---- */

enum allocation_bound {
    ALLOCATION_BY_WEIGHT,      /* level * weight, between low and high */
    ALLOCATION_BY_RESERVATION, /* the weight alone would give less */
    ALLOCATION_BY_LIMIT,       /* the weight alone would give more */
    ALLOCATION_BY_DEMAND,      /* it does not want more */
    ALLOCATION_BY_SPARE,       /* more than it wants: what nobody wanted was shared out by weight */
    ALLOCATION_BY_DOMINANCE,   /* equal dominant shares (drf.h) */
    ALLOCATION_SCALED_DOWN,    /* the reservations do not fit the capacity */
};

struct allocation_claim {
    double weight;      /* above 0 */
    double reservation; /* 0: none */
    double limit;       /* ALLOCATION_UNLIMITED: none; not below the reservation */
    double demand;      /* ALLOCATION_UNLIMITED: takes all it gets; below the reservation: the
                           reservation is held for it all the same only where hold is set */
    bool hold;          /* keep the whole reservation for it even if it wants less */
};

struct allocation_share {
    double amount;
    enum allocation_bound bound;
};

struct allocation_fill {
    double level; /* amount per weight of those bound by weight; infinite when capacity is left */
    double idle;  /* capacity that nobody may or wants to have */
    double reserved;       /* sum of reservations */
    bool short_of_reserve; /* reservations did not fit and were scaled down */
};

/*
 * Divides `capacity` among n claims. Exact (no iteration to a tolerance), O(n) expected: the level
 * is searched among the points where a claim meets its low or high, discarding at each step the
 * claims that are settled. ret_shares has room for n; ret_fill may be NULL. -EINVAL, -ENOMEM.
 */
int allocation_divide(double capacity, const struct allocation_claim *claims, size_t n,
                      struct allocation_share *ret_shares, struct allocation_fill *ret_fill,
                      struct err *err);

/* R_i = alpha * priority + beta * run_seconds, not below ALLOCATION_WEIGHT_MIN. */
#define ALLOCATION_WEIGHT_MIN 1e-6
double allocation_weight(double alpha, double priority, double beta, double run_seconds);

/*
 * T_i in a sliding window: what of `run_seconds` still counts after `elapsed_seconds`, with the
 * window as time constant: T' = T * exp(-elapsed / window) + newly run.
 */
double allocation_run_time(double run_seconds, double newly_run_seconds, double elapsed_seconds,
                           double window_seconds);

/* ---- instances: several resources, static or dynamic ---- */

enum allocation_mode {
    ALLOCATION_STATIC,  /* as if all wanted everything: what is guaranteed under full load */
    ALLOCATION_DYNAMIC, /* by use and pressure: what idle ones leave goes to those that stall */
};

struct allocation_instance {
    double priority; /* P_i: larger gets more */
    double alpha, beta;
    double run_seconds; /* T_i */
    double reservation[ALLOCATION_RESOURCES];
    double limit[ALLOCATION_RESOURCES];
    double used[ALLOCATION_RESOURCES];     /* DYNAMIC: measured, same unit as the capacity */
    double pressure[ALLOCATION_RESOURCES]; /* DYNAMIC: PSI "some", share of time stalled, 0..1 */
};

struct allocation_policy {
    enum allocation_mode mode;
    double headroom;      /* DYNAMIC: an instance at ease wants used * (1 + headroom); 0: 0.25 */
    double pressure_low;  /* below: at ease; 0: 0.02 */
    double pressure_high; /* from here on it wants all it may have; 0: 0.20 */
};

/*
 * DYNAMIC demand of one instance for one resource:
 *   s <= low: used (1 + h);  s >= high: unlimited;  between: used (1 + h) / (1 -
 * (s-low)/(high-low))
 */
double allocation_demand(const struct allocation_policy *policy, double used, double pressure);

struct allocation_result {
    double weight;                                       /* R_i */
    double fraction;                                     /* R_i / sum R */
    struct allocation_share share[ALLOCATION_RESOURCES]; /* amount 0 where the capacity is 0 */
    double entitled[ALLOCATION_RESOURCES]; /* what it would get if all wanted everything */
};

/*
 * Divides all resources whose capacity is above 0 among n instances. In DYNAMIC mode first by
 * demand; what is left then goes to all by weight up to their limits, so that nothing idles that
 * somebody may use. ret has room for n, ret_fill (may be NULL) for ALLOCATION_RESOURCES.
 */
int allocation_round(const double capacity[ALLOCATION_RESOURCES],
                     const struct allocation_policy *policy,
                     const struct allocation_instance *instances, size_t n,
                     struct allocation_result *ret, struct allocation_fill *ret_fill,
                     struct err *err);

/* Why instance i has what it has of a resource: one sentence. Returns as snprintf. */
int allocation_explain(const struct allocation_instance *instance,
                       const struct allocation_result *result, const struct allocation_fill *fill,
                       enum allocation_resource resource, double capacity, char *text, size_t size);

const char *allocation_resource_name(enum allocation_resource resource);
const char *allocation_bound_text(enum allocation_bound bound);

/* ---- cgroup figures ---- */

struct allocation_cgroup {
    uint64_t v1_shares; /* cpu.shares: 2 ... 262144, 1024 for weight 1 */
    uint64_t v2_weight; /* cpu.weight: 1 ... 10000, 100 for weight 1 */
    int64_t quota_us;   /* cpu.max, cpu.cfs_quota_us: -1 none */
    uint64_t period_us;
};

/*
 * Relative weights as the kernel takes them. allocation_cgroup_scale gives the factor that keeps
 * their ratios: 1 where all weights give cpu.weight between 10 and 10000, else what lifts the
 * smallest to 10 or brings the largest to 10000 (which comes first if they are too far apart).
 * cores: the cap; ALLOCATION_UNLIMITED: none. period_us 0: 100000. A cap below the kernel's least
 * quota (1000 us) lengthens the period, up to 1 s; below that the quota is 1000 us.
 */
double allocation_cgroup_scale(const double *weights, size_t n);
void allocation_cgroup(double weight, double scale, double cores, uint64_t period_us,
                       struct allocation_cgroup *ret);

/*
 * The period of a cap that several share: at a period's end the kernel takes all of them off the
 * processor and puts them back, and forgets then who had less than its weight (Linux 6.17 and
 * later: each task is throttled by itself). With few slices of 3 ms in a period the weights below
 * the cap mean little: 10 ms of 100 gave 1 : 2 : 4 as 1.6 : 2.4 : 2.9. So a quota is to be 250 ms
 * long, as far as the longest period, 1 s, allows.
 */
uint64_t allocation_shared_period_us(double cores);

/* io.weight and blkio.weight (10 ... 1000, 100 by default) of a relative weight. */
uint64_t allocation_io_weight(double weight, double scale);

#endif
