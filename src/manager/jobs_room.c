/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job whose turn has come and for whose reservation there is no room yet, in its environment or
 * on the host: it waits, and says for what.
 *
 *      queued ──run──▶ running ──admission says not now──▶ queued, waits_for
 *                         ▲                                   │ room, or its end
 *                         └──────────────── run ──────────────┘
 *
 * As the first that does not fit the queue's own capacity does, it blocks those behind it: while it
 * waits, only jobs that have begun are in the policy's queue, so that these go on (what it waits
 * for may be their end) and no later one is always in time to take the room away. One that would be
 * taken before it by the policy's order lets the policy decide anew.
 *
 * Nothing of this is stored: after a crash the row says queued, and the policy decides again.
 */
#include "manager/jobs_internal.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Who goes first is known of two that wait only where the order does not depend on time. */
static bool goes_before(const struct job *newcomer, const struct job *waiting)
{
    switch (newcomer->queue->spec.config.policy) {
    case QUEUE_SJF:
    case QUEUE_SRTF:
        return newcomer->row.estimate_ns &&
               (!waiting->row.estimate_ns || newcomer->row.estimate_ns < waiting->row.estimate_ns);
    case QUEUE_PRIORITY:
        return newcomer->row.priority < waiting->row.priority;
    default:
        return false;
    }
}

static void rebuild(struct jobs *js, struct job_queue *queue)
{
    struct queue_config config = queue->spec.config;
    struct err err = ERR_INIT;

    if (job_queue_rebuild(js, queue, &config, &err) < 0)
        log_error("queue %s: %s", queue->name, err.message);
}

static void let_go(struct jobs *js, struct job_queue *queue)
{
    struct job *job = queue->short_of_room;

    queue->short_of_room = NULL;
    free(job->waits_for);
    job->waits_for = NULL;
    job_unref(job);
    rebuild(js, queue);
}

void jobs_room_short(struct jobs *js, struct job *job, const char *why)
{
    struct job_queue *queue = job->queue;
    int64_t now = jobs_now(js);
    struct queue_record record;

    if (job->row.state != JOB_RUNNING || job->row.cancel)
        return;
    if (queue_cancel(queue->queue, jobs_queue_time(now), job->handle, &record) == 0)
        job->row.waited_ns = record.waited_ns + record.ran_ns;
    job->handle = QUEUE_NO_JOB;
    job->row.ran_ns = 0;
    job->row.started_ns = 0;
    job->row.since_ns = now;
    job_set_state(job, JOB_QUEUED);
    job->dirty = true;
    job_note(js, job, now, "wait", "there is no room yet for what it has to have reserved", 0);
    if (!queue->short_of_room) { /* else that one is looked at first */
        queue->short_of_room = job;
        job->nr_refs++;
        job->waits_for = strdup(why);
    }
    rebuild(js, queue);
    pthread_cond_signal(&js->clock_changed);
    jobs_pump(js, queue);
}

void jobs_room_newcomer(struct jobs *js, struct job *job)
{
    if (job->queue->short_of_room && goes_before(job, job->queue->short_of_room))
        let_go(js, job->queue);
}

void jobs_room_forget(struct jobs *js, struct job *job)
{
    if (job->queue->short_of_room == job)
        let_go(js, job->queue);
}

/* Would it be refused now? */
static bool is_short(struct jobs *js, const struct job *job, struct err *err)
{
    struct instance *instance;
    int r = 0;

    pthread_mutex_lock(&js->m->lock);
    if ((instance = instance_find_id(js->m, job->row.instance)) &&
        (r = admission_would_start_locked(js->m, instance, err)) == -ECANCELED &&
        admission_never_locked(js->m, instance))
        r = 0; /* it cannot wait for that: its start says so */
    pthread_mutex_unlock(&js->m->lock);
    return r == -ECANCELED;
}

bool jobs_room_look(struct jobs *js, struct job_queue *queue)
{
    struct job *job = queue->short_of_room;
    struct err err = ERR_INIT;
    char *why;

    if (!job)
        return false;
    if (queue->spec.hold || queue->removing)
        return true;
    if (is_short(js, job, &err)) {
        if ((!job->waits_for || strcmp(job->waits_for, err.message) != 0) &&
            (why = strdup(err.message))) {
            free(job->waits_for);
            job->waits_for = why;
        }
        return true;
    }
    let_go(js, queue);
    jobs_pump(js, queue);
    return queue->short_of_room;
}
