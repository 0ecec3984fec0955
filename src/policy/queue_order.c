/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The orders of a job queue: a 4-ary heap whose nodes carry their key (few cache lines per level)
 * and whose jobs know their position (so that any can be withdrawn), the keys of each policy, and
 * the tree of tickets from which a lottery is drawn.
 */
#include "policy/queue_internal.h"

#include "base/util.h"

/* Keys are compared by difference: a stride's pass may wrap, all others stay far from the ends. */
bool queue_node_before(const struct queue_node *a, const struct queue_node *b)
{
    int64_t difference = (int64_t)((uint64_t)a->key - (uint64_t)b->key);

    return difference < 0 || (!difference && a->seq < b->seq);
}

static void put(struct queue *q, struct queue_heap *heap, uint32_t position, struct queue_node node)
{
    heap->nodes[position] = node;
    q->jobs[node.place].position = position;
}

static void sift_up(struct queue *q, struct queue_heap *heap, uint32_t position,
                    struct queue_node node)
{
    while (position) {
        uint32_t parent = (position - 1) / 4;

        if (!queue_node_before(&node, &heap->nodes[parent]))
            break;
        put(q, heap, position, heap->nodes[parent]);
        position = parent;
    }
    put(q, heap, position, node);
}

static void sift_down(struct queue *q, struct queue_heap *heap, uint32_t position,
                      struct queue_node node)
{
    for (;;) {
        uint32_t first = position * 4 + 1, best = first;

        if (first >= heap->length)
            break;
        for (uint32_t child = first + 1; child < MIN(first + 4, heap->length); child++)
            if (queue_node_before(&heap->nodes[child], &heap->nodes[best]))
                best = child;
        if (!queue_node_before(&heap->nodes[best], &node))
            break;
        put(q, heap, position, heap->nodes[best]);
        position = best;
    }
    put(q, heap, position, node);
}

void queue_heap_push(struct queue *q, struct queue_heap *heap, struct queue_node node)
{
    sift_up(q, heap, heap->length++, node);
}

void queue_heap_remove(struct queue *q, struct queue_heap *heap, uint32_t position)
{
    struct queue_node last = heap->nodes[--heap->length];

    if (position == heap->length)
        return;
    if (position && queue_node_before(&last, &heap->nodes[(position - 1) / 4]))
        sift_up(q, heap, position, last);
    else
        sift_down(q, heap, position, last);
}

/* splitmix64 */
static uint64_t next_random(struct queue *q)
{
    uint64_t z = q->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t queue_random_below(struct queue *q, uint64_t bound)
{
    return (uint64_t)((unsigned __int128)next_random(q) * bound >> 64);
}

void queue_ticket_add(struct queue *q, uint32_t place, int64_t tickets)
{
    q->waiting_tickets += (uint64_t)tickets;
    for (uint64_t i = (uint64_t)place + 1; i <= q->nr_places; i += i & -i)
        q->ticket_tree[i] += (uint64_t)tickets;
}

/* The place that holds the ticket with this number, 0 ... waiting_tickets - 1. */
static uint32_t ticket_find(const struct queue *q, uint64_t number)
{
    uint64_t place = 0, step = 1;

    while (step * 2 <= q->nr_places)
        step *= 2;
    for (; step; step /= 2)
        if (place + step <= q->nr_places && q->ticket_tree[place + step] <= number) {
            place += step;
            number -= q->ticket_tree[place];
        }
    return (uint32_t)place;
}

static struct queue_node waiting_node(struct queue *q, uint32_t place)
{
    struct queue_job *job = &q->jobs[place];
    struct queue_node node = {.key = 0, .seq = job->seq, .place = place};

    switch (q->config.policy) {
    case QUEUE_SJF:
        node.key = job->spec.estimate_ns ? (int64_t)job->spec.estimate_ns : QUEUE_LEFT_UNKNOWN;
        break;
    case QUEUE_SRTF:
        node.key = queue_left(job);
        break;
    case QUEUE_RR:
        node.seq = q->next_seq++;
        break;
    case QUEUE_PRIORITY:
        node.key = job->spec.priority;
        if (q->config.ageing_ns)
            node.key = node.key * (int64_t)q->config.ageing_ns - (int64_t)job->spec.waited_ns +
                       (int64_t)job->since_ns;
        break;
    case QUEUE_STRIDE:
        node.key = (int64_t)job->pass;
        break;
    case QUEUE_FCFS:
    case QUEUE_LOTTERY:
    case QUEUE_POLICIES:
        break;
    }
    return node;
}

void queue_waiting_add(struct queue *q, uint32_t place)
{
    if (!q->nr_waiting && queue_has_quantum(q))
        queue_renew_stale(q);
    q->jobs[place].state = PLACE_WAITING;
    q->nr_waiting++;
    if (q->config.policy == QUEUE_LOTTERY)
        queue_ticket_add(q, place, q->jobs[place].spec.tickets);
    else
        queue_heap_push(q, &q->waiting, waiting_node(q, place));
}

void queue_waiting_remove(struct queue *q, uint32_t place)
{
    q->nr_waiting--;
    if (q->config.policy == QUEUE_LOTTERY) {
        queue_ticket_add(q, place, -(int64_t)q->jobs[place].spec.tickets);
        if (q->drawn == place)
            q->drawn = QUEUE_NO_PLACE;
    } else {
        queue_heap_remove(q, &q->waiting, q->jobs[place].position);
    }
}

uint32_t queue_waiting_first(struct queue *q)
{
    if (!q->nr_waiting)
        return QUEUE_NO_PLACE;
    if (q->config.policy != QUEUE_LOTTERY)
        return q->waiting.nodes[0].place;
    if (q->drawn == QUEUE_NO_PLACE)
        q->drawn = ticket_find(q, queue_random_below(q, q->waiting_tickets));
    return q->drawn;
}

/* The first of the running heap is the first to be paused. */
static struct queue_node running_node(const struct queue *q, uint32_t place)
{
    const struct queue_job *job = &q->jobs[place];
    struct queue_node node = {.key = 0, .seq = ~job->seq, .place = place};

    switch (q->config.policy) {
    case QUEUE_SRTF:
        node.key = -(queue_left(job) + (int64_t)job->since_ns);
        break;
    case QUEUE_PRIORITY:
        node.key = -(int64_t)job->spec.priority;
        if (q->config.ageing_ns)
            node.key = node.key * (int64_t)q->config.ageing_ns + (int64_t)job->spec.waited_ns;
        break;
    case QUEUE_RR:
    case QUEUE_STRIDE:
    case QUEUE_LOTTERY:
        node.key = (int64_t)job->expiry_ns;
        node.seq = job->seq;
        break;
    case QUEUE_FCFS:
    case QUEUE_SJF:
    case QUEUE_POLICIES:
        break;
    }
    return node;
}

static bool running_is_ordered(const struct queue *q)
{
    return queue_has_quantum(q) || q->config.policy == QUEUE_SRTF ||
           (q->config.policy == QUEUE_PRIORITY && q->config.preemptive);
}

void queue_running_add(struct queue *q, uint32_t place)
{
    q->jobs[place].state = PLACE_RUNNING;
    if (running_is_ordered(q))
        queue_heap_push(q, &q->running, running_node(q, place));
}

void queue_running_remove(struct queue *q, uint32_t place)
{
    if (q->jobs[place].state == PLACE_EXPIRED)
        queue_expired_remove(q, place);
    else if (running_is_ordered(q))
        queue_heap_remove(q, &q->running, q->jobs[place].position);
}

void queue_expired_add(struct queue *q, uint32_t place)
{
    struct queue_job *job = &q->jobs[place];

    job->state = PLACE_EXPIRED;
    job->next = QUEUE_NO_PLACE;
    job->previous = q->expired_last;
    if (q->expired_last == QUEUE_NO_PLACE)
        q->expired_first = place;
    else
        q->jobs[q->expired_last].next = place;
    q->expired_last = place;
}

void queue_expired_remove(struct queue *q, uint32_t place)
{
    struct queue_job *job = &q->jobs[place];

    if (job->previous == QUEUE_NO_PLACE)
        q->expired_first = job->next;
    else
        q->jobs[job->previous].next = job->next;
    if (job->next == QUEUE_NO_PLACE)
        q->expired_last = job->previous;
    else
        q->jobs[job->next].previous = job->previous;
}
