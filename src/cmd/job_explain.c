/* SPDX-License-Identifier: Apache-2.0 */
/* lodge job explain: why a job runs, waits or stands still. All of it is the manager's: the queue's
 * rule, what the rule goes by, the order of those that wait, the decisions with their reasons. */
#include "cmd/job_cli.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/cli.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define DECISIONS_SHOWN 12

static const struct {
    const char *policy, *rule;
} rules[] = {
    {"fcfs", "who came first"},
    {"sjf", "the shortest estimate; who runs is not paused"},
    {"srtf", "the least left to do; a job with less left pauses one with more"},
    {"rr", "whose turn it is, a quantum each"},
    {"priority", "the smallest priority"},
    {"stride", "the smallest pass, which rises by 1 / tickets a quantum"},
    {"lottery", "drawn, by tickets"},
};

static const char *rule_of(const char *policy)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (!strcmp(rules[i].policy, policy))
            return rules[i].rule;
    return "";
}

static void print_queue(const json_t *queue)
{
    const char *policy = job_text(queue, "policy");
    double ageing = job_number(queue, "ageing_s");

    printf("  queue       %s, policy %s: %s", job_text(queue, "name"), policy, rule_of(policy));
    if (!strcmp(policy, "priority"))
        printf(json_is_true(json_object_get(queue, "preemptive"))
                   ? "; a better one pauses a running one"
                   : "; who runs is not paused");
    if (!strcmp(policy, "rr") || !strcmp(policy, "stride") || !strcmp(policy, "lottery"))
        printf("; a quantum is %.6g s", job_number(queue, "quantum_s"));
    if (ageing > 0)
        printf("; each %.6g s of waiting make it one better", ageing);
    printf("\n");
    if (json_is_true(json_object_get(queue, "hold")))
        printf("  hold        the queue starts nothing until it is released\n");
}

static void print_key(const json_t *job)
{
    const json_t *estimate = json_object_get(job, "estimate_s");
    double ran = job_number(job, "ran_s");

    printf("  goes by     priority %.0f, tickets %.0f, ", job_number(job, "priority"),
           job_number(job, "tickets"));
    if (json_is_number(estimate))
        printf("estimate %.6g s (%s), of which %.6g s are left\n", json_number_value(estimate),
               job_text(job, "estimate_from"), fmax(json_number_value(estimate) - ran, 0));
    else
        printf("no estimate: none was given, and nothing like it has run\n");
    printf("  so far      waited %.6g s, ran %.6g s, paused %.0f times\n",
           job_number(job, "waited_s"), ran, job_number(job, "pauses"));
}

/* Its place among those that wait, and who has what it waits for. */
static void print_place(const json_t *job, const json_t *queue)
{
    const json_t *next = json_object_get(queue, "next"), *states = json_object_get(queue, "jobs");
    const char *state = job_text(job, "state");

    if (!strcmp(state, "queued") || !strcmp(state, "paused")) {
        for (size_t i = 0; i < json_array_size(next); i++)
            if (json_number_value(json_array_get(next, i)) == job_number(job, "id"))
                printf("  place       %zu among those that wait for a turn\n", i + 1);
        printf("  others      %.0f run, %.0f wait, %.0f are paused\n",
               job_number(states, "running"), job_number(states, "queued"),
               job_number(states, "paused"));
    }
    if (json_is_string(json_object_get(job, "waits_for")))
        printf("  waits for   room: %s\n", job_text(job, "waits_for"));
    if (*job_text(job, "error"))
        printf("  error       %s\n", job_text(job, "error"));
}

static void print_decisions(const json_t *job)
{
    const json_t *history = json_object_get(job, "history");
    size_t nr = json_array_size(history), i = nr > DECISIONS_SHOWN ? nr - DECISIONS_SHOWN : 0;

    for (bool first = true; i < nr; i++, first = false) {
        const json_t *one = json_array_get(history, i);

        printf("  %-11s %.19s  %-6s %s\n", first ? "decisions" : "", job_text(one, "time"),
               job_text(one, "what"), job_text(one, "why"));
    }
}

int job_explain_one(const char *ref, struct err *err)
{
    CLEANUP(json_decrefp) json_t *job = NULL, *queue = NULL;
    char path[MANAGED_PATH_MAX];
    int r;

    managed_path_of(path, "jobs", ref, "");
    if ((r = api_ask("GET", path, NULL, &job, NULL, err)) < 0)
        return r;
    managed_path_of(path, "queues", job_text(job, "queue"), "");
    if ((r = api_ask("GET", path, NULL, &queue, NULL, err)) < 0)
        return r;
    printf("job %.0f%s%s: %s, %s of image %s\n", job_number(job, "id"),
           *job_text(job, "name") ? " " : "", job_text(job, "name"), job_text(job, "state"),
           job_text(job, "isolation"), job_text(job, "image"));
    print_queue(queue);
    print_key(job);
    print_place(job, queue);
    print_decisions(job);
    if (*job_text(job, "instance"))
        printf("  instance    %s: `lodge explain %s` says what it has of the host\n",
               job_text(job, "instance"), job_text(job, "instance"));
    return 0;
}

int job_explain(int argc, char **argv)
{
    int nr = managed_parse(&verb_job, NULL, 0, argc, argv), status = 0;

    if (nr <= 0)
        return nr < 0 ? CLI_EXIT_USAGE : cli_usage_error(&verb_job, "explain: which job?");
    for (int i = 1; i <= nr; i++) {
        struct err err = ERR_INIT;

        if (job_explain_one(argv[i], &err) < 0)
            status = managed_fail(&err);
    }
    return status;
}
