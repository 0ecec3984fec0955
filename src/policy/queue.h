/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who runs next: a queue of jobs in front of servers, under one of the textbook policies. The owner
 * (the manager in real time, a simulator in virtual time) says what happened: a job arrived, ended,
 * was withdrawn; then it asks, until there is nothing left, what to do now:
 *
 *     queue_submit(q, now, &spec, &job, &err);  queue_finish(q, now, job, &record); ...
 *     while (queue_decide(q, now, &decision))   run or pause decision.job
 *     ask again at queue_next(q, now), or when something else happens
 *
 * All that happens at one instant is told first, then asked about. The queue has no clock: `now`
 * is nanoseconds since whatever the owner likes (any unit does, if it is the same everywhere), at
 * most QUEUE_TIME_MAX, and never goes back: an earlier `now` is taken as the last one.
 *
 * Invariants: 1. A decision is final: when queue_decide returns, the job counts as started (or
 * paused) at `now`. 2. The sum of what running jobs need is never above the capacity. 3. Work is
 * conserved: after the last decision no job waits that could run by the policy's order; without
 * resources (or with backfill): no server idles while a job that fits waits. 4. Same calls, same
 * decisions.
 *
 * Ties, always: what the policy compares first; then who arrived earlier (RR: who has waited longer
 * this time; at one instant: in the order told, and an arrival ahead of a job whose quantum ends);
 * the free server with the lowest number. A running job keeps its server on a tie (SRTF, PRIORITY).
 *
 * Cost: O(log n) an operation (n jobs waiting), no allocation but when the table of jobs grows.
 * Where a job needs more than one server's worth, pausing k others costs O(k log n). Backfill looks
 * at a bounded number of jobs. Threads: one at a time. Time and sizes in the units named.
 *
 * Sources: Silberschatz, Operating System Concepts, CPU scheduling; Waldspurger and Weihl, Lottery
 * and Stride Scheduling; Lifka, the EASY scheduler (backfill).
 */
#ifndef LODGE_POLICY_QUEUE_H
#define LODGE_POLICY_QUEUE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_TIME_MAX     (UINT64_C(1) << 61) /* 73 years of nanoseconds */
#define QUEUE_NEVER        UINT64_MAX
#define QUEUE_RESOURCES    2    /* [0] processors in thousandths, [1] memory in bytes */
#define QUEUE_PRIORITY_MAX 4096 /* priorities are -4096 ... 4096 */
#define QUEUE_AGEING_MAX   (UINT64_C(1) << 48) /* 3 days of nanoseconds for a level */
#define QUEUE_TICKETS_MAX  1000000
#define QUEUE_JOBS_MAX     (UINT32_C(1) << 26)
#define QUEUE_SERVERS_MAX  (UINT32_C(1) << 20)

enum queue_policy {
    QUEUE_FCFS,     /* in order of arrival */
    QUEUE_SJF,      /* shortest estimate first; who runs, runs to its end */
    QUEUE_SRTF,     /* shortest remaining time first: a shorter newcomer preempts */
    QUEUE_RR,       /* round robin: a quantum each, in turn */
    QUEUE_PRIORITY, /* smallest number first; preemptive and ageing by configuration */
    QUEUE_STRIDE,   /* shares by tickets, a quantum at a time, deterministic */
    QUEUE_LOTTERY,  /* shares by tickets, a quantum at a time, drawn */
    QUEUE_POLICIES
};

enum queue_backfill {
    QUEUE_BACKFILL_NONE, /* the first in order that does not fit blocks the others */
    QUEUE_BACKFILL_EASY, /* later ones run if, by the estimates, the first starts no later for it */
};

struct queue_config {
    enum queue_policy policy;
    uint32_t servers;                   /* jobs that may run at once; 0: resources alone decide */
    uint64_t capacity[QUEUE_RESOURCES]; /* 0: not limited */
    uint64_t quantum_ns;                /* RR, STRIDE, LOTTERY: above 0 */
    uint64_t ageing_ns; /* PRIORITY: a job gains one level for each so long of waiting; 0: none */
    bool preemptive;    /* PRIORITY: a job one level better (or more) pauses a running one */
    enum queue_backfill backfill;
    uint32_t backfill_depth; /* how many behind the first are looked at; 0: 64 */
    uint32_t jobs_max;       /* refuse more (-ENOSPC); 0: QUEUE_JOBS_MAX */
    uint64_t seed;           /* LOTTERY */
};

/* A job's name in the queue: never used again for another job in 2^32 uses of its place. */
typedef uint64_t queue_job_t;
#define QUEUE_NO_JOB UINT64_MAX

struct queue_spec {
    uint64_t cookie;      /* the owner's own; comes back in decisions and records */
    uint64_t estimate_ns; /* whole run time; 0: unknown (goes behind all known in SJF and SRTF) */
    int32_t priority;     /* smaller runs first */
    uint32_t tickets;     /* STRIDE, LOTTERY; 0: 100 */
    uint64_t need[QUEUE_RESOURCES];
    /* For a queue rebuilt after its owner restarted: what the job had by then; else 0. */
    uint64_t ran_ns;
    uint64_t waited_ns;
};

enum queue_action { QUEUE_RUN, QUEUE_PAUSE };

enum queue_reason {
    QUEUE_FIRST,        /* RUN: it is the first in the policy's order */
    QUEUE_BACKFILLED,   /* RUN: the first does not fit yet, and this one does not delay it */
    QUEUE_QUANTUM_OVER, /* PAUSE: its quantum is over and others wait */
    QUEUE_SHORTER,      /* PAUSE: one with less left to do waits */
    QUEUE_URGENT,       /* PAUSE: one of a better priority waits */
};

struct queue_decision {
    enum queue_action action;
    enum queue_reason reason;
    queue_job_t job;
    uint64_t cookie;
    uint32_t server;  /* the lowest free number; a place in the list if servers are unlimited */
    bool first_start; /* RUN: it has never run before (ran_ns 0): start it, else resume it */
};

/* What a job had. Waiting is all the time that it was here and did not run. */
struct queue_record {
    uint64_t cookie;
    uint64_t submitted_ns;
    uint64_t started_ns; /* first start; QUEUE_NEVER if it never ran */
    uint64_t ended_ns;
    uint64_t ran_ns;        /* T_i */
    uint64_t waited_ns;     /* W_i */
    uint64_t turnaround_ns; /* ended - submitted + what it brought along: T_i + W_i */
    uint32_t pauses;
};

enum queue_job_state { QUEUE_WAITING, QUEUE_RUNNING };

/* Where a job is now (queue_inspect). */
struct queue_view {
    enum queue_job_state state;
    uint32_t server; /* while running */
    uint64_t ran_ns;
    uint64_t waited_ns;
    uint64_t remaining_ns; /* estimate less ran; 0 when overrun; QUEUE_NEVER without an estimate */
    double level;          /* PRIORITY: the priority less what ageing gained; else the priority */
    uint64_t started_ns;
    uint32_t pauses;
    struct queue_spec spec;
};

struct queue_totals {
    uint64_t submitted, finished, cancelled;
    uint32_t waiting, running;
    uint64_t t_total_ns; /* sum of run time of all that finished */
    uint64_t t_wait_ns;  /* sum of waiting of all that finished */
    uint64_t turnaround_ns;
    uint64_t starts, pauses;
};

struct queue;

/* -EINVAL (which field, why), -ENOMEM. */
int queue_new(const struct queue_config *config, struct queue **ret, struct err *err);
void queue_free(struct queue *q);
static inline void queue_freep(struct queue **q)
{
    if (*q)
        queue_free(*q);
}

/*
 * A job arrives. -EINVAL: a value is out of range; -E2BIG: it needs more than the whole capacity
 * and would wait for ever (the message says of what); -ENOSPC: jobs_max; -ENOMEM.
 */
int queue_submit(struct queue *q, uint64_t now, const struct queue_spec *spec, queue_job_t *ret_job,
                 struct err *err);

/*
 * As queue_submit for a job that is running already (a queue rebuilt by an owner whose jobs lived
 * on): no decision is made for it. -EBUSY: no server, or not what it needs, is free.
 */
int queue_adopt(struct queue *q, uint64_t now, const struct queue_spec *spec, queue_job_t *ret_job,
                struct err *err);

/* A running job ended by itself. -ENOENT: no such job, -EINVAL: it is not running. ret may be NULL.
 */
int queue_finish(struct queue *q, uint64_t now, queue_job_t job, struct queue_record *ret);

/* A job, waiting or running, is withdrawn. -ENOENT. ret may be NULL. */
int queue_cancel(struct queue *q, uint64_t now, queue_job_t job, struct queue_record *ret);

/* A job's priority, tickets or estimate change (need, cookie and history stay). -ENOENT, -EINVAL.
 */
int queue_change(struct queue *q, uint64_t now, queue_job_t job, const struct queue_spec *spec);

/*
 * The capacity changes (0: not limited). What runs goes on; nothing new starts until it fits.
 * Jobs that need more than the new capacity stay and wait (for it to grow again).
 */
void queue_set_capacity(struct queue *q, uint64_t now, const uint64_t capacity[QUEUE_RESOURCES]);

/* The next thing to do at `now`; false: nothing. To be called until it is false. */
bool queue_decide(struct queue *q, uint64_t now, struct queue_decision *ret);

/*
 * The time at which queue_decide may have something to say although nothing was told: the end of a
 * quantum, or of an ageing job's patience. QUEUE_NEVER: not before something is told.
 */
uint64_t queue_next(const struct queue *q, uint64_t now);

/* -ENOENT */
int queue_inspect(const struct queue *q, uint64_t now, queue_job_t job, struct queue_view *ret);

/* The waiting jobs in the order they would be taken (LOTTERY: by tickets), at most max; returns how
 * many there are. O(n log n). -ENOMEM. */
int queue_order(const struct queue *q, queue_job_t *ret_jobs, size_t max, size_t *ret_count);

void queue_totals(const struct queue *q, struct queue_totals *ret);

const char *queue_policy_name(enum queue_policy policy); /* "fcfs", ... ; "?" out of range */
int queue_policy_parse(const char *name);                /* -EINVAL */
const char *queue_reason_text(enum queue_reason reason);

#endif
