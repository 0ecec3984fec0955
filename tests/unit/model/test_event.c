/* SPDX-License-Identifier: Apache-2.0 */
/* The event core against a sorted list, random numbers against their moments, intervals against
 * tables. */
#include "model/event.h"
#include "model/random.h"
#include "model/stats.h"

#include "near.h"
#include "testing.h"

#include "base/util.h"

#include <string.h>

#define EVENTS 5000

struct planned {
    uint64_t time;
    event_t event;
    bool gone;
};

/* Adding, cancelling and taking at random: what comes out is the least of what is there, the
 * earlier added first. */
START_TEST(in_order)
{
    static struct planned all[EVENTS];
    struct event_queue q;
    struct random random;
    struct event event;
    uint32_t nr = 0, taken = 0, cancelled = 0;

    event_queue_init(&q);
    random_init(&random, 1, 0);
    while (nr < EVENTS || q.nr > 0) {
        uint64_t what = random_bits(&random) % 8;

        if (what < 4 && nr < EVENTS) {
            all[nr].time = q.now + random_bits(&random) % 50;
            all[nr].event = event_add(&q, all[nr].time, 7, nr);
            nr++;
        } else if (what == 4 && nr > 0) {
            struct planned *one = &all[random_bits(&random) % nr];

            ck_assert_int_eq(event_cancel(&q, one->event), !one->gone);
            cancelled += !one->gone;
            one->gone = true;
            ck_assert(!event_cancel(&q, one->event));
        } else if (event_next(&q, &event)) {
            uint32_t best = EVENTS;

            for (uint32_t i = 0; i < nr; i++)
                if (!all[i].gone && (best == EVENTS || all[i].time < all[best].time))
                    best = i;
            ck_assert_uint_eq(event.subject, best);
            ck_assert_uint_eq(event.time, all[best].time);
            ck_assert_uint_eq(event.kind, 7);
            all[best].gone = true;
            taken++;
        }
    }
    ck_assert_uint_eq(taken + cancelled, EVENTS);
    ck_assert_uint_eq(q.happened, taken);
    event_queue_done(&q);
}
END_TEST

START_TEST(places_are_used_again)
{
    struct event_queue q;
    struct event event;
    uint32_t capacity;

    event_queue_init(&q);
    for (uint32_t i = 0; i < 100; i++)
        event_add(&q, i, 0, i);
    capacity = q.capacity;
    for (uint32_t i = 0; i < 100000; i++) {
        ck_assert(event_next(&q, &event));
        event_add(&q, q.now + 100, 0, 0);
    }
    ck_assert_uint_eq(q.capacity, capacity);
    ck_assert_uint_eq(q.used_places, 100);
    event_add(&q, 0, 1, 1); /* the past is now */
    ck_assert_uint_eq(event_next_time(&q), q.now);
    event_queue_done(&q);
}
END_TEST

START_TEST(distributions)
{
    static const struct {
        enum distribution_kind kind;
        double mean, scv, tolerance;
    } cases[] = {
        {DISTRIBUTION_CONSTANT, 3, 0, 1e-12}, {DISTRIBUTION_EXPONENTIAL, 3, 1, .02},
        {DISTRIBUTION_UNIFORM, 3, .2, .02},   {DISTRIBUTION_GAMMA, 3, .25, .02},
        {DISTRIBUTION_GAMMA, 3, 3, .03},      {DISTRIBUTION_HYPER, 3, 4, .03},
        {DISTRIBUTION_LOGNORMAL, 3, 1.5, .1}, {DISTRIBUTION_PARETO, 3, .1, .1},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct distribution d;
        struct tally tally = {0};
        struct random random;

        ck_assert_int_eq(distribution_init(&d, cases[i].kind, cases[i].mean, cases[i].scv, NULL),
                         0);
        random_init(&random, 5, i);
        for (int k = 0; k < 400000; k++)
            tally_add(&tally, distribution_draw(&d, &random));
        NEAR(tally.mean, cases[i].mean, .01);
        if (cases[i].kind != DISTRIBUTION_CONSTANT)
            NEAR(tally_scv(&tally), cases[i].scv, cases[i].tolerance);
        ck_assert(tally.least >= 0);
    }
}
END_TEST

START_TEST(streams)
{
    struct random a, b, c;

    random_init(&a, 1, 2);
    random_init(&b, 1, 2);
    random_init(&c, 1, 3);
    for (int i = 0; i < 100; i++) {
        uint64_t x = random_bits(&a);

        ck_assert_uint_eq(x, random_bits(&b));
        ck_assert_uint_ne(x, random_bits(&c));
    }
}
END_TEST

/* Printed tables of Student's t. */
START_TEST(student)
{
    static const struct {
        double p, freedom, t;
    } table[] = {{.975, 1, 12.706}, {.975, 9, 2.262}, {.995, 19, 2.861},
                 {.95, 4, 2.132},   {.995, 2, 9.925}, {.975, 120, 1.980}};

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        ck_assert_double_le(fabs(student_quantile(table[i].p, table[i].freedom) - table[i].t),
                            5.1e-4);
}
END_TEST

START_TEST(quantiles)
{
    static struct histogram h;

    for (uint64_t i = 1; i <= 100000; i++)
        histogram_add(&h, i * 1000);
    NEAR(histogram_quantile(&h, .5), 50e6, .01);
    NEAR(histogram_quantile(&h, .99), 99e6, .01);
    histogram_add(&h, UINT64_MAX);
    NEAR(histogram_quantile(&h, 1), 0x1p64, .01);
}
END_TEST

/* A process that starts far off: the cut takes the start away, the interval holds the rest. */
START_TEST(warm_up)
{
    static struct series s;
    struct estimate_of_mean estimate;
    struct random random;
    unsigned inside = 0;

    for (uint64_t seed = 0; seed < 100; seed++) {
        double state = 100;

        random_init(&random, seed, 0);
        series_init(&s);
        for (int i = 0; i < 50000; i++) {
            state = .98 * state + random_unit(&random); /* mean 25 */
            series_add(&s, state);
        }
        series_estimate(&s, .95, &estimate);
        ck_assert(estimate.warm_up < .5);
        inside += fabs(estimate.mean - 25) <= estimate.half_width;
    }
    ck_assert_uint_ge(inside, 85);
}
END_TEST

TEST_MAIN("event", tcase_add_test(tcase, in_order); tcase_add_test(tcase, places_are_used_again);
          tcase_add_test(tcase, distributions); tcase_add_test(tcase, streams);
          tcase_add_test(tcase, student); tcase_add_test(tcase, quantiles);
          tcase_add_test(tcase, warm_up);)
