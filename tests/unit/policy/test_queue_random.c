/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holds for every workload, on random ones in virtual time (virtual_time.c checks capacity and
 * conservation of work at every instant): the same decisions each time, the same busy time under
 * all policies, no policy with a shorter mean wait than SRTF on one server, nobody starved with
 * ageing, and the queue's figures against those counted outside.
 */
#define TESTING_TIMEOUT 150
#include "base/util.h"
#include "testing.h"
#include "virtual_time.h"

#define WORKLOADS 40
#define VARIANTS  32 /* of the configuration of each policy */

static uint64_t state;

static uint64_t random_below(uint64_t bound)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint64_t)((unsigned __int128)state * bound >> 64);
}

/* Times are small whole numbers, so that events often meet at one instant. */
static size_t make_workload(int seed, bool with_needs, struct virtual_job *jobs)
{
    size_t n;
    uint64_t span;

    state = (uint64_t)seed * 1000003 + 17;
    n = 2 + random_below(VIRTUAL_MAX / 4);
    span = 1 + random_below(6) * n;
    for (size_t i = 0; i < n; i++) {
        uint64_t burst = 1 + random_below(random_below(4) ? 5 : 40);

        jobs[i] = (struct virtual_job){.arrival_ns = random_below(span),
                                       .burst_ns = burst,
                                       .spec = {.estimate_ns = burst,
                                                .priority = (int32_t)random_below(10),
                                                .tickets = 1 + (uint32_t)random_below(500)}};
        if (with_needs) {
            jobs[i].spec.need[0] = random_below(4) * 1000;
            jobs[i].spec.need[1] = random_below(8) << 20;
        }
    }
    return n;
}

static struct virtual_run run_workload(int seed, const struct queue_config *config,
                                       struct virtual_job *jobs)
{
    struct virtual_run run = {.config = config, .jobs = jobs};

    run.nr_jobs = make_workload(seed, config->capacity[0] > 0, jobs);
    virtual_run(&run);
    for (size_t i = 0; i < run.nr_jobs; i++) {
        const struct queue_record *r = &jobs[i].record;

        ck_assert_uint_eq(r->ran_ns, jobs[i].burst_ns);
        ck_assert_uint_eq(r->submitted_ns, jobs[i].arrival_ns);
        ck_assert_uint_eq(r->ended_ns - r->submitted_ns, r->turnaround_ns);
        ck_assert_uint_eq(r->waited_ns + r->ran_ns, r->turnaround_ns);
    }
    return run;
}

static struct queue_config config_of(int which)
{
    struct queue_config config = {.policy = (enum queue_policy)(which % QUEUE_POLICIES),
                                  .quantum_ns = 1 + (uint64_t)which % 5,
                                  .seed = 5};

    which /= QUEUE_POLICIES;
    config.preemptive = which & 1;
    config.ageing_ns = which & 2 ? 3 : 0;
    if (which & 4) {
        config.capacity[0] = 4000;
        config.capacity[1] = 16 << 20;
    }
    if (which & 8)
        config.servers = 3;
    if (!config.capacity[0] && !config.servers)
        config.servers = 1;
    if (config.policy != QUEUE_RR && config.policy != QUEUE_STRIDE &&
        config.policy != QUEUE_LOTTERY && which & 16)
        config.backfill = QUEUE_BACKFILL_EASY;
    return config;
}

START_TEST(every_configuration)
{
    static struct virtual_job jobs[VIRTUAL_MAX], again[VIRTUAL_MAX];

    for (int variant = 0; variant < VARIANTS; variant++) {
        struct queue_config config = config_of(_i + variant * QUEUE_POLICIES);
        int seed = variant;
        struct virtual_run first = run_workload(seed, &config, jobs),
                           second = run_workload(seed, &config, again);

        ck_assert_str_eq(first.trace, second.trace);
        ck_assert_uint_eq(first.decisions, second.decisions);
        for (size_t i = 0; i < first.nr_jobs; i++)
            ck_assert_uint_eq(jobs[i].record.ended_ns, again[i].record.ended_ns);
    }
}
END_TEST

static void compare_policies(int seed)
{
    static struct virtual_job jobs[VIRTUAL_MAX];
    struct queue_config config = {.policy = QUEUE_SRTF, .servers = 1, .quantum_ns = 3};
    struct virtual_run best = run_workload(seed, &config, jobs);

    for (int policy = 0; policy < QUEUE_POLICIES; policy++) {
        struct virtual_run run;

        config.policy = (enum queue_policy)policy;
        config.preemptive = policy & 1;
        run = run_workload(seed, &config, jobs);
        ck_assert_uint_eq(run.busy_ns, best.busy_ns);
        ck_assert_uint_eq(run.end_ns, best.end_ns);
        ck_assert_msg(run.mean_wait >= best.mean_wait * (1 - 1e-12), "%s: %g < %g",
                      queue_policy_name(config.policy), run.mean_wait, best.mean_wait);
    }
}

START_TEST(one_server)
{
    for (int seed = 0; seed < WORKLOADS; seed++)
        compare_policies(seed);
}
END_TEST

/* With ageing A and priorities 0 ... 9, nothing that arrives 10 A or more after a job is ever ahead
 * of it: it waits at most for what was there by then. */
START_TEST(nobody_starves)
{
    static struct virtual_job jobs[VIRTUAL_MAX];
    struct queue_config config = {.policy = QUEUE_PRIORITY, .servers = 1, .ageing_ns = 2};

    for (int seed = _i * 50; seed < _i * 50 + 50; seed++) {
        struct virtual_run run;

        config.preemptive = _i & 1;
        run = run_workload(seed, &config, jobs);
        for (size_t i = 0; i < run.nr_jobs; i++) {
            uint64_t before = 0, late = jobs[i].arrival_ns + 11 * config.ageing_ns;

            for (size_t k = 0; k < run.nr_jobs; k++)
                if (jobs[k].arrival_ns <= late + (config.preemptive ? jobs[i].burst_ns : 0))
                    before += jobs[k].burst_ns;
            ck_assert_uint_le(jobs[i].record.started_ns, late + before);
        }
    }
}
END_TEST

/* Anything in any order: refused or done, never a crash, and the totals add up. */
static void call_anything(int which)
{
    struct queue_config config = config_of(which);
    queue_job_t jobs[64];
    uint32_t n = 0;
    struct queue *q;
    struct queue_totals totals;

    state = (uint64_t)which + 1;
    ck_assert_int_eq(queue_new(&config, &q, NULL), 0);
    for (unsigned step = 0; step < 5000; step++) {
        uint64_t now = step / 4 + random_below(4);
        struct queue_spec spec = {.estimate_ns = random_below(30),
                                  .priority = (int32_t)random_below(9) - 4,
                                  .tickets = (uint32_t)random_below(9),
                                  .need = {random_below(5) * 1000, random_below(5) << 20}};
        queue_job_t any = n ? jobs[random_below(n)] : random_below(1000);
        struct queue_decision decision;
        struct queue_view view;
        const uint64_t capacity[QUEUE_RESOURCES] = {4000 + random_below(2) * 2000, 32 << 20};

        switch (random_below(8)) {
        case 0:
        case 1:
        case 2:
            if (queue_submit(q, now, &spec, &jobs[n % 64], NULL) == 0)
                n = MIN(n + 1, 63);
            break;
        case 3:
            queue_finish(q, now, any, NULL);
            break;
        case 4:
            if (queue_cancel(q, now, any, NULL) == 0)
                ck_assert_int_eq(queue_inspect(q, now, any, &view), -ENOENT);
            break;
        case 5:
            queue_change(q, now, any, &spec);
            break;
        case 6:
            if (config.capacity[0])
                queue_set_capacity(q, now, capacity);
            break;
        default:
            for (unsigned i = 0; queue_decide(q, now, &decision); i++)
                ck_assert_uint_lt(i, 100000);
        }
        ck_assert_uint_ge(queue_next(q, now), now);
    }
    queue_totals(q, &totals);
    ck_assert_uint_eq(totals.submitted,
                      totals.finished + totals.cancelled + totals.waiting + totals.running);
    queue_free(q);
}

START_TEST(any_calls)
{
    for (int variant = 0; variant < VARIANTS; variant++)
        call_anything(_i + variant * QUEUE_POLICIES);
}
END_TEST

TEST_MAIN("queue_random", tcase_add_loop_test(tcase, every_configuration, 0, QUEUE_POLICIES);
          tcase_add_test(tcase, one_server); tcase_add_loop_test(tcase, nobody_starves, 0, 2);
          tcase_add_loop_test(tcase, any_calls, 0, QUEUE_POLICIES);)
