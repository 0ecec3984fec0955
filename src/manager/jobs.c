/* SPDX-License-Identifier: Apache-2.0 */
/* The table of jobs, how they come in, what the queues decide, and how they end. */
#include "manager/jobs_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const state_names[] = {"submitted", "queued", "running",  "paused",
                                          "done",      "failed", "cancelled"};

const char *job_state_name(enum job_state state)
{
    return state_names[state];
}

int job_state_parse(const char *name)
{
    for (int i = JOB_QUEUED; i < JOB_NR_STATES; i++)
        if (!strcmp(name, state_names[i]))
            return i;
    return -EINVAL;
}

int64_t jobs_now(const struct jobs *js)
{
    return js->base_real_ns + (int64_t)(clock_monotonic_ns() - js->base_monotonic_ns);
}

/* The place of the first whose id is not below. */
static size_t place_of(const struct jobs *js, uint64_t id)
{
    size_t low = 0, high = js->nr_table;

    while (low < high) {
        size_t middle = low + (high - low) / 2, at = middle;

        while (at < high && !js->table[at])
            at++;
        if (at < high && js->table[at]->id < id)
            low = at + 1;
        else
            high = middle;
    }
    while (low < js->nr_table && !js->table[low])
        low++;
    return low;
}

struct job *job_find(struct jobs *js, uint64_t id)
{
    size_t at = place_of(js, id);

    if (at == js->nr_table || js->table[at]->id != id || js->table[at]->row.state == JOB_SUBMITTED)
        return NULL;
    js->table[at]->nr_refs++;
    return js->table[at];
}

void job_unref(struct job *job)
{
    if (!job || --job->nr_refs)
        return;
    free(job->name);
    free(job->image);
    free(job->command);
    free(job->error);
    free(job->waits_for);
    free(job->notes);
    free(job);
}

/* Holes go when they are most of the table. */
static void compact(struct jobs *js)
{
    size_t kept = 0;

    for (size_t i = 0; i < js->nr_table; i++)
        if (js->table[i])
            js->table[kept++] = js->table[i];
    js->nr_table = kept;
}

int job_insert(struct jobs *js, struct job *job)
{
    if (js->nr_jobs >= JOBS_MAX)
        return -ENOSPC;
    if (js->nr_table == js->table_capacity) {
        size_t capacity = js->table_capacity ? js->table_capacity * 2 : 1024;
        struct job **table = reallocarray(js->table, capacity, sizeof(struct job *));

        if (!table)
            return -ENOMEM;
        js->table = table;
        js->table_capacity = capacity;
    }
    if ((job->row.state == JOB_SUBMITTED || job_is_live(job->row.state)) &&
        job_image_use(js, job) < 0)
        return -ENOMEM;
    js->table[js->nr_table++] = job;
    js->nr_jobs++;
    job->queue->nr_states[job->row.state]++;
    return 0;
}

void job_remove(struct jobs *js, struct job *job)
{
    size_t at = place_of(js, job->id);

    if (job->gone || at == js->nr_table || js->table[at] != job)
        return;
    job_image_release(js, job);
    js->table[at] = NULL;
    js->nr_jobs--;
    job->queue->nr_states[job->row.state]--;
    job->gone = true;
    if (js->nr_table > 64 && js->nr_jobs < js->nr_table / 2)
        compact(js);
    pthread_cond_broadcast(&js->changed);
    job_unref(job);
}

void job_set_state(struct job *job, enum job_state state)
{
    job->queue->nr_states[job->row.state]--;
    job->queue->nr_states[state]++;
    job->row.state = state;
}

void job_note(struct jobs *js, struct job *job, int64_t time_ns, const char *what, const char *why,
              uint32_t server)
{
    if (job->nr_notes == job->notes_capacity) {
        unsigned capacity = job->notes_capacity ? job->notes_capacity * 2 : 4;
        struct job_note *notes = reallocarray(job->notes, capacity, sizeof(*notes));

        if (!notes)
            return; /* a gap in its history, not in its life */
        job->notes = notes;
        job->notes_capacity = capacity;
    }
    job->notes[job->nr_notes++] = (struct job_note){js->next_note++, time_ns, what, why, server};
}

void job_queue_spec_of(const struct job *job, struct queue_spec *ret)
{
    *ret = (struct queue_spec){.cookie = job->id,
                               .estimate_ns = job->row.estimate_ns,
                               .priority = job->row.priority,
                               .tickets = job->row.tickets,
                               .need = {job->need[0], job->need[1]},
                               .ran_ns = job->row.ran_ns,
                               .waited_ns = job->row.waited_ns};
}

bool job_is_stored(const struct job *job)
{
    return (!job->dirty && !job->storing) || job->gone;
}

void job_kick(struct jobs *js, struct job *job)
{
    if (job->busy)
        return; /* it looks again before it leaves */
    job->busy = true;
    job->nr_refs++;
    if (work_post(js->m, job_work, job) == -ENOMEM) {
        job->busy = false;
        job->nr_refs--;
        log_error("job %llu: out of memory", (unsigned long long)job->id);
    }
}

void jobs_pausing_over(struct jobs *js, struct job *job)
{
    struct job_queue *queue = job->queue;

    if (!job->pausing)
        return;
    job->pausing = false;
    if (--queue->nr_pausing)
        return;
    while (queue->deferred) {
        struct job *first = queue->deferred;

        queue->deferred = first->next_deferred;
        first->deferred = false;
        job_kick(js, first);
        job_unref(first);
    }
}

static void carry_out(struct jobs *js, struct job_queue *queue, const struct queue_decision *said,
                      int64_t now)
{
    struct job *job = job_find(js, said->cookie);
    struct queue_view view;
    bool run = said->action == QUEUE_RUN;

    if (!job)
        return;
    if (queue_inspect(queue->queue, jobs_queue_time(now), said->job, &view) == 0) {
        job->row.ran_ns = view.ran_ns;
        job->row.waited_ns = view.waited_ns;
    }
    job_note(js, job, now, run ? "run" : "pause", queue_reason_text(said->reason), said->server);
    job_set_state(job, run ? JOB_RUNNING : JOB_PAUSED);
    job->row.since_ns = now;
    job->dirty = true;
    if (run && !job->row.started_ns)
        job->row.started_ns = now;
    if (!run) {
        job->row.pauses++;
        if (!job->pausing)
            queue->nr_pausing++;
        job->pausing = true;
    }
    job_kick(js, job);
    job_unref(job);
}

void jobs_pump(struct jobs *js, struct job_queue *queue)
{
    struct queue_decision said;
    int64_t now = jobs_now(js);
    uint64_t at = jobs_queue_time(now), next;

    if (!js->open || js->stop)
        return;
    while (!queue->spec.hold && !queue->removing && queue_decide(queue->queue, at, &said))
        carry_out(js, queue, &said, now);
    next = queue->spec.hold || queue->removing ? QUEUE_NEVER : queue_next(queue->queue, at);
    if (next < queue->next_ns)
        pthread_cond_signal(&js->clock_changed);
    queue->next_ns = next;
    pthread_cond_broadcast(&js->changed);
}

void job_ended_list(struct job *job, bool add)
{
    struct job_queue *queue = job->queue;

    if (add) {
        job->previous_ended = queue->last_ended;
        job->next_ended = NULL;
        *(queue->last_ended ? &queue->last_ended->next_ended : &queue->first_ended) = job;
        queue->last_ended = job;
        return;
    }
    *(job->previous_ended ? &job->previous_ended->next_ended
                          : &queue->first_ended) = job->next_ended;
    *(job->next_ended ? &job->next_ended->previous_ended
                      : &queue->last_ended) = job->previous_ended;
}

/* Its host was lost, and it may be begun again: as if it had not run, all that time waiting. */
static int begin_again(struct jobs *js, struct job *job, int64_t now)
{
    struct queue_spec spec;
    int r;

    job->row.ran_ns = 0;
    job->row.waited_ns = (uint64_t)MAX(now - job->submitted_ns, INT64_C(0));
    job_queue_spec_of(job, &spec);
    if ((r = queue_submit(job->queue->queue, jobs_queue_time(now), &spec, &job->handle, NULL)) < 0)
        return r;
    job->row.attempts++;
    job->row.since_ns = now;
    job->stale = *job->row.instance;
    job_set_state(job, JOB_QUEUED);
    job->dirty = true;
    job_note(js, job, now, "lost", "its host or its shim ended; it is begun again", 0);
    job_kick(js, job);
    return 0;
}

static void count_end(struct jobs *js, struct job *job)
{
    struct job_totals *totals = &job->queue->totals[job->row.policy];
    char class[JOBS_CLASS_NAME_MAX];

    if (job->row.state == JOB_CANCELLED) {
        totals->cancelled++;
        return;
    }
    *(job->row.state == JOB_DONE ? &totals->done : &totals->failed) += 1;
    totals->pauses += job->row.pauses;
    totals->total_s += (double)job->row.ran_ns / 1e9;
    totals->wait_s += (double)job->row.waited_ns / 1e9;
    totals->turnaround_s += (double)(job->row.ran_ns + job->row.waited_ns) / 1e9;
    if (job->row.state != JOB_DONE)
        return;
    job_class_name(job->class_hash, class);
    estimator_learn(js->estimates, class, job->row.ran_ns);
}

/* It ended while no manager lived, and what came after was no running. */
static void take_back(struct job *job, int64_t finished_ns, int64_t now)
{
    uint64_t after = (uint64_t)(now - finished_ns);

    if (finished_ns < job->row.since_ns || now - finished_ns < (int64_t)NS_PER_S)
        return;
    job->row.ran_ns -= MIN(job->row.ran_ns, after);
    job->row.ended_ns = finished_ns;
}

void job_end(struct jobs *js, struct job *job, int exit_code, bool lost, int64_t finished_ns,
             const char *error)
{
    struct job_queue *queue = job->queue;
    bool ran = job->row.state == JOB_RUNNING;
    int64_t now = jobs_now(js);
    struct queue_record record;
    bool known = false;

    if (!job_is_live(job->row.state))
        return;
    if (job->handle != QUEUE_NO_JOB)
        known = queue_finish(queue->queue, jobs_queue_time(now), job->handle, &record) == 0 ||
                queue_cancel(queue->queue, jobs_queue_time(now), job->handle, &record) == 0;
    job->handle = QUEUE_NO_JOB;
    if (known) {
        job->row.ran_ns = record.ran_ns;
        job->row.waited_ns = record.waited_ns;
    } else if (job->row.state == JOB_QUEUED) {
        job->row.waited_ns += (uint64_t)MAX(now - job->row.since_ns, INT64_C(0));
    }
    if (lost && job->restartable && !job->row.cancel && job->row.attempts < JOBS_ATTEMPTS_MAX &&
        begin_again(js, job, now) == 0) {
        jobs_pump(js, queue);
        return;
    }
    job_set_state(job, job->row.cancel                  ? JOB_CANCELLED
                       : exit_code || (error && *error) ? JOB_FAILED
                                                        : JOB_DONE);
    job->row.exit_code = exit_code;
    job->row.ended_ns = now;
    if (ran && finished_ns)
        take_back(job, finished_ns, now);
    job->row.since_ns = now;
    job->row.policy = queue->spec.config.policy;
    if (error && *error && !job->error)
        job->error = strdup(error);
    job_note(js, job, now, "end", job_state_name(job->row.state), 0);
    job->dirty = true;
    count_end(js, job);
    job_image_release(js, job);
    job_ended_list(job, true);
    job_kick(js, job);
    jobs_room_forget(js, job);
    jobs_pump(js, queue);
}

void jobs_instance_ended(struct manager *m, struct instance *instance, bool lost)
{
    struct jobs *js = m->jobs;
    struct job *job = NULL;

    if (!js)
        return;
    pthread_mutex_lock(&js->lock);
    js->room_changed = true;
    pthread_cond_signal(&js->clock_changed);
    if (!instance->job) {
        pthread_mutex_unlock(&js->lock);
        return;
    }
    /* Before we are open nothing need be done: all are looked at then. */
    if (js->open && (job = job_find(js, instance->job)) && !strcmp(job->row.instance, instance->id))
        job_end(js, job, instance->row.exit_code, lost, instance->row.finished_ns,
                instance->row.error);
    job_unref(job);
    pthread_mutex_unlock(&js->lock);
}

static struct job *job_make(struct jobs *js, const struct job_request *request,
                            struct job_queue *queue, int64_t now)
{
    struct job *job = calloc(1, sizeof(*job));
    char class[JOBS_CLASS_NAME_MAX];
    struct estimate guess;

    if (!job)
        return NULL;
    job->queue = queue;
    job->nr_refs = 1;
    job->handle = QUEUE_NO_JOB;
    job->vm = request->vm;
    job->restartable = request->restartable;
    job->class_hash = request->class_hash;
    memcpy(job->need, request->need, sizeof(job->need));
    job->submitted_ns = now;
    job->row = (struct job_row){.state = JOB_SUBMITTED,
                                .priority = request->priority,
                                .tickets = request->tickets,
                                .estimate_ns = request->estimate_ns,
                                .estimate_from = request->estimate_ns ? JOB_ESTIMATE_GIVEN
                                                                      : JOB_ESTIMATE_NONE,
                                .since_ns = now,
                                .attempts = 1};
    job_class_name(request->class_hash, class);
    estimator_ask(js->estimates, class, &guess);
    if (!job->row.estimate_ns && guess.of_class) {
        job->row.estimate_ns = MAX(guess.mean_ns, 1);
        job->row.estimate_from = JOB_ESTIMATE_LEARNT;
    }
    job->name = request->name ? strdup(request->name) : NULL;
    job->image = strdup(request->image);
    job->command = strdup(request->command);
    if (!job->image || !job->command || (request->name && !job->name)) {
        job_unref(job);
        return NULL;
    }
    return job;
}

/* With the lock: made and in the table, but seen by nobody yet. */
static int admit(struct jobs *js, const struct job_request *requests, size_t nr, struct job **made,
                 const struct job_request **of, size_t count, size_t *ret_made, struct err *err)
{
    int64_t now = jobs_now(js);

    *ret_made = 0;
    for (size_t i = 0; i < nr; i++) {
        struct job_queue *queue = job_queue_find(js, requests[i].queue);

        if (!queue || queue->removing)
            return err_set(err, -ENOENT,
                           "there is no queue '%s'; `lodge job queue ls` lists them, `lodge job "
                           "queue create` makes one",
                           requests[i].queue);
        for (int k = 0; k < QUEUE_RESOURCES; k++)
            if (queue->spec.config.capacity[k] &&
                requests[i].need[k] > queue->spec.config.capacity[k])
                return err_set(err, -E2BIG,
                               "a job needs %llu %s, but the whole queue '%s' has %llu",
                               (unsigned long long)requests[i].need[k],
                               k ? "bytes of memory" : "thousandths of a processor", queue->name,
                               (unsigned long long)queue->spec.config.capacity[k]);
        for (uint64_t k = 0; k < requests[i].count && *ret_made < count; k++) {
            struct job *job = job_make(js, &requests[i], queue, now);
            int r;

            if (!job)
                return err_set(err, -ENOMEM, "out of memory");
            job->id = js->next_id;
            if ((r = job_insert(js, job)) < 0) {
                job_unref(job);
                return err_set(err, r, "there are %zu jobs already; `lodge job rm` makes room",
                               js->nr_jobs);
            }
            js->next_id++;
            job->nr_refs++;
            made[*ret_made] = job;
            of[(*ret_made)++] = &requests[i];
        }
    }
    return 0;
}

/* With the lock: stored, so they are there. */
static void enqueue(struct jobs *js, struct job *const *made, size_t nr)
{
    uint64_t at = jobs_queue_time(jobs_now(js));

    for (size_t i = 0; i < nr; i++) {
        struct job *job = made[i];
        struct err err = ERR_INIT;
        struct queue_spec spec;

        job_queue_spec_of(job, &spec);
        job_set_state(job, JOB_QUEUED);
        jobs_room_newcomer(js, job);
        if (!job->queue->short_of_room && job->handle == QUEUE_NO_JOB &&
            queue_submit(job->queue->queue, at, &spec, &job->handle, &err) < 0)
            job_end(js, job, 125, false, 0, err.message);
    }
    for (size_t i = 0; i < nr; i++)
        if (i == 0 || made[i]->queue != made[i - 1]->queue)
            jobs_pump(js, made[i]->queue);
}

int jobs_submit(struct jobs *js, const struct job_request *requests, size_t nr, uint64_t *ret_first,
                uint64_t *ret_count, struct err *err)
{
    CLEANUP(freep) struct job **made = NULL;
    CLEANUP(freep) const struct job_request **of = NULL;
    size_t count = 0, nr_made;
    struct job_insert_rows rows = {.js = js};
    struct store_change change = {.also = job_store_insert, .context = &rows};
    int r;

    for (size_t i = 0; i < nr; i++)
        count += requests[i].count;
    if (!count || count > JOBS_BATCH_MAX)
        return err_set(err, -E2BIG, "%zu jobs in one request: 1 to %d can be", count,
                       JOBS_BATCH_MAX);
    made = calloc(count, sizeof(struct job *));
    of = calloc(count, sizeof(struct job_request *));
    if (!made || !of)
        return err_set(err, -ENOMEM, "out of memory");
    pthread_mutex_lock(&js->lock);
    r = admit(js, requests, nr, made, of, count, &nr_made, err);
    pthread_mutex_unlock(&js->lock);
    if (r == 0)
        jobs_images_pin(js);
    rows.jobs = (const struct job *const *)made;
    rows.requests = of;
    rows.nr = nr_made;
    if (r == 0)
        r = state_store_apply(js->m->store, &change, err);
    pthread_mutex_lock(&js->lock);
    if (r == 0) {
        *ret_first = made[0]->id;
        *ret_count = nr_made;
        enqueue(js, made, nr_made);
    }
    for (size_t i = 0; i < nr_made; i++) {
        if (r < 0)
            job_remove(js, made[i]);
        job_unref(made[i]);
    }
    pthread_mutex_unlock(&js->lock);
    return r;
}

int jobs_wait(struct jobs *js, struct job *job, bool (*fn)(const struct job *job),
              uint64_t timeout_ms)
{
    uint64_t at_ns = clock_realtime_ns() + timeout_ms * NS_PER_MS;
    struct timespec deadline = {(time_t)(at_ns / NS_PER_S), (long)(at_ns % NS_PER_S)};
    int reached;

    pthread_mutex_lock(&js->lock);
    while (!fn(job) && !job->gone && !js->stop)
        if (pthread_cond_timedwait(&js->changed, &js->lock, &deadline) != 0)
            break;
    reached = fn(job);
    pthread_mutex_unlock(&js->lock);
    return reached;
}

/* With the lock. */
static void cancel_locked(struct jobs *js, struct job *job)
{
    struct instance *instance;

    job->row.cancel = job->dirty = true;
    job_note(js, job, jobs_now(js), "cancel", "a user wants its end", 0);
    if (!*job->row.instance && job->row.state != JOB_RUNNING) {
        job_end(js, job, 0, false, 0, NULL);
        return;
    }
    pthread_mutex_lock(&js->m->lock);
    if ((instance = instance_find_id(js->m, job->row.instance)) &&
        instance->row.state == INSTANCE_STARTING) {
        instance->cancel = true;
        pthread_cond_broadcast(&instance->changed);
    }
    pthread_mutex_unlock(&js->m->lock);
    job_kick(js, job);
}

int job_cancel(struct jobs *js, struct job *job, struct err *err)
{
    int r = 0;

    pthread_mutex_lock(&js->lock);
    if (!job_is_live(job->row.state))
        r = err_set(err, -EALREADY, "job %llu has ended: it is %s", (unsigned long long)job->id,
                    job_state_name(job->row.state));
    else if (!job->row.cancel)
        cancel_locked(js, job);
    pthread_mutex_unlock(&js->lock);
    if (r == 0 && !jobs_wait(js, job, job_is_stored, 60000))
        r = err_set(err, -ETIMEDOUT, "the end of job %llu could not be stored yet",
                    (unsigned long long)job->id);
    return r;
}

int job_change(struct jobs *js, struct job *job, json_t *document, struct err *err)
{
    struct queue_spec spec;
    int r;

    pthread_mutex_lock(&js->lock);
    job_queue_spec_of(job, &spec);
    r = job_change_parse(document, &spec, err);
    if (r == 0 && !job_is_live(job->row.state))
        r = err_set(err, -EALREADY, "job %llu has ended: it is %s", (unsigned long long)job->id,
                    job_state_name(job->row.state));
    if (r == 0 && job->handle != QUEUE_NO_JOB) { /* else it waits for room, or for who does */
        r = queue_change(job->queue->queue, jobs_queue_time(jobs_now(js)), job->handle, &spec);
        if (r < 0)
            err_errno(err, r, "change job %llu", (unsigned long long)job->id);
    }
    if (r == 0) {
        if (spec.estimate_ns != job->row.estimate_ns)
            job->row.estimate_from = JOB_ESTIMATE_GIVEN;
        job->row.estimate_ns = spec.estimate_ns;
        job->row.priority = spec.priority;
        job->row.tickets = spec.tickets;
        job->dirty = true;
        job_note(js, job, jobs_now(js), "change", "a user changed it", 0);
        job_kick(js, job);
        jobs_room_newcomer(js, job);
        jobs_pump(js, job->queue);
    }
    pthread_mutex_unlock(&js->lock);
    if (r == 0 && !jobs_wait(js, job, job_is_stored, 60000))
        r = err_set(err, -ETIMEDOUT, "the change could not be stored yet");
    return r;
}
