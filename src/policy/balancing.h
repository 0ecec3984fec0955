/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which instances should move, and where? On a placement, in rehearsal: the plan is a list of moves
 * with the reason and the figures before and after each; nothing is changed.
 *
 *   load of a host   u_h = max over processors and memory of used_r / capacity_r
 *   SPREAD           the spread (standard deviation of u over open hosts) shall be at most
 *                    `threshold`: from the most loaded host, the instance and destination that
 *                    lessen the sum of squares of u most, for as long as that is worth its cost
 *   CONSOLIDATE      hosts are emptied, the least loaded first, if all their instances fit on
 *                    other hosts that are in use and stay below `high`
 *   DRAIN            one host is emptied
 *
 * A move costs its memory (MiB to copy); a move is worth it if the gain (fall of the sum of
 * squares) per GiB is at least `gain_min`. O(moves * (instances of a host + log hosts)).
 */
#ifndef LODGE_POLICY_BALANCING_H
#define LODGE_POLICY_BALANCING_H

#include "policy/placement.h"

enum balancing_aim { BALANCING_SPREAD, BALANCING_CONSOLIDATE, BALANCING_DRAIN };

struct balancing_config {
    enum balancing_aim aim;
    double threshold;   /* SPREAD; 0: 0.05 */
    double gain_min;    /* SPREAD: gain per GiB moved; 0: any gain */
    double high;        /* CONSOLIDATE: no destination above this load; 0: 0.90 */
    uint32_t host;      /* DRAIN */
    uint32_t moves_max; /* 0: 1000 */
};

struct balancing_move {
    uint32_t instance, from, to;
    double from_before, from_after, to_before, to_after; /* loads */
    double gain;                                         /* fall of the sum of squares */
    uint32_t memory_mib;                                 /* to copy */
};

struct balancing_plan {
    struct balancing_move *moves;
    size_t nr_moves;
    double spread_before, spread_after; /* standard deviation of u over open hosts */
    uint32_t hosts_used_before, hosts_used_after;
    uint32_t stuck;   /* DRAIN: instances that fit nowhere else */
    const char *stop; /* why it ends here: a sentence, static */
};

/* Makes the plan; p is as before afterwards. -EINVAL, -ENOMEM. */
int balancing_plan(struct placement *p, const struct balancing_config *config,
                   struct balancing_plan *ret, struct err *err);
void balancing_plan_done(struct balancing_plan *plan);

/* Carries a plan out on the model. -ESTALE: the placement has changed since. */
int balancing_apply(struct placement *p, const struct balancing_plan *plan, struct err *err);

double balancing_load(const struct placement *p, uint32_t host);

#endif
