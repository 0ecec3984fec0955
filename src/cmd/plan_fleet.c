/* SPDX-License-Identifier: Apache-2.0 */
/* lodge plan place, rebalance: rehearsals of the manager's placement on a fleet in a file. Nothing
 * is changed anywhere. */
#include "cmd/plan_fleet.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "model/chart.h"
#include "model/migration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 100000u

int plan_read_fleet(const struct plan_arguments *arguments, struct fleet **ret, struct err *err)
{
    CLEANUP(document_donep) struct document document = {0};
    struct json_at root;
    int r;

    if (arguments->nr_positionals != 1)
        return err_set(err, -EINVAL, "one file with hosts and instances is needed");
    if ((r = document_load(arguments->positionals[0], &document, err)) < 0)
        return r;
    json_at_root(document.root, &root);
    return fleet_read(&root, ret, err) < 0 ? document_error(&document, err) : 0;
}

json_t *plan_host_rows(const struct fleet *fleet)
{
    json_t *rows = json_array();

    for (uint32_t i = 0; i < fleet->nr_hosts && i < ROWS_MAX; i++) {
        struct placement_state state;

        if (placement_host_state(fleet->placement, i, &state) < 0)
            continue;
        json_array_append_new(
            rows,
            json_pack(
                "{s:s, s:i, s:f, s:f, s:f, s:f, s:f}", "host", fleet->host_names[i], "instances",
                (int)state.instances, "cpus_free", state.free[PLACEMENT_CPU] / 1000.0,
                "memory_free", (double)state.free[PLACEMENT_MEMORY], "disk_free",
                (double)state.free[PLACEMENT_DISK], "reserved", balancing_load(fleet->placement, i),
                "busy", fleet->host_cores[i] > 0 ? fleet->host_busy[i] / fleet->host_cores[i] : 0));
    }
    return rows;
}

static json_t *kind_rows(const struct fleet *fleet)
{
    json_t *rows = json_array();

    for (size_t k = 0; k < fleet->nr_kinds; k++)
        json_array_append_new(rows, json_pack("{s:s, s:I, s:I}", "instance", fleet->kinds[k].name,
                                              "wanted", (json_int_t)fleet->kinds[k].count, "placed",
                                              (json_int_t)fleet->kinds[k].placed));
    return rows;
}

static int chart_hosts(const char *path, const struct fleet *fleet, struct err *err)
{
    uint32_t nr = MIN(fleet->nr_hosts, (uint32_t)CHART_ROWS_MAX);
    CLEANUP(freep) const char **names = calloc(nr, sizeof(*names));
    CLEANUP(freep) double *values = calloc(nr, sizeof(*values));
    CLEANUP(buf_donep) struct buf svg;
    int r;

    buf_init(&svg, CHART_BYTES_MAX);
    if (!names || !values)
        return err_set(err, -ENOMEM, "chart");
    for (uint32_t i = 0; i < nr; i++) {
        names[i] = fleet->host_names[i];
        values[i] = balancing_load(fleet->placement, i);
    }
    r = chart_bars(&svg, "reserved share of each host (the largest resource)", names, values, nr);
    return r < 0 ? err_set(err, r, "chart '%s'", path)
                 : plan_write(path, svg.data, svg.length, err);
}

/* Why one more of a kind would go where it would: the best candidates and what is wrong with the
 * others. */
static json_t *explain(const struct fleet *fleet, size_t kind)
{
    struct placement_candidate candidates[10];
    json_t *rows = json_array();
    size_t nr = 0;

    if (placement_explain(fleet->placement, &fleet->kinds[kind].need, candidates,
                          ARRAY_LEN(candidates), &nr) < 0)
        return rows;
    for (size_t i = 0; i < MIN(nr, ARRAY_LEN(candidates)); i++)
        json_array_append_new(
            rows, json_pack("{s:s, s:s, s:s, s:f, s:f}", "instance", fleet->kinds[kind].name,
                            "host", fleet->host_names[candidates[i].host], "verdict",
                            placement_verdict_text(candidates[i].verdict), "score",
                            candidates[i].score, "short_by", candidates[i].short_by));
    return rows;
}

static int place(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    CLEANUP(fleet_freep) struct fleet *fleet = NULL;
    const char *svg = plan_value(arguments, "svg");
    json_t *rows = json_array(), *why;
    uint32_t used = 0;
    int r = plan_read_fleet(arguments, &fleet, err);

    *ret = NULL;
    if (r == 0)
        r = fleet_place_all(fleet, err);
    if (r == 0 && svg)
        r = chart_hosts(svg, fleet, err);
    if (r < 0) {
        json_decref(rows);
        return r;
    }
    for (uint32_t i = 0; i < fleet->nr_hosts; i++) {
        uint32_t instance = PLACEMENT_NONE;

        for (;;) {
            instance = placement_next_on(fleet->placement, i, instance);
            if (instance == PLACEMENT_NONE)
                break;
            if (json_array_size(rows) < ROWS_MAX)
                json_array_append_new(
                    rows, json_pack("{s:s, s:s, s:i}", "host", fleet->host_names[i], "instance",
                                    fleet->kinds[fleet->instance_kinds[instance]].name, "number",
                                    (int)instance));
        }
        used += placement_next_on(fleet->placement, i, PLACEMENT_NONE) != PLACEMENT_NONE;
    }
    *ret = json_pack("{s:s, s:i, s:i, s:o, s:o}", "rule", placement_rule_name(fleet->rule), "hosts",
                     (int)fleet->nr_hosts, "hosts_used", (int)used, "instances", kind_rows(fleet),
                     "hosts_after", plan_host_rows(fleet));
    json_object_set_new(*ret, "placement", rows);
    json_object_set_new(*ret, "one_more_would_go", why = json_array());
    for (size_t k = 0; k < fleet->nr_kinds; k++) {
        json_t *of_kind = explain(fleet, k);

        json_array_extend(why, of_kind);
        json_decref(of_kind);
    }
    return 0;
}

static void put_copy_time(const struct plan_arguments *arguments, double memory, json_t *row)
{
    double bandwidth = 0, dirty = 0, downtime = .3;
    struct migration_result result;

    if (plan_number(arguments, "bandwidth", .001, 1e9, &bandwidth, NULL) < 0 ||
        plan_number(arguments, "dirty-rate", 0, 1e9, &dirty, NULL) < 0 ||
        plan_number(arguments, "downtime", 0, 1e6, &downtime, NULL) < 0 || bandwidth <= 0)
        return;
    struct migration migration = {memory, bandwidth, dirty, downtime, 0, 0};

    if (migration_precopy(&migration, &result, NULL) < 0)
        return;
    json_object_set_new(row, "copy_seconds", json_real(result.total));
    json_object_set_new(row, "downtime", json_real(result.downtime));
}

static int balance_options(const struct plan_arguments *arguments, const struct fleet *fleet,
                           struct balancing_config *config, struct err *err)
{
    const char *aim = plan_value(arguments, "aim"), *host = plan_value(arguments, "host");
    double moves = 0;
    int r;

    if (aim && !strcmp(aim, "consolidate"))
        config->aim = BALANCING_CONSOLIDATE;
    else if (aim && !strcmp(aim, "drain"))
        config->aim = BALANCING_DRAIN;
    else if (aim && strcmp(aim, "spread") != 0)
        return err_set(err, -EINVAL, "--aim '%.40s' is not one of spread, consolidate, drain", aim);
    if (config->aim == BALANCING_DRAIN) {
        config->host = host ? fleet_host(fleet, host) : PLACEMENT_NONE;
        if (config->host == PLACEMENT_NONE)
            return err_set(err, -EINVAL, "--host: which host is to be emptied? '%.40s' is none",
                           host ? host : "");
    }
    if ((r = plan_number(arguments, "threshold", 0, 1, &config->threshold, err)) < 0 ||
        (r = plan_number(arguments, "high", 0, 1, &config->high, err)) < 0 ||
        (r = plan_number(arguments, "moves", 0, 1e6, &moves, err)) < 0)
        return r;
    config->moves_max = (uint32_t)moves;
    return 0;
}

static int rebalance(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    CLEANUP(fleet_freep) struct fleet *fleet = NULL;
    struct balancing_config config = {.aim = BALANCING_SPREAD};
    struct balancing_plan plan = {0};
    json_t *rows;
    double copied = 0;
    int r = plan_read_fleet(arguments, &fleet, err);

    if (r < 0 || (r = fleet_place_all(fleet, err)) < 0 ||
        (r = balance_options(arguments, fleet, &config, err)) < 0 ||
        (r = balancing_plan(fleet->placement, &config, &plan, err)) < 0)
        return r;
    rows = json_array();
    for (size_t i = 0; i < plan.nr_moves; i++) {
        const struct balancing_move *m = &plan.moves[i];
        json_t *row = json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:i}", "instance",
                                fleet->kinds[fleet->instance_kinds[m->instance]].name, "from",
                                fleet->host_names[m->from], "to", fleet->host_names[m->to],
                                "from_before", m->from_before, "from_after", m->from_after,
                                "to_before", m->to_before, "to_after", m->to_after, "memory",
                                (int)m->memory_mib);

        put_copy_time(arguments, m->memory_mib, row);
        copied += m->memory_mib;
        json_array_append_new(rows, row);
    }
    *ret = json_pack("{s:I, s:f, s:f, s:f, s:i, s:i, s:i, s:s, s:o}", "moves",
                     (json_int_t)plan.nr_moves, "memory_to_copy", copied, "spread_before",
                     plan.spread_before, "spread_after", plan.spread_after, "hosts_used_before",
                     (int)plan.hosts_used_before, "hosts_used_after", (int)plan.hosts_used_after,
                     "stuck", (int)plan.stuck, "stops_because", plan.stop ? plan.stop : "", "plan",
                     rows);
    if (plan_value(arguments, "simulate"))
        r = plan_simulate_moves(arguments, fleet, &plan, rows, *ret, err);
    balancing_plan_done(&plan);
    if (r < 0) {
        json_decref(*ret);
        *ret = NULL;
    }
    return r;
}

static const struct plan_option place_options[] = {
    {"svg", "FILE", "a chart of the hosts"},
    {NULL},
};

static const struct plan_option rebalance_options[] = {
    {"aim", "WORD", "spread (the standard), consolidate, or drain"},
    {"host", "NAME", "drain: which"},
    {"threshold", "N", "spread: how uneven hosts may be, as a standard deviation; 0.05"},
    {"high", "N", "consolidate: no host above this share; 0.9"},
    {"moves", "N", "at most"},
    {"bandwidth", "MIB", "between hosts, a second: gives the time of each copy"},
    {"dirty-rate", "MIB", "that a moving guest writes, a second"},
    {"downtime", "T", "allowed; 0.3"},
    {"simulate", NULL, "carry the moves out in virtual time, on links that they share"},
    {"parallel", "N", "with --simulate: copies at one host at a time; 1"},
    {NULL},
};

const struct plan_command plan_place = {
    .name = "place",
    .usage = "[--svg FILE] FLEET.json",
    .summary = "where the manager would put the instances, and why",
    .options = place_options,
    .run = place,
};

const struct plan_command plan_rebalance = {
    .name = "rebalance",
    .usage = "[OPTION...] FLEET.json",
    .summary = "which instances the manager would move, and what that costs",
    .options = rebalance_options,
    .run = rebalance,
};
