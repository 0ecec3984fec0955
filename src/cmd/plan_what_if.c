/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge plan what-if: a scenario, a fleet or a file of jobs as it is, and with changes. Both runs
 * draw from the same streams of random numbers, so that the difference is the change's.
 */
#include "cmd/plan_fleet.h"
#include "cmd/plan_jobs.h"
#include "cmd/plan_predict.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <math.h>
#include <string.h>

/* By number or by its name. */
static json_t *element(const json_t *array, const char *word, size_t *ret_index)
{
    char *end;
    size_t index = strtoul(word, &end, 10);

    if (*word && !*end && (*ret_index = index) < json_array_size(array))
        return json_array_get(array, index);
    for (size_t i = 0; i < json_array_size(array); i++) {
        json_t *one = json_array_get(array, i);
        const char *name = json_string_value(json_object_get(one, "name"));

        *ret_index = i;
        if (name && !strcmp(name, word))
            return one;
    }
    return NULL;
}

/* "stations.cpu.servers": members by name, elements by number or by their name. */
static json_t *find(json_t *value, const char *path, const char **ret_last)
{
    for (;;) {
        size_t length = strcspn(path, "."), index;
        char word[SCENARIO_NAME_MAX + 1];
        json_t *next = NULL;

        if (!path[length]) {
            *ret_last = path;
            return value;
        }
        if (length >= sizeof(word))
            return NULL;
        snprintf(word, sizeof(word), "%.*s", (int)length, path);
        next = json_is_array(value) ? element(value, word, &index) : json_object_get(value, word);
        if (!next)
            return NULL;
        value = next;
        path += length + 1;
    }
}

static int change_document(json_t *root, const char *change, struct err *err)
{
    const char *equals = strchr(change, '='), *last;
    char path[256];
    json_t *holder, *value;
    size_t index;

    if (!equals || equals == change || (size_t)(equals - change) >= sizeof(path))
        return err_set(err, -EINVAL, "'%.60s': NAME=VALUE is needed", change);
    snprintf(path, sizeof(path), "%.*s", (int)(equals - change), change);
    holder = find(root, path, &last);
    if (json_is_array(holder) && !strcmp(equals + 1, "null") &&
        element(holder, last, &index) != NULL)
        return json_array_remove(holder, index);
    if (!json_is_object(holder))
        return err_set(err, -EINVAL, "'%.60s': there is no such member in the file", path);
    if (!strcmp(equals + 1, "null"))
        return json_object_del(holder, last) == 0
                   ? 0
                   : err_set(err, -EINVAL, "'%.60s': there is no such member in the file", path);
    value = json_loads(equals + 1, JSON_DECODE_ANY, NULL);
    if (!value)
        value = json_string(equals + 1);
    if (!value || json_object_set_new(holder, last, value) < 0)
        return err_set(err, -EINVAL, "'%.60s': the value is not text", change);
    return 0;
}

/* Each number of both rows, and by how much it changed. */
static json_t *side_by_side(const json_t *before, const json_t *after)
{
    json_t *rows = json_array(), *value;
    const char *name;

    json_object_foreach((json_t *)before, name, value)
    {
        const json_t *other = json_object_get(after, name);
        double a = json_number_value(value), b = json_number_value(other);
        json_t *row;

        if (!json_is_number(value) && !json_is_string(value) && !json_is_null(value))
            continue;
        row = json_pack("{s:s, s:O, s:O?}", "figure", name, "now", value, "then", other);
        if (json_is_number(value) && json_is_number(other) && a != 0)
            json_object_set_new(row, "change_percent", json_real(100 * (b - a) / a));
        else
            json_object_set_new(row, "change_percent", json_null());
        json_array_append_new(rows, row);
    }
    return rows;
}

static int predict_once(const struct plan_arguments *arguments, const struct document *document,
                        double load, json_t **ret, struct err *err)
{
    CLEANUP(scenario_freep) struct scenario *s = NULL;
    CLEANUP(freep) struct scenario_point *point = calloc(1, sizeof(*point));
    int r;

    if (!point)
        return err_set(err, -ENOMEM, "prediction");
    if ((r = plan_read_scenario(document, &s, err)) < 0 ||
        (r = plan_scenario_options(arguments, s, err)) < 0 ||
        (r = scenario_predict(s, load, s->nr_classes == 1 ? 0 : s->nr_classes, point, err)) < 0)
        return r;
    *ret = plan_point(s, point);
    json_object_set_new(*ret, "stable", json_string(point->stable ? "yes" : "no"));
    return 0;
}

static int change_all(const struct plan_arguments *arguments, bool fleet, json_t *root,
                      double *ret_load, struct err *err)
{
    for (size_t i = 1; i < arguments->nr_positionals; i++) {
        const char *change = arguments->positionals[i];
        int r = 0;

        if (!fleet && !strncmp(change, "load=", 5))
            *ret_load = strtod(change + 5, NULL);
        else
            r = change_document(root, change, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A service, or hosts and instances. */
static int of_document(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    CLEANUP(document_donep) struct document document = {0};
    CLEANUP(json_decrefp) json_t *was = NULL, *before = NULL, *after = NULL;
    double load = 1;
    bool fleet;
    int r = document_load(arguments->positionals[0], &document, err);

    if (r < 0)
        return r;
    fleet = json_object_get(document.root, "hosts") != NULL;
    was = json_deep_copy(document.root);
    r = fleet ? plan_fleet_figures(arguments, &document, &before, err)
              : predict_once(arguments, &document, 1, &before, err);
    if (r < 0 || (r = change_all(arguments, fleet, document.root, &load, err)) < 0)
        return r;
    if (fleet && (r = plan_fleet_let_go(was, document.root, err)) == 0)
        r = plan_fleet_figures(arguments, &document, &after, err);
    else if (!fleet)
        r = predict_once(arguments, &document, load, &after, err);
    if (r < 0)
        return err_wrap(err, "with the changes"), r;
    *ret = json_pack("{s:o}", "what_if", side_by_side(before, after));
    return 0;
}

/* The same command line, with NAME=VALUE taken as --NAME VALUE. */
static int change_options(struct plan_arguments *changed, struct err *err)
{
    for (size_t i = 1; i < changed->nr_positionals; i++) {
        const char *change = changed->positionals[i], *equals = strchr(change, '=');
        size_t length = equals ? (size_t)(equals - change) : strlen(change), k = 0;

        while (k < changed->nr_options && (strlen(changed->options[k].name) != length ||
                                           strncmp(changed->options[k].name, change, length) != 0))
            k++;
        if (k == changed->nr_options)
            return err_set(
                err, -EINVAL,
                "'%.60s': jobs can be changed in policy, quantum, servers, cpus, "
                "memory, switch, overcommit, speed, faster, preemptive, ageing, backfill, blind",
                change);
        if (!equals == !!changed->options[k].value)
            return err_set(err, -EINVAL, "'%.60s': %s", change,
                           equals ? "it takes no value" : "NAME=VALUE is needed");
        changed->values[k] = equals ? equals + 1 : "";
    }
    changed->nr_positionals = 1;
    return 0;
}

static int jobs_once(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    CLEANUP(trace_donep) struct trace trace = {0};
    struct plan_run run = {0};
    int r = plan_run_options(arguments, &run, err);

    if (r == 0)
        r = plan_number(arguments, "faster", 1e-6, 1e6, &run.arrival_rate, err);
    if (r == 0)
        r = plan_number(arguments, "speed", 1e-6, 1e6, &run.speed, err);
    if (r == 0)
        r = plan_trace_options(arguments, &trace, err);
    if (r == 0)
        r = plan_run_jobs(&run, &trace, plan_value(arguments, "blind") != NULL, err);
    if (r == 0) {
        *ret = json_object();
        plan_run_summary(&run, *ret);
    }
    plan_run_done(&run);
    return r;
}

static int of_jobs(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    struct plan_arguments one = *arguments;
    json_t *before = NULL, *after = NULL;
    int r;

    one.nr_positionals = 1;
    if ((r = jobs_once(&one, &before, err)) == 0) {
        one.nr_positionals = arguments->nr_positionals;
        if ((r = change_options(&one, err)) == 0)
            r = jobs_once(&one, &after, err);
    }
    if (r == 0)
        *ret = json_pack("{s:o}", "what_if", side_by_side(before, after));
    json_decref(before);
    json_decref(after);
    return r;
}

static int what_if(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    const char *file = arguments->positionals[0];
    size_t length = file ? strlen(file) : 0;

    if (arguments->nr_positionals < 2)
        return err_set(err, -EINVAL, "a file, and at least one NAME=VALUE are needed");
    if (length > 5 && !strcmp(file + length - 5, ".json"))
        return of_document(arguments, ret, err);
    return of_jobs(arguments, ret, err);
}

static const struct plan_option options[] = {
    {"answers", "N", "scenario: requests simulated"},
    {"replications", "N", "scenario: independent runs"},
    {"instance", "NAME", "fleet: the kind of which more are to fit; the first"},
    {"busy-most", "SHARE", "fleet: hosts shall not be busier than this; 0.8"},
    {"policy", "WORD", "jobs: " PLAN_POLICIES},
    PLAN_RUN_OPTIONS,
    {"format", "WORD", "jobs: as of trace"},
    {"scale", "N", "jobs: as of trace"},
    {"faster", "N", "jobs: arrivals come so many times faster"},
    {"speed", "N", "jobs: they run so many times faster"},
    {NULL},
};

const struct plan_command plan_what_if = {
    .name = "what-if",
    .usage = "[OPTION...] FILE NAME=VALUE...",
    .summary = "a scenario, a fleet, or jobs, as they are and with changes, side by side",
    .text = "SCENARIO.json: stations.cpu.servers=4, classes.web.arrivals.rate=80, load=1.5\n"
            "FLEET.json: hosts.rack.count=3, hosts.old=null (one host less), rule=worst-fit\n"
            "jobs or a trace: policy=rr quantum=2 servers=3 speed=2\n",
    .options = options,
    .run = what_if,
};
