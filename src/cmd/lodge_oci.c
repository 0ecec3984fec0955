/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge-oci: the OCI command line. Global options, then a verb with its own. Errors go to standard
 * error, and to the file that --log names in the format that --log-format says, as callers of
 * runtimes expect.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/size.h"
#include "base/util.h"
#include "oci/container.h"
#include "oci/spec.h"
#include "oci/state.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>

#define VERSION "0.1.0"

struct global {
    char *root;
    const char *log_path;
    bool log_json;
};

static const char usage[] =
    "Usage: lodge-oci [--root DIR] [--log FILE] [--log-format text|json] VERB [options] [ID]\n"
    "\n"
    "  run     make, start and wait for a container     [-b BUNDLE] [-d] [--pid-file F] "
    "[--console-socket S] [--keep]\n"
    "                                                   [--exit-with-parent] ID\n"
    "  create  make a container, do not start it yet    [-b BUNDLE] [--pid-file F] "
    "[--console-socket S] ID\n"
    "  start   start a created container                ID\n"
    "  kill    send a signal (TERM)                     [--all] ID [SIGNAL]\n"
    "  delete  remove a stopped container               [--force] ID\n"
    "  state   print a container's state as JSON        ID\n"
    "  list    print all containers                     [--format table|json] [-q]\n"
    "  spec    write a default config.json              [-b BUNDLE]\n";

static void write_log(const struct global *global, const char *message)
{
    CLEANUP(fd_closep) int fd = -1;
    CLEANUP(freep) char *line = NULL;
    time_t now = (time_t)(clock_realtime_ns() / NS_PER_S);
    char stamp[40];
    struct tm tm;

    if (!global->log_path)
        return;
    fd = open(global->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (global->log_json) {
        CLEANUP(json_decrefp)
        json_t *json = json_pack("{s:s, s:s, s:s}", "msg", message, "level", "error", "time",
                                 stamp);
        CLEANUP(freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

        if (!text || asprintf(&line, "%s\n", text) < 0)
            line = NULL;
    } else if (asprintf(&line, "time=\"%s\" level=error msg=\"%s\"\n", stamp, message) < 0) {
        line = NULL;
    }
    if (fd >= 0 && line)
        file_write_full(fd, line, strlen(line));
}

static int fail(const struct global *global, const struct err *err)
{
    fprintf(stderr, "lodge-oci: %s\n", err->message);
    write_log(global, err->message);
    return 1;
}

__attribute__((format(printf, 2, 3))) static int usage_error(const struct global *global,
                                                             const char *format, ...)
{
    struct err err = ERR_INIT;
    va_list args;

    va_start(args, format);
    vsnprintf(err.message, sizeof(err.message), format, args);
    va_end(args);
    fail(global, &err);
    fputs("Try 'lodge-oci --help'.\n", stderr);
    return 1;
}

static int parse_signal(const char *text, int *ret)
{
    struct err err;
    uint64_t number;

    if (isdigit((unsigned char)text[0])) {
        if (number_parse(text, "signal", 0, 64, &number, &err) < 0)
            return -EINVAL;
        *ret = (int)number;
        return 0;
    }
    if (strncasecmp(text, "SIG", 3) == 0)
        text += 3;
    for (int i = 1; i < NSIG; i++) {
        const char *name = sigabbrev_np(i);

        if (name && strcasecmp(name, text) == 0) {
            *ret = i;
            return 0;
        }
    }
    return -EINVAL;
}

enum {
    OPTION_PID_FILE = 256,
    OPTION_CONSOLE_SOCKET,
    OPTION_PRESERVE_FDS,
    OPTION_KEEP,
    OPTION_FORMAT,
    OPTION_EXIT_WITH_PARENT,
    OPTION_IGNORED
};

static const struct option verb_options[] = {
    {"bundle", required_argument, NULL, 'b'},
    {"detach", no_argument, NULL, 'd'},
    {"pid-file", required_argument, NULL, OPTION_PID_FILE},
    {"console-socket", required_argument, NULL, OPTION_CONSOLE_SOCKET},
    {"preserve-fds", required_argument, NULL, OPTION_PRESERVE_FDS},
    {"keep", no_argument, NULL, OPTION_KEEP},
    {"exit-with-parent", no_argument, NULL, OPTION_EXIT_WITH_PARENT},
    {"no-pivot", no_argument, NULL, OPTION_IGNORED},
    {"no-new-keyring", no_argument, NULL, OPTION_IGNORED},
    {"force", no_argument, NULL, 'f'},
    {"all", no_argument, NULL, 'a'},
    {"format", required_argument, NULL, OPTION_FORMAT},
    {"quiet", no_argument, NULL, 'q'},
    {NULL, 0, NULL, 0},
};

struct verb_arguments {
    struct container_options container;
    bool force, all, quiet, json;
    char **positional;
    int nr_positional;
};

static int parse_verb(const struct global *global, int argc, char **argv,
                      struct verb_arguments *ret)
{
    struct err err;
    uint64_t number;
    int option;

    *ret = (struct verb_arguments){.container = {.root = global->root, .bundle = "."}};
    optind = 0;
    while ((option = getopt_long(argc, argv, "+b:dfaq", verb_options, NULL)) >= 0)
        switch (option) {
        case 'b':
            ret->container.bundle = optarg;
            break;
        case 'd':
            ret->container.detach = true;
            break;
        case OPTION_PID_FILE:
            ret->container.pid_file = optarg;
            break;
        case OPTION_CONSOLE_SOCKET:
            ret->container.console_socket = optarg;
            break;
        case OPTION_PRESERVE_FDS:
            if (number_parse(optarg, "--preserve-fds", 0, 1024, &number, &err) < 0)
                return fail(global, &err);
            ret->container.preserve_fds = (int)number;
            break;
        case OPTION_KEEP:
            ret->container.keep = true;
            break;
        case OPTION_EXIT_WITH_PARENT:
            ret->container.exit_with_parent = true;
            break;
        case OPTION_IGNORED:
            break;
        case 'f':
            ret->force = true;
            break;
        case 'a':
            ret->all = true;
            break;
        case 'q':
            ret->quiet = true;
            break;
        case OPTION_FORMAT:
            ret->json = strcmp(optarg, "json") == 0;
            break;
        default:
            fputs("Try 'lodge-oci --help'.\n", stderr);
            return 1;
        }
    ret->positional = argv + optind;
    ret->nr_positional = argc - optind;
    if (ret->nr_positional > 0)
        ret->container.id = ret->positional[0];
    return 0;
}

static int print_json(const struct global *global, json_t *json)
{
    struct err err;

    if (json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) < 0 ||
        putchar('\n') < 0 || fflush(stdout) != 0) {
        err_errno(&err, -EIO, "standard output");
        return fail(global, &err);
    }
    return 0;
}

static int verb_list(const struct global *global, const struct verb_arguments *a)
{
    CLEANUP(json_decrefp) json_t *list = NULL;
    struct err err;
    json_t *item;
    size_t i;

    if (container_list(global->root, &list, &err) < 0)
        return fail(global, &err);
    if (a->json)
        return print_json(global, list);
    if (!a->quiet)
        printf("%-24s %-8s %-9s %s\n", "ID", "PID", "STATUS", "BUNDLE");
    json_array_foreach(list, i, item)
    {
        const char *id = json_string_value(json_object_get(item, "id"));

        if (a->quiet)
            puts(id);
        else
            printf("%-24s %-8lld %-9s %s\n", id,
                   (long long)json_integer_value(json_object_get(item, "pid")),
                   json_string_value(json_object_get(item, "status")),
                   json_string_value(json_object_get(item, "bundle")));
    }
    return 0;
}

static int verb_spec(const struct global *global, const struct verb_arguments *a)
{
    CLEANUP(json_decrefp) json_t *spec = oci_spec_default();
    CLEANUP(freep) char *text = spec ? json_dumps(spec, JSON_INDENT(4)) : NULL;
    CLEANUP(fd_closep) int fd = -1;
    CLEANUP(fd_closep) int bundle = open(a->container.bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct err err;

    if (bundle >= 0)
        fd = openat(bundle, "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        err_errno(&err, -errno, "write '%s/config.json'", a->container.bundle);
        return fail(global, &err);
    }
    if (!text || file_write_full(fd, text, strlen(text)) < 0) {
        err_errno(&err, text ? -errno : -ENOMEM, "write '%s/config.json'", a->container.bundle);
        return fail(global, &err);
    }
    return 0;
}

static int verb_state(const struct global *global, const struct verb_arguments *a)
{
    CLEANUP(json_decrefp) json_t *state = NULL;
    struct err err;

    if (container_state(global->root, a->container.id, &state, &err) < 0)
        return fail(global, &err);
    return print_json(global, state);
}

static int verb_run(const struct global *global, const struct verb_arguments *a)
{
    struct err err = ERR_INIT;
    int status = 1;

    /* Whoever started us may be killed: then we are asked to stop, and take the container with us.
     */
    if (container_run(&a->container, &status, &err) < 0)
        return fail(global, &err) > status ? 1 : status;
    return status;
}

static int verb_create(const struct global *global, const struct verb_arguments *a)
{
    struct err err;

    return container_create(&a->container, &err) < 0 ? fail(global, &err) : 0;
}

static int verb_start(const struct global *global, const struct verb_arguments *a)
{
    struct err err;

    return container_start(global->root, a->container.id, &err) < 0 ? fail(global, &err) : 0;
}

static int verb_kill(const struct global *global, const struct verb_arguments *a)
{
    struct err err;
    int number = SIGTERM;

    if (a->nr_positional > 1 && parse_signal(a->positional[1], &number) < 0)
        return usage_error(global, "unknown signal '%s'", a->positional[1]);
    return container_kill(global->root, a->container.id, number, a->all, &err) < 0
               ? fail(global, &err)
               : 0;
}

static int verb_delete(const struct global *global, const struct verb_arguments *a)
{
    struct err err;

    return container_delete(global->root, a->container.id, a->force, &err) < 0 ? fail(global, &err)
                                                                               : 0;
}

static const struct verb {
    const char *name;
    int (*run)(const struct global *global, const struct verb_arguments *a);
    bool needs_id;
} verbs[] = {
    {"run", verb_run, true},    {"create", verb_create, true}, {"start", verb_start, true},
    {"kill", verb_kill, true},  {"delete", verb_delete, true}, {"state", verb_state, true},
    {"list", verb_list, false}, {"spec", verb_spec, false},
};

static int run_verb(const struct global *global, int argc, char **argv)
{
    struct verb_arguments arguments;
    int result;

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(verbs[i].name, argv[0]) != 0)
            continue;
        if ((result = parse_verb(global, argc, argv, &arguments)) != 0)
            return result;
        if (verbs[i].needs_id && !arguments.container.id)
            return usage_error(global, "%s: a container id is needed", argv[0]);
        return verbs[i].run(global, &arguments);
    }
    return usage_error(global, "unknown verb '%s'", argv[0]);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"root", required_argument, NULL, 'r'},       {"log", required_argument, NULL, 'l'},
        {"log-format", required_argument, NULL, 'F'}, {"debug", no_argument, NULL, 'd'},
        {"systemd-cgroup", no_argument, NULL, 's'},   {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},          {NULL, 0, NULL, 0},
    };
    struct global global = {.root = state_default_root()};
    CLEANUP(freep) char *default_root = global.root;
    int option;

    while ((option = getopt_long(argc, argv, "+hv", options, NULL)) >= 0)
        switch (option) {
        case 'r':
            global.root = optarg;
            break;
        case 'l':
            global.log_path = optarg;
            break;
        case 'F':
            global.log_json = strcmp(optarg, "json") == 0;
            break;
        case 'd':
            break;
        case 's':
            return usage_error(&global, "%s: no systemd manages cgroups here; leave the option out",
                               "--systemd-cgroup");
        case 'h':
            fputs(usage, stdout);
            return 0;
        case 'v':
            printf("lodge-oci version %s\nspec: 1.2.0\n", VERSION);
            return 0;
        default:
            fputs("Try 'lodge-oci --help'.\n", stderr);
            return 1;
        }
    if (optind == argc) {
        fputs(usage, stderr);
        return 1;
    }
    return run_verb(&global, argc - optind, argv + optind);
}
