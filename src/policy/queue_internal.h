/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a job queue, shared by queue.c (jobs come and go), queue_order.c (who is first) and
 * queue_decide.c (what to do).
 *
 * A job is a place in the table `jobs`; it is free, waiting or running. Waiting jobs are in
 * `waiting`, ordered by (key, seq), smallest first; LOTTERY has a tree of tickets instead. Running
 * jobs are in `running`, ordered so that the first is the one to be paused first, but for those
 * whose quantum is over: they are in the list `expired`, in the order in which it ended.
 *
 * Keys are made so that the order among waiting (and among running) jobs never changes by itself as
 * time passes, although ageing priorities and remaining times do:
 *   ageing, waiting:  level(t) * A = P A - W - (t - since)   key = P A - W + since
 *   SRTF, running:    remaining(t) = left - (t - since)      key = -(left + since)
 */
#ifndef LODGE_POLICY_QUEUE_INTERNAL_H
#define LODGE_POLICY_QUEUE_INTERNAL_H

#include "policy/queue.h"

#define QUEUE_NO_PLACE UINT32_MAX
/* Divisible by all numbers up to 16 and many more: whole strides for most counts of tickets. */
#define QUEUE_STRIDE_UNIT  UINT64_C(720720000000)
#define QUEUE_LEFT_UNKNOWN (INT64_C(1) << 62)

struct queue_node {
    int64_t key;
    uint64_t seq;
    uint32_t place;
};

struct queue_heap {
    struct queue_node *nodes;
    uint32_t length;
};

enum queue_place_state { PLACE_FREE, PLACE_WAITING, PLACE_RUNNING, PLACE_EXPIRED };

struct queue_job {
    struct queue_spec spec; /* ran_ns, waited_ns: up to `since_ns` */
    uint64_t submitted_ns;
    uint64_t started_ns; /* QUEUE_NEVER: not yet */
    uint64_t since_ns;   /* waiting or running since */
    uint64_t charged_ns; /* STRIDE: run time up to here is in `pass` */
    uint64_t expiry_ns;  /* end of the quantum, while running */
    uint64_t seq;        /* order of arrival */
    uint64_t pass;       /* STRIDE */
    uint32_t position;   /* in the heap it is in */
    uint32_t running_position;
    uint32_t next, previous; /* in `expired`; next: in the list of free places */
    uint32_t server;
    uint32_t generation;
    uint32_t pauses;
    uint8_t state;
};

struct queue {
    struct queue_config config;
    uint64_t now;
    uint64_t next_seq;

    struct queue_job *jobs;
    uint32_t nr_places, places_used, free_place;

    struct queue_heap waiting, running;
    uint32_t nr_waiting, nr_running;
    uint32_t expired_first, expired_last;
    uint32_t *running_places; /* all that run, in no order */

    uint32_t *free_servers; /* heap, smallest first; all below servers_used */
    uint32_t nr_free_servers, servers_used, servers_max;
    uint64_t used[QUEUE_RESOURCES];

    uint64_t *ticket_tree; /* LOTTERY: Fenwick tree of the tickets of waiting places, 1-based */
    uint64_t waiting_tickets;
    uint64_t random;
    uint32_t drawn; /* LOTTERY: who won and has not started yet */

    uint64_t global_pass; /* STRIDE: where a newcomer begins */
    uint64_t tickets;     /* STRIDE: of all jobs */

    struct queue_node *scratch;
    struct queue_totals totals;
};

/* queue_order.c */
bool queue_node_before(const struct queue_node *a, const struct queue_node *b);
void queue_heap_push(struct queue *q, struct queue_heap *heap, struct queue_node node);
void queue_heap_remove(struct queue *q, struct queue_heap *heap, uint32_t position);
void queue_waiting_add(struct queue *q, uint32_t place);
void queue_waiting_remove(struct queue *q, uint32_t place);
uint32_t queue_waiting_first(struct queue *q); /* QUEUE_NO_PLACE: none waits */
void queue_running_add(struct queue *q, uint32_t place);
void queue_running_remove(struct queue *q, uint32_t place);
void queue_ticket_add(struct queue *q, uint32_t place, int64_t tickets);
uint64_t queue_random_below(struct queue *q, uint64_t bound);
void queue_expired_add(struct queue *q, uint32_t place);
void queue_expired_remove(struct queue *q, uint32_t place);

/* queue.c */
static inline bool queue_has_quantum(const struct queue *q)
{
    return q->config.policy == QUEUE_RR || q->config.policy == QUEUE_STRIDE ||
           q->config.policy == QUEUE_LOTTERY;
}

uint64_t queue_advance(struct queue *q, uint64_t now);
void queue_charge(struct queue *q, struct queue_job *job);
int64_t queue_left(const struct queue_job *job); /* at since_ns; QUEUE_LEFT_UNKNOWN */
void queue_renew_stale(struct queue *q);

/* queue_decide.c */
bool queue_fits(const struct queue *q, const struct queue_job *job);
void queue_start(struct queue *q, uint32_t place);
void queue_stop(struct queue *q, uint32_t place); /* leaves it neither waiting nor running */

static inline queue_job_t queue_handle(const struct queue *q, uint32_t place)
{
    return (uint64_t)q->jobs[place].generation << 32 | place;
}

#endif
