/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/jobs: submitted, listed, looked at, changed, ended. */
#include "manager/api/request.h"

#include "base/util.h"
#include "manager/environment.h"
#include "manager/jobs_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MOST  1000000u
#define LIST_USUAL 10000u
#define WAIT_MOST  86400u

/* The job that args[0] names, a reference; NULL: api_fail was called. */
static struct job *find_job(struct api_request *request, struct api_reply *reply)
{
    struct jobs *js = request->m->jobs;
    const char *text = request->args[0];
    struct job *job = NULL;
    char *end;
    unsigned long long id = strtoull(text, &end, 10);

    if (*text >= '0' && *text <= '9' && !*end) {
        pthread_mutex_lock(&js->lock);
        job = job_find(js, id);
        pthread_mutex_unlock(&js->lock);
    }
    if (!job)
        api_fail(reply, 404, "there is no job '%.40s'; `lodge job ls -a` lists all", text);
    return job;
}

static void drop_job(struct jobs *js, struct job *job)
{
    pthread_mutex_lock(&js->lock);
    job_unref(job);
    pthread_mutex_unlock(&js->lock);
}

struct filter {
    const char *queue, *name, *image;
    int state; /* -1: any */
    bool all;
};

static bool fits(const struct filter *filter, const struct job *job)
{
    if (job->row.state == JOB_SUBMITTED)
        return false;
    if (filter->state >= 0 ? (int)job->row.state != filter->state
                           : !filter->all && !job_is_live(job->row.state))
        return false;
    return (!filter->queue || !strcmp(filter->queue, job->queue->name)) &&
           (!filter->name || (job->name && strstr(job->name, filter->name))) &&
           (!filter->image || !strcmp(filter->image, job->image));
}

void api_jobs(struct api_request *request, struct api_reply *reply)
{
    struct jobs *js = request->m->jobs;
    const char *state = api_query(request, "state");
    struct filter filter = {.queue = api_query(request, "queue"),
                            .name = api_query(request, "name"),
                            .image = api_query(request, "image"),
                            .state = state ? job_state_parse(state) : -1,
                            .all = api_query_flag(request, "all")};
    uint64_t limit, after, last = 0, nr = 0;
    bool more = false;

    if (state && filter.state < 0) {
        api_fail(reply, 400,
                 "state: '%.40s' is none of queued, running, paused, done, failed, cancelled",
                 state);
        return;
    }
    if (api_query_number(request, reply, "limit", LIST_MOST, LIST_USUAL, &limit) < 0 ||
        api_query_number(request, reply, "after", INT64_MAX, 0, &after) < 0)
        return;
    buf_reserve(&reply->body, 65536);
    buf_append_string(&reply->body, "{\"jobs\": [");
    pthread_mutex_lock(&js->lock);
    if (filter.queue && !job_queue_find(js, filter.queue)) {
        api_fail(reply, 404, "there is no queue '%.80s'; `lodge job queue ls` lists them",
                 filter.queue);
        pthread_mutex_unlock(&js->lock);
        return;
    }
    for (size_t i = 0; i < js->nr_table; i++) {
        const struct job *job = js->table[i];

        if (!job || job->id <= after || !fits(&filter, job))
            continue;
        if (nr == limit) {
            more = true;
            break;
        }
        if (nr++)
            buf_append(&reply->body, ",\n", 2);
        out_job(&reply->body, js, job);
        last = job->id;
    }
    pthread_mutex_unlock(&js->lock);
    buf_append_string(&reply->body, "], \"next\": ");
    if (more)
        buf_printf(&reply->body, "%llu}\n", (unsigned long long)last);
    else
        buf_append_string(&reply->body, "null}\n");
}

/* What can be known to fail at its start is refused now; one look an image. */
static int check_images(struct manager *m, const struct job_request *requests, size_t nr,
                        struct err *err)
{
    for (size_t i = 0; i < nr; i++) {
        struct spec spec;
        int r;

        if (i && !strcmp(requests[i].image, requests[i - 1].image) &&
            requests[i].vm == requests[i - 1].vm)
            continue;
        if ((r = spec_parse_text(requests[i].spec, &spec, err)) < 0)
            return r;
        if ((r = instance_check_spec(m, &spec, err)) == 0) {
            struct environment *environment;

            pthread_mutex_lock(&m->lock);
            r = environment_find_locked(m, spec_environment(&spec), &environment, err);
            pthread_mutex_unlock(&m->lock);
        }
        spec_done(&spec);
        if (r < 0)
            return r;
    }
    return 0;
}

static void submit(struct api_request *request, struct api_reply *reply,
                   struct job_request *requests, size_t nr)
{
    struct err err = ERR_INIT;
    uint64_t first = 0, count = 0;
    int r = check_images(request->m, requests, nr, &err);

    if (r == 0)
        r = jobs_submit(request->m->jobs, requests, nr, &first, &count, &err);
    if (r < 0) {
        api_fail_err(reply, r, &err);
        return;
    }
    reply->status = 201;
    buf_printf(&reply->body, "{\"id\": %llu, \"count\": %llu, \"ids\": [",
               (unsigned long long)first, (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++)
        buf_printf(&reply->body, "%s%llu", i ? "," : "", (unsigned long long)(first + i));
    buf_append_string(&reply->body, "]}\n");
}

void api_job_submit(struct api_request *request, struct api_reply *reply)
{
    struct job_request job;
    struct err err = ERR_INIT;
    int r = job_request_parse(request->json, &job, &err);

    if (r < 0) {
        api_fail_err(reply, r, &err);
        return;
    }
    submit(request, reply, &job, 1);
    job_request_done(&job);
}

void api_job_batch(struct api_request *request, struct api_reply *reply)
{
    static const char *const known[] = {"jobs", NULL};
    const json_t *list = json_object_get(request->json, "jobs");
    size_t nr = json_array_size(list), parsed = 0;
    CLEANUP(freep) struct job_request *jobs = NULL;
    struct err err = ERR_INIT;
    struct json_at root;
    int r;

    json_at_root(request->json, &root);
    if ((r = json_reject_unknown(&root, known, &err)) == 0 &&
        (!json_is_array(list) || !nr || nr > JOBS_BATCH_MAX))
        r = err_set(&err, -EINVAL, "jobs: a list of 1 to %d jobs is needed", JOBS_BATCH_MAX);
    if (r == 0 && !(jobs = calloc(nr, sizeof(*jobs))))
        r = err_set(&err, -ENOMEM, "out of memory");
    while (r == 0 && parsed < nr) {
        r = job_request_parse(json_array_get(list, parsed), &jobs[parsed], &err);
        if (r < 0)
            err_wrap(&err, "jobs[%zu]", parsed);
        else
            parsed++;
    }
    if (r == 0)
        submit(request, reply, jobs, nr);
    else
        api_fail_err(reply, r, &err);
    while (parsed-- > 0)
        job_request_done(&jobs[parsed]);
}

struct notes {
    struct buf *to;
    bool any;
};

static void out_note(uint64_t job, int64_t time_ns, const char *what, const char *why,
                     uint32_t server, void *context)
{
    struct notes *notes = context;

    (void)job;
    buf_append_string(notes->to, notes->any ? ", {\"time\": " : "{\"time\": ");
    notes->any = true;
    out_time(notes->to, time_ns);
    buf_append_string(notes->to, ", \"what\": ");
    out_string(notes->to, what);
    buf_append_string(notes->to, ", \"why\": ");
    out_string(notes->to, why);
    buf_printf(notes->to, ", \"server\": %u}", server);
}

static void reply_job(struct api_request *request, struct api_reply *reply, const struct job *job)
{
    struct jobs *js = request->m->jobs;

    pthread_mutex_lock(&js->lock);
    if (job->gone)
        api_fail(reply, 404, "job %llu was removed", (unsigned long long)job->id);
    else
        out_job(&reply->body, js, job);
    pthread_mutex_unlock(&js->lock);
}

/* With its specification and its history. */
void api_job(struct api_request *request, struct api_reply *reply)
{
    struct jobs *js = request->m->jobs;
    struct job *job = find_job(request, reply);
    CLEANUP(freep) char *spec = NULL;
    struct notes notes = {.to = &reply->body};
    struct err err = ERR_INIT;
    int r;

    if (!job)
        return;
    if ((r = job_store_read_spec(js, job->id, &spec, &err)) < 0) {
        api_fail_err(reply, r, &err);
    } else {
        reply_job(request, reply, job);
        if (reply->status == 200) {
            reply->body.length--; /* the brace */
            buf_printf(&reply->body, ", \"spec\": %s, \"history\": [", spec);
            job_store_read_notes(js, NULL, job->id, out_note, &notes, &err);
            buf_append_string(&reply->body, "]}\n");
        }
    }
    drop_job(js, job);
}

/* What a change of a job is answered with. */
static void reply_changed(struct api_request *request, struct api_reply *reply, struct job *job,
                          int r, const struct err *err)
{
    if (r < 0) {
        api_fail_err(reply, r, err);
    } else {
        reply_job(request, reply, job);
        buf_append(&reply->body, "\n", 1);
    }
    drop_job(request->m->jobs, job);
}

void api_job_patch(struct api_request *request, struct api_reply *reply)
{
    struct job *job = find_job(request, reply);
    struct err err = ERR_INIT;

    if (job)
        reply_changed(request, reply, job, job_change(request->m->jobs, job, request->json, &err),
                      &err);
}

static bool has_ended(const struct job *job)
{
    return !job_is_live(job->row.state) && job_is_stored(job) && !*job->row.instance;
}

static bool has_started(const struct job *job)
{
    return job->row.state != JOB_QUEUED;
}

void api_job_cancel(struct api_request *request, struct api_reply *reply)
{
    struct job *job;
    struct err err = ERR_INIT;
    uint64_t wait_s;
    int r;

    if (api_query_number(request, reply, "wait", WAIT_MOST, 0, &wait_s) < 0 ||
        !(job = find_job(request, reply)))
        return;
    r = job_cancel(request->m->jobs, job, &err);
    if (r == 0 && wait_s)
        jobs_wait(request->m->jobs, job, has_ended, wait_s * 1000);
    reply_changed(request, reply, job, r, &err);
}

void api_job_delete(struct api_request *request, struct api_reply *reply)
{
    struct jobs *js = request->m->jobs;
    struct job *job = find_job(request, reply);
    struct err err = ERR_INIT;
    int r = 0;

    if (!job)
        return;
    if (api_query_flag(request, "force")) {
        r = job_cancel(js, job, &err);
        if (r == 0 || r == -EALREADY)
            r = jobs_wait(js, job, has_ended, 120000)
                    ? 0
                    : err_set(&err, -ETIMEDOUT, "job %llu does not end",
                              (unsigned long long)job->id);
    }
    if (r == 0)
        r = job_forget(js, job, &err);
    if (r < 0)
        api_fail_err(reply, r, &err);
    else
        buf_printf(&reply->body, "{\"removed\": %llu}\n", (unsigned long long)job->id);
    drop_job(js, job);
}

void api_job_wait(struct api_request *request, struct api_reply *reply)
{
    const char *wanted = api_query(request, "condition") ?: "ended";
    bool started = !strcmp(wanted, "started");
    struct job *job;
    uint64_t timeout_s;
    int reached;

    if (!started && strcmp(wanted, "ended") != 0) {
        api_fail(reply, 400, "condition: '%.40s' is none of started, ended", wanted);
        return;
    }
    if (api_query_number(request, reply, "timeout", WAIT_MOST, WAIT_MOST, &timeout_s) < 0 ||
        !(job = find_job(request, reply)))
        return;
    reached = jobs_wait(request->m->jobs, job, started ? has_started : has_ended, timeout_s * 1000);
    reply_job(request, reply, job);
    buf_append(&reply->body, "\n", 1);
    if (!reached && reply->status == 200)
        reply->status = 504;
    drop_job(request->m->jobs, job);
}

/* Of a job that has ended: what was kept. Before: its instance's. */
void api_job_logs(struct api_request *request, struct api_reply *reply)
{
    struct manager *m = request->m;
    struct job *job = find_job(request, reply);
    struct instance *instance = NULL;
    char path[PATH_SIZE], kept[PATH_SIZE], id[INSTANCE_ID_LENGTH + 1];

    if (!job)
        return;
    pthread_mutex_lock(&m->jobs->lock);
    memcpy(id, job->row.instance, sizeof(id));
    pthread_mutex_unlock(&m->jobs->lock);
    pthread_mutex_lock(&m->lock);
    if (*id && (instance = instance_find_id(m, id)))
        instance_ref_locked(instance);
    pthread_mutex_unlock(&m->lock);
    jobs_log_path(m, kept, job->id);
    manager_path(m, path, sizeof(path), "instances/%s/log", *id ? id : "none");
    drop_job(m->jobs, job);
    api_send_log(request, reply, instance ? path : kept, kept, instance);
}
