/* SPDX-License-Identifier: Apache-2.0 */
/* What schedule, compare and trace share: jobs from a file, run under one policy. */
#ifndef LODGE_CMD_PLAN_JOBS_H
#define LODGE_CMD_PLAN_JOBS_H

#include "cmd/plan.h"
#include "model/chart.h"
#include "model/jobs.h"
#include "model/shares.h"
#include "model/trace.h"

struct plan_run {
    struct queue_config config;
    bool by_weight; /* all at once (model/shares.h), not one of config's policies */
    double overcommit;
    double speed;        /* bursts are divided by it */
    double arrival_rate; /* arrivals come that much closer together */
    uint64_t switch_ns;
    bool detailed; /* keep records and slices of each job */
    struct queue_record *records;
    bool *seen;
    struct chart_slice *slices;
    size_t nr_slices, nr_slices_seen;
    struct jobs_result *result;
};

/* The options --policy, --quantum, --servers, --cpus, --memory, --preemptive, --ageing, --backfill,
 * --switch, --overcommit, --seed, --blind. */
#define PLAN_WEIGHTS  "weights"
#define PLAN_POLICIES "fcfs, sjf, srtf, rr, priority, stride, lottery, weights"
#define PLAN_RUN_OPTIONS                                                                   \
    {"quantum", "T", "of rr, stride and lottery; 1"}, {"servers", "N", "jobs at once; 1"}, \
        {"cpus", "N", "cores that running jobs may use together; not limited"},            \
        {"memory", "MIB", "the same of memory"},                                           \
        {"preemptive", NULL, "priority: an urgent job pauses a running one"},              \
        {"ageing", "T", "priority: a level gained for each so long of waiting"},           \
        {"backfill", NULL, "later jobs may run if the first is not delayed"},              \
        {"switch", "T", "lost at each start and resume"},                                  \
        {"overcommit", "N", "weights: what may be reserved, in hosts; 1"},                 \
        {"seed", "N", "of lottery"},                                                       \
    {                                                                                      \
        "blind", NULL, "do not tell the policy how long jobs take"                         \
    }

int plan_run_options(const struct plan_arguments *arguments, struct plan_run *run, struct err *err);
int plan_trace_options(const struct plan_arguments *arguments, struct trace *ret, struct err *err);
/* Fills result (and records, slices); the caller calls plan_run_done. */
int plan_run_jobs(struct plan_run *run, const struct trace *trace, bool blind, struct err *err);
void plan_run_done(struct plan_run *run);
const char *plan_run_policy(const struct plan_run *run);
/* Averages and shares: "jobs", "average_wait", ... */
void plan_run_summary(const struct plan_run *run, json_t *object);

#endif
