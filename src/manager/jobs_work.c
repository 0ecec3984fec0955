/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the queue decided, carried out on a job's instance: by one worker a job at a time, step by
 * step until there is nothing left to do. Each step compares what the row says with what the
 * instance is, so it does not matter how often, or after which crash, it is asked.
 */
#include "manager/jobs_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_TIMEOUT_S 10
/* From a guest's end to its shim's word of it. */
#define AWAIT_NS (3 * NS_PER_S)

int jobs_log_path(const struct manager *m, char ret[PATH_SIZE], uint64_t id)
{
    return manager_path(m, ret, PATH_SIZE, "jobs/%llu.log", (unsigned long long)id);
}

/* What cannot be refused: tried until the store takes it or we stop. */
static int store_surely(struct jobs *js, const struct store_change *change)
{
    struct err err = ERR_INIT;
    bool said = false;
    int r;

    while ((r = state_store_apply(js->m->store, change, &err)) < 0) {
        if (!said)
            log_error("jobs: %s; trying again", err.message);
        said = true;
        if (atomic_load(&js->m->stopping))
            return r;
        usleep(500000);
    }
    return 0;
}

/* With the lock: what is to be stored of it. Its notes go along. */
static void take_snapshot(struct jobs *js, struct job *job, struct job_update_row *ret)
{
    char class[JOBS_CLASS_NAME_MAX];
    struct estimate guess;

    *ret = (struct job_update_row){.js = js,
                                   .job = job,
                                   .row = job->row,
                                   .error = job->error,
                                   .notes = job->notes,
                                   .nr_notes = job->nr_notes,
                                   .ended = !job_is_live(job->row.state) && !job->end_stored};
    job->notes = NULL;
    job->nr_notes = job->notes_capacity = 0;
    job->dirty = false;
    job->storing = true;
    if (!ret->ended || job->row.state != JOB_DONE)
        return;
    job_class_name(job->class_hash, class);
    estimator_ask(js->estimates, class, &guess);
    if (guess.of_class)
        ret->learnt = (struct estimate_class){.name_hash = job->class_hash,
                                              .mean_ns = (double)guess.mean_ns,
                                              .deviation_ns = (double)guess.deviation_ns,
                                              .runs = guess.runs};
}

/* With the lock. r: what the store said. */
static void snapshot_done(struct jobs *js, struct job *job, struct job_update_row *taken, int r)
{
    free((void *)(uintptr_t)taken->notes);
    job->storing = false;
    if (r < 0)
        job->dirty = true;
    else if (taken->ended)
        job->end_stored = true;
    pthread_cond_broadcast(&js->changed);
}

/* With the lock, which is let go meanwhile. */
static void store_row(struct jobs *js, struct job *job)
{
    struct job_update_row update;
    struct store_change change = {.also = job_store_update, .context = &update};
    int r;

    take_snapshot(js, job, &update);
    pthread_mutex_unlock(&js->lock);
    r = store_surely(js, &change);
    pthread_mutex_lock(&js->lock);
    snapshot_done(js, job, &update, r);
}

static int store_with_instance(struct sqlite3 *db, const struct instance *instance, void *context)
{
    struct job_update_row *update = context;

    snprintf(update->row.instance, sizeof(update->row.instance), "%s", instance->id);
    return job_store_update(db, update);
}

/* The job's specification as that of an instance. */
static int make_document(struct jobs *js, const struct job *job, json_t **ret, struct err *err)
{
    CLEANUP(freep) char *text = NULL;
    json_t *labels;
    int r = job_store_read_spec(js, job->id, &text, err);

    if (r < 0 || (r = json_parse(text, strlen(text), "spec", ret, err)) < 0)
        return r;
    if (!(labels = json_object_get(*ret, "labels"))) {
        labels = json_object();
        json_object_set_new(*ret, "labels", labels);
    }
    json_object_set_new(labels, "lodge.job", json_sprintf("%llu", (unsigned long long)job->id));
    json_object_set_new(*ret, "name", json_sprintf("job-%llu", (unsigned long long)job->id));
    return 0;
}

/* Without the lock: the instance and the row that names it, in one transaction. */
static int make_instance(struct jobs *js, struct job *job, struct instance **ret, struct err *err)
{
    struct job_update_row update;
    struct instance_also also = {.fn = store_with_instance, .context = &update};
    json_t *document = NULL;
    int r = make_document(js, job, &document, err);

    if (r < 0)
        return r;
    pthread_mutex_lock(&js->lock);
    take_snapshot(js, job, &update);
    update.must_exist = true;
    pthread_mutex_unlock(&js->lock);
    r = instance_create(js->m, document, &also, ret, err);
    if (r == -EEXIST) /* somebody has that name: then without one */
        r = instance_create(js->m, document, &also, ret, err);
    json_decref(document);
    pthread_mutex_lock(&js->lock);
    snapshot_done(js, job, &update, r);
    if (r == 0)
        snprintf(job->row.instance, sizeof(job->row.instance), "%s", (*ret)->id);
    pthread_mutex_unlock(&js->lock);
    if (r < 0)
        return r;
    pthread_mutex_lock(&js->m->lock);
    (*ret)->job = job->id;
    pthread_mutex_unlock(&js->m->lock);
    return 0;
}

/* What is to be made of an instance, without the lock and by who has it. *ret_over: it has ended.
 * unsure: it may be frozen, or not, whatever its row says. */
typedef int make_fn(struct jobs *js, struct instance *instance, bool unsure, bool *ret_over,
                    struct err *err);

static int freeze(struct jobs *js, struct instance *instance, bool unsure, bool pause,
                  struct err *err)
{
    if (!unsure && life_pause(js->m, instance, NULL, pause, err) == 0)
        return 0;
    return life_pause_surely(js->m, instance, pause, err);
}

static int make_run(struct jobs *js, struct instance *instance, bool unsure, bool *ret_over,
                    struct err *err)
{
    switch (instance->row.state) {
    case INSTANCE_CREATED:
        return life_start(js->m, instance, NULL, -1, err);
    case INSTANCE_PAUSED:
        return freeze(js, instance, unsure, false, err);
    case INSTANCE_RUNNING:
        return unsure ? life_pause_surely(js->m, instance, false, err) : 0;
    case INSTANCE_EXITED:
    case INSTANCE_REMOVING:
        *ret_over = true;
        return 0;
    default:
        return 0;
    }
}

static int make_pause(struct jobs *js, struct instance *instance, bool unsure, bool *ret_over,
                      struct err *err)
{
    switch (instance->row.state) {
    case INSTANCE_RUNNING:
        return freeze(js, instance, unsure, true, err);
    case INSTANCE_PAUSED:
        return unsure ? life_pause_surely(js->m, instance, true, err) : 0;
    case INSTANCE_EXITED:
    case INSTANCE_REMOVING:
        *ret_over = true;
        return 0;
    default:
        return 0;
    }
}

static int make_end(struct jobs *js, struct instance *instance, bool unsure, bool *ret_over,
                    struct err *err)
{
    struct err ignored = ERR_INIT;
    int r;

    if (unsure && instance->row.state == INSTANCE_RUNNING)
        life_pause_surely(js->m, instance, false, &ignored);
    r = life_stop(js->m, instance, NULL, SIGTERM, STOP_TIMEOUT_S, err);
    *ret_over = r == 0;
    return r;
}

/* What was to be done could not be: because it has ended by itself, or else it ends now, so that
 * nothing runs where it must not. */
static void end_instance(struct jobs *js, struct instance *instance)
{
    struct err ignored = ERR_INIT;

    if (!life_is_active(instance->row.state) || life_await_end(js->m, instance, AWAIT_NS))
        return;
    life_pause_surely(js->m, instance, false, &ignored);
    life_stop(js->m, instance, NULL, SIGKILL, 0, &ignored);
}

static struct instance *find_instance(struct jobs *js, const char *id)
{
    struct instance *instance;

    pthread_mutex_lock(&js->m->lock);
    if ((instance = instance_find_id(js->m, id)))
        instance_ref_locked(instance);
    pthread_mutex_unlock(&js->m->lock);
    return instance;
}

/* With the lock, which is let go meanwhile: fn on its instance; what came of it is taken note of.
 */
static void act(struct jobs *js, struct job *job, make_fn *fn)
{
    struct err err = ERR_INIT;
    struct instance *instance;
    char id[INSTANCE_ID_LENGTH + 1];
    bool over = false, lost = false, unsure = job->unsure, no_room = false;
    int64_t finished_ns = 0;
    int r, code = 125;

    memcpy(id, job->row.instance, sizeof(id));
    pthread_mutex_unlock(&js->lock);
    instance = find_instance(js, id);
    r = instance ? instance_acquire(js->m, instance, &err)
                 : err_set(&err, -ENOENT, "its instance was removed");
    if (r == 0) {
        r = fn(js, instance, unsure, &over, &err);
        no_room = r == -ECANCELED && instance->row.state == INSTANCE_CREATED &&
                  !admission_never(js->m, instance);
        if (r < 0 && instance->row.state != INSTANCE_EXITED && !atomic_load(&js->m->stopping))
            end_instance(js, instance);
        if (over) {
            code = instance->row.exit_code;
            finished_ns = instance->row.finished_ns;
            /* As life_settle leaves one whose end nobody saw. */
            lost = code == 255 && *instance->row.error;
            snprintf(err.message, sizeof(err.message), "%s", instance->row.error);
        }
        instance_release(js->m, instance);
    }
    instance_unref(js->m, instance);
    pthread_mutex_lock(&js->lock);
    job->unsure = job->unsure && r < 0;
    if (no_room && !atomic_load(&js->m->stopping))
        jobs_room_short(js, job, err.message);
    else if ((r < 0 || over) && !atomic_load(&js->m->stopping))
        job_end(js, job, code, lost, finished_ns, err.message);
}

/* With the lock, which is let go meanwhile. */
static void begin(struct jobs *js, struct job *job)
{
    struct instance *instance = NULL;
    struct err err = ERR_INIT;
    int r;

    pthread_mutex_unlock(&js->lock);
    r = make_instance(js, job, &instance, &err);
    instance_unref(js->m, instance);
    pthread_mutex_lock(&js->lock);
    if (r < 0 && !atomic_load(&js->m->stopping))
        job_end(js, job, 125, false, 0, err.message);
}

/* With the lock, which is let go meanwhile: what it wrote is kept, the rest goes. */
static void retire(struct jobs *js, struct job *job)
{
    char from[PATH_SIZE], to[PATH_SIZE], old[PATH_SIZE + 2];
    struct instance *instance;
    struct err err = ERR_INIT;
    char id[INSTANCE_ID_LENGTH + 1];

    memcpy(id, job->row.instance, sizeof(id));
    pthread_mutex_unlock(&js->lock);
    if ((instance = find_instance(js, id))) {
        if (instance_acquire(js->m, instance, &err) == 0) {
            if (life_is_active(instance->row.state))
                life_stop(js->m, instance, NULL, SIGKILL, 0, &err);
            manager_path(js->m, from, sizeof(from), "instances/%s/log.1", id);
            jobs_log_path(js->m, to, job->id);
            snprintf(old, sizeof(old), "%s.1", to);
            rename(from, old);
            manager_path(js->m, from, sizeof(from), "instances/%s/log", id);
            rename(from, to);
            if (life_remove(js->m, instance, NULL, true, &err) < 0)
                log_warning("job %llu: %s", (unsigned long long)job->id, err.message);
            instance_release(js->m, instance);
        }
        instance_unref(js->m, instance);
    }
    pthread_mutex_lock(&js->lock);
    if (atomic_load(&js->m->stopping))
        return;
    job->row.instance[0] = '\0';
    job->stale = false;
    job->dirty = true;
}

/* With the lock, which is let go meanwhile; it is busy, so nobody else works at it. */
static int remove_job(struct jobs *js, struct job *job)
{
    struct job_remove_rows rows = {.js = js, .id = job->id};
    struct store_change change = {.also = job_store_remove, .context = &rows};
    char path[PATH_SIZE], old[PATH_SIZE + 2];
    int r;

    pthread_mutex_unlock(&js->lock);
    if ((r = store_surely(js, &change)) == 0) {
        jobs_log_path(js->m, path, job->id);
        snprintf(old, sizeof(old), "%s.1", path);
        unlink(old);
        unlink(path);
    }
    pthread_mutex_lock(&js->lock);
    if (r < 0)
        return r;
    job_ended_list(job, false);
    job_remove(js, job);
    return 0;
}

/* With the lock. The oldest of those that ended, while there are more than are kept. */
static void forget_old(struct jobs *js, struct job_queue *queue)
{
    for (;;) {
        size_t ended = queue->nr_states[JOB_DONE] + queue->nr_states[JOB_FAILED] +
                       queue->nr_states[JOB_CANCELLED];
        struct job *oldest = queue->first_ended;
        int r;

        if (ended <= queue->spec.keep || !oldest || oldest->busy || *oldest->row.instance ||
            oldest->dirty || oldest->storing)
            return;
        oldest->busy = true;
        oldest->nr_refs++;
        r = remove_job(js, oldest);
        oldest->busy = false;
        job_unref(oldest);
        if (r < 0)
            return;
    }
}

static void defer(struct job_queue *queue, struct job *job)
{
    if (job->deferred)
        return;
    job->deferred = true;
    job->nr_refs++;
    job->next_deferred = queue->deferred;
    queue->deferred = job;
}

/* With the lock. True: it may have more to do. */
static bool step(struct jobs *js, struct job *job)
{
    enum job_state before = job->row.state;
    bool cancel = job->row.cancel;

    if (before != JOB_PAUSED)
        jobs_pausing_over(js, job);
    if (!job_is_live(before)) {
        if (job->dirty)
            store_row(js, job);
        else if (*job->row.instance)
            retire(js, job);
        return job->dirty || *job->row.instance;
    }
    if (cancel) {
        if (job->dirty)
            store_row(js, job);
        if (*job->row.instance)
            act(js, job, make_end);
        else
            job_end(js, job, 0, false, 0, NULL);
    } else if (job->stale) {
        retire(js, job);
        return true;
    } else if (before == JOB_RUNNING && job->queue->nr_pausing) {
        defer(job->queue, job);
        return false;
    } else if (before == JOB_RUNNING && !*job->row.instance) {
        begin(js, job);
        return true;
    } else if (before != JOB_QUEUED && *job->row.instance) {
        act(js, job, before == JOB_RUNNING ? make_run : make_pause);
    }
    if (job->row.state == before && before == JOB_PAUSED)
        jobs_pausing_over(js, job);
    if (job->dirty && job->row.state == before)
        store_row(js, job);
    return job->dirty || job->row.state != before || (job->row.cancel && !cancel);
}

void job_work(struct manager *m, void *context)
{
    struct jobs *js = m->jobs;
    struct job *job = context;

    pthread_mutex_lock(&js->lock);
    while (!atomic_load(&m->stopping) && step(js, job))
        ;
    job->busy = false;
    if (!job->gone && !atomic_load(&m->stopping))
        forget_old(js, job->queue);
    pthread_cond_broadcast(&js->changed);
    job_unref(job);
    pthread_mutex_unlock(&js->lock);
}

int job_forget(struct jobs *js, struct job *job, struct err *err)
{
    int r = 0;

    pthread_mutex_lock(&js->lock);
    if (job_is_live(job->row.state))
        r = err_set(err, -EBUSY,
                    "job %llu is %s; `lodge job cancel %llu` first, or `lodge job rm --force`",
                    (unsigned long long)job->id, job_state_name(job->row.state),
                    (unsigned long long)job->id);
    while (r == 0 && !job->gone && job->busy && !js->stop)
        pthread_cond_wait(&js->changed, &js->lock);
    if (r == 0 && !job->gone && !js->stop) {
        job->busy = true;
        if (*job->row.instance)
            retire(js, job);
        if ((r = remove_job(js, job)) < 0)
            err_errno(err, r, "remove job %llu", (unsigned long long)job->id);
        job->busy = false;
    }
    pthread_mutex_unlock(&js->lock);
    return r;
}
