/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge volume: makes, lists, describes and removes volumes. The manager is asked where there is
 * one: its instances may use a volume while they do not run.
 */
#include "cmd/cli.h"

#include "base/log.h"
#include "base/size.h"
#include "cmd/api_client.h"
#include "cmd/shared_api.h"
#include "volume/volume.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 64

struct arguments {
    const char *names[NAMES_MAX];
    unsigned nr_names;
    bool json;
    uint64_t size_bytes;
};

#define VOLUMES "/v1/volumes"

static bool by_manager(bool wake, json_t **ret)
{
    return shared_by_manager(VOLUMES, volume_directory(), false, wake && !getenv("LODGE_VOLUMES"),
                             ret);
}

static void add_one(const struct volume *volume, void *context)
{
    json_array_append_new(context, volume_json(volume));
}

/* All volumes as a JSON list; a new reference. */
static int list_all(json_t **ret, struct err *err)
{
    json_t *answer, *array;
    int r;

    if (by_manager(false, &answer)) {
        *ret = json_incref(json_object_get(answer, "volumes"));
        json_decref(answer);
        return 0;
    }
    array = json_array();
    if ((r = volume_each(NULL, add_one, array, err)) < 0) {
        json_decref(array);
        return r;
    }
    *ret = array;
    return 0;
}

static void put_path(struct buf *path, const char *name)
{
    buf_init(path, 1024);
    buf_append_string(path, VOLUMES "/");
    api_escape(path, name);
}

static int do_create(const struct arguments *a, struct err *err)
{
    json_t *body;
    int r;

    if (by_manager(false, NULL)) {
        body = json_pack("{s:s}", "name", a->names[0]);
        if (a->size_bytes)
            json_object_set_new(body, "size_bytes", json_integer((json_int_t)a->size_bytes));
        r = api_ask("POST", VOLUMES, body, NULL, NULL, err);
    } else {
        r = volume_create(NULL, a->names[0], a->size_bytes, err);
    }
    if (r == 0)
        printf("%s\n", a->names[0]);
    return r;
}

static void print_row(const json_t *volume)
{
    json_int_t size = json_integer_value(json_object_get(volume, "size_bytes"));
    json_int_t used = json_integer_value(json_object_get(volume, "used_bytes"));
    const char *users = json_string_value(json_object_get(volume, "users")) ?: "";
    char text[32] = "-";

    if (size)
        snprintf(text, sizeof(text), "%lld", (long long)size >> 10);
    printf("%-24s %12s %12lld %s%s%s\n", json_string_value(json_object_get(volume, "name")) ?: "",
           text, (long long)used >> 10,
           json_is_true(json_object_get(volume, "in_use")) ? "in use" : "-", *users ? ": " : "",
           users);
}

static int do_ls(const struct arguments *a, struct err *err)
{
    char heading[80];

    snprintf(heading, sizeof(heading), "%-24s %12s %12s %s", "VOLUME", "SIZE (KiB)", "USED (KiB)",
             "STATE");
    return shared_ls(list_all, a->json, heading, print_row, err);
}

static int do_inspect(const struct arguments *a, struct err *err)
{
    json_t *array = json_array(), *answer;
    bool manager = by_manager(false, NULL);
    struct volume volume;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < a->nr_names; i++) {
        CLEANUP(buf_donep) struct buf path;

        put_path(&path, a->names[i]);
        if (manager &&
            (r = api_ask("GET", buf_string(&path) ?: "/", NULL, &answer, NULL, err)) == 0)
            json_array_append_new(array, answer);
        else if (!manager && (r = volume_find(NULL, a->names[i], &volume, err)) == 0)
            json_array_append_new(array, volume_json(&volume));
    }
    if (r < 0)
        json_decref(array);
    else
        shared_print(array);
    return r;
}

static int remove_one(const char *name, bool manager, struct err *err)
{
    CLEANUP(buf_donep) struct buf path;

    put_path(&path, name);
    if (!manager)
        return volume_remove(NULL, name, err);
    return api_ask("DELETE", buf_string(&path) ?: "/", NULL, NULL, NULL, err);
}

static int do_rm(const struct arguments *a, struct err *err)
{
    bool manager = by_manager(true, NULL);
    int r = 0;

    for (unsigned i = 0; r == 0 && i < a->nr_names; i++)
        r = remove_one(a->names[i], manager, err);
    return r;
}

/* Those that nobody holds, without a manager that would know of more users. */
static int prune(json_t **ret, struct err *err)
{
    json_t *array = NULL, *volume;
    int r = list_all(&array, err);
    size_t i;

    if (r < 0)
        return r;
    *ret = json_array();
    json_array_foreach(array, i, volume)
    {
        json_t *name = json_object_get(volume, "name");

        if (!json_is_true(json_object_get(volume, "in_use")) &&
            volume_remove(NULL, json_string_value(name), NULL) == 0)
            json_array_append(*ret, name);
    }
    json_decref(array);
    return 0;
}

static int do_prune(const struct arguments *a, struct err *err)
{
    json_t *answer = NULL, *removed = NULL, *name;
    size_t i;
    int r;

    if (by_manager(true, NULL)) {
        if ((r = api_ask("POST", VOLUMES "/prune", NULL, &answer, NULL, err)) == 0)
            removed = json_incref(json_object_get(answer, "removed"));
        json_decref(answer);
    } else {
        r = prune(&removed, err);
    }
    if (r < 0)
        return r;
    if (a->json) {
        shared_print(removed);
        return 0;
    }
    json_array_foreach(removed, i, name)
    {
        puts(json_string_value(name));
    }
    json_decref(removed);
    return 0;
}

static const struct verb {
    const char *name;
    int (*run)(const struct arguments *a, struct err *err);
    unsigned least, most;
} verbs[] = {
    {"create", do_create, 1, 1}, {"ls", do_ls, 0, 0},       {"inspect", do_inspect, 1, NAMES_MAX},
    {"rm", do_rm, 1, NAMES_MAX}, {"prune", do_prune, 0, 0},
};

/* 0, or what cli_usage_error gave. */
static int parse(struct arguments *a, int argc, char **argv)
{
    struct err err = ERR_INIT;

    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--json"))
            a->json = true;
        else if (!strcmp(argv[i], "--size") && i + 1 < argc) {
            if (size_parse(argv[++i], &a->size_bytes, &err) < 0)
                return cli_usage_error(&verb_volume, "--size: %s", err.message);
        } else if (argv[i][0] == '-')
            return cli_usage_error(&verb_volume, "unknown option '%s', or its value is missing",
                                   argv[i]);
        else if (a->nr_names == NAMES_MAX)
            return cli_usage_error(&verb_volume, "more than %d names", NAMES_MAX);
        else
            a->names[a->nr_names++] = argv[i];
    }
    return 0;
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct err err = ERR_INIT;
    int r;

    for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        const struct verb *verb = &verbs[i];

        if (strcmp(argv[1], verb->name) != 0)
            continue;
        if ((r = parse(&arguments, argc, argv)))
            return r;
        if (arguments.nr_names < verb->least || arguments.nr_names > verb->most)
            return cli_usage_error(&verb_volume, "%s: %s", verb->name,
                                   verb->most ? "the name of a volume is needed"
                                              : "no name is needed");
        if (verb->run(&arguments, &err) < 0) {
            log_error("%s", err.message);
            return CLI_EXIT_FAILURE;
        }
        return 0;
    }
    return cli_usage_error(&verb_volume, "create, ls, inspect, rm or prune is needed");
}

const struct cli_verb verb_volume = {
    .name = "volume",
    .summary = "Makes, lists and removes volumes",
    .usage = "volume create NAME [--size SIZE] | ls | inspect NAME... | rm NAME... | prune",
    .help = "A volume outlives the guests that use it: `lodge run -v NAME:/place`, for containers\n"
            "and VMs alike, several at once.\n"
            "\n"
            "  --size SIZE  of create: it holds no more, such as 10G; a quota where the\n"
            "               file system has project quotas, else an ext4 image, for one guest at\n"
            "               a time (a container's needs root). Without: as much as the disk has\n"
            "  --json       of ls and prune: machine-readable\n"
            "\n"
            "prune removes the volumes that nobody uses: no run, and no instance of the manager,\n"
            "whether that runs or not.\n",
    .run = run,
};
