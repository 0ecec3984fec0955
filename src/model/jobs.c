/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each turn of the loop is one instant: all its events are told to the lanes they concern, then
 * these lanes are asked until they have nothing more to say.
 *
 *   EVENT_ARRIVAL ─▶ arrive ─▶ queue_submit      one pending: the source's next job
 *   EVENT_END     ─▶ end    ─▶ queue_finish      one for each running job
 *   EVENT_CHECK   ─▶ (only asks)                 one a lane at most: queue_next
 */
#include "model/jobs.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "model/event.h"

#include <stdlib.h>
#include <string.h>

enum { EVENT_ARRIVAL, EVENT_END, EVENT_CHECK };

#define NO_SLOT UINT32_MAX

struct slot {
    struct job job;
    queue_job_t name;
    uint64_t left_ns, resumed_ns;
    event_t end;
    uint32_t server, next_free;
};

struct lane {
    struct queue *queue;
    event_t check;
    uint64_t check_ns;
    bool touched;
};

struct simulation {
    const struct jobs *jobs;
    struct jobs_result *result;
    struct event_queue events;
    struct slot *slots;
    struct lane *lanes;
    uint32_t *touched; /* lanes that something was told to in this instant */
    uint32_t nr_slots, capacity, free_slot, nr_touched;
    struct job coming;
    bool more;
    uint64_t here, changed_ns; /* jobs that are there, since when */
    double jobs_ns;
};

static void simulation_done(struct simulation *s)
{
    for (size_t i = 0; s->lanes && i < s->jobs->nr_lanes; i++)
        queue_free(s->lanes[i].queue);
    event_queue_done(&s->events);
    free(s->slots);
    free(s->lanes);
    free(s->touched);
}

static int simulation_init(struct simulation *s, struct err *err)
{
    const struct jobs *jobs = s->jobs;

    event_queue_init(&s->events);
    s->free_slot = NO_SLOT;
    if (jobs->nr_lanes == 0 || jobs->nr_lanes >= UINT32_MAX)
        return err_set(err, -EINVAL, "range: %zu lanes", jobs->nr_lanes);
    s->lanes = calloc(jobs->nr_lanes, sizeof(*s->lanes));
    s->touched = calloc(jobs->nr_lanes, sizeof(*s->touched));
    if (!s->lanes || !s->touched)
        return err_set(err, -ENOMEM, "simulation");
    for (size_t i = 0; i < jobs->nr_lanes; i++) {
        const struct queue_config *config = &jobs->lanes[jobs->lanes_alike ? 0 : i];
        int r;

        if (config->quantum_ns && jobs->switch_ns >= config->quantum_ns)
            return err_set(err, -EINVAL, "range: a switch takes the whole quantum");
        if ((r = queue_new(config, &s->lanes[i].queue, err)) < 0)
            return r;
        s->lanes[i].check = EVENT_NONE;
        s->lanes[i].check_ns = QUEUE_NEVER;
    }
    return 0;
}

static void fetch(struct simulation *s)
{
    s->more = s->jobs->next(s->jobs->context, &s->coming);
    if (s->more)
        event_add(&s->events, s->coming.arrival_ns, EVENT_ARRIVAL, 0);
}

static void count(struct simulation *s, int change)
{
    uint64_t now = s->events.now;

    s->jobs_ns += (double)s->here * (double)(now - s->changed_ns);
    s->changed_ns = now;
    s->here += (uint64_t)(int64_t)change;
    s->result->most = MAX(s->result->most, s->here);
}

static void touch(struct simulation *s, uint32_t lane)
{
    if (s->lanes[lane].touched)
        return;
    s->lanes[lane].touched = true;
    s->touched[s->nr_touched++] = lane;
}

static uint32_t slot_new(struct simulation *s)
{
    uint32_t slot = s->free_slot;

    if (slot != NO_SLOT) {
        s->free_slot = s->slots[slot].next_free;
        return slot;
    }
    if (s->nr_slots == s->capacity) {
        uint32_t capacity = s->capacity ? 2 * s->capacity : 64;
        struct slot *slots = reallocarray(s->slots, capacity, sizeof(*slots));

        if (!slots)
            return NO_SLOT;
        s->slots = slots;
        s->capacity = capacity;
    }
    return s->nr_slots++;
}

static void slot_free(struct simulation *s, uint32_t slot)
{
    s->slots[slot].next_free = s->free_slot;
    s->free_slot = slot;
}

static int arrive(struct simulation *s, struct err *err)
{
    uint32_t number = slot_new(s);
    struct queue_spec spec = {0};
    struct slot *slot;
    int r;

    if (number == NO_SLOT)
        return err_set(err, -ENOMEM, "simulation");
    slot = &s->slots[number];
    slot->job = s->coming;
    slot->job.arrival_ns = s->events.now;
    slot->left_ns = slot->job.burst_ns;
    slot->end = EVENT_NONE;
    if (slot->job.lane >= s->jobs->nr_lanes)
        return err_set(err, -EINVAL, "range: job %llu is for lane %u of %zu",
                       (unsigned long long)slot->job.number, slot->job.lane, s->jobs->nr_lanes);
    spec.cookie = number;
    spec.estimate_ns = slot->job.estimate_ns;
    spec.priority = slot->job.priority;
    spec.tickets = slot->job.tickets;
    memcpy(spec.need, slot->job.need, sizeof(spec.need));
    if (s->result->submitted++ == 0)
        s->result->first_arrival_ns = s->events.now;
    r = queue_submit(s->lanes[slot->job.lane].queue, s->events.now, &spec, &slot->name, err);
    if (r == -E2BIG || r == -ENOSPC) { /* it would never fit, or there is no more room: an answer */
        s->result->refused++;
        slot_free(s, number);
    } else if (r < 0) {
        return err_wrap(err, "job %llu", (unsigned long long)slot->job.number);
    } else {
        count(s, 1);
        touch(s, slot->job.lane);
    }
    fetch(s);
    return 0;
}

static void held(struct simulation *s, struct slot *slot)
{
    s->result->busy_s += (double)(s->events.now - slot->resumed_ns) * 1e-9;
    if (s->jobs->slice && s->events.now > slot->resumed_ns)
        s->jobs->slice(s->jobs->context, &slot->job, slot->server, slot->resumed_ns, s->events.now);
}

void jobs_count_ended(struct jobs_result *result, const struct job *job,
                      const struct queue_record *record)
{
    double burst = (double)job->burst_ns * 1e-9, wait = (double)record->waited_ns * 1e-9;
    double turnaround = (double)record->turnaround_ns * 1e-9;

    result->ended++;
    result->pauses += record->pauses;
    result->last_end_ns = record->ended_ns;
    result->work_s += burst;
    result->spent_s += turnaround;
    tally_add(&result->wait, wait);
    tally_add(&result->turnaround, turnaround);
    tally_add(&result->response, (double)(record->started_ns - record->submitted_ns) * 1e-9);
    if (burst > 0)
        tally_add(&result->slowdown, turnaround / burst);
    series_add(&result->waits, wait);
    histogram_add(&result->wait_ns, record->waited_ns);
    histogram_add(&result->turnaround_ns, record->turnaround_ns);
}

static void end(struct simulation *s, uint32_t number)
{
    struct slot *slot = &s->slots[number];
    struct queue_record record;

    if (queue_finish(s->lanes[slot->job.lane].queue, s->events.now, slot->name, &record) < 0)
        return;
    held(s, slot);
    count(s, -1);
    touch(s, slot->job.lane);
    jobs_count_ended(s->result, &slot->job, &record);
    if (s->jobs->ended)
        s->jobs->ended(s->jobs->context, &slot->job, &record);
    slot_free(s, number);
}

static void ask(struct simulation *s, struct lane *lane)
{
    struct queue_decision decision;
    uint64_t now = s->events.now, next;

    while (queue_decide(lane->queue, now, &decision)) {
        struct slot *slot = &s->slots[decision.cookie];

        if (decision.action == QUEUE_RUN) {
            slot->resumed_ns = now;
            slot->server = decision.server;
            slot->left_ns += s->jobs->switch_ns;
            slot->end = event_add(&s->events, now + slot->left_ns, EVENT_END,
                                  (uint32_t)decision.cookie);
        } else {
            event_cancel(&s->events, slot->end);
            slot->left_ns -= MIN(slot->left_ns, now - slot->resumed_ns);
            held(s, slot);
        }
    }
    next = queue_next(lane->queue, now);
    if (next == lane->check_ns)
        return;
    event_cancel(&s->events, lane->check);
    lane->check_ns = next;
    lane->check = next == QUEUE_NEVER
                      ? EVENT_NONE
                      : event_add(&s->events, next, EVENT_CHECK, (uint32_t)(lane - s->lanes));
}

static int run(struct simulation *s, struct err *err)
{
    struct event event;
    int r = 0;

    fetch(s);
    while (r == 0 && event_next_before(&s->events, s->jobs->stop_ns, &event)) {
        if (event.kind == EVENT_ARRIVAL) {
            r = arrive(s, err);
        } else if (event.kind == EVENT_END) {
            end(s, event.subject);
        } else {
            s->lanes[event.subject].check = EVENT_NONE;
            s->lanes[event.subject].check_ns = QUEUE_NEVER;
            touch(s, event.subject);
        }
        if (event_next_time(&s->events) == event.time)
            continue;
        for (uint32_t i = 0; i < s->nr_touched; i++) {
            s->lanes[s->touched[i]].touched = false;
            ask(s, &s->lanes[s->touched[i]]);
        }
        s->nr_touched = 0;
    }
    if (r == 0 && s->events.failed)
        r = err_set(err, -ENOMEM, "simulation: more than %u events pending", EVENT_PENDING_MAX);
    return r;
}

int jobs_simulate(const struct jobs *jobs, struct jobs_result *ret, struct err *err)
{
    struct simulation s = {.jobs = jobs, .result = ret};
    int r;

    memset(ret, 0, sizeof(*ret));
    series_init(&ret->waits);
    r = simulation_init(&s, err);
    if (r == 0)
        r = run(&s, err);
    ret->jobs_s = s.jobs_ns * 1e-9;
    ret->events = s.events.happened;
    simulation_done(&s);
    return r;
}
