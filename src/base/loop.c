/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop over epoll(7).
 *
 * A round: wait for events, run their callbacks, run timers that are due, then the calls that were
 * queued when the round got there (calls queued meanwhile wait for the next round, so that nobody
 * starves the file descriptors). Watches and timers removed inside a round are marked dead and
 * freed at its end, because their events may have been fetched already.
 *
 * Locks: `lock` guards the call queues and `running`. `in_place` is held by a loop_sync that runs
 * its function in place because no thread runs the loop; a thread that starts to run the loop takes
 * it first. Order: in_place before lock.
 */
#include "base/loop.h"

#include "base/clock.h"
#include "base/idle.h"
#include "base/util.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

#define LOOP_EVENTS_A_ROUND 64

struct loop_fd {
    struct loop *loop;
    struct loop_fd *next; /* in loop.watches or loop.dead_watches */
    struct loop_fd **at;  /* the pointer that points here, while watched */
    int fd;
    uint32_t events;
    bool dead;
    loop_fd_fn *fn;
    void *context;
};

struct loop_timer {
    struct loop *loop;
    struct loop_timer *next;
    uint64_t deadline_ns; /* 0: not armed */
    bool dead;
    loop_fn *fn;
    void *context;
};

struct sync_call {
    struct sync_call *next;
    loop_fn *fn;
    void *context;
    sem_t done;
};

struct loop {
    int epoll_fd;
    int wake_fd;
    bool stop; /* atomic */
    bool in_round;
    bool has_dead_timer;
    bool looks_first;
    struct idle idle;
    struct loop_fd *watches;
    struct loop_fd *dead_watches;
    struct loop_timer *timers;

    pthread_mutex_t lock;
    pthread_mutex_t in_place;
    bool running;    /* under lock */
    bool sleeping;   /* under lock: the loop's thread may not see by itself what is queued */
    pthread_t owner; /* under lock; valid while running */
    struct loop_call *calls, **calls_end;
    struct sync_call *syncs, **syncs_end;

    bool thread_started;
    pthread_t thread;
    char thread_name[16];
};

static void wake(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t n;

    do
        n = write(loop->wake_fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
}

static void mutex_init_recursive(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

int loop_new(struct loop **ret, struct err *err)
{
    CLEANUP(loop_freep) struct loop *loop = calloc(1, sizeof(*loop));
    struct epoll_event event = {.events = EPOLLIN};

    if (!loop)
        return err_set(err, -ENOMEM, "event loop: out of memory");
    loop->wake_fd = -1;
    loop->calls_end = &loop->calls;
    loop->syncs_end = &loop->syncs;
    pthread_mutex_init(&loop->lock, NULL);
    mutex_init_recursive(&loop->in_place);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        return err_errno(err, -errno, "event loop: epoll_create1");
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0)
        return err_errno(err, -errno, "event loop: eventfd");
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0)
        return err_errno(err, -errno, "event loop: epoll_ctl");
    *ret = TAKE_PTR(loop);
    return 0;
}

static void free_dead(struct loop *loop)
{
    while (loop->dead_watches) {
        struct loop_fd *watch = loop->dead_watches;

        loop->dead_watches = watch->next;
        free(watch);
    }
    if (!loop->has_dead_timer)
        return;
    loop->has_dead_timer = false;
    for (struct loop_timer **at = &loop->timers; *at;) {
        struct loop_timer *timer = *at;

        if (timer->dead) {
            *at = timer->next;
            free(timer);
        } else {
            at = &timer->next;
        }
    }
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    loop_thread_stop(loop);
    while (loop->watches)
        loop_fd_remove(loop->watches);
    for (struct loop_timer *timer = loop->timers; timer; timer = timer->next)
        loop->has_dead_timer = timer->dead = true;
    free_dead(loop);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    pthread_mutex_destroy(&loop->in_place);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static void enter(struct loop *loop)
{
    pthread_mutex_lock(&loop->in_place);
    pthread_mutex_lock(&loop->lock);
    loop->running = true;
    loop->owner = pthread_self();
    pthread_mutex_unlock(&loop->lock);
    pthread_mutex_unlock(&loop->in_place);
}

static void run_syncs(struct loop *loop, struct sync_call *list)
{
    (void)loop;
    while (list) {
        struct sync_call *sync = list;

        list = sync->next;
        sync->fn(sync->context);
        sem_post(&sync->done); /* sync is the waiter's and may be gone now */
    }
}

static struct sync_call *take_syncs_locked(struct loop *loop)
{
    struct sync_call *list = loop->syncs;

    loop->syncs = NULL;
    loop->syncs_end = &loop->syncs;
    return list;
}

/* Whoever waits in loop_sync is still served, before others may run in place. */
static void leave(struct loop *loop)
{
    struct sync_call *list;

    pthread_mutex_lock(&loop->in_place);
    pthread_mutex_lock(&loop->lock);
    loop->running = false;
    list = take_syncs_locked(loop);
    pthread_mutex_unlock(&loop->lock);
    run_syncs(loop, list);
    pthread_mutex_unlock(&loop->in_place);
}

/* Whether something is queued; if not, and with sleep, whoever queues something wakes the thread.
 */
static bool queued(struct loop *loop, bool sleep)
{
    bool some;

    pthread_mutex_lock(&loop->lock);
    some = loop->calls || loop->syncs;
    loop->sleeping = sleep && !some;
    pthread_mutex_unlock(&loop->lock);
    return some;
}

static int wait_ms(struct loop *loop, int limit_ms)
{
    uint64_t deadline = UINT64_MAX, now, ms;

    if (queued(loop, true))
        return 0;
    for (struct loop_timer *timer = loop->timers; timer; timer = timer->next)
        if (timer->deadline_ns && !timer->dead)
            deadline = MIN(deadline, timer->deadline_ns);
    if (deadline == UINT64_MAX)
        return limit_ms;
    now = clock_monotonic_ns();
    ms = deadline <= now ? 0 : (deadline - now + NS_PER_MS - 1) / NS_PER_MS;
    if (limit_ms >= 0)
        ms = MIN(ms, (uint64_t)limit_ms);
    return (int)MIN(ms, (uint64_t)INT_MAX);
}

static void run_timers(struct loop *loop)
{
    uint64_t now = loop->timers ? clock_monotonic_ns() : 0;

    for (struct loop_timer *timer = loop->timers; timer; timer = timer->next) {
        if (timer->dead || !timer->deadline_ns || timer->deadline_ns > now)
            continue;
        timer->deadline_ns = 0;
        timer->fn(timer->context);
    }
}

static void run_calls(struct loop *loop)
{
    struct loop_call last = {0}, *call = NULL;
    struct sync_call *syncs;

    pthread_mutex_lock(&loop->lock);
    loop->sleeping = false;
    syncs = take_syncs_locked(loop);
    /* A mark at the end of the queue: what comes behind it is for the next round. */
    *loop->calls_end = &last;
    loop->calls_end = &last.next;
    pthread_mutex_unlock(&loop->lock);
    run_syncs(loop, syncs);
    for (;;) {
        pthread_mutex_lock(&loop->lock);
        call = loop->calls;
        loop->calls = call->next;
        if (!loop->calls)
            loop->calls_end = &loop->calls;
        call->queued = false;
        pthread_mutex_unlock(&loop->lock);
        if (call == &last)
            return;
        call->fn(call->context);
    }
}

static int wait_events(struct loop *loop, struct epoll_event events[LOOP_EVENTS_A_ROUND],
                       int timeout_ms)
{
    int nr = 0;

    if (!loop->looks_first)
        return epoll_wait(loop->epoll_fd, events, LOOP_EVENTS_A_ROUND, wait_ms(loop, timeout_ms));
    idle_begin(&loop->idle);
    do
        nr = epoll_wait(loop->epoll_fd, events, LOOP_EVENTS_A_ROUND, 0);
    while (nr == 0 && !queued(loop, false) && idle_look(&loop->idle));
    if (nr == 0) /* what was queued meanwhile makes it short */
        nr = epoll_wait(loop->epoll_fd, events, LOOP_EVENTS_A_ROUND, wait_ms(loop, timeout_ms));
    idle_end(&loop->idle);
    return nr;
}

static int round_once(struct loop *loop, int timeout_ms)
{
    struct epoll_event events[LOOP_EVENTS_A_ROUND];
    int nr = wait_events(loop, events, timeout_ms);

    if (nr < 0) {
        if (errno != EINTR)
            return -errno;
        nr = 0;
    }
    loop->in_round = true;
    for (int i = 0; i < nr; i++) {
        struct loop_fd *watch = events[i].data.ptr;
        uint64_t count;

        if (!watch) {
            while (read(loop->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
                ;
        } else if (!watch->dead) {
            watch->fn(watch->context, events[i].events);
        }
    }
    run_timers(loop);
    run_calls(loop);
    loop->in_round = false;
    free_dead(loop);
    return 0;
}

int loop_run_once(struct loop *loop, int timeout_ms)
{
    int r;

    enter(loop);
    r = round_once(loop, timeout_ms);
    leave(loop);
    return r;
}

int loop_run(struct loop *loop)
{
    int r = 0;

    enter(loop);
    while (r == 0 && !__atomic_exchange_n(&loop->stop, false, __ATOMIC_ACQ_REL))
        r = round_once(loop, -1);
    leave(loop);
    return r;
}

void loop_look_first(struct loop *loop)
{
    loop->looks_first = true;
}

void loop_stop(struct loop *loop)
{
    __atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
    wake(loop);
}

static void *loop_thread(void *context)
{
    struct loop *loop = context;

    pthread_setname_np(pthread_self(), loop->thread_name);
    loop_run(loop);
    return NULL;
}

int loop_thread_start(struct loop *loop, const char *name, struct err *err)
{
    sigset_t all, old;
    int r;

    if (loop->thread_started)
        return err_set(err, -EALREADY, "event loop '%s': it runs already", name);
    snprintf(loop->thread_name, sizeof(loop->thread_name), "%s", name);
    sigfillset(&all);
    sigdelset(&all, SIGSYS); /* a system call filter reports through it */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&loop->thread, NULL, loop_thread, loop);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r)
        return err_errno(err, -r, "event loop '%s': start thread", name);
    loop->thread_started = true;
    return 0;
}

void loop_thread_stop(struct loop *loop)
{
    if (!loop->thread_started)
        return;
    loop_stop(loop);
    pthread_join(loop->thread, NULL);
    loop->thread_started = false;
}

int loop_fd_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *context,
                struct loop_fd **ret, struct err *err)
{
    struct loop_fd *watch = calloc(1, sizeof(*watch));
    struct epoll_event event = {.events = events, .data.ptr = watch};
    int r;

    if (!watch)
        return err_set(err, -ENOMEM, "event loop: out of memory");
    watch->loop = loop;
    watch->fd = fd;
    watch->events = events;
    watch->fn = fn;
    watch->context = context;
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        r = err_errno(err, -errno, "event loop: watch descriptor %d", fd);
        free(watch);
        return r;
    }
    watch->next = loop->watches;
    watch->at = &loop->watches;
    if (watch->next)
        watch->next->at = &watch->next;
    loop->watches = watch;
    *ret = watch;
    return 0;
}

int loop_fd_set_events(struct loop_fd *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    if (watch->events == events)
        return 0;
    if (epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) < 0)
        return -errno;
    watch->events = events;
    return 0;
}

void loop_fd_remove(struct loop_fd *watch)
{
    struct loop *loop;

    if (!watch)
        return;
    loop = watch->loop;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    *watch->at = watch->next;
    if (watch->next)
        watch->next->at = watch->at;
    watch->dead = true;
    watch->next = loop->dead_watches;
    loop->dead_watches = watch;
    if (!loop->in_round)
        free_dead(loop);
}

int loop_timer_new(struct loop *loop, loop_fn *fn, void *context, struct loop_timer **ret,
                   struct err *err)
{
    struct loop_timer *timer = calloc(1, sizeof(*timer));

    if (!timer)
        return err_set(err, -ENOMEM, "event loop: out of memory");
    timer->loop = loop;
    timer->fn = fn;
    timer->context = context;
    timer->next = loop->timers;
    loop->timers = timer;
    *ret = timer;
    return 0;
}

void loop_timer_arm(struct loop_timer *timer, uint64_t deadline_ns)
{
    timer->deadline_ns = deadline_ns;
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    timer->dead = true;
    timer->loop->has_dead_timer = true;
    if (!timer->loop->in_round)
        free_dead(timer->loop);
}

void loop_post(struct loop *loop, struct loop_call *call)
{
    bool must_wake = false;

    pthread_mutex_lock(&loop->lock);
    if (!call->queued) {
        must_wake = loop->running && loop->sleeping && !pthread_equal(loop->owner, pthread_self());
        loop->sleeping &= !must_wake;
        call->queued = true;
        call->next = NULL;
        *loop->calls_end = call;
        loop->calls_end = &call->next;
    }
    pthread_mutex_unlock(&loop->lock);
    if (must_wake)
        wake(loop);
}

void loop_cancel(struct loop *loop, struct loop_call *call)
{
    pthread_mutex_lock(&loop->lock);
    for (struct loop_call **at = &loop->calls; call->queued && *at; at = &(*at)->next) {
        if (*at != call)
            continue;
        *at = call->next;
        if (!*at)
            loop->calls_end = at;
        call->queued = false;
        break;
    }
    pthread_mutex_unlock(&loop->lock);
}

static void sync_wait(struct loop *loop, struct sync_call *sync)
{
    *loop->syncs_end = sync;
    loop->syncs_end = &sync->next;
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
    while (sem_wait(&sync->done) < 0 && errno == EINTR)
        ;
}

void loop_sync(struct loop *loop, loop_fn *fn, void *context)
{
    struct sync_call sync = {.fn = fn, .context = context};

    pthread_mutex_lock(&loop->lock);
    if (!loop->running) {
        pthread_mutex_unlock(&loop->lock);
        pthread_mutex_lock(&loop->in_place);
        pthread_mutex_lock(&loop->lock);
        if (!loop->running) {
            pthread_mutex_unlock(&loop->lock);
            fn(context);
            pthread_mutex_unlock(&loop->in_place);
            return;
        }
        pthread_mutex_unlock(&loop->in_place);
    }
    if (pthread_equal(loop->owner, pthread_self())) {
        pthread_mutex_unlock(&loop->lock);
        fn(context);
        return;
    }
    sem_init(&sync.done, 0, 0);
    sync_wait(loop, &sync);
    sem_destroy(&sync.done);
}
