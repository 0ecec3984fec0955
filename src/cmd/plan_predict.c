/* SPDX-License-Identifier: Apache-2.0 */
/* lodge plan predict: throughput, latency and utilisation of a service over its load. */
#include "cmd/plan_predict.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "model/chart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POINTS_MAX 64

static const double shares[] = {.1, .2, .3, .4, .5, .6, .7, .8, .85, .9, .95};

static void put(json_t *object, const char *name, double value)
{
    json_object_set_new(object, name, isfinite(value) ? json_real(value) : json_null());
}

json_t *plan_point(const struct scenario *s, const struct scenario_point *p)
{
    json_t *row = json_object();
    double nan = (double)NAN;

    put(row, "load", p->load);
    put(row, s->open ? "arrivals" : "customers", p->offered);
    put(row, "throughput", p->stable ? p->throughput : nan);
    put(row, "response", p->stable ? p->response : nan);
    put(row, "plus_minus", p->stable ? p->half_width : nan);
    put(row, "p50", p->stable ? p->p50 : nan);
    put(row, "p95", p->stable ? p->p95 : nan);
    put(row, "p99", p->stable ? p->p99 : nan);
    put(row, "formula", p->formula);
    for (size_t i = 0; i < s->nr_stations; i++) {
        char name[SCENARIO_NAME_MAX + 16];
        bool delay = s->stations[i].order == REQUESTS_DELAY;

        snprintf(name, sizeof(name), "%s_%s", delay ? "inside" : "busy", s->station_names[i]);
        put(row, name, !p->stable ? nan : delay ? p->inside[i] : p->utilisation[i]);
    }
    return row;
}

static int loads(const struct plan_arguments *arguments, const struct scenario *s, double *ret,
                 size_t *ret_nr, struct err *err)
{
    const char *text = plan_value(arguments, "loads");
    size_t station, nr = 0;
    double used = s->open ? scenario_saturation(s, 1, &station) : 0;

    if (!text) {
        double most = 2 * fmax(scenario_knee(s, s->nr_classes == 1 ? 0 : s->nr_classes), 1);

        for (size_t i = 0; i < ARRAY_LEN(shares); i++)
            ret[nr++] = used > 0 ? shares[i] / used : isfinite(most) ? shares[i] * most : shares[i];
        *ret_nr = nr;
        return 0;
    }
    for (;; text++) {
        char *end;

        if (nr == POINTS_MAX)
            return err_set(err, -EINVAL, "--loads: more than %d", POINTS_MAX);
        ret[nr] = strtod(text, &end);
        if (end == text || !(ret[nr] > 0 && ret[nr] < 1e9) || (*end && *end != ','))
            return err_set(err, -EINVAL,
                           "--loads '%.60s': numbers above 0, comma between, are needed", text);
        nr++;
        text = end;
        if (!*end)
            break;
    }
    *ret_nr = nr;
    return 0;
}

static int write_svg(const char *path, const struct buf *svg, int r, struct err *err)
{
    return r < 0 ? err_set(err, r, "chart '%s'", path)
                 : plan_write(path, svg->data, svg->length, err);
}

static int chart_latency(const char *path, const struct scenario *s,
                         const struct scenario_point *points, size_t nr, double knee,
                         struct err *err)
{
    double x[POINTS_MAX], mean[POINTS_MAX], p95[POINTS_MAX], p99[POINTS_MAX], formula[POINTS_MAX],
        low[POINTS_MAX], high[POINTS_MAX];
    struct chart_line lines[] = {{"mean, simulated", x, mean, nr, low, high},
                                 {"95 % below", x, p95, nr, NULL, NULL},
                                 {"99 % below", x, p99, nr, NULL, NULL},
                                 {"mean, formula", x, formula, nr, NULL, NULL}};
    struct chart_axes axes = {.x = s->open ? "arrivals a second" : "customers",
                              .y = "response (s)",
                              .mark_label = "knee"};
    CLEANUP(buf_donep) struct buf svg;
    char title[128];
    double scale = nr > 0 ? points[0].offered / points[0].load : 1;
    bool any_formula = false;

    buf_init(&svg, CHART_BYTES_MAX);
    snprintf(title, sizeof(title), "%s: latency over load", s->name);
    axes.title = title;
    axes.mark = knee * scale;
    for (size_t i = 0; i < nr; i++) {
        const struct scenario_point *p = &points[i];
        double nan = (double)NAN;

        x[i] = p->offered;
        mean[i] = p->stable ? p->response : nan;
        low[i] = p->stable ? p->response - p->half_width : nan;
        high[i] = p->stable ? p->response + p->half_width : nan;
        p95[i] = p->stable ? p->p95 : nan;
        p99[i] = p->stable ? p->p99 : nan;
        formula[i] = p->formula;
        if (i == 0) /* near saturation the tail would hide all else */
            axes.y_most = 5 * p->p99;
        any_formula = any_formula || isfinite(p->formula);
    }
    return write_svg(path, &svg, chart_lines(&svg, &axes, lines, any_formula ? 4 : 3), err);
}

static int chart_use(const char *path, const struct scenario *s,
                     const struct scenario_point *points, size_t nr, struct err *err)
{
    CLEANUP(freep) double *y = calloc(s->nr_stations * nr + 1, sizeof(double));
    CLEANUP(freep) struct chart_line *lines = calloc(s->nr_stations, sizeof(*lines));
    struct chart_axes axes = {.x = s->open ? "arrivals a second" : "customers",
                              .y = "utilisation",
                              .mark = (double)NAN,
                              .y_most = 1};
    CLEANUP(buf_donep) struct buf svg;
    double x[POINTS_MAX];
    char title[128];
    size_t used = 0;

    buf_init(&svg, CHART_BYTES_MAX);
    if (!y || !lines)
        return err_set(err, -ENOMEM, "chart");
    snprintf(title, sizeof(title), "%s: utilisation over load", s->name);
    axes.title = title;
    for (size_t i = 0; i < s->nr_stations; i++) {
        if (s->stations[i].order == REQUESTS_DELAY)
            continue;
        for (size_t k = 0; k < nr; k++) {
            x[k] = points[k].offered;
            y[i * nr + k] = points[k].stable ? points[k].utilisation[i] : (double)NAN;
        }
        lines[used++] = (struct chart_line){s->station_names[i], x, &y[i * nr], nr, NULL, NULL};
    }
    return write_svg(path, &svg, chart_lines(&svg, &axes, lines, MIN(used, (size_t)14)), err);
}

int plan_scenario_options(const struct plan_arguments *arguments, struct scenario *s,
                          struct err *err)
{
    double seed = (double)s->seed, answers = (double)s->answers, replications = s->replications;
    int r;

    if ((r = plan_number(arguments, "seed", 0, 1e15, &seed, err)) < 0 ||
        (r = plan_number(arguments, "answers", 100, 1e10, &answers, err)) < 0 ||
        (r = plan_number(arguments, "replications", 1, 10000, &replications, err)) < 0)
        return r;
    s->seed = (uint64_t)seed;
    s->answers = (uint64_t)answers;
    s->replications = (uint32_t)replications;
    return 0;
}

int plan_read_scenario(const struct document *document, struct scenario **ret, struct err *err)
{
    struct json_at root;

    json_at_root(document->root, &root);
    return scenario_read(&root, ret, err) < 0 ? document_error(document, err) : 0;
}

static int find_class(const struct plan_arguments *arguments, const struct scenario *s, size_t *ret,
                      struct err *err)
{
    const char *name = plan_value(arguments, "class");

    *ret = s->nr_classes == 1 ? 0 : s->nr_classes;
    for (size_t k = 0; name && k < s->nr_classes; k++)
        if (!strcmp(s->class_names[k], name)) {
            *ret = k;
            return 0;
        }
    return name ? err_set(err, -EINVAL, "--class: there is no class '%.40s'", name) : 0;
}

/* "bottleneck", "knee", and with --target the largest load that keeps it. */
static int judge(const struct plan_arguments *arguments, const struct scenario *s, size_t class,
                 double knee, json_t *result, struct err *err)
{
    double target = 0, percentile = 95, load;
    size_t station;
    double used = scenario_saturation(s, 1, &station);
    int r;

    if (s->open) {
        json_object_set_new(result, "bottleneck", json_string(s->station_names[station]));
        put(result, "saturated_at_load", used > 0 ? 1 / used : (double)NAN);
    }
    put(result, "knee_at_load", knee);
    (void)class;
    if ((r = plan_number(arguments, "target", 1e-9, 1e9, &target, err)) < 0 ||
        (r = plan_number(arguments, "percentile", 0, 99.9, &percentile, err)) < 0 || target <= 0)
        return r;
    if ((r = scenario_most_load(s, target, percentile / 100, &load, &station, err)) == 0)
        put(result, "most_load_for_target", load);
    return r;
}

static int predict(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    CLEANUP(document_donep) struct document document = {0};
    CLEANUP(scenario_freep) struct scenario *s = NULL;
    CLEANUP(freep) struct scenario_point *points = calloc(POINTS_MAX + 1, sizeof(*points));
    const char *svg = plan_value(arguments, "svg"), *use = plan_value(arguments, "svg-use");
    double load[POINTS_MAX], knee;
    json_t *result, *rows, *now;
    size_t nr, class;
    int r;

    if (!points)
        return err_set(err, -ENOMEM, "prediction");
    if (arguments->nr_positionals != 1)
        return err_set(err, -EINVAL, "one scenario file is needed");
    if ((r = document_load(arguments->positionals[0], &document, err)) < 0 ||
        (r = plan_read_scenario(&document, &s, err)) < 0 ||
        (r = plan_scenario_options(arguments, s, err)) < 0 ||
        (r = find_class(arguments, s, &class, err)) < 0 ||
        (r = loads(arguments, s, load, &nr, err)) < 0)
        return r;
    knee = scenario_knee(s, class);
    result = json_pack("{s:s}", "scenario", s->name);
    if ((r = judge(arguments, s, class, knee, result, err)) == 0 &&
        (r = scenario_predict(s, 1, class, &points[POINTS_MAX], err)) == 0) {
        now = plan_point(s, &points[POINTS_MAX]);
        json_object_set_new(now, "stable", json_boolean(points[POINTS_MAX].stable));
        json_object_set_new(result, "as_described", now);
    }
    json_object_set_new(result, "over_load", rows = json_array());
    for (size_t i = 0; r == 0 && i < nr; i++)
        if ((r = scenario_predict(s, load[i], class, &points[i], err)) == 0)
            json_array_append_new(rows, plan_point(s, &points[i]));
    if (r == 0 && svg)
        r = chart_latency(svg, s, points, nr, knee, err);
    if (r == 0 && use)
        r = chart_use(use, s, points, nr, err);
    if (r < 0)
        json_decref(result);
    else
        *ret = result;
    return r;
}

static const struct plan_option options[] = {
    {"loads", "LIST", "multiples of the described load; from a tenth to near saturation"},
    {"class", "NAME", "responses of this class alone"},
    {"target", "T", "find the largest load whose responses stay below so many seconds"},
    {"percentile", "P", "of them: 95, 99, 50, or 0 for the mean; 95"},
    {"answers", "N", "requests simulated at each load; 100000"},
    {"replications", "N", "independent runs instead of batch means of one"},
    {"seed", "N", "of the random numbers; 1"},
    {"svg", "FILE", "a chart of latency over load, with the knee"},
    {"svg-use", "FILE", "a chart of the stations' utilisation over load"},
    {NULL},
};

const struct plan_command plan_predict = {
    .name = "predict",
    .usage = "[OPTION...] SCENARIO.json",
    .summary = "throughput, latency and utilisation of a service over its load",
    .text = "The scenario describes stations and classes of requests; docs/planning.md has its\n"
            "schema, and lodge plan from-host writes one from what a host counts.\n",
    .options = options,
    .run = predict,
};
