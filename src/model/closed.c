/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closed networks of one class. Mean value analysis needs only the queue lengths with one customer
 * less; stations whose rate depends on their queue need its distribution, which comes from
 * convolving the stations' state weights.
 *
 * Weights: w_i(j) = prod_{k<=j} (x D_i / rate_i(k)), for any x > 0; p_i(j) = w_i(j) G_{-i}(N - j) /
 * G(N). x is chosen so that the stations, taken alone, hold N customers together: every weight that
 * matters then lies near the largest, and what underflows is what does not matter.
 */
#include "model/networks.h"

#include "base/cleanup.h"
#include "model/check.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CONVOLUTION_CUSTOMERS_MAX 20000u
#define CONVOLUTION_WORK_MAX      1e10

static int check_station(const struct station *station, size_t i, struct err *err)
{
    int r = check_not_negative("demand", station->demand, err);

    if (r == 0 && station->kind == STATION_SERVERS)
        r = check_count("servers", station->servers, 1, NETWORK_SERVERS_MAX, err);
    if (r == 0 && station->kind == STATION_LOAD_DEPENDENT)
        r = check_count("rates", station->nr_rates, 1, CONVOLUTION_CUSTOMERS_MAX, err);
    for (size_t k = 0; r == 0 && station->kind == STATION_LOAD_DEPENDENT && k < station->nr_rates;
         k++)
        r = check_positive("rate", station->rates[k], err);
    return r < 0 ? err_wrap(err, "station %zu", i + 1) : 0;
}

static int check_network(const struct station *stations, size_t nr, double think, struct err *err)
{
    double sum = think;
    int r = check_count("stations", nr, 1, NETWORK_STATIONS_MAX, err);

    if (r == 0)
        r = check_not_negative("think", think, err);
    for (size_t i = 0; r == 0 && i < nr; i++) {
        r = check_station(&stations[i], i, err);
        sum += stations[i].demand;
    }
    if (r == 0 && sum <= 0)
        r = err_set(err, -EDOM, "range: all demands and the think time are 0");
    return r;
}

static void mva(const struct station *stations, size_t nr, double think, uint64_t customers,
                struct network_result *result, struct station_result *each)
{
    for (uint64_t n = 1; n <= customers; n++) {
        result->response = 0;
        for (size_t i = 0; i < nr; i++) {
            bool queues = stations[i].kind != STATION_DELAY;

            each[i].residence = stations[i].demand * (queues ? 1 + each[i].customers : 1);
            result->response += each[i].residence;
        }
        result->throughput = (double)n / (think + result->response);
        for (size_t i = 0; i < nr; i++)
            each[i].customers = result->throughput * each[i].residence;
    }
    for (size_t i = 0; i < nr; i++)
        each[i].utilisation = result->throughput * stations[i].demand;
}

static double rate(const struct station *station, uint64_t n)
{
    switch (station->kind) {
    case STATION_DELAY:
        return (double)n;
    case STATION_SERVERS:
        return (double)(n < station->servers ? n : station->servers);
    case STATION_LOAD_DEPENDENT:
        return station->rates[n <= station->nr_rates ? n - 1 : station->nr_rates - 1];
    case STATION_QUEUE:
        break;
    }
    return 1;
}

/* Weights 0..customers for throughput x, the largest 1. Returns the mean number in the station if
 * it stood alone with at most that many. */
static double weigh(const struct station *station, double x, uint64_t customers, double *w)
{
    double log_w = 0, most = 0, sum = 0, mean = 0;

    w[0] = 0;
    for (uint64_t j = 1; j <= customers; j++) {
        log_w += log(x * station->demand / rate(station, j));
        w[j] = log_w;
        most = fmax(most, log_w);
    }
    for (uint64_t j = 0; j <= customers; j++) {
        w[j] = exp(w[j] - most);
        sum += w[j];
        mean += (double)j * w[j];
    }
    return mean / sum;
}

/* g = g * w (convolution), then scaled to a maximum of 1. */
static void convolve(double *g, const double *w, double *scratch, uint64_t customers)
{
    double most = 0;
    uint64_t first = 0, last = customers;

    while (first < customers && w[first] <= 0)
        first++;
    while (last > first && w[last] <= 0)
        last--;
    for (uint64_t n = 0; n <= customers; n++) {
        double sum = 0;

        for (uint64_t j = first; j <= last && j <= n; j++)
            sum += w[j] * g[n - j];
        scratch[n] = sum;
        most = fmax(most, sum);
    }
    for (uint64_t n = 0; n <= customers; n++)
        g[n] = scratch[n] / most;
}

struct convolution {
    const struct station *stations; /* the delay of thinking is the last one */
    size_t nr;
    uint64_t customers;
    double x;
    double *w, *g, *scratch;
};

/* As convolve with the weights r^j, r <= 1: n sums instead of n^2. */
static void convolve_geometric(double *g, double r, uint64_t customers)
{
    double most = g[0];

    for (uint64_t n = 1; n <= customers; n++) {
        g[n] += r * g[n - 1];
        most = fmax(most, g[n]);
    }
    for (uint64_t n = 0; n <= customers; n++)
        g[n] /= most;
}

/* G of all stations but `without` (nr: of all). */
static void normalise(struct convolution *c, size_t without)
{
    memset(c->g, 0, (c->customers + 1) * sizeof(*c->g));
    c->g[0] = 1;
    for (size_t i = 0; i < c->nr; i++) {
        if (i == without || c->stations[i].demand <= 0)
            continue;
        if (c->stations[i].kind == STATION_QUEUE && c->x * c->stations[i].demand <= 1) {
            convolve_geometric(c->g, c->x * c->stations[i].demand, c->customers);
            continue;
        }
        weigh(&c->stations[i], c->x, c->customers, c->w);
        convolve(c->g, c->w, c->scratch, c->customers);
    }
}

/* The throughput at which the stations, each alone, hold all customers together. */
static void tilt(struct convolution *c)
{
    double low = -700, high = 700;

    for (int k = 0; k < 60; k++) {
        double middle = (low + high) / 2, sum = 0;

        for (size_t i = 0; i < c->nr && sum < (double)c->customers; i++)
            if (c->stations[i].demand > 0)
                sum += weigh(&c->stations[i], exp(middle), c->customers, c->w);
        if (sum < (double)c->customers)
            low = middle;
        else
            high = middle;
    }
    c->x = exp(low);
}

static int convolution(struct convolution *c, struct network_result *result,
                       struct station_result *each, size_t nr, struct err *err)
{
    tilt(c);
    normalise(c, c->nr);
    result->throughput = c->x * c->g[c->customers - 1] / c->g[c->customers];
    if (!isfinite(result->throughput) || result->throughput <= 0)
        return err_set(err, -ERANGE, "range: the demands differ too much for double precision");
    for (size_t i = 0; i < nr; i++) {
        const struct station *station = &c->stations[i];
        double sum = 0, mean = 0, empty = 0;

        each[i] = (struct station_result){0};
        if (station->demand <= 0)
            continue;
        normalise(c, i);
        weigh(station, c->x, c->customers, c->w);
        for (uint64_t j = 0; j <= c->customers; j++) {
            double p = c->w[j] * c->g[c->customers - j];

            empty = j == 0 ? p : empty;
            sum += p;
            mean += (double)j * p;
        }
        each[i].customers = mean / sum;
        each[i].residence = each[i].customers / result->throughput;
        each[i].utilisation = result->throughput * station->demand;
        if (station->kind == STATION_SERVERS)
            each[i].utilisation /= (double)station->servers;
        if (station->kind == STATION_LOAD_DEPENDENT)
            each[i].utilisation = 1 - empty / sum;
        result->response += each[i].residence;
    }
    return 0;
}

static int closed_convolution(const struct station *stations, size_t nr, double think,
                              uint64_t customers, struct network_result *result,
                              struct station_result *each, struct err *err)
{
    CLEANUP(freep) struct station *all = calloc(nr + 1, sizeof(*all));
    CLEANUP(freep) double *w = calloc(customers + 1, sizeof(double));
    CLEANUP(freep) double *g = calloc(customers + 1, sizeof(double));
    CLEANUP(freep) double *scratch = calloc(customers + 1, sizeof(double));
    struct convolution c = {all, nr + 1, customers, 1, w, g, scratch};
    double costly = 1;

    for (size_t i = 0; i < nr; i++)
        costly += stations[i].kind != STATION_QUEUE;
    if (costly * (double)nr * (double)customers * (double)customers > CONVOLUTION_WORK_MAX)
        return err_set(
            err, -E2BIG,
            "range: %llu customers at %zu stations are too many for an exact answer with "
            "load-dependent stations",
            (unsigned long long)customers, nr);
    if (!all || !w || !g || !scratch)
        return err_set(err, -ENOMEM, "closed network");
    memcpy(all, stations, nr * sizeof(*all));
    all[nr] = (struct station){.kind = STATION_DELAY, .demand = think};
    return convolution(&c, result, each, nr, err);
}

int network_closed(const struct station *stations, size_t nr, double think, uint64_t customers,
                   struct network_result *ret, struct station_result *ret_stations, struct err *err)
{
    CLEANUP(freep) struct station_result *each = calloc(nr ? nr : 1, sizeof(*each));
    struct network_result result = {0};
    bool plain = true;
    int r = check_network(stations, nr, think, err);

    if (r < 0 || (r = check_count("customers", customers, 0, NETWORK_CUSTOMERS_MAX, err)) < 0)
        return r;
    if (!each)
        return err_set(err, -ENOMEM, "closed network");
    for (size_t i = 0; i < nr; i++)
        plain = plain && (stations[i].kind == STATION_QUEUE || stations[i].kind == STATION_DELAY);
    if (plain) {
        mva(stations, nr, think, customers, &result, each);
    } else if (customers > 0) {
        r = check_count("customers", customers, 0, CONVOLUTION_CUSTOMERS_MAX, err);
        if (r == 0)
            r = closed_convolution(stations, nr, think, customers, &result, each, err);
        if (r < 0)
            return r;
    }
    memcpy(ret_stations, each, nr * sizeof(*each));
    *ret = result;
    return 0;
}

int network_schweitzer(const struct station *stations, size_t nr, double think, double customers,
                       struct network_result *ret, struct station_result *ret_stations,
                       struct err *err)
{
    struct network_result result = {0};
    double change = (double)INFINITY;
    int r = check_network(stations, nr, think, err);

    if (r < 0 || (r = check_positive("customers", customers, err)) < 0)
        return r;
    for (size_t i = 0; i < nr; i++) {
        if (stations[i].kind != STATION_QUEUE && stations[i].kind != STATION_DELAY)
            return err_set(err, -EINVAL,
                           "range: station %zu: Bard-Schweitzer is for queues and delays", i + 1);
        ret_stations[i].customers = customers / (double)nr;
    }
    for (int k = 0; k < 1000000 && change > 1e-12 * customers; k++) {
        result.response = 0;
        for (size_t i = 0; i < nr; i++) {
            double met = ret_stations[i].customers * (customers - 1) / customers;
            bool queues = stations[i].kind == STATION_QUEUE;

            ret_stations[i].residence = stations[i].demand * (queues ? 1 + fmax(met, 0) : 1);
            result.response += ret_stations[i].residence;
        }
        result.throughput = customers / (think + result.response);
        change = 0;
        for (size_t i = 0; i < nr; i++) {
            double next = result.throughput * ret_stations[i].residence;

            change = fmax(change, fabs(next - ret_stations[i].customers));
            ret_stations[i].customers = next;
        }
    }
    for (size_t i = 0; i < nr; i++)
        ret_stations[i].utilisation = result.throughput * stations[i].demand;
    *ret = result;
    return 0;
}
