/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs and queues as JSON, straight into a buffer: lists of 100,000 are made so. */
#include "manager/jobs_internal.h"

#include "base/util.h"

#include <stdlib.h>

static void out_seconds(struct buf *to, const char *name, uint64_t ns)
{
    buf_printf(to, ", \"%s\": %llu.%09llu", name, (unsigned long long)(ns / 1000000000),
               (unsigned long long)(ns % 1000000000));
}

static void out_text(struct buf *to, const char *name, const char *text)
{
    buf_printf(to, ", \"%s\": ", name);
    if (text)
        out_string(to, text);
    else
        buf_append_string(to, "null");
}

static void out_moment(struct buf *to, const char *name, int64_t time_ns)
{
    buf_printf(to, ", \"%s\": ", name);
    out_time(to, time_ns);
}

void out_job(struct buf *to, const struct jobs *js, const struct job *job)
{
    static const char *const from[] = {"none", "given", "learnt"};
    const struct job_row *row = &job->row;
    uint64_t passed = job_is_live(row->state)
                          ? (uint64_t)MAX(jobs_now(js) - row->since_ns, INT64_C(0))
                          : 0;
    uint64_t ran = row->ran_ns + (row->state == JOB_RUNNING ? passed : 0);
    uint64_t waited = row->waited_ns + (row->state == JOB_RUNNING ? 0 : passed);

    buf_printf(to, "{\"id\": %llu", (unsigned long long)job->id);
    out_text(to, "name", job->name);
    out_text(to, "queue", job->queue->name);
    buf_printf(to, ", \"state\": \"%s\"",
               row->cancel && job_is_live(row->state) ? "cancelling" : job_state_name(row->state));
    out_text(to, "image", job->image);
    out_text(to, "command", job->command);
    buf_printf(to,
               ", \"isolation\": \"%s\", \"priority\": %d, \"tickets\": %u, \"cpu_millis\": %llu, "
               "\"memory_bytes\": %llu, \"restartable\": %s, \"attempts\": %u, \"pauses\": %u",
               job->vm ? "vm" : "container", row->priority, row->tickets,
               (unsigned long long)job->need[0], (unsigned long long)job->need[1],
               job->restartable ? "true" : "false", row->attempts, row->pauses);
    buf_printf(to, ", \"estimate_from\": \"%s\"", from[row->estimate_from]);
    if (row->estimate_ns)
        out_seconds(to, "estimate_s", row->estimate_ns);
    else
        buf_append_string(to, ", \"estimate_s\": null");
    out_text(to, "instance", *row->instance ? row->instance : NULL);
    out_moment(to, "submitted", job->submitted_ns);
    out_moment(to, "started", row->started_ns);
    out_moment(to, "ended", row->ended_ns);
    out_seconds(to, "ran_s", ran);
    out_seconds(to, "waited_s", waited);
    out_seconds(to, "turnaround_s", ran + waited);
    if (job_is_live(row->state))
        buf_append_string(to, ", \"exit_code\": null");
    else
        buf_printf(to, ", \"exit_code\": %d", row->exit_code);
    out_text(to, "waits_for", job->waits_for);
    out_text(to, "error", job->error ? job->error : "");
    buf_append_string(to, "}");
}

static void out_totals(struct buf *to, const struct job_queue *queue)
{
    bool first = true;

    buf_append_string(to, ", \"totals\": [");
    for (unsigned i = 0; i < QUEUE_POLICIES; i++) {
        const struct job_totals *t = &queue->totals[i];
        uint64_t ended = t->done + t->failed;
        double by = ended ? (double)ended : 1;

        if (!ended && !t->cancelled)
            continue;
        buf_printf(to,
                   "%s{\"policy\": \"%s\", \"done\": %llu, \"failed\": %llu, \"cancelled\": %llu, "
                   "\"pauses\": %llu, \"t_total_s\": %.9f, \"t_wait_s\": %.9f, \"mean_wait_s\": "
                   "%.9f, \"mean_turnaround_s\": %.9f}",
                   first ? "" : ", ", queue_policy_name((enum queue_policy)i),
                   (unsigned long long)t->done, (unsigned long long)t->failed,
                   (unsigned long long)t->cancelled, (unsigned long long)t->pauses, t->total_s,
                   t->wait_s, t->wait_s / by, t->turnaround_s / by);
        first = false;
    }
    buf_append_string(to, "]");
}

void out_job_queue(struct buf *to, const struct jobs *js, const struct job_queue *queue)
{
    json_t *document = job_queue_spec_json(&queue->spec);
    CLEANUP(freep) char *text = json_text(document, 0);

    (void)js;
    json_decref(document);
    buf_append_string(to, "{\"name\": ");
    out_string(to, queue->name);
    if (text) {
        text[strlen(text) - 1] = '\0';
        buf_printf(to, ", %s", text + 1);
    }
    out_moment(to, "created", queue->created_ns);
    buf_append_string(to, ", \"jobs\": {");
    for (int i = JOB_QUEUED; i < JOB_NR_STATES; i++)
        buf_printf(to, "%s\"%s\": %zu", i == JOB_QUEUED ? "" : ", ",
                   job_state_name((enum job_state)i), queue->nr_states[i]);
    buf_append_string(to, "}");
    out_totals(to, queue);
    buf_append_string(to, "}");
}
