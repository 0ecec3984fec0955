/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live migrations in virtual time: a plan of moves (policy/balancing.h) carried out on a fleet,
 * over links that several copies share. What the formula (migration.h) says of one copy alone, this
 * says of all of them together: when each begins, how long it takes, how long its guest stands
 * still.
 *
 * Each host has one link, the same rate in both directions. A copy gets the smaller of two shares:
 * of what its source's link sends, and of what its destination's receives, each divided evenly
 * among the copies there. Rounds, and when to stop the guest, are the formula's (migration_ends).
 * An instance takes room at its destination from the copy's begin, and at its source to its end; a
 * move that has no room yet waits for those that make it. Moves begin in the plan's order, as many
 * at a time at one host as `parallel` allows.
 *
 * Invariants: 1. what is sent is the sum of rate over time, nothing is lost when rates change;
 * 2. at the end every instance is on exactly one host. Deterministic. Units: MiB, MiB/s, seconds.
 */
#ifndef LODGE_MODEL_MOVES_H
#define LODGE_MODEL_MOVES_H

#include "model/migration.h"
#include "policy/balancing.h"

struct moves {
    const struct balancing_move *moves;
    size_t nr_moves;
    /* bandwidth of each link, downtime limit, rounds; memory is each move's. */
    struct migration copy;
    const double *dirty_rates; /* one a move, MiB/s; NULL: copy's for all */
    uint32_t parallel;         /* copies at one host at a time; 0: 1 */
};

struct move_result {
    bool done, converged; /* not done: it never found room */
    double begin, end, downtime, sent;
    unsigned rounds;
};

struct moves_result {
    struct move_result *each; /* the caller's, one a move */
    size_t done, unconverged, waiting;
    double took, sent, downtime; /* sums of the two; most_downtime: of one */
    double most_downtime;
    uint32_t most_at_once;
    uint64_t events;
};

/* Changes the placement: those that are done have moved. -EINVAL with the parameter's name,
 * -ENOMEM.
 */
int moves_simulate(struct placement *p, const struct moves *moves, struct moves_result *ret,
                   struct err *err);

#endif
