/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The formulas of networks: with options for one class of customers, or from a JSON file:
 *
 *   {"think": 4, "customers": 5,                       closed, one class
 *    "stations": [{"name": "cpu", "demand": 2},
 *                 {"name": "pool", "kind": "servers", "servers": 4, "demand": 3},
 *                 {"name": "disk", "kind": "load-dependent", "rates": [1, 1.5], "demand": 1}]}
 *   {"classes": [{"name": "a", "customers": 3, "think": 1} or {"name": "a", "lambda": 0.5}],
 *    "stations": [{"name": "cpu", "demand": [2, 1]}]}   several classes, closed or open
 */
#include "model/document.h"
#include "model/formula_internal.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "model/check.h"
#include "model/networks.h"

#include <string.h>

#define STATIONS_MAX 1024
#define RATES_MAX    20000

static const char *const kind_names[] = {"queue", "delay", "servers", "load-dependent", NULL};

struct network {
    size_t nr;
    unsigned classes;
    bool open;
    struct station stations[STATIONS_MAX];
    char names[STATIONS_MAX][48];
    double *rates[STATIONS_MAX]; /* owned */
    double *demands;             /* [station * classes + class], owned */
    char class_names[NETWORK_CLASSES_MAX][48];
    double think[NETWORK_CLASSES_MAX], lambda[NETWORK_CLASSES_MAX];
    uint64_t customers[NETWORK_CLASSES_MAX];
};

static void network_free(struct network *network)
{
    for (size_t i = 0; i < STATIONS_MAX; i++)
        free(network->rates[i]);
    free(network->demands);
    free(network);
}
DEFINE_CLEANUP(network_freep, struct network *, network_free);

static struct network *network_new(void)
{
    struct network *network = calloc(1, sizeof(*network));

    if (network)
        network->classes = 1;
    return network;
}

/* ---- results ---- */

static json_t *row_new(json_t *rows, const char *name)
{
    json_t *row = json_object();

    json_object_set_new(row, "name", json_string(name));
    json_array_append_new(rows, row);
    return row;
}

static int closed_one(struct network *n, bool approximate, json_t *result, struct err *err)
{
    CLEANUP(freep) struct station_result *each = calloc(n->nr, sizeof(*each));
    struct network_result total;
    json_t *rows = json_array();
    int r;

    json_object_set_new(result, "customers", json_integer((json_int_t)n->customers[0]));
    if (!each)
        return err_set(err, -ENOMEM, "network");
    r = approximate
            ? network_schweitzer(n->stations, n->nr, n->think[0], (double)n->customers[0], &total,
                                 each, err)
            : network_closed(n->stations, n->nr, n->think[0], n->customers[0], &total, each, err);
    formula_put(result, "throughput", r < 0 ? 0 : total.throughput);
    formula_put(result, "response", r < 0 ? 0 : total.response);
    json_object_set_new(result, "stations", rows);
    for (size_t i = 0; r == 0 && i < n->nr; i++) {
        json_t *row = row_new(rows, n->names[i]);

        formula_put(row, "demand", n->stations[i].demand);
        formula_put(row, "residence", each[i].residence);
        formula_put(row, "customers", each[i].customers);
        formula_put(row, "utilisation", each[i].utilisation);
    }
    return r;
}

static int closed_classes(struct network *n, bool approximate, json_t *result, struct err *err)
{
    CLEANUP(freep) enum station_kind *kinds = calloc(n->nr, sizeof(*kinds));
    CLEANUP(freep) double *residence = calloc(n->nr * n->classes, sizeof(*residence));
    CLEANUP(freep) double *customers = calloc(n->nr * n->classes, sizeof(*customers));
    double throughput[NETWORK_CLASSES_MAX], response[NETWORK_CLASSES_MAX];
    json_t *rows = json_array(), *cells = json_array();
    int r;

    json_object_set_new(result, "classes", rows);
    json_object_set_new(result, "stations", cells);
    if (!kinds || !residence || !customers || !n->demands)
        return err_set(err, -ENOMEM, "network");
    for (size_t i = 0; i < n->nr; i++)
        kinds[i] = n->stations[i].kind;
    r = (approximate ? network_classes_schweitzer : network_classes)(
        kinds, n->nr, n->classes, n->demands, n->think, n->customers, throughput, response,
        residence, customers, err);
    for (unsigned k = 0; r == 0 && k < n->classes; k++) {
        json_t *row = row_new(rows, n->class_names[k]);

        json_object_set_new(row, "customers", json_integer((json_int_t)n->customers[k]));
        formula_put(row, "throughput", throughput[k]);
        formula_put(row, "response", response[k]);
    }
    for (size_t i = 0; r == 0 && i < n->nr; i++) {
        json_t *row = row_new(cells, n->names[i]);
        double all = 0, used = 0;

        for (unsigned k = 0; k < n->classes; k++) {
            all += customers[i * n->classes + k];
            used += throughput[k] * n->demands[i * n->classes + k];
        }
        formula_put(row, "customers", all);
        formula_put(row, "utilisation", used);
    }
    return r;
}

static int open_classes(struct network *n, json_t *result, struct err *err)
{
    CLEANUP(freep) uint64_t *servers = calloc(n->nr, sizeof(*servers));
    CLEANUP(freep) double *utilisation = calloc(n->nr, sizeof(*utilisation));
    CLEANUP(freep) double *residence = calloc(n->nr * n->classes, sizeof(*residence));
    double response[NETWORK_CLASSES_MAX];
    json_t *rows = json_array(), *cells = json_array();
    int r;

    json_object_set_new(result, "classes", rows);
    json_object_set_new(result, "stations", cells);
    if (!servers || !utilisation || !residence || !n->demands)
        return err_set(err, -ENOMEM, "network");
    for (size_t i = 0; i < n->nr; i++) {
        if (n->stations[i].kind == STATION_LOAD_DEPENDENT)
            return err_set(err, -EINVAL,
                           "stations[%zu].kind: load-dependent stations need a closed network", i);
        servers[i] = n->stations[i].kind == STATION_DELAY     ? 0
                     : n->stations[i].kind == STATION_SERVERS ? n->stations[i].servers
                                                              : 1;
    }
    r = network_open(servers, n->nr, n->classes, n->demands, n->lambda, response, utilisation,
                     residence, err);
    for (unsigned k = 0; r == 0 && k < n->classes; k++) {
        json_t *row = row_new(rows, n->class_names[k]);

        formula_put(row, "throughput", n->lambda[k]);
        formula_put(row, "response", response[k]);
        formula_put(row, "customers", n->lambda[k] * response[k]);
    }
    for (size_t i = 0; r == 0 && i < n->nr; i++) {
        json_t *row = row_new(cells, n->names[i]);
        double all = 0;

        for (unsigned k = 0; k < n->classes; k++)
            all += n->lambda[k] * residence[i * n->classes + k];
        formula_put(row, "customers", all);
        formula_put(row, "utilisation", utilisation[i]);
    }
    return r;
}

/* ---- from options ---- */

static int from_options(const char *demands, const char *servers, struct network *n,
                        struct err *err)
{
    double list[STATIONS_MAX], counts[STATIONS_MAX];
    size_t nr_counts = 0;
    int r = formula_list("demands", demands, list, STATIONS_MAX, &n->nr, err);

    if (r == 0 && servers && *servers &&
        (r = formula_list("servers", servers, counts, STATIONS_MAX, &nr_counts, err)) == 0 &&
        nr_counts != n->nr)
        r = err_set(err, -EINVAL, "range: servers needs one number for each of the %zu demands",
                    n->nr);
    for (size_t i = 0; r == 0 && i < n->nr; i++) {
        n->stations[i].demand = list[i];
        snprintf(n->names[i], sizeof(n->names[i]), "%zu", i + 1);
        if (nr_counts == 0 || counts[i] == 1)
            continue;
        if ((r = check_not_negative("servers", counts[i], err)) < 0)
            break;
        if (counts[i] > NETWORK_SERVERS_MAX || floor(counts[i]) != counts[i])
            r = err_set(err, -ERANGE, "range: servers %g is not a whole number up to %u", counts[i],
                        NETWORK_SERVERS_MAX);
        n->stations[i].kind = counts[i] > 0 ? STATION_SERVERS : STATION_DELAY;
        n->stations[i].servers = (uint64_t)counts[i];
    }
    return r;
}

static int mva(__attribute__((unused)) const struct formula_parameter *p, const char *const *values,
               json_t *result, struct err *err)
{
    CLEANUP(network_freep) struct network *n = network_new();
    int r;

    if (!n)
        return err_set(err, -ENOMEM, "network");
    if ((r = from_options(values[0], values[3], n, err)) < 0 ||
        (r = formula_number("think", values[1], &n->think[0], err)) < 0 ||
        (r = formula_count("customers", values[2], &n->customers[0], err)) < 0)
        return r;
    return closed_one(n, !strcmp(values[4], "schweitzer"), result, err);
}

static int bounds(const struct formula_parameter *p, const char *const *values, json_t *result,
                  struct err *err)
{
    double demands[STATIONS_MAX], think, customers;
    struct network_bounds b;
    size_t nr;
    int r = formula_list(p[0].name, values[0], demands, STATIONS_MAX, &nr, err);

    if (r < 0 || (r = formula_number("think", values[1], &think, err)) < 0 ||
        (r = formula_number("customers", values[2], &customers, err)) < 0 ||
        (r = network_bounds(demands, nr, think, customers, &b, err)) < 0)
        return r;
    formula_put(result, "throughput_most", b.throughput_most);
    formula_put(result, "throughput_least", b.throughput_least);
    formula_put(result, "response_least", b.response_least);
    formula_put(result, "response_most", b.response_most);
    formula_put(result, "balanced_throughput_most", b.balanced_most);
    formula_put(result, "balanced_throughput_least", b.balanced_least);
    formula_put(result, "knee", b.knee);
    json_object_set_new(result, "bottleneck", json_integer((json_int_t)b.bottleneck + 1));
    return 0;
}

static int open_one(const struct formula_parameter *p, const char *const *values, json_t *result,
                    struct err *err)
{
    CLEANUP(network_freep) struct network *n = network_new();
    int r;

    if (!n)
        return err_set(err, -ENOMEM, "network");
    if ((r = from_options(values[1], values[2], n, err)) < 0 ||
        (r = formula_number(p[0].name, values[0], &n->lambda[0], err)) < 0)
        return r;
    if (!(n->demands = calloc(n->nr, sizeof(double))))
        return err_set(err, -ENOMEM, "network");
    for (size_t i = 0; i < n->nr; i++)
        n->demands[i] = n->stations[i].demand;
    snprintf(n->class_names[0], sizeof(n->class_names[0]), "1");
    return open_classes(n, result, err);
}

static int fork_join(const struct formula_parameter *p, const char *const *values, json_t *result,
                     struct err *err)
{
    double lambda, mu, response, least, most;
    uint64_t tasks;
    int r = formula_number(p[0].name, values[0], &lambda, err);

    if (r < 0 || (r = formula_number("mu", values[1], &mu, err)) < 0 ||
        (r = formula_count("tasks", values[2], &tasks, err)) < 0 ||
        (r = network_fork_join(lambda, mu, tasks, &response, &least, &most, err)) < 0)
        return r;
    formula_put(result, "response", response);
    formula_put(result, "response_least", least);
    formula_put(result, "response_most", most);
    return 0;
}

/* Stations with a service rate, customers routed between them: "0,1;0.5,0" is two rows. */
static int jackson(const struct formula_parameter *p, const char *const *values, json_t *result,
                   struct err *err)
{
    enum { MAX = 64 };
    double external[MAX], mu[MAX], servers[MAX], arrivals[MAX];
    CLEANUP(freep) double *routing = calloc((size_t)MAX * MAX, sizeof(double));
    CLEANUP(freep) char *rows = strdup(values[3]);
    size_t nr, nr_mu, nr_servers, nr_row, row = 0;
    json_t *out = json_array();
    char *state = NULL;
    double customers = 0, total = 0;
    int r;

    json_object_set_new(result, "stations", out);
    if (!routing || !rows)
        return err_set(err, -ENOMEM, "jackson");
    if ((r = formula_list(p[0].name, values[0], external, MAX, &nr, err)) < 0 ||
        (r = formula_list("mu", values[1], mu, MAX, &nr_mu, err)) < 0 ||
        (r = formula_list("servers", values[2], servers, MAX, &nr_servers, err)) < 0)
        return r;
    for (size_t i = nr_servers; nr_servers == 1 && i < nr; i++)
        servers[i] = servers[0];
    nr_servers = nr_servers == 1 ? nr : nr_servers;
    for (char *text = strtok_r(rows, ";", &state); text; text = strtok_r(NULL, ";", &state)) {
        if (row == nr)
            return err_set(err, -EINVAL, "range: routing has more than %zu rows", nr);
        if ((r = formula_list("routing", text, &routing[row++ * nr], nr, &nr_row, err)) < 0)
            return r;
        if (nr_row != nr)
            return err_set(err, -EINVAL, "range: row %zu of routing needs %zu numbers", row, nr);
    }
    if (row != nr || nr_mu != nr || nr_servers != nr)
        return err_set(err, -EINVAL,
                       "range: lambda, mu, servers and the rows of routing must be as many");
    if ((r = network_traffic(nr, external, routing, arrivals, err)) < 0)
        return r;
    for (size_t i = 0; i < nr; i++) {
        uint64_t one[1] = {servers[i] >= 0 && servers[i] < 1e6 ? (uint64_t)servers[i] : 0};
        double demand, response, utilisation, residence;
        char name[24];
        json_t *line;

        if ((r = check_positive("mu", mu[i], err)) < 0)
            return r;
        demand = 1 / mu[i];
        if ((r = network_open(one, 1, 1, &demand, &arrivals[i], &response, &utilisation, &residence,
                              err)) < 0)
            return err_wrap(err, "of %zu", i + 1);
        snprintf(name, sizeof(name), "%zu", i + 1);
        line = row_new(out, name);
        formula_put(line, "arrivals", arrivals[i]);
        formula_put(line, "utilisation", utilisation);
        formula_put(line, "customers", arrivals[i] * residence);
        formula_put(line, "response", residence);
        customers += arrivals[i] * residence;
        total += external[i];
    }
    formula_put(result, "throughput", total);
    formula_put(result, "customers", customers);
    formula_put(result, "response", total > 0 ? customers / total : (double)NAN);
    return 0;
}

/* ---- from a file ---- */

static int read_customers(const struct json_at *at, uint64_t *ret, struct err *err)
{
    double number; /* said to be needed where it is missing */
    int r = document_number(at, "customers", 0, NETWORK_CUSTOMERS_MAX, &number, err);

    return r < 0 ? r : document_opt_count(at, "customers", 0, NETWORK_CUSTOMERS_MAX, ret, err);
}

static int read_class(const struct json_at *at, size_t i, struct network *n, struct err *err)
{
    static const char *const known[] = {"name", "customers", "think", "lambda", NULL};
    struct json_at one, lambda;
    const char *name = NULL;
    int r = json_at_index(at, i, &one, err);

    if (r < 0 || (r = json_reject_unknown(&one, known, err)) < 0 ||
        (r = json_opt_string(&one, "name", &name, err)) < 0 ||
        (r = json_at_member(&one, "lambda", &lambda, err)) < 0)
        return r;
    snprintf(n->class_names[i], sizeof(n->class_names[i]), "%s", name ? name : "");
    if (!name)
        snprintf(n->class_names[i], sizeof(n->class_names[i]), "%zu", i + 1);
    n->open = n->open || lambda.value;
    if (n->open)
        return document_number(&one, "lambda", 0, 1e12, &n->lambda[i], err);
    r = read_customers(&one, &n->customers[i], err);
    return r < 0 ? r : document_opt_number(&one, "think", 0, 1e12, &n->think[i], err);
}

static int read_demands(const struct json_at *station, size_t i, struct network *n, struct err *err)
{
    struct json_at list, cell;
    int r = json_at_member(station, "demand", &list, err);

    if (r < 0)
        return r;
    if (!json_is_array(list.value)) {
        r = document_number(station, "demand", 0, 1e12, &n->stations[i].demand, err);
        for (unsigned k = 0; k < n->classes; k++)
            n->demands[i * n->classes + k] = n->stations[i].demand;
        return r;
    }
    if (json_array_size(list.value) != n->classes)
        return err_set(err, -EINVAL, "%s: %zu numbers where there are %u classes", list.path,
                       json_array_size(list.value), n->classes);
    for (unsigned k = 0; k < n->classes; k++) {
        if ((r = json_at_index(&list, k, &cell, err)) < 0)
            return r;
        if (!json_is_number(cell.value) || json_number_value(cell.value) < 0)
            return err_set(err, -EINVAL, "%s: a number of at least 0 is needed", cell.path);
        n->demands[i * n->classes + k] = json_number_value(cell.value);
    }
    n->stations[i].demand = n->demands[i * n->classes];
    return 0;
}

static int read_rates(const struct json_at *station, size_t i, struct network *n, struct err *err)
{
    struct json_at list, cell;
    size_t nr;
    int r = json_at_member(station, "rates", &list, err);

    if (r < 0)
        return r;
    nr = json_array_size(list.value);
    if (nr == 0 || nr > RATES_MAX)
        return err_set(err, -EINVAL, "%s: an array of 1 to %d rates is needed", list.path,
                       RATES_MAX);
    if (!(n->rates[i] = calloc(nr, sizeof(double))))
        return err_set(err, -ENOMEM, "network");
    for (size_t k = 0; k < nr; k++) {
        if ((r = json_at_index(&list, k, &cell, err)) < 0)
            return r;
        if (!json_is_number(cell.value) || json_number_value(cell.value) <= 0)
            return err_set(err, -EINVAL, "%s: a number above 0 is needed", cell.path);
        n->rates[i][k] = json_number_value(cell.value);
    }
    n->stations[i].rates = n->rates[i];
    n->stations[i].nr_rates = nr;
    return 0;
}

static int read_station(const struct json_at *at, size_t i, struct network *n, struct err *err)
{
    static const char *const known[] = {"name", "kind", "demand", "servers", "rates", NULL};
    struct json_at one;
    const char *name = NULL;
    unsigned kind = STATION_QUEUE;
    uint64_t servers = 1;
    int r = json_at_index(at, i, &one, err);

    if (r < 0 || (r = json_reject_unknown(&one, known, err)) < 0 ||
        (r = json_opt_string(&one, "name", &name, err)) < 0 ||
        (r = document_opt_word(&one, "kind", kind_names, &kind, err)) < 0 ||
        (r = document_opt_count(&one, "servers", 1, NETWORK_SERVERS_MAX, &servers, err)) < 0 ||
        (r = read_demands(&one, i, n, err)) < 0)
        return r;
    snprintf(n->names[i], sizeof(n->names[i]), "%s", name ? name : "");
    if (!name)
        snprintf(n->names[i], sizeof(n->names[i]), "%zu", i + 1);
    n->stations[i].kind = (enum station_kind)kind;
    n->stations[i].servers = servers;
    return kind == STATION_LOAD_DEPENDENT ? read_rates(&one, i, n, err) : 0;
}

static int read_network(const struct json_at *root, struct network *n, struct err *err)
{
    static const char *const known[] = {"think",  "customers", "classes", "stations",
                                        "lambda", "method",    NULL};
    struct json_at classes, stations;
    int r = json_reject_unknown(root, known, err);

    if (r < 0 || (r = json_at_member(root, "classes", &classes, err)) < 0 ||
        (r = json_at_member(root, "stations", &stations, err)) < 0)
        return r;
    n->nr = json_array_size(stations.value);
    if (n->nr == 0 || n->nr > STATIONS_MAX)
        return err_set(err, -EINVAL, "stations: an array of 1 to %d stations is needed",
                       STATIONS_MAX);
    if (classes.value) {
        n->classes = (unsigned)json_array_size(classes.value);
        if (n->classes == 0 || n->classes > NETWORK_CLASSES_MAX)
            return err_set(err, -EINVAL, "classes: an array of 1 to %u classes is needed",
                           NETWORK_CLASSES_MAX);
        for (size_t i = 0; r == 0 && i < n->classes; i++)
            r = read_class(&classes, i, n, err);
    } else {
        snprintf(n->class_names[0], sizeof(n->class_names[0]), "1");
        n->open = json_object_get(root->value, "lambda") != NULL;
        if (n->open)
            r = document_number(root, "lambda", 0, 1e12, &n->lambda[0], err);
        else if ((r = read_customers(root, &n->customers[0], err)) == 0)
            r = document_opt_number(root, "think", 0, 1e12, &n->think[0], err);
    }
    if (r == 0 && !(n->demands = calloc(n->nr * n->classes, sizeof(double))))
        return err_set(err, -ENOMEM, "network");
    for (size_t i = 0; r == 0 && i < n->nr; i++)
        r = read_station(&stations, i, n, err);
    return r;
}

/* What the arithmetic does not take, with the member of the file that it is about in front. */
static int in_the_file(int result, struct err *err)
{
    unsigned station;

    if (result < 0 && err && sscanf(err->message, "station %u: ", &station) == 1 && station > 0)
        return err_wrap(err, "stations[%u]", station - 1);
    if (result < 0 && err && !strncmp(err->message, "range: customers", 16))
        return err_wrap(err, "customers");
    return result;
}

static int network_file(const struct json_at *root, json_t *result, struct err *err)
{
    static const char *const methods[] = {"exact", "schweitzer", NULL};
    CLEANUP(network_freep) struct network *n = network_new();
    unsigned method = 0;
    int r;

    if (!n)
        return err_set(err, -ENOMEM, "network");
    if ((r = read_network(root, n, err)) < 0 ||
        (r = document_opt_word(root, "method", methods, &method, err)) < 0)
        return r;
    if (n->open)
        return in_the_file(open_classes(n, result, err), err);
    if (n->classes == 1)
        return in_the_file(closed_one(n, method == 1, result, err), err);
    return in_the_file(closed_classes(n, method == 1, result, err), err);
}

int formula_compute_file(const struct formula *formula, const char *path, json_t **ret,
                         struct err *err)
{
    CLEANUP(document_donep) struct document document = {0};
    struct json_at root;
    json_t *result;
    int r;

    if (!formula->compute_file)
        return err_set(err, -EINVAL, "%s does not read a file; give its parameters as options",
                       formula->name);
    if ((r = document_load(path, &document, err)) < 0)
        return r;
    if (!(result = json_object()))
        return err_set(err, -ENOMEM, "formula %s", formula->name);
    json_at_root(document.root, &root);
    if ((r = formula->compute_file(&root, result, err)) < 0) {
        json_decref(result);
        return document_error(&document, err);
    }
    *ret = result;
    return 0;
}

#define DEMANDS                                                               \
    {                                                                         \
        "demands", "of the stations, comma between", FORMULA_LIST, NULL, NULL \
    }
#define THINK                                                  \
    {                                                          \
        "think", "time of thinking", FORMULA_NUMBER, "0", NULL \
    }
#define STATION_SERVERS                                                           \
    {                                                                             \
        "servers", "of each station, 0 a delay; one each", FORMULA_LIST, "", NULL \
    }

static const struct formula formulas[] = {
    {"bounds",
     "asymptotic and balanced job bounds of a closed network",
     "X <= min(1 / Dmax, N / (D + Z)), knee at (D + Z) / Dmax. Lazowska 5",
     {DEMANDS, THINK, {"customers", "in the network", FORMULA_NUMBER, NULL, NULL}},
     bounds,
     NULL},
    {"mva",
     "closed network: exact mean value analysis, or Bard-Schweitzer",
     "also from a file, with several classes, delays, several servers and load-dependent rates. "
     "Reiser and Lavenberg 1980; Buzen 1973",
     {DEMANDS,
      THINK,
      {"customers", "in the network", FORMULA_COUNT, NULL, NULL},
      STATION_SERVERS,
      {"method", "exact or schweitzer", FORMULA_WORDS, "exact", "exact|schweitzer"}},
     mva,
     network_file},
    {"open",
     "open network: customers come, visit the stations, and go",
     "residence D (1 + C / (c (1 - U))); several classes from a file. Lazowska 6",
     {{"lambda", "arrivals per unit of time", FORMULA_NUMBER, NULL, NULL},
      DEMANDS,
      STATION_SERVERS},
     open_one,
     network_file},
    {"jackson",
     "open network of M/M/c stations with routing between them",
     "traffic equations, then each station alone. Jackson 1963",
     {{"lambda", "arrivals from outside at each station", FORMULA_LIST, NULL, NULL},
      {"mu", "services per unit of time of one server, each station", FORMULA_LIST, NULL, NULL},
      {"servers", "of each station, or one number for all", FORMULA_LIST, "1", NULL},
      {"routing", "share going to each station, a row a station: '0,1;0.5,0'", FORMULA_WORDS, NULL,
       NULL}},
     jackson,
     NULL},
    {"fork-join",
     "jobs whose tasks run on stations of their own, and end with the last",
     "Nelson and Tantawi 1988, and bounds; exact for two tasks",
     {{"lambda", "jobs per unit of time", FORMULA_NUMBER, NULL, NULL},
      {"mu", "tasks per unit of time of one station", FORMULA_NUMBER, NULL, NULL},
      {"tasks", "of each job", FORMULA_COUNT, NULL, NULL}},
     fork_join,
     NULL},
};

const struct formula *formula_network_at(size_t i)
{
    return i < ARRAY_LEN(formulas) ? &formulas[i] : NULL;
}
