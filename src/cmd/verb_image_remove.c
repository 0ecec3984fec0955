/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge image rm, prune: names away, and then what no name leads to. Whether somebody uses an image
 * the store says itself (image/pin.h), so it is the same by a manager and without one.
 */
#include "cmd/image_cli.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "image/pin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SAID_MAX 3 /* users that a refusal names */

static void add(struct layout_collected *sum, const struct layout_collected *one)
{
    sum->nr_blobs += one->nr_blobs;
    sum->nr_layers += one->nr_layers;
    sum->nr_disks += one->nr_disks;
    sum->bytes += one->bytes;
    sum->nr_busy += one->nr_busy;
}

/* In use, and so refused: by whom, and what helps. */
static int refuse(const char *reference, json_t *users, struct err *err)
{
    size_t nr = json_array_size(users), used = 0;
    char words[SAID_MAX * (PIN_USER_MAX + 2) + 32] = "";

    for (size_t i = 0; i < nr && i < SAID_MAX; i++)
        used += (size_t)snprintf(words + used, sizeof(words) - used, "%s%s", i ? ", " : "",
                                 json_string_value(json_array_get(users, i)));
    if (nr > SAID_MAX)
        snprintf(words + used, sizeof(words) - used, " and %zu more", nr - SAID_MAX);
    return err_set(err, -EBUSY,
                   "image '%s' is in use by %s; --force takes the name away all the same (an "
                   "instance keeps what it needs of it)",
                   reference, words);
}

static int check_unused(const struct layout *layout, const char *digest, const char *reference,
                        struct err *err)
{
    CLEANUP(json_decrefp) json_t *users = pin_users(layout, digest, reference);

    return json_array_size(users) ? refuse(reference, users, err) : 0;
}

static int remove_one(struct image_cli *cli, const char *name, json_t *removed, struct err *err)
{
    char reference[REFERENCE_MAX];
    struct descriptor target;
    struct layout layout;
    int result;

    if ((result = import_find(cli->store, name, &layout, err)) < 0)
        return cli->force ? 0 : result;
    if ((result = layout_find(&layout, name, &target, reference, err)) == 0 &&
        (cli->force || (result = check_unused(&layout, target.digest, reference, err)) == 0) &&
        (result = layout_untag(&layout, reference, err)) == 0)
        json_array_append_new(removed, json_string(reference));
    layout_close(&layout);
    return result;
}

/* Each store that is ours to change. */
static int each_store(struct image_cli *cli,
                      int (*fn)(struct image_cli *cli, const char *dir, const struct layout *layout,
                                void *context, struct err *err),
                      void *context, struct err *err)
{
    int result = 0;

    for (size_t i = 0; i < cli->store->nr_dirs && result == 0; i++) {
        struct layout layout;

        if (layout_open(cli->store->dirs[i], false, &layout, NULL) < 0)
            continue;
        if (faccessat(layout.fd, ".", W_OK, 0) == 0)
            result = fn(cli, cli->store->dirs[i], &layout, context, err);
        layout_close(&layout);
    }
    return result;
}

static int collect_one(struct image_cli *cli, const char *dir, const struct layout *layout,
                       void *context, struct err *err)
{
    struct layout_collected one;
    int result = layout_collect(layout, dir, &one, err);

    (void)cli;
    if (result == 0)
        add(context, &one);
    return result;
}

static json_t *sums(const struct layout_collected *collected)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "blobs", (json_int_t)collected->nr_blobs,
                     "layers", (json_int_t)collected->nr_layers, "disks",
                     (json_int_t)collected->nr_disks, "bytes", (json_int_t)collected->bytes, "busy",
                     (json_int_t)collected->nr_busy);
}

/* As a result for whoever watches, or as JSON; consumed. */
static void print_object(const struct image_cli *cli, json_t *object)
{
    if (cli->report) {
        report_result(object);
        return;
    }
    if (cli->json) {
        json_dumpf(object, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(object);
}

static void print_names(const json_t *names)
{
    json_t *name;
    size_t i;

    json_array_foreach(names, i, name) printf("%s\n", json_string_value(name));
}

void image_cli_removed(const struct image_cli *cli, int result, json_t *sum)
{
    if (!cli->quiet && !cli->json)
        print_names(json_object_get(sum, "removed"));
    if (result == 0)
        print_object(cli, sum);
    else
        json_decref(sum);
}

int image_cli_remove(struct image_cli *cli, struct err *err)
{
    struct layout_collected sum = {0};
    struct err later = ERR_INIT;
    json_t *removed = json_array(), *object;
    int result = 0;

    for (size_t i = 0; i < cli->nr && result == 0; i++)
        result = remove_one(cli, cli->arguments[i], removed, err);
    /* What is being added meanwhile keeps the rest for a later collection. */
    if (json_array_size(removed) && each_store(cli, collect_one, &sum, &later) < 0 && !cli->quiet)
        log_info("the content stays for now (lodge image prune): %s", later.message);
    object = sums(&sum);
    json_object_set_new(object, "removed", removed);
    image_cli_removed(cli, result, object);
    return result;
}

struct pruning {
    struct layout_collected sum;
    json_t *removed, *kept;
};

static int untag_unused(struct image_cli *cli, const char *dir, const struct layout *layout,
                        void *context, struct err *err)
{
    struct pruning *pruning = context;
    json_t *index, *entry;
    size_t i;
    int result = layout_index(layout, &index, err);

    (void)dir;
    if (result < 0)
        return result;
    json_array_foreach(json_object_get(index, "manifests"), i, entry)
    {
        const char *name = json_string_value(
            json_object_get(json_object_get(entry, "annotations"), ANNOTATION_NAME));
        const char *digest = json_string_value(json_object_get(entry, "digest"));
        bool used = name && digest && !cli->force && check_unused(layout, digest, name, NULL) < 0;

        if (name && !used && (result = layout_untag(layout, name, err)) < 0 && result != -ENOENT)
            break;
        result = 0;
        if (name)
            json_array_append_new(used ? pruning->kept : pruning->removed, json_string(name));
    }
    json_decref(index);
    return result;
}

static long long figure(const json_t *sum, const char *name)
{
    return (long long)json_integer_value(json_object_get(sum, name));
}

void image_cli_pruned(const struct image_cli *cli, json_t *sum)
{
    char size[24];
    json_t *name;
    size_t i;

    if (!cli->quiet && !cli->json) {
        print_names(json_object_get(sum, "removed"));
        json_array_foreach(json_object_get(sum, "kept"), i, name)
        {
            log_info("'%s' stays: it is in use (lodge image ls)", json_string_value(name));
        }
        image_cli_size((uint64_t)figure(sum, "bytes"), size);
        printf("removed %lld blobs, %lld layers, %lld disk images (%s of blobs and disks)%s\n",
               figure(sum, "blobs"), figure(sum, "layers"), figure(sum, "disks"), size,
               figure(sum, "busy") ? "; layers in use stay for the next time" : "");
    }
    print_object(cli, sum);
}

int image_cli_prune(struct image_cli *cli, struct err *err)
{
    struct pruning pruning = {.removed = json_array(), .kept = json_array()};
    json_t *object;
    int result = cli->all ? each_store(cli, untag_unused, &pruning, err) : 0;

    if (result == 0)
        result = each_store(cli, collect_one, &pruning.sum, err);
    if (result == 0) {
        object = sums(&pruning.sum);
        json_object_set(object, "removed", pruning.removed);
        json_object_set(object, "kept", pruning.kept);
        image_cli_pruned(cli, object);
    }
    json_decref(pruning.removed);
    json_decref(pruning.kept);
    return result;
}
