/* SPDX-License-Identifier: Apache-2.0 */
/* lodge images: lists the images of the store, as a table or as JSON. */
#include "cmd/cli.h"

#include "base/log.h"
#include "image/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct listing {
    json_t *array; /* NULL: a table is printed */
    size_t nr;
};

static bool has_disk(const struct image *image)
{
    char path[PATH_MAX + 128], key[sizeof(image->digest)];

    snprintf(key, sizeof(key), "%s", image->digest);
    for (char *c = key; *c; c++)
        if (*c == ':')
            *c = '-';
    snprintf(path, sizeof(path), "%s/disks/%s.ext4", image->store_dir, key);
    return access(path, R_OK) == 0;
}

static void list_one(const struct image *image, void *context)
{
    struct listing *listing = context;

    if (listing->array) {
        json_array_append_new(listing->array,
                              json_pack("{s:s, s:s, s:s, s:b, s:O}", "name", image->name, "digest",
                                        image->digest, "rootfs", image->rootfs, "disk",
                                        has_disk(image), "config", image->config));
    } else {
        if (listing->nr == 0)
            printf("%-16s %-20s %-6s %s\n", "IMAGE", "DIGEST", "DISK", "ROOTFS");
        printf("%-16s %-20.19s %-6s %s\n", image->name, image->digest,
               has_disk(image) ? "ready" : "-", image->rootfs);
    }
    listing->nr++;
}

static int run(int argc, char **argv)
{
    struct listing listing = {0};
    struct err err = ERR_INIT;
    struct store store;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") != 0)
            return cli_usage_error(&verb_images, "unknown argument '%s'", argv[i]);
        if (!listing.array)
            listing.array = json_array();
    }
    if (store_open(&store, &err) < 0) {
        log_error("%s", err.message);
        return CLI_EXIT_FAILURE;
    }
    image_list(&store, list_one, &listing);
    if (listing.array) {
        json_dumpf(listing.array, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(listing.array);
    } else if (listing.nr == 0) {
        printf("no images yet; make some with: %s/make_images.sh busybox debian\nlooked in:\n",
               store.tools_dir);
        for (size_t i = 0; i < store.nr_dirs; i++)
            printf("  %s/images\n", store.dirs[i]);
    }
    return 0;
}

const struct cli_verb verb_images = {
    .name = "images",
    .summary = "Lists the images that there are",
    .usage = "images [--json]",
    .help = "DISK says whether the disk image that a VM boots from has been made; the first\n"
            "`lodge run --vm` of an image makes it.\n",
    .run = run,
};
