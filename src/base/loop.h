/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop: file descriptors with callbacks, timers, and calls deferred to the loop from any
 * thread. Built on epoll and one eventfd. It does not own what it watches: callers close their fds.
 *
 * Invariants:
 *  1. Every callback runs on the one thread that is inside loop_run (the loop's thread).
 *  2. After loop_fd_remove or loop_timer_free returns, that callback is never entered again, even
 *     for an event that was already fetched.
 *  3. A struct loop_call is queued at most once at a time; it runs after the events of the current
 *     round, so work posted by several callbacks of a round is done once. No allocation.
 *
 * Threads: loop_post, loop_sync and loop_stop from any thread; everything else on the loop's
 * thread, or on any single thread while loop_run is not running.
 */
#ifndef LODGE_BASE_LOOP_H
#define LODGE_BASE_LOOP_H

#include "base/cleanup.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct loop;
struct loop_fd;
struct loop_timer;

typedef void loop_fn(void *context);
typedef void loop_fd_fn(void *context, uint32_t events);

int loop_new(struct loop **ret, struct err *err);
/* Not while it runs. Watches and timers that are left are dropped; queued calls do not run. */
void loop_free(struct loop *loop);

/* Runs until loop_stop. 0, or -errno of epoll. */
int loop_run(struct loop *loop);
/* One round: waits at most timeout_ms (-1: no limit), runs what is due. For tests and own loops. */
int loop_run_once(struct loop *loop, int timeout_ms);
/* Makes loop_run return after the current round, or the next loop_run at once. */
void loop_stop(struct loop *loop);

/* loop_run on a thread of its own, named `name` (at most 15 bytes), with all signals blocked. */
int loop_thread_start(struct loop *loop, const char *name, struct err *err);
/* Before it runs: the loop's thread looks for events for some microseconds before it sleeps, as
 * base/idle.h says. For loops that somebody waits for. */
void loop_look_first(struct loop *loop);
/* loop_stop and join; nothing when no thread was started. */
void loop_thread_stop(struct loop *loop);

/* events: EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLET, ... as for epoll_ctl(2). */
int loop_fd_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *context,
                struct loop_fd **ret, struct err *err);
/* -errno of epoll_ctl; no system call when nothing changes. */
int loop_fd_set_events(struct loop_fd *watch, uint32_t events);
/* Before the fd is closed. NULL is fine. */
void loop_fd_remove(struct loop_fd *watch);

int loop_timer_new(struct loop *loop, loop_fn *fn, void *context, struct loop_timer **ret,
                   struct err *err);
/* deadline on CLOCK_MONOTONIC; replaces an earlier deadline; 0 disarms. One-shot. */
void loop_timer_arm(struct loop_timer *timer, uint64_t deadline_ns);
void loop_timer_free(struct loop_timer *timer);

/* Embedded in its owner; zero-initialised, then fn and context set. */
struct loop_call {
    loop_fn *fn;
    void *context;
    struct loop_call *next; /* under the loop's lock */
    bool queued;            /* under the loop's lock */
};

/* Any thread. Does nothing when it is queued already. */
void loop_post(struct loop *loop, struct loop_call *call);
/* Loop's thread. The call is not queued any more when this returns. */
void loop_cancel(struct loop *loop, struct loop_call *call);
/* Any thread: runs fn on the loop's thread and waits for it; in place when called on the loop's
 * thread or while no thread runs the loop. */
void loop_sync(struct loop *loop, loop_fn *fn, void *context);

DEFINE_CLEANUP(loop_freep, struct loop *, loop_free);

#endif
