/* SPDX-License-Identifier: Apache-2.0 */
/* Single stations against printed answers, against chains solved state by state, and at sizes where
 * a factorial would overflow. */
#include "model/queueing.h"
#include "near.h"
#include "testing.h"

#include "base/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

START_TEST(known_answers)
{
    struct queueing_result q;
    double b;

    ck_assert_int_eq(queueing_mm1(.8, 1, &q, NULL), 0);
    NEAR(q.customers, 4, 1e-12);
    NEAR(q.queued, 3.2, 1e-12);
    NEAR(q.response, 5, 1e-12);
    NEAR(q.wait, 4, 1e-12);
    ck_assert_int_eq(queueing_mmc(1.5, 1, 2, &q, NULL), 0);
    NEAR(q.empty, 1.0 / 7, 1e-12);
    NEAR(q.delayed, 9.0 / 14, 1e-12);
    NEAR(q.wait, 9.0 / 7, 1e-12);
    NEAR(q.customers, 24.0 / 7, 1e-12);
    ck_assert_int_eq(queueing_mmc(2, 1, 3, &q, NULL), 0);
    NEAR(q.empty, 1.0 / 9, 1e-12);
    NEAR(q.delayed, 4.0 / 9, 1e-12);
    NEAR(q.queued, 8.0 / 9, 1e-12);
    NEAR(q.response, 13.0 / 9, 1e-12);
    ck_assert_int_eq(queueing_erlang_b(10, 5, &b, NULL), 0);
    ck_assert_double_le(fabs(b - .018385), 5e-7);
}
END_TEST

START_TEST(service_distributions)
{
    static const struct {
        double scv, response;
    } cases[] = {{0, 3}, {1, 5}, {4, 11}};
    struct queueing_result q;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ck_assert_int_eq(queueing_mg1(.8, 1, cases[i].scv, &q, NULL), 0);
        NEAR(q.response, cases[i].response, 1e-12);
        ck_assert_int_eq(queueing_ggc(.8, 1, 1, 1, cases[i].scv, &q, NULL), 0);
        NEAR(q.response, cases[i].response, 1e-12);
    }
    ck_assert_int_eq(queueing_mg1_ps(.8, 1, &q, NULL), 0);
    NEAR(q.response, 5, 1e-12);
}
END_TEST

/* The chain 0..capacity by its balance equations in long double, straight from the definition. */
static void chain(double lambda, double mu, unsigned servers, unsigned capacity,
                  struct queueing_result *ret)
{
    long double p[512] = {1}, sum = 1;

    memset(ret, 0, sizeof(*ret));
    for (unsigned n = 1; n <= capacity; n++) {
        p[n] = p[n - 1] * (long double)lambda / (MIN(n, servers) * (long double)mu);
        sum += p[n];
    }
    for (unsigned n = 0; n <= capacity; n++) {
        ret->customers += (double)(n * p[n] / sum);
        if (n > servers)
            ret->queued += (double)((n - servers) * p[n] / sum);
        if (n >= servers)
            ret->delayed += (double)(p[n] / sum);
    }
    ret->refused = (double)(p[capacity] / sum);
    ret->empty = (double)(p[0] / sum);
}

START_TEST(chains)
{
    struct queueing_result q, oracle;

    for (unsigned servers = 1; servers <= 40; servers += 3)
        for (double load = .1; load < 1.6; load += .2) {
            chain(load * servers, 1, servers, servers + 10, &oracle);
            ck_assert_int_eq(queueing_mmck(load * servers, 1, servers, servers + 10, &q, NULL), 0);
            NEAR(q.customers, oracle.customers, 1e-10);
            NEAR(q.queued, oracle.queued, 1e-10);
            NEAR(q.refused, oracle.refused, 1e-10);
            NEAR(q.empty, oracle.empty, 1e-10);
            if (load > .75)
                continue;
            chain(load * servers, 1, servers, 500, &oracle); /* as good as without end */
            ck_assert_int_eq(queueing_mmc(load * servers, 1, servers, &q, NULL), 0);
            NEAR(q.customers, oracle.customers, 1e-9);
            NEAR(q.delayed, oracle.delayed, 1e-9);
            NEAR(q.empty, oracle.empty, 1e-9);
        }
}
END_TEST

START_TEST(large)
{
    struct queueing_result q, limited;
    double b, c;
    uint64_t servers;

    ck_assert_int_eq(queueing_erlang_b(10000, 9900, &b, NULL), 0);
    ck_assert(b > .0028 && b < .0029);
    ck_assert_int_eq(queueing_erlang_b(10000, 10000, &b, NULL), 0);
    NEAR(b, sqrt(2 / (M_PI * 10000)), .01); /* its limit at critical load */
    ck_assert_int_eq(queueing_erlang_c(10000, 9999, &c, NULL), 0);
    ck_assert(c > .9 && c < 1);
    ck_assert_int_eq(queueing_mmc(9900, 1, 10000, &q, NULL), 0);
    ck_assert(isfinite(q.customers) && q.empty >= 0 && q.empty < 1e-300);
    ck_assert_int_eq(queueing_mmck(9900, 1, 10000, 100000, &limited, NULL), 0);
    NEAR(limited.customers, q.customers, 1e-9);
    ck_assert_int_eq(queueing_mmck(20000, 1, 10000, 1000000, &limited, NULL), 0);
    NEAR(limited.throughput, 10000, 1e-9);
    ck_assert_int_eq(queueing_erlang_servers(9900, .01, 0, &servers, NULL), 0);
    ck_assert_int_eq(queueing_erlang_b(servers, 9900, &b, NULL), 0);
    ck_assert(b <= .01);
    ck_assert_int_eq(queueing_erlang_b(servers - 1, 9900, &b, NULL), 0);
    ck_assert(b > .01);
}
END_TEST

/* Both forms keep the work: sum rho Wq = rho W0 / (1 - rho) (Kleinrock's law), and with exponential
 * service the preemptive first class is an M/M/1 of its own. */
START_TEST(priorities)
{
    const double lambda[] = {.2, .3, .1}, service[] = {1, .5, 2}, scv[] = {1, 1, 1};
    double wait[3], response[3], load = 0, residual = 0, sum = 0;
    struct queueing_result q;

    ck_assert_int_eq(queueing_mg1_priority(3, lambda, service, scv, 0, wait, response, NULL), 0);
    for (unsigned k = 0; k < 3; k++) {
        load += lambda[k] * service[k];
        residual += lambda[k] * service[k] * service[k];
        sum += lambda[k] * service[k] * wait[k];
    }
    NEAR(sum, load * residual / (1 - load), 1e-12);
    ck_assert(wait[0] < wait[1] && wait[1] < wait[2]);
    ck_assert_int_eq(queueing_mg1_priority(3, lambda, service, scv, 1, wait, response, NULL), 0);
    ck_assert_int_eq(queueing_mm1(.2, 1, &q, NULL), 0);
    NEAR(response[0], q.response, 1e-12);
}
END_TEST

START_TEST(quantiles)
{
    double t;

    ck_assert_int_eq(queueing_mmc_quantile(.8, 1, 1, .95, &t, NULL), 0);
    NEAR(t, -5 * log(.05), 1e-9);
    /* c - a = 1: the limit of the general form, P(W > t) = e^-t (1 + C t) */
    ck_assert_int_eq(queueing_mmc_quantile(2, 1, 3, .95, &t, NULL), 0);
    NEAR(exp(-t) * (1 + 4.0 / 9 * t), .05, 1e-9);
    ck_assert_int_eq(queueing_mmc_quantile(0, 1, 4, .5, &t, NULL), 0);
    NEAR(t, log(2), 1e-9);
}
END_TEST

START_TEST(named_errors)
{
    struct queueing_result q;
    struct err err = ERR_INIT;
    double b;

    ck_assert_int_eq(queueing_mm1(2, 1, &q, &err), -ERANGE);
    ck_assert_ptr_eq(strstr(err.message, "unstable: "), err.message);
    ck_assert_int_eq(queueing_mm1(1, 1, &q, &err), -ERANGE);
    ck_assert_int_eq(queueing_mmc(-1, 1, 3, &q, &err), -EDOM);
    ck_assert_ptr_eq(strstr(err.message, "negative: lambda"), err.message);
    ck_assert_int_eq(queueing_mg1(.5, (double)NAN, 1, &q, &err), -EDOM);
    ck_assert_ptr_eq(strstr(err.message, "not-a-number: service"), err.message);
    ck_assert_int_eq(queueing_mmck(1, (double)INFINITY, 2, 3, &q, &err), -EDOM);
    ck_assert_int_eq(queueing_mmck(1, 1, 3, 2, &q, &err), -ERANGE);
    ck_assert_ptr_eq(strstr(err.message, "range: capacity"), err.message);
    ck_assert_int_eq(queueing_erlang_b(QUEUEING_SERVERS_MAX + 1, 1, &b, &err), -ERANGE);
    ck_assert_int_eq(queueing_erlang_c(0, 0, &b, &err), -ERANGE);
}
END_TEST

TEST_MAIN("queueing", tcase_add_test(tcase, known_answers);
          tcase_add_test(tcase, service_distributions); tcase_add_test(tcase, chains);
          tcase_add_test(tcase, large); tcase_add_test(tcase, priorities);
          tcase_add_test(tcase, quantiles); tcase_add_test(tcase, named_errors);)
