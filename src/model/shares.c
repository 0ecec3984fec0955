/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   EVENT_ARRIVAL ─▶ at the end of the line          one pending: the source's next job
 *   EVENT_END     ─▶ whoever has nothing left ends   one pending: the first that will
 *
 * After each, who may is admitted and the processors are divided. Invariant: `inside` holds the
 * admitted jobs first, then those that wait, in order of arrival.
 */
#include "model/shares.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "model/check.h"
#include "model/event.h"
#include "policy/admission.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EVENT_ARRIVAL, EVENT_END };

struct inside {
    struct job job;
    double left, rate; /* core-nanoseconds, cores */
    uint64_t admitted_ns;
};

struct simulation {
    const struct jobs *jobs;
    const struct shares *host;
    struct jobs_result *result;
    struct event_queue events;
    struct admission_level level;
    struct inside *inside;
    struct allocation_claim *claims;
    struct allocation_share *shares;
    size_t nr, nr_admitted, capacity;
    struct job coming;
    event_t end;
    uint64_t since_ns;
    double jobs_ns;
};

static void fetch(struct simulation *s)
{
    if (s->jobs->next(s->jobs->context, &s->coming))
        event_add(&s->events, s->coming.arrival_ns, EVENT_ARRIVAL, 0);
}

static void reservation_of(const struct job *job, double ret[ALLOCATION_RESOURCES])
{
    memset(ret, 0, ALLOCATION_RESOURCES * sizeof(*ret));
    ret[ALLOCATION_CPU] = job->reserved;
    ret[ALLOCATION_MEMORY] = (double)job->need[1];
}

static double limit_of(const struct simulation *s, const struct job *job)
{
    return fmin(job->limit > 0 ? job->limit : 1, s->host->cores);
}

/* What has been done until now. */
static void settle(struct simulation *s)
{
    double elapsed = (double)(s->events.now - s->since_ns);

    for (size_t i = 0; i < s->nr_admitted; i++) {
        s->inside[i].left -= s->inside[i].rate * elapsed;
        s->result->busy_s += s->inside[i].rate * elapsed * 1e-9;
    }
    s->jobs_ns += (double)s->nr * elapsed;
    s->since_ns = s->events.now;
}

static int grow(struct simulation *s, struct err *err)
{
    size_t capacity = s->capacity ? 2 * s->capacity : 64;
    struct inside *inside = reallocarray(s->inside, capacity, sizeof(*inside));
    struct allocation_claim *claims = NULL;
    struct allocation_share *shares = NULL;

    if (inside) {
        s->inside = inside;
        claims = reallocarray(s->claims, capacity, sizeof(*claims));
    }
    if (claims) {
        s->claims = claims;
        shares = reallocarray(s->shares, capacity, sizeof(*shares));
    }
    if (!shares)
        return err_set(err, -ENOMEM, "simulation");
    s->shares = shares;
    s->capacity = capacity;
    return 0;
}

static int arrive(struct simulation *s, struct err *err)
{
    struct job job = s->coming;
    struct admission_level empty = s->level;
    double reservation[ALLOCATION_RESOURCES];
    struct admission_answer answer;
    int r;

    job.arrival_ns = s->events.now;
    if (s->result->submitted++ == 0)
        s->result->first_arrival_ns = s->events.now;
    fetch(s);
    if (job.reserved > limit_of(s, &job))
        return err_set(err, -EINVAL,
                       "range: job %llu: a reservation of %g cores is above its limit",
                       (unsigned long long)job.number, job.reserved);
    memset(empty.reserved, 0, sizeof(empty.reserved));
    reservation_of(&job, reservation);
    if ((r = admission_ask(&empty, 1, reservation, &answer, err)) < 0)
        return err_wrap(err, "job %llu", (unsigned long long)job.number);
    if (!answer.admitted) {
        s->result->refused++;
        return 0;
    }
    if (s->nr == SHARES_INSIDE_MAX)
        return err_set(err, -ERANGE, "unstable: %zu jobs are there at once", s->nr);
    if (s->nr == s->capacity && (r = grow(s, err)) < 0)
        return r;
    s->inside[s->nr++] = (struct inside){.job = job, .left = (double)job.burst_ns};
    s->result->most = MAX(s->result->most, (uint64_t)s->nr);
    return 0;
}

static void report(struct simulation *s, const struct inside *one)
{
    const struct job *job = &one->job;
    uint64_t now = s->events.now, alone = (uint64_t)((double)job->burst_ns / limit_of(s, job));
    struct queue_record record = {.submitted_ns = job->arrival_ns,
                                  .started_ns = one->admitted_ns,
                                  .ended_ns = now,
                                  .turnaround_ns = now - job->arrival_ns};

    record.ran_ns = MIN(alone, record.turnaround_ns);
    record.waited_ns = record.turnaround_ns - record.ran_ns;
    jobs_count_ended(s->result, job, &record);
    if (s->jobs->slice && now > one->admitted_ns)
        s->jobs->slice(s->jobs->context, job, 0, one->admitted_ns, now);
    if (s->jobs->ended)
        s->jobs->ended(s->jobs->context, job, &record);
}

/* All that have less left than one nanosecond of the clock does. */
static void end(struct simulation *s)
{
    size_t kept = 0, ended;

    for (size_t i = 0; i < s->nr_admitted; i++) {
        struct inside *one = &s->inside[i];
        double reservation[ALLOCATION_RESOURCES];

        if (one->left > one->rate) {
            s->inside[kept++] = *one;
            continue;
        }
        reservation_of(&one->job, reservation);
        admission_remove(&s->level, reservation);
        report(s, one);
    }
    ended = s->nr_admitted - kept;
    memmove(s->inside + kept, s->inside + s->nr_admitted,
            (s->nr - s->nr_admitted) * sizeof(*s->inside));
    s->nr_admitted = kept;
    s->nr -= ended;
}

static int admit(struct simulation *s, struct err *err)
{
    while (s->nr_admitted < s->nr) {
        struct inside *next = &s->inside[s->nr_admitted];
        double reservation[ALLOCATION_RESOURCES];
        struct admission_answer answer;
        int r;

        reservation_of(&next->job, reservation);
        if ((r = admission_ask(&s->level, 1, reservation, &answer, err)) < 0)
            return r;
        if (!answer.admitted)
            break;
        admission_add(&s->level, reservation);
        next->admitted_ns = s->events.now;
        s->nr_admitted++;
    }
    return 0;
}

static int divide(struct simulation *s, struct err *err)
{
    double first = ALLOCATION_UNLIMITED;
    int r;

    event_cancel(&s->events, s->end);
    s->end = EVENT_NONE;
    if (s->nr_admitted == 0)
        return 0;
    for (size_t i = 0; i < s->nr_admitted; i++) {
        const struct job *job = &s->inside[i].job;

        s->claims[i] = (struct allocation_claim){.weight = job->weight > 0 ? job->weight : 1,
                                                 .reservation = job->reserved,
                                                 .limit = limit_of(s, job),
                                                 .demand = ALLOCATION_UNLIMITED};
    }
    if ((r = allocation_divide(s->host->cores, s->claims, s->nr_admitted, s->shares, NULL, err)) <
        0)
        return r;
    for (size_t i = 0; i < s->nr_admitted; i++) {
        struct inside *one = &s->inside[i];

        one->rate = s->shares[i].amount;
        if (one->rate > 0)
            first = fmin(first, fmax(one->left, 0) / one->rate);
    }
    if (isfinite(first))
        s->end = event_add(&s->events, s->events.now + (uint64_t)ceil(first), EVENT_END, 0);
    return 0;
}

static int run(struct simulation *s, struct err *err)
{
    struct event event;
    int r = 0;

    fetch(s);
    while (r == 0 && event_next_before(&s->events, s->jobs->stop_ns, &event)) {
        settle(s);
        if (event.kind == EVENT_ARRIVAL) {
            r = arrive(s, err);
        } else {
            s->end = EVENT_NONE;
            end(s);
        }
        if (r < 0 || event_next_time(&s->events) == event.time)
            continue;
        if ((r = admit(s, err)) == 0)
            r = divide(s, err);
    }
    if (r == 0 && s->events.failed)
        r = err_set(err, -ENOMEM, "simulation");
    return r;
}

int shares_simulate(const struct jobs *jobs, const struct shares *host, struct jobs_result *ret,
                    struct err *err)
{
    struct simulation s = {.jobs = jobs, .host = host, .result = ret, .end = EVENT_NONE};
    int r;

    memset(ret, 0, sizeof(*ret));
    series_init(&ret->waits);
    if ((r = check_positive("cores", host->cores, err)) < 0 ||
        (r = check_not_negative("memory", host->memory, err)) < 0 ||
        (r = check_not_negative("overcommit", host->overcommit, err)) < 0)
        return r;
    s.level.name = "host";
    for (unsigned i = 0; i < ALLOCATION_RESOURCES; i++) {
        s.level.total[i] = ALLOCATION_UNLIMITED;
        s.level.overcommit[i] = host->overcommit;
    }
    s.level.total[ALLOCATION_CPU] = host->cores;
    if (host->memory > 0)
        s.level.total[ALLOCATION_MEMORY] = host->memory;
    event_queue_init(&s.events);
    r = run(&s, err);
    ret->jobs_s = s.jobs_ns * 1e-9;
    ret->events = s.events.happened;
    event_queue_done(&s.events);
    free(s.inside);
    free(s.claims);
    free(s.shares);
    return r;
}
