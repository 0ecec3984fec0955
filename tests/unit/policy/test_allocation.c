/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Division of resources: the worked example of the VMware resource management guide (10 GHz), the
 * properties of weighted max-min fairness on random claims, and what the kernel is told.
 */
#include "policy/allocation.h"

#include "base/util.h"
#include "testing.h"

#include <math.h>

#define NONE ALLOCATION_UNLIMITED

static double random_unit(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) / (double)(UINT64_C(1) << 53);
}

START_TEST(ten_gigahertz)
{
    static const struct allocation_claim claims[] = {
        {.weight = 2000, .limit = 3, .demand = NONE},
        {.weight = 1000, .reservation = 2, .limit = NONE, .demand = NONE},
        {.weight = 1000, .limit = NONE, .demand = NONE}};
    struct allocation_share shares[3];
    struct allocation_fill fill;

    ck_assert_int_eq(allocation_divide(10, claims, 3, shares, &fill, NULL), 0);
    ck_assert_double_eq_tol(shares[0].amount, 3, 1e-12);
    ck_assert_double_eq_tol(shares[1].amount, 3.5, 1e-12);
    ck_assert_double_eq_tol(shares[2].amount, 3.5, 1e-12);
    ck_assert_int_eq(shares[0].bound, ALLOCATION_BY_LIMIT);
    ck_assert_int_eq(shares[1].bound, ALLOCATION_BY_WEIGHT);
    ck_assert_double_eq_tol(fill.level, 0.0035, 1e-15);
    ck_assert_double_eq_tol(fill.idle, 0, 1e-12);
}
END_TEST

START_TEST(small_cases)
{
    struct allocation_claim claims[2] = {{.weight = 1, .reservation = 6, .limit = NONE},
                                         {.weight = 1, .limit = NONE}};
    struct allocation_share shares[2];
    struct allocation_fill fill;

    claims[0].demand = claims[1].demand = NONE;
    ck_assert_int_eq(allocation_divide(10, claims, 2, shares, &fill, NULL), 0);
    ck_assert_double_eq_tol(shares[0].amount, 6, 1e-12);
    ck_assert_int_eq(shares[0].bound, ALLOCATION_BY_RESERVATION);
    ck_assert_double_eq_tol(shares[1].amount, 4, 1e-12);

    claims[1].reservation = 6; /* 12 promised of 10: 5 each */
    ck_assert_int_eq(allocation_divide(10, claims, 2, shares, &fill, NULL), 0);
    ck_assert(fill.short_of_reserve);
    ck_assert_double_eq_tol(shares[0].amount, 5, 1e-12);
    ck_assert_int_eq(shares[1].bound, ALLOCATION_SCALED_DOWN);

    claims[0].demand = 1; /* does not want what is reserved for it: the other may have it ... */
    ck_assert_int_eq(allocation_divide(10, claims, 2, shares, &fill, NULL), 0);
    ck_assert_double_eq_tol(shares[0].amount, 1, 1e-12);
    ck_assert_int_eq(shares[0].bound, ALLOCATION_BY_DEMAND);
    ck_assert_double_eq_tol(shares[1].amount, 9, 1e-12);
    claims[0].hold = true; /* ... unless it is held */
    claims[1].reservation = 0;
    ck_assert_int_eq(allocation_divide(10, claims, 2, shares, &fill, NULL), 0);
    ck_assert_double_eq_tol(shares[0].amount, 6, 1e-12);

    claims[0].limit = 6, claims[1].limit = 1; /* 3 that nobody may have */
    ck_assert_int_eq(allocation_divide(10, claims, 2, shares, &fill, NULL), 0);
    ck_assert_double_eq_tol(fill.idle, 3, 1e-12);
    ck_assert(isinf(fill.level));
    ck_assert_int_eq(allocation_divide(10, NULL, 0, NULL, &fill, NULL), 0);
    ck_assert_double_eq_tol(fill.idle, 10, 1e-12);
}
END_TEST

START_TEST(refuses_nonsense)
{
    static const struct allocation_claim bad[] = {
        {.weight = 0, .limit = 1},
        {.weight = (double)NAN, .limit = 1},
        {.weight = 1, .limit = 1, .reservation = 2},
        {.weight = 1, .limit = (double)NAN},
        {.weight = 1, .limit = 1, .demand = -1},
        {.weight = 1, .limit = NONE, .reservation = NONE}};
    struct allocation_share share;
    struct err err = ERR_INIT;

    ck_assert_int_eq(allocation_divide(10, &bad[_i], 1, &share, NULL, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "instance 0"));
    ck_assert_int_eq(allocation_divide(-1, NULL, 0, &share, NULL, &err), -EINVAL);
    ck_assert_int_eq(allocation_divide((double)NAN, NULL, 0, &share, NULL, &err), -EINVAL);
}
END_TEST

enum { MANY = 60 };

static void random_claims(struct allocation_claim *claims, size_t n, double capacity,
                          uint64_t *state)
{
    for (size_t i = 0; i < n; i++) {
        double reservation = random_unit(state) < 0.4
                                 ? random_unit(state) * capacity * 1.8 / (double)n
                                 : 0;

        claims[i] = (struct allocation_claim){
            .weight = exp(8 * random_unit(state)),
            .reservation = reservation,
            .limit = random_unit(state) < 0.5 ? NONE
                                              : reservation + random_unit(state) * capacity / 20,
            .demand = random_unit(state) < 0.5 ? NONE : random_unit(state) * capacity / 20,
            .hold = random_unit(state) < 0.5};
    }
}

/* On 2,000 random cases: nothing above the capacity, work conserved, reservations met, limits kept,
 * and nobody below the common level who could have had more. */
START_TEST(properties)
{
    uint64_t state = (uint64_t)_i + 1;

    for (unsigned round = 0; round < 200; round++) {
        struct allocation_claim claims[MANY];
        struct allocation_share shares[MANY];
        struct allocation_fill fill;
        size_t n = 1 + (size_t)(random_unit(&state) * (MANY - 1));
        double capacity = exp(20 * random_unit(&state)), sum = 0, wanted = 0;

        random_claims(claims, n, capacity, &state);
        ck_assert_int_eq(allocation_divide(capacity, claims, n, shares, &fill, NULL), 0);
        for (size_t i = 0; i < n; i++) {
            double demand = claims[i].hold ? fmax(claims[i].demand, claims[i].reservation)
                                           : claims[i].demand;
            double high = fmin(claims[i].limit, demand);

            sum += shares[i].amount;
            wanted += fmin(high, capacity);
            ck_assert_double_le(shares[i].amount, high * (1 + 1e-12));
            if (fill.short_of_reserve)
                continue;
            ck_assert_double_ge(shares[i].amount,
                                fmin(claims[i].reservation, demand) * (1 - 1e-12));
            if (shares[i].amount < high * (1 - 1e-9) && fill.level < NONE)
                ck_assert_double_ge(shares[i].amount, fill.level * claims[i].weight * (1 - 1e-9));
        }
        ck_assert_double_le(sum, capacity * (1 + 1e-9));
        ck_assert_double_ge(sum, fmin(capacity, wanted) * (1 - 1e-9));
        ck_assert_double_eq_tol(sum + fill.idle, capacity, capacity * 1e-9);
    }
}
END_TEST

/* More weight never gives less to oneself, nor more to anybody else. */
START_TEST(weights_are_monotone)
{
    uint64_t state = (uint64_t)_i + 100;

    for (unsigned round = 0; round < 100; round++) {
        struct allocation_claim claims[MANY];
        struct allocation_share before[MANY], after[MANY];
        size_t who = (size_t)(random_unit(&state) * MANY);

        random_claims(claims, MANY, 100, &state);
        ck_assert_int_eq(allocation_divide(100, claims, MANY, before, NULL, NULL), 0);
        claims[who].weight *= 1 + 3 * random_unit(&state);
        ck_assert_int_eq(allocation_divide(100, claims, MANY, after, NULL, NULL), 0);
        for (size_t i = 0; i < MANY; i++)
            if (i == who)
                ck_assert_double_ge(after[i].amount, before[i].amount - 1e-9);
            else
                ck_assert_double_le(after[i].amount, before[i].amount + 1e-9);
    }
}
END_TEST

START_TEST(weight_formula)
{
    ck_assert_double_eq_tol(allocation_weight(2, 3, 0.5, 10), 11, 1e-12);
    ck_assert_double_eq_tol(allocation_weight(1, -5, 0, 0), ALLOCATION_WEIGHT_MIN, 1e-15);
    ck_assert_double_eq_tol(allocation_run_time(60, 1, 60, 60), 60 / M_E + 1, 1e-9);
    ck_assert_double_eq_tol(allocation_run_time(60, 1, 5, 0), 1, 1e-12);
}
END_TEST

static struct allocation_instance instance(double priority, double used, double pressure)
{
    struct allocation_instance i = {.priority = priority, .alpha = 1};

    for (unsigned r = 0; r < ALLOCATION_RESOURCES; r++)
        i.limit[r] = NONE;
    i.used[ALLOCATION_CPU] = used;
    i.pressure[ALLOCATION_CPU] = pressure;
    return i;
}

/* Static: 1:2:4. Dynamic: what the idle one leaves goes to the others by weight. */
START_TEST(static_and_dynamic)
{
    const double capacity[ALLOCATION_RESOURCES] = {7, 0, 0, 0};
    struct allocation_policy policy = {.mode = ALLOCATION_STATIC};
    struct allocation_instance instances[3] = {instance(1, 1, 0.5), instance(2, 3, 0.5),
                                               instance(4, 0.8, 0)};
    struct allocation_result results[3];
    struct allocation_fill fill[ALLOCATION_RESOURCES];
    char text[512];

    ck_assert_int_eq(allocation_round(capacity, &policy, instances, 3, results, fill, NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_double_eq_tol(results[i].share[ALLOCATION_CPU].amount, 1 << i, 1e-9);
    policy.mode = ALLOCATION_DYNAMIC;
    ck_assert_int_eq(allocation_round(capacity, &policy, instances, 3, results, fill, NULL), 0);
    ck_assert_double_eq_tol(results[2].share[ALLOCATION_CPU].amount, 1, 1e-9);
    ck_assert_double_eq_tol(results[0].share[ALLOCATION_CPU].amount, 2, 1e-9);
    ck_assert_double_eq_tol(results[1].share[ALLOCATION_CPU].amount, 4, 1e-9);
    ck_assert_double_eq_tol(results[2].entitled[ALLOCATION_CPU], 4, 1e-9);
    /* all at ease: everything is shared out all the same */
    instances[0].pressure[0] = instances[1].pressure[0] = 0;
    ck_assert_int_eq(allocation_round(capacity, &policy, instances, 3, results, fill, NULL), 0);
    ck_assert_double_eq_tol(results[0].share[0].amount + results[1].share[0].amount +
                                results[2].share[0].amount,
                            7, 1e-9);
    ck_assert_int_eq(results[2].share[0].bound, ALLOCATION_BY_SPARE);
    ck_assert_int_gt(allocation_explain(&instances[0], &results[0], &fill[0], ALLOCATION_CPU, 7,
                                        text, sizeof(text)),
                     0);
    ck_assert_ptr_nonnull(strstr(text, "weight 1 = 1 * 1 + 0 * 0 s"));
    ck_assert_ptr_nonnull(strstr(text, "of 7 cores"));
}
END_TEST

START_TEST(demand_rises_with_pressure)
{
    struct allocation_policy policy = {.mode = ALLOCATION_DYNAMIC};
    double last = 0;

    for (double pressure = 0; pressure < 0.2; pressure += 0.01) {
        double demand = allocation_demand(&policy, 2, pressure);

        ck_assert_double_ge(demand, last);
        last = demand;
    }
    ck_assert_double_eq_tol(allocation_demand(&policy, 2, 0.01), 2.5, 1e-12);
    ck_assert_double_eq_tol(allocation_demand(&policy, 2, 0.11), 5, 1e-9);
    ck_assert(isinf(allocation_demand(&policy, 2, 0.2)));
}
END_TEST

START_TEST(cgroup_figures)
{
    static const double plain[] = {1, 2, 4}, tiny[] = {0.001, 0.004}, huge[] = {1000, 4000},
                        far[] = {0.0001, 5000};
    struct allocation_cgroup c;

    ck_assert_double_eq_tol(allocation_cgroup_scale(plain, 3), 1, 1e-15);
    allocation_cgroup(2, 1, 1.5, 0, &c);
    ck_assert_uint_eq(c.v1_shares, 2048);
    ck_assert_uint_eq(c.v2_weight, 200);
    ck_assert_int_eq(c.quota_us, 150000);
    ck_assert_uint_eq(c.period_us, 100000);
    allocation_cgroup(0.004, allocation_cgroup_scale(tiny, 2), NONE, 0, &c);
    ck_assert_uint_eq(c.v2_weight, 40);
    ck_assert_int_eq(c.quota_us, -1);
    allocation_cgroup(1000, allocation_cgroup_scale(huge, 2), 0.005, 0, &c);
    ck_assert_uint_eq(c.v2_weight, 2500);
    ck_assert_int_eq(c.quota_us, 1000); /* 0.005 cores: 1 ms in 200 ms */
    ck_assert_uint_eq(c.period_us, 200000);
    allocation_cgroup(0.0001, allocation_cgroup_scale(far, 2), 0, 0, &c);
    ck_assert_uint_eq(c.v2_weight, 1);
    ck_assert_uint_eq(c.v1_shares, 2);
    ck_assert_int_eq(c.quota_us, 1000);
    ck_assert_uint_eq(c.period_us, 1000000);
    ck_assert_uint_eq(allocation_shared_period_us(4), 100000);
    ck_assert_uint_eq(allocation_shared_period_us(1), 250000);
    ck_assert_uint_eq(allocation_shared_period_us(0.5), 500000);
    ck_assert_uint_eq(allocation_shared_period_us(0.01), 1000000);
    ck_assert_uint_eq(allocation_shared_period_us(0), 1000000);
    ck_assert_uint_eq(allocation_shared_period_us(NONE), 100000);
    ck_assert_uint_eq(allocation_io_weight(1, 1), 100);
    ck_assert_uint_eq(allocation_io_weight(1000, 1), 1000);
    ck_assert_double_eq_tol(allocation_cgroup_scale(NULL, 0), 1, 1e-15);
}
END_TEST

TEST_MAIN("allocation", tcase_add_test(tcase, ten_gigahertz); tcase_add_test(tcase, small_cases);
          tcase_add_loop_test(tcase, refuses_nonsense, 0, 6);
          tcase_add_loop_test(tcase, properties, 0, 10);
          tcase_add_loop_test(tcase, weights_are_monotone, 0, 5);
          tcase_add_test(tcase, weight_formula); tcase_add_test(tcase, static_and_dynamic);
          tcase_add_test(tcase, demand_rises_with_pressure); tcase_add_test(tcase, cgroup_figures);)
