/* SPDX-License-Identifier: Apache-2.0 */
/* Between a trace (seconds, cores, MiB) and the simulation (nanoseconds, thousandths, bytes). */
#include "cmd/plan_jobs.h"
#include "cmd/job_history.h"

#include "base/util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct feed {
    struct plan_run *run;
    const struct trace *trace;
    size_t next;
    bool blind;
};

static uint64_t ns(double seconds)
{
    return seconds > 0 ? (uint64_t)llround(fmin(seconds, TRACE_TIME_MAX) * 1e9) : 0;
}

static bool next_job(void *context, struct job *ret)
{
    struct feed *feed = context;
    const struct trace_job *job;

    if (feed->next == feed->trace->nr)
        return false;
    job = &feed->trace->jobs[feed->next];
    *ret = (struct job){.number = feed->next++,
                        .arrival_ns = ns(job->arrival / feed->run->arrival_rate),
                        .burst_ns = ns(job->burst / feed->run->speed),
                        .priority = job->priority,
                        .tickets = job->tickets,
                        .weight = job->weight,
                        .limit = job->limit,
                        .reserved = job->reserve};
    if (!feed->blind)
        ret->estimate_ns = ns(job->estimate / feed->run->speed);
    if (feed->run->config.capacity[0])
        ret->need[0] = (uint64_t)llround(job->cpus * 1000);
    if (feed->run->config.capacity[1])
        ret->need[1] = (uint64_t)(job->memory_mib * 1048576);
    return true;
}

static void job_ended(void *context, const struct job *job, const struct queue_record *record)
{
    struct plan_run *run = ((struct feed *)context)->run;

    run->records[job->number] = *record;
    run->seen[job->number] = true;
}

static void job_slice(void *context, const struct job *job, uint32_t server, uint64_t start_ns,
                      uint64_t end_ns)
{
    struct plan_run *run = ((struct feed *)context)->run;

    run->nr_slices_seen++;
    if (run->nr_slices == CHART_SLICES_MAX)
        return;
    run->slices[run->nr_slices++] = (struct chart_slice){
        (uint32_t)job->number, server, (double)start_ns * 1e-9, (double)end_ns * 1e-9};
}

/* By weight there is no number of servers: so many processors. */
static double run_cores(const struct plan_run *run)
{
    return run->config.capacity[0] ? (double)run->config.capacity[0] / 1000
                                   : fmax(run->config.servers, 1);
}

const char *plan_run_policy(const struct plan_run *run)
{
    return run->by_weight ? PLAN_WEIGHTS : queue_policy_name(run->config.policy);
}

int plan_run_jobs(struct plan_run *run, const struct trace *trace, bool blind, struct err *err)
{
    struct feed feed = {run, trace, 0, blind};
    struct jobs jobs = {.next = next_job,
                        .context = &feed,
                        .lanes = &run->config,
                        .nr_lanes = 1,
                        .switch_ns = run->switch_ns};

    struct shares shares = {.cores = run_cores(run),
                            .memory = (double)run->config.capacity[1],
                            .overcommit = run->overcommit};

    if (!(run->result = calloc(1, sizeof(*run->result))))
        return err_set(err, -ENOMEM, "simulation");
    if (run->detailed) {
        run->records = calloc(trace->nr, sizeof(*run->records));
        run->seen = calloc(trace->nr, sizeof(*run->seen));
        run->slices = calloc(CHART_SLICES_MAX, sizeof(*run->slices));
        if (!run->records || !run->seen || !run->slices)
            return err_set(err, -ENOMEM, "simulation");
        jobs.ended = job_ended;
        jobs.slice = job_slice;
    }
    return run->by_weight ? shares_simulate(&jobs, &shares, run->result, err)
                          : jobs_simulate(&jobs, run->result, err);
}

void plan_run_done(struct plan_run *run)
{
    free(run->records);
    free(run->seen);
    free(run->slices);
    free(run->result);
    run->records = NULL;
    run->seen = NULL;
    run->slices = NULL;
    run->result = NULL;
}

void plan_run_summary(const struct plan_run *run, json_t *object)
{
    const struct jobs_result *r = run->result;
    double span = (double)(r->last_end_ns - MIN(r->last_end_ns, r->first_arrival_ns)) * 1e-9;
    double servers = run->by_weight ? run_cores(run) : run->config.servers;

    json_object_set_new(object, "policy", json_string(plan_run_policy(run)));
    json_object_set_new(object, "jobs", json_integer((json_int_t)r->ended));
    if (r->refused)
        json_object_set_new(object, "refused", json_integer((json_int_t)r->refused));
    json_object_set_new(object, "average_wait", json_real(r->wait.mean));
    json_object_set_new(object, "average_turnaround", json_real(r->turnaround.mean));
    json_object_set_new(object, "average_response", json_real(r->response.mean));
    json_object_set_new(object, "average_slowdown", json_real(r->slowdown.mean));
    json_object_set_new(object, "wait_p95", json_real(histogram_quantile(&r->wait_ns, .95) * 1e-9));
    json_object_set_new(object, "longest_wait", json_real(r->wait.most));
    json_object_set_new(object, "makespan", json_real(span));
    json_object_set_new(object, "throughput", json_real(span > 0 ? (double)r->ended / span : 0));
    if (servers > 0)
        json_object_set_new(object, "utilisation",
                            json_real(span > 0 ? r->busy_s / span / servers : 0));
    json_object_set_new(object, "pauses", json_integer((json_int_t)r->pauses));
    json_object_set_new(object, "most_at_once", json_integer((json_int_t)r->most));
}

#define HISTORY_JOBS 100000

/* What is not said otherwise: of a queue of the manager its own configuration. */
static int usual_config(const struct plan_arguments *arguments, struct queue_config *ret,
                        struct err *err)
{
    const char *queue = plan_value(arguments, "queue");
    json_t *history = NULL;
    int r;

    *ret = (struct queue_config){.quantum_ns = 1000000000, .seed = 1};
    ret->servers = plan_value(arguments, "cpus") ? 0 : 1;
    if (!queue)
        return 0;
    if ((r = job_history_load(queue, 0, &history, err)) == 0)
        r = job_history_config(history, ret, err);
    json_decref(history);
    return r;
}

int plan_run_options(const struct plan_arguments *arguments, struct plan_run *run, struct err *err)
{
    double quantum, servers, cpus, memory, ageing, lost = 0, seed = 1;
    const char *policy = plan_value(arguments, "policy");
    struct queue_config usual;
    int r = usual_config(arguments, &usual, err), number;

    if (r < 0)
        return r;
    run->by_weight = policy && !strcmp(policy, PLAN_WEIGHTS);
    number = policy && !run->by_weight ? queue_policy_parse(policy) : (int)usual.policy;
    quantum = (double)usual.quantum_ns * 1e-9;
    servers = usual.servers;
    cpus = (double)usual.capacity[0] / 1000;
    memory = (double)usual.capacity[1] / 1048576;
    ageing = (double)usual.ageing_ns * 1e-9;
    if (number < 0)
        return err_set(err, -EINVAL, "--policy '%.40s' is not one of " PLAN_POLICIES, policy);
    if ((r = plan_number(arguments, "quantum", 1e-9, 1e9, &quantum, err)) < 0 ||
        (r = plan_number(arguments, "servers", 0, QUEUE_SERVERS_MAX, &servers, err)) < 0 ||
        (r = plan_number(arguments, "cpus", .001, 1e9, &cpus, err)) < 0 ||
        (r = plan_number(arguments, "memory", 1, 1e12, &memory, err)) < 0 ||
        (r = plan_number(arguments, "ageing", 0, 1e5, &ageing, err)) < 0 ||
        (r = plan_number(arguments, "switch", 0, 1e6, &lost, err)) < 0 ||
        (r = plan_number(arguments, "overcommit", .001, 1000, &run->overcommit, err)) < 0 ||
        (r = plan_number(arguments, "seed", 0, 1e15, &seed, err)) < 0)
        return r;
    if (servers < 1 && cpus <= 0 && memory <= 0)
        return err_set(err, -EINVAL, "--servers 0 needs --cpus or --memory to limit what runs");
    run->config = (struct queue_config){
        .policy = (enum queue_policy)number,
        .servers = (uint32_t)servers,
        .capacity = {(uint64_t)llround(cpus * 1000), (uint64_t)llround(memory * 1048576)},
        .quantum_ns = ns(quantum),
        .ageing_ns = ns(ageing),
        .preemptive = plan_value(arguments, "preemptive") || usual.preemptive,
        .backfill = plan_value(arguments, "backfill") ? QUEUE_BACKFILL_EASY : usual.backfill,
        .seed = (uint64_t)seed};
    run->switch_ns = ns(lost);
    run->speed = run->arrival_rate = 1;
    return 0;
}

/* The jobs that a queue of the manager has had. */
static int queue_trace(const struct plan_arguments *arguments, struct trace *ret, struct err *err)
{
    json_t *history = NULL;
    int r = arguments->nr_positionals
                ? err_set(err, -EINVAL, "either --queue or a file of jobs, not both")
                : job_history_load(plan_value(arguments, "queue"), HISTORY_JOBS, &history, err);

    if (r == 0)
        r = job_history_trace(history, ret, err);
    json_decref(history);
    return r;
}

int plan_trace_options(const struct plan_arguments *arguments, struct trace *ret, struct err *err)
{
    const char *format = plan_value(arguments, "format");
    unsigned number = TRACE_AUTO;
    double scale = 1;
    int r = plan_number(arguments, "scale", 1e-9, 1e9, &scale, err);

    if (r < 0)
        return r;
    while (format && trace_format_names[number] && strcmp(trace_format_names[number], format) != 0)
        number++;
    if (!trace_format_names[number])
        return err_set(err, -EINVAL,
                       "--format '%.40s' is not one of auto, jobs, swf, google, azure, alibaba",
                       format);
    if (plan_value(arguments, "queue"))
        return queue_trace(arguments, ret, err);
    if (arguments->nr_positionals != 1)
        return err_set(err, -EINVAL, "one file of jobs is needed");
    return trace_load(arguments->positionals[0], (enum trace_format)number, scale, ret, err);
}
