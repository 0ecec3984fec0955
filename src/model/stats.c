/* SPDX-License-Identifier: Apache-2.0 */
/* Tallies, quantiles, batch means. */
#include "model/stats.h"

#include <math.h>
#include <string.h>

#define BATCHES 20 /* of batch means: more gain little, fewer remain correlated */

double tally_variance(const struct tally *t)
{
    return t->nr > 1 ? t->squares / (double)(t->nr - 1) : 0;
}

double tally_scv(const struct tally *t)
{
    return t->mean > 0 ? tally_variance(t) / (t->mean * t->mean) : 0;
}

double tally_interval(const struct tally *t, double level)
{
    if (t->nr < 2)
        return (double)INFINITY;
    return student_quantile((1 + level) / 2, (double)(t->nr - 1)) *
           sqrt(tally_variance(t) / (double)t->nr);
}

/* The continued fraction of the incomplete beta function (Lentz). */
static double beta_fraction(double a, double b, double x)
{
    double c = 1, d = 1 - (a + b) * x / (a + 1), h;

    d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
    h = d;
    for (int m = 1; m < 500; m++) {
        double step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), change;

        d = 1 + step * d;
        c = 1 + step / c;
        d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
        h *= d * c;
        step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 + step * d;
        c = 1 + step / c;
        d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
        change = d * c;
        h *= change;
        if (fabs(change - 1) < 1e-14)
            break;
    }
    return h;
}

static double incomplete_beta(double a, double b, double x)
{
    double front;

    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double student_quantile(double p, double freedom)
{
    double low = 0, high = 1, tail = p > .5 ? 1 - p : p;

    if (!(p > 0 && p < 1))
        return p > .5 ? (double)INFINITY : -(double)INFINITY;
    while (incomplete_beta(freedom / 2, .5, freedom / (freedom + high * high)) / 2 > tail &&
           high < 1e12)
        high *= 2;
    for (int i = 0; i < 100; i++) {
        double t = (low + high) / 2;

        if (incomplete_beta(freedom / 2, .5, freedom / (freedom + t * t)) / 2 > tail)
            low = t;
        else
            high = t;
    }
    return p > .5 ? high : -high;
}

static unsigned bucket_of(uint64_t value)
{
    unsigned top;

    if (value < 128)
        return (unsigned)value;
    top = 63 - (unsigned)__builtin_clzll(value);
    return (top - 6) * 128 + (unsigned)((value >> (top - 7)) & 127);
}

/* The middle of a bucket. */
static double bucket_value(unsigned bucket)
{
    unsigned top = bucket / 128 + 6;

    if (bucket < 128)
        return bucket;
    return ldexp(128 + bucket % 128 + .5, (int)top - 7);
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->counts[bucket_of(value)]++;
    h->nr++;
}

double histogram_quantile(const struct histogram *h, double p)
{
    uint64_t wanted = (uint64_t)ceil(p * (double)h->nr), seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen > 0 && seen >= wanted)
            return bucket_value(i);
    }
    return 0;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    into->nr += from->nr;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->counts[i] += from->counts[i];
}

void series_init(struct series *s)
{
    memset(s, 0, sizeof(*s));
    s->size = 1;
}

void series_add(struct series *s, double value)
{
    s->filling += value;
    if (++s->in < s->size)
        return;
    if (s->nr == SERIES_BATCHES) {
        for (unsigned i = 0; i < SERIES_BATCHES / 2; i++)
            s->sums[i] = s->sums[2 * i] + s->sums[2 * i + 1];
        s->nr = SERIES_BATCHES / 2;
        s->size *= 2;
        return; /* what is filled goes on, to the new size */
    }
    s->sums[s->nr++] = s->filling;
    s->filling = 0;
    s->in = 0;
}

/* How many of the first batches to cut: least (sum of squares) / (how many are left)^2. */
static unsigned warm_up(const struct series *s)
{
    double sum = 0, squares = 0, best = (double)INFINITY;
    unsigned cut = 0;

    for (unsigned i = s->nr; i-- > 0;) {
        double left = s->nr - i, error;

        sum += s->sums[i];
        squares += s->sums[i] * s->sums[i];
        error = (squares - sum * sum / left) / (left * left);
        if (i <= s->nr / 2 && error <= best) {
            best = error;
            cut = i;
        }
    }
    return cut;
}

void series_estimate(const struct series *s, double level, struct estimate_of_mean *ret)
{
    unsigned cut = warm_up(s), left = s->nr - cut, each = left / BATCHES;
    struct tally batches = {0};

    *ret = (struct estimate_of_mean){.half_width = (double)INFINITY};
    if (s->nr == 0)
        return;
    if (each == 0 || s->nr * s->size < 40) {
        for (unsigned i = cut; i < s->nr; i++)
            ret->mean += s->sums[i] / (double)(left * s->size);
        return;
    }
    cut += left - each * BATCHES;
    for (unsigned k = 0; k < BATCHES; k++) {
        double sum = 0;

        for (unsigned i = 0; i < each; i++)
            sum += s->sums[cut + k * each + i];
        tally_add(&batches, sum / (double)(each * s->size));
    }
    ret->mean = batches.mean;
    ret->half_width = tally_interval(&batches, level);
    ret->warm_up = (double)cut / s->nr;
    ret->batches = BATCHES;
}
