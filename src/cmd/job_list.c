/* SPDX-License-Identifier: Apache-2.0 */
/* lodge job ls, inspect, logs, wait, cancel, update, rm. */
#include "cmd/job_cli.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_seconds(const json_t *job, const char *name)
{
    if (json_is_number(json_object_get(job, name)))
        printf(" %9.2f", job_number(job, name));
    else
        printf(" %9s", "-");
}

static void print_table(const json_t *list)
{
    printf("%-7s %-16s %-12s %-10s %4s %9s %9s %9s  %-14s %s\n", "JOB", "NAME", "QUEUE", "STATE",
           "PRIO", "ESTIMATE", "WAITED", "RAN", "IMAGE", "COMMAND");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *job = json_array_get(list, i);
        char state[32];

        if (!strcmp(job_text(job, "state"), "failed"))
            snprintf(state, sizeof(state), "failed %d", (int)job_number(job, "exit_code"));
        else
            snprintf(state, sizeof(state), "%s", job_text(job, "state"));
        printf("%-7.0f %-16s %-12s %-10s %4.0f", job_number(job, "id"), job_text(job, "name"),
               job_text(job, "queue"), state, job_number(job, "priority"));
        print_seconds(job, "estimate_s");
        print_seconds(job, "waited_s");
        print_seconds(job, "ran_s");
        printf("  %-14s %.60s\n", job_text(job, "image"), job_text(job, "command"));
        if (json_is_string(json_object_get(job, "waits_for")))
            printf("%-7s waits: %s\n", "", job_text(job, "waits_for"));
    }
}

int job_ls(int argc, char **argv)
{
    bool all = false, quiet = false, json = false;
    struct managed_filter filters[] = {
        {"queue", NULL}, {"state", NULL}, {"name", NULL}, {"limit", NULL}};
    const struct managed_option options[] = {{"--all", 'a', &all, NULL},
                                             {"--quiet", 'q', &quiet, NULL},
                                             {"--json", 0, &json, NULL},
                                             {"--queue", 0, NULL, &filters[0].value},
                                             {"--state", 0, NULL, &filters[1].value},
                                             {"--name", 0, NULL, &filters[2].value},
                                             {"--limit", 'n', NULL, &filters[3].value}};
    int nr = managed_parse(&verb_job, options, ARRAY_LEN(options), argc, argv);
    struct err err = ERR_INIT;
    json_t *answer = NULL;
    const json_t *list;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr > 0)
        return cli_usage_error(&verb_job, "ls: what is '%s'? (--name %s filters)", argv[1],
                               argv[1]);
    if (managed_list("/v1/jobs", all, filters, ARRAY_LEN(filters), &answer, &err) < 0)
        return managed_fail(&err);
    list = json_object_get(answer, "jobs");
    if (json) {
        job_print_json(list);
    } else if (quiet) {
        for (size_t i = 0; i < json_array_size(list); i++)
            printf("%.0f\n", job_number(json_array_get(list, i), "id"));
    } else {
        print_table(list);
        if (json_is_integer(json_object_get(answer, "next")))
            puts("and more: --limit shows more at once");
    }
    json_decref(answer);
    return 0;
}

int job_inspect(int argc, char **argv)
{
    bool json = false; /* it always is */
    const struct managed_option options[] = {{"--json", 0, &json, NULL}};
    int nr = managed_parse(&verb_job, options, 1, argc, argv), status = 0;
    json_t *all;

    if (nr <= 0)
        return nr < 0 ? CLI_EXIT_USAGE : cli_usage_error(&verb_job, "inspect: which job?");
    all = json_array();
    for (int i = 1; i <= nr; i++) {
        char path[MANAGED_PATH_MAX];
        struct err err = ERR_INIT;
        json_t *job = NULL;

        managed_path_of(path, "jobs", argv[i], "");
        if (api_ask("GET", path, NULL, &job, NULL, &err) < 0)
            status = managed_fail(&err);
        else
            json_array_append_new(all, job);
    }
    job_print_json(all);
    json_decref(all);
    return status;
}

int job_logs(int argc, char **argv)
{
    struct managed_logs asked;
    int nr = managed_logs_parse(&verb_job, argc, argv, &asked);
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr != 1)
        return cli_usage_error(&verb_job, "logs: one job is needed");
    if (asked.follow) { /* there is nothing to follow before it has started */
        managed_path_of(path, "jobs", argv[1], "/wait?condition=started");
        if (api_ask("GET", path, NULL, NULL, NULL, &err) < 0)
            return managed_fail(&err);
    }
    managed_path_of(path, "jobs", argv[1], asked.rest);
    return managed_logs_print(&asked, path, &err) < 0 ? managed_fail(&err) : 0;
}

/* method PATH/rest of each job named; fn (may be NULL) has each answer. */
static int each(int nr, char **argv, const char *method, const char *rest,
                int (*fn)(const json_t *answer))
{
    int status = 0;

    for (int i = 1; i <= nr; i++) {
        char path[MANAGED_PATH_MAX];
        struct err err = ERR_INIT;
        json_t *answer = NULL;

        managed_path_of(path, "jobs", argv[i], rest);
        if (api_ask(method, path, NULL, &answer, NULL, &err) < 0)
            status = managed_fail(&err);
        else if (fn && fn(answer))
            status = fn(answer);
        json_decref(answer);
    }
    return status;
}

static int exit_status(const json_t *job)
{
    if (job_number(job, "exit_code") != 0)
        return (int)job_number(job, "exit_code");
    return strcmp(job_text(job, "state"), "done") != 0;
}

int job_wait(int argc, char **argv)
{
    const char *timeout = NULL;
    const struct managed_option options[] = {{"--timeout", 0, NULL, &timeout}};
    int nr = managed_parse(&verb_job, options, 1, argc, argv);
    char rest[64];

    if (nr <= 0)
        return nr < 0 ? CLI_EXIT_USAGE : cli_usage_error(&verb_job, "wait: for which job?");
    snprintf(rest, sizeof(rest), "/wait%s%.20s", timeout ? "?timeout=" : "", timeout ?: "");
    return each(nr, argv, "GET", rest, exit_status);
}

int job_cancel(int argc, char **argv)
{
    int nr = managed_parse(&verb_job, NULL, 0, argc, argv);

    if (nr <= 0)
        return nr < 0 ? CLI_EXIT_USAGE : cli_usage_error(&verb_job, "cancel: which job?");
    return each(nr, argv, "POST", "/cancel?wait=60", NULL);
}

int job_rm(int argc, char **argv)
{
    bool force = false;
    const struct managed_option options[] = {{"--force", 'f', &force, NULL}};
    int nr = managed_parse(&verb_job, options, 1, argc, argv);

    if (nr <= 0)
        return nr < 0 ? CLI_EXIT_USAGE : cli_usage_error(&verb_job, "rm: which job?");
    return each(nr, argv, "DELETE", force ? "?force=1" : "", NULL);
}

int job_update(int argc, char **argv)
{
    const char *priority = NULL, *estimate = NULL, *tickets = NULL;
    const struct managed_option options[] = {{"--priority", 0, NULL, &priority},
                                             {"--estimate", 0, NULL, &estimate},
                                             {"--tickets", 0, NULL, &tickets}};
    int nr = managed_parse(&verb_job, options, ARRAY_LEN(options), argc, argv), status = 0;
    json_t *change;
    struct err err = ERR_INIT;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr == 0 || (!priority && !estimate && !tickets))
        return cli_usage_error(&verb_job, "update: a job and what is to change are needed");
    change = json_object();
    if (job_put_whole(change, "priority", "--priority", priority, &err) < 0 ||
        job_put_whole(change, "tickets", "--tickets", tickets, &err) < 0 ||
        job_put_seconds(change, "estimate_s", "--estimate", estimate, &err) < 0) {
        json_decref(change);
        return cli_usage_error(&verb_job, "update: %s", err.message);
    }
    for (int i = 1; i <= nr; i++) {
        char path[MANAGED_PATH_MAX];

        managed_path_of(path, "jobs", argv[i], "");
        if (api_ask("PATCH", path, json_incref(change), NULL, NULL, &err) < 0)
            status = managed_fail(&err);
    }
    json_decref(change);
    return status;
}
