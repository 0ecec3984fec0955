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

#include <stdio.h>
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
    } else {
        fprintf(stderr, "usage: bench_model events|mmc|priority\n");
        return 2;
    }
    return 0;
}
