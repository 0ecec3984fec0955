/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single stations in the steady state. Rates are per unit of time and times in that same unit
 * (seconds, unless the caller means something else). Sources: Kleinrock, Queueing Systems 1 (1975);
 * Jain, The Art of Computer Systems Performance Analysis (1991); Harchol-Balter, Performance
 * Modeling and Design of Computer Systems (2013).
 *
 * All functions are pure, and return 0 or a named error (check.h); *ret is written on success only.
 * Large systems are safe: blocking probabilities come from recursions that only multiply and add
 * numbers in [0, 1], never from factorials.
 */
#ifndef LODGE_MODEL_QUEUEING_H
#define LODGE_MODEL_QUEUEING_H

#include "base/err.h"

#include <stdint.h>

#define QUEUEING_SERVERS_MAX 10000000u

struct queueing_result {
    double utilisation; /* of each server, 0..1 */
    double throughput;  /* served per unit of time */
    double empty;       /* probability that nobody is there; NAN where the model does not say */
    double delayed;     /* probability that an arrival has to wait; NAN: the model does not say */
    double refused;     /* probability that an arrival is turned away */
    double customers;   /* L, in service or waiting */
    double queued;      /* Lq, waiting */
    double response;    /* W, of those let in */
    double wait;        /* Wq, of those let in */
};

/* M/M/1: L = rho / (1 - rho), W = 1 / (mu - lambda). lambda >= 0, mu > lambda. Jain 31.2 */
int queueing_mm1(double lambda, double mu, struct queueing_result *ret, struct err *err);

/* M/M/c: Wq = C(c, a) / (c mu - lambda), C of Erlang, a = lambda / mu < c. Jain 31.3 */
int queueing_mmc(double lambda, double mu, uint64_t servers, struct queueing_result *ret,
                 struct err *err);

/* M/M/c/K: birth and death chain on 0..capacity, capacity >= servers counts those in service.
 * Every load is allowed. Jain 31.5 */
int queueing_mmck(double lambda, double mu, uint64_t servers, uint64_t capacity,
                  struct queueing_result *ret, struct err *err);

/* M/G/1 first come first served: Wq = rho E[S] (1 + scv) / (2 (1 - rho)), Pollaczek-Khinchine.
 * service = E[S], scv = Var[S] / E[S]^2. Kleinrock 5.6 */
int queueing_mg1(double lambda, double service, double scv, struct queueing_result *ret,
                 struct err *err);

/* M/G/1 processor sharing: W = E[S] / (1 - rho) whatever the distribution. "wait" is the time lost
 * to others. Harchol-Balter 30 */
int queueing_mg1_ps(double lambda, double service, struct queueing_result *ret, struct err *err);

/*
 * G/G/c, the Allen-Cunneen approximation: Wq = C(c, a) / (c mu - lambda) * (ca2 + cs2) / 2, where
 * ca2 and cs2 are the squared coefficients of variation of the times between arrivals and of
 * service. With one server it is Kingman's heavy traffic formula; exact for M/M/c and M/G/1. Allen,
 * Probability, Statistics and Queueing Theory (1990) 5.3
 */
int queueing_ggc(double lambda, double mu, uint64_t servers, double scv_arrivals,
                 double scv_service, struct queueing_result *ret, struct err *err);

/* G/G/1, Kingman's upper bound of the mean wait: lambda (va + vs) / (2 (1 - rho)), va and vs the
 * variances of the times between arrivals and of service. Kleinrock 2, 2.1 */
int queueing_kingman_bound(double lambda, double mu, double scv_arrivals, double scv_service,
                           double *ret_wait, struct err *err);

/*
 * M/G/1 with priorities, class 0 the most urgent: Wq of each class, first come first served within
 * it. Cobham: W0 / ((1 - s[k-1]) (1 - s[k])) with s the load up to the class; preemptive resume:
 * response E[S_k] / (1 - s[k-1]) + R_k / ((1 - s[k-1]) (1 - s[k])). Kleinrock 2, 3.3. Classes whose
 * load does not fit are refused as unstable. ret_wait and ret_response have `classes` entries.
 */
int queueing_mg1_priority(unsigned classes, const double *lambda, const double *service,
                          const double *scv, int preemptive, double *ret_wait, double *ret_response,
                          struct err *err);

/* B(c, a) = a B(c-1, a) / (c + a B(c-1, a)), B(0, a) = 1: the share of calls refused when `load`
 * erlangs are offered to `servers` without waiting room. O(servers). */
int queueing_erlang_b(uint64_t servers, double load, double *ret, struct err *err);

/* C = B / (1 - rho (1 - B)): the share of calls that wait. load < servers. */
int queueing_erlang_c(uint64_t servers, double load, double *ret, struct err *err);

/* The fewest servers whose Erlang B (delay == 0) or C (delay == 1) is at most `share`, in (0, 1).
 */
int queueing_erlang_servers(double load, double share, int delay, uint64_t *ret, struct err *err);

/*
 * The time that a share p in (0, 1) of the customers' responses in M/M/c stay below. One server:
 * -W ln(1 - p). Several: the root of P(W > t) = e^(-mu t) (1 + C (1 - e^(-(m-1) mu t)) / (m - 1)),
 * m = c - a, found by bisection. Harchol-Balter 14
 */
int queueing_mmc_quantile(double lambda, double mu, uint64_t servers, double p, double *ret,
                          struct err *err);

#endif
