/* SPDX-License-Identifier: Apache-2.0 */
/* Queues: made, changed while they work, taken away. */
#include "manager/jobs_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#define DROP_LIMIT_S 300

struct job_queue *job_queue_find(struct jobs *js, const char *name)
{
    struct job_queue *at = js->queues;

    while (at && strcmp(at->name, name) != 0)
        at = at->next;
    return at;
}

int job_queue_insert(struct jobs *js, const char *name, const struct job_queue_spec *spec,
                     int64_t created_ns, struct job_queue **ret, struct err *err)
{
    struct job_queue *queue, **last = &js->queues;
    int r;

    if (js->nr_queues >= JOBS_QUEUES_MAX)
        return err_set(err, -ENOSPC, "there are %d queues already, and no more can be",
                       JOBS_QUEUES_MAX);
    if (!(queue = calloc(1, sizeof(*queue))) || !(queue->name = strdup(name))) {
        free(queue);
        return err_set(err, -ENOMEM, "out of memory");
    }
    if ((r = queue_new(&spec->config, &queue->queue, err)) < 0) {
        job_queue_free(queue);
        return r;
    }
    queue->spec = *spec;
    queue->created_ns = created_ns;
    queue->next_ns = QUEUE_NEVER;
    while (*last)
        last = &(*last)->next;
    *last = queue;
    js->nr_queues++;
    *ret = queue;
    return 0;
}

void job_queue_free(struct job_queue *queue)
{
    if (!queue)
        return;
    queue_free(queue->queue);
    job_unref(queue->short_of_room);
    free(queue->name);
    free(queue);
}

static void unlink_queue(struct jobs *js, struct job_queue *queue)
{
    struct job_queue **at = &js->queues;

    while (*at && *at != queue)
        at = &(*at)->next;
    if (*at) {
        *at = queue->next;
        js->nr_queues--;
    }
    job_queue_free(queue);
}

/* Without the lock. */
static int store_queue(struct jobs *js, const char *name, const struct job_queue_spec *spec,
                       int64_t created_ns, int64_t released_ns, struct err *err)
{
    json_t *document = job_queue_spec_json(spec);
    CLEANUP(freep) char *text = NULL;
    struct job_put_queue put = {js, name, NULL, created_ns};
    struct store_change change = {.also = job_store_put_queue, .context = &put};

    json_object_set_new(document, "released_ns", json_integer(released_ns));
    put.config = text = json_text(document, JSON_COMPACT);
    json_decref(document);
    if (!text)
        return err_set(err, -ENOMEM, "out of memory");
    return state_store_apply(js->m->store, &change, err);
}

int job_queue_make(struct jobs *js, const char *name, json_t *document, struct err *err)
{
    struct job_queue *queue = NULL;
    struct job_queue_spec spec;
    int r = spec_check_name(name, err);

    job_queue_spec_init(&spec, (uint32_t)get_nprocs());
    /* A capacity takes the place of slots of which nothing is said. */
    if (!json_object_get(document, "slots") &&
        (json_object_get(document, "cpus") || json_object_get(document, "memory_bytes")))
        spec.config.servers = 0;
    if (r < 0 || (r = job_queue_spec_change(document, &spec, err)) < 0)
        return r;
    pthread_mutex_lock(&js->lock);
    if (job_queue_find(js, name))
        r = err_set(err, -EEXIST,
                    "the queue '%s' is there already; `lodge job queue update` changes it", name);
    else
        r = job_queue_insert(js, name, &spec, jobs_now(js), &queue, err);
    if (r == 0)
        queue->removing = true; /* until it is stored */
    pthread_mutex_unlock(&js->lock);
    if (r < 0)
        return r;
    r = store_queue(js, name, &spec, queue->created_ns, 0, err);
    pthread_mutex_lock(&js->lock);
    if (r < 0)
        unlink_queue(js, queue);
    else
        queue->removing = false;
    pthread_mutex_unlock(&js->lock);
    return r;
}

static int compare_since(const void *a, const void *b)
{
    const struct job *x = *(struct job *const *)a, *y = *(struct job *const *)b;

    if (x->row.since_ns != y->row.since_ns)
        return x->row.since_ns < y->row.since_ns ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* What it had by now. */
static void spec_now(const struct job *job, int64_t now, struct queue_spec *ret)
{
    uint64_t passed = (uint64_t)MAX(now - job->row.since_ns, INT64_C(0));

    job_queue_spec_of(job, ret);
    if (job->row.state == JOB_RUNNING)
        ret->ran_ns += passed;
    else
        ret->waited_ns += passed;
}

/* It runs, and the queue has no room for it any more. */
static void displace(struct jobs *js, struct job *job, int64_t now)
{
    struct queue_spec spec;

    spec_now(job, now, &spec);
    job->row.ran_ns = spec.ran_ns;
    job->row.since_ns = now;
    job->row.pauses++;
    job_set_state(job, JOB_PAUSED);
    job_note(js, job, now, "pause", "there is no room for all that ran", 0);
    job->dirty = true;
    if (!job->pausing)
        job->queue->nr_pausing++;
    job->pausing = true;
}

static size_t collect(const struct jobs *js, const struct job_queue *queue, struct job **live)
{
    size_t nr = 0;

    for (size_t i = 0; i < js->nr_table; i++)
        if (js->table[i] && js->table[i]->queue == queue && job_is_live(js->table[i]->row.state))
            live[nr++] = js->table[i];
    return nr;
}

int job_queue_rebuild(struct jobs *js, struct job_queue *queue, const struct queue_config *config,
                      struct err *err)
{
    size_t nr = queue->nr_states[JOB_QUEUED] + queue->nr_states[JOB_RUNNING] +
                queue->nr_states[JOB_PAUSED];
    CLEANUP(freep) struct job **live = calloc(nr + 1, sizeof(struct job *));
    CLEANUP(queue_freep) struct queue *fresh = NULL;
    bool turns = config->policy == QUEUE_RR || config->policy == QUEUE_STRIDE ||
                 config->policy == QUEUE_LOTTERY;
    int64_t now = jobs_now(js);
    uint64_t at = jobs_queue_time(now);
    int r = live ? queue_new(config, &fresh, err) : err_set(err, -ENOMEM, "out of memory");

    if (r < 0)
        return r;
    nr = collect(js, queue, live);
    if (turns)
        qsort(live, nr, sizeof(*live), compare_since);
    for (size_t i = 0; i < nr; i++)
        live[i]->handle = QUEUE_NO_JOB;
    /* Those that run have their places first. */
    for (int running = 1; running >= 0; running--)
        for (size_t i = 0; i < nr; i++) {
            struct job *job = live[i];
            struct queue_spec spec;
            struct err why = ERR_INIT;

            if ((job->row.state == JOB_RUNNING) != running || job->handle != QUEUE_NO_JOB ||
                (queue->short_of_room && job->row.state == JOB_QUEUED))
                continue;
            spec_now(job, now, &spec);
            if (running && queue_adopt(fresh, at, &spec, &job->handle, &why) == 0)
                continue;
            if (running) {
                displace(js, job, now);
                job_kick(js, job);
            } else if (queue_submit(fresh, at, &spec, &job->handle, &why) < 0) {
                job_end(js, job, 125, false, 0, why.message);
            }
        }
    queue_free(queue->queue);
    queue->queue = TAKE_PTR(fresh);
    queue->spec.config = *config;
    return 0;
}

/* Is there one that would never run? */
static int check_fits(const struct jobs *js, const struct job_queue *queue,
                      const struct queue_config *config, struct err *err)
{
    for (size_t i = 0; i < js->nr_table; i++) {
        const struct job *job = js->table[i];

        if (!job || job->queue != queue || !job_is_live(job->row.state))
            continue;
        for (int k = 0; k < QUEUE_RESOURCES; k++)
            if (config->capacity[k] && job->need[k] > config->capacity[k])
                return err_set(err, -EBUSY,
                               "job %llu needs %llu %s and would never run; `lodge job cancel "
                               "%llu` first",
                               (unsigned long long)job->id, (unsigned long long)job->need[k],
                               k ? "bytes of memory" : "thousandths of a processor",
                               (unsigned long long)job->id);
    }
    return 0;
}

static int missing(const char *name, struct err *err)
{
    return err_set(err, -ENOENT, "there is no queue '%.80s'; `lodge job queue ls` lists them",
                   name);
}

/* Is anything said but `hold` and `keep`, which the order of jobs does not depend on? */
static bool about_config(const json_t *document)
{
    return json_object_size(document) > (size_t)(json_object_get(document, "hold") != NULL) +
                                            (size_t)(json_object_get(document, "keep") != NULL);
}

int job_queue_change(struct jobs *js, const char *name, json_t *document, struct err *err)
{
    struct job_queue *queue;
    struct job_queue_spec spec;
    int64_t created_ns = 0, released_ns = 0;
    int r;

    pthread_mutex_lock(&js->lock);
    queue = job_queue_find(js, name);
    if (!queue || queue->removing) {
        r = missing(name, err);
    } else {
        spec = queue->spec;
        created_ns = queue->created_ns;
        released_ns = queue->released_ns;
        if (json_object_get(document, "name"))
            r = err_set(err, -EINVAL, "name: a queue keeps its name");
        else if ((r = job_queue_spec_change(document, &spec, err)) == 0)
            r = check_fits(js, queue, &spec.config, err);
        if (queue->spec.hold && !spec.hold)
            released_ns = jobs_now(js);
    }
    pthread_mutex_unlock(&js->lock);
    if (r < 0 || (r = store_queue(js, name, &spec, created_ns, released_ns, err)) < 0)
        return r;
    pthread_mutex_lock(&js->lock);
    if (!(queue = job_queue_find(js, name))) {
        r = missing(name, err);
    } else {
        if (about_config(document))
            r = job_queue_rebuild(js, queue, &spec.config, err);
        queue->spec.hold = spec.hold;
        queue->spec.keep = spec.keep;
        queue->released_ns = released_ns;
        jobs_pump(js, queue);
    }
    pthread_mutex_unlock(&js->lock);
    return r;
}

static size_t nr_live(const struct job_queue *queue)
{
    return queue->nr_states[JOB_SUBMITTED] + queue->nr_states[JOB_QUEUED] +
           queue->nr_states[JOB_RUNNING] + queue->nr_states[JOB_PAUSED];
}

static size_t nr_all(const struct job_queue *queue)
{
    return nr_live(queue) + queue->nr_states[JOB_DONE] + queue->nr_states[JOB_FAILED] +
           queue->nr_states[JOB_CANCELLED];
}

static bool any_busy(const struct jobs *js, const struct job_queue *queue)
{
    for (size_t i = 0; i < js->nr_table; i++)
        if (js->table[i] && js->table[i]->queue == queue && js->table[i]->busy)
            return true;
    return false;
}

/* With the lock, let go meanwhile. */
static int remove_rows(struct jobs *js, const struct job_queue *queue, bool queue_too,
                       struct err *err)
{
    struct job_remove_rows rows = {.js = js, .queue = queue->name, .queue_too = queue_too};
    struct store_change change = {.also = job_store_remove, .context = &rows};
    int r;

    pthread_mutex_unlock(&js->lock);
    r = state_store_apply(js->m->store, &change, err);
    pthread_mutex_lock(&js->lock);
    return r;
}

/* With the lock, let go meanwhile: those that never ran go at once, the others are ended. */
static int end_all(struct jobs *js, struct job_queue *queue, struct err *err)
{
    struct timespec deadline;
    int r;

    while (queue->nr_states[JOB_SUBMITTED] && !js->stop)
        pthread_cond_wait(&js->changed, &js->lock);
    if ((r = remove_rows(js, queue, false, err)) < 0)
        return r;
    /* From the end: what job_remove moves together lies before. */
    for (size_t i = js->nr_table; i-- > 0;) {
        struct job *job = i < js->nr_table ? js->table[i] : NULL;

        if (!job || job->queue != queue || !job_is_live(job->row.state))
            continue;
        if (job->row.state == JOB_QUEUED && !*job->row.instance && !job->busy) {
            queue_cancel(queue->queue, jobs_queue_time(jobs_now(js)), job->handle, NULL);
            job_remove(js, job);
            continue;
        }
        job->row.cancel = job->dirty = true;
        job_kick(js, job);
    }
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += DROP_LIMIT_S;
    while ((nr_live(queue) || any_busy(js, queue)) && !js->stop)
        if (pthread_cond_timedwait(&js->changed, &js->lock, &deadline) != 0)
            return err_set(err, -ETIMEDOUT, "the jobs of the queue '%s' do not end", queue->name);
    return js->stop ? err_set(err, -EAGAIN, "the manager is being stopped") : 0;
}

/* With the lock, let go meanwhile: rows, logs, totals, and the queue itself. */
static int remove_all(struct jobs *js, struct job_queue *queue, struct err *err)
{
    int r = remove_rows(js, queue, true, err);

    if (r < 0)
        return r;
    for (size_t i = js->nr_table; i-- > 0;) {
        struct job *job = i < js->nr_table ? js->table[i] : NULL;
        char path[PATH_SIZE], old[PATH_SIZE + 2];

        if (!job || job->queue != queue)
            continue;
        jobs_log_path(js->m, path, job->id);
        snprintf(old, sizeof(old), "%s.1", path);
        unlink(path);
        unlink(old);
        job_remove(js, job);
    }
    unlink_queue(js, queue);
    return 0;
}

int job_queue_drop(struct jobs *js, const char *name, bool force, struct err *err)
{
    struct job_queue *queue;
    int r = 0;

    pthread_mutex_lock(&js->lock);
    queue = job_queue_find(js, name);
    if (!queue || queue->removing)
        r = missing(name, err);
    else if (!strcmp(name, "default"))
        r = err_set(err, -EINVAL, "the queue 'default' is always there");
    else if (!force && nr_all(queue))
        r = err_set(err, -EBUSY,
                    "the queue '%s' has %zu jobs (%zu of them not ended); `lodge job queue rm "
                    "--force %s` ends and removes them, with what they wrote",
                    name, nr_all(queue), nr_live(queue), name);
    if (r == 0) {
        queue->removing = true;
        if ((r = end_all(js, queue, err)) == 0)
            r = remove_all(js, queue, err);
        if (r < 0) {
            queue->removing = false;
            jobs_pump(js, queue);
        }
    }
    pthread_mutex_unlock(&js->lock);
    return r;
}
