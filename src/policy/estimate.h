/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long will it run? Learnt from history, per class of command (the owner makes the class name:
 * image and command, say): exponential averaging of the mean and of the mean deviation,
 *
 *   tau' = a t + (1 - a) tau,   dev' = b |t - tau| + (1 - b) dev      (first: tau = t, dev = t / 2)
 *
 * and, for a class never seen, the same average over all classes. At most `classes_max` classes are
 * kept; the one that learnt least recently makes room. Its state can be listed and put back, so
 * that the owner may store it. O(1). Threads: one at a time.
 *
 * Sources: Silberschatz, Operating System Concepts (prediction of the next burst); Jacobson,
 * Congestion Avoidance and Control (mean deviation).
 */
#ifndef LODGE_POLICY_ESTIMATE_H
#define LODGE_POLICY_ESTIMATE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct estimate_config {
    double a;             /* 0: 0.5; above 0, at most 1 */
    double b;             /* 0: 0.25 */
    uint32_t classes_max; /* 0: 4096 */
};

struct estimate {
    uint64_t mean_ns;
    uint64_t deviation_ns;
    uint64_t safe_ns; /* mean + 2 deviations: what a reservation should count on */
    uint64_t runs;    /* learnt from how many; 0: nothing is known, all else is 0 */
    bool of_class;    /* false: the average over all classes */
};

struct estimate_class {
    uint64_t name_hash; /* FNV-1a of the class name */
    double mean_ns, deviation_ns;
    uint64_t runs;
};

struct estimator;

int estimator_new(const struct estimate_config *config, struct estimator **ret, struct err *err);
void estimator_free(struct estimator *e);
static inline void estimator_freep(struct estimator **e)
{
    if (*e)
        estimator_free(*e);
}

/* A run of that class took so long. */
void estimator_learn(struct estimator *e, const char *class_name, uint64_t run_ns);
void estimator_ask(const struct estimator *e, const char *class_name, struct estimate *ret);

/* The classes, the one that learnt least recently first; at most max; returns how many there are.
 */
size_t estimator_list(const struct estimator *e, struct estimate_class *ret, size_t max);
/* Puts a class back as it was listed (in the order listed). -EINVAL: not a state of ours. */
int estimator_restore(struct estimator *e, const struct estimate_class *state);

#endif
