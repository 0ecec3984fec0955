/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a simulation says, and how sure it is. A tally holds count, mean and variance; a histogram
 * holds quantiles to 1 %; a series holds the course of a measure over the run as at most
 * SERIES_BATCHES averages, of which the warm-up is cut off (MSER, White 1997: the cut after which
 * the standard error of what remains is least, at most half) and the rest made into batch means.
 * Nothing here allocates. Intervals are by Student's t. Source: Law, Simulation Modeling and
 * Analysis, 9.
 */
#ifndef LODGE_MODEL_STATS_H
#define LODGE_MODEL_STATS_H

#include <stdint.h>

struct tally {
    uint64_t nr;
    double mean, squares; /* squares: sum of squared distances from the mean */
    double least, most;
};

static inline void tally_add(struct tally *t, double value)
{
    double delta = value - t->mean;

    if (t->nr == 0)
        t->least = t->most = value;
    t->nr++;
    t->mean += delta / (double)t->nr;
    t->squares += delta * (value - t->mean);
    t->least = value < t->least ? value : t->least;
    t->most = value > t->most ? value : t->most;
}

double tally_variance(const struct tally *t); /* 0 with fewer than two values */
double tally_scv(const struct tally *t);
/* Half the width of the interval around the mean of independent values that holds the true mean
 * with probability `level`; INFINITY with fewer than two. */
double tally_interval(const struct tally *t, double level);

/* The value that Student's t with `freedom` degrees stays below with probability p. */
double student_quantile(double p, double freedom);

/* Buckets of 1/128 of a power of two. */
#define HISTOGRAM_BUCKETS (64 * 128)

struct histogram {
    uint64_t nr, counts[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t value);
/* 0 <= p <= 1; 0 when it is empty. */
double histogram_quantile(const struct histogram *h, double p);
void histogram_merge(struct histogram *into, const struct histogram *from);

#define SERIES_BATCHES 1024

struct series {
    double sums[SERIES_BATCHES];
    uint64_t size;  /* values in a full batch; doubles when all are full */
    uint64_t in;    /* values in the batch that is filled now */
    uint32_t nr;    /* full batches */
    double filling; /* their sum so far */
};

void series_init(struct series *s);
void series_add(struct series *s, double value);

struct estimate_of_mean {
    double mean, half_width;
    double warm_up; /* share of the run that was cut off */
    uint32_t batches;
};

/* Batch means with `level`; half_width is INFINITY when the run was too short (under 40 values). */
void series_estimate(const struct series *s, double level, struct estimate_of_mean *ret);

#endif
