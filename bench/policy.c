/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decision library's costs against their bars; processor time of this process, median of
 * repeated runs where a run is short. bench_policy [hosts instances]: the size of the placement
 * (default 1000000 10000000). Exit status 1 if a bar is missed.
 */
#include "base/clock.h"
#include "base/util.h"
#include "policy/allocation.h"
#include "policy/balancing.h"
#include "policy/queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static bool missed;

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((random_state >> 32) * bound >> 32);
}

static void row(const char *what, double value, double bar, const char *unit)
{
    bool ok = value <= bar;

    printf("%-58s %12.3f %-8s bar %10.3f  %s\n", what, value, unit, bar, ok ? "ok" : "MISSED");
    fflush(stdout);
    missed = missed || !ok;
}

enum { JOBS = 100000 };

static void submit_all(struct queue *q, uint64_t now, queue_job_t *jobs)
{
    for (unsigned i = 0; i < JOBS; i++) {
        struct queue_spec spec = {.cookie = i,
                                  .estimate_ns = 1 + random_below(1000000),
                                  .priority = (int32_t)random_below(100),
                                  .tickets = 1 + random_below(1000)};

        if (queue_submit(q, now + i, &spec, &jobs[i], NULL) < 0)
            abort();
    }
}

/* Runs, ends, quanta and preemptions, until all are done or enough is seen. Returns the steps. */
static uint64_t run_all(struct queue *q, uint64_t now)
{
    struct queue_decision decision;
    queue_job_t started[16] = {0};
    uint64_t steps = 0;

    for (unsigned turn = 0; steps < JOBS && turn < JOBS; now += 1001, turn++) {
        while (queue_decide(q, now, &decision)) {
            if (decision.action == QUEUE_RUN)
                started[steps % 16] = decision.job;
            steps++;
        }
        queue_finish(q, now, started[turn % 16], NULL); /* unless it is done or paused */
    }
    return steps;
}

static void bench_queue(enum queue_policy policy)
{
    struct queue_config config = {
        .policy = policy, .servers = 16, .quantum_ns = 1000, .preemptive = true, .ageing_ns = 1000};
    queue_job_t *jobs = calloc(JOBS, sizeof(*jobs));
    struct queue *q;
    double times[4];
    uint64_t steps;
    char what[96];

    if (!jobs || queue_new(&config, &q, NULL) < 0)
        abort();
    submit_all(q, 0, jobs); /* the table grows */
    for (unsigned i = 0; i < JOBS; i++)
        queue_cancel(q, JOBS, jobs[i], NULL);
    times[0] = cpu_seconds();
    submit_all(q, JOBS, jobs);
    times[1] = cpu_seconds();
    for (unsigned i = 0; i < JOBS; i++)
        if (queue_cancel(q, 3 * JOBS, jobs[(i * UINT64_C(7919)) % JOBS], NULL) < 0)
            abort();
    times[2] = cpu_seconds();
    submit_all(q, 3 * JOBS, jobs);
    times[3] = cpu_seconds();
    steps = run_all(q, 4 * JOBS);
    snprintf(what, sizeof(what), "queue %s of 100,000: submit", queue_policy_name(policy));
    row(what, (times[1] - times[0]) / JOBS * 1e6, 10, "us");
    snprintf(what, sizeof(what), "queue %s of 100,000: cancel any", queue_policy_name(policy));
    row(what, (times[2] - times[1]) / JOBS * 1e6, 10, "us");
    snprintf(what, sizeof(what), "queue %s of 100,000: a decision", queue_policy_name(policy));
    row(what, (cpu_seconds() - times[3]) / (double)steps * 1e6, 10, "us");
    queue_free(q);
    free(jobs);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void bench_allocation(enum allocation_mode mode)
{
    enum { INSTANCES = 10000, ROUNDS = 21 };
    const double capacity[ALLOCATION_RESOURCES] = {1000, 1e13, 1e11, 1e11};
    struct allocation_policy policy = {.mode = mode};
    struct allocation_instance *instances = calloc(INSTANCES, sizeof(*instances));
    struct allocation_result *results = calloc(INSTANCES, sizeof(*results));
    double times[ROUNDS];

    if (!instances || !results)
        abort();
    for (unsigned i = 0; i < INSTANCES; i++)
        for (unsigned r = 0; r < ALLOCATION_RESOURCES; r++) {
            struct allocation_instance *a = &instances[i];
            double part = capacity[r] / INSTANCES;

            a->alpha = 1;
            a->priority = 1 + random_below(1000);
            a->beta = 0.1;
            a->run_seconds = random_below(1000);
            a->reservation[r] = random_below(3) ? 0 : part * random_below(100) / 100;
            a->limit[r] = random_below(2) ? ALLOCATION_UNLIMITED
                                          : part * (1 + random_below(200) / 100.0);
            a->used[r] = part * random_below(200) / 100;
            a->pressure[r] = random_below(30) / 100.0;
        }
    for (unsigned k = 0; k < ROUNDS; k++) {
        double start = cpu_seconds();

        if (allocation_round(capacity, &policy, instances, INSTANCES, results, NULL, NULL) < 0)
            abort();
        times[k] = (cpu_seconds() - start) * 1e3;
    }
    qsort(times, ROUNDS, sizeof(times[0]), compare);
    row(mode == ALLOCATION_STATIC ? "allocation round, 10,000 instances, 4 resources, static"
                                  : "allocation round, 10,000 instances, 4 resources, dynamic",
        times[ROUNDS / 2], 5, "ms");
    free(instances);
    free(results);
}

static void add_hosts(struct placement *p, uint32_t hosts)
{
    static const uint32_t sizes[][2] = {{32000, 131072}, {64000, 262144}, {96000, 196608}};

    for (uint32_t i = 0; i < hosts; i++) {
        const uint32_t *size = sizes[random_below(3)];
        struct placement_host host = {.capacity = {size[0], size[1], 1000000},
                                      .zone = (uint8_t)(i % 3)};
        uint32_t number;

        if (placement_host_add(p, &host, &number, NULL) < 0)
            abort();
    }
}

static double bench_placement(enum placement_rule rule, uint32_t hosts, uint32_t instances)
{
    static const uint32_t shapes[][2] = {{500, 1024},  {1000, 2048},  {2000, 8192},
                                         {4000, 8192}, {8000, 32768}, {250, 4096}};
    struct placement_config config = {.rule = rule};
    struct placement *p;
    double start = cpu_seconds(), seconds;
    uint32_t placed = 0;
    struct rusage usage;

    if (placement_new(&config, &p, NULL) < 0)
        abort();
    random_state = 1;
    add_hosts(p, hosts);
    for (uint32_t i = 0; i < instances; i++) {
        const uint32_t *shape = shapes[random_below(ARRAY_LEN(shapes))];
        struct placement_need need = {.need = {shape[0], shape[1], 1}};
        uint32_t host, instance;

        need.need[PLACEMENT_DISK] = 0;
        placed += placement_place(p, &need, &host, &instance, NULL) == 0;
    }
    seconds = cpu_seconds() - start;
    getrusage(RUSAGE_SELF, &usage);
    printf("%-12s %8u hosts %9u instances: %7.2f s, %6.3f us each, %u placed, %.2f GiB\n",
           placement_rule_name(rule), hosts, instances, seconds, seconds / instances * 1e6, placed,
           (double)usage.ru_maxrss / 1024 / 1024);
    fflush(stdout);
    if (placed == instances) {
        struct balancing_config aim = {.aim = BALANCING_SPREAD, .threshold = 0.01};
        struct balancing_plan plan;

        start = cpu_seconds();
        if (balancing_plan(p, &aim, &plan, NULL) < 0)
            abort();
        printf("%-12s a plan of %zu moves: %.3f s\n", "", plan.nr_moves, cpu_seconds() - start);
        balancing_plan_done(&plan);
    }
    placement_free(p);
    if ((double)usage.ru_maxrss > 8.0 * 1024 * 1024)
        missed = true;
    return seconds;
}

int main(int argc, char **argv)
{
    uint32_t hosts = argc > 2 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
    uint32_t instances = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 10000000;

    for (int policy = 0; policy < QUEUE_POLICIES; policy++)
        bench_queue((enum queue_policy)policy);
    bench_allocation(ALLOCATION_STATIC);
    bench_allocation(ALLOCATION_DYNAMIC);
    for (int rule = 0; rule < PLACEMENT_RULES; rule++) {
        double small = bench_placement((enum placement_rule)rule, hosts / 100, instances / 100);
        double large = bench_placement((enum placement_rule)rule, hosts, instances);
        char what[96];

        snprintf(what, sizeof(what), "placement %s: %u hosts, %u instances",
                 placement_rule_name((enum placement_rule)rule), hosts, instances);
        row(what, large, 120, "s");
        printf("%-12s each costs %.2f times what it costs at a hundredth of the size\n", "",
               large / 100 / small);
    }
    return missed;
}
