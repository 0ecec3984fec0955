/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live migration by pre-copy, as a fluid: round 0 sends all memory while the guest dirties pages,
 * each later round sends what was dirtied during the one before, and when the rest could be sent
 * within the allowed downtime the guest is stopped for it.
 *
 *   left[0] = memory;  t[i] = left[i] / bandwidth;  left[i+1] = min(dirty_rate t[i], working_set)
 *   stop when left[i] / bandwidth <= downtime_limit
 *
 * Source: Clark et al., Live Migration of Virtual Machines (NSDI 2005); Akoush et al., Predicting
 * the Performance of Virtual Machine Migration (MASCOTS 2010). Units: MiB, MiB/s, seconds. The
 * writable working set caps what one round can dirty; 0: all of memory.
 */
#ifndef LODGE_MODEL_MIGRATION_H
#define LODGE_MODEL_MIGRATION_H

#include "base/err.h"

#include <stdbool.h>

#define MIGRATION_ROUNDS_MAX 30 /* default of rounds_max */

struct migration {
    double memory, bandwidth, dirty_rate, downtime_limit;
    double working_set;  /* 0: all of memory */
    unsigned rounds_max; /* after which the guest is stopped anyway; 0: MIGRATION_ROUNDS_MAX */
};

struct migration_result {
    bool converged;     /* the downtime limit is kept */
    const char *reason; /* static text: why it stopped */
    unsigned rounds;    /* with the guest running */
    double downtime, total, sent;
};

/* What is dirtied in that time. */
double migration_dirtied(const struct migration *migration, double seconds);
/* Is what is left, after so many rounds, sent with the guest stopped? *ret_reason: static text. */
bool migration_ends(const struct migration *migration, unsigned rounds, double left,
                    const char **ret_reason);

/* 0 also when it does not converge: that is an answer. */
int migration_precopy(const struct migration *migration, struct migration_result *ret,
                      struct err *err);

#endif
