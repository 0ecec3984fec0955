/* SPDX-License-Identifier: Apache-2.0 */
/* lodge create, exec, attach, update. */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/size.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/life_options.h"
#include "cmd/managed.h"
#include "cmd/share_options.h"
#include "cmd/terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int create(int argc, char **argv)
{
    struct run_options options;
    struct err err = ERR_INIT;
    json_t *made = NULL;
    int result;

    if (run_options_parse(&options, argc, argv, &err) < 0)
        return cli_usage_error(&verb_create, "%s", err.message);
    result = api_ask("POST", "/v1/instances", managed_spec(&options), &made, NULL, &err);
    run_options_done(&options);
    if (result < 0)
        return managed_fail(&err);
    puts(json_string_value(json_object_get(made, "id")) ?: "");
    json_decref(made);
    return 0;
}

/* Options end at the instance: the rest is the program's. */
static int split_at_instance(const struct cli_verb *verb, int argc, char **argv)
{
    static const char *const with_value[] = {"-u", "-w", "-e", "--user", "--workdir", "--env"};
    int i = 1;

    while (i < argc && argv[i][0] == '-' && strcmp(argv[i], "--") != 0) {
        bool takes = false;

        for (size_t j = 0; j < ARRAY_LEN(with_value); j++)
            takes = takes || !strcmp(argv[i], with_value[j]);
        i += takes ? 2 : 1;
    }
    if (i < argc && !strcmp(argv[i], "--"))
        i++;
    if (i >= argc) {
        cli_usage_error(verb, "which instance?");
        return -1;
    }
    return i;
}

static void put_env(json_t *body, const json_t *given, bool tty)
{
    json_t *list = json_array();

    if (tty)
        managed_put_env(list, "TERM");
    for (size_t i = 0; i < json_array_size(given); i++)
        managed_put_env(list, json_string_value(json_array_get(given, i)));
    json_object_set_new(body, "env", list);
}

static int exec(int argc, char **argv)
{
    json_auto_t *given = json_array();
    bool interactive = false, tty = false;
    const char *user = NULL, *cwd = NULL;
    const struct managed_option options[] = {{"--interactive", 'i', &interactive, NULL, NULL},
                                             {"--tty", 't', &tty, NULL, NULL},
                                             {"--env", 'e', NULL, NULL, given},
                                             {"--user", 'u', NULL, &user, NULL},
                                             {"--workdir", 'w', NULL, &cwd, NULL}};
    int at = split_at_instance(&verb_exec, argc, argv), status = 125;
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;
    json_t *body, *command;
    uint16_t rows, cols;
    int fd;

    if (at < 0)
        return CLI_EXIT_USAGE;
    if (at + 1 >= argc)
        return cli_usage_error(&verb_exec, "what is to be run in '%s'?", argv[at]);
    command = json_array();
    for (int i = at + 1; i < argc; i++)
        json_array_append_new(command, json_string(argv[i]));
    managed_path(path, argv[at], "/exec");
    if (managed_parse(&verb_exec, options, ARRAY_LEN(options), at, argv) != 0) {
        json_decref(command);
        return CLI_EXIT_USAGE;
    }
    body = json_pack("{s:o, s:b, s:b}", "command", command, "tty", tty, "stdin", interactive);
    put_env(body, given, tty);
    if (user)
        json_object_set_new(body, "user", json_string(user));
    if (cwd)
        json_object_set_new(body, "cwd", json_string(cwd));
    if (tty && terminal_size(&rows, &cols)) {
        json_object_set_new(body, "rows", json_integer(rows));
        json_object_set_new(body, "cols", json_integer(cols));
    }
    if (api_upgrade(path, body, &fd, &err) < 0 ||
        managed_serve(fd, interactive, tty && interactive, &status, &err) < 0)
        return managed_fail(&err);
    return status;
}

static int attach(int argc, char **argv)
{
    bool no_stdin = false;
    const struct managed_option options[] = {{"--no-stdin", 0, &no_stdin, NULL}};
    int nr = managed_parse(&verb_attach, options, 1, argc, argv), status = 125, fd;
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;
    json_t *instance = NULL;
    const json_t *spec;
    bool tty, interactive;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr != 1)
        return cli_usage_error(&verb_attach, "one instance is needed");
    managed_path(path, argv[1], "");
    if (api_ask("GET", path, NULL, &instance, NULL, &err) < 0)
        return managed_fail(&err);
    spec = json_object_get(instance, "spec");
    tty = json_is_true(json_object_get(spec, "tty"));
    interactive = json_is_true(json_object_get(spec, "stdin")) && !no_stdin;
    json_decref(instance);
    managed_path(path, argv[1], "/attach");
    if (api_upgrade(path, NULL, &fd, &err) < 0 ||
        managed_serve(fd, interactive, tty && interactive, &status, &err) < 0)
        return managed_fail(&err);
    return status;
}

/* What was given, as a number; a message of its own otherwise. */
static int put_number(json_t *object, const char *name, const char *option, const char *given,
                      bool size, struct err *err)
{
    uint64_t number;
    int result;

    if (!given)
        return 0;
    result = size ? size_parse(given, &number, err)
                  : number_parse(given, option, 0, UINT32_MAX, &number, err);
    if (result < 0)
        return result;
    json_object_set_new(object, name, number ? json_integer((json_int_t)number) : json_null());
    return 0;
}

static int update(int argc, char **argv)
{
    const char *memory = NULL, *millis = NULL, *shares = NULL, *pids = NULL, *weight = NULL;
    const char *restart = NULL, *environment = NULL, *cpus = NULL;
    struct share_options share = {0};
    const struct managed_option options[] = {{"--memory", 'm', NULL, &memory},
                                             {"--cpu-millis", 0, NULL, &millis},
                                             {"--cpus", 0, NULL, &cpus},
                                             {"--cpu-shares", 0, NULL, &shares},
                                             {"--pids", 0, NULL, &pids},
                                             {"--io-weight", 0, NULL, &weight},
                                             {"--restart", 0, NULL, &restart},
                                             {"--in", 0, NULL, &environment},
                                             {"--priority", 0, NULL, &share.priority},
                                             {"--alpha", 0, NULL, &share.alpha},
                                             {"--beta", 0, NULL, &share.beta},
                                             {"--cpu-max", 0, NULL, &share.cpu_max},
                                             {"--reserve-cpu", 0, NULL, &share.reserve_cpu},
                                             {"--reserve-memory", 0, NULL, &share.reserve_memory},
                                             {"--cpuset", 0, NULL, &share.cpuset}};
    int nr = managed_parse(&verb_update, options, ARRAY_LEN(options), argc, argv), status = 0;
    json_t *resources = json_object(), *changes = json_object();
    struct err err = ERR_INIT;

    if (nr > 0 &&
        (put_number(resources, "memory_bytes", "--memory", memory, true, &err) < 0 ||
         put_number(resources, "cpu_millis", "--cpu-millis", millis, false, &err) < 0 ||
         put_number(resources, "cpu_shares", "--cpu-shares", shares, false, &err) < 0 ||
         put_number(resources, "pids", "--pids", pids, false, &err) < 0 ||
         put_number(resources, "io_weight", "--io-weight", weight, false, &err) < 0 ||
         put_processors(resources, "cpu_millis", "--cpus", cpus, &err) < 0 ||
         share_options_put(&share, resources, &err) < 0 || restart_put(changes, restart, &err) < 0))
        nr = -2;
    if (json_object_size(resources))
        json_object_set(changes, "resources", resources);
    if (environment)
        json_object_set_new(changes, "environment", json_string(environment));
    json_decref(resources);
    if (nr == -2)
        status = cli_usage_error(&verb_update, "%s", err.message);
    else if (nr < 0)
        status = CLI_EXIT_USAGE;
    else if (nr == 0)
        status = cli_usage_error(&verb_update, "which instance?");
    else if (json_object_size(changes) == 0)
        status = cli_usage_error(&verb_update, "what is to change?");
    for (int i = 1; i <= nr && status == 0; i++) {
        char path[MANAGED_PATH_MAX];

        managed_path(path, argv[i], "");
        if (api_ask("PATCH", path, json_incref(changes), NULL, NULL, &err) < 0)
            status = managed_fail(&err);
    }
    json_decref(changes);
    return status;
}

const struct cli_verb verb_create = {
    .name = "create",
    .summary = "Makes an instance without starting it, and prints its id",
    .usage = "create [options of run] IMAGE|ROOTFS-DIR [CMD [ARG...]]",
    .help = "Options as those of `lodge run`; `lodge start` starts it.\n",
    .run = create,
};

const struct cli_verb verb_exec = {
    .name = "exec",
    .summary = "Runs a further program in an instance that runs",
    .usage = "exec [-it] [--env K=V] [--user USER] [--workdir DIR] INSTANCE PROGRAM [ARG...]",
    .help = "  -i, --interactive    pass our standard input on\n"
            "  -t, --tty            give the program a terminal\n"
            "  -e, --env K=V        environment; -e K passes ours on; may be repeated\n"
            "  -u, --user USER      user, or user:group\n"
            "  -w, --workdir DIR\n"
            "The exit status is the program's.\n",
    .run = exec,
};

const struct cli_verb verb_attach = {
    .name = "attach",
    .summary = "Connects our standard streams to those of an instance",
    .usage = "attach [--no-stdin] INSTANCE",
    .help = "Until it ends; the exit status is its own.\n",
    .run = attach,
};

const struct cli_verb verb_update = {
    .name = "update",
    .summary = "Changes the limits of instances, while they run too",
    .usage = "update [options] INSTANCE...",
    .help = "  -m, --memory SIZE    0: no limit\n"
            "  --cpus N, --cpu-max N\n"
            "                       at most so many processors (0.5; 0: no limit); of a VM\n"
            "                       --cpus is how many it has, changed while it is stopped\n"
            "  --priority N         its weight where processors are scarce\n"
            "  --alpha, --beta N    weight R = alpha * priority + beta * (seconds it ran)\n"
            "  --reserve-cpu N, --reserve-memory SIZE\n"
            "                       guaranteed to it; refused where it cannot be\n"
            "  --cpuset LIST        the processors it may use (0-1,4; empty: any)\n"
            "  --in ENVIRONMENT     moves it there (default: to none)\n"
            "  --cpu-millis N       as --cpus, in thousandths\n"
            "  --cpu-shares N       2 to 262144: as a priority of N/1024\n"
            "  --pids N             processes and threads\n"
            "  --io-weight N        10 to 1000\n"
            "  --restart POLICY     no, on-failure[:N], always, unless-stopped\n",
    .run = update,
};
