/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service as its owner describes it, in JSON (docs/planning.md has the schema): stations, and
 * classes of requests with their demands. From it come predictions by simulation, and by formula
 * where there is one.
 *
 * A load is a factor: open classes arrive that much faster, closed ones have that many times the
 * customers (rounded). 1 is the load that the file describes.
 */
#ifndef LODGE_MODEL_SCENARIO_H
#define LODGE_MODEL_SCENARIO_H

#include "model/document.h"
#include "model/requests.h"

#include <stdbool.h>

#define SCENARIO_NAME_MAX 48

struct scenario {
    char name[SCENARIO_NAME_MAX];
    size_t nr_stations, nr_classes;
    char station_names[REQUESTS_STATIONS_MAX][SCENARIO_NAME_MAX];
    char class_names[REQUESTS_CLASSES_MAX][SCENARIO_NAME_MAX];
    struct requests_station stations[REQUESTS_STATIONS_MAX];
    struct requests_class classes[REQUESTS_CLASSES_MAX];
    struct distribution demands[REQUESTS_CLASSES_MAX][REQUESTS_STATIONS_MAX];
    uint64_t seed, answers;
    double warm_up, level;
    uint32_t replications; /* 1: batch means of one run; more: independent runs */
    bool open;             /* all classes are */
};

/* What one load gives; of the class that is asked about. */
struct scenario_point {
    double load, offered; /* offered: arrivals a second, or customers, of all classes together */
    bool stable;          /* else nothing below is set */
    double throughput, response, half_width, p50, p95, p99;
    double formula; /* mean response; NAN where there is no formula */
    double utilisation[REQUESTS_STATIONS_MAX], inside[REQUESTS_STATIONS_MAX];
    uint64_t events;
};

/* Errors begin with the member's path (document_error adds the line). The caller frees it. */
int scenario_read(const struct json_at *root, struct scenario **ret, struct err *err);
void scenario_free(struct scenario *scenario);
static inline void scenario_freep(struct scenario **scenario)
{
    if (*scenario)
        scenario_free(*scenario);
}

/* Utilisation of the busiest station by demands alone (open classes); its index. */
double scenario_saturation(const struct scenario *scenario, double load, size_t *ret_station);

/*
 * Mean response of a class by formula, or NAN. Open: M/M/c stations, with Allen-Cunneen's factor
 * where service is in order and not exponential; the mean of all classes' demands. Closed: exact
 * mean value analysis of one class; several by Bard-Schweitzer; product form assumed.
 */
double scenario_formula(const struct scenario *scenario, double load, size_t class);

/* class: index, or nr_classes: all requests together. An unstable load is no error. */
int scenario_predict(const struct scenario *scenario, double load, size_t class,
                     struct scenario_point *ret, struct err *err);

/* Open: the load at which throughput / response (Kleinrock's power) is largest, by formula. Closed,
 * one class: where its asymptotes cross. Else NAN. */
double scenario_knee(const struct scenario *scenario, size_t class);

/* The largest load with a share p of responses (0: the mean) below `target` seconds, by simulation
 * to 1 %; 0: not even a hundredth of the present one; *ret_station: the busiest there. */
int scenario_most_load(const struct scenario *scenario, double target, double p, double *ret_load,
                       size_t *ret_station, struct err *err);

#endif
