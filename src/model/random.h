/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random numbers and distributions. Every purpose (arrivals of one class, service at one station)
 * draws from a stream of its own, named by (seed, stream): two runs with one seed see the same
 * customers whatever the policy between them does, so that their difference is the policy's
 * (common random numbers).
 *
 * Generator: xoshiro256++ (Blackman and Vigna 2019), seeded by splitmix64; not for secrets.
 * Distributions are given by mean and squared coefficient of variation (scv), which is what
 * queueing formulas ask for.
 */
#ifndef LODGE_MODEL_RANDOM_H
#define LODGE_MODEL_RANDOM_H

#include "base/err.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t s[4];
};

void random_init(struct random *r, uint64_t seed, uint64_t stream);

static inline uint64_t random_bits(struct random *r)
{
    uint64_t sum = r->s[0] + r->s[3], result = ((sum << 23) | (sum >> 41)) + r->s[0];
    uint64_t shifted = r->s[1] << 17;

    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= shifted;
    r->s[3] = (r->s[3] << 45) | (r->s[3] >> 19);
    return result;
}

/* In (0, 1): never 0, so that it has a logarithm. */
static inline double random_unit(struct random *r)
{
    return ((double)(random_bits(r) >> 11) + 0.5) * 0x1p-53;
}

enum distribution_kind {
    DISTRIBUTION_CONSTANT,    /* scv 0 */
    DISTRIBUTION_EXPONENTIAL, /* scv 1 */
    DISTRIBUTION_UNIFORM,     /* scv at most 1/3 */
    DISTRIBUTION_GAMMA,       /* any scv above 0; Erlang-k at 1/k */
    DISTRIBUTION_HYPER,       /* two exponentials, balanced means; scv at least 1 */
    DISTRIBUTION_LOGNORMAL,   /* any scv above 0 */
    DISTRIBUTION_PARETO,      /* tail index 1 + sqrt(1 + 1/scv); any scv above 0 */
    DISTRIBUTION_EMPIRICAL,   /* drawn from given values, each as likely */
    DISTRIBUTION_KINDS
};

extern const char *const distribution_names[]; /* "constant", ...; NULL-terminated */

struct distribution {
    enum distribution_kind kind;
    double mean, scv;
    double a, b, c;       /* what drawing needs, by kind */
    const double *values; /* EMPIRICAL; borrowed */
    size_t nr_values;
};

/* scv is used where the kind leaves it free. -EDOM, -ERANGE: named errors as in check.h. */
int distribution_init(struct distribution *d, enum distribution_kind kind, double mean, double scv,
                      struct err *err);
/* By mean and scv alone: constant, gamma (scv < 1), exponential or hyperexponential. */
int distribution_fit(struct distribution *d, double mean, double scv, struct err *err);
/* values: nr, at least 0, kept by the caller for as long as the distribution is used. */
int distribution_empirical(struct distribution *d, const double *values, size_t nr,
                           struct err *err);

double distribution_draw_other_(const struct distribution *d, struct random *r);

static inline double distribution_draw(const struct distribution *d, struct random *r)
{
    if (__builtin_expect(d->kind == DISTRIBUTION_EXPONENTIAL, 1))
        return -d->mean * log(random_unit(r));
    return distribution_draw_other_(d, r);
}

#endif
