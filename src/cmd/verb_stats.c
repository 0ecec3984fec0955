/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge stats: what managed instances use, by the manager; and what the processors of virtual
 * machines have done that run without it. Those are found by their runs' directories; their
 * monitors are asked over the control socket in there.
 */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/managed.h"
#include "cmd/managed_figures.h"
#include "cmd/managed_stats.h"
#include "cmd/run_dir.h"
#include "cmd/vmm_client.h"
#include "vmm_control.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOP 8 /* exits and instructions shown */

struct stats {
    char **names; /* NULL-terminated; empty: all */
    bool *seen;   /* of each name */
    bool all;     /* figures of scheduler, cgroup and devices, too */
    json_t *array;
};

static int ask(int fd, const char *command, json_int_t cpu, json_t **ret, struct err *err)
{
    json_t *request = json_pack("{s:s}", "command", command);

    if (cpu >= 0)
        json_object_set_new(request, "cpu", json_integer(cpu));
    return vmm_client_ask(fd, request, ret, err);
}

/* {"name", "status": {...}, "cpus": [...]} */
static int machine_ask(const char *name, const char *path, json_t **ret, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    json_t *status = NULL, *cpus = json_array();
    json_int_t nr;
    int r = vmm_client_connect(path, &fd, err);

    if (r == 0)
        r = ask(fd, VMM_CONTROL_STATUS, -1, &status, err);
    nr = json_integer_value(json_object_get(status, "cpus"));
    for (json_int_t i = 0; r == 0 && i < nr; i++) {
        json_t *one = NULL;

        r = ask(fd, VMM_CONTROL_COUNTERS, i, &one, err);
        json_array_append(cpus, json_array_get(json_object_get(one, "cpus"), 0));
        json_decref(one);
    }
    if (r == 0)
        *ret = json_pack("{s:s, s:O, s:O}", "name", name, "status", status, "cpus", cpus);
    json_decref(status);
    json_decref(cpus);
    return r;
}

static bool wanted(struct stats *stats, const char *name)
{
    bool found = !stats->names[0];

    for (size_t i = 0; stats->names[i]; i++)
        if (!strcmp(stats->names[i], name))
            found = stats->seen[i] = true;
    return found;
}

static void machine_add(const char *id, const char *path, void *context)
{
    struct stats *stats = context;
    char control[PATH_MAX];
    struct err err = ERR_INIT;
    json_t *machine = NULL;

    snprintf(control, sizeof(control), "%s/control", path);
    if (access(control, F_OK) < 0 || !wanted(stats, id))
        return; /* a container, or a machine not yet made */
    if (machine_ask(id, control, &machine, &err) < 0)
        log_warning("%s: %s", id, err.message);
    else
        json_array_append_new(stats->array, machine);
}

static json_int_t number(const json_t *object, const char *group, const char *name)
{
    const json_t *members = group ? json_object_get(object, group) : object;

    return json_integer_value(json_object_get(members, name));
}

static void row(const json_t *cpus, const char *title, const char *group, const char *name)
{
    json_int_t sum = 0;

    for (size_t i = 0; i < json_array_size(cpus); i++)
        sum += number(json_array_get(cpus, i), group, name);
    printf("  %-28s %15lld", title, (long long)sum);
    for (size_t i = 0; json_array_size(cpus) > 1 && i < json_array_size(cpus); i++)
        printf(" %15lld", (long long)number(json_array_get(cpus, i), group, name));
    putchar('\n');
}

/* The group's members by the sum over all vCPUs, highest first. */
static void top_rows(const json_t *cpus, const char *title, const char *group)
{
    json_t *sums = json_object(), *member;
    const char *name;

    for (size_t i = 0; i < json_array_size(cpus); i++) {
        json_t *members = json_object_get(json_array_get(cpus, i), group);

        json_object_foreach(members, name, member) json_object_set_new(
            sums, name, json_integer(json_integer_value(member) + number(sums, NULL, name)));
    }
    for (unsigned i = 0; i < TOP; i++) {
        const char *most = NULL;
        char text[64];

        json_object_foreach(sums, name, member) if (json_integer_value(member) >
                                                    (most ? number(sums, NULL, most) : 0))
            most = name;
        if (!most)
            break;
        snprintf(text, sizeof(text), "%s %s", title, most);
        row(cpus, text, group, most);
        json_object_del(sums, most);
    }
    json_decref(sums);
}

static void machine_print(const json_t *machine)
{
    static const struct {
        const char *title, *group, *name;
    } rows[] = {
        {"instructions translated", "code", "instructions"},
        {"instructions interpreted", NULL, "instructions"},
        {"blocks decoded", NULL, "blocks_decoded"},
        {"blocks translated", NULL, "blocks_translated"},
        {"blocks invalidated", NULL, "blocks_invalidated"},
        {"code cache flushes", "code", "flushes"},
        {"code cache bytes", "code", "used_bytes"},
        {"code cache cap", "code", "cap_bytes"},
        {"exits of translated code", NULL, "translated_exits"},
        {"pages cached for it", NULL, "translated_fills"},
        {"handed back to interpreter", NULL, "translated_handbacks"},
        {"TLB misses", NULL, "tlb_misses"},
        {"TLB flushes", NULL, "tlb_flushes"},
        {"exceptions", NULL, "exceptions"},
        {"interrupts", NULL, "interrupts"},
        {"port accesses", NULL, "io_accesses"},
        {"device memory accesses", NULL, "mmio_accesses"},
        {"halts", NULL, "halts"},
    };
    const json_t *status = json_object_get(machine, "status");
    const json_t *cpus = json_object_get(machine, "cpus");
    json_int_t uptime = number(status, NULL, "uptime_ms");

    printf("%s: %s, engine %s, process %lld, up %lld.%lld s, memory %lld MiB\n",
           json_string_value(json_object_get(machine, "name")),
           json_string_value(json_object_get(status, "state")),
           json_string_value(json_object_get(status, "engine")),
           (long long)number(status, NULL, "pid"), (long long)uptime / 1000,
           (long long)uptime % 1000 / 100,
           (long long)number(status, NULL, "memory_bytes") / (long long)MIB);
    if (json_array_size(cpus) > 1) {
        printf("  %-28s %15s", "", "all");
        for (size_t i = 0; i < json_array_size(cpus); i++)
            printf("          vCPU %2zu", i);
        putchar('\n');
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        row(cpus, rows[i].title, rows[i].group, rows[i].name);
    top_rows(cpus, "exit", "exits");
    top_rows(cpus, "handed back", "handbacks");
}

/* Keeps of the managed ones those that were named (all, without names). */
static void select_managed(struct stats *stats, json_t *managed)
{
    for (size_t i = json_array_size(managed); stats->names[0] && i-- > 0;) {
        const json_t *one = json_array_get(managed, i);
        const char *name = json_string_value(json_object_get(one, "name")) ?: "";
        const char *id = json_string_value(json_object_get(one, "id")) ?: "";
        bool wanted = false;

        for (size_t j = 0; stats->names[j]; j++)
            if (!strcmp(stats->names[j], name) || !strcmp(stats->names[j], id))
                wanted = stats->seen[j] = true;
        if (!wanted)
            json_array_remove(managed, i);
    }
}

static int check_seen(const struct stats *stats, struct err *err)
{
    for (size_t i = 0; stats->names[i]; i++)
        if (!stats->seen[i])
            return err_set(err, -ENOENT, "nothing named '%s' is running%s", stats->names[i],
                           geteuid() == 0 ? ""
                                          : " that is counted (without root a container is not: "
                                            "it has no cgroup of its own)");
    return 0;
}

static int show(struct stats *stats, bool json, struct err *err)
{
    CLEANUP(json_decrefp) json_t *managed = NULL;
    int r = managed_stats_ask(&managed, err);

    if (r < 0)
        return r;
    select_managed(stats, managed);
    if (stats->all)
        managed_figures_add(managed);
    if ((r = run_dir_each(machine_add, stats, err)) < 0 || (r = check_seen(stats, err)) < 0)
        return r;
    if (json) {
        json_array_extend(managed, stats->array);
        json_dumpf(managed, stdout, JSON_INDENT(2));
        putchar('\n');
        return 0;
    }
    managed_stats_print(managed, NULL, 0);
    managed_figures_print(managed);
    for (size_t i = 0; i < json_array_size(stats->array); i++)
        machine_print(json_array_get(stats->array, i));
    if (!json_array_size(managed) && !json_array_size(stats->array))
        puts(geteuid() ? "nothing is running whose use can be seen (a container's: as root alone)"
                       : "nothing is running");
    return 0;
}

/* Managed instances alone, once a second, to the end of the last named one or of our reader. */
static int follow(struct stats *stats, bool json, struct err *err)
{
    CLEANUP(json_decrefp) json_t *before = NULL;
    uint64_t before_ns = 0;

    for (bool first = true;; first = false) {
        uint64_t now_ns = clock_monotonic_ns();
        json_t *now = NULL;
        int r = managed_stats_ask(&now, err);

        if (r < 0)
            return r;
        select_managed(stats, now);
        if (first && (r = check_seen(stats, err)) < 0) {
            json_decref(now);
            return r;
        }
        if (stats->all)
            managed_figures_add(now);
        if (json) {
            json_dumpf(now, stdout, JSON_COMPACT);
            putchar('\n');
        } else {
            fputs(isatty(STDOUT_FILENO) ? "\033[H\033[J" : first ? "" : "\n", stdout);
            managed_stats_print(now, before, (double)(now_ns - before_ns) / 1e9);
            managed_figures_print(now);
        }
        json_decref(before);
        before = now;
        before_ns = now_ns;
        if (fflush(stdout) != 0 || !json_array_size(now))
            return 0;
        usleep(1000000);
    }
}

static int run(int argc, char **argv)
{
    CLEANUP(json_decrefp) json_t *array = json_array();
    struct stats stats = {.array = array};
    struct err err = ERR_INIT;
    CLEANUP(freep) char **names = calloc((size_t)argc + 1, sizeof(*names));
    CLEANUP(freep) bool *seen = calloc((size_t)argc + 1, sizeof(*seen));
    bool json = false, following = false, all = false;
    const struct managed_option options[] = {{"--json", 0, &json, NULL},
                                             {"--follow", 'f', &following, NULL},
                                             {"--all", 'a', &all, NULL}};
    int nr = managed_parse(&verb_stats, options, ARRAY_LEN(options), argc, argv), r;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (!names || !seen || !array)
        return CLI_EXIT_FAILURE;
    memcpy(names, argv + 1, (size_t)nr * sizeof(*names));
    stats.names = names;
    stats.seen = seen;
    stats.all = all;
    r = following ? follow(&stats, json, &err) : show(&stats, json, &err);
    if (r < 0)
        log_error("%s", err.message);
    return r < 0 ? CLI_EXIT_FAILURE : 0;
}

const struct cli_verb verb_stats = {
    .name = "stats",
    .summary = "Says what running instances use, and what virtual processors have done",
    .usage = "stats [--json] [--all] [--follow] [NAME...]",
    .help =
        "NAME is an instance's name or id, or the name of a run; all that run without one.\n"
        "Of managed instances: processor time, time held up by a cap, memory and its limit,\n"
        "processes, network and disk traffic (of a virtual machine as its guest counts it).\n"
        "Of machines that `lodge run` runs by itself, since their start: instructions that\n"
        "were translated, blocks, exits of translated code by reason and by instruction,\n"
        "interrupts; for all vCPUs and for each.\n"
        "  -f, --follow   of managed instances: again every second, with the share of a\n"
        "                 processor\n"
        "  -a, --all      of managed instances: also the time that they waited for a processor\n"
        "                 (WAIT) and were stopped by a cap (HELD, and in how many periods),\n"
        "                 the part of time in which a task stalled (PSI), reclaim of memory,\n"
        "                 requests to block devices\n"
        "  --json         all figures, one JSON array (with --follow: one a line)\n",
    .run = run,
};
