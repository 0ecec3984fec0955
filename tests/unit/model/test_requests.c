/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated requests against formulas and exact networks; Little's law by time and by customer. */
#include "model/networks.h"
#include "model/queueing.h"
#include "model/requests.h"

#include "near.h"
#include "testing.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

static struct requests_class_result classes[2];
static struct requests_result result = {.classes = classes};

static void simulate(const struct requests_station *stations, size_t nr_stations,
                     const struct requests_class *some, size_t nr, uint64_t answers)
{
    struct requests requests = {stations, nr_stations, some, nr, 3, answers, .1};
    struct err err = ERR_INIT;

    ck_assert_msg(requests_simulate(&requests, &result, &err) == 0, "%s", err.message);
    for (size_t k = 0; k < nr; k++) /* Little, up to those inside at the ends */
        NEAR(classes[k].mean_inside, classes[k].throughput * classes[k].response.mean, .01);
}

static struct distribution of(double mean, double scv)
{
    struct distribution d;

    ck_assert_int_eq(distribution_fit(&d, mean, scv, NULL), 0);
    return d;
}

START_TEST(single_stations)
{
    static const struct {
        double lambda, scv;
        uint32_t servers;
        enum requests_order order;
    } cases[] = {{.8, 1, 1, REQUESTS_FCFS},   {2, 1, 3, REQUESTS_FCFS},
                 {.7, 4, 1, REQUESTS_FCFS},   {.7, 0, 1, REQUESTS_FCFS},
                 {.7, 4, 1, REQUESTS_SHARED}, {.7, .25, 1, REQUESTS_SHARED},
                 {2, 1, 3, REQUESTS_SHARED}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct requests_station station = {cases[i].order, cases[i].servers};
        struct distribution demand = of(1, cases[i].scv);
        struct requests_class class = {
            .open = true, .between = of(1 / cases[i].lambda, 1), .demand = &demand};
        struct queueing_result theory;

        if (cases[i].servers > 1)
            ck_assert_int_eq(queueing_mmc(cases[i].lambda, 1, cases[i].servers, &theory, NULL), 0);
        else if (cases[i].order == REQUESTS_SHARED)
            ck_assert_int_eq(queueing_mg1_ps(cases[i].lambda, 1, &theory, NULL), 0);
        else
            ck_assert_int_eq(queueing_mg1(cases[i].lambda, 1, cases[i].scv, &theory, NULL), 0);
        simulate(&station, 1, &class, 1, 400000);
        NEAR(classes[0].response.mean, theory.response, .04);
        NEAR(result.utilisation[0], theory.utilisation, .02);
    }
}
END_TEST

START_TEST(percentiles)
{
    struct requests_station station = {REQUESTS_FCFS, 3};
    struct distribution demand = of(1, 1);
    struct requests_class class = {.open = true, .between = of(.5, 1), .demand = &demand};
    double p;

    simulate(&station, 1, &class, 1, 400000);
    ck_assert_int_eq(queueing_mmc_quantile(2, 1, 3, .95, &p, NULL), 0);
    NEAR(histogram_quantile(&classes[0].response_ns, .95) * 1e-9, p, .03);
}
END_TEST

START_TEST(closed_networks)
{
    const struct station exact[] = {{.demand = 2}, {STATION_SERVERS, 3, 2, NULL, 0}, {.demand = 1}};
    const struct requests_station stations[] = {
        {REQUESTS_FCFS, 1}, {REQUESTS_FCFS, 2}, {REQUESTS_SHARED, 1}};
    struct distribution demands[] = {of(2, 1), of(3, 1), of(1, 1)};
    struct requests_class class = {.customers = 5, .think = of(4, 1), .demand = demands};
    struct network_result theory;
    struct station_result each[3];

    ck_assert_int_eq(network_closed(exact, 3, 4, 5, &theory, each, NULL), 0);
    simulate(stations, 3, &class, 1, 300000);
    NEAR(classes[0].throughput, theory.throughput, .01);
    NEAR(classes[0].response.mean, theory.response, .02);
    for (unsigned i = 0; i < 3; i++) {
        NEAR(result.inside[i], each[i].customers, .04);
        NEAR(result.utilisation[i], each[i].utilisation, .02);
    }
}
END_TEST

START_TEST(two_classes)
{
    const enum station_kind kinds[] = {STATION_QUEUE, STATION_QUEUE};
    const double flat[] = {1, 2, .5, 1}, think[] = {3, 5};
    const uint64_t customers[] = {3, 2};
    const struct requests_station stations[] = {{REQUESTS_SHARED, 1}, {REQUESTS_SHARED, 1}};
    struct distribution a[] = {of(1, 1), of(.5, 1)}, b[] = {of(2, 1), of(1, 1)};
    struct requests_class both[] = {{.customers = 3, .think = of(3, 1), .demand = a},
                                    {.customers = 2, .think = of(5, 1), .demand = b}};
    double throughput[2], response[2];

    ck_assert_int_eq(network_classes(kinds, 2, 2, flat, think, customers, throughput, response,
                                     NULL, NULL, NULL),
                     0);
    simulate(stations, 2, both, 2, 300000);
    for (unsigned k = 0; k < 2; k++)
        NEAR(classes[k].throughput, throughput[k], .02);
}
END_TEST

START_TEST(same_seed_same_run)
{
    struct requests_station station = {REQUESTS_FCFS, 1};
    struct distribution demand = of(1, 2);
    struct requests_class class = {.open = true, .between = of(2, 1), .demand = &demand};
    double first;

    simulate(&station, 1, &class, 1, 30000);
    first = classes[0].response.mean;
    simulate(&station, 1, &class, 1, 30000);
    ck_assert(first == classes[0].response.mean);
}
END_TEST

START_TEST(unstable)
{
    struct requests_station station = {REQUESTS_FCFS, 1};
    struct distribution demand = of(1, 1);
    struct requests_class class = {.open = true, .between = of(.01, 1), .demand = &demand};
    struct requests requests = {&station, 1, &class, 1, 3, 1000000, .1};
    struct err err = ERR_INIT;

    ck_assert_int_eq(requests_simulate(&requests, &result, &err), -ERANGE);
    ck_assert_ptr_nonnull(strstr(err.message, "unstable"));
}
END_TEST

TEST_MAIN("requests", tcase_add_test(tcase, single_stations); tcase_add_test(tcase, percentiles);
          tcase_add_test(tcase, closed_networks); tcase_add_test(tcase, two_classes);
          tcase_add_test(tcase, same_seed_same_run); tcase_add_test(tcase, unstable);)
