/* SPDX-License-Identifier: Apache-2.0 */
/* lodge plan schedule, compare, trace: jobs of a file under the manager's own queues. */
#include "cmd/plan_jobs.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <stdlib.h>
#include <string.h>

static json_t *job_row(const struct trace_job *job, const struct queue_record *record)
{
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:i}", "id", job->id, "arrival",
                     (double)record->submitted_ns * 1e-9, "burst", job->burst, "start",
                     (double)record->started_ns * 1e-9, "finish", (double)record->ended_ns * 1e-9,
                     "wait", (double)record->waited_ns * 1e-9, "turnaround",
                     (double)record->turnaround_ns * 1e-9, "pauses", (int)record->pauses);
}

static json_t *slice_rows(const struct plan_run *run, const struct trace *trace)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < run->nr_slices; i++)
        json_array_append_new(rows, json_pack("{s:s, s:i, s:f, s:f}", "id",
                                              trace->jobs[run->slices[i].row].id, "server",
                                              (int)run->slices[i].server + 1, "start",
                                              run->slices[i].start, "end", run->slices[i].end));
    return rows;
}

static int write_gantt(const char *path, const struct plan_run *run, const struct trace *trace,
                       struct err *err)
{
    size_t rows = MIN(trace->nr, (size_t)CHART_ROWS_MAX);
    CLEANUP(freep) const char **names = calloc(rows, sizeof(*names));
    CLEANUP(freep) double *arrivals = calloc(rows, sizeof(*arrivals));
    CLEANUP(freep) double *ends = calloc(rows, sizeof(*ends));
    CLEANUP(buf_donep) struct buf svg;
    char title[128];
    int r;

    buf_init(&svg, CHART_BYTES_MAX);
    if (!names || !arrivals || !ends)
        return err_set(err, -ENOMEM, "chart");
    for (size_t i = 0; i < rows; i++) {
        names[i] = trace->jobs[i].id;
        arrivals[i] = trace->jobs[i].arrival;
        ends[i] = run->seen[i] ? (double)run->records[i].ended_ns * 1e-9 : arrivals[i];
    }
    snprintf(title, sizeof(title), "%s: average wait %.6g s", plan_run_policy(run),
             run->result->wait.mean);
    r = chart_gantt(&svg, title, names, arrivals, ends, trace->nr, run->slices, run->nr_slices);
    return r < 0 ? err_set(err, r, "chart '%s'", path)
                 : plan_write(path, svg.data, svg.length, err);
}

static int schedule(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    CLEANUP(trace_donep) struct trace trace = {0};
    struct plan_run run = {.detailed = true};
    const char *svg = plan_value(arguments, "svg");
    json_t *rows;
    int r = plan_run_options(arguments, &run, err);

    if (r < 0 || (r = plan_trace_options(arguments, &trace, err)) < 0)
        return r;
    r = plan_run_jobs(&run, &trace, plan_value(arguments, "blind") != NULL, err);
    if (r == 0 && svg)
        r = write_gantt(svg, &run, &trace, err);
    if (r == 0) {
        *ret = json_object();
        plan_run_summary(&run, *ret);
        if (trace.left_out)
            json_object_set_new(*ret, "left_out", json_integer((json_int_t)trace.left_out));
        json_object_set_new(*ret, "per_job", rows = json_array());
        for (size_t i = 0; i < trace.nr; i++)
            if (run.seen[i])
                json_array_append_new(rows, job_row(&trace.jobs[i], &run.records[i]));
        if (plan_value(arguments, "json"))
            json_object_set_new(*ret, "gantt", slice_rows(&run, &trace));
    }
    plan_run_done(&run);
    return r;
}

/* Every policy on the same jobs; the file's estimates for those that need them. */
static int compare(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    CLEANUP(trace_donep) struct trace trace = {0};
    const char *only = plan_value(arguments, "policies");
    struct plan_run run = {0};
    json_t *rows = json_array();
    int r = plan_run_options(arguments, &run, err);

    *ret = json_pack("{s:o}", "policies", rows);
    if (r == 0)
        r = plan_trace_options(arguments, &trace, err);
    for (unsigned policy = 0; r == 0 && policy <= QUEUE_POLICIES; policy++) {
        const char *name, *at;
        size_t length;
        json_t *row;

        if ((run.by_weight = policy == QUEUE_POLICIES) == false)
            run.config.policy = (enum queue_policy)policy;
        name = plan_run_policy(&run);
        length = strlen(name);

        at = only ? strstr(only, name) : name;
        if (!at || (only && at[length] && at[length] != ','))
            continue;
        if ((r = plan_run_jobs(&run, &trace, plan_value(arguments, "blind") != NULL, err)) == 0) {
            json_array_append_new(rows, row = json_object());
            plan_run_summary(&run, row);
        }
        plan_run_done(&run);
    }
    if (r == 0 && json_array_size(rows) == 0)
        r = err_set(err, -EINVAL, "--policies '%.60s' names no policy", only);
    if (r < 0) {
        json_decref(*ret);
        *ret = NULL;
    }
    return r;
}

static int replay(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    CLEANUP(trace_donep) struct trace trace = {0};
    double work = 0, cores = 0, last = 0;
    struct plan_run run = {0};
    json_t *about;
    int r = plan_run_options(arguments, &run, err);

    if (r < 0 || (r = plan_number(arguments, "faster", 1e-6, 1e6, &run.arrival_rate, err)) < 0 ||
        (r = plan_number(arguments, "speed", 1e-6, 1e6, &run.speed, err)) < 0 ||
        (r = plan_trace_options(arguments, &trace, err)) < 0)
        return r;
    for (size_t i = 0; i < trace.nr; i++) {
        work += trace.jobs[i].burst;
        cores += trace.jobs[i].burst * trace.jobs[i].cpus;
        last = trace.jobs[i].arrival;
    }
    if ((r = plan_run_jobs(&run, &trace, plan_value(arguments, "blind") != NULL, err)) == 0) {
        *ret = json_object();
        about = json_pack("{s:I, s:I, s:f, s:f, s:f}", "jobs", (json_int_t)trace.nr, "left_out",
                          (json_int_t)trace.left_out, "arrivals_over", last, "work_seconds", work,
                          "core_seconds", cores);
        plan_run_summary(&run, *ret);
        json_object_set_new(*ret, "events", json_integer((json_int_t)run.result->events));
        json_object_set_new(*ret, "trace", about);
    }
    plan_run_done(&run);
    return r;
}

#define FORMAT_OPTIONS                                                                \
    {"queue", "NAME", "the jobs that this queue of the manager has had, not a file"}, \
        {"format", "WORD", "auto, jobs, swf, google, azure, alibaba"},                \
    {                                                                                 \
        "scale", "N", "machine that the trace's shares are of, in cores and GiB; 1"   \
    }

static const struct plan_option schedule_options[] = {
    {"policy", "WORD", PLAN_POLICIES}, PLAN_RUN_OPTIONS, FORMAT_OPTIONS,
    {"svg", "FILE", "a Gantt chart"},  {NULL},
};

static const struct plan_option compare_options[] = {
    {"policies", "LIST", "only these, comma between"},
    PLAN_RUN_OPTIONS,
    FORMAT_OPTIONS,
    {NULL},
};

static const struct plan_option trace_options[] = {
    {"policy", "WORD", PLAN_POLICIES},
    PLAN_RUN_OPTIONS,
    FORMAT_OPTIONS,
    {"faster", "N", "arrivals come so many times faster"},
    {"speed", "N", "jobs run so many times faster"},
    {NULL},
};

const struct plan_command plan_schedule = {
    .name = "schedule",
    .usage = "[OPTION...] JOBS.csv|--queue NAME",
    .summary = "start, finish and wait of each job under one policy, and a Gantt chart",
    .text =
        "JOBS.csv names its columns in the first line: arrival and burst (seconds) are needed;\n"
        "id, priority (smaller runs first), estimate, cpus, memory (MiB) and tickets may be.\n"
        "By weights all run at once and share the --cpus: weight (1), limit (1) and reserve (0)\n"
        "cores; who reserves more than is left waits to be admitted.\n"
        "With --queue what is not given is as the queue has it (see lodge job).\n",
    .options = schedule_options,
    .run = schedule,
};

const struct plan_command plan_compare = {
    .name = "compare",
    .usage = "[OPTION...] JOBS.csv|--queue NAME",
    .summary = "the policies side by side on the same jobs",
    .options = compare_options,
    .run = compare,
};

const struct plan_command plan_trace = {
    .name = "trace",
    .usage = "[OPTION...] TRACE",
    .summary = "replays a recorded workload under one policy",
    .text = "TRACE: jobs as of schedule, Standard Workload Format, or the columns of the public\n"
            "cluster traces of Google (2011 task_events), Azure (vmtable) and Alibaba (2018\n"
            "batch_task). The format is told from the first line.\n",
    .options = trace_options,
    .run = replay,
};
