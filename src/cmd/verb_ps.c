/* SPDX-License-Identifier: Apache-2.0 */
/* lodge ps, inspect, top: what there is. */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/managed.h"
#include "cmd/managed_figures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)) ?: "";
}

/* "3 minutes" of an RFC 3339 time until now. */
static void age(const char *when, char *to, size_t size)
{
    static const struct {
        long seconds;
        const char *name;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    struct tm utc = {0};
    long seconds;

    *to = '\0';
    if (!strptime(when, "%Y-%m-%dT%H:%M:%S", &utc))
        return;
    seconds = (long)(time(NULL) - timegm(&utc));
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (seconds >= units[i].seconds) {
            long nr = seconds / units[i].seconds;

            snprintf(to, size, "%ld %s%s", nr, units[i].name, nr == 1 ? "" : "s");
            return;
        }
    snprintf(to, size, "now");
}

static void status_of(const json_t *instance, char *to, size_t size)
{
    const char *state = text(instance, "state"), *health = text(instance, "health");
    char since[40];

    if (!strcmp(state, "running")) {
        age(text(instance, "started"), since, sizeof(since));
        snprintf(to, size, "running %s%s%s%s", since, strcmp(health, "none") ? " (" : "",
                 strcmp(health, "none") ? health : "", strcmp(health, "none") ? ")" : "");
    } else if (!strcmp(state, "exited")) {
        age(text(instance, "finished"), since, sizeof(since));
        snprintf(to, size, "exited (%lld) %s%s",
                 (long long)json_integer_value(json_object_get(instance, "exit_code")),
                 !strcmp(since, "now") ? "just " : "", since);
        if (*since && strcmp(since, "now") != 0)
            strncat(to, " ago", size - strlen(to) - 1);
    } else {
        snprintf(to, size, "%s", state);
    }
}

static void print_table(const json_t *list)
{
    printf("%-12s  %-20s %-9s  %-16s %-30s %s\n", "ID", "NAME", "ISOLATION", "IMAGE", "STATUS",
           "COMMAND");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *instance = json_array_get(list, i);
        char status[80];

        status_of(instance, status, sizeof(status));
        printf("%-12s  %-20s %-9s  %-16s %-30s %.60s\n", text(instance, "id"),
               text(instance, "name"), text(instance, "isolation"), text(instance, "image"), status,
               text(instance, "command"));
    }
}

static int ps(int argc, char **argv)
{
    bool all = false, quiet = false, json = false;
    struct managed_filter filters[] = {
        {"label", NULL}, {"state", NULL}, {"name", NULL}, {"isolation", NULL}};
    const struct managed_option options[] = {{"--all", 'a', &all, NULL},
                                             {"--quiet", 'q', &quiet, NULL},
                                             {"--json", 0, &json, NULL},
                                             {"--label", 'l', NULL, &filters[0].value},
                                             {"--state", 0, NULL, &filters[1].value},
                                             {"--name", 0, NULL, &filters[2].value},
                                             {"--isolation", 0, NULL, &filters[3].value}};
    int nr = managed_parse(&verb_ps, options, ARRAY_LEN(options), argc, argv);
    struct err err = ERR_INIT;
    json_t *answer = NULL;
    const json_t *list;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr > 0)
        return cli_usage_error(&verb_ps, "what is '%s'? (--name %s filters)", argv[1], argv[1]);
    if (managed_list("/v1/instances", all, filters, ARRAY_LEN(filters), &answer, &err) < 0)
        return managed_fail(&err);
    list = json_object_get(answer, "instances");
    if (json) {
        json_dumpf(list, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (quiet) {
        for (size_t i = 0; i < json_array_size(list); i++)
            puts(text(json_array_get(list, i), "id"));
    } else {
        print_table(list);
    }
    json_decref(answer);
    return 0;
}

static int inspect(int argc, char **argv)
{
    bool json = false; /* it always is */
    const struct managed_option options[] = {{"--json", 0, &json, NULL}};
    int nr = managed_parse(&verb_inspect, options, 1, argc, argv), status = 0;
    json_t *all = json_array();

    if (nr <= 0) {
        json_decref(all);
        return nr < 0 ? CLI_EXIT_USAGE : cli_usage_error(&verb_inspect, "which instance?");
    }
    for (int i = 1; i <= nr; i++) {
        char path[MANAGED_PATH_MAX];
        struct err err = ERR_INIT;
        json_t *one = NULL;

        managed_path(path, argv[i], "");
        if (api_ask("GET", path, NULL, &one, NULL, &err) < 0)
            status = managed_fail(&err);
        else
            json_array_append_new(all, one);
    }
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
    return status;
}

static void print_processes(const json_t *list)
{
    printf("%8s %10s %10s  %s\n", "PID", "CPU ms", "MEM KiB", "COMMAND");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *p = json_array_get(list, i);

        printf("%8lld %10lld %10lld  %s\n",
               (long long)json_integer_value(json_object_get(p, "pid")),
               (long long)json_integer_value(json_object_get(p, "cpu_ms")),
               (long long)json_integer_value(json_object_get(p, "resident_bytes")) / 1024,
               text(p, "command"));
    }
}

/* What is counted of the whole instance; NULL after an error that was told. */
static json_t *whole(const char *ref)
{
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;
    json_t *instance = NULL, *list;

    managed_path(path, ref, "");
    if (api_ask("GET", path, NULL, &instance, NULL, &err) < 0) {
        managed_fail(&err);
        return NULL;
    }
    list = json_pack("[o]", instance);
    managed_figures_add(list);
    return list;
}

static int top(int argc, char **argv)
{
    bool json = false, all = false;
    const struct managed_option options[] = {{"--json", 0, &json, NULL},
                                             {"--all", 'a', &all, NULL}};
    int nr = managed_parse(&verb_top, options, 2, argc, argv);
    CLEANUP(json_decrefp) json_t *figures = NULL;
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;
    json_t *answer = NULL;
    const json_t *list;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr != 1)
        return cli_usage_error(&verb_top, "one instance is needed");
    managed_path(path, argv[1], "/top");
    if (api_ask("GET", path, NULL, &answer, NULL, &err) < 0)
        return managed_fail(&err);
    if (all && !(figures = whole(argv[1]))) {
        json_decref(answer);
        return CLI_EXIT_FAILURE;
    }
    list = json_object_get(answer, "processes");
    if (json) {
        if (all)
            json_object_set(answer, "figures",
                            json_object_get(json_array_get(figures, 0), "figures"));
        json_dumpf(all ? answer : list, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        managed_figures_print(figures);
        print_processes(list);
    }
    json_decref(answer);
    return 0;
}

const struct cli_verb verb_ps = {
    .name = "ps",
    .summary = "Lists instances: containers and virtual machines",
    .usage = "ps [--all] [--quiet] [--json] [filters]",
    .help = "  -a, --all            those that do not run, too\n"
            "  -q, --quiet          ids alone\n"
            "  --json               everything there is to know, as JSON\n"
            "  -l, --label K[=V]    those with this label\n"
            "  --name TEXT          those with TEXT in their names\n"
            "  --state STATE        created, running, paused, exited, ...\n"
            "  --isolation KIND     container or vm\n",
    .run = ps,
};

const struct cli_verb verb_inspect = {
    .name = "inspect",
    .summary = "Prints all about instances, as JSON",
    .usage = "inspect INSTANCE...",
    .help = "",
    .run = inspect,
};

const struct cli_verb verb_top = {
    .name = "top",
    .summary = "Lists the processes of an instance",
    .usage = "top [--json] [--all] INSTANCE",
    .help = "Of a virtual machine as its guest's agent sees them.\n"
            "  -a, --all   first the figures of the whole: see lodge help stats\n"
            "  --json      the processes; with --all, an object with them and the figures\n",
    .run = top,
};
