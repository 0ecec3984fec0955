/* SPDX-License-Identifier: Apache-2.0 */
/* Predictions of a scenario: the simulation is asked for what was described, at another load. */
#include "model/scenario.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "model/networks.h"
#include "model/queueing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double rate_of(const struct scenario *s, size_t class, double load)
{
    return s->classes[class].open ? load / s->classes[class].between.mean : 0;
}

static uint64_t customers_of(const struct scenario *s, size_t class, double load)
{
    return s->classes[class].open ? 0
                                  : (uint64_t)llround(fmax(1, load * s->classes[class].customers));
}

double scenario_saturation(const struct scenario *s, double load, size_t *ret_station)
{
    double most = 0;

    *ret_station = 0;
    for (size_t i = 0; i < s->nr_stations; i++) {
        double used = 0;

        if (s->stations[i].order == REQUESTS_DELAY)
            continue;
        for (size_t k = 0; k < s->nr_classes; k++)
            used += rate_of(s, k, load) * s->demands[k][i].mean / s->stations[i].servers;
        if (used > most) {
            most = used;
            *ret_station = i;
        }
    }
    return most;
}

/* Wait at a station in order, of all who come there together: their moments, not each class's. */
static double open_station(const struct scenario *s, double load, size_t i, size_t class)
{
    double rate = 0, used = 0, second = 0, arrivals = 0, mean, scv;
    const struct distribution *own = &s->demands[class][i];
    struct queueing_result q;

    for (size_t k = 0; k < s->nr_classes; k++) {
        double lambda = rate_of(s, k, load), demand = s->demands[k][i].mean;

        if (demand <= 0)
            continue;
        rate += lambda;
        used += lambda * demand;
        second += lambda * demand * demand * (1 + s->demands[k][i].scv);
        arrivals += lambda * s->classes[k].between.scv;
    }
    if (own->mean <= 0)
        return 0;
    if (s->stations[i].order == REQUESTS_DELAY)
        return own->mean;
    mean = used / rate;
    scv = fmax(second / rate / (mean * mean) - 1, 0);
    if (s->stations[i].order == REQUESTS_SHARED) {
        if (queueing_mmc(rate, 1 / mean, s->stations[i].servers, &q, NULL) < 0)
            return (double)NAN;
        return own->mean * q.response / mean;
    }
    if (queueing_ggc(rate, 1 / mean, s->stations[i].servers, arrivals / rate, scv, &q, NULL) < 0)
        return (double)NAN;
    return own->mean + q.wait;
}

static double closed_one(const struct scenario *s, double load)
{
    struct station stations[REQUESTS_STATIONS_MAX];
    struct station_result each[REQUESTS_STATIONS_MAX];
    struct network_result result;

    memset(stations, 0, sizeof(stations));
    for (size_t i = 0; i < s->nr_stations; i++) {
        stations[i].demand = s->demands[0][i].mean;
        stations[i].servers = s->stations[i].servers;
        stations[i].kind = s->stations[i].order == REQUESTS_DELAY ? STATION_DELAY
                           : s->stations[i].servers > 1           ? STATION_SERVERS
                                                                  : STATION_QUEUE;
    }
    if (network_closed(stations, s->nr_stations, s->classes[0].think.mean, customers_of(s, 0, load),
                       &result, each, NULL) < 0)
        return (double)NAN;
    return result.response;
}

static double closed_several(const struct scenario *s, double load, size_t class)
{
    enum station_kind kinds[REQUESTS_STATIONS_MAX];
    CLEANUP(freep) double *demands = calloc(s->nr_stations * s->nr_classes, sizeof(double));
    double think[REQUESTS_CLASSES_MAX], throughput[REQUESTS_CLASSES_MAX],
        response[REQUESTS_CLASSES_MAX];
    uint64_t customers[REQUESTS_CLASSES_MAX];

    for (size_t i = 0; demands && i < s->nr_stations; i++) {
        kinds[i] = s->stations[i].order == REQUESTS_DELAY ? STATION_DELAY : STATION_QUEUE;
        if (kinds[i] == STATION_QUEUE && s->stations[i].servers > 1)
            return (double)NAN;
        for (size_t k = 0; k < s->nr_classes; k++)
            demands[i * s->nr_classes + k] = s->demands[k][i].mean;
    }
    for (size_t k = 0; k < s->nr_classes; k++) {
        think[k] = s->classes[k].think.mean;
        customers[k] = customers_of(s, k, load);
    }
    if (!demands ||
        network_classes_schweitzer(kinds, s->nr_stations, (unsigned)s->nr_classes, demands, think,
                                   customers, throughput, response, NULL, NULL, NULL) < 0)
        return (double)NAN;
    return response[class];
}

double scenario_formula(const struct scenario *s, double load, size_t class)
{
    bool closed = true;
    double sum = 0;

    if (class >= s->nr_classes) { /* all: weighted by how often they come */
        double weight = 0;

        if (s->nr_classes == 1)
            return scenario_formula(s, load, 0);
        for (size_t k = 0; s->open && k < s->nr_classes; k++) {
            sum += rate_of(s, k, load) * scenario_formula(s, load, k);
            weight += rate_of(s, k, load);
        }
        return weight > 0 ? sum / weight : (double)NAN;
    }
    for (size_t k = 0; k < s->nr_classes; k++)
        closed = closed && !s->classes[k].open;
    if (closed)
        return s->nr_classes == 1 ? closed_one(s, load) : closed_several(s, load, class);
    for (size_t i = 0; s->open && i < s->nr_stations; i++)
        sum += open_station(s, load, i, class);
    return s->open ? sum : (double)NAN;
}

/* Where the asymptotes of a closed class cross: (D + Z) / Dmax customers. */
static double closed_knee(const struct scenario *s)
{
    double sum = s->classes[0].think.mean, most = 0;

    for (size_t i = 0; i < s->nr_stations; i++) {
        double demand = s->demands[0][i].mean;

        sum += demand;
        if (s->stations[i].order != REQUESTS_DELAY)
            most = fmax(most, demand / s->stations[i].servers);
    }
    return most > 0 ? sum / most / s->classes[0].customers : (double)NAN;
}

double scenario_knee(const struct scenario *s, size_t class)
{
    double best = 0, knee = (double)NAN, used;
    size_t station;

    if (!s->open)
        return s->nr_classes == 1 ? closed_knee(s) : (double)NAN;
    used = scenario_saturation(s, 1, &station);
    for (int i = 1; used > 0 && i < 1000; i++) {
        double load = i / used / 1000, power = load / scenario_formula(s, load, class);

        if (isfinite(power) && power > best * (1 + 1e-9)) {
            best = power;
            knee = load;
        }
    }
    return knee;
}

/* ---- by simulation ---- */

struct several { /* of independent runs, or of one */
    struct tally means, throughputs;
    struct histogram response_ns;
};

static void take(const struct scenario *s, size_t class, const struct requests_result *result,
                 struct several *all, struct scenario_point *point)
{
    double sum = 0, nr = 0, throughput = 0;

    for (size_t k = 0; k < s->nr_classes; k++) {
        const struct requests_class_result *one = &result->classes[k];

        if (class < s->nr_classes && k != class)
            continue;
        sum += one->response.mean * (double)one->answers;
        nr += (double)one->answers;
        throughput += one->throughput;
        histogram_merge(&all->response_ns, &one->response_ns);
    }
    tally_add(&all->means, nr > 0 ? sum / nr : 0);
    tally_add(&all->throughputs, throughput);
    for (size_t i = 0; i < s->nr_stations; i++) {
        point->utilisation[i] += result->utilisation[i] / s->replications;
        point->inside[i] += result->inside[i] / s->replications;
    }
    point->events += result->events;
}

static int simulate(const struct scenario *s, double load, size_t class,
                    struct requests_class_result *results, struct several *all,
                    struct scenario_point *point, struct err *err)
{
    struct requests_class classes[REQUESTS_CLASSES_MAX];
    struct requests requests = {s->stations, s->nr_stations, classes,   s->nr_classes,
                                s->seed,     s->answers,     s->warm_up};
    struct requests_result *result = calloc(1, sizeof(*result));
    struct estimate_of_mean estimate;
    int r = result ? 0 : err_set(err, -ENOMEM, "prediction");

    for (size_t k = 0; k < s->nr_classes; k++) {
        struct distribution *between = &classes[k].between;

        classes[k] = s->classes[k];
        classes[k].customers = (uint32_t)customers_of(s, k, load);
        if (classes[k].open &&
            distribution_init(between, between->kind, between->mean / load, between->scv, NULL) < 0)
            r = err_set(err, -EINVAL, "load %g", load);
    }
    for (uint32_t i = 0; r == 0 && i < s->replications; i++) {
        result->classes = results;
        requests.seed = s->seed + i;
        r = requests_simulate(&requests, result, err);
        if (r == 0)
            take(s, class, result, all, point);
    }
    if (r == 0 && s->replications > 1) {
        point->half_width = tally_interval(&all->means, s->level);
    } else if (r == 0) {
        /* All classes together: the widest. */
        for (size_t k = 0; k < s->nr_classes; k++) {
            if (class < s->nr_classes && k != class)
                continue;
            series_estimate(&results[k].course, s->level, &estimate);
            point->half_width = fmax(point->half_width, estimate.half_width);
        }
    }
    free(result);
    return r;
}

int scenario_predict(const struct scenario *s, double load, size_t class,
                     struct scenario_point *ret, struct err *err)
{
    CLEANUP(freep) struct requests_class_result *results = calloc(s->nr_classes, sizeof(*results));
    CLEANUP(freep) struct several *all = calloc(1, sizeof(*all));
    size_t station;
    int r = 0;

    memset(ret, 0, sizeof(*ret));
    ret->load = load;
    for (size_t k = 0; k < s->nr_classes; k++)
        ret->offered += s->open ? rate_of(s, k, load) : (double)customers_of(s, k, load);
    ret->formula = (double)NAN;
    if (!results || !all)
        return err_set(err, -ENOMEM, "prediction");
    if (!(load > 0 && load < 1e9))
        return err_set(err, -EINVAL, "load %g is not above 0", load);
    if (scenario_saturation(s, load, &station) >= 1)
        return 0;
    r = simulate(s, load, class, results, all, ret, err);
    if (r < 0)
        return r;
    ret->stable = true;
    ret->formula = scenario_formula(s, load, class);
    ret->throughput = all->throughputs.mean;
    ret->response = all->means.mean;
    ret->p50 = histogram_quantile(&all->response_ns, .5) * 1e-9;
    ret->p95 = histogram_quantile(&all->response_ns, .95) * 1e-9;
    ret->p99 = histogram_quantile(&all->response_ns, .99) * 1e-9;
    return 0;
}

/* Below the target at this load? */
static int keeps(const struct scenario *s, double load, double target, double p, bool *ret,
                 struct err *err)
{
    struct scenario_point point;
    double value;
    int r = scenario_predict(s, load, s->nr_classes, &point, err);

    value = p >= .985 ? point.p99 : p >= .9 ? point.p95 : p > 0 ? point.p50 : point.response;
    *ret = r == 0 && point.stable && value <= target;
    return r;
}

int scenario_most_load(const struct scenario *s, double target, double p, double *ret_load,
                       size_t *ret_station, struct err *err)
{
    double low = .01, high = 1, used = scenario_saturation(s, 1, ret_station);
    bool kept;
    int r = keeps(s, low, target, p, &kept, err);

    *ret_load = 0;
    if (r < 0 || !kept)
        return r;
    if (used > 0)
        high = .999 / used;
    else
        while (r == 0 && high < 1e6 && (r = keeps(s, high, target, p, &kept, err)) == 0 && kept)
            high *= 2;
    while (r == 0 && high - low > .005 * high) {
        double middle = (low + high) / 2;

        r = keeps(s, middle, target, p, &kept, err);
        if (kept)
            low = middle;
        else
            high = middle;
    }
    *ret_load = low;
    return r;
}
