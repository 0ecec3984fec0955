/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/queues: made, changed while they work, looked at, and what they decided. */
#include "manager/api/request.h"

#include "base/util.h"
#include "manager/jobs_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HISTORY_MOST  100000u
#define HISTORY_USUAL 10000u
#define NEXT_SHOWN    100u

void api_queues(struct api_request *request, struct api_reply *reply)
{
    struct jobs *js = request->m->jobs;
    bool first = true;

    buf_append_string(&reply->body, "{\"queues\": [");
    pthread_mutex_lock(&js->lock);
    for (const struct job_queue *at = js->queues; at; at = at->next) {
        if (!first)
            buf_append(&reply->body, ",\n", 2);
        first = false;
        out_job_queue(&reply->body, js, at);
    }
    pthread_mutex_unlock(&js->lock);
    buf_append_string(&reply->body, "]}\n");
}

/* With the lock. NULL: api_fail was called. */
static struct job_queue *find_queue(struct api_request *request, struct api_reply *reply)
{
    struct job_queue *queue = job_queue_find(request->m->jobs, request->args[0]);

    if (!queue)
        api_fail(reply, 404, "there is no queue '%.80s'; `lodge job queue ls` lists them",
                 request->args[0]);
    return queue;
}

static void reply_queue(struct api_request *request, struct api_reply *reply)
{
    struct jobs *js = request->m->jobs;
    const struct job_queue *queue;

    pthread_mutex_lock(&js->lock);
    if ((queue = find_queue(request, reply))) {
        out_job_queue(&reply->body, js, queue);
        buf_append(&reply->body, "\n", 1);
    }
    pthread_mutex_unlock(&js->lock);
}

void api_queue_create(struct api_request *request, struct api_reply *reply)
{
    const char *name = json_string_value(json_object_get(request->json, "name"));
    struct err err = ERR_INIT;
    int r = name ? job_queue_make(request->m->jobs, name, request->json, &err)
                 : err_set(&err, -EINVAL, "name: a string is needed");

    if (r < 0) {
        api_fail_err(reply, r, &err);
        return;
    }
    free(request->args[0]);
    if (!(request->args[0] = strdup(name))) {
        api_fail(reply, 503, "out of memory");
        return;
    }
    reply->status = 201;
    reply_queue(request, reply);
}

void api_queue_patch(struct api_request *request, struct api_reply *reply)
{
    struct err err = ERR_INIT;
    int r = job_queue_change(request->m->jobs, request->args[0], request->json, &err);

    if (r < 0)
        api_fail_err(reply, r, &err);
    else
        reply_queue(request, reply);
}

void api_queue_delete(struct api_request *request, struct api_reply *reply)
{
    struct err err = ERR_INIT;
    int r = job_queue_drop(request->m->jobs, request->args[0], api_query_flag(request, "force"),
                           &err);

    if (r < 0) {
        api_fail_err(reply, r, &err);
        return;
    }
    buf_append_string(&reply->body, "{\"removed\": ");
    out_string(&reply->body, request->args[0]);
    buf_append_string(&reply->body, "}\n");
}

/* With the first of those that wait, in the order in which they would be taken now. */
void api_queue(struct api_request *request, struct api_reply *reply)
{
    struct jobs *js = request->m->jobs;
    CLEANUP(freep) queue_job_t *next = calloc(NEXT_SHOWN, sizeof(*next));
    const struct job_queue *queue;
    struct queue_view view;
    size_t waiting = 0;

    if (!next) {
        api_fail(reply, 503, "out of memory");
        return;
    }
    pthread_mutex_lock(&js->lock);
    if ((queue = find_queue(request, reply))) {
        out_job_queue(&reply->body, js, queue);
        reply->body.length--; /* the brace */
        buf_append_string(&reply->body, ", \"next\": [");
        if (queue_order(queue->queue, next, NEXT_SHOWN, &waiting) < 0)
            waiting = 0;
        for (size_t i = 0; i < MIN(waiting, (size_t)NEXT_SHOWN); i++)
            if (queue_inspect(queue->queue, jobs_queue_time(jobs_now(js)), next[i], &view) == 0)
                buf_printf(&reply->body, "%s%llu", i ? ", " : "",
                           (unsigned long long)view.spec.cookie);
        buf_append_string(&reply->body, "]}\n");
    }
    pthread_mutex_unlock(&js->lock);
}

struct history {
    struct buf *to;
    uint64_t least; /* jobs below are not told of */
    bool any;
};

static void out_line(uint64_t job, int64_t time_ns, const char *what, const char *why,
                     uint32_t server, void *context)
{
    struct history *history = context;

    if (job < history->least)
        return;
    buf_printf(history->to,
               "%s{\"job\": %llu, \"time_ns\": %lld, \"what\": ", history->any ? ",\n" : "",
               (unsigned long long)job, (long long)time_ns);
    history->any = true;
    out_string(history->to, what);
    buf_append_string(history->to, ", \"why\": ");
    out_string(history->to, why);
    buf_printf(history->to, ", \"server\": %u}", server);
}

/* With the lock: the latest `limit` jobs; the lowest of their ids. */
static uint64_t out_jobs(struct buf *to, const struct jobs *js, const struct job_queue *queue,
                         uint64_t limit)
{
    size_t first = js->nr_table;
    bool any = false;

    for (uint64_t nr = 0; first > 0 && nr < limit; first--) {
        const struct job *job = js->table[first - 1];

        nr += job && job->queue == queue && job->row.state != JOB_SUBMITTED;
    }
    for (size_t i = first; i < js->nr_table; i++) {
        const struct job *job = js->table[i];

        if (!job || job->queue != queue || job->row.state == JOB_SUBMITTED)
            continue;
        if (any)
            buf_append(to, ",\n", 2);
        any = true;
        buf_printf(to, "{\"submitted_ns\": %lld, \"job\": ", (long long)job->submitted_ns);
        out_job(to, js, job);
        buf_append_string(to, "}");
    }
    if (!limit)
        return UINT64_MAX;
    return first < js->nr_table && js->table[first] ? js->table[first]->id : 0;
}

/* Jobs and decisions, for charts and for what-if. */
void api_queue_history(struct api_request *request, struct api_reply *reply)
{
    struct jobs *js = request->m->jobs;
    const struct job_queue *queue;
    struct history history = {.to = &reply->body};
    struct err err = ERR_INIT;
    uint64_t limit;
    int r;

    if (api_query_number(request, reply, "limit", HISTORY_MOST, HISTORY_USUAL, &limit) < 0)
        return;
    pthread_mutex_lock(&js->lock);
    if ((queue = find_queue(request, reply))) {
        buf_append_string(&reply->body, "{\"queue\": ");
        out_job_queue(&reply->body, js, queue);
        buf_printf(&reply->body, ", \"released_ns\": %lld, \"jobs\": [",
                   (long long)queue->released_ns);
        history.least = out_jobs(&reply->body, js, queue, limit);
        buf_append_string(&reply->body, "], \"decisions\": [");
    }
    pthread_mutex_unlock(&js->lock);
    if (!queue)
        return;
    r = job_store_read_notes(js, request->args[0], history.least, out_line, &history, &err);
    if (r < 0)
        api_fail_err(reply, r, &err);
    else
        buf_append_string(&reply->body, "]}\n");
}
