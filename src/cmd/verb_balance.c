/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge balance --dry-run: which instances would move between hosts, where else each could go, and
 * why not there. A rehearsal by the manager's own rules (policy/balancing.h, policy/placement.h) on
 * hosts from a file, or on this manager's host alone. Nothing is moved.
 */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/managed.h"
#include "cmd/share_options.h"
#include "model/fleet.h"
#include "policy/balancing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define CANDIDATES_MAX 8

struct words {
    const char *hosts, *aim, *host, *threshold, *moves;
    bool dry_run, json;
};

static int read_file(const char *path, struct fleet **ret, struct err *err)
{
    CLEANUP(document_donep) struct document document = {0};
    struct json_at root;
    int r = document_load(path, &document, err);

    if (r < 0)
        return r;
    json_at_root(document.root, &root);
    return fleet_read(&root, ret, err) < 0 ? document_error(&document, err) : 0;
}

/* What the manager here knows, in the form of such a file. */
static int read_manager(struct fleet **ret, struct err *err)
{
    CLEANUP(json_decrefp) json_t *answer = NULL;
    CLEANUP(json_decrefp) json_t *document = NULL;
    char name[65] = "here";
    struct sysinfo info;
    struct json_at root;
    json_t *instances = json_array();
    const json_t *list;
    int r = api_ask("GET", "/v1/instances", NULL, &answer, NULL, err);

    gethostname(name, sizeof(name) - 1);
    name[FLEET_NAME_MAX - 1] = '\0';
    if (r < 0 || sysinfo(&info) < 0) {
        json_decref(instances);
        return r < 0 ? r : err_errno(err, -errno, "look at the host's memory");
    }
    list = json_object_get(answer, "instances");
    for (size_t i = 0; i < json_array_size(list); i++) {
        CLEANUP(json_decrefp) json_t *one = NULL;
        const json_t *resources;
        char path[MANAGED_PATH_MAX];

        managed_path(path, json_string_value(json_object_get(json_array_get(list, i), "id")) ?: "",
                     "");
        if (api_ask("GET", path, NULL, &one, NULL, NULL) < 0)
            continue;
        resources = json_object_get(json_object_get(one, "spec"), "resources");
        json_array_append_new(
            instances,
            json_pack(
                "{s:s%, s:f, s:f, s:s}", "name",
                json_string_value(json_object_get(one, "name")) ?: "",
                MIN(json_string_length(json_object_get(one, "name")), (size_t)FLEET_NAME_MAX - 1),
                "cpus", json_number_value(json_object_get(resources, "reserve_cpu_millis")) / 1000,
                "memory",
                json_number_value(json_object_get(resources, "reserve_memory_bytes")) / MIB, "host",
                name));
    }
    document = json_pack("{s:[{s:s, s:f, s:f}], s:o}", "hosts", "name", name, "cpus",
                         (double)get_nprocs(), "memory",
                         (double)info.totalram * info.mem_unit / MIB, "instances", instances);
    json_at_root(document, &root);
    return fleet_read(&root, ret, err);
}

static int read_config(const struct words *w, const struct fleet *fleet,
                       struct balancing_config *config, struct err *err)
{
    double moves = 0;
    int r = 0;

    if (w->aim && !strcmp(w->aim, "consolidate"))
        config->aim = BALANCING_CONSOLIDATE;
    else if (w->aim && !strcmp(w->aim, "drain"))
        config->aim = BALANCING_DRAIN;
    else if (w->aim && strcmp(w->aim, "spread") != 0)
        return err_set(err, -EINVAL, "--aim '%.40s' is none of spread, consolidate, drain", w->aim);
    if (config->aim == BALANCING_DRAIN) {
        config->host = w->host ? fleet_host(fleet, w->host) : PLACEMENT_NONE;
        if (config->host == PLACEMENT_NONE)
            return err_set(err, -EINVAL, "--host '%.40s': which host is to be emptied?",
                           w->host ? w->host : "");
    }
    if (w->threshold)
        r = real_parse(w->threshold, "--threshold", 0, 1, &config->threshold, err);
    if (r == 0 && w->moves && (r = real_parse(w->moves, "--moves", 1, 1e6, &moves, err)) == 0)
        config->moves_max = (uint32_t)moves;
    return r;
}

/* Where else it could go at this point of the plan, the best first. */
static json_t *candidates_of(const struct fleet *fleet, const struct balancing_move *move)
{
    struct placement_candidate candidates[CANDIDATES_MAX];
    struct placement_need need;
    json_t *rows = json_array();
    size_t nr = 0;

    if (placement_where(fleet->placement, move->instance, &need) == PLACEMENT_NONE)
        return rows;
    need.not_host_plus_1 = move->from + 1;
    if (placement_explain(fleet->placement, &need, candidates, CANDIDATES_MAX, &nr) < 0)
        return rows;
    for (size_t i = 0; i < nr; i++) {
        const struct placement_candidate *c = &candidates[i];
        const char *why = c->host == move->to     ? "chosen: lessens the unevenness most"
                          : c->host == move->from ? "it is there now"
                                                  : placement_verdict_text(c->verdict);

        json_array_append_new(rows, json_pack("{s:s, s:f, s:b, s:s, s:f, s:f}", "host",
                                              fleet->host_names[c->host], "score", c->score, "fits",
                                              c->verdict == PLACEMENT_FITS, "reason", why,
                                              "short_by", c->short_by, "load",
                                              balancing_load(fleet->placement, c->host)));
    }
    return rows;
}

static json_t *report(struct fleet *fleet, const struct balancing_plan *plan)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < plan->nr_moves; i++) {
        const struct balancing_move *m = &plan->moves[i];
        json_t *candidates = candidates_of(fleet, m);

        json_array_append_new(
            rows, json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:i, s:o}", "instance",
                            fleet->kinds[fleet->instance_kinds[m->instance]].name, "from",
                            fleet->host_names[m->from], "to", fleet->host_names[m->to],
                            "from_before", m->from_before, "from_after", m->from_after, "to_before",
                            m->to_before, "to_after", m->to_after, "gain", m->gain, "memory_mib",
                            (int)m->memory_mib, "candidates", candidates));
        /* The next one is judged as it would be then. */
        placement_move(fleet->placement, m->instance, m->to, NULL);
    }
    return json_pack("{s:f, s:f, s:i, s:i, s:i, s:s, s:o}", "spread_before", plan->spread_before,
                     "spread_after", plan->spread_after, "hosts_used_before",
                     (int)plan->hosts_used_before, "hosts_used_after", (int)plan->hosts_used_after,
                     "stuck", (int)plan->stuck, "stops_because", plan->stop ? plan->stop : "",
                     "moves", rows);
}

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)) ?: "";
}

static void print_report(const json_t *answer)
{
    const json_t *moves = json_object_get(answer, "moves");

    for (size_t i = 0; i < json_array_size(moves); i++) {
        const json_t *m = json_array_get(moves, i), *candidates = json_object_get(m, "candidates");

        printf("move %s from %s (load %.3f -> %.3f) to %s (%.3f -> %.3f), %d MiB to copy\n",
               text(m, "instance"), text(m, "from"), number(m, "from_before"),
               number(m, "from_after"), text(m, "to"), number(m, "to_before"),
               number(m, "to_after"), (int)number(m, "memory_mib"));
        for (size_t k = 0; k < json_array_size(candidates); k++) {
            const json_t *c = json_array_get(candidates, k);

            printf("     %-24s score %9.4f  load %.3f  %s\n", text(c, "host"), number(c, "score"),
                   number(c, "load"), text(c, "reason"));
        }
    }
    printf("unevenness (standard deviation of load) %.4f -> %.4f, hosts in use %d -> %d; %s\n",
           number(answer, "spread_before"), number(answer, "spread_after"),
           (int)number(answer, "hosts_used_before"), (int)number(answer, "hosts_used_after"),
           text(answer, "stops_because"));
}

static int balance(const struct words *w, struct err *err)
{
    CLEANUP(fleet_freep) struct fleet *fleet = NULL;
    CLEANUP(json_decrefp) json_t *answer = NULL;
    struct balancing_config config = {.aim = BALANCING_SPREAD};
    struct balancing_plan plan = {0};
    int r = w->hosts ? read_file(w->hosts, &fleet, err) : read_manager(&fleet, err);

    if (r < 0 || (r = fleet_place_all(fleet, err)) < 0 ||
        (r = read_config(w, fleet, &config, err)) < 0 ||
        (r = balancing_plan(fleet->placement, &config, &plan, err)) < 0)
        return r;
    answer = report(fleet, &plan);
    balancing_plan_done(&plan);
    if (w->json) {
        json_dumpf(answer, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_report(answer);
    }
    return 0;
}

static int run(int argc, char **argv)
{
    struct words w = {0};
    const struct managed_option options[] = {
        {"--hosts", 0, NULL, &w.hosts}, {"--aim", 0, NULL, &w.aim},
        {"--host", 0, NULL, &w.host},   {"--threshold", 0, NULL, &w.threshold},
        {"--moves", 0, NULL, &w.moves}, {"--dry-run", 0, &w.dry_run, NULL},
        {"--json", 0, &w.json, NULL}};
    struct err err = ERR_INIT;
    int nr = managed_parse(&verb_balance, options, ARRAY_LEN(options), argc, argv);

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr > 0)
        return cli_usage_error(&verb_balance, "what is '%s'?", argv[1]);
    if (!w.dry_run)
        return cli_usage_error(&verb_balance, "moving between hosts is not there yet: add "
                                              "--dry-run to see what would be moved");
    return balance(&w, &err) < 0 ? managed_fail(&err) : 0;
}

const struct cli_verb verb_balance = {
    .name = "balance",
    .summary = "Says which instances would move between hosts, and why",
    .usage = "balance --dry-run [--hosts FILE] [options]",
    .help = "Without a file: the host of this manager alone, with what its instances have "
            "reserved.\n"
            "  --hosts FILE    hosts and instances as JSON; see `lodge plan` and "
            "docs/planning.md\n"
            "  --aim AIM       spread (even load), consolidate (few hosts), drain (one empty)\n"
            "  --host NAME     of drain: which\n"
            "  --threshold N   of spread: how uneven loads may be, as a standard deviation (0.05)\n"
            "  --moves N       at most\n"
            "  --json          machine-readable\n",
    .run = run,
};
