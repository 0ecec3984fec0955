/* SPDX-License-Identifier: Apache-2.0 */
/* The last events, in a ring; whoever follows and falls behind further than that misses some. */
#include "manager/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void event_add(struct manager *m, const struct instance *instance, const char *what,
               const char *detail)
{
    CLEANUP(buf_donep) struct buf text;
    const struct log_subject subject = {.instance = instance ? instance->id : NULL};
    const struct log_subject *before = log_set_subject(&subject);
    struct event *event;

    log_debug("event %s%s%s", what, detail ? ": " : "", detail ?: "");
    log_set_subject(before);
    buf_init(&text, 8192);
    pthread_mutex_lock(&m->event_lock);
    buf_printf(&text, "{\"sequence\": %llu, \"time\": ", (unsigned long long)m->next_event);
    out_time(&text, (int64_t)clock_realtime_ns());
    buf_append_string(&text, ", \"event\": ");
    out_string(&text, what);
    buf_append_string(&text, ", \"instance\": ");
    out_string(&text, instance ? instance->id : "");
    buf_append_string(&text, ", \"name\": ");
    out_string(&text, instance ? instance->name : "");
    buf_append_string(&text, ", \"detail\": ");
    out_string(&text, detail ?: "");
    buf_append_string(&text, "}");
    event = &m->events[m->next_event % MANAGER_EVENTS];
    free(event->text);
    event->text = strdup(buf_string(&text) ?: "{}");
    event->sequence = m->next_event++;
    pthread_cond_broadcast(&m->event_there);
    pthread_mutex_unlock(&m->event_lock);
}

uint64_t event_next(struct manager *m, uint64_t sequence, unsigned timeout_ms, struct buf *to)
{
    uint64_t deadline_ns = clock_realtime_ns() + timeout_ms * NS_PER_MS, next = sequence + 1;
    struct timespec deadline = {(time_t)(deadline_ns / NS_PER_S), (long)(deadline_ns % NS_PER_S)};
    bool there;

    pthread_mutex_lock(&m->event_lock);
    if (next < m->first_event)
        next = m->first_event;
    while (m->next_event <= next && !atomic_load(&m->stopping))
        if (pthread_cond_timedwait(&m->event_there, &m->event_lock, &deadline) != 0)
            break;
    if (next + MANAGER_EVENTS < m->next_event)
        next = m->next_event - MANAGER_EVENTS;
    if ((there = m->next_event > next)) {
        buf_append_string(to, m->events[next % MANAGER_EVENTS].text ?: "{}");
        buf_append(to, "\n", 1);
    }
    pthread_mutex_unlock(&m->event_lock);
    return there ? next : 0;
}

uint64_t event_latest(struct manager *m)
{
    uint64_t latest;

    pthread_mutex_lock(&m->event_lock);
    latest = m->next_event - 1;
    pthread_mutex_unlock(&m->event_lock);
    return latest;
}
