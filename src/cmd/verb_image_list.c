/* SPDX-License-Identifier: Apache-2.0 */
/* lodge image ls, inspect, history, tag: what there is, under which names, and who uses it. */
#include "cmd/cli.h"
#include "cmd/image_cli.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "image/pin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void image_cli_size(uint64_t bytes, char ret[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(ret, 24, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static uint64_t total_bytes(const struct manifest *manifest)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < manifest->nr_layers; i++)
        sum += MIN(manifest->layers[i].bytes, UINT64_MAX - sum);
    return sum;
}

static bool has_disk(const struct image *image)
{
    char path[PATH_MAX + 160], key[sizeof(image->digest)];

    snprintf(key, sizeof(key), "%s", image->digest);
    for (char *c = key; *c; c++)
        if (*c == ':')
            *c = '-';
    if (image->imported)
        snprintf(path, sizeof(path), "%s/disks/oci-%s.ext4", image->store_dir,
                 digest_hex(image->digest));
    else
        snprintf(path, sizeof(path), "%s/disks/%s.ext4", image->store_dir, key);
    return access(path, R_OK) == 0;
}

struct listing {
    const char *name; /* NULL: all */
    json_t *array;    /* NULL: a table is printed */
    size_t nr;
};

/* The sizes, layers and users of an imported image; false for one that a script made. */
static bool load(const struct image *image, struct layout_image *ret, json_t **ret_users)
{
    struct layout layout;
    bool loaded;

    if (!image->imported || layout_open(image->store_dir, false, &layout, NULL) < 0)
        return false;
    loaded = layout_image_load(&layout, image->name, ret, NULL) == 0;
    if (loaded)
        *ret_users = pin_users(&layout, image->digest, image->name);
    layout_close(&layout);
    return loaded;
}

/* "", the one user, or how many there are. */
static void describe_users(const json_t *users, char *ret, size_t size)
{
    size_t nr = json_array_size(users);

    if (nr < 2)
        snprintf(ret, size, "%s", nr ? json_string_value(json_array_get(users, 0)) : "-");
    else
        snprintf(ret, size, "%s and %zu more", json_string_value(json_array_get(users, 0)), nr - 1);
}

static void list_one(const struct image *image, void *context)
{
    struct listing *listing = context;
    CLEANUP(freep) struct layout_image *from = calloc(1, sizeof(*from));
    char size[24] = "-", layers[24] = "-", users[PIN_USER_MAX + 32];
    json_t *used_by = NULL;
    bool loaded;

    if (listing->name && strncmp(image->name, listing->name, strlen(listing->name)) != 0)
        return;
    loaded = from && load(image, from, &used_by);
    if (listing->array) {
        json_t *object = json_pack("{s:s, s:s, s:b, s:b, s:O}", "name", image->name, "digest",
                                   image->digest, "imported", image->imported, "disk",
                                   has_disk(image), "config", image->config);

        if (loaded) {
            json_object_set_new(object, "bytes",
                                json_integer((json_int_t)total_bytes(&from->manifest)));
            json_object_set_new(object, "layers",
                                json_integer((json_int_t)from->manifest.nr_layers));
            json_object_set(object, "used_by", used_by);
        }
        json_array_append_new(listing->array, object);
    } else {
        if (loaded) {
            image_cli_size(total_bytes(&from->manifest), size);
            snprintf(layers, sizeof(layers), "%zu", from->manifest.nr_layers);
        }
        describe_users(used_by, users, sizeof(users));
        if (listing->nr == 0)
            printf("%-40s %-20s %10s %7s %-5s %s\n", "IMAGE", "DIGEST", "SIZE", "LAYERS", "DISK",
                   "USED BY");
        printf("%-40s %-20.19s %10s %7s %-5s %s\n", image->name, image->digest, size, layers,
               has_disk(image) ? "ready" : "-", users);
    }
    listing->nr++;
    json_decref(used_by);
    if (loaded)
        layout_image_done(from);
}

int image_cli_list(struct image_cli *cli, struct err *err)
{
    struct listing listing = {.name = cli->nr ? cli->arguments[0] : NULL};

    (void)err;
    if (cli->json)
        listing.array = json_array();
    image_list(cli->store, list_one, &listing);
    if (listing.array) {
        json_dumpf(listing.array, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(listing.array);
    } else if (listing.nr == 0) {
        printf("no images%s; get some: lodge image import|pull, or %s/make_images.sh\n",
               cli->nr ? " of that name" : " yet", cli->store->tools_dir);
    }
    return 0;
}

static int open_imported(struct image_cli *cli, struct layout *ret_layout, struct layout_image *ret,
                         struct err *err)
{
    int result = import_find(cli->store, cli->arguments[0], ret_layout, err);

    if (result < 0)
        return result;
    if ((result = layout_image_load(ret_layout, cli->arguments[0], ret, err)) < 0)
        layout_close(ret_layout);
    return result;
}

static json_t *layer_list(const struct layout_image *image)
{
    json_t *layers = json_array();

    for (size_t i = 0; i < image->manifest.nr_layers; i++)
        json_array_append_new(layers, json_pack("{s:s, s:s, s:s, s:I}", "digest",
                                                image->manifest.layers[i].digest, "diff_id",
                                                image->config.diff_ids[i], "media_type",
                                                image->manifest.layers[i].media_type, "bytes",
                                                (json_int_t)image->manifest.layers[i].bytes));
    return layers;
}

int image_cli_inspect(struct image_cli *cli, struct err *err)
{
    CLEANUP(freep) struct layout_image *image = calloc(1, sizeof(*image));
    struct layout layout;
    json_t *object;
    int result;

    if (!image)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = open_imported(cli, &layout, image, err)) < 0)
        return result;
    object = json_pack("{s:s, s:s, s:s, s:I, s:o, s:O, s:s}", "name", image->reference, "digest",
                       image->target.digest, "config_digest", image->manifest.config.digest,
                       "bytes", (json_int_t)total_bytes(&image->manifest), "layers",
                       layer_list(image), "config", image->config.document, "store", layout.path);
    json_dumpf(object, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(object);
    layout_image_done(image);
    layout_close(&layout);
    return 0;
}

int image_cli_history(struct image_cli *cli, struct err *err)
{
    CLEANUP(freep) struct layout_image *image = calloc(1, sizeof(*image));
    struct layout layout;
    json_t *list;
    size_t layer = 0;
    int result;

    if (!image)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = open_imported(cli, &layout, image, err)) < 0)
        return result;
    list = json_object_get(image->config.document, "history");
    if (cli->json) {
        json_dumpf(list ? list : json_object_get(image->config.document, "none"), stdout,
                   JSON_INDENT(2) | JSON_ENCODE_ANY);
        putchar('\n');
    } else {
        printf("%-22s %10s %s\n", "CREATED", "SIZE", "CREATED BY");
    }
    for (size_t i = 0; !cli->json && i < json_array_size(list); i++) {
        json_t *entry = json_array_get(list, i);
        const char *created = json_string_value(json_object_get(entry, "created"));
        const char *by = json_string_value(json_object_get(entry, "created_by"));
        bool empty = json_is_true(json_object_get(entry, "empty_layer"));
        char size[24] = "-";

        if (!empty && layer < image->manifest.nr_layers)
            image_cli_size(image->manifest.layers[layer++].bytes, size);
        printf("%-22.20s %10s %.200s\n", created ? created : "-", size, by ? by : "-");
    }
    layout_image_done(image);
    layout_close(&layout);
    return 0;
}

int image_cli_tag(struct image_cli *cli, struct err *err)
{
    char reference[REFERENCE_MAX], old[REFERENCE_MAX];
    struct descriptor target;
    struct layout layout;
    CLEANUP(fd_closep) int lock = -1;
    int result;

    if ((result = reference_normalize(cli->arguments[1], reference, err)) < 0 ||
        (result = import_find(cli->store, cli->arguments[0], &layout, err)) < 0)
        return result;
    if ((lock = layout_lock(&layout, LAYOUT_ADD, err)) < 0)
        result = lock;
    else if ((result = layout_find(&layout, cli->arguments[0], &target, old, err)) == 0)
        result = layout_tag(&layout, reference, &target, err);
    layout_close(&layout);
    return result;
}
