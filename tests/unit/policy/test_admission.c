/* SPDX-License-Identifier: Apache-2.0 */
/* Admission, dominant-resource fairness, run-time estimates and memory targets. */
#include "base/util.h"
#include "policy/admission.h"
#include "policy/drf.h"
#include "policy/estimate.h"
#include "policy/memory.h"
#include "testing.h"

#include <math.h>

#define GB ((double)GIB)

static struct admission_level host(void)
{
    return (struct admission_level){
        .name = "host",
        .total = {8, 16 * GB, ALLOCATION_UNLIMITED, ALLOCATION_UNLIMITED},
        .overcommit = {2, 1}};
}

START_TEST(admits_and_refuses)
{
    struct admission_level levels[2] = {
        host(),
        {.name = "environment dev",
         .total = {4, 4 * GB, ALLOCATION_UNLIMITED, ALLOCATION_UNLIMITED},
         .instances_max = 3}};
    const double small[ALLOCATION_RESOURCES] = {1, 2 * GB, 0, 0},
                 large[ALLOCATION_RESOURCES] = {1, 3 * GB, 0, 0};
    struct admission_answer answer;
    char text[256];

    ck_assert_int_eq(admission_ask(levels, 2, small, &answer, NULL), 0);
    ck_assert(answer.admitted);
    ck_assert_uint_eq(answer.copies, 2); /* 4 GiB of dev */
    for (unsigned i = 0; i < 2; i++)
        admission_add(&levels[i], small);
    ck_assert_int_eq(admission_ask(levels, 2, large, &answer, NULL), 0);
    ck_assert(!answer.admitted);
    ck_assert_uint_eq(answer.level, 1);
    ck_assert_int_eq(answer.resource, ALLOCATION_MEMORY);
    ck_assert_double_eq_tol(answer.free, 2 * GB, 1);
    admission_explain(levels, &answer, text, sizeof(text));
    ck_assert_str_eq(text, "environment dev: 2048 of 4096 MiB of memory are not reserved yet, 3072 "
                           "were asked for; ask for at most 2048, or free some, or raise the "
                           "quota or the overcommit");
    levels[1].instances_max = 1;
    ck_assert_int_eq(admission_ask(levels, 2, small, &answer, NULL), 0);
    ck_assert(!answer.admitted && answer.by_count);
    admission_remove(&levels[1], small);
    ck_assert_int_eq(admission_ask(levels, 2, small, &answer, NULL), 0);
    ck_assert(answer.admitted);
    ck_assert_int_eq(
        admission_ask(levels, 2, (const double[]){(double)NAN, 0, 0, 0}, &answer, NULL), -EINVAL);
}
END_TEST

/* Whatever is asked in whatever order: what is admitted is met by the division, on every load. */
START_TEST(reservation_met_when_admitted)
{
    enum { MANY = 40 };
    uint64_t state = (uint64_t)_i * 77 + 5;
    struct admission_level level = {
        .name = "host", .total = {16, 64 * GB, ALLOCATION_UNLIMITED, ALLOCATION_UNLIMITED}};
    struct allocation_instance instances[MANY];
    struct allocation_result results[MANY];
    struct allocation_policy policy = {.mode = ALLOCATION_STATIC};
    const double capacity[ALLOCATION_RESOURCES] = {16, 64 * GB, 0, 0};
    size_t n = 0;

    for (unsigned i = 0; i < MANY; i++) {
        double ask[ALLOCATION_RESOURCES] = {0};
        struct admission_answer answer;

        state = state * UINT64_C(6364136223846793005) + 1;
        ask[0] = (double)(state >> 60) / 7;
        ask[1] = (double)(state >> 56 & 15) * GB / 3;
        ck_assert_int_eq(admission_ask(&level, 1, ask, &answer, NULL), 0);
        if (!answer.admitted)
            continue;
        admission_add(&level, ask);
        instances[n] = (struct allocation_instance){.alpha = 1, .priority = 1 + i % 7};
        for (unsigned r = 0; r < ALLOCATION_RESOURCES; r++) {
            instances[n].reservation[r] = ask[r];
            instances[n].limit[r] = ALLOCATION_UNLIMITED;
        }
        n++;
    }
    ck_assert_uint_gt(n, 3);
    ck_assert_double_le(level.reserved[0], 16 * (1 + 1e-6));
    ck_assert_int_eq(allocation_round(capacity, &policy, instances, n, results, NULL, NULL), 0);
    for (size_t i = 0; i < n; i++)
        for (unsigned r = 0; r < 2; r++)
            ck_assert_double_ge(results[i].share[r].amount,
                                instances[i].reservation[r] * (1 - 1e-6));
}
END_TEST

START_TEST(drf_of_the_paper)
{
    const double capacity[] = {9, 18};
    struct drf_user users[2] = {{.need = {1, 4}}, {.need = {3, 1}}};
    double used[2];

    ck_assert_int_eq(drf_fill(capacity, 2, users, 2, used, NULL), 0);
    ck_assert_uint_eq(users[0].tasks, 3);
    ck_assert_uint_eq(users[1].tasks, 2);
    ck_assert_double_eq_tol(users[0].dominant_share, 2.0 / 3, 1e-12);
    ck_assert_double_eq_tol(users[1].dominant_share, 2.0 / 3, 1e-12);
    ck_assert_uint_eq(users[0].dominant_resource, 1);
    ck_assert_uint_eq(users[1].dominant_resource, 0);
    ck_assert_double_eq_tol(used[0], 9, 1e-12);
    ck_assert_double_eq_tol(used[1], 14, 1e-12);
}
END_TEST

START_TEST(drf_weights_and_caps)
{
    const double capacity[] = {30, 1000};
    struct drf_user users[3] = {{.need = {1, 1}, .weight = 2},
                                {.need = {1, 1}, .weight = 1},
                                {.need = {1, 1}, .tasks_max = 3}};
    struct err err = ERR_INIT;

    ck_assert_int_eq(drf_fill(capacity, 2, users, 3, NULL, &err), 0);
    ck_assert_uint_eq(users[0].tasks, 18);
    ck_assert_uint_eq(users[1].tasks, 9);
    ck_assert_uint_eq(users[2].tasks, 3);
    users[1].need[0] = users[1].need[1] = 0;
    ck_assert_int_eq(drf_fill(capacity, 2, users, 3, NULL, &err), -EINVAL);
    ck_assert_int_eq(drf_fill(capacity, 0, users, 3, NULL, &err), -EINVAL);
}
END_TEST

/* Silberschatz, figure "prediction of the length of the next CPU burst": tau 10, a 1/2. */
START_TEST(estimates_of_the_textbook)
{
    static const unsigned bursts[] = {6, 4, 6, 4, 13, 13, 13};
    static const unsigned guesses[] = {8, 6, 6, 5, 9, 11, 12};
    struct estimate_config config = {0};
    struct estimator *e;
    struct estimate answer;

    ck_assert_int_eq(estimator_new(&config, &e, NULL), 0);
    estimator_ask(e, "never", &answer);
    ck_assert_uint_eq(answer.runs, 0);
    estimator_learn(e, "class", 10);
    for (unsigned i = 0; i < ARRAY_LEN(bursts); i++) {
        estimator_learn(e, "class", bursts[i]);
        estimator_ask(e, "class", &answer);
        ck_assert_uint_eq(answer.mean_ns, guesses[i]);
    }
    ck_assert(answer.of_class);
    ck_assert_uint_eq(answer.runs, 8);
    ck_assert_uint_ge(answer.safe_ns, answer.mean_ns);
    estimator_ask(e, "another", &answer);
    ck_assert(!answer.of_class);
    ck_assert_uint_eq(answer.mean_ns, 12);
    estimator_free(e);
}
END_TEST

START_TEST(estimates_forget_and_return)
{
    struct estimate_config config = {.classes_max = 3}, bad = {.a = 2};
    struct estimator *e, *copy;
    struct estimate_class state[4];
    struct estimate answer;

    ck_assert_int_eq(estimator_new(&bad, &e, NULL), -EINVAL);
    ck_assert_int_eq(estimator_new(&config, &e, NULL), 0);
    estimator_learn(e, "a", 1000);
    estimator_learn(e, "b", 2000);
    estimator_learn(e, "c", 3000);
    estimator_learn(e, "a", 1000);
    estimator_learn(e, "d", 4000); /* b goes */
    ck_assert_uint_eq(estimator_list(e, state, 4), 3);
    estimator_ask(e, "b", &answer);
    ck_assert(!answer.of_class);
    estimator_ask(e, "a", &answer);
    ck_assert(answer.of_class && answer.runs == 2);
    ck_assert_int_eq(estimator_new(&config, &copy, NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(estimator_restore(copy, &state[i]), 0);
    estimator_ask(copy, "c", &answer);
    ck_assert_uint_eq(answer.mean_ns, 3000);
    state[0].mean_ns = (double)NAN;
    ck_assert_int_eq(estimator_restore(copy, &state[0]), -EINVAL);
    estimator_free(copy);
    estimator_free(e);
}
END_TEST

static struct memory_instance vm(uint64_t used_mib, uint64_t reclaimable_mib, double pressure)
{
    return (struct memory_instance){.limit_bytes = 1024 * MIB,
                                    .used_bytes = used_mib * MIB,
                                    .reclaimable_bytes = reclaimable_mib * MIB,
                                    .pressure = pressure};
}

START_TEST(memory_comes_back)
{
    /* One idle with much unused, one busy, one that stalls itself. */
    struct memory_instance instances[3] = {vm(1000, 900, 0), vm(1000, 100, 0), vm(1000, 900, 0.5)};
    struct memory_host pressed = {.total_bytes = 4 * GIB, .available_bytes = 100 * MIB},
                       easy = {.total_bytes = 4 * GIB, .available_bytes = 3 * GIB},
                       between = {.total_bytes = 4 * GIB, .available_bytes = 600 * MIB};
    struct memory_policy policy = {0};
    struct memory_target targets[3];
    unsigned periods = 0;

    ck_assert_int_eq(memory_targets(&policy, &between, instances, 3, targets, NULL), 0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(targets[i].action, MEMORY_KEEP);
    /* 70 % of the unused 900 MiB in few periods, never below the working set */
    while (instances[0].used_bytes > (1000 - 630) * MIB && periods++ < 20) {
        ck_assert_int_eq(memory_targets(&policy, &pressed, instances, 3, targets, NULL), 0);
        ck_assert_int_eq(targets[0].action, MEMORY_SHRINK);
        ck_assert_int_ne(targets[2].action, MEMORY_SHRINK);
        for (unsigned i = 0; i < 3; i++) {
            ck_assert_uint_ge(targets[i].target_bytes, targets[i].working_set_bytes);
            ck_assert_uint_le(targets[i].target_bytes, instances[i].limit_bytes);
        }
        for (unsigned i = 0; i < 2; i++) {
            uint64_t freed = targets[i].freed_bytes;

            instances[i].target_bytes = targets[i].target_bytes;
            instances[i].used_bytes -= freed;
            instances[i].reclaimable_bytes -= MIN(freed, instances[i].reclaimable_bytes);
        }
    }
    ck_assert_uint_le(periods, 4);
    ck_assert_uint_ge(instances[1].used_bytes, 900 * MIB);
    /* and it grows back when the host is at ease */
    for (periods = 0; instances[0].target_bytes < instances[0].limit_bytes && periods < 20;
         periods++) {
        ck_assert_int_eq(memory_targets(&policy, &easy, instances, 1, targets, NULL), 0);
        ck_assert_int_eq(targets[0].action, MEMORY_GROW);
        instances[0].target_bytes = targets[0].target_bytes;
    }
    ck_assert_uint_le(periods, 8);
}
END_TEST

START_TEST(memory_keeps_reservation)
{
    struct memory_instance instance = vm(1000, 1000, 0);
    struct memory_host pressed = {.total_bytes = 4 * GIB, .available_bytes = 0, .pressure = 0.9};
    struct memory_policy policy = {.step_down = 1};
    struct memory_target target;

    instance.reservation_bytes = 512 * MIB;
    ck_assert_int_eq(memory_targets(&policy, &pressed, &instance, 1, &target, NULL), 0);
    ck_assert_uint_ge(target.target_bytes, 512 * MIB);
    instance.reservation_bytes = 2 * GIB;
    ck_assert_int_eq(memory_targets(&policy, &pressed, &instance, 1, &target, NULL), -EINVAL);
    pressed.available_bytes = 5 * GIB;
    ck_assert_int_eq(memory_targets(&policy, &pressed, &instance, 1, &target, NULL), -EINVAL);
}
END_TEST

TEST_MAIN("admission", tcase_add_test(tcase, admits_and_refuses);
          tcase_add_loop_test(tcase, reservation_met_when_admitted, 0, 20);
          tcase_add_test(tcase, drf_of_the_paper); tcase_add_test(tcase, drf_weights_and_caps);
          tcase_add_test(tcase, estimates_of_the_textbook);
          tcase_add_test(tcase, estimates_forget_and_return);
          tcase_add_test(tcase, memory_comes_back);
          tcase_add_test(tcase, memory_keeps_reservation);)
