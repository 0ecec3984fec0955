/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement and balancing: small cases by hand, the grid's choice beside the exhaustive one, random
 * coming, going and moving with the sums checked, and plans that leave the model as it was.
 */
#include "policy/balancing.h"

#include "base/util.h"
#include "testing.h"

#include <math.h>

static uint32_t random_below(uint64_t *state, uint32_t bound)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*state >> 32) * bound >> 32);
}

static struct placement *placement(enum placement_rule rule)
{
    struct placement_config config = {.rule = rule};
    struct placement *p;
    struct err err = ERR_INIT;

    ck_assert_msg(placement_new(&config, &p, &err) == 0, "%s", err.message);
    return p;
}

static void add_hosts(struct placement *p, unsigned count, uint32_t cpu, uint32_t memory,
                      unsigned zones)
{
    for (unsigned i = 0; i < count; i++) {
        struct placement_host host = {.capacity = {cpu, memory, 1000},
                                      .zone = (uint8_t)(zones ? i % zones : 0)};
        uint32_t number;

        ck_assert_int_eq(placement_host_add(p, &host, &number, NULL), 0);
        ck_assert_uint_eq(number, placement_hosts(p) - 1);
    }
}

static uint32_t put_on(struct placement *p, uint32_t host, uint32_t cpu, uint32_t memory)
{
    struct placement_need need = {.need = {cpu, memory}};
    uint32_t instance;
    struct err err = ERR_INIT;

    ck_assert_msg(placement_commit(p, &need, host, &instance, &err) == 0, "%s", err.message);
    return instance;
}

/* Hosts with (8000, 8000): free (2000, 6000), (6000, 2000), (4000, 5000), (8000, 8000). */
static const struct {
    enum placement_rule rule;
    uint32_t cpu, memory, host;
} by_hand[] = {
    {PLACEMENT_BEST_FIT, 1000, 1000, 0},  {PLACEMENT_BEST_FIT, 3000, 1000, 1},
    {PLACEMENT_BEST_FIT, 3000, 3000, 2},  {PLACEMENT_BEST_FIT, 7000, 100, 3},
    {PLACEMENT_WORST_FIT, 1000, 1000, 3}, {PLACEMENT_DOT_PRODUCT, 2000, 1000, 3},
    {PLACEMENT_DOMINANT, 1000, 1000, 3},  {PLACEMENT_BEST_FIT, 9000, 1, PLACEMENT_NONE},
    {PLACEMENT_BEST_FIT, 2000, 6000, 0},
};

START_TEST(rules_by_hand)
{
    struct placement *p = placement(by_hand[_i].rule);
    struct placement_need need = {.need = {by_hand[_i].cpu, by_hand[_i].memory}};
    struct placement_candidate candidates[4];
    struct placement_choice choice;
    size_t count;

    add_hosts(p, 4, 8000, 8000, 0);
    put_on(p, 0, 6000, 2000);
    put_on(p, 1, 2000, 6000);
    put_on(p, 2, 4000, 3000);
    ck_assert_int_eq(placement_choose(p, &need, &choice, NULL), 0);
    ck_assert_uint_eq(choice.host, by_hand[_i].host);
    ck_assert_int_eq(placement_explain(p, &need, candidates, 4, &count), 0);
    ck_assert_uint_eq(count, 4);
    if (choice.host != PLACEMENT_NONE) {
        ck_assert_uint_eq(candidates[0].host, choice.host);
        ck_assert_double_eq_tol(candidates[0].score, choice.score, 1e-12);
    } else {
        ck_assert_int_eq(candidates[0].verdict, PLACEMENT_SHORT_OF_CPU);
        ck_assert_uint_eq(candidates[0].host, 3); /* the nearest miss */
        ck_assert_double_eq_tol(candidates[0].short_by, 1000, 1e-9);
    }
    placement_free(p);
}
END_TEST

START_TEST(constraints)
{
    struct placement *p = placement(PLACEMENT_BEST_FIT);
    struct placement_need need = {.need = {1000, 1000}, .group = 7, .group_max_per_host = 1};
    struct placement_host labelled = {.capacity = {4000, 4000, 10}, .labels = 3, .zone = 9};
    struct placement_choice choice;
    struct placement_candidate judged;
    uint32_t host, instance, special, used[4] = {0};
    struct err err = ERR_INIT;

    add_hosts(p, 3, 4000, 4000, 3);
    ck_assert_int_eq(placement_host_add(p, &labelled, &special, NULL), 0);
    for (unsigned i = 0; i < 4; i++) { /* one a host */
        ck_assert_int_eq(placement_place(p, &need, &host, &instance, &err), 0);
        ck_assert_uint_eq(used[host]++, 0);
    }
    ck_assert_int_eq(placement_place(p, &need, &host, &instance, &err), -ENOSPC);
    ck_assert_int_eq(placement_judge(p, &need, 0, &judged), 0);
    ck_assert_int_eq(judged.verdict, PLACEMENT_GROUP);

    need = (struct placement_need){.need = {1000, 1000}, .labels = 2};
    ck_assert_int_eq(placement_choose(p, &need, &choice, NULL), 0);
    ck_assert_uint_eq(choice.host, special);
    need.labels_avoid = 1;
    ck_assert_int_eq(placement_choose(p, &need, &choice, NULL), 0);
    ck_assert_uint_eq(choice.host, PLACEMENT_NONE);
    ck_assert_int_eq(placement_commit(p, &need, special, &instance, &err), -EPERM);

    need = (struct placement_need){.need = {1000, 1000, 11}, .labels = 2}; /* disk */
    ck_assert_int_eq(placement_judge(p, &need, special, &judged), 0);
    ck_assert_int_eq(judged.verdict, PLACEMENT_SHORT_OF_DISK);

    need = (struct placement_need){.need = {500, 500}, .group = 8, .group_together = true};
    ck_assert_int_eq(placement_commit(p, &need, 2, &instance, NULL), 0);
    ck_assert_int_eq(placement_place(p, &need, &host, &instance, NULL), 0);
    ck_assert_uint_eq(host, 2);

    need = (struct placement_need){.need = {100, 100}, .load_max = 0.3};
    ck_assert_int_eq(placement_choose(p, &need, &choice, NULL), 0);
    ck_assert_uint_ne(choice.host, 2);
    ck_assert_int_eq(placement_host_open(p, 0, false), 0);
    need = (struct placement_need){.need = {100, 100}, .not_host_plus_1 = 1 + 1};
    ck_assert_int_eq(placement_choose(p, &need, &choice, NULL), 0);
    ck_assert(choice.host == 2 || choice.host == 3);
    ck_assert_int_eq(placement_host_remove(p, 0), -EBUSY);
    placement_free(p);
}
END_TEST

/* Nine of a group over three zones: three in each, with few and with many hosts. */
START_TEST(zones_are_even)
{
    struct placement *p = placement(PLACEMENT_BEST_FIT);
    struct placement_need need = {
        .need = {100, 100}, .group = 1, .spread_zones = true, .group_max_per_host = 1};
    unsigned zones[3] = {0};

    add_hosts(p, _i ? 3000 : 12, 4000, 4000, 3);
    for (unsigned i = 0; i < 9; i++) {
        struct placement_state state;
        uint32_t host, instance;

        ck_assert_int_eq(placement_place(p, &need, &host, &instance, NULL), 0);
        ck_assert_int_eq(placement_host_state(p, host, &state), 0);
        zones[state.zone]++;
        ck_assert_uint_le(MAX(MAX(zones[0], zones[1]), zones[2]), i / 3 + 1);
    }
    placement_free(p);
}
END_TEST

/* With more hosts than the exhaustive bound: within a step of the best per resource, always a host
 * when there is one, and never one that does not fit. */
START_TEST(grid_beside_exhaustive)
{
    enum { HOSTS = 600, NEEDS = 3000 };
    struct placement *p = placement((enum placement_rule)_i);
    uint64_t state = (uint64_t)_i + 3;
    unsigned nowhere = 0;

    for (unsigned i = 0; i < HOSTS; i++) {
        struct placement_host host = {.capacity = {8000 + 8000 * random_below(&state, 3),
                                                   16000 + random_below(&state, 48000)}};
        uint32_t number;

        ck_assert_int_eq(placement_host_add(p, &host, &number, NULL), 0);
    }
    for (unsigned i = 0; i < NEEDS; i++) {
        struct placement_need need = {
            .need = {250 * (1 + random_below(&state, 32)), 1 + random_below(&state, 16000)}};
        struct placement_candidate best, chosen;
        struct placement_choice choice;
        uint32_t instance;
        size_t count;

        ck_assert_int_eq(placement_choose(p, &need, &choice, NULL), 0);
        ck_assert_int_eq(placement_explain(p, &need, &best, 1, &count), 0);
        ck_assert((choice.host == PLACEMENT_NONE) == (best.verdict != PLACEMENT_FITS));
        if (choice.host == PLACEMENT_NONE) {
            nowhere++;
            continue;
        }
        ck_assert_int_eq(placement_judge(p, &need, choice.host, &chosen), 0);
        ck_assert_int_eq(chosen.verdict, PLACEMENT_FITS);
        ck_assert_double_ge(chosen.score, best.score - 3.0 / PLACEMENT_GRID);
        ck_assert_int_eq(placement_commit(p, &need, choice.host, &instance, NULL), 0);
    }
    ck_assert_uint_gt(nowhere, 0);
    placement_free(p);
}
END_TEST

START_TEST(sums_hold)
{
    enum { HOSTS = 300, LIVE = 2000 };
    struct placement *p = placement(PLACEMENT_BEST_FIT);
    uint32_t live[LIVE], n = 0;
    uint64_t state = 9;

    add_hosts(p, HOSTS, 32000, 64000, 4);
    for (unsigned i = 0; i < 20000; i++) {
        struct placement_need need = {
            .need = {random_below(&state, 4000), random_below(&state, 8000), 0},
            .group = random_below(&state, 5),
            .group_max_per_host = 3};
        uint32_t host, which = n ? random_below(&state, n) : 0;

        if (n < LIVE && random_below(&state, 3)) {
            n += placement_place(p, &need, &host, &live[n], NULL) == 0;
        } else if (n && random_below(&state, 2)) {
            ck_assert_int_eq(placement_remove(p, live[which]), 0);
            ck_assert_int_eq(placement_remove(p, live[which]), -ENOENT);
            live[which] = live[--n];
        } else if (n) {
            placement_move(p, live[which], random_below(&state, HOSTS), NULL);
        }
    }
    for (uint32_t host = 0, seen = 0; host < HOSTS; host++) {
        uint32_t used[2] = {0}, count = 0, groups[5] = {0};
        struct placement_state s;

        for (uint32_t i = placement_next_on(p, host, PLACEMENT_NONE); i != PLACEMENT_NONE;
             i = placement_next_on(p, host, i), count++) {
            struct placement_need need;

            ck_assert_uint_eq(placement_where(p, i, &need), host);
            used[0] += need.need[0];
            used[1] += need.need[1];
            groups[need.group]++;
        }
        ck_assert_int_eq(placement_host_state(p, host, &s), 0);
        ck_assert_uint_eq(s.capacity[0] - s.free[0], used[0]);
        ck_assert_uint_eq(s.capacity[1] - s.free[1], used[1]);
        ck_assert_uint_eq(s.instances, count);
        for (unsigned g = 1; g < 5; g++)
            ck_assert_uint_le(groups[g], 3);
        seen += count;
        if (host == HOSTS - 1)
            ck_assert_uint_eq(seen, n);
    }
    placement_free(p);
}
END_TEST

START_TEST(spread_plan)
{
    struct placement *p = placement(PLACEMENT_BEST_FIT);
    struct balancing_config config = {.aim = BALANCING_SPREAD, .threshold = 0.02};
    struct balancing_plan plan, again;
    struct err err = ERR_INIT;

    add_hosts(p, 4, 10000, 10000, 0);
    for (unsigned i = 0; i < 16; i++)
        put_on(p, i < 8 ? 0 : 1, 1000, 500);
    ck_assert_msg(balancing_plan(p, &config, &plan, &err) == 0, "%s", err.message);
    ck_assert_double_eq_tol(plan.spread_before, 0.4, 1e-9);
    ck_assert_double_eq_tol(plan.spread_after, 0, 1e-9);
    ck_assert_uint_eq(plan.nr_moves, 8);
    ck_assert_double_eq_tol(balancing_load(p, 0), 0.8, 1e-12); /* as before */
    ck_assert_double_eq_tol(balancing_load(p, 3), 0, 1e-12);
    for (size_t i = 0; i < plan.nr_moves; i++) {
        ck_assert_double_gt(plan.moves[i].gain, 0);
        ck_assert_double_gt(plan.moves[i].from_before, plan.moves[i].from_after);
    }
    ck_assert_int_eq(balancing_apply(p, &plan, &err), 0);
    for (uint32_t host = 0; host < 4; host++)
        ck_assert_double_eq_tol(balancing_load(p, host), 0.4, 1e-12);
    ck_assert_int_eq(balancing_apply(p, &plan, &err), -ESTALE);
    ck_assert_int_eq(balancing_plan(p, &config, &again, &err), 0);
    ck_assert_uint_eq(again.nr_moves, 0);
    balancing_plan_done(&again);
    balancing_plan_done(&plan);
    placement_free(p);
}
END_TEST

START_TEST(consolidate_and_drain)
{
    struct placement *p = placement(PLACEMENT_BEST_FIT);
    struct balancing_config config = {.aim = BALANCING_CONSOLIDATE, .high = 0.85};
    struct balancing_plan plan;
    struct err err = ERR_INIT;

    add_hosts(p, 5, 10000, 10000, 0);
    for (uint32_t host = 0; host < 4; host++)
        for (uint32_t i = 0; i <= host; i++)
            put_on(p, host, 1500, 1000); /* 15, 30, 45, 60 % */
    ck_assert_msg(balancing_plan(p, &config, &plan, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(plan.hosts_used_before, 4);
    ck_assert_uint_eq(plan.hosts_used_after, 2);
    ck_assert_int_eq(balancing_apply(p, &plan, &err), 0);
    for (uint32_t host = 0; host < 5; host++)
        ck_assert_double_le(balancing_load(p, host), 0.85 + 1e-6);
    balancing_plan_done(&plan);

    config = (struct balancing_config){.aim = BALANCING_DRAIN, .host = 3};
    ck_assert_int_eq(balancing_plan(p, &config, &plan, &err), 0);
    ck_assert_uint_eq(plan.stuck, 0);
    ck_assert_uint_gt(plan.nr_moves, 0);
    ck_assert_double_gt(balancing_load(p, 3), 0.1);
    ck_assert_int_eq(balancing_apply(p, &plan, &err), 0);
    ck_assert_double_eq_tol(balancing_load(p, 3), 0, 1e-12);
    balancing_plan_done(&plan);
    config.host = 77;
    ck_assert_int_eq(balancing_plan(p, &config, &plan, &err), -EINVAL);
    placement_free(p);
}
END_TEST

TEST_MAIN("placement", tcase_add_loop_test(tcase, rules_by_hand, 0, (int)ARRAY_LEN(by_hand));
          tcase_add_test(tcase, constraints); tcase_add_loop_test(tcase, zones_are_even, 0, 2);
          tcase_add_loop_test(tcase, grid_beside_exhaustive, 0, PLACEMENT_RULES);
          tcase_add_test(tcase, sums_hold); tcase_add_test(tcase, spread_plan);
          tcase_add_test(tcase, consolidate_and_drain);)
