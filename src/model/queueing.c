/* SPDX-License-Identifier: Apache-2.0 */
/* Formulas of single stations. Little's law turns queue lengths into times and back, once, here. */
#include "model/queueing.h"

#include "model/check.h"

static void from_wait(double lambda, double service, double wait, struct queueing_result *result)
{
    result->throughput = lambda;
    result->wait = wait;
    result->response = wait + service;
    result->queued = lambda * result->wait;
    result->customers = lambda * result->response;
}

static int check_rates(double lambda, double mu, struct err *err)
{
    int r = check_not_negative("lambda", lambda, err);

    return r < 0 ? r : check_positive("mu", mu, err);
}

int queueing_mm1(double lambda, double mu, struct queueing_result *ret, struct err *err)
{
    struct queueing_result result = {0};
    int r = check_rates(lambda, mu, err);

    if (r < 0 || (r = check_stable(lambda / mu, err)) < 0)
        return r;
    result.utilisation = result.delayed = lambda / mu;
    result.empty = 1 - result.utilisation;
    from_wait(lambda, 1 / mu, result.utilisation / (mu - lambda), &result);
    *ret = result;
    return 0;
}

static double erlang_b(uint64_t servers, double load)
{
    double blocked = 1;

    for (uint64_t i = 1; i <= servers; i++)
        blocked = load * blocked / ((double)i + load * blocked);
    return blocked;
}

static double delay_of(double blocked, double utilisation)
{
    return blocked / (1 - utilisation * (1 - blocked));
}

int queueing_erlang_b(uint64_t servers, double load, double *ret, struct err *err)
{
    int r = check_not_negative("load", load, err);

    if (r < 0 || (r = check_count("servers", servers, 0, QUEUEING_SERVERS_MAX, err)) < 0)
        return r;
    *ret = erlang_b(servers, load);
    return 0;
}

int queueing_erlang_c(uint64_t servers, double load, double *ret, struct err *err)
{
    int r = check_not_negative("load", load, err);

    if (r < 0 || (r = check_count("servers", servers, 1, QUEUEING_SERVERS_MAX, err)) < 0 ||
        (r = check_stable(load / (double)servers, err)) < 0)
        return r;
    *ret = delay_of(erlang_b(servers, load), load / (double)servers);
    return 0;
}

int queueing_erlang_servers(double load, double share, int delay, uint64_t *ret, struct err *err)
{
    double blocked = 1;
    int r = check_not_negative("load", load, err);

    if (r < 0 || (r = check_positive("share", share, err)) < 0)
        return r;
    if (share >= 1)
        return err_set(err, -ERANGE, "range: share is %g, must be below 1", share);
    for (uint64_t servers = 1; servers <= QUEUEING_SERVERS_MAX; servers++) {
        double utilisation = load / (double)servers;

        blocked = load * blocked / ((double)servers + load * blocked);
        if (delay ? utilisation < 1 && delay_of(blocked, utilisation) <= share : blocked <= share) {
            *ret = servers;
            return 0;
        }
    }
    return err_set(err, -ERANGE, "range: load %g needs more than %u servers", load,
                   QUEUEING_SERVERS_MAX);
}

/* 1 / P0 = T (1/B - 1 + 1/(1 - rho)) with T = a^c / c!, by logarithms as T overflows early. */
static double mmc_empty(double load, uint64_t servers, double blocked)
{
    double utilisation = load / (double)servers, sum = 1, term = 1;

    if (load <= 0)
        return 1;
    if (servers <= 100) { /* the plain sum keeps the last digits */
        for (uint64_t i = 1; i < servers; i++)
            sum += term *= load / (double)i;
        return 1 / (sum + term * load / (double)servers / (1 - utilisation));
    }
    if (blocked <= 0)
        return exp(-load); /* the queue is never reached: a Poisson variable */
    return exp(-((double)servers * log(load) - lgamma((double)servers + 1) +
                 log(1 / blocked - 1 + 1 / (1 - utilisation))));
}

int queueing_mmc(double lambda, double mu, uint64_t servers, struct queueing_result *ret,
                 struct err *err)
{
    struct queueing_result result = {0};
    double blocked;
    int r = check_rates(lambda, mu, err);

    if (r < 0 || (r = check_count("servers", servers, 1, QUEUEING_SERVERS_MAX, err)) < 0 ||
        (r = check_stable(lambda / mu / (double)servers, err)) < 0)
        return r;
    blocked = erlang_b(servers, lambda / mu);
    result.utilisation = lambda / mu / (double)servers;
    result.delayed = delay_of(blocked, result.utilisation);
    result.empty = mmc_empty(lambda / mu, servers, blocked);
    from_wait(lambda, 1 / mu, result.delayed / ((double)servers * mu - lambda), &result);
    *ret = result;
    return 0;
}

int queueing_mmck(double lambda, double mu, uint64_t servers, uint64_t capacity,
                  struct queueing_result *ret, struct err *err)
{
    struct queueing_result result = {0};
    double p = 1, sum = 1, customers = 0, queued = 0, empty = 1, delayed = 0;
    int r = check_rates(lambda, mu, err);

    if (r < 0 || (r = check_count("servers", servers, 1, QUEUEING_SERVERS_MAX, err)) < 0 ||
        (r = check_count("capacity", capacity, servers, QUEUEING_SERVERS_MAX, err)) < 0)
        return r;
    for (uint64_t n = 1; n <= capacity; n++) {
        double busy = (double)(n < servers ? n : servers);

        p *= lambda / (busy * mu);
        if (p > 1e200) { /* only ratios count */
            p *= 1e-200;
            sum *= 1e-200;
            customers *= 1e-200;
            queued *= 1e-200;
            empty *= 1e-200;
            delayed *= 1e-200;
        }
        sum += p;
        customers += (double)n * p;
        queued += ((double)n - busy) * p;
        if (n >= servers && n < capacity)
            delayed += p;
    }
    result.refused = p / sum;
    result.empty = empty / sum;
    result.customers = customers / sum;
    result.queued = queued / sum;
    result.throughput = lambda * (1 - result.refused);
    result.utilisation = (result.customers - result.queued) / (double)servers;
    result.delayed = lambda > 0 && sum > p ? delayed / (sum - p) : 0;
    result.response = lambda > 0 ? result.customers / result.throughput : 1 / mu;
    result.wait = lambda > 0 ? result.queued / result.throughput : 0;
    *ret = result;
    return 0;
}

static int check_mg1(double lambda, double service, double scv, struct err *err)
{
    int r = check_not_negative("lambda", lambda, err);

    if (r < 0 || (r = check_positive("service", service, err)) < 0 ||
        (r = check_not_negative("scv", scv, err)) < 0)
        return r;
    return check_stable(lambda * service, err);
}

int queueing_mg1(double lambda, double service, double scv, struct queueing_result *ret,
                 struct err *err)
{
    struct queueing_result result = {0};
    double utilisation = lambda * service;
    int r = check_mg1(lambda, service, scv, err);

    if (r < 0)
        return r;
    result.utilisation = result.delayed = utilisation;
    result.empty = 1 - utilisation;
    from_wait(lambda, service, utilisation * service * (1 + scv) / (2 * (1 - utilisation)),
              &result);
    *ret = result;
    return 0;
}

int queueing_mg1_ps(double lambda, double service, struct queueing_result *ret, struct err *err)
{
    struct queueing_result result = {0};
    double utilisation = lambda * service;
    int r = check_mg1(lambda, service, 0, err);

    if (r < 0)
        return r;
    result.utilisation = result.delayed = utilisation;
    result.empty = 1 - utilisation;
    from_wait(lambda, service, service * utilisation / (1 - utilisation), &result);
    *ret = result;
    return 0;
}

int queueing_ggc(double lambda, double mu, uint64_t servers, double scv_arrivals,
                 double scv_service, struct queueing_result *ret, struct err *err)
{
    struct queueing_result result;
    int r = check_not_negative("scv-arrivals", scv_arrivals, err);

    if (r < 0 || (r = check_not_negative("scv-service", scv_service, err)) < 0 ||
        (r = queueing_mmc(lambda, mu, servers, &result, err)) < 0)
        return r;
    from_wait(lambda, 1 / mu, result.wait * (scv_arrivals + scv_service) / 2, &result);
    result.empty = result.delayed = (double)NAN;
    *ret = result;
    return 0;
}

int queueing_kingman_bound(double lambda, double mu, double scv_arrivals, double scv_service,
                           double *ret_wait, struct err *err)
{
    int r = check_positive("lambda", lambda, err);

    if (r < 0 || (r = check_positive("mu", mu, err)) < 0 ||
        (r = check_not_negative("scv-arrivals", scv_arrivals, err)) < 0 ||
        (r = check_not_negative("scv-service", scv_service, err)) < 0 ||
        (r = check_stable(lambda / mu, err)) < 0)
        return r;
    *ret_wait = lambda * (scv_arrivals / (lambda * lambda) + scv_service / (mu * mu)) /
                (2 * (1 - lambda / mu));
    return 0;
}

int queueing_mg1_priority(unsigned classes, const double *lambda, const double *service,
                          const double *scv, int preemptive, double *ret_wait, double *ret_response,
                          struct err *err)
{
    double residual = 0, load = 0;
    int r = check_count("classes", classes, 1, 10000, err);

    for (unsigned k = 0; r == 0 && k < classes; k++) {
        r = check_mg1(lambda[k], service[k], scv[k], err);
        load += lambda[k] * service[k];
        residual += lambda[k] * service[k] * service[k] * (1 + scv[k]) / 2;
    }
    if (r < 0 || (r = check_stable(load, err)) < 0)
        return r;
    load = 0;
    if (preemptive) /* later classes are not felt */
        residual = 0;
    for (unsigned k = 0; k < classes; k++) {
        double above = load;

        load += lambda[k] * service[k];
        if (preemptive)
            residual += lambda[k] * service[k] * service[k] * (1 + scv[k]) / 2;
        ret_response[k] = residual / ((1 - above) * (1 - load)) +
                          (preemptive ? service[k] / (1 - above) : service[k]);
        ret_wait[k] = ret_response[k] - service[k];
    }
    return 0;
}

/* P(response > t) in M/M/c with m = c - a and C the probability of waiting. */
static double mmc_tail(double mu, double m, double delayed, double t)
{
    double k = m - 1;

    if (fabs(k) * mu * t < 1e-9) /* (1 - e^(-k mu t)) / k near k = 0 */
        return exp(-mu * t) * (1 + delayed * mu * t);
    return exp(-mu * t) + delayed * (exp(-mu * t) - exp(-m * mu * t)) / k;
}

int queueing_mmc_quantile(double lambda, double mu, uint64_t servers, double p, double *ret,
                          struct err *err)
{
    struct queueing_result result;
    double low = 0, high, m;
    int r = queueing_mmc(lambda, mu, servers, &result, err);

    if (r < 0 || (r = check_positive("p", p, err)) < 0)
        return r;
    if (p >= 1)
        return err_set(err, -ERANGE, "range: p is %g, must be below 1", p);
    m = (double)servers - lambda / mu;
    high = result.response;
    while (mmc_tail(mu, m, result.delayed, high) > 1 - p)
        high *= 2;
    for (int i = 0; i < 200 && low < high; i++) {
        double middle = low + (high - low) / 2;

        if (middle <= low || middle >= high)
            break;
        if (mmc_tail(mu, m, result.delayed, middle) > 1 - p)
            low = middle;
        else
            high = middle;
    }
    *ret = high;
    return 0;
}
