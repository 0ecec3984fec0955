/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The job queues put together, and gone on with after a start. What a row says a queue decided
 * stands; the time that passed while no manager lived counts as what the job was then. A worker
 * looks at each job that has an instance, and at its leisure makes true what the row says.
 */
#include "manager/jobs_internal.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

int jobs_new(struct manager *m, struct err *err)
{
    struct jobs *js = calloc(1, sizeof(*js));
    pthread_condattr_t monotonic;
    char path[PATH_SIZE];
    int r;

    if (!js)
        return err_set(err, -ENOMEM, "out of memory");
    js->m = m;
    js->next_id = 1;
    js->base_real_ns = (int64_t)clock_realtime_ns();
    js->base_monotonic_ns = clock_monotonic_ns();
    pthread_mutex_init(&js->lock, NULL);
    pthread_mutex_init(&js->reader_lock, NULL);
    pthread_cond_init(&js->changed, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&js->clock_changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    m->jobs = js;
    manager_path(m, path, sizeof(path), "jobs");
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "make '%s'", path);
    if ((r = estimator_new(&(struct estimate_config){0}, &js->estimates, err)) < 0)
        return r;
    return 0;
}

int jobs_load_queue(struct jobs *js, const char *name, const char *config, int64_t created_ns)
{
    struct job_queue_spec spec;
    struct job_queue *queue;
    struct err err = ERR_INIT;
    json_t *document = NULL;
    int64_t released_ns = 0;
    int r;

    job_queue_spec_init(&spec, (uint32_t)get_nprocs());
    r = json_parse(config, strlen(config), name, &document, &err);
    if (r == 0) {
        released_ns = json_integer_value(json_object_get(document, "released_ns"));
        json_object_del(document, "released_ns");
        r = job_queue_spec_change(document, &spec, &err);
    }
    if (r < 0)
        log_error("queue %s: %s; its usual configuration takes its place", name, err.message);
    json_decref(document);
    r = job_queue_insert(js, name, &spec, created_ns, &queue, &err);
    if (r == 0)
        queue->released_ns = released_ns;
    return r == -ENOMEM ? r : 0;
}

int jobs_load_job(struct jobs *js, const struct job *loaded, const char *queue)
{
    struct job *job = calloc(1, sizeof(*job));
    int r;

    if (!job)
        return -ENOMEM;
    *job = *loaded;
    job->nr_refs = 1;
    job->handle = QUEUE_NO_JOB;
    job->queue = job_queue_find(js, queue);
    job->name = loaded->name ? strdup(loaded->name) : NULL;
    job->image = strdup(loaded->image);
    job->command = strdup(loaded->command);
    job->error = loaded->error ? strdup(loaded->error) : NULL;
    job->end_stored = !job_is_live(job->row.state);
    if (!job->queue || (r = job_insert(js, job)) < 0) {
        log_error("job %llu is left out: %s", (unsigned long long)loaded->id,
                  job->queue ? "there are too many" : "its queue is gone");
        job_unref(job);
        return 0;
    }
    js->next_id = MAX(js->next_id, job->id + 1);
    /* The host's clock may have been put back. */
    if (job->row.since_ns > js->base_real_ns)
        js->base_real_ns = job->row.since_ns;
    return 0;
}

int jobs_load_class(struct jobs *js, const struct estimate_class *state)
{
    struct estimate_class named = *state;
    char name[JOBS_CLASS_NAME_MAX];

    /* The estimator goes by the hash of the name that we give it. */
    job_class_name(state->name_hash, name);
    named.name_hash = hash_bytes(HASH_START, name, strlen(name));
    estimator_restore(js->estimates, &named);
    return 0;
}

int jobs_load_totals(struct jobs *js, const char *queue, unsigned policy,
                     const struct job_totals *totals)
{
    struct job_queue *found = job_queue_find(js, queue);

    if (found && policy < QUEUE_POLICIES)
        found->totals[policy] = *totals;
    return 0;
}

/* Logs of jobs that are not there: we were killed between the row's end and the file's. */
static void sweep_logs(struct jobs *js)
{
    char dir[PATH_SIZE], path[PATH_SIZE + 256];
    struct dirent *entry;
    DIR *d;

    manager_path(js->m, dir, sizeof(dir), "jobs");
    if (!(d = opendir(dir)))
        return;
    while ((entry = readdir(d))) {
        char *end;
        uint64_t id = strtoull(entry->d_name, &end, 10);
        struct job *job = id ? job_find(js, id) : NULL;

        if (id && !job && !strncmp(end, ".log", 4)) {
            snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
            unlink(path);
        }
        job_unref(job);
    }
    closedir(d);
}

static int compare_ended(const void *a, const void *b)
{
    const struct job *x = *(struct job *const *)a, *y = *(struct job *const *)b;

    return x->row.ended_ns < y->row.ended_ns ? -1 : x->row.ended_ns > y->row.ended_ns;
}

static int list_ended(struct jobs *js)
{
    CLEANUP(freep) struct job **ended = calloc(js->nr_table + 1, sizeof(struct job *));
    size_t nr = 0;

    if (!ended)
        return -ENOMEM;
    for (size_t i = 0; i < js->nr_table; i++)
        if (!job_is_live(js->table[i]->row.state))
            ended[nr++] = js->table[i];
    qsort(ended, nr, sizeof(*ended), compare_ended);
    for (size_t i = 0; i < nr; i++)
        job_ended_list(ended[i], true);
    return 0;
}

/* Its instance is told whose it is; a job whose instance is gone has ended unseen. */
static void claim_instance(struct jobs *js, struct job *job)
{
    struct instance *instance;

    pthread_mutex_lock(&js->m->lock);
    if ((instance = instance_find_id(js->m, job->row.instance)))
        instance->job = job->id;
    pthread_mutex_unlock(&js->m->lock);
    job->stale = job->row.state == JOB_QUEUED;
    job->unsure = true;
}

static int go_on(struct jobs *js, struct err *err)
{
    int r = list_ended(js);

    if (r < 0)
        return err_errno(err, r, "load the jobs");
    for (size_t i = 0; i < js->nr_table; i++)
        if (*js->table[i]->row.instance)
            claim_instance(js, js->table[i]);
    for (struct job_queue *queue = js->queues; queue; queue = queue->next) {
        struct queue_config config = queue->spec.config;

        if ((r = job_queue_rebuild(js, queue, &config, err)) < 0)
            return r;
    }
    js->open = true;
    for (size_t i = 0; i < js->nr_table; i++) {
        struct job *job = js->table[i];

        if (*job->row.instance || job->row.state == JOB_RUNNING || job->row.cancel || job->dirty)
            job_kick(js, job);
    }
    for (struct job_queue *queue = js->queues; queue; queue = queue->next)
        jobs_pump(js, queue);
    return 0;
}

/* Asks each queue again when it wanted to be asked. */
static void *clock_main(void *context)
{
    struct jobs *js = context;
    uint64_t look_ns = 0; /* when those that wait for room are looked at again */

    pthread_mutex_lock(&js->lock);
    while (!js->stop) {
        uint64_t now = jobs_queue_time(jobs_now(js)), next = QUEUE_NEVER;
        bool look = js->room_changed || now >= look_ns;

        js->room_changed = false;
        if (look)
            look_ns = QUEUE_NEVER;
        for (struct job_queue *at = js->queues; at; at = at->next) {
            if (at->next_ns <= now)
                jobs_pump(js, at);
            if (at->short_of_room && (!look || jobs_room_look(js, at)))
                look_ns = MIN(look_ns, now + NS_PER_S);
            next = MIN(next, at->next_ns);
        }
        now = jobs_queue_time(jobs_now(js));
        next = MIN(next, look_ns);
        if (js->room_changed || js->stop)
            continue;
        if (next == QUEUE_NEVER) {
            pthread_cond_wait(&js->clock_changed, &js->lock);
        } else if (next > now) {
            uint64_t until = clock_monotonic_ns() + MIN(next - now, 3600 * NS_PER_S);
            struct timespec deadline = {(time_t)(until / NS_PER_S), (long)(until % NS_PER_S)};

            pthread_cond_timedwait(&js->clock_changed, &js->lock, &deadline);
        }
    }
    pthread_mutex_unlock(&js->lock);
    return NULL;
}

int jobs_open(struct manager *m, struct err *err)
{
    struct jobs *js = m->jobs;
    struct store_change tables = {.also = job_store_schema, .context = js};
    struct store_change load = {.also = job_store_load, .context = js};
    int r;

    if ((r = state_store_apply(m->store, &tables, err)) < 0)
        return err_wrap(err, "the tables of jobs");
    pthread_mutex_lock(&js->lock);
    /* The only change that is under way: nobody else knows of us yet. */
    r = state_store_apply(m->store, &load, err);
    pthread_mutex_unlock(&js->lock);
    if (r < 0 || (r = job_store_open_reader(js, err)) < 0)
        return err_wrap(err, "load the jobs");
    if (!job_queue_find(js, "default")) {
        json_t *nothing = json_object();

        r = job_queue_make(js, "default", nothing, err);
        json_decref(nothing);
        if (r < 0)
            return r;
    }
    jobs_images_pin(js);
    pthread_mutex_lock(&js->lock);
    sweep_logs(js);
    if ((r = go_on(js, err)) == 0) {
        r = -pthread_create(&js->clock, NULL, clock_main, js);
        js->clock_runs = r == 0;
        if (r < 0)
            err_errno(err, r, "start the clock of the job queues");
    }
    pthread_mutex_unlock(&js->lock);
    return r;
}

void jobs_stop(struct manager *m)
{
    struct jobs *js = m->jobs;

    if (!js)
        return;
    pthread_mutex_lock(&js->lock);
    js->stop = true;
    pthread_cond_broadcast(&js->changed);
    pthread_cond_broadcast(&js->clock_changed);
    pthread_mutex_unlock(&js->lock);
    if (js->clock_runs)
        pthread_join(js->clock, NULL);
    js->clock_runs = false;
}

void jobs_free(struct manager *m)
{
    struct jobs *js = m->jobs;

    if (!js)
        return;
    m->jobs = NULL;
    for (struct job_queue *queue = js->queues; queue; queue = queue->next)
        while (queue->deferred) {
            struct job *first = queue->deferred;

            queue->deferred = first->next_deferred;
            job_unref(first);
        }
    for (size_t i = 0; i < js->nr_table; i++)
        job_unref(js->table[i]);
    while (js->queues) {
        struct job_queue *first = js->queues;

        js->queues = first->next;
        job_queue_free(first);
    }
    job_store_close_reader(js);
    jobs_images_free(js);
    estimator_free(js->estimates);
    free(js->table);
    pthread_cond_destroy(&js->changed);
    pthread_cond_destroy(&js->clock_changed);
    pthread_mutex_destroy(&js->lock);
    pthread_mutex_destroy(&js->reader_lock);
    free(js);
}
