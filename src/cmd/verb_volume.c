/* SPDX-License-Identifier: Apache-2.0 */
/* lodge volume: makes, lists, describes and removes volumes. */
#include "cmd/cli.h"

#include "base/log.h"
#include "base/size.h"
#include "volume/volume.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define NAMES_MAX 64

struct arguments {
    const char *names[NAMES_MAX];
    unsigned nr_names;
    bool json;
    uint64_t size_bytes;
};

struct listing {
    json_t *array; /* NULL: a table */
    unsigned nr;
};

static json_t *volume_json(const struct volume *volume)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:b}", "name", volume->name, "path", volume->path,
                     "size_bytes", (json_int_t)volume->size_bytes, "used_bytes",
                     (json_int_t)volume->used_bytes, "created", (json_int_t)volume->created_s,
                     "in_use", (int)volume->in_use);
}

static void list_one(const struct volume *volume, void *context)
{
    struct listing *listing = context;

    if (listing->array) {
        json_array_append_new(listing->array, volume_json(volume));
    } else {
        if (!listing->nr)
            printf("%-24s %12s %12s %s\n", "VOLUME", "SIZE (KiB)", "USED (KiB)", "STATE");
        if (volume->size_bytes)
            printf("%-24s %12llu %12llu %s\n", volume->name,
                   (unsigned long long)(volume->size_bytes >> 10),
                   (unsigned long long)(volume->used_bytes >> 10), volume->in_use ? "in use" : "-");
        else
            printf("%-24s %12s %12llu %s\n", volume->name, "-",
                   (unsigned long long)(volume->used_bytes >> 10), volume->in_use ? "in use" : "-");
    }
    listing->nr++;
}

static void print_json(json_t *array)
{
    json_dumpf(array, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(array);
}

static int do_create(const struct arguments *a, struct err *err)
{
    int r = volume_create(NULL, a->names[0], a->size_bytes, err);

    if (r == 0)
        printf("%s\n", a->names[0]);
    return r;
}

static int do_ls(const struct arguments *a, struct err *err)
{
    struct listing listing = {.array = a->json ? json_array() : NULL};
    int r = volume_each(NULL, list_one, &listing, err);

    if (listing.array)
        print_json(listing.array);
    return r < 0 ? r : 0;
}

static int do_inspect(const struct arguments *a, struct err *err)
{
    json_t *array = json_array();
    struct volume volume;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < a->nr_names; i++)
        if ((r = volume_find(NULL, a->names[i], &volume, err)) == 0)
            json_array_append_new(array, volume_json(&volume));
    if (r < 0)
        json_decref(array);
    else
        print_json(array);
    return r;
}

static int do_rm(const struct arguments *a, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < a->nr_names; i++)
        r = volume_remove(NULL, a->names[i], err);
    return r;
}

static const struct verb {
    const char *name;
    int (*run)(const struct arguments *a, struct err *err);
    unsigned least, most;
} verbs[] = {
    {"create", do_create, 1, 1},
    {"ls", do_ls, 0, 0},
    {"inspect", do_inspect, 1, NAMES_MAX},
    {"rm", do_rm, 1, NAMES_MAX},
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
    return cli_usage_error(&verb_volume, "create, ls, inspect or rm is needed");
}

const struct cli_verb verb_volume = {
    .name = "volume",
    .summary = "Makes, lists and removes volumes",
    .usage = "volume create NAME [--size SIZE] | ls | inspect NAME... | rm NAME...",
    .help =
        "A volume outlives the guests that use it: `lodge run -v NAME:/place`, for containers\n"
        "and VMs alike, several at once.\n"
        "\n"
        "  --size SIZE  of create: it holds no more, such as 10G (an ext4 image; for one guest\n"
        "               at a time, and needs root). Without: as much as the disk has\n"
        "  --json       of ls: machine-readable\n",
    .run = run,
};
