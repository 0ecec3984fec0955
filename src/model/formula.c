/* SPDX-License-Identifier: Apache-2.0 */
/* The table of formulas of single stations and of arithmetic; those of networks from
 * formula_network.c. */
#include "model/formula_internal.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "model/check.h"
#include "model/migration.h"
#include "model/queueing.h"

#include <limits.h>
#include <string.h>

/* ---- values ---- */

int formula_number(const char *name, const char *text, double *ret, struct err *err)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end)
        return err_set(err, -EINVAL, "not-a-number: %s is '%.40s'", name, text);
    *ret = value;
    return 0;
}

int formula_count(const char *name, const char *text, uint64_t *ret, struct err *err)
{
    double value;
    int r = formula_number(name, text, &value, err);

    if (r < 0 || (r = check_not_negative(name, value, err)) < 0)
        return r;
    if (value > 1e15 || floor(value) != value)
        return err_set(err, -ERANGE, "range: %s is '%.40s', a whole number is needed", name, text);
    *ret = (uint64_t)value;
    return 0;
}

int formula_list(const char *name, const char *text, double *ret, size_t max, size_t *ret_nr,
                 struct err *err)
{
    size_t nr = 0;

    for (const char *p = text;; p++) {
        size_t length = strcspn(p, ",");
        char word[64];
        int r;

        if (nr == max)
            return err_set(err, -E2BIG, "range: %s has more than %zu numbers", name, max);
        snprintf(word, sizeof(word), "%.*s", (int)MIN(length, sizeof(word) - 1), p);
        if ((r = formula_number(name, word, &ret[nr++], err)) < 0)
            return r;
        p += length;
        if (!*p)
            break;
    }
    *ret_nr = nr;
    return 0;
}

void formula_put(json_t *object, const char *name, double value)
{
    /* What a model does not say, or what is infinite, has no number in JSON. */
    json_object_set_new(object, name, isfinite(value) ? json_real(value) : json_null());
}

/* ---- single stations ---- */

static void put_queue(json_t *result, const struct queueing_result *q)
{
    formula_put(result, "utilisation", q->utilisation);
    formula_put(result, "throughput", q->throughput);
    formula_put(result, "empty", q->empty);
    formula_put(result, "delayed", q->delayed);
    if (q->refused > 0)
        formula_put(result, "refused", q->refused);
    formula_put(result, "customers", q->customers);
    formula_put(result, "queued", q->queued);
    formula_put(result, "response", q->response);
    formula_put(result, "wait", q->wait);
}

/* Up to four parameters that are numbers, in the table's order. */
static int numbers(const struct formula_parameter *parameters, const char *const *values, double *n,
                   struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < FORMULA_PARAMETERS_MAX && parameters[i].name; i++) {
        uint64_t count;

        if (parameters[i].kind == FORMULA_NUMBER)
            r = formula_number(parameters[i].name, values[i], &n[i], err);
        if (parameters[i].kind == FORMULA_COUNT &&
            (r = formula_count(parameters[i].name, values[i], &count, err)) == 0)
            n[i] = (double)count;
    }
    return r;
}

static int put_quantiles(double lambda, double mu, uint64_t servers, json_t *result,
                         struct err *err)
{
    static const struct {
        const char *name;
        double p;
    } points[] = {{"response_p50", .5}, {"response_p95", .95}, {"response_p99", .99}};
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(points); i++) {
        double value = 0;

        r = queueing_mmc_quantile(lambda, mu, servers, points[i].p, &value, err);
        formula_put(result, points[i].name, value);
    }
    return r;
}

static int mm1(const struct formula_parameter *p, const char *const *values, json_t *result,
               struct err *err)
{
    struct queueing_result q;
    double n[2] = {0};
    int r = numbers(p, values, n, err);

    if (r < 0 || (r = queueing_mm1(n[0], n[1], &q, err)) < 0)
        return r;
    put_queue(result, &q);
    return put_quantiles(n[0], n[1], 1, result, err);
}

static int mmc(const struct formula_parameter *p, const char *const *values, json_t *result,
               struct err *err)
{
    struct queueing_result q;
    double n[3] = {0};
    int r = numbers(p, values, n, err);

    if (r < 0 || (r = queueing_mmc(n[0], n[1], (uint64_t)n[2], &q, err)) < 0)
        return r;
    put_queue(result, &q);
    return put_quantiles(n[0], n[1], (uint64_t)n[2], result, err);
}

static int mmck(const struct formula_parameter *p, const char *const *values, json_t *result,
                struct err *err)
{
    struct queueing_result q;
    double n[4] = {0};
    int r = numbers(p, values, n, err);

    if (r == 0)
        r = queueing_mmck(n[0], n[1], (uint64_t)n[2], (uint64_t)n[3], &q, err);
    if (r == 0)
        put_queue(result, &q);
    return r;
}

static int mg1(const struct formula_parameter *p, const char *const *values, json_t *result,
               struct err *err)
{
    struct queueing_result q;
    double n[3] = {0};
    int r = numbers(p, values, n, err);

    if (r == 0 && (r = queueing_mg1(n[0], n[1], n[2], &q, err)) == 0)
        put_queue(result, &q);
    return r;
}

static int mg1_ps(const struct formula_parameter *p, const char *const *values, json_t *result,
                  struct err *err)
{
    struct queueing_result q;
    double n[3] = {0};
    int r = numbers(p, values, n, err);

    if (r == 0 && (r = queueing_mg1_ps(n[0], n[1], &q, err)) == 0)
        put_queue(result, &q);
    return r;
}

static int ggc(const struct formula_parameter *p, const char *const *values, json_t *result,
               struct err *err)
{
    struct queueing_result q;
    double n[5], bound;
    int r = numbers(p, values, n, err);

    if (r < 0 || (r = queueing_ggc(n[0], n[1], (uint64_t)n[2], n[3], n[4], &q, err)) < 0)
        return r;
    put_queue(result, &q);
    if (n[2] == 1 && n[0] > 0) {
        r = queueing_kingman_bound(n[0], n[1], n[3], n[4], &bound, err);
        formula_put(result, "wait_most", r == 0 ? bound : (double)NAN);
    }
    return r;
}

static int erlang(const struct formula_parameter *p, const char *const *values, json_t *result,
                  bool delay, struct err *err)
{
    double n[2], share;
    int r = numbers(p, values, n, err);

    if (r < 0)
        return r;
    r = delay ? queueing_erlang_c((uint64_t)n[0], n[1], &share, err)
              : queueing_erlang_b((uint64_t)n[0], n[1], &share, err);
    if (r < 0)
        return r;
    formula_put(result, delay ? "delayed" : "refused", share);
    if (n[0] > 0)
        formula_put(result, "utilisation", n[1] * (delay ? 1 : 1 - share) / n[0]);
    return 0;
}

static int erlang_b(const struct formula_parameter *p, const char *const *values, json_t *result,
                    struct err *err)
{
    return erlang(p, values, result, false, err);
}

static int erlang_c(const struct formula_parameter *p, const char *const *values, json_t *result,
                    struct err *err)
{
    return erlang(p, values, result, true, err);
}

static int erlang_servers(__attribute__((unused)) const struct formula_parameter *p,
                          const char *const *values, json_t *result, struct err *err)
{

    double load, share;
    uint64_t servers;
    int r = formula_number("load", values[0], &load, err);

    if (r < 0 || (r = formula_number("share", values[1], &share, err)) < 0 ||
        (r = queueing_erlang_servers(load, share, !strcmp(values[2], "delayed"), &servers, err)) <
            0)
        return r;
    json_object_set_new(result, "servers", json_integer((json_int_t)servers));
    formula_put(result, "utilisation", load / (double)servers);
    return 0;
}

#define CLASSES_MAX 64

static int priority(__attribute__((unused)) const struct formula_parameter *p,
                    const char *const *values, json_t *result, struct err *err)
{

    double lambda[CLASSES_MAX], service[CLASSES_MAX], scv[CLASSES_MAX], wait[CLASSES_MAX],
        response[CLASSES_MAX];
    size_t nr, nr_service, nr_scv;
    json_t *rows = json_array();
    int r;

    json_object_set_new(result, "classes", rows);
    if ((r = formula_list("lambda", values[0], lambda, CLASSES_MAX, &nr, err)) < 0 ||
        (r = formula_list("service", values[1], service, CLASSES_MAX, &nr_service, err)) < 0 ||
        (r = formula_list("scv", values[2], scv, CLASSES_MAX, &nr_scv, err)) < 0)
        return r;
    for (; nr_scv < nr && nr_scv == 1; nr_scv = nr)
        for (size_t i = 1; i < nr; i++)
            scv[i] = scv[0];
    if (nr_service != nr || nr_scv != nr)
        return err_set(err, -EINVAL,
                       "range: lambda, service and scv need one number for each class");
    if ((r = queueing_mg1_priority((unsigned)nr, lambda, service, scv, !strcmp(values[3], "yes"),
                                   wait, response, err)) < 0)
        return r;
    for (size_t i = 0; i < nr; i++) {
        json_t *row = json_object();

        json_object_set_new(row, "class", json_integer((json_int_t)i + 1));
        formula_put(row, "utilisation", lambda[i] * service[i]);
        formula_put(row, "customers", lambda[i] * response[i]);
        formula_put(row, "response", response[i]);
        formula_put(row, "wait", wait[i]);
        json_array_append_new(rows, row);
    }
    return 0;
}

/* ---- operational laws, migration ---- */

/* X = C/T, U = B/T, S = B/C, V = C_i/C, D = U/X, R = N/X - Z */
static int laws(__attribute__((unused)) const struct formula_parameter *p,
                const char *const *values, json_t *result, struct err *err)
{

    double time, completions, busy, at_station, customers, think;
    int r;

    if ((r = formula_number("time", values[0], &time, err)) < 0 ||
        (r = formula_number("completions", values[1], &completions, err)) < 0 ||
        (r = formula_number("busy", values[2], &busy, err)) < 0 ||
        (r = formula_number("think", values[5], &think, err)) < 0 ||
        (r = check_positive("time", time, err)) < 0 ||
        (r = check_positive("completions", completions, err)) < 0 ||
        (r = check_not_negative("busy", busy, err)) < 0 ||
        (r = check_not_negative("think", think, err)) < 0)
        return r;
    if (busy > time)
        return err_set(err, -ERANGE, "range: busy is %g, more than the time %g", busy, time);
    at_station = completions;
    if (*values[3] &&
        ((r = formula_number("station-completions", values[3], &at_station, err)) < 0 ||
         (r = check_positive("station-completions", at_station, err)) < 0))
        return r;
    formula_put(result, "throughput", completions / time);
    formula_put(result, "utilisation", busy / time);
    formula_put(result, "service", busy / at_station);
    formula_put(result, "visits", at_station / completions);
    formula_put(result, "demand", busy / completions);
    formula_put(result, "throughput_most", completions / fmax(busy, 1e-300));
    if (*values[4]) {
        if ((r = formula_number("customers", values[4], &customers, err)) < 0 ||
            (r = check_not_negative("customers", customers, err)) < 0)
            return r;
        formula_put(result, "response", customers * time / completions - think);
    }
    return 0;
}

static int migration(const struct formula_parameter *p, const char *const *values, json_t *result,
                     struct err *err)
{
    double n[6] = {0};
    struct migration_result m;
    int r = numbers(p, values, n, err);

    if (r < 0)
        return r;
    struct migration from = {n[0], n[1], n[2], n[3], n[4], (unsigned)fmin(n[5], (double)UINT_MAX)};

    if ((r = migration_precopy(&from, &m, err)) < 0)
        return r;
    json_object_set_new(result, "converged", json_boolean(m.converged));
    json_object_set_new(result, "reason", json_string(m.reason));
    json_object_set_new(result, "rounds", json_integer((json_int_t)m.rounds));
    formula_put(result, "downtime", m.downtime);
    formula_put(result, "total", m.total);
    formula_put(result, "sent", m.sent);
    return 0;
}

/* ---- the table ---- */

#define LAMBDA                                                            \
    {                                                                     \
        "lambda", "arrivals per unit of time", FORMULA_NUMBER, NULL, NULL \
    }
#define MU                                                                           \
    {                                                                                \
        "mu", "services per unit of time, of one server", FORMULA_NUMBER, NULL, NULL \
    }
#define SERVERS                                                     \
    {                                                               \
        "servers", "servers, each alike", FORMULA_COUNT, NULL, NULL \
    }

static const struct formula formulas[] = {
    {"mm1",
     "M/M/1: one server, Poisson arrivals, exponential service",
     "L = rho / (1 - rho), W = 1 / (mu - lambda); lambda < mu. Jain 31.2",
     {LAMBDA, MU},
     mm1,
     NULL},
    {"mmc",
     "M/M/c: several servers, one queue",
     "Wq = C(c, a) / (c mu - lambda), a = lambda / mu < c. Jain 31.3",
     {LAMBDA, MU, SERVERS},
     mmc,
     NULL},
    {"mmck",
     "M/M/c/K: at most `capacity` customers, more are refused",
     "birth and death chain; any load. Jain 31.5",
     {LAMBDA,
      MU,
      SERVERS,
      {"capacity", "most customers, those in service included", FORMULA_COUNT, NULL, NULL}},
     mmck,
     NULL},
    {"mg1",
     "M/G/1 first come first served: any distribution of service",
     "Wq = rho S (1 + scv) / (2 (1 - rho)), Pollaczek-Khinchine. Kleinrock 5.6",
     {LAMBDA,
      {"service", "mean time of service", FORMULA_NUMBER, NULL, NULL},
      {"scv", "squared coefficient of variation of service", FORMULA_NUMBER, "1", NULL}},
     mg1,
     NULL},
    {"mg1-ps",
     "M/G/1 processor sharing: as round robin with a small quantum",
     "W = S / (1 - rho), whatever the distribution. Harchol-Balter 30",
     {LAMBDA, {"service", "mean time of service", FORMULA_NUMBER, NULL, NULL}},
     mg1_ps,
     NULL},
    {"priority",
     "M/G/1 with priority classes, the first the most urgent",
     "Cobham; preemptive resume or not. Kleinrock 2, 3.3",
     {{"lambda", "arrivals of each class", FORMULA_LIST, NULL, NULL},
      {"service", "mean service of each class", FORMULA_LIST, NULL, NULL},
      {"scv", "of service, of each class, or one for all", FORMULA_LIST, "1", NULL},
      {"preemptive", "yes or no", FORMULA_WORDS, "no", "yes|no"}},
     priority,
     NULL},
    {"ggc",
     "G/G/c: any arrivals, any service, approximately",
     "Allen-Cunneen, with one server Kingman's heavy traffic formula; exact for M/M/c and M/G/1",
     {LAMBDA,
      MU,
      {"servers", "servers, each alike", FORMULA_COUNT, "1", NULL},
      {"scv-arrivals", "squared coefficient of variation between arrivals", FORMULA_NUMBER, "1",
       NULL},
      {"scv-service", "squared coefficient of variation of service", FORMULA_NUMBER, "1", NULL}},
     ggc,
     NULL},
    {"erlang-b",
     "Erlang B: the share refused by servers without a queue",
     "B(c) = a B(c-1) / (c + a B(c-1)); up to 10,000,000 servers",
     {{"servers", "servers, lines", FORMULA_COUNT, NULL, NULL},
      {"load", "erlangs: arrivals times mean service", FORMULA_NUMBER, NULL, NULL}},
     erlang_b,
     NULL},
    {"erlang-c",
     "Erlang C: the share that has to wait",
     "C = B / (1 - rho (1 - B)); load < servers",
     {{"servers", "servers", FORMULA_COUNT, NULL, NULL},
      {"load", "erlangs: arrivals times mean service", FORMULA_NUMBER, NULL, NULL}},
     erlang_c,
     NULL},
    {"erlang-servers",
     "the fewest servers with at most a given share refused or delayed",
     "Erlang B or C, searched",
     {{"load", "erlangs: arrivals times mean service", FORMULA_NUMBER, NULL, NULL},
      {"share", "allowed, between 0 and 1", FORMULA_NUMBER, NULL, NULL},
      {"of", "refused or delayed", FORMULA_WORDS, "delayed", "refused|delayed"}},
     erlang_servers,
     NULL},
    {"laws",
     "the operational laws, from what was counted",
     "X = C / T, U = B / T, S = B / C_i, V = C_i / C, D = U / X, R = N / X - Z. Jain 33",
     {{"time", "length of the observation", FORMULA_NUMBER, NULL, NULL},
      {"completions", "of the system in that time", FORMULA_NUMBER, NULL, NULL},
      {"busy", "time that the station was busy", FORMULA_NUMBER, NULL, NULL},
      {"station-completions", "of the station in that time; as the system", FORMULA_NUMBER, "",
       NULL},
      {"customers", "mean number in the system", FORMULA_NUMBER, "", NULL},
      {"think", "time between a customer's end and next arrival", FORMULA_NUMBER, "0", NULL}},
     laws,
     NULL},
    {"migration",
     "live migration by pre-copy",
     "left' = min(dirty-rate left / bandwidth, working set) until it fits the downtime. Clark, "
     "NSDI 2005",
     {{"memory", "of the guest, MiB", FORMULA_NUMBER, NULL, NULL},
      {"bandwidth", "of the link, MiB/s", FORMULA_NUMBER, NULL, NULL},
      {"dirty-rate", "memory that the guest writes to, MiB/s", FORMULA_NUMBER, NULL, NULL},
      {"downtime", "allowed, seconds", FORMULA_NUMBER, "0.3", NULL},
      {"working-set", "most that is dirty at once, MiB; 0: all", FORMULA_NUMBER, "0", NULL},
      {"rounds", "after which the guest is stopped anyway", FORMULA_COUNT, "30", NULL}},
     migration,
     NULL},
};

const struct formula *formula_at(size_t i)
{
    return i < ARRAY_LEN(formulas) ? &formulas[i] : formula_network_at(i - ARRAY_LEN(formulas));
}

const struct formula *formula_find(const char *name)
{
    const struct formula *formula;

    for (size_t i = 0; (formula = formula_at(i)); i++)
        if (!strcmp(formula->name, name))
            return formula;
    return NULL;
}

static bool word_known(const char *words, const char *word)
{
    size_t length = strlen(word);

    for (const char *p = words; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strcspn(p, "|") == length && !strncmp(p, word, length))
            return true;
    return false;
}

int formula_compute(const struct formula *formula, const char *const *values, json_t **ret,
                    struct err *err)
{
    const char *given[FORMULA_PARAMETERS_MAX] = {NULL};
    json_t *result;
    int r;

    for (size_t i = 0; i < FORMULA_PARAMETERS_MAX && formula->parameters[i].name; i++) {
        const struct formula_parameter *parameter = &formula->parameters[i];

        given[i] = values[i] ? values[i] : parameter->standard;
        if (!given[i])
            return err_set(err, -EINVAL, "missing: --%s (%s)", parameter->name, parameter->meaning);
        if (parameter->kind == FORMULA_WORDS && values[i] && parameter->words &&
            !strchr(parameter->words, '*') && !word_known(parameter->words, values[i]))
            return err_set(err, -EINVAL, "range: %s is '%.40s', not one of %s", parameter->name,
                           values[i], parameter->words);
    }
    if (!(result = json_object()))
        return err_set(err, -ENOMEM, "formula %s", formula->name);
    if ((r = formula->compute(formula->parameters, given, result, err)) < 0)
        json_decref(result);
    else
        *ret = result;
    return r;
}
