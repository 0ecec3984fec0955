/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a job queue does now. queue_decide answers one step at a time and is always in one of these:
 *
 *   first in order fits                                  run it            (QUEUE_FIRST)
 *   it would fit if those that must yield to it yielded  pause the next    (QUANTUM_OVER, SHORTER,
 *                                                                           URGENT)
 *   one behind it fits and does not delay it             run that one      (QUEUE_BACKFILLED)
 *   else                                                 nothing to do
 *
 * A job that is paused for another is behind it in the order from then on, so the steps towards one
 * start agree with one another without being remembered.
 */
#include "policy/queue_internal.h"

#include "base/util.h"

#include <stdlib.h>

static bool fits_beside(const struct queue *q, const struct queue_job *job, const uint64_t *freed,
                        uint32_t freed_servers)
{
    if (q->nr_running - freed_servers >= q->servers_max)
        return false;
    for (unsigned r = 0; r < QUEUE_RESOURCES; r++) {
        uint64_t used = q->used[r] - (freed ? freed[r] : 0);

        if (q->config.capacity[r] && job->spec.need[r] &&
            (used > q->config.capacity[r] || job->spec.need[r] > q->config.capacity[r] - used))
            return false;
    }
    return true;
}

bool queue_fits(const struct queue *q, const struct queue_job *job)
{
    return fits_beside(q, job, NULL, 0);
}

static uint32_t server_take(struct queue *q)
{
    uint32_t *heap = q->free_servers;
    uint32_t taken, last, at = 0;

    if (!q->nr_free_servers)
        return q->servers_used++;
    taken = heap[0];
    last = heap[--q->nr_free_servers];
    for (;;) {
        uint32_t child = at * 2 + 1;

        if (child >= q->nr_free_servers)
            break;
        if (child + 1 < q->nr_free_servers && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return taken;
}

static void server_give(struct queue *q, uint32_t server)
{
    uint32_t at = q->nr_free_servers++;

    while (at && q->free_servers[(at - 1) / 2] > server) {
        q->free_servers[at] = q->free_servers[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    q->free_servers[at] = server;
}

/* From waiting (its waiting is counted up) to running. */
void queue_start(struct queue *q, uint32_t place)
{
    struct queue_job *job = &q->jobs[place];

    job->spec.waited_ns += q->now - job->since_ns;
    job->since_ns = job->charged_ns = q->now;
    if (job->started_ns == QUEUE_NEVER)
        job->started_ns = q->now;
    job->expiry_ns = q->now + q->config.quantum_ns;
    job->server = server_take(q);
    for (unsigned r = 0; r < QUEUE_RESOURCES; r++)
        q->used[r] += job->spec.need[r];
    job->running_position = q->nr_running;
    q->running_places[q->nr_running++] = place;
    queue_running_add(q, place);
}

void queue_stop(struct queue *q, uint32_t place)
{
    struct queue_job *job = &q->jobs[place];
    uint32_t last = q->running_places[--q->nr_running];

    queue_running_remove(q, place);
    queue_charge(q, job);
    job->spec.ran_ns += q->now - job->since_ns;
    job->since_ns = q->now;
    q->running_places[job->running_position] = last;
    q->jobs[last].running_position = job->running_position;
    server_give(q, job->server);
    for (unsigned r = 0; r < QUEUE_RESOURCES; r++)
        q->used[r] -= job->spec.need[r];
}

static bool run(struct queue *q, uint32_t place, enum queue_reason reason,
                struct queue_decision *ret)
{
    struct queue_job *job = &q->jobs[place];

    queue_waiting_remove(q, place);
    *ret = (struct queue_decision){.action = QUEUE_RUN,
                                   .reason = reason,
                                   .job = queue_handle(q, place),
                                   .cookie = job->spec.cookie,
                                   .first_start = !job->spec.ran_ns &&
                                                  job->started_ns == QUEUE_NEVER};
    queue_start(q, place);
    ret->server = job->server;
    q->totals.starts++;
    return true;
}

static bool yield(struct queue *q, uint32_t place, struct queue_decision *ret)
{
    struct queue_job *job = &q->jobs[place];

    *ret = (struct queue_decision){.action = QUEUE_PAUSE,
                                   .reason = queue_has_quantum(q)             ? QUEUE_QUANTUM_OVER
                                             : q->config.policy == QUEUE_SRTF ? QUEUE_SHORTER
                                                                              : QUEUE_URGENT,
                                   .job = queue_handle(q, place),
                                   .cookie = job->spec.cookie,
                                   .server = job->server};
    queue_stop(q, place);
    job->pauses++;
    q->totals.pauses++;
    queue_waiting_add(q, place);
    return true;
}

/* Another quantum for one whose last is over, in step with the ones before: it ends after now. */
static void renew(struct queue *q, uint32_t place)
{
    struct queue_job *job = &q->jobs[place];
    uint64_t quantum = q->config.quantum_ns;

    job->expiry_ns += ((q->now - job->expiry_ns) / quantum + 1) * quantum;
    queue_running_add(q, place);
}

/* Who ran while nobody waited got new quanta meanwhile; one that ends right now is over. */
void queue_renew_stale(struct queue *q)
{
    while (q->running.length) {
        uint32_t place = q->running.nodes[0].place;
        uint64_t quantum = q->config.quantum_ns;
        struct queue_job *job = &q->jobs[place];

        if (job->expiry_ns >= q->now)
            break;
        queue_heap_remove(q, &q->running, 0);
        job->expiry_ns += (q->now - job->expiry_ns + quantum - 1) / quantum * quantum;
        queue_running_add(q, place);
    }
}

/* Does this one, whose quantum is over, win the next one as well, against all that wait? */
static bool wins_again(struct queue *q, uint32_t place)
{
    struct queue_job *job = &q->jobs[place];

    if (q->config.policy == QUEUE_STRIDE) {
        struct queue_node node = {.seq = job->seq, .place = place};

        queue_charge(q, job);
        node.key = (int64_t)job->pass;
        return queue_node_before(&node, &q->waiting.nodes[0]);
    }
    return q->config.policy == QUEUE_LOTTERY && q->drawn == QUEUE_NO_PLACE &&
           queue_random_below(q, q->waiting_tickets + job->spec.tickets) < job->spec.tickets;
}

static void collect_expired(struct queue *q)
{
    while (q->running.length) {
        uint32_t place = q->running.nodes[0].place;

        if (q->jobs[place].expiry_ns > q->now)
            break;
        queue_heap_remove(q, &q->running, 0);
        if (wins_again(q, place))
            renew(q, place);
        else
            queue_expired_add(q, place);
    }
}

static void renew_expired(struct queue *q)
{
    while (q->expired_first != QUEUE_NO_PLACE) {
        uint32_t place = q->expired_first;

        queue_expired_remove(q, place);
        renew(q, place);
    }
}

/* Must this running job (first of its heap) yield to `first`? */
static bool must_yield(const struct queue *q, uint32_t first)
{
    const struct queue_node *waits, *runs;

    if (!q->running.length || q->config.policy == QUEUE_LOTTERY)
        return false;
    waits = &q->waiting.nodes[q->jobs[first].position];
    runs = &q->running.nodes[0];
    if (q->config.policy == QUEUE_SRTF)
        return waits->key < -runs->key - (int64_t)q->now;
    if (q->config.policy != QUEUE_PRIORITY || !q->config.preemptive)
        return false;
    if (!q->config.ageing_ns)
        return waits->key < -runs->key;
    return waits->key - (int64_t)q->now + (int64_t)q->config.ageing_ns <= -runs->key;
}

/* Would `first` fit if everybody who must yield to it did? Those are looked at one by one, until it
 * does. */
static bool fits_if_expired_yield(const struct queue *q, const struct queue_job *first)
{
    uint64_t freed[QUEUE_RESOURCES] = {0};
    uint32_t count = 0;

    for (uint32_t place = q->expired_first; place != QUEUE_NO_PLACE; place = q->jobs[place].next) {
        for (unsigned r = 0; r < QUEUE_RESOURCES; r++)
            freed[r] += q->jobs[place].spec.need[r];
        if (fits_beside(q, first, freed, ++count))
            return true;
    }
    return false;
}

static bool fits_if_worse_yield(struct queue *q, uint32_t first)
{
    uint64_t freed[QUEUE_RESOURCES] = {0};
    uint32_t count = 0;
    bool fits = false;

    while (!fits && must_yield(q, first)) {
        struct queue_node node = q->running.nodes[0];

        for (unsigned r = 0; r < QUEUE_RESOURCES; r++)
            freed[r] += q->jobs[node.place].spec.need[r];
        q->scratch[count++] = node;
        fits = fits_beside(q, &q->jobs[first], freed, count);
        if (!fits || count > 1)
            queue_heap_remove(q, &q->running, 0);
        else
            return true; /* one is enough, and it is where it was */
    }
    while (count)
        queue_heap_push(q, &q->running, q->scratch[--count]);
    return fits;
}

static int compare_ends(const void *a, const void *b)
{
    const struct queue_node *x = a, *y = b;

    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x->seq < y->seq ? -1 : x->seq > y->seq);
}

/*
 * EASY: when will `first` start by the estimates (the shadow time), and what is left beside it
 * then? false: nobody knows.
 */
static bool shadow(struct queue *q, const struct queue_job *first, int64_t *ret_time,
                   uint64_t ret_extra[QUEUE_RESOURCES], uint32_t *ret_extra_servers)
{
    uint64_t freed[QUEUE_RESOURCES] = {0};

    for (uint32_t i = 0; i < q->nr_running; i++) {
        const struct queue_job *job = &q->jobs[q->running_places[i]];
        int64_t end = queue_left(job) + (int64_t)job->since_ns;

        q->scratch[i] = (struct queue_node){
            .key = MAX(end, (int64_t)q->now), .seq = job->seq, .place = q->running_places[i]};
    }
    qsort(q->scratch, q->nr_running, sizeof(q->scratch[0]), compare_ends);
    for (uint32_t i = 0; i < q->nr_running && q->scratch[i].key < QUEUE_LEFT_UNKNOWN; i++) {
        for (unsigned r = 0; r < QUEUE_RESOURCES; r++)
            freed[r] += q->jobs[q->scratch[i].place].spec.need[r];
        if (!fits_beside(q, first, freed, i + 1))
            continue;
        *ret_time = q->scratch[i].key;
        for (unsigned r = 0; r < QUEUE_RESOURCES; r++)
            ret_extra[r] = q->config.capacity[r] ? q->config.capacity[r] - (q->used[r] - freed[r]) -
                                                       first->spec.need[r]
                                                 : UINT64_MAX;
        *ret_extra_servers = q->servers_max - (q->nr_running - (i + 1)) - 1;
        return true;
    }
    return false;
}

/* The first behind the first that fits now and delays it not; QUEUE_NO_PLACE. */
static uint32_t backfill(struct queue *q, uint32_t first)
{
    uint64_t extra[QUEUE_RESOURCES];
    uint32_t extra_servers, count = 0, found = QUEUE_NO_PLACE;
    int64_t time;

    if (q->nr_running >= q->servers_max ||
        !shadow(q, &q->jobs[first], &time, extra, &extra_servers))
        return QUEUE_NO_PLACE;
    while (q->waiting.length && count <= q->config.backfill_depth && found == QUEUE_NO_PLACE) {
        struct queue_node node = q->waiting.nodes[0];
        const struct queue_job *job = &q->jobs[node.place];
        bool beside = extra_servers > 0;

        queue_heap_remove(q, &q->waiting, 0);
        q->scratch[count++] = node;
        if (node.place == first || !queue_fits(q, job))
            continue;
        for (unsigned r = 0; r < QUEUE_RESOURCES; r++)
            beside = beside && job->spec.need[r] <= extra[r];
        if (beside || queue_left(job) <= time - (int64_t)q->now)
            found = node.place;
    }
    while (count)
        queue_heap_push(q, &q->waiting, q->scratch[--count]);
    return found;
}

bool queue_decide(struct queue *q, uint64_t now, struct queue_decision *ret)
{
    uint32_t first;

    queue_advance(q, now);
    if (!q->nr_waiting) {
        renew_expired(q);
        return false;
    }
    if (queue_has_quantum(q))
        collect_expired(q);
    /* No draw before there is something to win. */
    if (queue_has_quantum(q) && q->nr_running >= q->servers_max &&
        q->expired_first == QUEUE_NO_PLACE)
        return false;
    first = queue_waiting_first(q);
    if (queue_fits(q, &q->jobs[first]))
        return run(q, first, QUEUE_FIRST, ret);
    if (q->expired_first != QUEUE_NO_PLACE && fits_if_expired_yield(q, &q->jobs[first]))
        return yield(q, q->expired_first, ret);
    if (!queue_has_quantum(q) && fits_if_worse_yield(q, first))
        return yield(q, q->running.nodes[0].place, ret);
    if (q->config.backfill == QUEUE_BACKFILL_EASY && (first = backfill(q, first)) != QUEUE_NO_PLACE)
        return run(q, first, QUEUE_BACKFILLED, ret);
    return false;
}

uint64_t queue_next(const struct queue *q, uint64_t now)
{
    int64_t at;

    now = MAX(now, q->now);
    if (!q->nr_waiting || !q->running.length)
        return QUEUE_NEVER;
    if (queue_has_quantum(q))
        return MAX(now, q->jobs[q->running.nodes[0].place].expiry_ns);
    if (q->config.policy != QUEUE_PRIORITY || !q->config.ageing_ns)
        return QUEUE_NEVER;
    at = q->waiting.nodes[0].key + (int64_t)q->config.ageing_ns + q->running.nodes[0].key;
    return at > (int64_t)now ? (uint64_t)at : QUEUE_NEVER;
}
