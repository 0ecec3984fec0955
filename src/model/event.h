/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event core: what happens when, on a virtual clock of nanoseconds (73 years, as the
 * policies').
 *
 *     event_add(&q, time, kind, subject);
 *     while (event_next(&q, &event)) switch (event.kind) ...
 *
 * Invariants: 1. Events come out in order of time; at one instant in the order they were added.
 * 2. Time never goes back: an event added in the past happens now. 3. Same calls, same order. 4. No
 * memory is taken per event: places are used again, and the tables double when they are full.
 * 5. When memory ends, `failed` is set, and event_next says that there is nothing more.
 *
 * A heap of four children a node, as the nodes' keys then share cache lines; each event's place in
 * it is kept, so that cancelling costs O(log n). At most EVENT_PENDING_MAX pending. Inline: the
 * caller's loop is the simulator's whole cost. Threads: one at a time.
 */
#ifndef LODGE_MODEL_EVENT_H
#define LODGE_MODEL_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define EVENT_PENDING_MAX (UINT32_C(1) << 24)
#define EVENT_NONE        UINT64_MAX
#define EVENT_TIME_MAX    (UINT64_C(1) << 61)

typedef uint64_t event_t; /* place, and in the upper half how often it was used before */

struct event {
    uint64_t time;
    uint32_t kind, subject; /* the owner's meaning */
};

struct event_node_ {
    uint64_t time;
    uint64_t order; /* sequence number, the place in its lowest 24 bits */
};

struct event_place_ {
    uint32_t position, uses; /* position: in the heap; of a free place the next free one */
    uint32_t kind, subject;
};

struct event_queue {
    struct event_node_ *heap;
    struct event_place_ *places;
    uint32_t nr, capacity, used_places, free_place;
    uint64_t now, sequence, happened;
    bool failed;
};

void event_queue_init(struct event_queue *q);
void event_queue_done(struct event_queue *q);
/* Empties it and turns the clock back to 0; keeps its memory. */
void event_queue_clear(struct event_queue *q);
/* Room for one more than there are. Sets failed. */
bool event_queue_grow_(struct event_queue *q);

#define EVENT_NO_PLACE_ UINT32_MAX

static inline bool event_before_(const struct event_node_ *a, const struct event_node_ *b)
{
    return a->time < b->time || (a->time == b->time && a->order < b->order);
}

static inline void event_put_(struct event_queue *q, uint32_t at, struct event_node_ node)
{
    q->heap[at] = node;
    q->places[node.order & (EVENT_PENDING_MAX - 1)].position = at;
}

static inline void event_up_(struct event_queue *q, uint32_t at, struct event_node_ node)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / 4;

        if (!event_before_(&node, &q->heap[parent]))
            break;
        event_put_(q, at, q->heap[parent]);
        at = parent;
    }
    event_put_(q, at, node);
}

static inline void event_down_(struct event_queue *q, uint32_t at, struct event_node_ node)
{
    for (;;) {
        uint32_t first = 4 * at + 1, best = first, last;

        if (first >= q->nr)
            break;
        last = first + 4 < q->nr ? first + 4 : q->nr;
        for (uint32_t child = first + 1; child < last; child++)
            if (event_before_(&q->heap[child], &q->heap[best]))
                best = child;
        if (!event_before_(&q->heap[best], &node))
            break;
        event_put_(q, at, q->heap[best]);
        at = best;
    }
    event_put_(q, at, node);
}

/* EVENT_NONE when memory is out (failed is set then). */
static inline event_t event_add(struct event_queue *q, uint64_t time, uint32_t kind,
                                uint32_t subject)
{
    struct event_node_ node;
    uint32_t place = q->free_place;

    if (q->nr == q->capacity && !event_queue_grow_(q))
        return EVENT_NONE;
    if (place == EVENT_NO_PLACE_)
        place = q->used_places++;
    else
        q->free_place = q->places[place].position;
    q->places[place].kind = kind;
    q->places[place].subject = subject;
    node.time = time > q->now ? time : q->now;
    node.order = q->sequence++ * EVENT_PENDING_MAX + place;
    event_up_(q, q->nr++, node);
    return (uint64_t)q->places[place].uses << 32 | place;
}

static inline void event_remove_(struct event_queue *q, uint32_t at)
{
    uint32_t place = (uint32_t)(q->heap[at].order & (EVENT_PENDING_MAX - 1));
    struct event_node_ node = q->heap[--q->nr];

    q->places[place].uses++;
    q->places[place].position = q->free_place;
    q->free_place = place;
    if (at == q->nr)
        return;
    if (at > 0 && event_before_(&node, &q->heap[(at - 1) / 4]))
        event_up_(q, at, node);
    else
        event_down_(q, at, node);
}

/* False: it has happened, or was cancelled, before. */
static inline bool event_cancel(struct event_queue *q, event_t event)
{
    uint32_t place = (uint32_t)event;

    if (event == EVENT_NONE || place >= q->used_places ||
        q->places[place].uses != (uint32_t)(event >> 32))
        return false;
    event_remove_(q, q->places[place].position);
    return true;
}

/* When the next one happens; UINT64_MAX: none is left. */
static inline uint64_t event_next_time(const struct event_queue *q)
{
    return q->nr ? q->heap[0].time : UINT64_MAX;
}

/* Advances the clock to the next event. */
static inline bool event_next(struct event_queue *q, struct event *ret)
{
    const struct event_place_ *place;

    if (q->nr == 0 || q->failed)
        return false;
    place = &q->places[q->heap[0].order & (EVENT_PENDING_MAX - 1)];
    ret->time = q->now = q->heap[0].time;
    ret->kind = place->kind;
    ret->subject = place->subject;
    event_remove_(q, 0);
    q->happened++;
    return true;
}

/* The same for a run that ends with what happens after `end` (0: it does not). */
static inline bool event_next_before(struct event_queue *q, uint64_t end, struct event *ret)
{
    return event_next(q, ret) && !(end && ret->time > end);
}

#endif
