/* SPDX-License-Identifier: Apache-2.0 */
/* A scenario's file, member by member. */
#include "model/scenario.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <stdlib.h>
#include <string.h>

#define MEAN_MAX 1e9

static const char *const order_names[] = {"queue", "shared", "delay", NULL};

static int prefix_path(const struct json_at *at, int code, struct err *err)
{
    return err_wrap(err, "%s", at->path), code;
}

static int make(const struct json_at *at, unsigned kind, double mean, double scv,
                struct distribution *ret, struct err *err)
{
    int r = kind == DISTRIBUTION_KINDS
                ? distribution_fit(ret, mean, scv, err)
                : distribution_init(ret, (enum distribution_kind)kind, mean, scv, err);

    return r < 0 ? prefix_path(at, r, err) : 0;
}

/* A number (exponential with that mean), or {"mean", "scv", "distribution"}. */
static int read_distribution(const struct json_at *at, struct distribution *ret, struct err *err)
{
    static const char *const known[] = {"mean", "scv", "distribution", NULL};
    unsigned kind = DISTRIBUTION_KINDS;
    double mean, scv = 1;
    int r;

    if (json_is_number(at->value)) {
        mean = json_number_value(at->value);
        if (!(mean >= 0 && mean <= MEAN_MAX))
            return err_set(err, -ERANGE, "%s: %g is not in 0 to %g", at->path, mean, MEAN_MAX);
        return make(at, DISTRIBUTION_EXPONENTIAL, mean, 1, ret, err);
    }
    if ((r = json_reject_unknown(at, known, err)) < 0 ||
        (r = document_number(at, "mean", 0, MEAN_MAX, &mean, err)) < 0 ||
        (r = document_opt_word(at, "distribution", distribution_names, &kind, err)) < 0)
        return r;
    scv = kind == DISTRIBUTION_CONSTANT ? 0 : kind == DISTRIBUTION_UNIFORM ? 1.0 / 3 : 1;
    if ((r = document_opt_number(at, "scv", 0, 1e6, &scv, err)) < 0)
        return r;
    return make(at, kind, mean, scv, ret, err);
}

static int read_name(const struct json_at *at, char *ret, size_t size, struct err *err)
{
    const char *name;
    int r = json_get_string(at, "name", &name, err);

    if (r == 0 && (!*name || strlen(name) >= size))
        return err_set(err, -EINVAL, "%s.name: 1 to %zu letters are needed", at->path, size - 1);
    if (r == 0)
        snprintf(ret, size, "%s", name);
    return r;
}

static int read_station(const struct json_at *list, size_t i, struct scenario *s, struct err *err)
{
    static const char *const known[] = {"name", "kind", "servers", NULL};
    unsigned kind = REQUESTS_FCFS;
    struct json_at at;
    uint64_t servers = 1;
    int r = json_at_index(list, i, &at, err);

    if (r < 0 || (r = json_reject_unknown(&at, known, err)) < 0 ||
        (r = read_name(&at, s->station_names[i], SCENARIO_NAME_MAX, err)) < 0 ||
        (r = document_opt_word(&at, "kind", order_names, &kind, err)) < 0 ||
        (r = document_opt_count(&at, "servers", 1, 1000000, &servers, err)) < 0)
        return r;
    for (size_t k = 0; k < i; k++)
        if (!strcmp(s->station_names[k], s->station_names[i]))
            return err_set(err, -EINVAL, "%s.name: '%s' is there already", at.path,
                           s->station_names[i]);
    s->stations[i].order = (enum requests_order)kind;
    s->stations[i].servers = (uint32_t)servers;
    return 0;
}

static int read_demands(const struct json_at *class, size_t k, struct scenario *s, struct err *err)
{
    struct json_at demands, one;
    const char *name;
    json_t *value;
    int r = json_at_member(class, "demands", &demands, err);

    if (r < 0)
        return r;
    if (!json_is_object(demands.value) || json_object_size(demands.value) == 0)
        return err_set(err, -EINVAL, "%s: an object with a demand for each station is needed",
                       demands.path);
    json_object_foreach(demands.value, name, value)
    {
        size_t i = 0;

        if ((r = json_at_member(&demands, name, &one, err)) < 0)
            return r;
        while (i < s->nr_stations && strcmp(s->station_names[i], name) != 0)
            i++;
        if (i == s->nr_stations)
            return err_set(err, -EINVAL, "%s: there is no station of that name", one.path);
        if (!one.value)
            return err_set(err, -EINVAL, "%s: a number or an object is needed", one.path);
        if ((r = read_distribution(&one, &s->demands[k][i], err)) < 0)
            return r;
    }
    return 0;
}

static int read_arrivals(const struct json_at *class, struct requests_class *c, struct err *err)
{
    static const char *const known[] = {"rate", "scv", "distribution", NULL};
    unsigned kind = DISTRIBUTION_KINDS;
    struct json_at arrivals;
    double rate, scv = 1;
    int r = json_at_member(class, "arrivals", &arrivals, err);

    if (r < 0)
        return r;
    c->open = arrivals.value != NULL;
    if (!c->open)
        return 0;
    if (json_is_number(arrivals.value)) {
        r = document_number(class, "arrivals", 1e-9, 1e9, &rate, err);
    } else if ((r = json_reject_unknown(&arrivals, known, err)) == 0 &&
               (r = document_number(&arrivals, "rate", 1e-9, 1e9, &rate, err)) == 0 &&
               (r = document_opt_word(&arrivals, "distribution", distribution_names, &kind, err)) ==
                   0) {
        scv = kind == DISTRIBUTION_CONSTANT ? 0 : 1;
        r = document_opt_number(&arrivals, "scv", 0, 1e6, &scv, err);
    }
    return r < 0 ? r : make(&arrivals, kind, 1 / rate, scv, &c->between, err);
}

static int read_class(const struct json_at *list, size_t k, struct scenario *s, struct err *err)
{
    static const char *const known[] = {"name", "arrivals", "customers", "think", "demands", NULL};
    struct requests_class *c = &s->classes[k];
    struct json_at at, think;
    uint64_t customers = 0;
    int r = json_at_index(list, k, &at, err);

    if (r < 0 || (r = json_reject_unknown(&at, known, err)) < 0 ||
        (r = read_name(&at, s->class_names[k], SCENARIO_NAME_MAX, err)) < 0 ||
        (r = read_arrivals(&at, c, err)) < 0 ||
        (r = document_opt_count(&at, "customers", 1, 1000000, &customers, err)) < 0 ||
        (r = json_at_member(&at, "think", &think, err)) < 0 ||
        (r = read_demands(&at, k, s, err)) < 0)
        return r;
    if (c->open == (customers >= 1))
        return err_set(err, -EINVAL, "%s: either arrivals or customers is needed", at.path);
    c->customers = (uint32_t)customers;
    c->demand = s->demands[k];
    s->open = s->open && c->open;
    return think.value ? read_distribution(&think, &c->think, err) : 0;
}

static int read_run(const struct json_at *root, struct scenario *s, struct err *err)
{
    static const char *const known[] = {"seed",  "answers",      "warm_up",
                                        "level", "replications", NULL};
    uint64_t seed = 1, answers = 100000, replications = 1;
    struct json_at at;
    int r = json_at_member(root, "run", &at, err);

    s->warm_up = .1;
    s->level = .95;
    if (r == 0 && at.value &&
        ((r = json_reject_unknown(&at, known, err)) < 0 ||
         (r = document_opt_count(&at, "seed", 0, UINT64_C(1000000000000000), &seed, err)) < 0 ||
         (r = document_opt_count(&at, "answers", 100, UINT64_C(10000000000), &answers, err)) < 0 ||
         (r = document_opt_number(&at, "warm_up", 0, .9, &s->warm_up, err)) < 0 ||
         (r = document_opt_number(&at, "level", .5, .9999, &s->level, err)) < 0 ||
         (r = document_opt_count(&at, "replications", 1, 10000, &replications, err)) < 0))
        return r;
    s->seed = seed;
    s->answers = answers;
    s->replications = (uint32_t)replications;
    return r;
}

int scenario_read(const struct json_at *root, struct scenario **ret, struct err *err)
{
    static const char *const known[] = {"name", "stations", "classes", "run", "measured", NULL};
    CLEANUP(scenario_freep) struct scenario *s = calloc(1, sizeof(*s));
    struct json_at stations, classes;
    const char *name = "service";
    int r = json_reject_unknown(root, known, err);

    if (!s)
        return err_set(err, -ENOMEM, "scenario");
    if (r < 0 || (r = json_opt_string(root, "name", &name, err)) < 0 ||
        (r = json_at_member(root, "stations", &stations, err)) < 0 ||
        (r = json_at_member(root, "classes", &classes, err)) < 0 ||
        (r = read_run(root, s, err)) < 0)
        return r;
    snprintf(s->name, sizeof(s->name), "%.40s", name);
    s->nr_stations = json_array_size(stations.value);
    s->nr_classes = json_array_size(classes.value);
    if (s->nr_stations == 0 || s->nr_stations > REQUESTS_STATIONS_MAX)
        return err_set(err, -EINVAL, "stations: an array of 1 to %d stations is needed",
                       REQUESTS_STATIONS_MAX);
    if (s->nr_classes == 0 || s->nr_classes > REQUESTS_CLASSES_MAX)
        return err_set(err, -EINVAL, "classes: an array of 1 to %d classes is needed",
                       REQUESTS_CLASSES_MAX);
    s->open = true;
    for (size_t i = 0; r == 0 && i < s->nr_stations; i++)
        r = read_station(&stations, i, s, err);
    for (size_t k = 0; r == 0 && k < s->nr_classes; k++)
        r = read_class(&classes, k, s, err);
    if (r == 0)
        *ret = TAKE_PTR(s);
    return r;
}

void scenario_free(struct scenario *scenario)
{
    free(scenario);
}
