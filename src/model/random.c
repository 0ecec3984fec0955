/* SPDX-License-Identifier: Apache-2.0 */
/* Seeding, and the distributions other than the exponential. */
#include "model/random.h"

#include "model/check.h"

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void random_init(struct random *r, uint64_t seed, uint64_t stream)
{
    uint64_t state = seed, other = stream ^ 0x6a09e667f3bcc909u;

    state = splitmix(&state) ^ splitmix(&other);
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&state);
}

const char *const distribution_names[] = {"constant",  "exponential", "uniform",   "gamma", "hyper",
                                          "lognormal", "pareto",      "empirical", NULL};

int distribution_init(struct distribution *d, enum distribution_kind kind, double mean, double scv,
                      struct err *err)
{
    struct distribution result = {.kind = kind, .mean = mean, .scv = scv};
    int r = check_not_negative("mean", mean, err);

    if (r < 0 || (r = check_not_negative("scv", scv, err)) < 0)
        return r;
    if ((kind == DISTRIBUTION_GAMMA || kind == DISTRIBUTION_LOGNORMAL ||
         kind == DISTRIBUTION_PARETO) &&
        scv <= 0)
        return err_set(err, -ERANGE, "range: scv is 0; %s needs one above 0",
                       distribution_names[kind]);
    switch (kind) {
    case DISTRIBUTION_CONSTANT:
        result.scv = 0;
        break;
    case DISTRIBUTION_EXPONENTIAL:
        result.scv = 1;
        break;
    case DISTRIBUTION_UNIFORM:
        if (scv > 1.0 / 3)
            return err_set(err, -ERANGE, "range: scv is %g; uniform has at most 1/3", scv);
        result.a = mean * (1 - sqrt(3 * scv));
        result.b = 2 * mean * sqrt(3 * scv);
        break;
    case DISTRIBUTION_GAMMA:
        result.a = 1 / scv;    /* shape */
        result.b = mean * scv; /* scale */
        break;
    case DISTRIBUTION_HYPER:
        if (scv < 1)
            return err_set(err, -ERANGE, "range: scv is %g; hyper has at least 1", scv);
        result.a = (1 + sqrt((scv - 1) / (scv + 1))) / 2; /* probability of the first */
        result.b = mean / (2 * result.a);
        result.c = mean / (2 * (1 - result.a));
        break;
    case DISTRIBUTION_LOGNORMAL:
        result.b = sqrt(log1p(scv));
        result.a = log(mean) - result.b * result.b / 2;
        break;
    case DISTRIBUTION_PARETO:
        result.a = 1 + sqrt(1 + 1 / scv);
        result.b = mean * (result.a - 1) / result.a;
        break;
    case DISTRIBUTION_EMPIRICAL:
    case DISTRIBUTION_KINDS:
        return err_set(err, -EINVAL, "range: an empirical distribution needs values");
    }
    *d = result;
    return 0;
}

int distribution_fit(struct distribution *d, double mean, double scv, struct err *err)
{
    enum distribution_kind kind = scv < 1e-6            ? DISTRIBUTION_CONSTANT
                                  : fabs(scv - 1) < .01 ? DISTRIBUTION_EXPONENTIAL
                                  : scv < 1             ? DISTRIBUTION_GAMMA
                                                        : DISTRIBUTION_HYPER;

    return distribution_init(d, kind, mean, scv, err);
}

int distribution_empirical(struct distribution *d, const double *values, size_t nr, struct err *err)
{
    double sum = 0, squares = 0;
    int r = check_count("values", nr, 1, SIZE_MAX / sizeof(double), err);

    for (size_t i = 0; r == 0 && i < nr; i++) {
        r = check_not_negative("value", values[i], err);
        sum += values[i];
        squares += values[i] * values[i];
    }
    if (r < 0)
        return r;
    *d = (struct distribution){.kind = DISTRIBUTION_EMPIRICAL, .values = values, .nr_values = nr};
    d->mean = sum / (double)nr;
    d->scv = sum > 0 ? fmax(squares * (double)nr / (sum * sum) - 1, 0) : 0;
    return 0;
}

/* Polar method; the second value is thrown away, so that a stream has no hidden state. */
static double draw_normal(struct random *r)
{
    for (;;) {
        double x = 2 * random_unit(r) - 1, y = 2 * random_unit(r) - 1, s = x * x + y * y;

        if (s < 1 && s > 0)
            return x * sqrt(-2 * log(s) / s);
    }
}

/* Marsaglia and Tsang (ACM TOMS 2000), scale 1. */
static double draw_gamma(double shape, struct random *r)
{
    double boost = 1, d, c;

    if (shape < 1) {
        boost = pow(random_unit(r), 1 / shape);
        shape += 1;
    }
    d = shape - 1.0 / 3;
    c = 1 / sqrt(9 * d);
    for (;;) {
        double x = draw_normal(r), v = 1 + c * x;

        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(random_unit(r)) < x * x / 2 + d - d * v + d * log(v))
            return boost * d * v;
    }
}

double distribution_draw_other_(const struct distribution *d, struct random *r)
{
    switch (d->kind) {
    case DISTRIBUTION_CONSTANT:
        return d->mean;
    case DISTRIBUTION_EXPONENTIAL:
        return -d->mean * log(random_unit(r));
    case DISTRIBUTION_UNIFORM:
        return d->a + d->b * random_unit(r);
    case DISTRIBUTION_GAMMA:
        return d->b * draw_gamma(d->a, r);
    case DISTRIBUTION_HYPER: {
        double mean = random_unit(r) < d->a ? d->b : d->c;

        return -mean * log(random_unit(r));
    }
    case DISTRIBUTION_LOGNORMAL:
        return d->mean > 0 ? exp(d->a + d->b * draw_normal(r)) : 0;
    case DISTRIBUTION_PARETO:
        return d->b * pow(random_unit(r), -1 / d->a);
    case DISTRIBUTION_EMPIRICAL:
        return d->values[random_bits(r) % d->nr_values];
    case DISTRIBUTION_KINDS:
        break;
    }
    return 0;
}
