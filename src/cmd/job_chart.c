/* SPDX-License-Identifier: Apache-2.0 */
/* lodge job chart: what a queue decided, drawn from its history with the planner's own chart. */
#include "cmd/job_cli.h"
#include "cmd/job_history.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/util.h"
#include "cmd/cli.h"
#include "cmd/plan.h"
#include "model/chart.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One job, a row; in order of their numbers. */
struct row {
    json_int_t job;
    char name[48];
    double arrival, end, run_since;
    bool runs;
    uint32_t server;
};

struct drawing {
    struct row *rows;
    size_t nr_rows;
    struct chart_slice *slices;
    size_t nr_slices;
    json_int_t begin_ns;
};

static double seconds(const struct drawing *d, json_int_t time_ns)
{
    return (double)(time_ns - d->begin_ns) / 1e9;
}

static struct row *find_row(struct drawing *d, json_int_t job)
{
    size_t low = 0, high = d->nr_rows;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (d->rows[middle].job < job)
            low = middle + 1;
        else
            high = middle;
    }
    return low < d->nr_rows && d->rows[low].job == job ? &d->rows[low] : NULL;
}

static void stop(struct drawing *d, struct row *row, double at)
{
    if (!row->runs)
        return;
    row->runs = false;
    if (d->nr_slices < CHART_SLICES_MAX)
        d->slices[d->nr_slices++] = (struct chart_slice){(uint32_t)(row - d->rows), row->server,
                                                         row->run_since, at};
}

static void take_rows(struct drawing *d, const json_t *jobs)
{
    for (size_t i = 0; i < d->nr_rows; i++) {
        const json_t *entry = json_array_get(jobs, i), *job = json_object_get(entry, "job");
        json_int_t at_ns = json_integer_value(json_object_get(entry, "submitted_ns"));
        struct row *row = &d->rows[i];

        if (!i)
            d->begin_ns = at_ns;
        row->job = json_integer_value(json_object_get(job, "id"));
        row->arrival = seconds(d, at_ns);
        row->end = -1;
        snprintf(row->name, sizeof(row->name), "%.0f %.36s", job_number(job, "id"),
                 *job_text(job, "name") ? job_text(job, "name") : job_text(job, "command"));
    }
}

static void take_decisions(struct drawing *d, const json_t *decisions)
{
    double now = seconds(d, (json_int_t)clock_realtime_ns());
    const json_t *decision;
    size_t i;

    json_array_foreach(decisions, i, decision)
    {
        struct row *row = find_row(d, json_integer_value(json_object_get(decision, "job")));
        double at = seconds(d, json_integer_value(json_object_get(decision, "time_ns")));
        const char *what = job_text(decision, "what");

        if (!row)
            continue;
        if (!strcmp(what, "run")) {
            row->runs = true;
            row->run_since = at;
            row->server = (uint32_t)job_number(decision, "server");
        } else if (!strcmp(what, "pause") || !strcmp(what, "lost") || !strcmp(what, "wait") ||
                   !strcmp(what, "end")) {
            stop(d, row, at);
        }
        if (!strcmp(what, "end"))
            row->end = at;
    }
    for (size_t k = 0; k < d->nr_rows; k++) {
        stop(d, &d->rows[k], now);
        if (d->rows[k].end < 0)
            d->rows[k].end = now;
    }
}

static int draw(const json_t *history, struct buf *svg, struct err *err)
{
    const json_t *jobs = json_object_get(history, "jobs"), *queue;
    struct drawing d = {.nr_rows = json_array_size(jobs)};
    CLEANUP(freep) struct row *rows = d.rows = calloc(d.nr_rows + 1, sizeof(*rows));
    CLEANUP(freep)
    struct chart_slice *slices = d.slices = calloc(CHART_SLICES_MAX, sizeof(*slices));
    CLEANUP(freep) const char **names = calloc(d.nr_rows + 1, sizeof(*names));
    CLEANUP(freep) double *arrivals = calloc(d.nr_rows + 1, sizeof(*arrivals));
    CLEANUP(freep) double *ends = calloc(d.nr_rows + 1, sizeof(*ends));
    char title[160];
    int r;

    if (!rows || !slices || !names || !arrivals || !ends)
        return err_set(err, -ENOMEM, "out of memory");
    take_rows(&d, jobs);
    take_decisions(&d, json_object_get(history, "decisions"));
    for (size_t i = 0; i < d.nr_rows; i++) {
        names[i] = rows[i].name;
        arrivals[i] = rows[i].arrival;
        ends[i] = rows[i].end;
    }
    queue = json_object_get(history, "queue");
    snprintf(title, sizeof(title), "queue %s, %s: %zu jobs", job_text(queue, "name"),
             job_text(queue, "policy"), d.nr_rows);
    r = chart_gantt(svg, title, names, arrivals, ends, d.nr_rows, slices, d.nr_slices);
    return r < 0 ? err_errno(err, r, "draw the chart") : 0;
}

int job_chart(int argc, char **argv)
{
    const char *output = "-", *limit = NULL;
    const struct managed_option options[] = {{"--output", 'o', NULL, &output},
                                             {"--limit", 'n', NULL, &limit}};
    int nr = managed_parse(&verb_job, options, ARRAY_LEN(options), argc, argv), r;
    CLEANUP(buf_donep) struct buf svg;
    struct err err = ERR_INIT;
    json_t *history = NULL;

    buf_init(&svg, CHART_BYTES_MAX);
    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr != 1)
        return cli_usage_error(&verb_job, "chart: the name of a queue is needed");
    r = job_history_load(argv[1], limit ? strtoull(limit, NULL, 10) : CHART_ROWS_MAX, &history,
                         &err);
    if (r == 0 && !json_array_size(json_object_get(history, "jobs")))
        r = err_set(&err, -ENODATA, "the queue '%s' has had no job that it remembers", argv[1]);
    if (r == 0)
        r = draw(history, &svg, &err);
    json_decref(history);
    if (r == 0)
        r = plan_write(output, svg.data, svg.length, &err);
    return r < 0 ? managed_fail(&err) : 0;
}
