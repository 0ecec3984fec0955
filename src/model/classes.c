/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closed networks of several classes. Exact mean value analysis walks all populations (n_1 .. n_R)
 * up to the wanted one in mixed-radix order, so that each population with one customer less lies at
 * a fixed distance behind; what is kept of each is the stations' total queue lengths.
 */
#include "model/networks.h"

#include "base/cleanup.h"
#include "model/check.h"

#include <stdlib.h>
#include <string.h>

struct classes {
    const enum station_kind *kinds;
    size_t nr;
    unsigned classes;
    const double *demands, *think;
    const uint64_t *customers;
    double *throughput, *response, *residence, *lengths; /* lengths may be NULL */
};

static int check_classes(const struct classes *c, struct err *err)
{
    int r = check_count("classes", c->classes, 1, NETWORK_CLASSES_MAX, err);

    if (r == 0)
        r = check_count("stations", c->nr, 1, NETWORK_STATIONS_MAX, err);
    for (size_t i = 0; r == 0 && i < c->nr; i++)
        if (c->kinds[i] != STATION_QUEUE && c->kinds[i] != STATION_DELAY)
            r = err_set(err, -EINVAL,
                        "range: station %zu: with several classes, queues and delays only", i + 1);
    for (size_t i = 0; r == 0 && i < c->nr * c->classes; i++)
        r = check_not_negative("demand", c->demands[i], err);
    for (unsigned k = 0; r == 0 && k < c->classes; k++) {
        double sum = c->think[k];

        r = check_not_negative("think", c->think[k], err);
        if (r == 0)
            r = check_count("customers", c->customers[k], 0, NETWORK_CUSTOMERS_MAX, err);
        for (size_t i = 0; i < c->nr; i++)
            sum += c->demands[i * c->classes + k];
        if (r == 0 && sum <= 0)
            r = err_set(err, -EDOM, "range: class %u: all demands and the think time are 0", k + 1);
    }
    return r;
}

/* One step for class k: met[i] is the mean number that an arriving customer finds at station i. */
static void class_step(struct classes *c, unsigned k, double customers, const double *met)
{
    c->response[k] = 0;
    for (size_t i = 0; i < c->nr; i++) {
        double demand = c->demands[i * c->classes + k];
        double r = demand * (c->kinds[i] == STATION_QUEUE ? 1 + met[i] : 1);

        c->residence[i * c->classes + k] = r;
        c->response[k] += r;
    }
    c->throughput[k] = customers / (c->think[k] + c->response[k]);
}

static void finish(struct classes *c)
{
    for (size_t i = 0; c->lengths && i < c->nr; i++)
        for (unsigned k = 0; k < c->classes; k++)
            c->lengths[i * c->classes + k] = c->throughput[k] * c->residence[i * c->classes + k];
}

static int exact(struct classes *c, struct err *err)
{
    CLEANUP(freep) double *lengths = NULL;
    uint64_t step[NETWORK_CLASSES_MAX], total = 1, n[NETWORK_CLASSES_MAX] = {0};

    for (unsigned k = 0; k < c->classes; k++) {
        step[k] = total;
        if (c->customers[k] + 1 > NETWORK_CELLS_MAX / c->nr / total)
            return err_set(err, -E2BIG,
                           "range: more than %u cells for exact analysis; approximate instead "
                           "(--method schweitzer)",
                           NETWORK_CELLS_MAX);
        total *= c->customers[k] + 1;
    }
    if (!(lengths = calloc(total * c->nr, sizeof(*lengths))))
        return err_set(err, -ENOMEM, "network of classes");
    for (uint64_t at = 1; at < total; at++) {
        double *here = &lengths[at * c->nr];

        for (unsigned k = 0; k < c->classes && ++n[k] > c->customers[k]; k++)
            n[k] = 0;
        for (unsigned k = 0; k < c->classes; k++) {
            c->throughput[k] = 0;
            if (n[k] == 0)
                continue;
            class_step(c, k, (double)n[k], &lengths[(at - step[k]) * c->nr]);
            for (size_t i = 0; i < c->nr; i++)
                here[i] += c->throughput[k] * c->residence[i * c->classes + k];
        }
    }
    return 0;
}

static int schweitzer(struct classes *c, struct err *err)
{
    size_t cells = c->nr * c->classes;
    CLEANUP(freep) double *lengths = calloc(cells, sizeof(*lengths));
    CLEANUP(freep) double *met = calloc(c->nr, sizeof(*met));
    double change = (double)INFINITY, all = 0;

    if (!lengths || !met)
        return err_set(err, -ENOMEM, "network of classes");
    for (unsigned k = 0; k < c->classes; k++) {
        all += (double)c->customers[k];
        for (size_t i = 0; i < c->nr; i++)
            lengths[i * c->classes + k] = (double)c->customers[k] / (double)c->nr;
    }
    for (int round = 0; round < 1000000 && change > 1e-12 * all; round++) {
        change = 0;
        for (unsigned k = 0; k < c->classes; k++) {
            if (c->customers[k] == 0)
                continue;
            for (size_t i = 0; i < c->nr; i++) {
                met[i] = -lengths[i * c->classes + k] / (double)c->customers[k];
                for (unsigned j = 0; j < c->classes; j++)
                    met[i] += lengths[i * c->classes + j];
            }
            class_step(c, k, (double)c->customers[k], met);
        }
        for (size_t i = 0; i < cells; i++) {
            unsigned k = (unsigned)(i % c->classes);
            double next = c->throughput[k] * c->residence[i];

            change = fmax(change, fabs(next - lengths[i]));
            lengths[i] = next;
        }
    }
    return 0;
}

static int solve(struct classes *c, int (*method)(struct classes *, struct err *), struct err *err)
{
    CLEANUP(freep) double *residence = NULL;
    int r = check_classes(c, err);

    if (r < 0)
        return r;
    if (!c->residence && !(c->residence = residence = calloc(c->nr * c->classes, sizeof(double))))
        return err_set(err, -ENOMEM, "network of classes");
    memset(c->throughput, 0, c->classes * sizeof(double));
    memset(c->response, 0, c->classes * sizeof(double));
    memset(c->residence, 0, c->nr * c->classes * sizeof(double));
    if ((r = method(c, err)) == 0)
        finish(c);
    return r;
}

int network_classes(const enum station_kind *kinds, size_t nr, unsigned classes,
                    const double *demands, const double *think, const uint64_t *customers,
                    double *ret_throughput, double *ret_response, double *ret_residence,
                    double *ret_customers, struct err *err)
{
    struct classes c = {kinds,          nr,           classes,       demands,      think, customers,
                        ret_throughput, ret_response, ret_residence, ret_customers};

    return solve(&c, exact, err);
}

int network_classes_schweitzer(const enum station_kind *kinds, size_t nr, unsigned classes,
                               const double *demands, const double *think,
                               const uint64_t *customers, double *ret_throughput,
                               double *ret_response, double *ret_residence, double *ret_customers,
                               struct err *err)
{
    struct classes c = {kinds,          nr,           classes,       demands,      think, customers,
                        ret_throughput, ret_response, ret_residence, ret_customers};

    return solve(&c, schweitzer, err);
}
