/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live migrations as events: one alone is the formula; two that share a link are the formula at
 * half the rate; whatever the moves are, nothing is lost, every instance ends on one host, and
 * nobody begins before there is room.
 */
#include "model/moves.h"

#include "model/random.h"
#include "near.h"
#include "testing.h"

#include <string.h>

#define MOVES_MAX 40

struct fixture {
    struct placement *placement;
    struct balancing_move moves[MOVES_MAX];
    struct move_result each[MOVES_MAX];
    struct moves_result result;
};

static void setup(struct fixture *f, uint32_t hosts, uint32_t memory)
{
    struct placement_config config = {.rule = PLACEMENT_BEST_FIT};
    struct placement_host host = {.capacity = {64000, memory, 1000}};
    uint32_t number;

    memset(f, 0, sizeof(*f));
    f->result.each = f->each;
    ck_assert_int_eq(placement_new(&config, &f->placement, NULL), 0);
    for (uint32_t i = 0; i < hosts; i++)
        ck_assert_int_eq(placement_host_add(f->placement, &host, &number, NULL), 0);
}

static void move(struct fixture *f, size_t i, uint32_t from, uint32_t to, uint32_t memory)
{
    struct placement_need need = {.need = {100, memory, 1}};

    f->moves[i] = (struct balancing_move){.from = from, .to = to, .memory_mib = memory};
    ck_assert_int_eq(placement_commit(f->placement, &need, from, &f->moves[i].instance, NULL), 0);
}

static void simulate(struct fixture *f, size_t nr, struct migration copy, uint32_t parallel)
{
    struct moves moves = {f->moves, nr, copy, NULL, parallel};
    struct err err = ERR_INIT;

    ck_assert_msg(moves_simulate(f->placement, &moves, &f->result, &err) == 0, "%s", err.message);
}

/* The textbook's: 4 rounds, 15.625 ms, 5.328 s, 5456 MiB. And those that do not converge. */
START_TEST(one_alone_is_the_formula)
{
    static const struct migration cases[] = {{4096, 1024, 256, .03, 0, 0},
                                             {4096, 1024, 0, .03, 0, 0},
                                             {4096, 1024, 2048, .03, 0, 0},
                                             {4096, 1024, 900, .03, 64, 0},
                                             {4096, 1024, 1000, .03, 0, 5}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct migration_result theory;
        struct fixture f;

        setup(&f, 2, 8192);
        move(&f, 0, 0, 1, (uint32_t)cases[i].memory);
        simulate(&f, 1, cases[i], 1);
        ck_assert_int_eq(migration_precopy(&cases[i], &theory, NULL), 0);
        ck_assert_uint_eq(f.each[0].rounds, theory.rounds);
        ck_assert_int_eq(f.each[0].converged, theory.converged);
        ck_assert_double_eq_tol(f.each[0].downtime, theory.downtime, 1e-6);
        ck_assert_double_eq_tol(f.each[0].end, theory.total, 1e-6);
        ck_assert_double_eq_tol(f.each[0].sent, theory.sent, 1e-3);
        ck_assert_uint_eq(placement_where(f.placement, f.moves[0].instance, NULL), 1);
        placement_free(f.placement);
    }
}
END_TEST

/* Both from one host to two others: each has half of the source's link. From two to one: the same.
 */
START_TEST(a_shared_link_is_half_a_link)
{
    struct migration whole = {1024, 1000, 100, .05, 0, 0}, half = {1024, 500, 100, .05, 0, 0};
    struct migration_result theory;

    ck_assert_int_eq(migration_precopy(&half, &theory, NULL), 0);
    for (int fan_in = 0; fan_in < 2; fan_in++) {
        struct fixture f;

        setup(&f, 3, 8192);
        move(&f, 0, fan_in ? 1 : 0, fan_in ? 0 : 1, 1024);
        move(&f, 1, fan_in ? 2 : 0, fan_in ? 0 : 2, 1024);
        simulate(&f, 2, whole, 2);
        ck_assert_uint_eq(f.result.most_at_once, 2);
        for (int i = 0; i < 2; i++) {
            /* The other one's end may give the last round the whole link. */
            ck_assert_double_eq_tol(f.each[i].end, theory.total, 1e-5);
            ck_assert_double_eq_tol(f.each[i].sent, theory.sent, 1e-3);
        }
        placement_free(f.placement);
        /* One at a time: twice one alone. */
        setup(&f, 3, 8192);
        move(&f, 0, fan_in ? 1 : 0, fan_in ? 0 : 1, 1024);
        move(&f, 1, fan_in ? 2 : 0, fan_in ? 0 : 2, 1024);
        simulate(&f, 2, whole, 1);
        ck_assert_uint_eq(f.result.most_at_once, 1);
        ck_assert_double_eq_tol(f.each[1].begin, f.each[0].end, 1e-9);
        placement_free(f.placement);
    }
}
END_TEST

/* Two full hosts cannot change places; with a third that has room the chain unwinds in order. */
START_TEST(who_has_no_room_waits)
{
    struct migration copy = {1, 1000, 10, .05, 0, 0};
    struct fixture f;

    setup(&f, 2, 1000);
    move(&f, 0, 0, 1, 900);
    move(&f, 1, 1, 0, 900);
    simulate(&f, 2, copy, 4);
    ck_assert_uint_eq(f.result.waiting, 2);
    ck_assert_uint_eq(placement_where(f.placement, f.moves[0].instance, NULL), 0);
    placement_free(f.placement);
    setup(&f, 3, 1000);
    move(&f, 0, 0, 1, 900);
    move(&f, 1, 1, 2, 900);
    simulate(&f, 2, copy, 4);
    ck_assert_uint_eq(f.result.waiting, 0);
    ck_assert_double_eq_tol(f.each[0].begin, f.each[1].end, 1e-9);
    ck_assert_uint_eq(placement_where(f.placement, f.moves[0].instance, NULL), 1);
    ck_assert_uint_eq(placement_where(f.placement, f.moves[1].instance, NULL), 2);
    placement_free(f.placement);
}
END_TEST

START_TEST(nothing_is_lost)
{
    for (unsigned seed = 1; seed <= 100; seed++) {
        struct migration copy = {1, 800, 90, .1, 0, 0};
        double sent = 0, memory = 0;
        struct random random;
        uint32_t on_hosts = 0;
        struct fixture f;

        random_init(&random, seed, 1);
        setup(&f, 5, 40000);
        for (size_t i = 0; i < MOVES_MAX; i++) {
            uint32_t from = (uint32_t)(random_bits(&random) % 5);
            uint32_t to = (from + 1 + (uint32_t)(random_bits(&random) % 4)) % 5;

            move(&f, i, from, to, 200 + (uint32_t)(random_bits(&random) % 1500));
            memory += f.moves[i].memory_mib;
        }
        simulate(&f, MOVES_MAX, copy, 1 + seed % 4);
        ck_assert_uint_eq(f.result.done, MOVES_MAX);
        for (size_t i = 0; i < MOVES_MAX; i++) {
            const struct move_result *one = &f.each[i];
            sent += one->sent;
            /* Never faster than the link, and no less than all of its memory. */
            ck_assert(one->sent <= copy.bandwidth * (one->end - one->begin) * (1 + 1e-6));
            ck_assert(one->sent >= f.moves[i].memory_mib);
            ck_assert(one->end <= f.result.took && one->downtime > 0);
            ck_assert_uint_eq(placement_where(f.placement, f.moves[i].instance, NULL),
                              f.moves[i].to);
        }
        for (uint32_t host = 0; host < 5; host++)
            for (uint32_t on = placement_next_on(f.placement, host, PLACEMENT_NONE);
                 on != PLACEMENT_NONE; on = placement_next_on(f.placement, host, on))
                on_hosts++;
        ck_assert_uint_eq(on_hosts, MOVES_MAX); /* no place is left that was kept for a copy */
        ck_assert_double_eq_tol(sent, f.result.sent, 1e-3);
        ck_assert(sent >= memory);
        placement_free(f.placement);
    }
}
END_TEST

START_TEST(bad_parameters_are_named)
{
    struct moves moves = {.nr_moves = 1, .copy = {1, -5, 0, .1, 0, 0}};
    struct err err = ERR_INIT;
    struct fixture f;

    setup(&f, 2, 8192);
    move(&f, 0, 0, 1, 100);
    moves.moves = f.moves;
    ck_assert_int_lt(moves_simulate(f.placement, &moves, &f.result, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "bandwidth"));
    f.moves[0].to = 7;
    moves.copy.bandwidth = 5;
    ck_assert_int_lt(moves_simulate(f.placement, &moves, &f.result, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "range"));
    placement_free(f.placement);
}
END_TEST

TEST_MAIN("model_moves", tcase_add_test(tcase, one_alone_is_the_formula);
          tcase_add_test(tcase, a_shared_link_is_half_a_link);
          tcase_add_test(tcase, who_has_no_room_waits); tcase_add_test(tcase, nothing_is_lost);
          tcase_add_test(tcase, bad_parameters_are_named);)
