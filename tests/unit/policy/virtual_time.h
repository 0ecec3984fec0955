/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a list of jobs through a queue on virtual time: the clock jumps from one event to the next
 * (arrival, end of a burst, the time at which the queue wants to be asked), and everything that
 * happens at one instant is told before the queue is asked. Checks on the way what must hold at
 * every instant. One unit of the tables is a second (SECOND).
 */
#ifndef LODGE_TESTS_VIRTUAL_TIME_H
#define LODGE_TESTS_VIRTUAL_TIME_H

#include "policy/queue.h"

#define SECOND      UINT64_C(1000000000)
#define VIRTUAL_MAX 512

struct virtual_job {
    uint64_t arrival_ns, burst_ns;
    struct queue_spec spec; /* cookie: set by the run */
    /* results */
    queue_job_t handle;
    uint64_t left_ns, resumed_ns;
    bool here, running;
    struct queue_record record;
};

struct virtual_run {
    const struct queue_config *config;
    struct virtual_job *jobs;
    size_t nr_jobs;
    uint64_t until_ns; /* stop here; 0: when all is done */
    /* results */
    char trace[1024]; /* a letter for each RUN decision: A for job 0 */
    double mean_wait, mean_turnaround;
    uint64_t end_ns, busy_ns, decisions;
};

void virtual_run(struct virtual_run *run);

#endif
