/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs under the real queues: the printed answers of the textbooks, and properties that hold
 * whatever the jobs are: Little's law, the conservation of work, equal busy time under all policies
 * that never idle, SJF never worse than FCFS when all arrive together.
 */
#include "model/jobs.h"
#include "model/queueing.h"
#include "model/random.h"

#include "near.h"
#include "testing.h"

#include "base/util.h"

#include <string.h>

#define JOBS_MAX 3000
#define S        UINT64_C(1000000000)

struct list {
    struct job jobs[JOBS_MAX];
    size_t nr, next;
    double ran[JOBS_MAX];
};

static bool take(void *context, struct job *ret)
{
    struct list *list = context;

    if (list->next == list->nr)
        return false;
    *ret = list->jobs[list->next++];
    return true;
}

static void ran(void *context, const struct job *job, uint32_t server, uint64_t start, uint64_t end)
{
    struct list *list = context;

    (void)server;
    list->ran[job->number] += (double)(end - start) * 1e-9;
}

static void simulate(struct list *list, const struct queue_config *config,
                     struct jobs_result *result)
{
    struct jobs jobs = {
        .next = take, .slice = ran, .context = list, .lanes = config, .nr_lanes = 1};
    struct err err = ERR_INIT;

    list->next = 0;
    memset(list->ran, 0, sizeof(list->ran));
    ck_assert_msg(jobs_simulate(&jobs, result, &err) == 0, "%s", err.message);
}

static void add(struct list *list, double arrival, double burst, int priority)
{
    list->jobs[list->nr] = (struct job){.number = list->nr,
                                        .arrival_ns = (uint64_t)(arrival * 1e9),
                                        .burst_ns = (uint64_t)(burst * 1e9),
                                        .estimate_ns = (uint64_t)(burst * 1e9),
                                        .priority = priority};
    list->nr++;
}

START_TEST(known_answers)
{
    static const struct {
        enum queue_policy policy;
        double quantum, wait;
        unsigned nr;
        double arrivals[5], bursts[5];
        int priorities[5];
    } cases[] = {
        {QUEUE_FCFS, 0, 17, 3, {0}, {24, 3, 3}, {0}},
        {QUEUE_FCFS, 0, 3, 3, {0}, {3, 3, 24}, {0}},
        {QUEUE_RR, 4, 17.0 / 3, 3, {0}, {24, 3, 3}, {0}},
        {QUEUE_SJF, 0, 7, 4, {0}, {6, 8, 7, 3}, {0}},
        {QUEUE_FCFS, 0, 10.25, 4, {0}, {6, 8, 7, 3}, {0}},
        {QUEUE_SRTF, 0, 6.5, 4, {0, 1, 2, 3}, {8, 4, 9, 5}, {0}},
        {QUEUE_SJF, 0, 7.75, 4, {0, 1, 2, 3}, {8, 4, 9, 5}, {0}},
        {QUEUE_FCFS, 0, 8.75, 4, {0, 1, 2, 3}, {8, 4, 9, 5}, {0}},
        {QUEUE_PRIORITY, 0, 8.2, 5, {0}, {10, 1, 2, 1, 5}, {3, 1, 4, 5, 2}},
        {QUEUE_FCFS, 0, 28, 5, {0}, {10, 29, 3, 7, 12}, {0}},
        {QUEUE_SJF, 0, 13, 5, {0}, {10, 29, 3, 7, 12}, {0}},
        {QUEUE_RR, 10, 23, 5, {0}, {10, 29, 3, 7, 12}, {0}},
    };
    static struct jobs_result result;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        static struct list list;
        struct queue_config config = {.policy = cases[i].policy,
                                      .servers = 1,
                                      .quantum_ns = (uint64_t)(cases[i].quantum * 1e9)};

        list.nr = 0;
        for (unsigned k = 0; k < cases[i].nr; k++)
            add(&list, cases[i].arrivals[k], cases[i].bursts[k], cases[i].priorities[k]);
        simulate(&list, &config, &result);
        NEAR(result.wait.mean, cases[i].wait, 1e-12);
    }
}
END_TEST

static void random_jobs(struct list *list, uint64_t seed, bool together, uint32_t servers)
{
    struct random random;
    double now = 0;

    random_init(&random, seed, 0);
    list->nr = 0;
    for (unsigned i = 0; i < 200 + seed * 7 % 400; i++) {
        now += together ? 0 : -log(random_unit(&random)) / servers;
        /* on a grid, so that much happens at one instant */
        add(list, floor(now * 4) / 4, floor(random_unit(&random) * 8) / 4,
            (int)(random_bits(&random) % 5));
    }
}

START_TEST(properties)
{
    static struct list list;
    static struct jobs_result result;

    for (uint64_t seed = 0; seed < 40; seed++) {
        uint32_t servers = 1 + seed % 3;
        double busy = -1, end = -1;

        random_jobs(&list, seed, false, servers);
        for (unsigned policy = 0; policy < QUEUE_POLICIES; policy++) {
            struct queue_config config = {.policy = (enum queue_policy)policy,
                                          .servers = servers,
                                          .quantum_ns = S / 2,
                                          .preemptive = seed % 2,
                                          .ageing_ns = seed % 4 == 1 ? 3 * S : 0,
                                          .seed = seed};

            simulate(&list, &config, &result);
            ck_assert_uint_eq(result.ended, list.nr);
            NEAR(result.jobs_s, result.spent_s, 1e-9); /* Little */
            NEAR(result.wait.mean * (double)list.nr + result.work_s, result.spent_s, 1e-9);
            NEAR(result.busy_s, result.work_s, 1e-9); /* conserved */
            for (size_t i = 0; i < list.nr; i++)
                ck_assert_double_le(fabs(list.ran[i] - (double)list.jobs[i].burst_ns * 1e-9), 1e-6);
            if (busy < 0)
                busy = result.busy_s;
            NEAR(result.busy_s, busy, 1e-9);
            if (servers == 1) { /* one server that never idles ends at the same time */
                end = end < 0 ? (double)result.last_end_ns : end;
                NEAR((double)result.last_end_ns, end, 1e-12);
            }
        }
    }
}
END_TEST

START_TEST(shortest_first_is_best)
{
    static struct list list;
    static struct jobs_result fcfs, sjf;

    for (uint64_t seed = 0; seed < 60; seed++) {
        struct queue_config config = {.policy = QUEUE_FCFS, .servers = 1};

        random_jobs(&list, seed, true, 1);
        simulate(&list, &config, &fcfs);
        config.policy = QUEUE_SJF;
        simulate(&list, &config, &sjf);
        ck_assert_double_le(sjf.wait.mean, fcfs.wait.mean + 1e-9);
    }
}
END_TEST

/* ---- against formulas ---- */

struct open_load {
    struct random arrivals, services, kinds;
    double now, rate, mean;
    struct distribution service;
    uint64_t nr, most;
    bool priorities;
    struct tally waits[2];
};

static bool open_next(void *context, struct job *ret)
{
    struct open_load *load = context;

    if (load->nr == load->most)
        return false;
    load->now += -log(random_unit(&load->arrivals)) / load->rate;
    *ret = (struct job){.number = load->nr++, .arrival_ns = (uint64_t)(load->now * 1e9)};
    ret->burst_ns = (uint64_t)(distribution_draw(&load->service, &load->services) * 1e9);
    ret->priority = load->priorities ? (int)(random_bits(&load->kinds) % 2) : 0;
    return true;
}

static void open_ended(void *context, const struct job *job, const struct queue_record *record)
{
    struct open_load *load = context;

    tally_add(&load->waits[job->priority], (double)record->waited_ns * 1e-9);
}

static void open_run(struct open_load *load, const struct queue_config *config, double scv,
                     struct jobs_result *result)
{
    struct jobs jobs = {
        .next = open_next, .ended = open_ended, .context = load, .lanes = config, .nr_lanes = 1};

    ck_assert_int_eq(distribution_fit(&load->service, load->mean, scv, NULL), 0);
    random_init(&load->arrivals, 11, 0);
    random_init(&load->services, 11, 1);
    random_init(&load->kinds, 11, 2);
    ck_assert_int_eq(jobs_simulate(&jobs, result, NULL), 0);
}

START_TEST(against_formulas)
{
    static struct jobs_result result;
    struct open_load load = {.rate = 2, .mean = 1, .most = 300000};
    struct queue_config config = {.policy = QUEUE_FCFS, .servers = 3};
    struct queueing_result theory;
    double lambda[] = {.4, .4}, service[] = {1, 1}, scv[] = {1, 1}, wait[2], response[2];

    open_run(&load, &config, 1, &result);
    ck_assert_int_eq(queueing_mmc(2, 1, 3, &theory, NULL), 0);
    NEAR(result.wait.mean, theory.wait, .04);
    load = (struct open_load){.rate = .7, .mean = 1, .most = 300000};
    config.servers = 1;
    open_run(&load, &config, 4, &result);
    ck_assert_int_eq(queueing_mg1(.7, 1, 4, &theory, NULL), 0);
    NEAR(result.wait.mean, theory.wait, .08);
    /* Round robin with a small quantum: processor sharing, whatever the distribution. */
    load = (struct open_load){.rate = .7, .mean = 1, .most = 60000};
    config = (struct queue_config){.policy = QUEUE_RR, .servers = 1, .quantum_ns = S / 50};
    open_run(&load, &config, 4, &result);
    ck_assert_int_eq(queueing_mg1_ps(.7, 1, &theory, NULL), 0);
    NEAR(result.turnaround.mean, theory.response, .08);
    for (int preemptive = 0; preemptive < 2; preemptive++) {
        load = (struct open_load){.rate = .8, .mean = 1, .most = 300000, .priorities = true};
        config =
            (struct queue_config){.policy = QUEUE_PRIORITY, .servers = 1, .preemptive = preemptive};
        open_run(&load, &config, 1, &result);
        ck_assert_int_eq(
            queueing_mg1_priority(2, lambda, service, scv, preemptive, wait, response, NULL), 0);
        NEAR(load.waits[0].mean, wait[0], .06);
        NEAR(load.waits[1].mean, wait[1], .08);
    }
}
END_TEST

START_TEST(switching_costs)
{
    static struct list list;
    static struct jobs_result result;
    struct queue_config config = {.policy = QUEUE_RR, .servers = 1, .quantum_ns = S};
    struct jobs jobs = {.next = take, .context = &list, .lanes = &config, .nr_lanes = 1};

    add(&list, 0, 2, 0);
    add(&list, 0, 2, 0);
    jobs.switch_ns = S / 4;
    ck_assert_int_eq(jobs_simulate(&jobs, &result, NULL), 0);
    NEAR(result.work_s, 4, 1e-12);
    ck_assert_double_gt(result.busy_s, 4.9);
    list.next = 0;
    jobs.switch_ns = S;
    ck_assert_int_eq(jobs_simulate(&jobs, &result, NULL), -EINVAL);
}
END_TEST

TEST_MAIN("jobs", tcase_add_test(tcase, known_answers); tcase_add_test(tcase, properties);
          tcase_add_test(tcase, shortest_first_is_best); tcase_add_test(tcase, against_formulas);
          tcase_add_test(tcase, switching_costs);)
