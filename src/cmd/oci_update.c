/* SPDX-License-Identifier: Apache-2.0 */
/* update: new limits for a container, from options or from a resources object. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/size.h"
#include "base/util.h"
#include "cmd/oci_cli.h"
#include "oci/control.h"
#include "oci/move.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>

#define RESOURCES_SIZE_MAX (1 * MIB)

/* Each option's place in linux.resources. */
static const struct {
    const char *option, *object, *member;
    bool text;
} places[] = {
    {"blkio-weight", "blockIO", "weight", false},
    {"cpu-period", "cpu", "period", false},
    {"cpu-quota", "cpu", "quota", false},
    {"cpu-share", "cpu", "shares", false},
    {"cpu-rt-period", "cpu", "realtimePeriod", false},
    {"cpu-rt-runtime", "cpu", "realtimeRuntime", false},
    {"cpuset-cpus", "cpu", "cpus", true},
    {"cpuset-mems", "cpu", "mems", true},
    {"memory", "memory", "limit", false},
    {"memory-reservation", "memory", "reservation", false},
    {"memory-swap", "memory", "swap", false},
    {"pids-limit", "pids", "limit", false},
};

/* Accepted and without effect: limits that kernels no longer have. */
static const char *const obsolete[] = {"kernel-memory", "kernel-memory-tcp"};

enum {
    OPTION_PLACE = 256, /* + index into places */
    OPTION_OBSOLETE = OPTION_PLACE + ARRAY_LEN(places),
    OPTION_CACHE,
    OPTION_BANDWIDTH,
    OPTION_PATH,
};

static int set_member(json_t *resources, size_t place, const char *text, struct err *err)
{
    json_t *object = json_object_get(resources, places[place].object);
    bool negative = text[0] == '-';
    uint64_t number;
    json_t *value;

    if (!object) {
        object = json_object();
        json_object_set_new(resources, places[place].object, object);
    }
    if (places[place].text) {
        value = json_string(text);
    } else {
        /* Memory may be written with a unit. */
        int result = isdigit((unsigned char)text[negative]) && !negative &&
                             strcmp(places[place].object, "memory") == 0
                         ? size_parse(text, &number, err)
                         : number_parse(text + negative, places[place].option, 0, INT64_MAX,
                                        &number, err);

        if (result < 0)
            return result;
        value = json_integer(negative ? -(json_int_t)number : (json_int_t)number);
    }
    return json_object_set_new(object, places[place].member, value) < 0
               ? err_set(err, -ENOMEM, "update: out of memory")
               : 0;
}

static int load_resources(const char *path, json_t **ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    int result;

    buf_init(&text, RESOURCES_SIZE_MAX);
    if (strcmp(path, "-") == 0) {
        ssize_t n = buf_reserve(&text, RESOURCES_SIZE_MAX - 1) < 0
                        ? -ENOMEM
                        : file_read_full(STDIN_FILENO, text.data, RESOURCES_SIZE_MAX - 1);

        if (n < 0)
            return err_errno(err, (int)n, "resources from standard input");
        text.length = (size_t)n;
    } else if ((result = file_load(AT_FDCWD, path, &text, err)) < 0) {
        return result;
    }
    return json_parse(text.data, text.length, "resources", ret, err);
}

static void fill_options(struct option *options)
{
    size_t n = 0;

    options[n++] = (struct option){"resources", required_argument, NULL, 'r'};
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        options[n++] = (struct option){places[i].option, required_argument, NULL,
                                       OPTION_PLACE + (int)i};
    for (size_t i = 0; i < ARRAY_LEN(obsolete); i++)
        options[n++] = (struct option){obsolete[i], required_argument, NULL, OPTION_OBSOLETE};
    options[n++] = (struct option){"l3-cache-schema", required_argument, NULL, OPTION_CACHE};
    options[n++] = (struct option){"mem-bw-schema", required_argument, NULL, OPTION_BANDWIDTH};
    options[n++] = (struct option){"cgroups-path", required_argument, NULL, OPTION_PATH};
    options[n] = (struct option){NULL, 0, NULL, 0};
}

int oci_verb_update(const struct oci_global *global, int argc, char **argv)
{
    struct option options[ARRAY_LEN(places) + ARRAY_LEN(obsolete) + 5];
    CLEANUP(json_decrefp) json_t *resources = json_object();
    const char *file = NULL, *cache = NULL, *bandwidth = NULL, *path = NULL, *id;
    struct err err;
    int option;

    fill_options(options);
    while ((option = getopt_long(argc, argv, "+r:", options, NULL)) >= 0) {
        if (option == 'r')
            file = optarg;
        else if (option == OPTION_CACHE)
            cache = optarg;
        else if (option == OPTION_BANDWIDTH)
            bandwidth = optarg;
        else if (option == OPTION_PATH)
            path = optarg;
        else if (option < OPTION_PLACE || option > OPTION_OBSOLETE)
            return oci_unknown_option();
        else if (option < OPTION_OBSOLETE &&
                 set_member(resources, (size_t)(option - OPTION_PLACE), optarg, &err) < 0)
            return oci_fail(global, &err);
    }
    if (!(id = oci_single_id(global, argc, argv)))
        return 1;
    if (file) {
        json_decref(resources);
        resources = NULL;
        if (load_resources(file, &resources, &err) < 0)
            return oci_fail(global, &err);
    }
    if (path && container_move(global->root, id, path, &err) < 0)
        return oci_fail(global, &err);
    if ((cache || bandwidth) && container_update_rdt(global->root, id, cache, bandwidth, &err) < 0)
        return oci_fail(global, &err);
    if ((cache || bandwidth || path) && !file && json_object_size(resources) == 0)
        return 0;
    return container_update(global->root, id, resources, &err) < 0 ? oci_fail(global, &err) : 0;
}
