/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that visit stations (processors, disks, links, other services) in virtual time: the
 * simulated counterpart of networks.h, for what formulas do not say: percentiles, service that is
 * not exponential, arrivals from a trace.
 *
 * Each class of requests visits the stations in their order, once, where it has a demand. Open
 * classes arrive with given times between; closed ones are a number of customers who think, ask,
 * and wait for the answer. Units: seconds.
 *
 * The first part of a run (warm_up) is not counted; of what remains the course of the response is
 * kept, from which MSER cuts what is left of the start, and batch means give the interval.
 * Deterministic by seed; each class and station draws from its own stream.
 */
#ifndef LODGE_MODEL_REQUESTS_H
#define LODGE_MODEL_REQUESTS_H

#include "base/err.h"
#include "model/random.h"
#include "model/stats.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUESTS_STATIONS_MAX 256
#define REQUESTS_CLASSES_MAX  16
#define REQUESTS_INSIDE_MAX   (UINT32_C(1) << 22) /* more at once: the load does not fit */

enum requests_order {
    REQUESTS_FCFS,   /* servers take the next in line */
    REQUESTS_SHARED, /* all inside share the servers evenly (processor sharing) */
    REQUESTS_DELAY,  /* nobody waits */
};

struct requests_station {
    enum requests_order order;
    uint32_t servers;
};

struct requests_class {
    bool open;
    struct distribution between;       /* open: times between arrivals */
    uint32_t customers;                /* closed */
    struct distribution think;         /* closed; mean 0: none */
    const struct distribution *demand; /* one a station; mean 0: not visited */
};

struct requests {
    const struct requests_station *stations;
    size_t nr_stations;
    const struct requests_class *classes;
    size_t nr_classes;
    uint64_t seed, answers; /* how many to simulate, of all classes together */
    double warm_up;         /* share of them that is not counted, below 1 */
};

struct requests_class_result {
    uint64_t answers;
    double throughput, mean_inside; /* by time */
    struct tally response;
    struct series course;
    struct histogram response_ns;
};

struct requests_result {
    uint64_t events;
    double time; /* counted */
    struct requests_class_result *classes;
    double utilisation[REQUESTS_STATIONS_MAX]; /* of each server; delay: mean number */
    double inside[REQUESTS_STATIONS_MAX];
};

/* ret->classes: given by the caller, one a class. -ERANGE "unstable": the load does not fit.
 * -EINVAL, -ENOMEM. */
int requests_simulate(const struct requests *requests, struct requests_result *ret,
                      struct err *err);

#endif
