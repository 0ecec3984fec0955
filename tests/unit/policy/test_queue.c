/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The job queue against the tables of the textbooks (Silberschatz, Operating System Concepts,
 * CPU scheduling; Arpaci-Dusseau, Operating Systems: Three Easy Pieces, stride), in virtual time.
 */
#include "base/util.h"
#include "testing.h"
#include "virtual_time.h"

#include <math.h>

struct answer {
    const char *name;
    enum queue_policy policy;
    unsigned quantum;
    unsigned n;
    unsigned arrivals[5], bursts[5];
    int priorities[5];
    double mean_wait;
    unsigned waits[5]; /* all 0: not printed in the table */
    bool preemptive;
};

static const struct answer answers[] = {
    {"1 FCFS 24 3 3", QUEUE_FCFS, 0, 3, {0}, {24, 3, 3}, {0}, 17, {0, 24, 27}, false},
    {"1 FCFS 3 3 24", QUEUE_FCFS, 0, 3, {0}, {3, 3, 24}, {0}, 3, {0, 3, 6}, false},
    {"2 RR q=4", QUEUE_RR, 4, 3, {0}, {24, 3, 3}, {0}, 17.0 / 3, {6, 4, 7}, false},
    {"3 SJF", QUEUE_SJF, 0, 4, {0}, {6, 8, 7, 3}, {0}, 7, {3, 16, 9, 0}, false},
    {"3 FCFS", QUEUE_FCFS, 0, 4, {0}, {6, 8, 7, 3}, {0}, 10.25, {0}, false},
    {"4 SRTF", QUEUE_SRTF, 0, 4, {0, 1, 2, 3}, {8, 4, 9, 5}, {0}, 6.5, {9, 0, 15, 2}, false},
    {"4 SJF", QUEUE_SJF, 0, 4, {0, 1, 2, 3}, {8, 4, 9, 5}, {0}, 7.75, {0}, false},
    {"4 FCFS", QUEUE_FCFS, 0, 4, {0, 1, 2, 3}, {8, 4, 9, 5}, {0}, 8.75, {0}, false},
    {"5 priority",
     QUEUE_PRIORITY,
     0,
     5,
     {0},
     {10, 1, 2, 1, 5},
     {3, 1, 4, 5, 2},
     8.2,
     {6, 0, 16, 18, 1},
     false},
    {"5 priority, preemptive",
     QUEUE_PRIORITY,
     0,
     5,
     {0},
     {10, 1, 2, 1, 5},
     {3, 1, 4, 5, 2},
     8.2,
     {6, 0, 16, 18, 1},
     true},
    {"6 FCFS", QUEUE_FCFS, 0, 5, {0}, {10, 29, 3, 7, 12}, {0}, 28, {0, 10, 39, 42, 49}, false},
    {"6 SJF", QUEUE_SJF, 0, 5, {0}, {10, 29, 3, 7, 12}, {0}, 13, {10, 32, 0, 3, 20}, false},
    {"6 RR q=10", QUEUE_RR, 10, 5, {0}, {10, 29, 3, 7, 12}, {0}, 23, {0, 32, 20, 23, 40}, false},
};

static void load(const struct answer *answer, struct virtual_job *jobs)
{
    for (unsigned i = 0; i < answer->n; i++)
        jobs[i] = (struct virtual_job){
            .arrival_ns = answer->arrivals[i] * SECOND,
            .burst_ns = answer->bursts[i] * SECOND,
            .spec = {.estimate_ns = answer->bursts[i] * SECOND, .priority = answer->priorities[i]},
        };
}

START_TEST(known_answers)
{
    const struct answer *answer = &answers[_i];
    struct queue_config config = {.policy = answer->policy,
                                  .servers = 1,
                                  .quantum_ns = answer->quantum * SECOND,
                                  .preemptive = answer->preemptive};
    struct virtual_job jobs[5];
    struct virtual_run run = {.config = &config, .jobs = jobs, .nr_jobs = answer->n};
    bool printed = false;

    load(answer, jobs);
    virtual_run(&run);
    ck_assert_msg(fabs(run.mean_wait - answer->mean_wait) < 1e-9, "%s: %f", answer->name,
                  run.mean_wait);
    for (unsigned i = 0; i < answer->n; i++)
        printed = printed || answer->waits[i];
    for (unsigned i = 0; printed && i < answer->n; i++) {
        ck_assert_msg(jobs[i].record.waited_ns == answer->waits[i] * SECOND, "%s: job %u: %f",
                      answer->name, i, (double)jobs[i].record.waited_ns / 1e9);
        ck_assert_uint_eq(jobs[i].record.ran_ns, jobs[i].burst_ns);
        ck_assert_uint_eq(jobs[i].record.turnaround_ns,
                          jobs[i].record.ended_ns - jobs[i].record.submitted_ns);
    }
}
END_TEST

START_TEST(stride_sequence)
{
    struct queue_config config = {.policy = QUEUE_STRIDE, .servers = 1, .quantum_ns = SECOND};
    struct virtual_job jobs[3] = {{.burst_ns = 100 * SECOND, .spec = {.tickets = 100}},
                                  {.burst_ns = 100 * SECOND, .spec = {.tickets = 50}},
                                  {.burst_ns = 100 * SECOND, .spec = {.tickets = 250}}};
    struct virtual_run run = {.config = &config, .jobs = jobs, .nr_jobs = 3, .until_ns = 0};
    uint64_t ran[3] = {0};

    run.until_ns = 8 * SECOND - 1;
    virtual_run(&run);
    /* A B C C C A C C, and one that keeps the server is not started again. */
    ck_assert_str_eq(run.trace, "ABCAC");
    ck_assert_uint_eq(100 * SECOND - jobs[0].left_ns, 2 * SECOND);
    ck_assert_uint_eq(100 * SECOND - jobs[1].left_ns, 1 * SECOND);

    memset(run.trace, 0, sizeof(run.trace));
    for (unsigned i = 0; i < 3; i++)
        jobs[i].here = jobs[i].running = false;
    run.until_ns = 80 * SECOND;
    virtual_run(&run);
    for (unsigned i = 0; i < 3; i++)
        ran[i] = 100 * SECOND - jobs[i].left_ns +
                 (jobs[i].running ? 80 * SECOND - jobs[i].resumed_ns : 0);
    ck_assert_uint_eq(ran[0], 20 * SECOND);
    ck_assert_uint_eq(ran[1], 10 * SECOND);
    ck_assert_uint_eq(ran[2], 50 * SECOND);
}
END_TEST

START_TEST(lottery_shares)
{
    struct queue_config config = {
        .policy = QUEUE_LOTTERY, .servers = 1, .quantum_ns = SECOND, .seed = (uint64_t)_i};
    struct virtual_job jobs[3] = {{.burst_ns = 100000 * SECOND, .spec = {.tickets = 100}},
                                  {.burst_ns = 100000 * SECOND, .spec = {.tickets = 200}},
                                  {.burst_ns = 100000 * SECOND, .spec = {.tickets = 400}}};
    struct virtual_run run = {
        .config = &config, .jobs = jobs, .nr_jobs = 3, .until_ns = 70000 * SECOND};

    virtual_run(&run);
    for (unsigned i = 0; i < 3; i++) {
        double ran = (double)(jobs[i].burst_ns - jobs[i].left_ns) / 1e9;
        double p = jobs[i].spec.tickets / 700.0, sigma = sqrt(70000 * p * (1 - p));

        ck_assert_msg(fabs(ran - 70000 * p) < 5 * sigma, "%u: %f", i, ran);
    }
}
END_TEST

/* An arrival goes ahead of a job whose quantum ends at that instant. */
START_TEST(arrival_before_expiry)
{
    struct queue_config config = {.policy = QUEUE_RR, .servers = 1, .quantum_ns = 2 * SECOND};
    struct virtual_job jobs[3] = {{.burst_ns = 6 * SECOND},
                                  {.burst_ns = 2 * SECOND},
                                  {.burst_ns = 2 * SECOND, .arrival_ns = 2 * SECOND}};
    struct virtual_run run = {.config = &config, .jobs = jobs, .nr_jobs = 3};

    virtual_run(&run);
    ck_assert_str_eq(run.trace, "ABCA");
}
END_TEST

/* One alone keeps its server without being asked about, in step with its quanta. */
START_TEST(quanta_stay_in_step)
{
    struct queue_config config = {.policy = QUEUE_RR, .servers = 1, .quantum_ns = 10};
    struct queue *q;
    struct queue_decision decision;
    struct queue_spec spec = {.cookie = 1};
    queue_job_t a, b;

    ck_assert_int_eq(queue_new(&config, &q, NULL), 0);
    ck_assert_int_eq(queue_submit(q, 0, &spec, &a, NULL), 0);
    ck_assert(queue_decide(q, 0, &decision) && decision.action == QUEUE_RUN);
    ck_assert(!queue_decide(q, 0, &decision));
    ck_assert_uint_eq(queue_next(q, 0), QUEUE_NEVER);
    ck_assert_int_eq(queue_submit(q, 34, &spec, &b, NULL), 0);
    ck_assert(!queue_decide(q, 34, &decision));
    ck_assert_uint_eq(queue_next(q, 34), 40);
    /* asked late: it happens late */
    ck_assert(queue_decide(q, 47, &decision) && decision.action == QUEUE_PAUSE &&
              decision.job == a);
    ck_assert_int_eq(decision.reason, QUEUE_QUANTUM_OVER);
    ck_assert(queue_decide(q, 47, &decision) && decision.action == QUEUE_RUN && decision.job == b);
    ck_assert_uint_eq(queue_next(q, 47), 57);
    queue_free(q);
}
END_TEST

START_TEST(ageing_ends_starvation)
{
    /* A stream of urgent jobs that alone fill the server; one of priority 10 among them. */
    struct queue_config config = {.policy = QUEUE_PRIORITY, .servers = 1, .preemptive = _i & 1};
    struct virtual_job jobs[201] = {{.burst_ns = 3 * SECOND, .spec = {.priority = 10}}};
    struct virtual_run run = {.config = &config, .jobs = jobs, .nr_jobs = 201};

    for (unsigned i = 1; i < 201; i++)
        jobs[i] = (struct virtual_job){.arrival_ns = (i - 1) * SECOND, .burst_ns = SECOND};
    virtual_run(&run);
    ck_assert_uint_ge(jobs[0].record.ended_ns, 200 * SECOND);

    config.ageing_ns = 2 * SECOND;
    for (unsigned i = 0; i < 201; i++)
        jobs[i].here = jobs[i].running = false;
    virtual_run(&run);
    /* It gains a level each 2 s: at 20 s (22 s to pause another) nothing newer is ahead of it. */
    ck_assert_msg(jobs[0].record.started_ns <= 24 * SECOND, "%f",
                  (double)jobs[0].record.started_ns / 1e9);
    ck_assert_uint_le(jobs[0].record.ended_ns, 40 * SECOND);
}
END_TEST

/* EASY: what is behind may run beside the first, if that does not delay it. */
START_TEST(backfill)
{
    struct queue_config config = {.policy = QUEUE_FCFS, .capacity = {4000, 0}};
    struct virtual_job jobs[4] = {
        {.burst_ns = 10 * SECOND, .spec = {.estimate_ns = 10 * SECOND, .need = {3000}}},
        {.burst_ns = 5 * SECOND, .spec = {.estimate_ns = 5 * SECOND, .need = {4000}}},
        {.burst_ns = 20 * SECOND, .spec = {.estimate_ns = 20 * SECOND, .need = {1000}}},
        {.burst_ns = 8 * SECOND, .spec = {.estimate_ns = 8 * SECOND, .need = {1000}}}};
    struct virtual_run run = {.config = &config, .jobs = jobs, .nr_jobs = 4};

    virtual_run(&run);
    ck_assert_uint_eq(jobs[1].record.started_ns, 10 * SECOND);
    ck_assert_uint_eq(jobs[3].record.started_ns, 15 * SECOND);

    config.backfill = QUEUE_BACKFILL_EASY;
    for (unsigned i = 0; i < 4; i++)
        jobs[i].here = jobs[i].running = false;
    virtual_run(&run);
    ck_assert_uint_eq(jobs[3].record.started_ns, 0);           /* ends at 8, before 10 */
    ck_assert_uint_eq(jobs[1].record.started_ns, 10 * SECOND); /* not delayed */
    ck_assert_uint_eq(jobs[2].record.started_ns, 15 * SECOND); /* would have delayed it */
}
END_TEST

/* One that needs the room of two pauses two, and only when that is enough. */
START_TEST(preempts_as_many_as_needed)
{
    struct queue_config config = {
        .policy = QUEUE_PRIORITY, .preemptive = true, .capacity = {4000, 0}};
    struct queue *q;
    struct queue_decision decision;
    struct queue_spec small = {.priority = 5, .need = {1000}, .cookie = 1},
                      tough = {.priority = 1, .need = {2000}, .cookie = 2},
                      urgent = {.priority = 3, .need = {3000}, .cookie = 3};
    queue_job_t a, b, c, d, e;

    ck_assert_int_eq(queue_new(&config, &q, NULL), 0);
    ck_assert_int_eq(queue_submit(q, 0, &small, &a, NULL), 0);
    ck_assert_int_eq(queue_submit(q, 0, &small, &b, NULL), 0);
    ck_assert_int_eq(queue_submit(q, 0, &tough, &c, NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert(queue_decide(q, 0, &decision) && decision.action == QUEUE_RUN);
    ck_assert(!queue_decide(q, 0, &decision));
    ck_assert_int_eq(queue_submit(q, 1, &urgent, &d, NULL), 0);
    ck_assert(!queue_decide(q, 1, &decision)); /* both small ones free 2000 only */
    ck_assert_int_eq(queue_cancel(q, 2, d, NULL), 0);
    urgent.need[0] = 2000;
    ck_assert_int_eq(queue_submit(q, 2, &urgent, &e, NULL), 0);
    ck_assert(queue_decide(q, 2, &decision) && decision.job == b);
    ck_assert_int_eq(decision.reason, QUEUE_URGENT);
    ck_assert(queue_decide(q, 2, &decision) && decision.job == a);
    ck_assert(queue_decide(q, 2, &decision) && decision.job == e);
    ck_assert_int_eq(decision.action, QUEUE_RUN);
    ck_assert(!queue_decide(q, 2, &decision));
    queue_free(q);
}
END_TEST

START_TEST(refuses_nonsense)
{
    struct queue_config config = {.policy = QUEUE_RR, .servers = 1};
    struct queue_spec spec = {.need = {5000}};
    struct queue *q;
    queue_job_t job, stale;
    struct queue_record record;
    struct queue_decision decision;
    struct err err = ERR_INIT;

    ck_assert_int_eq(queue_new(&config, &q, &err), -EINVAL);
    config = (struct queue_config){.policy = QUEUE_FCFS};
    ck_assert_int_eq(queue_new(&config, &q, &err), -EINVAL);
    config.policy = 77;
    ck_assert_int_eq(queue_new(&config, &q, &err), -EINVAL);
    config = (struct queue_config){.policy = QUEUE_FCFS, .capacity = {4000}, .jobs_max = 2};
    ck_assert_int_eq(queue_new(&config, &q, &err), 0);
    ck_assert_int_eq(queue_submit(q, 0, &spec, &job, &err), -E2BIG);
    ck_assert_ptr_nonnull(strstr(err.message, "5000"));
    spec.need[0] = 1000;
    spec.priority = 1 << 20;
    ck_assert_int_eq(queue_submit(q, 0, &spec, &job, &err), -EINVAL);
    spec.priority = 0;
    ck_assert_int_eq(queue_submit(q, 0, &spec, &stale, &err), 0);
    ck_assert_int_eq(queue_finish(q, 0, stale, NULL), -EINVAL);
    ck_assert_int_eq(queue_cancel(q, 5, stale, &record), 0);
    ck_assert_uint_eq(record.waited_ns, 5);
    ck_assert_uint_eq(record.started_ns, QUEUE_NEVER);
    ck_assert_int_eq(queue_submit(q, 5, &spec, &job, &err), 0);
    ck_assert_int_eq(queue_cancel(q, 5, stale, NULL), -ENOENT);
    ck_assert_int_eq(queue_finish(q, 5, QUEUE_NO_JOB, NULL), -ENOENT);
    ck_assert_int_eq(queue_submit(q, 5, &spec, &stale, &err), 0);
    ck_assert_int_eq(queue_submit(q, 5, &spec, &stale, &err), -ENOSPC);
    ck_assert(queue_decide(q, 3, &decision)); /* time never goes back */
    ck_assert_int_eq(queue_finish(q, 4, decision.job, &record), 0);
    ck_assert_uint_eq(record.ended_ns, 5);
    queue_free(q);
}
END_TEST

START_TEST(rebuilt_after_a_restart)
{
    struct queue_config config = {.policy = QUEUE_SRTF, .servers = 1};
    struct queue_spec half_done = {.estimate_ns = 100, .ran_ns = 60, .waited_ns = 7},
                      fresh = {.estimate_ns = 50};
    struct queue *q;
    struct queue_decision decision;
    struct queue_record record;
    queue_job_t a, b, c;

    ck_assert_int_eq(queue_new(&config, &q, NULL), 0);
    ck_assert_int_eq(queue_adopt(q, 0, &half_done, &a, NULL), 0);
    ck_assert_int_eq(queue_adopt(q, 0, &half_done, &c, NULL), -EBUSY);
    ck_assert_int_eq(queue_submit(q, 0, &fresh, &b, NULL), 0);
    ck_assert(!queue_decide(q, 0, &decision));
    ck_assert_int_eq(queue_finish(q, 40, a, &record), 0);
    ck_assert_uint_eq(record.ran_ns, 100);
    ck_assert_uint_eq(record.turnaround_ns, 107);
    ck_assert(queue_decide(q, 40, &decision) && decision.job == b);
    queue_free(q);
}
END_TEST

START_TEST(order_and_views)
{
    struct queue_config config = {.policy = QUEUE_SJF, .servers = 1};
    static const uint64_t estimates[] = {50, 0, 20, 90, 20};
    static const unsigned expected[] = {2, 4, 0, 3, 1};
    queue_job_t jobs[5], order[5];
    struct queue_view view;
    struct queue *q;
    size_t count;

    ck_assert_int_eq(queue_new(&config, &q, NULL), 0);
    for (unsigned i = 0; i < 5; i++) {
        struct queue_spec spec = {.estimate_ns = estimates[i], .cookie = i};

        ck_assert_int_eq(queue_submit(q, i, &spec, &jobs[i], NULL), 0);
    }
    ck_assert_int_eq(queue_order(q, order, 5, &count), 0);
    ck_assert_uint_eq(count, 5);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_uint_eq(order[i], jobs[expected[i]]);
    ck_assert_int_eq(queue_change(q, 5, jobs[3], &(struct queue_spec){.estimate_ns = 1}), 0);
    ck_assert_int_eq(queue_order(q, order, 1, &count), 0);
    ck_assert_uint_eq(order[0], jobs[3]);
    ck_assert_int_eq(queue_inspect(q, 10, jobs[0], &view), 0);
    ck_assert_uint_eq(view.waited_ns, 10);
    ck_assert_int_eq(view.state, QUEUE_WAITING);
    ck_assert_uint_eq(view.remaining_ns, 50);
    queue_free(q);
}
END_TEST

START_TEST(names)
{
    for (int policy = 0; policy < QUEUE_POLICIES; policy++)
        ck_assert_int_eq(queue_policy_parse(queue_policy_name((enum queue_policy)policy)), policy);
    ck_assert_int_eq(queue_policy_parse("lifo"), -EINVAL);
}
END_TEST

TEST_MAIN("queue", tcase_add_loop_test(tcase, known_answers, 0, (int)ARRAY_LEN(answers));
          tcase_add_test(tcase, stride_sequence); tcase_add_loop_test(tcase, lottery_shares, 0, 3);
          tcase_add_test(tcase, arrival_before_expiry); tcase_add_test(tcase, quanta_stay_in_step);
          tcase_add_loop_test(tcase, ageing_ends_starvation, 0, 2); tcase_add_test(tcase, backfill);
          tcase_add_test(tcase, preempts_as_many_as_needed);
          tcase_add_test(tcase, refuses_nonsense); tcase_add_test(tcase, rebuilt_after_a_restart);
          tcase_add_test(tcase, order_and_views); tcase_add_test(tcase, names);)
