/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks of stations: closed (a fixed number of customers who think, then visit the stations) and
 * open (customers come and go). A station is described by its demand: visits times service time, in
 * one unit of time throughout.
 *
 * Sources: Lazowska et al., Quantitative System Performance (1984); Reiser and Lavenberg (JACM
 * 1980) for mean value analysis; Jain (1991) 33-36; Buzen (CACM 1973) for the convolution.
 * All functions are pure; named errors as in check.h. The caller owns all arrays.
 */
#ifndef LODGE_MODEL_NETWORKS_H
#define LODGE_MODEL_NETWORKS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define NETWORK_STATIONS_MAX  10000u
#define NETWORK_CUSTOMERS_MAX 10000000u
#define NETWORK_CLASSES_MAX   16u
#define NETWORK_SERVERS_MAX   100000u
/* Populations times stations that exact analysis of several classes may hold in memory. */
#define NETWORK_CELLS_MAX 50000000u

enum station_kind {
    STATION_QUEUE,          /* one server, first come first served or shared */
    STATION_DELAY,          /* never a queue: thinking, latency of a link */
    STATION_SERVERS,        /* several servers, one queue: load dependent, rate min(n, servers) */
    STATION_LOAD_DEPENDENT, /* rate given for each number of customers */
};

struct station {
    enum station_kind kind;
    double demand;    /* at rate 1 */
    uint64_t servers; /* STATION_SERVERS */
    const double
        *rates; /* STATION_LOAD_DEPENDENT: rates[n-1] with n customers, the last for more */
    size_t nr_rates;
};

struct station_result {
    double residence;   /* per customer's round */
    double customers;   /* mean number there */
    double utilisation; /* of each server; of a load-dependent station: probability of not empty */
};

struct network_result {
    double throughput, response; /* response without the think time */
};

/*
 * Closed, one class, exact: mean value analysis where every station is a queue or a delay
 * (O(customers stations)), otherwise Buzen's convolution with the state weights tilted to the
 * throughput and scaled to a maximum of 1, so that it neither overflows nor subtracts (the load-
 * dependent recursion of MVA loses all digits near saturation). O(customers^2) a load-dependent
 * station, which may be used by at most 20,000 customers. stations: nr entries, and ret_stations as
 * many.
 */
int network_closed(const struct station *stations, size_t nr, double think, uint64_t customers,
                   struct network_result *ret, struct station_result *ret_stations,
                   struct err *err);

/* Closed, one class, Bard-Schweitzer's approximation; queues and delays only. */
int network_schweitzer(const struct station *stations, size_t nr, double think, double customers,
                       struct network_result *ret, struct station_result *ret_stations,
                       struct err *err);

/*
 * Closed, several classes. demands[station * classes + class], likewise ret_residence and
 * ret_customers (either may be NULL); kinds: STATION_QUEUE or STATION_DELAY of each station; think,
 * customers, ret_throughput, ret_response: one a class. Exact visits every population up to the
 * given one (at most NETWORK_CELLS_MAX / stations of them: -E2BIG says to approximate).
 */
int network_classes(const enum station_kind *kinds, size_t nr, unsigned classes,
                    const double *demands, const double *think, const uint64_t *customers,
                    double *ret_throughput, double *ret_response, double *ret_residence,
                    double *ret_customers, struct err *err);
int network_classes_schweitzer(const enum station_kind *kinds, size_t nr, unsigned classes,
                               const double *demands, const double *think,
                               const uint64_t *customers, double *ret_throughput,
                               double *ret_response, double *ret_residence, double *ret_customers,
                               struct err *err);

/*
 * Open, several classes: station i has servers[i] servers (0: a delay) and demands as above; U =
 * sum lambda D / servers < 1; residence D (1 + C / (servers (1 - U))) with C of Erlang, D / (1 - U)
 * with one. ret_response[class], ret_utilisation[station], ret_residence as demands.
 */
int network_open(const uint64_t *servers, size_t nr, unsigned classes, const double *demands,
                 const double *lambda, double *ret_response, double *ret_utilisation,
                 double *ret_residence, struct err *err);

/* Jackson's traffic equations: arrivals = external + arrivals routing, routing[from * nr + to]. A
 * network that customers never leave is -ERANGE. nr at most 1,000. */
int network_traffic(size_t nr, const double *external, const double *routing, double *ret_arrivals,
                    struct err *err);

struct network_bounds {
    double throughput_most, throughput_least; /* asymptotic */
    double response_least, response_most;
    double balanced_most, balanced_least; /* throughput, balanced job bounds */
    double knee;                          /* customers at which the asymptotes cross */
    size_t bottleneck;                    /* index of the largest demand */
};

/* Operational bounds of a closed network, Lazowska 5: X <= min(1 / Dmax, N / (D + Z)). */
int network_bounds(const double *demands, size_t nr, double think, double customers,
                   struct network_bounds *ret, struct err *err);

/*
 * A job forks into `tasks` tasks, each for an M/M/1 queue of its own, and ends with the last.
 * Nelson and Tantawi (IEEE ToC 1988): exact for two, approximate (within 5 % up to 32) for more;
 * bounded by the harmonic number times the response of one queue, and by the larger of the exact
 * two-task response and tasks that never wait.
 */
int network_fork_join(double lambda, double mu, uint64_t tasks, double *ret_response,
                      double *ret_least, double *ret_most, struct err *err);

#endif
