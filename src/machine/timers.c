/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines, as a list of all timers that is searched for the earliest: a machine has a few devices
 * and one local APIC a vCPU, and arming (the frequent act) is then a store.
 *
 * Invariants: 1. deadline_ns is TIMER_NEVER while a timer is not armed; a timer that fires is
 * disarmed first. 2. Callbacks run without the lock, one at a time (`running`). 3. The thread is
 * woken by arming only when the new deadline is before the one it sleeps for.
 *
 * Threads: everything from any thread; in manual mode callbacks run on the caller of
 * timers_advance.
 */
#include "machine/timers.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>

struct timer {
    struct timers *timers;
    struct timer *next;
    timer_fn *fn;
    void *context;
    uint64_t deadline_ns;
};

struct timers {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* the thread: an earlier deadline, or stop */
    pthread_cond_t done; /* a callback has returned */
    struct timer *first;
    struct timer *running;
    pthread_t runner; /* the thread in `running`'s callback */
    uint64_t sleeps_until_ns;
    bool manual, stop;
    uint64_t manual_now_ns;
    pthread_t thread;
};

static uint64_t timers_now_locked(const struct timers *timers)
{
    return timers->manual ? timers->manual_now_ns : clock_monotonic_ns();
}

static struct timer *timers_earliest_locked(struct timers *timers)
{
    struct timer *earliest = NULL;

    for (struct timer *timer = timers->first; timer; timer = timer->next)
        if (timer->deadline_ns != TIMER_NEVER &&
            (!earliest || timer->deadline_ns < earliest->deadline_ns))
            earliest = timer;
    return earliest;
}

static void timers_fire_locked(struct timers *timers, struct timer *timer)
{
    timer->deadline_ns = TIMER_NEVER;
    timers->running = timer;
    timers->runner = pthread_self();
    pthread_mutex_unlock(&timers->lock);
    timer->fn(timer->context);
    pthread_mutex_lock(&timers->lock);
    timers->running = NULL;
    pthread_cond_broadcast(&timers->done);
}

static void timers_sleep_locked(struct timers *timers, const struct timer *earliest)
{
    struct timespec until;

    timers->sleeps_until_ns = earliest ? earliest->deadline_ns : TIMER_NEVER;
    if (!earliest) {
        pthread_cond_wait(&timers->wake, &timers->lock);
    } else {
        until.tv_sec = (time_t)(earliest->deadline_ns / NS_PER_S);
        until.tv_nsec = (long)(earliest->deadline_ns % NS_PER_S);
        pthread_cond_timedwait(&timers->wake, &timers->lock, &until);
    }
    timers->sleeps_until_ns = 0;
}

static void *timers_thread(void *argument)
{
    struct timers *timers = argument;

    prctl(PR_SET_NAME, "timers");
    pthread_mutex_lock(&timers->lock);
    while (!timers->stop) {
        struct timer *earliest = timers_earliest_locked(timers);

        if (earliest && earliest->deadline_ns <= timers_now_locked(timers))
            timers_fire_locked(timers, earliest);
        else
            timers_sleep_locked(timers, earliest);
    }
    pthread_mutex_unlock(&timers->lock);
    return NULL;
}

static int timers_make(bool manual, struct timers **ret)
{
    struct timers *timers = calloc(1, sizeof(*timers));
    pthread_condattr_t attributes;

    if (!timers)
        return -ENOMEM;
    timers->manual = manual;
    pthread_mutex_init(&timers->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&timers->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_cond_init(&timers->done, NULL);
    *ret = timers;
    return 0;
}

static void timers_destroy(struct timers *timers)
{
    while (timers->first) {
        struct timer *next = timers->first->next;

        free(timers->first);
        timers->first = next;
    }
    pthread_cond_destroy(&timers->done);
    pthread_cond_destroy(&timers->wake);
    pthread_mutex_destroy(&timers->lock);
    free(timers);
}

int timers_new(struct timers **ret, struct err *err)
{
    struct timers *timers;
    sigset_t all, before;
    int result, slack;

    if (timers_make(false, &timers) < 0)
        return err_set(err, -ENOMEM, "out of memory for timers");
    /* Signals are for the threads that expect them. */
    sigfillset(&all);
    sigdelset(&all, SIGSYS); /* a system call filter reports through it */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    /* Guests expect better than the default 50 us. A thread inherits its maker's slack; setting it
     * here leaves the thread without a system call that a jail would have to allow. */
    slack = prctl(PR_GET_TIMERSLACK);
    prctl(PR_SET_TIMERSLACK, 1UL);
    result = pthread_create(&timers->thread, NULL, timers_thread, timers);
    if (slack > 0)
        prctl(PR_SET_TIMERSLACK, (unsigned long)slack);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result) {
        timers_destroy(timers);
        return err_errno(err, -result, "start the timer thread");
    }
    *ret = timers;
    return 0;
}

int timers_new_manual(struct timers **ret, struct err *err)
{
    if (timers_make(true, ret) < 0)
        return err_set(err, -ENOMEM, "out of memory for timers");
    return 0;
}

void timers_free(struct timers *timers)
{
    if (!timers)
        return;
    if (!timers->manual) {
        pthread_mutex_lock(&timers->lock);
        timers->stop = true;
        pthread_cond_signal(&timers->wake);
        pthread_mutex_unlock(&timers->lock);
        pthread_join(timers->thread, NULL);
    }
    timers_destroy(timers);
}

uint64_t timers_now_ns(struct timers *timers)
{
    uint64_t now_ns;

    if (!timers->manual)
        return clock_monotonic_ns();
    pthread_mutex_lock(&timers->lock);
    now_ns = timers->manual_now_ns;
    pthread_mutex_unlock(&timers->lock);
    return now_ns;
}

void timers_advance(struct timers *timers, uint64_t to_ns)
{
    pthread_mutex_lock(&timers->lock);
    for (;;) {
        struct timer *earliest = timers_earliest_locked(timers);

        if (!earliest || earliest->deadline_ns > to_ns)
            break;
        timers->manual_now_ns = MAX(timers->manual_now_ns, earliest->deadline_ns);
        timers_fire_locked(timers, earliest);
    }
    timers->manual_now_ns = MAX(timers->manual_now_ns, to_ns);
    pthread_mutex_unlock(&timers->lock);
}

int timer_new(struct timers *timers, timer_fn *fn, void *context, struct timer **ret,
              struct err *err)
{
    struct timer *timer = calloc(1, sizeof(*timer));

    if (!timer)
        return err_set(err, -ENOMEM, "out of memory for a timer");
    *timer =
        (struct timer){.timers = timers, .fn = fn, .context = context, .deadline_ns = TIMER_NEVER};
    pthread_mutex_lock(&timers->lock);
    timer->next = timers->first;
    timers->first = timer;
    pthread_mutex_unlock(&timers->lock);
    *ret = timer;
    return 0;
}

void timer_free(struct timer *timer)
{
    struct timers *timers;

    if (!timer)
        return;
    timers = timer->timers;
    timer_disarm(timer);
    pthread_mutex_lock(&timers->lock);
    for (struct timer **place = &timers->first; *place; place = &(*place)->next)
        if (*place == timer) {
            *place = timer->next;
            break;
        }
    pthread_mutex_unlock(&timers->lock);
    free(timer);
}

void timer_arm(struct timer *timer, uint64_t deadline_ns)
{
    struct timers *timers = timer->timers;

    pthread_mutex_lock(&timers->lock);
    timer->deadline_ns = deadline_ns;
    if (deadline_ns < timers->sleeps_until_ns)
        pthread_cond_signal(&timers->wake);
    pthread_mutex_unlock(&timers->lock);
}

void timer_disarm(struct timer *timer)
{
    struct timers *timers = timer->timers;

    pthread_mutex_lock(&timers->lock);
    timer->deadline_ns = TIMER_NEVER;
    while (timers->running == timer && !pthread_equal(timers->runner, pthread_self()))
        pthread_cond_wait(&timers->done, &timers->lock);
    pthread_mutex_unlock(&timers->lock);
}
