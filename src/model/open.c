/* SPDX-License-Identifier: Apache-2.0 */
/* Open networks, operational bounds, and jobs that fork and join. */
#include "model/networks.h"

#include "base/cleanup.h"
#include "model/check.h"
#include "model/queueing.h"

#include <stdlib.h>
#include <string.h>

int network_open(const uint64_t *servers, size_t nr, unsigned classes, const double *demands,
                 const double *lambda, double *ret_response, double *ret_utilisation,
                 double *ret_residence, struct err *err)
{
    int r = check_count("classes", classes, 1, NETWORK_CLASSES_MAX, err);

    if (r == 0)
        r = check_count("stations", nr, 1, NETWORK_STATIONS_MAX, err);
    for (unsigned k = 0; r == 0 && k < classes; k++) {
        ret_response[k] = 0;
        r = check_not_negative("lambda", lambda[k], err);
    }
    for (size_t i = 0; r == 0 && i < nr; i++) {
        double load = 0, factor = 1;

        for (unsigned k = 0; r == 0 && k < classes; k++) {
            r = check_not_negative("demand", demands[i * classes + k], err);
            load += lambda[k] * demands[i * classes + k];
        }
        ret_utilisation[i] = servers[i] ? load / (double)servers[i] : load;
        if (r == 0 && servers[i]) {
            double delayed;

            r = queueing_erlang_c(servers[i], load, &delayed, err);
            factor = 1 + (r == 0 ? delayed / (double)servers[i] / (1 - ret_utilisation[i]) : 0);
        }
        for (unsigned k = 0; r == 0 && k < classes; k++) {
            ret_residence[i * classes + k] = demands[i * classes + k] * factor;
            ret_response[k] += ret_residence[i * classes + k];
        }
        if (r < 0)
            return err_wrap(err, "station %zu", i + 1);
    }
    return r;
}

static int check_routing(size_t nr, const double *external, const double *routing, struct err *err)
{
    int r = check_count("stations", nr, 1, 1000, err);

    for (size_t i = 0; r == 0 && i < nr; i++) {
        double sum = 0;

        r = check_not_negative("lambda", external[i], err);
        for (size_t j = 0; r == 0 && j < nr; j++) {
            r = check_not_negative("routing", routing[i * nr + j], err);
            sum += routing[i * nr + j];
        }
        if (r == 0 && sum > 1 + 1e-12)
            r = err_set(err, -ERANGE, "range: station %zu routes %g of its customers, more than 1",
                        i + 1, sum);
    }
    return r;
}

/* Gauss's elimination with partial pivoting on the transposed (I - routing). */
int network_traffic(size_t nr, const double *external, const double *routing, double *ret_arrivals,
                    struct err *err)
{
    CLEANUP(freep) double *a = NULL;
    CLEANUP(freep) double *b = NULL;
    int r = check_routing(nr, external, routing, err);

    if (r < 0)
        return r;
    a = calloc(nr * nr, sizeof(*a));
    b = calloc(nr, sizeof(*b));
    if (!a || !b)
        return err_set(err, -ENOMEM, "traffic equations");
    for (size_t i = 0; i < nr; i++) {
        b[i] = external[i];
        for (size_t j = 0; j < nr; j++)
            a[i * nr + j] = (i == j) - routing[j * nr + i];
    }
    for (size_t k = 0; k < nr; k++) {
        size_t pivot = k;

        for (size_t i = k + 1; i < nr; i++)
            if (fabs(a[i * nr + k]) > fabs(a[pivot * nr + k]))
                pivot = i;
        if (fabs(a[pivot * nr + k]) < 1e-12)
            return err_set(err, -ERANGE, "unstable: customers never leave the network");
        for (size_t j = 0; pivot != k && j < nr; j++) {
            double swap = a[k * nr + j];

            a[k * nr + j] = a[pivot * nr + j];
            a[pivot * nr + j] = swap;
        }
        double swap = b[k];

        b[k] = b[pivot];
        b[pivot] = swap;
        for (size_t i = k + 1; i < nr; i++) {
            double factor = a[i * nr + k] / a[k * nr + k];

            for (size_t j = k; j < nr; j++)
                a[i * nr + j] -= factor * a[k * nr + j];
            b[i] -= factor * b[k];
        }
    }
    for (size_t k = nr; k-- > 0;) {
        for (size_t j = k + 1; j < nr; j++)
            b[k] -= a[k * nr + j] * b[j];
        b[k] /= a[k * nr + k];
    }
    memcpy(ret_arrivals, b, nr * sizeof(*b));
    return 0;
}

int network_bounds(const double *demands, size_t nr, double think, double customers,
                   struct network_bounds *ret, struct err *err)
{
    struct network_bounds bounds = {0};
    double sum = 0, most = 0, mean, n = customers;
    int r = check_count("stations", nr, 1, NETWORK_STATIONS_MAX, err);

    if (r == 0)
        r = check_not_negative("think", think, err);
    if (r == 0)
        r = check_positive("customers", customers, err);
    for (size_t i = 0; r == 0 && i < nr; i++) {
        r = check_not_negative("demand", demands[i], err);
        sum += demands[i];
        if (demands[i] > most) {
            most = demands[i];
            bounds.bottleneck = i;
        }
    }
    if (r == 0 && most <= 0)
        r = err_set(err, -EDOM, "range: all demands are 0");
    if (r < 0)
        return r;
    mean = sum / (double)nr;
    bounds.knee = (sum + think) / most;
    bounds.throughput_most = fmin(1 / most, n / (sum + think));
    bounds.throughput_least = n / (n * sum + think);
    bounds.response_least = fmax(sum, n * most - think);
    bounds.response_most = n * sum;
    bounds.balanced_most = fmin(1 / most, n / (sum + think + (n - 1) * mean / (1 + think / sum)));
    bounds.balanced_least = n / (sum + think + (n - 1) * most / (1 + think / (n * sum)));
    *ret = bounds;
    return 0;
}

int network_fork_join(double lambda, double mu, uint64_t tasks, double *ret_response,
                      double *ret_least, double *ret_most, struct err *err)
{
    struct queueing_result one;
    double harmonic = 0, two, rho = lambda / mu, share;
    int r = check_count("tasks", tasks, 1, 1000000, err);

    if (r < 0 || (r = queueing_mm1(lambda, mu, &one, err)) < 0)
        return r;
    for (uint64_t i = 1; i <= tasks; i++)
        harmonic += 1 / (double)i;
    two = (12 - rho) / 8 * one.response;
    share = harmonic / 1.5;
    if (tasks == 1)
        *ret_response = *ret_least = one.response;
    else
        *ret_response = (share + 4.0 / 11 * (1 - share) * rho) * two;
    if (tasks > 1)
        *ret_least = tasks == 2 ? two : fmax(two, harmonic / mu);
    *ret_most = tasks == 2 ? two : harmonic * one.response;
    return 0;
}
