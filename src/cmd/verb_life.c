/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs that move instances through their lives: one request for each that is named. */
#include "cmd/cli.h"

#include "base/log.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/managed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each of the named ones; goes on after a failure, whose exit status it has: the last one's. */
static int for_each(int nr, char **names, const char *method, const char *rest, json_t *body)
{
    int status = 0;

    for (int i = 1; i <= nr; i++) {
        int code = CLI_EXIT_FAILURE;
        char path[MANAGED_PATH_MAX];
        struct err err = ERR_INIT;

        managed_path(path, names[i], rest);
        if (api_ask_life(method, path, json_incref(body), &code, &err) < 0) {
            managed_fail(&err);
            status = code;
        } else {
            puts(names[i]);
        }
    }
    json_decref(body);
    return status;
}

static int simple(const struct cli_verb *verb, int argc, char **argv, const char *rest)
{
    int nr = managed_parse(verb, NULL, 0, argc, argv);

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr == 0)
        return cli_usage_error(verb, "which instance?");
    return for_each(nr, argv, "POST", rest, NULL);
}

static int start(int argc, char **argv)
{
    return simple(&verb_start, argc, argv, "/start");
}

static int pause_them(int argc, char **argv)
{
    return simple(&verb_pause, argc, argv, "/pause");
}

static int resume(int argc, char **argv)
{
    return simple(&verb_resume, argc, argv, "/resume");
}

/* Numbers are checked by the manager, too; this is for the message. */
static json_t *put_seconds(json_t *body, const char *text)
{
    char *end;
    long seconds = strtol(text, &end, 10);

    json_object_set_new(body, "timeout_s",
                        end == text || *end ? json_string(text) : json_integer(seconds));
    return body;
}

static int stop_like(const struct cli_verb *verb, int argc, char **argv, const char *rest)
{
    const char *timeout = NULL, *signal_name = NULL;
    const struct managed_option options[] = {{"--time", 't', NULL, &timeout},
                                             {"--signal", 's', NULL, &signal_name}};
    int nr = managed_parse(verb, options, ARRAY_LEN(options), argc, argv);
    json_t *body;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr == 0)
        return cli_usage_error(verb, "which instance?");
    body = json_object();
    if (timeout)
        put_seconds(body, timeout);
    if (signal_name)
        json_object_set_new(body, "signal", json_string(signal_name));
    return for_each(nr, argv, "POST", rest, body);
}

static int stop(int argc, char **argv)
{
    return stop_like(&verb_stop, argc, argv, "/stop");
}

static int restart(int argc, char **argv)
{
    return stop_like(&verb_restart, argc, argv, "/restart");
}

static int kill_them(int argc, char **argv)
{
    const char *signal_name = "KILL";
    const struct managed_option options[] = {{"--signal", 's', NULL, &signal_name}};
    int nr = managed_parse(&verb_kill, options, ARRAY_LEN(options), argc, argv);

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr == 0)
        return cli_usage_error(&verb_kill, "which instance?");
    return for_each(nr, argv, "POST", "/kill", json_pack("{s:s}", "signal", signal_name));
}

static int remove_them(int argc, char **argv)
{
    bool force = false;
    const struct managed_option options[] = {{"--force", 'f', &force, NULL}};
    int nr = managed_parse(&verb_rm, options, ARRAY_LEN(options), argc, argv);

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr == 0)
        return cli_usage_error(&verb_rm, "which instance?");
    return for_each(nr, argv, "DELETE", force ? "?force=1" : "", NULL);
}

/* Its exit status is the last one's. */
static int wait_for(int argc, char **argv)
{
    const char *condition = "exited", *timeout = "86400";
    const struct managed_option options[] = {{"--condition", 0, NULL, &condition},
                                             {"--timeout", 0, NULL, &timeout}};
    int nr = managed_parse(&verb_wait, options, ARRAY_LEN(options), argc, argv), status = 0;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr == 0)
        return cli_usage_error(&verb_wait, "which instance?");
    for (int i = 1; i <= nr; i++) {
        char path[MANAGED_PATH_MAX], rest[160];
        struct err err = ERR_INIT;
        json_t *answer = NULL;
        int code = 0;

        snprintf(rest, sizeof(rest), "/wait?condition=%.60s&timeout=%.60s", condition, timeout);
        managed_path(path, argv[i], rest);
        if (api_ask("GET", path, NULL, &answer, &code, &err) < 0) {
            if (code == 504)
                err_set(&err, -ETIMEDOUT, "'%s' %s %s within %s s", argv[i],
                        !strcmp(condition, "exited") ? "has not" : "was not", condition, timeout);
            status = managed_fail(&err);
        } else {
            printf("%lld\n", (long long)json_integer_value(json_object_get(answer, "exit_code")));
        }
        json_decref(answer);
    }
    return status;
}

static int rename_one(int argc, char **argv)
{
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;
    int nr = managed_parse(&verb_rename, NULL, 0, argc, argv);

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr != 2)
        return cli_usage_error(&verb_rename, "an instance and its new name are needed");
    managed_path(path, argv[1], "");
    if (api_ask("PATCH", path, json_pack("{s:s}", "name", argv[2]), NULL, NULL, &err) < 0)
        return managed_fail(&err);
    return 0;
}

const struct cli_verb verb_start = {
    .name = "start",
    .summary = "Starts instances",
    .usage = "start INSTANCE...",
    .help = "What they wrote before is still there. INSTANCE is a name, an id, or the beginning of "
            "an id.\n",
    .run = start,
};

const struct cli_verb verb_stop = {
    .name = "stop",
    .summary = "Ends instances: politely, then not",
    .usage = "stop [--time SECONDS] [--signal SIGNAL] INSTANCE...",
    .help = "  -t, --time SECONDS   until it is killed (10, or what it was made with)\n"
            "  -s, --signal SIGNAL  TERM, or what it was made with\n",
    .run = stop,
};

const struct cli_verb verb_restart = {
    .name = "restart",
    .summary = "Stops instances and starts them again",
    .usage = "restart [--time SECONDS] [--signal SIGNAL] INSTANCE...",
    .help = "Options as those of `lodge stop`.\n",
    .run = restart,
};

const struct cli_verb verb_pause = {
    .name = "pause",
    .summary = "Lets instances stand still",
    .usage = "pause INSTANCE...",
    .help = "Nothing in them runs until `lodge resume`.\n",
    .run = pause_them,
};

const struct cli_verb verb_resume = {
    .name = "resume",
    .summary = "Lets paused instances go on",
    .usage = "resume INSTANCE...",
    .help = "",
    .run = resume,
};

const struct cli_verb verb_kill = {
    .name = "kill",
    .summary = "Sends a signal to instances",
    .usage = "kill [--signal SIGNAL] INSTANCE...",
    .help = "  -s, --signal SIGNAL  KILL, unless another is named\n",
    .run = kill_them,
};

const struct cli_verb verb_rm = {
    .name = "rm",
    .summary = "Removes instances and what they have written",
    .usage = "rm [--force] INSTANCE...",
    .help = "  -f, --force  those that run, too: they are killed\n",
    .run = remove_them,
};

const struct cli_verb verb_wait = {
    .name = "wait",
    .summary = "Waits until instances have ended, and prints their exit status",
    .usage = "wait [--condition exited|running|healthy|removed] [--timeout SECONDS] INSTANCE...",
    .help = "",
    .run = wait_for,
};

const struct cli_verb verb_rename = {
    .name = "rename",
    .summary = "Gives an instance another name",
    .usage = "rename INSTANCE NAME",
    .help = "",
    .run = rename_one,
};
