/* SPDX-License-Identifier: Apache-2.0 */
/* lodge create, and run through the manager: from options to a specification. */
#include "cmd/managed.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/cli.h"
#include "cmd/remote.h"
#include "cmd/run_volumes.h"
#include "cmd/terminal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void managed_path_of(char ret[MANAGED_PATH_MAX], const char *kind, const char *ref,
                     const char *rest)
{
    CLEANUP(buf_donep) struct buf path;

    buf_init(&path, MANAGED_PATH_MAX - 1);
    buf_printf(&path, "/v1/%s/", kind);
    api_escape(&path, *ref ? ref : " ");
    buf_append_string(&path, rest);
    snprintf(ret, MANAGED_PATH_MAX, "%s", buf_string(&path) ?: "/");
}

void managed_path(char ret[MANAGED_PATH_MAX], const char *ref, const char *rest)
{
    managed_path_of(ret, "instances", ref, rest);
}

int managed_fail(const struct err *err)
{
    log_error("%s", err->message);
    return CLI_EXIT_FAILURE;
}

int managed_list(const char *path, bool all, const struct managed_filter *filters, size_t nr,
                 json_t **ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf query;

    buf_init(&query, 8192);
    buf_printf(&query, "%s?all=%d", path, all);
    for (size_t i = 0; i < nr; i++)
        if (filters[i].value) {
            buf_printf(&query, "&%s=", filters[i].name);
            api_escape(&query, filters[i].value);
        }
    return api_ask("GET", buf_string(&query) ?: "/", NULL, ret, NULL, err);
}

static const struct managed_option *find_long(const struct managed_option *options, size_t nr,
                                              const char *word)
{
    size_t length = strcspn(word, "=");

    for (size_t i = 0; i < nr; i++)
        if (strlen(options[i].name) == length && !strncmp(options[i].name, word, length))
            return &options[i];
    return NULL;
}

static const struct managed_option *find_letter(const struct managed_option *options, size_t nr,
                                                char letter)
{
    for (size_t i = 0; i < nr; i++)
        if (options[i].letter && options[i].letter == letter)
            return &options[i];
    return NULL;
}

/* value: what stands with it in the same word, or NULL. The next word is taken when it needs one.
 */
static int apply(const struct cli_verb *verb, const struct managed_option *option,
                 const char *value, int argc, char **argv, int *at)
{
    if (option->flag) {
        *option->flag = true;
        if (value)
            cli_usage_error(verb, "option '%s' takes no value", option->name);
        return value ? -1 : 0;
    }
    if (!value && !(value = *at + 1 < argc ? argv[++*at] : NULL)) {
        cli_usage_error(verb, "option '%s' needs a value", option->name);
        return -1;
    }
    if (option->list)
        json_array_append_new(option->list, json_string(value));
    else
        *option->value = value;
    return 0;
}

/* -afn3: flags, and last what takes the rest or the next word. */
static int parse_letters(const struct cli_verb *verb, const struct managed_option *options,
                         size_t nr, int argc, char **argv, int *at)
{
    for (const char *c = argv[*at] + 1; *c; c++) {
        const struct managed_option *option = find_letter(options, nr, *c);

        if (!option) {
            cli_usage_error(verb, "unknown option '-%c'", *c);
            return -1;
        }
        if (!option->flag)
            return apply(verb, option, c[1] ? c + 1 : NULL, argc, argv, at);
        *option->flag = true;
    }
    return 0;
}

int managed_parse(const struct cli_verb *verb, const struct managed_option *options, size_t nr,
                  int argc, char **argv)
{
    int kept = 1, result = 0;

    for (int i = 1; i < argc && result == 0; i++) {
        const struct managed_option *option;
        const char *equals;

        if (argv[i][0] != '-' || !argv[i][1]) {
            argv[kept++] = argv[i];
            continue;
        }
        if (!strcmp(argv[i], "--")) {
            while (++i < argc)
                argv[kept++] = argv[i];
            break;
        }
        if (argv[i][1] != '-') {
            result = parse_letters(verb, options, nr, argc, argv, &i);
            continue;
        }
        if (!(option = find_long(options, nr, argv[i]))) {
            cli_usage_error(verb, "unknown option '%s'", argv[i]);
            return -1;
        }
        equals = strchr(argv[i], '=');
        result = apply(verb, option, equals ? equals + 1 : NULL, argc, argv, &i);
    }
    argv[kept] = NULL;
    return result < 0 ? -1 : kept - 1;
}

static void put_string(json_t *object, const char *name, const char *value)
{
    if (value)
        json_object_set_new(object, name, json_string(value));
}

static void put_number(json_t *object, const char *name, uint64_t value)
{
    if (value)
        json_object_set_new(object, name, json_integer((json_int_t)value));
}

void managed_put_env(json_t *list, const char *entry)
{
    if (strchr(entry, '='))
        json_array_append_new(list, json_string(entry));
    else if (getenv(entry))
        json_array_append_new(list, json_sprintf("%s=%s", entry, getenv(entry)));
}

static json_t *environment(const struct run_options *options)
{
    json_t *list = json_array();

    for (size_t i = 0; i < options->nr_env; i++)
        managed_put_env(list, options->env[i]);
    if (options->tty && getenv("TERM"))
        json_array_insert_new(list, 0, json_sprintf("TERM=%s", getenv("TERM")));
    return list;
}

static json_t *volumes(const struct run_options *options)
{
    json_t *list = json_array();

    for (size_t i = 0; i < options->nr_volumes; i++) {
        char source[PATH_MAX];

        /* Without a slash it is a volume's name. */
        if (remote_is_set() || run_volume_is_name(options->volumes[i].source) ||
            !realpath(options->volumes[i].source, source))
            snprintf(source, sizeof(source), "%s", options->volumes[i].source);
        json_array_append_new(list, json_pack("{s:s, s:s, s:b}", "source", source, "target",
                                              options->volumes[i].target, "read_only",
                                              options->volumes[i].read_only));
    }
    return list;
}

static json_t *labels(const struct run_options *options)
{
    json_t *object = json_object();

    for (size_t i = 0; i < options->nr_labels; i++) {
        const char *label = options->labels[i], *equals = strchr(label, '=');
        CLEANUP(freep) char *name = strndup(label, strcspn(label, "="));

        if (name)
            json_object_set_new(object, name, json_string(equals ? equals + 1 : ""));
    }
    return object;
}

/* on-failure:3 */
/* The manager's directory is another: a path is made absolute. One of another host is as it is. */
static void put_image(json_t *spec, const char *image)
{
    char path[PATH_MAX];

    put_string(spec, "image",
               !remote_is_set() && (strchr(image, '/') || !strcmp(image, ".")) &&
                       realpath(image, path)
                   ? path
                   : image);
}

static void put_network(json_t *spec, const struct run_options *options)
{
    json_t *ports = json_array();

    for (size_t i = 0; i < options->nr_ports; i++)
        json_array_append_new(ports, json_string(options->ports[i]));
    /* Else it may be its environment's. */
    if (options->network_given)
        put_string(spec, "network", options->network);
    put_string(spec, "ip", options->address4);
    json_object_set_new(spec, "ports", ports);
}

static void put_limits(json_t *spec, const struct run_options *options)
{
    json_t *resources = json_object();

    put_number(resources, "memory_bytes", options->memory_bytes);
    put_number(resources, "cpu_millis", options->nr_cpus * 1000);
    put_number(resources, "cpu_shares", options->cpu_shares);
    put_number(resources, "pids", options->pids);
    put_number(resources, "io_weight", options->io_weight);
    share_options_put(&options->share, resources, NULL); /* checked as they were parsed */
    json_object_set_new(spec, "resources", resources);
}

json_t *managed_spec(const struct run_options *options)
{
    json_t *spec = json_object(), *command = json_array();

    for (char **word = options->command; *word; word++)
        json_array_append_new(command, json_string(*word));
    put_image(spec, options->image);
    put_string(spec, "name", options->name);
    put_string(spec, "isolation", options->vm ? "vm" : "container");
    json_object_set_new(spec, "command", command);
    json_object_set_new(spec, "env", environment(options));
    json_object_set_new(spec, "volumes", volumes(options));
    json_object_set_new(spec, "labels", labels(options));
    put_string(spec, "cwd", options->cwd);
    put_string(spec, "user", options->user);
    put_string(spec, "hostname", options->hostname);
    put_string(spec, "stop_signal", options->stop_signal);
    if (options->stop_timeout_given)
        json_object_set_new(spec, "stop_timeout_s",
                            json_integer((json_int_t)options->stop_timeout_s));
    if (options->vm) {
        put_string(spec, "engine", options->engine);
        put_string(spec, "kernel", options->kernel);
    }
    put_network(spec, options);
    put_string(spec, "environment", options->environment);
    put_limits(spec, options);
    json_object_set_new(spec, "tty", json_boolean(options->tty));
    json_object_set_new(spec, "stdin", json_boolean(options->stdin_open));
    json_object_set_new(spec, "auto_remove", json_boolean(options->remove));
    (void)restart_put(spec, options->restart, NULL); /* parsed before */
    health_options_put(&options->health, spec);
    return spec;
}

/* What never ran nobody wants to find later; what ran (and failed then) is left to be looked at. */
static void remove_unstarted(const char *id)
{
    json_t *instance = NULL;
    char path[MANAGED_PATH_MAX];
    struct err ignored = ERR_INIT;
    const char *state;

    managed_path(path, id, "");
    if (api_ask("GET", path, NULL, &instance, NULL, &ignored) < 0)
        return;
    state = json_string_value(json_object_get(instance, "state")) ?: "";
    if (!strcmp(state, "created"))
        api_ask("DELETE", path, NULL, NULL, NULL, &ignored);
    json_decref(instance);
}

static int run_attached(const struct run_options *options, const char *id, int *ret_status,
                        struct err *err)
{
    char path[MANAGED_PATH_MAX];
    struct err ignored = ERR_INIT;
    int fd, result;

    managed_path(path, id, "/attach?start=1");
    if ((result = api_upgrade(path, NULL, &fd, err)) == 0)
        result = managed_serve(fd, options->stdin_open, options->tty && options->stdin_open,
                               ret_status, err);
    if (result < 0 || *ret_status)
        remove_unstarted(id);
    if (options->remove) {
        managed_path(path, id, "/wait?condition=removed&timeout=30");
        api_ask("GET", path, NULL, NULL, NULL, &ignored);
    }
    return result;
}

int run_managed(const struct run_options *options, int *ret_status, struct err *err)
{
    json_t *made = NULL;
    char path[MANAGED_PATH_MAX];
    const char *id;
    int result;

    if (options->tty && options->stdin_open && !options->detach && !isatty(STDIN_FILENO))
        return err_set(err, -ENOTTY,
                       "-t with -i needs a terminal as standard input; leave out -t to pipe data "
                       "in");
    if ((result = api_ask("POST", "/v1/instances", managed_spec(options), &made, NULL, err)) < 0)
        return result;
    id = json_string_value(json_object_get(made, "id")) ?: "";
    if (options->detach) {
        managed_path(path, id, "/start");
        if ((result = api_ask_life("POST", path, NULL, ret_status, err)) == 0) {
            puts(id);
            *ret_status = 0;
        } else {
            remove_unstarted(id);
        }
    } else {
        result = run_attached(options, id, ret_status, err);
    }
    json_decref(made);
    return result;
}
