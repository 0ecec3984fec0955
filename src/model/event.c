/* SPDX-License-Identifier: Apache-2.0 */
/* The event core's memory; the rest is inline. */
#include "model/event.h"

#include <string.h>

#define FIRST_CAPACITY 64u

void event_queue_init(struct event_queue *q)
{
    memset(q, 0, sizeof(*q));
    q->free_place = EVENT_NO_PLACE_;
}

void event_queue_done(struct event_queue *q)
{
    free(q->heap);
    free(q->places);
    event_queue_init(q);
}

void event_queue_clear(struct event_queue *q)
{
    while (q->nr > 0)
        event_remove_(q, q->nr - 1);
    q->now = q->sequence = q->happened = 0;
    q->failed = false;
}

bool event_queue_grow_(struct event_queue *q)
{
    uint32_t capacity = q->capacity ? 2 * q->capacity : FIRST_CAPACITY;
    struct event_node_ *heap;
    struct event_place_ *places;

    q->failed = true;
    if (capacity > EVENT_PENDING_MAX)
        return false;
    if (!(heap = reallocarray(q->heap, capacity, sizeof(*heap))))
        return false;
    q->heap = heap;
    if (!(places = reallocarray(q->places, capacity, sizeof(*places))))
        return false;
    memset(&places[q->capacity], 0, (capacity - q->capacity) * sizeof(*places));
    q->places = places;
    q->capacity = capacity;
    q->failed = false;
    return true;
}
