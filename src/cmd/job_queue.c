/* SPDX-License-Identifier: Apache-2.0 */
/* lodge job queue and stats. */
#include "cmd/job_cli.h"

#include "base/size.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "--preemptive" and "--preemptive=no" */
static int put_flag(json_t *object, const char *name, const char *what, const char *text,
                    struct err *err)
{
    if (!text)
        return 0;
    if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
        return err_set(err, -EINVAL, "%s '%.40s' is neither yes nor no", what, text);
    json_object_set_new(object, name, json_boolean(!strcmp(text, "yes")));
    return 0;
}

static int put_memory(json_t *object, const char *text, struct err *err)
{
    uint64_t bytes;
    int r;

    if (!text)
        return 0;
    if ((r = size_parse(text, &bytes, err)) < 0)
        return err_wrap(err, "--memory");
    json_object_set_new(object, "memory_bytes", json_integer((json_int_t)bytes));
    return 0;
}

static int put_cpus(json_t *object, const char *text, struct err *err)
{
    char *end;
    double cpus;

    if (!text)
        return 0;
    cpus = strtod(text, &end);
    if (end == text || *end || !(cpus >= 0 && cpus < 1e9))
        return err_set(err, -EINVAL, "--cpus '%.40s' is not a number of processors", text);
    json_object_set_new(object, "cpus", json_real(cpus));
    return 0;
}

struct words {
    const char *policy, *quantum, *ageing, *slots, *cpus, *memory, *keep, *preemptive, *backfill;
    bool preemptive_flag, backfill_flag, hold, release, json, force;
};

static int make_config(const struct words *w, json_t *config, struct err *err)
{
    int r;

    if (w->policy)
        json_object_set_new(config, "policy", json_string(w->policy));
    if (w->hold || w->release)
        json_object_set_new(config, "hold", json_boolean(w->hold));
    if ((r = job_put_seconds(config, "quantum_s", "--quantum", w->quantum, err)) < 0 ||
        (r = job_put_seconds(config, "ageing_s", "--ageing", w->ageing, err)) < 0 ||
        (r = job_put_whole(config, "slots", "--slots", w->slots, err)) < 0 ||
        (r = job_put_whole(config, "keep", "--keep", w->keep, err)) < 0 ||
        (r = put_cpus(config, w->cpus, err)) < 0 || (r = put_memory(config, w->memory, err)) < 0 ||
        (r = put_flag(config, "preemptive", "--preemptive",
                      w->preemptive_flag ? "yes" : w->preemptive, err)) < 0)
        return r;
    return put_flag(config, "backfill", "--backfill", w->backfill_flag ? "yes" : w->backfill, err);
}

static void print_queues(const json_t *list)
{
    printf("%-16s %-10s %8s %6s %6s %8s  %7s %7s %7s %7s  %s\n", "QUEUE", "POLICY", "QUANTUM",
           "SLOTS", "CPUS", "MEM(MiB)", "QUEUED", "RUNNING", "PAUSED", "ENDED", "");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *queue = json_array_get(list, i), *jobs = json_object_get(queue, "jobs");

        printf("%-16s %-10s %8g %6.0f %6g %8.0f  %7.0f %7.0f %7.0f %7.0f  %s\n",
               job_text(queue, "name"), job_text(queue, "policy"), job_number(queue, "quantum_s"),
               job_number(queue, "slots"), job_number(queue, "cpus"),
               job_number(queue, "memory_bytes") / 1048576, job_number(jobs, "queued"),
               job_number(jobs, "running"), job_number(jobs, "paused"),
               job_number(jobs, "done") + job_number(jobs, "failed") +
                   job_number(jobs, "cancelled"),
               json_is_true(json_object_get(queue, "hold")) ? "held" : "");
    }
}

static int list_queues(const struct words *w)
{
    struct err err = ERR_INIT;
    json_t *answer = NULL;

    if (api_ask("GET", "/v1/queues", NULL, &answer, NULL, &err) < 0)
        return managed_fail(&err);
    if (w->json)
        job_print_json(json_object_get(answer, "queues"));
    else
        print_queues(json_object_get(answer, "queues"));
    json_decref(answer);
    return 0;
}

static int inspect_queue(const char *name)
{
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;
    json_t *answer = NULL;

    managed_path_of(path, "queues", name, "");
    if (api_ask("GET", path, NULL, &answer, NULL, &err) < 0)
        return managed_fail(&err);
    job_print_json(answer);
    json_decref(answer);
    return 0;
}

static int put_queue(const struct words *w, const char *name, bool make)
{
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;
    json_t *config = json_object();

    if (make_config(w, config, &err) < 0) {
        json_decref(config);
        return cli_usage_error(&verb_job, "queue: %s", err.message);
    }
    if (make)
        json_object_set_new(config, "name", json_string(name));
    managed_path_of(path, "queues", name, "");
    if (api_ask(make ? "POST" : "PATCH", make ? "/v1/queues" : path, config, NULL, NULL, &err) < 0)
        return managed_fail(&err);
    if (make)
        puts(name);
    return 0;
}

static int remove_queue(const struct words *w, const char *name)
{
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;

    managed_path_of(path, "queues", name, w->force ? "?force=1" : "");
    return api_ask("DELETE", path, NULL, NULL, NULL, &err) < 0 ? managed_fail(&err) : 0;
}

/* "--preemptive=no" has a value, "--preemptive" none. */
static void split_flags(int argc, char **argv, struct words *w)
{
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--preemptive=", 13))
            w->preemptive = argv[i] + 13;
        else if (!strncmp(argv[i], "--backfill=", 11))
            w->backfill = argv[i] + 11;
        else
            continue;
        argv[i] = argv[i][2] == 'p' ? (char *)(uintptr_t) "--preemptive"
                                    : (char *)(uintptr_t) "--backfill";
    }
}

int job_queue(int argc, char **argv)
{
    struct words w = {0};
    const struct managed_option options[] = {{"--policy", 0, NULL, &w.policy},
                                             {"--quantum", 0, NULL, &w.quantum},
                                             {"--ageing", 0, NULL, &w.ageing},
                                             {"--slots", 0, NULL, &w.slots},
                                             {"--cpus", 0, NULL, &w.cpus},
                                             {"--memory", 0, NULL, &w.memory},
                                             {"--keep", 0, NULL, &w.keep},
                                             {"--preemptive", 0, &w.preemptive_flag, NULL},
                                             {"--backfill", 0, &w.backfill_flag, NULL},
                                             {"--hold", 0, &w.hold, NULL},
                                             {"--release", 0, &w.release, NULL},
                                             {"--json", 0, &w.json, NULL},
                                             {"--force", 'f', &w.force, NULL}};
    const char *command;
    int nr;

    split_flags(argc, argv, &w);
    if ((nr = managed_parse(&verb_job, options, ARRAY_LEN(options), argc, argv)) < 0)
        return CLI_EXIT_USAGE;
    w.preemptive_flag = w.preemptive_flag && !w.preemptive;
    w.backfill_flag = w.backfill_flag && !w.backfill;
    command = nr > 0 ? argv[1] : "";
    if (!strcmp(command, "ls") && nr == 1)
        return list_queues(&w);
    if (nr != 2)
        return cli_usage_error(&verb_job,
                               "queue: ls, or create, update, inspect or rm and the name of a "
                               "queue are needed");
    if (!strcmp(command, "create") || !strcmp(command, "update"))
        return put_queue(&w, argv[2], *command == 'c');
    if (!strcmp(command, "inspect"))
        return inspect_queue(argv[2]);
    if (!strcmp(command, "rm"))
        return remove_queue(&w, argv[2]);
    return cli_usage_error(&verb_job, "queue: '%s' is none of create, ls, inspect, update, rm",
                           command);
}

static void print_stats(const json_t *queue)
{
    const json_t *totals = json_object_get(queue, "totals");

    for (size_t i = 0; i < json_array_size(totals); i++) {
        const json_t *t = json_array_get(totals, i);

        printf("%-16s %-10s %7.0f %7.0f %9.0f %7.0f %11.3f %11.3f %11.3f %11.3f\n",
               job_text(queue, "name"), job_text(t, "policy"), job_number(t, "done"),
               job_number(t, "failed"), job_number(t, "cancelled"), job_number(t, "pauses"),
               job_number(t, "t_total_s"), job_number(t, "t_wait_s"), job_number(t, "mean_wait_s"),
               job_number(t, "mean_turnaround_s"));
    }
}

int job_stats(int argc, char **argv)
{
    bool json = false;
    const struct managed_option options[] = {{"--json", 0, &json, NULL}};
    int nr = managed_parse(&verb_job, options, 1, argc, argv);
    char path[MANAGED_PATH_MAX] = "/v1/queues";
    struct err err = ERR_INIT;
    json_t *answer = NULL, *list;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr > 1)
        return cli_usage_error(&verb_job, "stats: of one queue, or of all");
    if (nr == 1)
        managed_path_of(path, "queues", argv[1], "");
    if (api_ask("GET", path, NULL, &answer, NULL, &err) < 0)
        return managed_fail(&err);
    list = nr == 1 ? json_pack("[O]", answer) : json_incref(json_object_get(answer, "queues"));
    if (json) {
        job_print_json(list);
    } else {
        printf("%-16s %-10s %7s %7s %9s %7s %11s %11s %11s %11s\n", "QUEUE", "POLICY", "DONE",
               "FAILED", "CANCELLED", "PAUSES", "T_TOTAL(s)", "T_WAIT(s)", "MEAN WAIT",
               "MEAN TURN.");
        for (size_t i = 0; i < json_array_size(list); i++)
            print_stats(json_array_get(list, i));
    }
    json_decref(list);
    json_decref(answer);
    return 0;
}
