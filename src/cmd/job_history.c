/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/job_history.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/job_cli.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int job_history_load(const char *queue, uint64_t limit, json_t **ret, struct err *err)
{
    char path[MANAGED_PATH_MAX], rest[48];

    snprintf(rest, sizeof(rest), "/history?limit=%llu", (unsigned long long)limit);
    managed_path_of(path, "queues", queue, rest);
    return api_ask("GET", path, NULL, ret, NULL, err);
}

int job_history_config(const json_t *history, struct queue_config *ret, struct err *err)
{
    const json_t *queue = json_object_get(history, "queue");
    int policy = queue_policy_parse(job_text(queue, "policy"));

    if (policy < 0)
        return err_set(err, policy, "the queue has the policy '%s', which is not known here",
                       job_text(queue, "policy"));
    *ret = (struct queue_config){
        .policy = (enum queue_policy)policy,
        .servers = (uint32_t)job_number(queue, "slots"),
        .capacity = {(uint64_t)llround(job_number(queue, "cpus") * 1000),
                     (uint64_t)job_number(queue, "memory_bytes")},
        .quantum_ns = (uint64_t)llround(job_number(queue, "quantum_s") * 1e9),
        .ageing_ns = (uint64_t)llround(job_number(queue, "ageing_s") * 1e9),
        .preemptive = json_is_true(json_object_get(queue, "preemptive")),
        .backfill = json_is_true(json_object_get(queue, "backfill")) ? QUEUE_BACKFILL_EASY
                                                                     : QUEUE_BACKFILL_NONE,
        .seed = 1};
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct trace_job *x = a, *y = b;

    return x->arrival < y->arrival ? -1 : x->arrival > y->arrival;
}

int job_history_trace(const json_t *history, struct trace *ret, struct err *err)
{
    const json_t *jobs = json_object_get(history, "jobs");
    size_t nr = json_array_size(jobs);
    struct trace trace = {.jobs = calloc(nr + 1, sizeof(*trace.jobs)), .capacity = nr + 1};
    json_int_t first_ns = 0,
               released_ns = json_integer_value(json_object_get(history, "released_ns"));

    if (!trace.jobs)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < nr; i++) {
        const json_t *entry = json_array_get(jobs, i), *job = json_object_get(entry, "job");
        json_int_t at_ns = json_integer_value(json_object_get(entry, "submitted_ns"));
        json_int_t waited_ns = (json_int_t)llround(job_number(job, "waited_s") * 1e9);
        struct trace_job *to = &trace.jobs[trace.nr];

        if (strcmp(job_text(job, "state"), "done") != 0 &&
            strcmp(job_text(job, "state"), "failed") != 0) {
            trace.left_out++;
            continue;
        }
        /* While the queue was held it was not its policy that let the job wait. */
        if (at_ns < released_ns && at_ns + waited_ns >= released_ns)
            at_ns = released_ns;
        if (!trace.nr)
            first_ns = at_ns;
        *to = (struct trace_job){.arrival = (double)(at_ns - first_ns) / 1e9,
                                 .burst = fmax(job_number(job, "ran_s"), 1e-9),
                                 .estimate = job_number(job, "estimate_s"),
                                 .cpus = job_number(job, "cpu_millis") / 1000,
                                 .memory_mib = job_number(job, "memory_bytes") / 1048576,
                                 .priority = (int32_t)job_number(job, "priority"),
                                 .tickets = (uint32_t)job_number(job, "tickets")};
        if (*job_text(job, "name"))
            snprintf(to->id, sizeof(to->id), "%.0f:%.15s", job_number(job, "id"),
                     job_text(job, "name"));
        else
            snprintf(to->id, sizeof(to->id), "%.0f", job_number(job, "id"));
        trace.nr++;
    }
    if (!trace.nr) {
        trace_done(&trace);
        return err_set(err, -ENODATA, "the queue has no job that ran to its end");
    }
    qsort(trace.jobs, trace.nr, sizeof(*trace.jobs), compare);
    for (size_t i = trace.nr; i-- > 0;)
        trace.jobs[i].arrival -= trace.jobs[0].arrival;
    *ret = trace;
    return 0;
}
