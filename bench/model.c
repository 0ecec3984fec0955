/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the planner's simulators are, and whether theory lies inside their intervals as often as
 * it should. bench/model.py runs this with one word a figure and reads one JSON object a line.
 *
 *   events            the event core alone: a million pending, cancellation
 *   mmc, priority     M/M/3; a preemptive-priority host under policy/queue.h
 *   cluster H V J     V machines placed on H hosts, J jobs run to completion on them
 *   place H I RULE    I instances placed on H hosts
 *   coverage SEEDS    theory inside the 99 % interval, for five models
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "model/jobs.h"
#include "model/networks.h"
#include "model/queueing.h"
#include "model/requests.h"

#include "model/event.h"
#include "policy/placement.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static double cpu_s(void)
{
    return (double)clock_read_ns(CLOCK_PROCESS_CPUTIME_ID) * 1e-9;
}

static void report(const char *name, uint64_t events, double seconds, double mean, double theory)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    printf("{\"name\": \"%s\", \"events\": %llu, \"cpu_s\": %.3f, \"events_per_s\": %.0f, "
           "\"mean\": %.6g, \"theory\": %.6g, \"peak_mib\": %.1f}\n",
           name, (unsigned long long)events, seconds, (double)events / seconds, mean, theory,
           (double)usage.ru_maxrss / 1024);
}

static void events(uint32_t pending)
{
    struct event_queue q;
    struct random random;
    struct event event;
    char name[40];
    double start;
    enum { EVENTS = 10000000 };

    event_queue_init(&q);
    random_init(&random, 1, 1);
    for (uint32_t i = 0; i < pending; i++)
        event_add(&q, random_bits(&random) >> 34, 0, i);
    start = cpu_s();
    for (uint32_t i = 0; i < EVENTS && event_next(&q, &event); i++)
        event_add(&q, q.now + (random_bits(&random) >> 34), 0, event.subject);
    snprintf(name, sizeof(name), "core, %u pending", pending);
    report(name, EVENTS, cpu_s() - start, 0, 0);
    event_queue_done(&q);
}

static void mmc(void)
{
    static struct requests_class_result class_result;
    struct requests_result result = {.classes = &class_result};
    struct requests_station station = {REQUESTS_FCFS, 3};
    struct distribution demand, between;
    struct requests_class class = {.open = true, .demand = &demand};
    struct requests requests = {&station, 1, &class, 1, 1, 10000000, .05};
    struct queueing_result theory;
    double start;

    distribution_init(&demand, DISTRIBUTION_EXPONENTIAL, 1, 1, NULL);
    distribution_init(&between, DISTRIBUTION_EXPONENTIAL, .5, 1, NULL);
    class.between = between;
    queueing_mmc(2, 1, 3, &theory, NULL);
    start = cpu_s();
    requests_simulate(&requests, &result, NULL);
    report("M/M/3", result.events, cpu_s() - start, class_result.response.mean, theory.response);
}

struct load {
    struct random arrivals, services, kinds;
    double now, rate;
    uint64_t nr, most;
    struct tally waits[2];
    uint32_t lanes;
};

static bool next_job(void *context, struct job *ret)
{
    struct load *load = context;

    if (load->nr == load->most)
        return false;
    load->now += -log(random_unit(&load->arrivals)) / load->rate;
    *ret = (struct job){.number = load->nr,
                        .lane = load->lanes ? (uint32_t)(load->nr % load->lanes) : 0,
                        .arrival_ns = (uint64_t)(load->now * 1e9),
                        .burst_ns = (uint64_t)(-log(random_unit(&load->services)) * 1e9),
                        .priority = (int)(random_bits(&load->kinds) & 1)};
    load->nr++;
    return true;
}

static void job_ended(void *context, const struct job *job, const struct queue_record *record)
{
    struct load *load = context;

    tally_add(&load->waits[job->priority], (double)record->turnaround_ns * 1e-9);
}

static struct jobs_result *run_jobs(struct load *load, const struct queue_config *config,
                                    size_t lanes, uint64_t seed)
{
    struct jobs_result *result = malloc(sizeof(*result));
    struct jobs jobs = {.next = next_job,
                        .ended = job_ended,
                        .context = load,
                        .lanes = config,
                        .nr_lanes = lanes,
                        .lanes_alike = true};
    struct err err = ERR_INIT;

    random_init(&load->arrivals, seed, 0);
    random_init(&load->services, seed, 1);
    random_init(&load->kinds, seed, 2);
    if (!result || jobs_simulate(&jobs, result, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    return result;
}

static void priority(void)
{
    struct queue_config config = {.policy = QUEUE_PRIORITY, .servers = 1, .preemptive = true};
    double lambda[] = {.4, .4}, service[] = {1, 1}, scv[] = {1, 1}, wait[2], response[2];
    struct load load = {.rate = .8, .most = 4000000};
    CLEANUP(freep) struct jobs_result *result = NULL;
    double start = cpu_s();

    result = run_jobs(&load, &config, 1, 1);
    queueing_mg1_priority(2, lambda, service, scv, 1, wait, response, NULL);
    report("preemptive-priority host", result->events + result->pauses, cpu_s() - start,
           load.waits[1].mean, response[1]);
}

/* V machines of 2 cores on H hosts, J jobs on the machines' own queues, to the last job's end. */
static void cluster(uint32_t hosts, uint32_t machines, uint64_t nr)
{
    struct placement_config rule = {.rule = PLACEMENT_BEST_FIT};
    struct placement_need need = {.need = {2000, 4096, 10240}};
    struct queue_config config = {.policy = QUEUE_FCFS, .servers = 2};
    CLEANUP(placement_freep) struct placement *placement = NULL;
    struct load load = {.rate = 1e5, .most = nr, .lanes = machines};
    CLEANUP(freep) struct jobs_result *result = NULL;
    struct err err = ERR_INIT;
    double start = cpu_s();
    uint32_t host, instance, placed = 0;
    int r = placement_new(&rule, &placement, &err);

    for (uint32_t i = 0; r == 0 && i < hosts; i++) {
        struct placement_host one = {
            .capacity = {8000 + i % 4 * 8000, 16384 + i % 3 * 16384, 1 << 20}};

        r = placement_host_add(placement, &one, &host, &err);
    }
    for (; r == 0 && placed < machines; placed++)
        r = placement_place(placement, &need, &host, &instance, &err);
    if (r < 0) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    result = run_jobs(&load, &config, machines, 1);
    report("cluster", result->events, cpu_s() - start, (double)result->ended, (double)nr);
}

static void place(uint32_t hosts, uint32_t instances, const char *rule_name)
{
    int rule = placement_rule_parse(rule_name);
    struct placement_config config = {
        .rule = (enum placement_rule)rule, .hosts_max = hosts, .instances_max = instances};
    CLEANUP(placement_freep) struct placement *placement = NULL;
    struct err err = ERR_INIT;
    struct random random;
    double start = cpu_s(), quarter = 0, last = 0;
    uint32_t host, instance;
    char name[80];
    int r = rule < 0 ? rule : placement_new(&config, &placement, &err);

    random_init(&random, 1, 0);
    for (uint32_t i = 0; r == 0 && i < hosts; i++) {
        struct placement_host one = {.capacity = {32000, 196608, 1 << 20}};

        r = placement_host_add(placement, &one, &host, &err);
    }
    for (uint32_t i = 0; r == 0 && i < instances; i++) {
        uint32_t size = 1u << random_bits(&random) % 3; /* 1, 2, 4 cores; 2 to 8 GiB a core */
        struct placement_need need = {
            .need = {size * 1000, size * (2048u << random_bits(&random) % 3), 1024}};

        if (i == instances / 4)
            quarter = cpu_s();
        if (i == instances - instances / 4)
            last = cpu_s();
        r = placement_place(placement, &need, &host, &instance, &err);
    }
    if (r < 0) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    snprintf(name, sizeof(name), "place %s, last quarter to first %.2f", rule_name,
             (cpu_s() - last) / (quarter - start));
    report(name, instances, cpu_s() - start, 0, 0);
}

/* ---- coverage ---- */

static bool inside(const struct requests *requests, unsigned runs, double theory)
{
    static struct requests_class_result class_result;
    struct requests_result result = {.classes = &class_result};
    struct requests one = *requests;
    struct tally means = {0};

    for (unsigned i = 0; i < runs; i++) {
        one.seed = requests->seed * 1000 + i;
        if (requests_simulate(&one, &result, NULL) < 0)
            exit(1);
        tally_add(&means, class_result.response.mean);
    }
    return fabs(means.mean - theory) <= tally_interval(&means, .99);
}

static struct distribution of(double mean, double scv)
{
    struct distribution d;

    distribution_fit(&d, mean, scv, NULL);
    return d;
}

static void coverage(unsigned seeds)
{
    static const struct {
        const char *name;
        double lambda, scv;
        uint32_t servers;
        enum requests_order order;
    } open[] = {{"M/M/1", .8, 1, 1, REQUESTS_FCFS},
                {"M/M/3", 2, 1, 3, REQUESTS_FCFS},
                {"M/D/1", .8, 0, 1, REQUESTS_FCFS},
                {"M/G/1 scv 4", .7, 4, 1, REQUESTS_FCFS},
                {"M/G/1 scv 4, shared", .7, 4, 1, REQUESTS_SHARED}};
    const struct station stations[] = {{.demand = 2}, {.demand = 3}, {.demand = 1}};
    const struct requests_station three[] = {
        {REQUESTS_FCFS, 1}, {REQUESTS_SHARED, 1}, {REQUESTS_FCFS, 1}};
    struct distribution demands[] = {of(2, 1), of(3, 1), of(1, 1)};
    struct requests_class closed = {.customers = 5, .think = of(4, 1), .demand = demands};
    struct network_result network;
    struct station_result each[3];
    unsigned good;

    for (unsigned k = 0; k < sizeof(open) / sizeof(*open); k++) {
        struct requests_station station = {open[k].order, open[k].servers};
        struct distribution demand = of(1, open[k].scv);
        struct requests_class class = {
            .open = true, .between = of(1 / open[k].lambda, 1), .demand = &demand};
        struct queueing_result q;

        if (open[k].servers > 1)
            queueing_mmc(open[k].lambda, 1, open[k].servers, &q, NULL);
        else if (open[k].order == REQUESTS_SHARED)
            queueing_mg1_ps(open[k].lambda, 1, &q, NULL);
        else
            queueing_mg1(open[k].lambda, 1, open[k].scv, &q, NULL);
        good = 0;
        for (unsigned seed = 1; seed <= seeds; seed++) {
            struct requests requests = {&station, 1, &class, 1, seed, 30000, .1};

            good += inside(&requests, 20, q.response);
        }
        printf("{\"name\": \"coverage %s\", \"seeds\": %u, \"inside\": %u}\n", open[k].name, seeds,
               good);
        fflush(stdout);
    }
    network_closed(stations, 3, 4, 5, &network, each, NULL);
    good = 0;
    for (unsigned seed = 1; seed <= seeds; seed++) {
        struct requests requests = {three, 3, &closed, 1, seed, 10000, .1};

        good += inside(&requests, 20, network.response);
    }
    printf("{\"name\": \"coverage MVA\", \"seeds\": %u, \"inside\": %u}\n", seeds, good);
}

static uint64_t word(int argc, char **argv, int i, uint64_t standard)
{
    return argc > i ? strtoull(argv[i], NULL, 10) : standard;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (!strcmp(what, "events")) {
        events(16);
        events(1000);
        events(1000000);
    } else if (!strcmp(what, "mmc")) {
        mmc();
    } else if (!strcmp(what, "priority")) {
        priority();
    } else if (!strcmp(what, "cluster")) {
        cluster((uint32_t)word(argc, argv, 2, 50000), (uint32_t)word(argc, argv, 3, 100000),
                word(argc, argv, 4, 100000));
    } else if (!strcmp(what, "place")) {
        place((uint32_t)word(argc, argv, 2, 1000000), (uint32_t)word(argc, argv, 3, 10000000),
              argc > 4 ? argv[4] : "best-fit");
    } else if (!strcmp(what, "coverage")) {
        coverage((unsigned)word(argc, argv, 2, 200));
    } else {
        fprintf(stderr, "usage: bench_model events|mmc|priority|cluster|place|coverage\n");
        return 2;
    }
    return 0;
}
