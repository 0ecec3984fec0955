/* SPDX-License-Identifier: Apache-2.0 */
#include "virtual_time.h"

#include "base/util.h"
#include "testing.h"

#include <string.h>

static void check_capacity(const struct virtual_run *run)
{
    uint64_t used[QUEUE_RESOURCES] = {0};
    uint32_t running = 0;

    for (size_t i = 0; i < run->nr_jobs; i++)
        if (run->jobs[i].running) {
            running++;
            for (unsigned r = 0; r < QUEUE_RESOURCES; r++)
                used[r] += run->jobs[i].spec.need[r];
        }
    ck_assert(!run->config->servers || running <= run->config->servers);
    for (unsigned r = 0; r < QUEUE_RESOURCES; r++)
        ck_assert(!run->config->capacity[r] || used[r] <= run->config->capacity[r]);
}

static void decide(struct virtual_run *run, struct queue *q, uint64_t now)
{
    struct queue_decision decision;

    while (queue_decide(q, now, &decision)) {
        struct virtual_job *job = &run->jobs[decision.cookie];
        size_t length = strlen(run->trace);

        ck_assert(job->here);
        run->decisions++;
        if (decision.action == QUEUE_RUN) {
            ck_assert(!job->running);
            ck_assert(decision.first_start == (job->left_ns == job->burst_ns));
            ck_assert(!run->config->servers || decision.server < run->config->servers);
            if (length + 1 < sizeof(run->trace))
                run->trace[length] = (char)('A' + decision.cookie);
            job->resumed_ns = now;
        } else {
            ck_assert(job->running);
            job->left_ns -= now - job->resumed_ns;
            run->busy_ns += now - job->resumed_ns;
        }
        job->running = decision.action == QUEUE_RUN;
        check_capacity(run);
    }
}

/* Work is conserved: where servers alone count, none is free while a job waits. */
static void check_conserved(const struct virtual_run *run)
{
    uint32_t running = 0, here = 0;

    for (size_t i = 0; i < run->nr_jobs; i++) {
        running += run->jobs[i].running;
        here += run->jobs[i].here;
    }
    if (run->config->servers && !run->config->capacity[0] && !run->config->capacity[1])
        ck_assert_uint_eq(running, MIN(here, run->config->servers));
    else
        ck_assert(running || !here);
}

static uint64_t next_event(const struct virtual_run *run, const struct queue *q, uint64_t now)
{
    uint64_t at = queue_next(q, now);

    for (size_t i = 0; i < run->nr_jobs; i++) {
        const struct virtual_job *job = &run->jobs[i];

        if (job->running)
            at = MIN(at, job->resumed_ns + job->left_ns);
        else if (!job->here && job->left_ns)
            at = MIN(at, job->arrival_ns);
    }
    return at;
}

static void tell(struct virtual_run *run, struct queue *q, uint64_t now)
{
    struct err err = ERR_INIT;

    for (size_t i = 0; i < run->nr_jobs; i++) {
        struct virtual_job *job = &run->jobs[i];

        if (!job->running || job->resumed_ns + job->left_ns != now)
            continue;
        run->busy_ns += job->left_ns;
        job->left_ns = 0;
        job->here = job->running = false;
        ck_assert_int_eq(queue_finish(q, now, job->handle, &job->record), 0);
    }
    for (size_t i = 0; i < run->nr_jobs; i++) {
        struct virtual_job *job = &run->jobs[i];

        if (job->here || !job->left_ns || job->arrival_ns != now)
            continue;
        job->spec.cookie = i;
        job->here = true;
        ck_assert_msg(queue_submit(q, now, &job->spec, &job->handle, &err) == 0, "%s", err.message);
    }
}

void virtual_run(struct virtual_run *run)
{
    struct queue *q;
    struct err err = ERR_INIT;
    struct queue_totals totals;
    uint64_t now = 0, last = 0;

    ck_assert_msg(queue_new(run->config, &q, &err) == 0, "%s", err.message);
    for (size_t i = 0; i < run->nr_jobs; i++)
        run->jobs[i].left_ns = run->jobs[i].burst_ns;
    for (uint64_t rounds = 0; (now = next_event(run, q, last)) != QUEUE_NEVER; rounds++) {
        ck_assert_msg(rounds < 10000000, "no end");
        ck_assert_uint_ge(now, last);
        if (run->until_ns && now > run->until_ns)
            break;
        tell(run, q, now);
        decide(run, q, now);
        check_conserved(run);
        last = now;
    }
    run->end_ns = last;
    queue_totals(q, &totals);
    if (totals.finished) {
        run->mean_wait = (double)totals.t_wait_ns / (double)totals.finished / (double)SECOND;
        run->mean_turnaround = (double)totals.turnaround_ns / (double)totals.finished /
                               (double)SECOND;
    }
    if (!run->until_ns)
        ck_assert_uint_eq(totals.finished, run->nr_jobs);
    queue_free(q);
}
