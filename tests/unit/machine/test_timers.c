/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/timers.h"

#include "base/clock.h"
#include "base/util.h"
#include "testing.h"

#include <pthread.h>

static struct timers *clock_under_test;
static struct timer *timer_a, *timer_b;
static uint64_t fired_at[8];
static unsigned nr_fired;

static void note(void *context)
{
    (void)context;
    fired_at[nr_fired++] = timers_now_ns(clock_under_test);
}

static void again(void *context)
{
    note(context);
    if (nr_fired < 4)
        timer_arm(timer_a, timers_now_ns(clock_under_test) + 10);
}

START_TEST(manual_clock_fires_in_order_at_the_deadline)
{
    ck_assert_int_eq(timers_new_manual(&clock_under_test, NULL), 0);
    timer_new(clock_under_test, again, NULL, &timer_a, NULL);
    timer_new(clock_under_test, note, NULL, &timer_b, NULL);
    timer_arm(timer_a, 100);
    timer_arm(timer_b, 105);
    timers_advance(clock_under_test, 99);
    ck_assert_uint_eq(nr_fired, 0);
    timers_advance(clock_under_test, 1000);
    ck_assert_uint_eq(nr_fired, 4);
    ck_assert_uint_eq(fired_at[0], 100);
    ck_assert_uint_eq(fired_at[1], 105);
    ck_assert_uint_eq(fired_at[2], 110);
    ck_assert_uint_eq(fired_at[3], 120);
    timer_arm(timer_b, 2000);
    timer_arm(timer_b, TIMER_NEVER);
    timer_arm(timer_a, 1500);
    timer_disarm(timer_a);
    timers_advance(clock_under_test, 3000);
    ck_assert_uint_eq(nr_fired, 4);
    ck_assert_uint_eq(timers_now_ns(clock_under_test), 3000);
    timer_free(timer_a);
    timer_free(timer_b);
    timers_free(clock_under_test);
}
END_TEST

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fired = PTHREAD_COND_INITIALIZER;

static void signal_fired(void *context)
{
    (void)context;
    pthread_mutex_lock(&gate);
    nr_fired++;
    pthread_cond_signal(&fired);
    pthread_mutex_unlock(&gate);
}

START_TEST(thread_fires_not_before_the_deadline)
{
    uint64_t start = clock_monotonic_ns();

    ck_assert_int_eq(timers_new(&clock_under_test, NULL), 0);
    timer_new(clock_under_test, signal_fired, NULL, &timer_a, NULL);
    timer_new(clock_under_test, signal_fired, NULL, &timer_b, NULL);
    timer_arm(timer_b, start + 1000 * NS_PER_S);
    timer_arm(timer_a, start + 20 * NS_PER_MS); /* earlier than what the thread sleeps for */
    pthread_mutex_lock(&gate);
    while (!nr_fired)
        pthread_cond_wait(&fired, &gate);
    pthread_mutex_unlock(&gate);
    ck_assert_uint_ge(clock_monotonic_ns() - start, 20 * NS_PER_MS);
    timer_disarm(timer_b);
    timer_free(timer_a);
    timer_free(timer_b);
    timers_free(clock_under_test);
    ck_assert_uint_eq(nr_fired, 1);
}
END_TEST

TEST_MAIN("timers", tcase_add_test(tcase, manual_clock_fires_in_order_at_the_deadline);
          tcase_add_test(tcase, thread_fires_not_before_the_deadline))
