/* SPDX-License-Identifier: Apache-2.0 */
/* Threads for what takes time: as many as there is work, up to a limit; idle ones go after a while.
 */
#include "manager/internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define WORKERS_MAX 64
#define STACK_SIZE  (256u << 10)
#define IDLE_S      10

static void *worker_main(void *context)
{
    struct manager *m = context;

    pthread_mutex_lock(&m->lock);
    for (;;) {
        struct work *work = m->work;
        struct timespec limit;

        if (work) {
            if (!(m->work = work->next))
                m->work_last = &m->work;
            pthread_mutex_unlock(&m->lock);
            work->fn(m, work->context);
            free(work);
            pthread_mutex_lock(&m->lock);
            continue;
        }
        if (atomic_load(&m->stopping))
            break;
        clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec += IDLE_S;
        m->nr_idle++;
        if (pthread_cond_timedwait(&m->work_there, &m->lock, &limit) == ETIMEDOUT && !m->work) {
            m->nr_idle--;
            break;
        }
        m->nr_idle--;
    }
    m->nr_workers--;
    pthread_cond_broadcast(&m->workers_gone);
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

static void add_worker(struct manager *m)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, worker_main, m) == 0)
        m->nr_workers++;
    pthread_attr_destroy(&attributes);
}

int work_post(struct manager *m, void (*fn)(struct manager *m, void *context), void *context)
{
    struct work *work = calloc(1, sizeof(*work));
    int result = 0;

    if (!work)
        return -ENOMEM;
    work->fn = fn;
    work->context = context;
    pthread_mutex_lock(&m->lock);
    *m->work_last = work;
    m->work_last = &work->next;
    if (m->nr_idle == 0 && m->nr_workers < WORKERS_MAX)
        add_worker(m);
    if (m->nr_workers == 0)
        result = -EAGAIN; /* stays in the queue until a thread can be made */
    pthread_cond_signal(&m->work_there);
    pthread_mutex_unlock(&m->lock);
    return result;
}

void workers_stop(struct manager *m)
{
    pthread_mutex_lock(&m->lock);
    pthread_cond_broadcast(&m->work_there);
    for (const struct instance *at = m->first; at; at = at->next)
        pthread_cond_broadcast((pthread_cond_t *)(uintptr_t)&at->changed);
    while (m->nr_workers)
        pthread_cond_wait(&m->workers_gone, &m->lock);
    pthread_mutex_unlock(&m->lock);
}
