/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/loop.h"
#include "testing.h"

#include <pthread.h>
#include <sys/socket.h>

struct seen {
    struct loop *loop;
    struct loop_fd *watch[2];
    struct loop_call call;
    int count;
    int fd;
};

static struct loop *new_loop(void)
{
    struct loop *loop = NULL;
    struct err err = ERR_INIT;

    ck_assert_msg(loop_new(&loop, &err) == 0, "%s", err.message);
    return loop;
}

static void on_readable(void *context, uint32_t events)
{
    struct seen *seen = context;
    char byte;

    ck_assert(events & EPOLLIN);
    ck_assert_int_eq(read(seen->fd, &byte, 1), 1);
    seen->count++;
}

START_TEST(watches_fds)
{
    struct seen seen = {.loop = new_loop()};
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    seen.fd = fds[0];
    ck_assert_int_eq(
        loop_fd_add(seen.loop, fds[0], EPOLLIN, on_readable, &seen, &seen.watch[0], NULL), 0);
    ck_assert_int_eq(loop_run_once(seen.loop, 0), 0);
    ck_assert_int_eq(seen.count, 0);
    ck_assert_int_eq(write(fds[1], "ab", 2), 2);
    loop_run_once(seen.loop, 1000);
    ck_assert_int_eq(seen.count, 1);
    ck_assert_int_eq(loop_fd_set_events(seen.watch[0], 0), 0);
    loop_run_once(seen.loop, 0);
    ck_assert_int_eq(seen.count, 1);
    ck_assert_int_eq(loop_fd_set_events(seen.watch[0], EPOLLIN), 0);
    loop_run_once(seen.loop, 1000);
    ck_assert_int_eq(seen.count, 2);
    loop_fd_remove(seen.watch[0]);
    loop_free(seen.loop);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static void remove_both(void *context, uint32_t events)
{
    struct seen *seen = context;

    (void)events;
    seen->count++;
    loop_fd_remove(seen->watch[0]);
    loop_fd_remove(seen->watch[1]);
}

/* Both events are fetched in one round; the first callback removes both watches. */
START_TEST(removed_watch_stays_silent)
{
    struct seen seen = {.loop = new_loop()};
    int a[2], b[2];

    ck_assert(pipe(a) == 0 && pipe(b) == 0);
    ck_assert(write(a[1], "x", 1) == 1 && write(b[1], "x", 1) == 1);
    loop_fd_add(seen.loop, a[0], EPOLLIN, remove_both, &seen, &seen.watch[0], NULL);
    loop_fd_add(seen.loop, b[0], EPOLLIN, remove_both, &seen, &seen.watch[1], NULL);
    loop_run_once(seen.loop, 1000);
    loop_run_once(seen.loop, 0);
    ck_assert_int_eq(seen.count, 1);
    loop_free(seen.loop);
}
END_TEST

static void count_call(void *context)
{
    struct seen *seen = context;

    seen->count++;
}

static void count_atomically(void *context)
{
    struct seen *seen = context;

    __atomic_fetch_add(&seen->count, 1, __ATOMIC_ACQ_REL);
}

static void count_and_repost(void *context)
{
    struct seen *seen = context;

    seen->count++;
    loop_post(seen->loop, &seen->call);
}

START_TEST(calls_run_once_a_round)
{
    struct seen seen = {.loop = new_loop()};
    struct loop_call other = {.fn = count_call, .context = &seen};

    seen.call = (struct loop_call){.fn = count_and_repost, .context = &seen};
    loop_post(seen.loop, &seen.call);
    loop_post(seen.loop, &seen.call);
    loop_post(seen.loop, &other);
    loop_run_once(seen.loop, 0);
    ck_assert_int_eq(seen.count, 2);
    loop_run_once(seen.loop, -1);
    ck_assert_int_eq(seen.count, 3);
    loop_post(seen.loop, &other);
    loop_cancel(seen.loop, &seen.call);
    loop_run_once(seen.loop, 0);
    ck_assert_int_eq(seen.count, 4);
    loop_post(seen.loop, &other);
    loop_cancel(seen.loop, &other);
    loop_post(seen.loop, &seen.call);
    loop_run_once(seen.loop, 0);
    ck_assert_int_eq(seen.count, 5);
    loop_free(seen.loop);
}
END_TEST

START_TEST(timers_fire_once_when_due)
{
    struct seen seen = {.loop = new_loop()};
    struct loop_timer *timer = NULL;
    uint64_t start = clock_monotonic_ns();

    ck_assert_int_eq(loop_timer_new(seen.loop, count_call, &seen, &timer, NULL), 0);
    loop_timer_arm(timer, start + 30 * NS_PER_MS);
    while (seen.count == 0)
        loop_run_once(seen.loop, 5000);
    ck_assert(clock_monotonic_ns() - start >= 30 * NS_PER_MS);
    ck_assert(clock_monotonic_ns() - start < 4000 * NS_PER_MS);
    loop_run_once(seen.loop, 10);
    ck_assert_int_eq(seen.count, 1);
    loop_timer_arm(timer, clock_monotonic_ns() + NS_PER_MS);
    loop_timer_arm(timer, 0);
    loop_run_once(seen.loop, 20);
    ck_assert_int_eq(seen.count, 1);
    loop_timer_free(timer);
    loop_free(seen.loop);
}
END_TEST

#define SYNC_THREADS 4
#define SYNC_ROUNDS  2000

static void *sync_many(void *context)
{
    struct seen *seen = context;

    for (int i = 0; i < SYNC_ROUNDS; i++)
        loop_sync(seen->loop, count_call, seen);
    return NULL;
}

/* The counter is not atomic: only exclusion by the loop keeps it right, while the loop's thread
 * comes and goes. */
START_TEST(sync_is_exclusive)
{
    struct seen seen = {.loop = new_loop()};
    pthread_t threads[SYNC_THREADS];

    for (int i = 0; i < SYNC_THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, sync_many, &seen), 0);
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(loop_thread_start(seen.loop, "test", NULL), 0);
        loop_thread_stop(seen.loop);
    }
    for (int i = 0; i < SYNC_THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(seen.count, SYNC_THREADS * SYNC_ROUNDS);
    loop_free(seen.loop);
}
END_TEST

static void post_a_thousand(struct seen *seen, unsigned pause_us)
{
    seen->call = (struct loop_call){.fn = count_atomically, .context = seen};
    ck_assert_int_eq(loop_thread_start(seen->loop, "test", NULL), 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t deadline = clock_monotonic_ns() + 5 * NS_PER_S;

        loop_post(seen->loop, &seen->call);
        while (__atomic_load_n(&seen->count, __ATOMIC_ACQUIRE) == i)
            ck_assert_msg(clock_monotonic_ns() < deadline, "post %d was lost", i);
        usleep(i % 2 ? pause_us : 0);
    }
    loop_thread_stop(seen->loop);
    ck_assert_int_eq(seen->count, 1000);
    loop_free(seen->loop);
}

START_TEST(posts_from_threads_wake_it)
{
    struct seen seen = {.loop = new_loop()};

    post_a_thousand(&seen, 0);
}
END_TEST

/* Pauses about as long as it looks: posts meet it looking, asleep, and on its way. */
START_TEST(posts_to_one_that_looks_first)
{
    struct seen seen = {.loop = new_loop()};

    loop_look_first(seen.loop);
    post_a_thousand(&seen, 30);
}
END_TEST

TEST_MAIN("loop", tcase_add_test(tcase, watches_fds);
          tcase_add_test(tcase, removed_watch_stays_silent);
          tcase_add_test(tcase, calls_run_once_a_round);
          tcase_add_test(tcase, timers_fire_once_when_due);
          tcase_add_test(tcase, sync_is_exclusive);
          tcase_add_test(tcase, posts_from_threads_wake_it);
          tcase_add_test(tcase, posts_to_one_that_looks_first);)
