/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks against printed answers, and against the whole Markov chain: all states of a small
 * network are enumerated and its balance equations solved by iteration, which knows nothing of
 * product forms, mean values or convolutions.
 */
#include "model/networks.h"
#include "model/migration.h"
#include "near.h"
#include "testing.h"

#include "base/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* ---- the oracle: customers of each class go round stations 0 .. nr-1 in turn ---- */

#define NR      4
#define CLASSES 2
#define STATES  20736

struct oracle {
    unsigned nr, classes, customers[CLASSES];
    struct station stations[NR];
    double demands[NR][CLASSES];
    double throughput[CLASSES], lengths[NR][CLASSES];
};

static double oracle_rate(const struct station *station, unsigned n)
{
    if (station->kind == STATION_DELAY)
        return n;
    if (station->kind == STATION_SERVERS)
        return (double)MIN((uint64_t)n, station->servers);
    if (station->kind == STATION_LOAD_DEPENDENT)
        return station->rates[MIN((size_t)n, station->nr_rates) - 1];
    return 1;
}

static unsigned decode(const struct oracle *o, unsigned code, unsigned n[NR][CLASSES])
{
    unsigned bad = 0;

    for (unsigned r = 0; r < o->classes; r++) {
        unsigned sum = 0;

        for (unsigned k = 0; k < o->nr; k++) {
            n[k][r] = code % (o->customers[r] + 1);
            code /= o->customers[r] + 1;
            sum += n[k][r];
        }
        bad |= sum != o->customers[r];
    }
    return !bad;
}

static unsigned encode(const struct oracle *o, unsigned n[NR][CLASSES])
{
    unsigned code = 0;

    for (unsigned r = o->classes; r-- > 0;)
        for (unsigned k = o->nr; k-- > 0;)
            code = code * (o->customers[r] + 1) + n[k][r];
    return code;
}

/* Rate at which a customer of class r leaves station k: shared by all that are there. */
static double leaving(const struct oracle *o, unsigned n[NR][CLASSES], unsigned k, unsigned r)
{
    unsigned all = 0;

    for (unsigned j = 0; j < o->classes; j++)
        all += n[k][j];
    if (n[k][r] == 0)
        return 0;
    return oracle_rate(&o->stations[k], all) * n[k][r] / all / o->demands[k][r];
}

static void oracle_solve(struct oracle *o)
{
    static double p[STATES], next[STATES];
    unsigned states = 1, n[NR][CLASSES];
    double fastest = 0, sum, change = 1;

    for (unsigned r = 0; r < o->classes; r++)
        for (unsigned k = 0; k < o->nr; k++) {
            states *= o->customers[r] + 1;
            fastest += o->customers[r] / o->demands[k][r];
        }
    ck_assert_uint_le(states, STATES);
    for (unsigned s = 0; s < states; s++)
        p[s] = decode(o, s, n);
    for (unsigned round = 0; round < 200000 && change > 1e-13; round++) {
        memcpy(next, p, sizeof(p));
        for (unsigned s = 0; s < states; s++) {
            if (p[s] <= 0)
                continue;
            decode(o, s, n);
            for (unsigned k = 0; k < o->nr; k++)
                for (unsigned r = 0; r < o->classes; r++) {
                    double flow = p[s] * leaving(o, n, k, r) / fastest;

                    if (flow <= 0)
                        continue;
                    n[k][r]--;
                    n[(k + 1) % o->nr][r]++;
                    next[encode(o, n)] += flow;
                    next[s] -= flow;
                    n[k][r]++;
                    n[(k + 1) % o->nr][r]--;
                }
        }
        change = sum = 0;
        for (unsigned s = 0; s < states; s++)
            sum += next[s];
        for (unsigned s = 0; s < states; s++) {
            change = fmax(change, fabs(next[s] / sum - p[s]));
            p[s] = next[s] / sum;
        }
    }
    memset(o->throughput, 0, sizeof(o->throughput));
    memset(o->lengths, 0, sizeof(o->lengths));
    for (unsigned s = 0; s < states; s++)
        if (decode(o, s, n))
            for (unsigned r = 0; r < o->classes; r++) {
                o->throughput[r] += p[s] * leaving(o, n, 0, r);
                for (unsigned k = 0; k < o->nr; k++)
                    o->lengths[k][r] += p[s] * n[k][r];
            }
}

/* ---- tests ---- */

static const struct station jain[] = {{.demand = 2}, {.demand = 3}, {.demand = 1}};

START_TEST(known_answers)
{
    static const struct {
        uint64_t customers;
        double response, throughput, response_digit, throughput_digit;
    } cases[] = {
        {1, 6, .1, 1e-9, 1e-9},        {2, 7.4, .17544, 1e-9, 5e-6},   {3, 9.088, .229, 5e-4, 5e-4},
        {5, 13.256, .290, 5e-4, 5e-4}, {20, 56.016, .333, 5e-4, 5e-4},
    };
    struct network_result result;
    struct station_result each[3];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ck_assert_int_eq(network_closed(jain, 3, 4, cases[i].customers, &result, each, NULL), 0);
        ck_assert_double_le(fabs(result.response - cases[i].response), cases[i].response_digit);
        ck_assert_double_le(fabs(result.throughput - cases[i].throughput),
                            cases[i].throughput_digit);
    }
    ck_assert_int_eq(network_schweitzer(jain, 3, 4, 5, &result, each, NULL), 0);
    ck_assert_double_le(fabs(result.response - 13.948), 5e-4);
    ck_assert_double_le(fabs(result.throughput - .27859), 5e-6);
}
END_TEST

START_TEST(whole_chain_one_class)
{
    static const double rates[] = {1, 1.5, 1.8};
    const struct station rows[][3] = {
        {{.demand = 2}, {.demand = 3}, {.demand = 1}},
        {{STATION_SERVERS, 2, 2, NULL, 0}, {.demand = 1.5}, {STATION_DELAY, .7, 0, NULL, 0}},
        {{STATION_SERVERS, 4, 3, NULL, 0},
         {STATION_LOAD_DEPENDENT, 2, 0, rates, 3},
         {.demand = .3}},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (unsigned customers = 1; customers <= 7; customers += 2) {
            struct oracle o = {.nr = 4, .classes = 1, .customers = {customers}};
            struct network_result result;
            struct station_result each[3];

            for (unsigned k = 0; k < 3; k++) {
                o.stations[k] = rows[i][k];
                o.demands[k][0] = rows[i][k].demand;
            }
            o.stations[3].kind = STATION_DELAY;
            o.demands[3][0] = 4;
            oracle_solve(&o);
            ck_assert_int_eq(network_closed(rows[i], 3, 4, customers, &result, each, NULL), 0);
            NEAR(result.throughput, o.throughput[0], 1e-8);
            for (unsigned k = 0; k < 3; k++)
                NEAR(each[k].customers, o.lengths[k][0], 1e-7);
        }
}
END_TEST

START_TEST(whole_chain_classes)
{
    const enum station_kind kinds[] = {STATION_QUEUE, STATION_QUEUE, STATION_DELAY};
    const double demands[] = {1, 3, 2, .5, .4, .9}, think[] = {2, 5};
    const uint64_t customers[] = {3, 2};
    struct oracle o = {.nr = 4, .classes = 2, .customers = {3, 2}};
    double throughput[2], response[2], lengths[6];

    for (unsigned k = 0; k < 3; k++)
        for (unsigned r = 0; r < 2; r++) {
            o.stations[k].kind = kinds[k];
            o.demands[k][r] = demands[k * 2 + r];
        }
    o.stations[3].kind = STATION_DELAY;
    o.demands[3][0] = 2;
    o.demands[3][1] = 5;
    oracle_solve(&o);
    ck_assert_int_eq(network_classes(kinds, 3, 2, demands, think, customers, throughput, response,
                                     NULL, lengths, NULL),
                     0);
    for (unsigned r = 0; r < 2; r++)
        NEAR(throughput[r], o.throughput[r], 1e-7);
    for (unsigned k = 0; k < 3; k++)
        for (unsigned r = 0; r < 2; r++)
            NEAR(lengths[k * 2 + r], o.lengths[k][r], 1e-6);
    ck_assert_int_eq(network_classes_schweitzer(kinds, 3, 2, demands, think, customers, throughput,
                                                response, NULL, lengths, NULL),
                     0);
    for (unsigned r = 0; r < 2; r++)
        NEAR(throughput[r], o.throughput[r], .06);
}
END_TEST

/* The recursion and the convolution agree where both apply, also where doubles would overflow. */
START_TEST(large)
{
    const struct station by_rate[] = {
        {.demand = 2}, {STATION_SERVERS, 3, 1, NULL, 0}, {.demand = 1}};
    const struct station wide[] = {{STATION_SERVERS, 50, 1000, NULL, 0}, {.demand = .01}};
    struct network_result a, b;
    struct station_result each[3];

    ck_assert_int_eq(network_closed(jain, 3, 4, 10000, &a, each, NULL), 0);
    NEAR(a.throughput, 1.0 / 3, 1e-12);
    NEAR(a.response, 10000 * 3 - 4, 1e-9);
    ck_assert_int_eq(network_closed(by_rate, 3, 4, 3000, &b, each, NULL), 0);
    ck_assert_int_eq(network_closed(jain, 3, 4, 3000, &a, each, NULL), 0);
    NEAR(b.throughput, a.throughput, 1e-10);
    NEAR(b.response, a.response, 1e-9);
    ck_assert_int_eq(network_closed(wide, 2, 1000, 10000, &a, each, NULL), 0);
    ck_assert(a.throughput > 9.5 && a.throughput < 10000 / 1050.01 + 1e-9);
    NEAR(a.throughput * (a.response + 1000), 10000, 1e-9);
}
END_TEST

START_TEST(open_networks)
{
    const uint64_t servers[] = {1, 3, 0};
    const double demands[] = {.8, 2, .5}, lambda[] = {1}, external[] = {1, 0},
                 routing[] = {0, .5, .25, 0};
    double response[1], utilisation[3], residence[3], arrivals[2];

    ck_assert_int_eq(
        network_open(servers, 3, 1, demands, lambda, response, utilisation, residence, NULL), 0);
    NEAR(residence[0], 4, 1e-12);              /* M/M/1 at .8, service .8 */
    NEAR(residence[1], 2 * (13.0 / 9), 1e-12); /* M/M/3, load 2 */
    NEAR(response[0], 4 + 26.0 / 9 + .5, 1e-12);
    ck_assert_int_eq(network_traffic(2, external, routing, arrivals, NULL), 0);
    NEAR(arrivals[0], 1 / .875, 1e-12);
    NEAR(arrivals[1], .5 / .875, 1e-12);
}
END_TEST

START_TEST(bounds_hold)
{
    const double demands[] = {2, 3, 1};

    for (unsigned n = 1; n < 40; n++) {
        struct network_bounds b;
        struct network_result result;
        struct station_result each[3];

        ck_assert_int_eq(network_bounds(demands, 3, 4, n, &b, NULL), 0);
        ck_assert_int_eq(network_closed(jain, 3, 4, n, &result, each, NULL), 0);
        ck_assert_double_le(result.throughput, b.balanced_most + 1e-12);
        ck_assert_double_ge(result.throughput, b.balanced_least - 1e-12);
        ck_assert_double_le(b.balanced_most, b.throughput_most + 1e-12);
        ck_assert_double_ge(b.balanced_least, b.throughput_least - 1e-12);
        ck_assert_uint_eq(b.bottleneck, 1);
    }
}
END_TEST

START_TEST(fork_and_join)
{
    double response, least, most;

    ck_assert_int_eq(network_fork_join(.5, 1, 2, &response, &least, &most, NULL), 0);
    NEAR(response, 11.5 / 8 * 2, 1e-12);
    for (unsigned tasks = 1; tasks < 64; tasks++) {
        ck_assert_int_eq(network_fork_join(.5, 1, tasks, &response, &least, &most, NULL), 0);
        ck_assert_double_le(least, response + 1e-12);
        ck_assert_double_le(response, most + 1e-12);
    }
}
END_TEST

START_TEST(migration)
{
    struct migration m = {4096, 1024, 256, .03, 0, 0};
    struct migration_result result;

    ck_assert_int_eq(migration_precopy(&m, &result, NULL), 0);
    ck_assert(result.converged);
    ck_assert_uint_eq(result.rounds, 4);
    NEAR(result.downtime, .015625, 1e-12);
    NEAR(result.total, 5.328125, 1e-12);
    NEAR(result.sent, 5456, 1e-12);
    m.dirty_rate = 2000;
    ck_assert_int_eq(migration_precopy(&m, &result, NULL), 0);
    ck_assert(!result.converged && strstr(result.reason, "faster"));
    m.working_set = 20; /* small enough to be sent in one stop */
    ck_assert_int_eq(migration_precopy(&m, &result, NULL), 0);
    ck_assert(result.converged && result.rounds == 1);
    m.working_set = 200;
    ck_assert_int_eq(migration_precopy(&m, &result, NULL), 0);
    ck_assert(!result.converged);
}
END_TEST

START_TEST(named_errors)
{
    struct station bad[] = {{.demand = -1}};
    const enum station_kind kinds[] = {STATION_QUEUE};
    const double demands[] = {1, 1}, think[] = {0, 0};
    const uint64_t many[] = {100000, 100000};
    const double external[] = {1}, loop[] = {1};
    double out[4];
    struct network_result result;
    struct station_result each[1];
    struct err err = ERR_INIT;

    ck_assert_int_eq(network_closed(bad, 1, 0, 1, &result, each, &err), -EDOM);
    ck_assert_ptr_nonnull(strstr(err.message, "station 1: negative: demand"));
    bad[0].demand = (double)NAN;
    ck_assert_int_eq(network_closed(bad, 1, 0, 1, &result, each, &err), -EDOM);
    bad[0].demand = 0;
    ck_assert_int_eq(network_closed(bad, 1, 0, 1, &result, each, &err), -EDOM);
    ck_assert_int_eq(
        network_classes(kinds, 1, 2, demands, think, many, out, out + 2, NULL, NULL, &err), -E2BIG);
    ck_assert_ptr_nonnull(strstr(err.message, "schweitzer"));
    ck_assert_int_eq(network_traffic(1, external, loop, out, &err), -ERANGE);
    ck_assert_ptr_nonnull(strstr(err.message, "unstable"));
}
END_TEST

TEST_MAIN("networks", tcase_add_test(tcase, known_answers);
          tcase_add_test(tcase, whole_chain_one_class); tcase_add_test(tcase, whole_chain_classes);
          tcase_add_test(tcase, large); tcase_add_test(tcase, open_networks);
          tcase_add_test(tcase, bounds_hold); tcase_add_test(tcase, fork_and_join);
          tcase_add_test(tcase, migration); tcase_add_test(tcase, named_errors);)
