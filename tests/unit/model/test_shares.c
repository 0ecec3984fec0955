/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs that share processors by weight: answers that can be had by hand, processor sharing's
 * formula, and what holds whatever the jobs are (Little's law, the conservation of work, limits).
 */
#include "model/shares.h"
#include "model/queueing.h"
#include "model/random.h"

#include "near.h"
#include "testing.h"

#include <math.h>
#include <string.h>

#define JOBS_MAX 20000
#define S        UINT64_C(1000000000)

struct list {
    struct job jobs[JOBS_MAX];
    size_t nr, next;
    double ends[JOBS_MAX], starts[JOBS_MAX];
};

static struct list list;
static struct jobs_result result;

static bool take(void *context, struct job *ret)
{
    (void)context;
    if (list.next == list.nr)
        return false;
    *ret = list.jobs[list.next++];
    return true;
}

static void ended(void *context, const struct job *job, const struct queue_record *record)
{
    (void)context;
    list.ends[job->number] = (double)record->ended_ns * 1e-9;
    list.starts[job->number] = (double)record->started_ns * 1e-9;
}

static int simulate(struct shares host, struct err *err)
{
    struct jobs jobs = {.next = take, .ended = ended};

    list.next = 0;
    for (size_t i = 0; i < list.nr; i++)
        list.jobs[i].number = i;
    return shares_simulate(&jobs, &host, &result, err);
}

static void add(double arrival, double burst, double weight, double limit, double reserved)
{
    if (list.nr == 0)
        memset(&list, 0, sizeof(list));
    list.jobs[list.nr++] = (struct job){.arrival_ns = (uint64_t)llround(arrival * 1e9),
                                        .burst_ns = (uint64_t)llround(burst * 1e9),
                                        .weight = weight,
                                        .limit = limit,
                                        .reserved = reserved};
}

static void expect(double cores, double overcommit, const double *ends, size_t nr)
{
    struct err err = ERR_INIT;

    ck_assert_msg(simulate((struct shares){cores, 0, overcommit}, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(result.ended, nr);
    for (size_t i = 0; i < nr; i++)
        ck_assert_msg(fabs(list.ends[i] - ends[i]) < 1e-6, "job %zu: %g, not %g", i, list.ends[i],
                      ends[i]);
    list.nr = 0;
}

START_TEST(answers_by_hand)
{
    /* Alike: three have a third each, then the long one all. */
    add(0, 24, 1, 0, 0), add(0, 3, 1, 0, 0), add(0, 3, 1, 0, 0);
    expect(1, 0, (double[]){30, 9, 9}, 3);
    /* Weights 2 to 1: 6 in 9 s, by then the other has 3. */
    add(0, 6, 2, 0, 0), add(0, 6, 1, 0, 0);
    expect(1, 0, (double[]){9, 12}, 2);
    /* A limit of half a core leaves the rest to the other, and is kept when alone. */
    add(0, 4, 10, .5, 0), add(0, 2, 1, 0, 0);
    expect(1, 0, (double[]){8, 4}, 2);
    /* A reservation of half: the two others have a quarter each. */
    add(0, 2, 1, 0, .5), add(0, 1, 1, 0, 0), add(0, 1, 1, 0, 0);
    expect(1, 0, (double[]){4, 4, 4}, 3);
    /* Two cores, one job: it uses one, as its limit is unless it is said. */
    add(0, 2, 1, 0, 0), add(1, 4, 1, 2, 0);
    expect(2, 0, (double[]){2, 3.5}, 2);
}
END_TEST

START_TEST(admission_lets_in_what_fits)
{
    struct err err = ERR_INIT;

    /* .6 and .6 do not fit one core: the second waits, and so does whoever comes after it. Then it
     * has its .6 and the third .4. */
    add(0, 2, 1, 0, .6), add(0, 2, 1, 0, .6), add(0, 1, 1, 0, 0);
    expect(1, 0, (double[]){2, 5, 4.5}, 3);
    ck_assert_double_eq_tol(list.starts[1], 2, 1e-6);
    /* With an overcommit of two both are in, and what cannot be kept is scaled down. */
    add(0, 2, 1, 0, .6), add(0, 2, 1, 0, .6);
    expect(1, 2, (double[]){4, 4}, 2);
    /* Memory is counted where the host's is given; one that never fits is refused. */
    add(0, 1, 1, 0, 0), add(0, 1, 1, 0, 0), add(0, 1, 1, 0, 0);
    list.jobs[0].need[1] = list.jobs[1].need[1] = 700;
    list.jobs[2].need[1] = 1001;
    ck_assert_int_eq(simulate((struct shares){1, 1000, 0}, &err), 0);
    ck_assert_uint_eq(result.refused, 1);
    ck_assert_double_eq_tol(list.ends[1], 2, 1e-6);
    list.nr = 0;
    add(0, 1, 1, .5, .6);
    ck_assert_int_lt(simulate((struct shares){1, 0, 0}, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "limit"));
    ck_assert_int_lt(simulate((struct shares){(double)NAN, 0, 0}, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "not-a-number: cores"));
    list.nr = 0;
}
END_TEST

/* M/G/1 processor sharing: the mean response is that of M/M/1 whatever the demands are. */
START_TEST(alike_it_is_processor_sharing)
{
    struct queueing_result theory;
    struct random random;
    double at = 0, mean = 0;

    random_init(&random, 5, 1);
    for (size_t i = 0; i < JOBS_MAX; i++) {
        at += -log(random_unit(&random)) / .6;
        add(at, random_unit(&random) < .5 ? .2 : 1.8, 1, 0, 0);
    }
    ck_assert_int_eq(simulate((struct shares){1, 0, 0}, NULL), 0);
    queueing_mg1_ps(.6, 1, &theory, NULL);
    mean = result.turnaround.mean;
    /* 20,000 jobs of one draw: some 6 % off. */
    NEAR(mean, theory.response, .08);
    list.nr = 0;
}
END_TEST

START_TEST(properties)
{
    for (unsigned seed = 1; seed <= 50; seed++) {
        struct random random;
        double at = 0, work = 0, cores = 1 + seed % 4;

        random_init(&random, seed, 2);
        for (size_t i = 0; i < 300; i++) {
            double limit = .2 + 2 * random_unit(&random), burst = random_unit(&random) * 3;

            at += random_unit(&random) * 2 / cores;
            work += burst;
            add(at, burst, .1 + random_unit(&random) * 5, limit,
                random_unit(&random) < .3 ? fmin(limit, cores) * .4 * random_unit(&random) : 0);
        }
        ck_assert_int_eq(simulate((struct shares){cores, 0, 1.5}, NULL), 0);
        ck_assert_uint_eq(result.ended + result.refused, 300);
        ck_assert_uint_eq(result.refused, 0);
        ck_assert_double_eq_tol(result.busy_s, work, 1e-5);
        ck_assert_double_eq_tol(result.jobs_s, result.spent_s, 1e-5); /* Little's law */
        for (size_t i = 0; i < 300; i++) {
            double least = (double)list.jobs[i].burst_ns * 1e-9 / fmin(list.jobs[i].limit, cores);
            double stay = list.ends[i] - (double)list.jobs[i].arrival_ns * 1e-9;

            ck_assert_msg(stay >= least - 1e-6, "job %zu was faster than its limit", i);
        }
        list.nr = 0;
    }
}
END_TEST

TEST_MAIN("model_shares", tcase_add_test(tcase, answers_by_hand);
          tcase_add_test(tcase, admission_lets_in_what_fits);
          tcase_add_test(tcase, alike_it_is_processor_sharing); tcase_add_test(tcase, properties);)
