/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs on queues, in virtual time. Who runs when is decided by the very job queue that the manager
 * uses (policy/queue.h); here is only what the real world would do: jobs arrive, run at full speed
 * while they may, and end.
 *
 * A lane is one queue with its servers: a host, or a virtual machine of a cluster. Jobs come from a
 * source in order of arrival, and go to a sink as they end, so that memory grows with the jobs that
 * are there, not with those that were.
 *
 * Invariants: 1. All that happens at one instant is told to a queue before it is asked. 2. A job
 * ends when it has run its burst (and the switches it caused), not earlier or later. 3. Nothing is
 * drawn here: the same jobs give the same run.
 */
#ifndef LODGE_MODEL_JOBS_H
#define LODGE_MODEL_JOBS_H

#include "base/err.h"
#include "model/stats.h"
#include "policy/queue.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct job {
    uint64_t number; /* the owner's */
    uint32_t lane;
    uint64_t arrival_ns, burst_ns;
    uint64_t estimate_ns; /* what the policy is told; 0: it is told nothing */
    int32_t priority;
    uint32_t tickets;
    uint64_t need[QUEUE_RESOURCES];
    double weight, limit, reserved; /* shares.h only */
};

struct jobs {
    /* False: no more. Arrivals must not go back; one that does is taken as arriving now. */
    bool (*next)(void *context, struct job *ret);
    /* A job ended (never, for jobs that the queue refused). May be NULL. */
    void (*ended)(void *context, const struct job *job, const struct queue_record *record);
    /* A job held a server from start to end. May be NULL. */
    void (*slice)(void *context, const struct job *job, uint32_t server, uint64_t start_ns,
                  uint64_t end_ns);
    void *context;

    const struct queue_config *lanes; /* one a lane, or one for all */
    size_t nr_lanes;
    bool lanes_alike;
    uint64_t switch_ns; /* lost to the server at each start and resume; below the quantum */
    uint64_t stop_ns;   /* no event later than this is looked at; 0: run until all have ended */
};

struct jobs_result {
    uint64_t submitted, ended, refused, pauses, events;
    uint64_t first_arrival_ns, last_end_ns;
    double busy_s;  /* of all servers together, switches included */
    double work_s;  /* sum of the bursts of those that ended */
    double jobs_s;  /* integral of the number of jobs over time, by time (L times T) */
    double spent_s; /* sum of turnaround, by job (lambda W times T): Little's law says they agree */
    uint64_t most;  /* jobs at once */
    struct tally wait, turnaround, response,
        slowdown;        /* seconds; response: until the first start */
    struct series waits; /* in order of ending */
    struct histogram wait_ns, turnaround_ns;
};

/* A job's end into the sums. */
void jobs_count_ended(struct jobs_result *result, const struct job *job,
                      const struct queue_record *record);

/* *ret is large (the caller's heap, not its stack). -EINVAL: a configuration that the policy
 * refuses; -ENOMEM. */
int jobs_simulate(const struct jobs *jobs, struct jobs_result *ret, struct err *err);

#endif
