/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge kernels: lists guest kernels, or makes the initial root file system or the disk image that
 * a VM boots from and prints its path.
 */
#include "cmd/cli.h"

#include "base/log.h"
#include "cmd/programs.h"
#include "image/disk.h"
#include "image/initramfs.h"

#include <stdio.h>
#include <string.h>

#define EXTRA_MAX 15

struct arguments {
    bool json;
    const char *initramfs, *disk;
    const char *extra[EXTRA_MAX + 1];
    size_t nr_extra;
};

struct listing {
    json_t *array;
    size_t nr;
};

static void list_one(const struct kernel *kernel, void *context)
{
    struct listing *listing = context;

    if (listing->array) {
        json_array_append_new(listing->array,
                              json_pack("{s:s, s:s, s:s}", "name", kernel->name, "release",
                                        kernel->release, "vmlinuz", kernel->vmlinuz));
    } else {
        if (listing->nr == 0)
            printf("%-12s %-26s %s\n", "KERNEL", "RELEASE", "FILE");
        printf("%-12s %-26s %s\n", kernel->name, kernel->release, kernel->vmlinuz);
    }
    listing->nr++;
}

static int list(const struct store *store, bool json)
{
    struct listing listing = {.array = json ? json_array() : NULL};

    kernel_list(store, list_one, &listing);
    if (listing.array) {
        json_dumpf(listing.array, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(listing.array);
    } else if (listing.nr == 0) {
        printf("no guest kernels yet; fetch one with: %s/fetch_kernel.sh cloud\n",
               store->tools_dir);
    }
    return 0;
}

/* Makes what a VM boots from and prints its path: for lodge-vmm run by hand. */
static int print_path(const struct store *store, const struct arguments *arguments, struct err *err)
{
    char path[PATH_MAX], init[PATH_MAX];
    struct kernel kernel;
    struct image image;
    bool built;
    int result;

    if (arguments->disk) {
        if ((result = image_open(store, arguments->disk, &image, err)) < 0)
            return result;
        result = disk_prepare(store, &image, "/tmp", path, &built, err);
        image_done(&image);
    } else {
        if ((result = kernel_open(store, arguments->initramfs, &kernel, err)) < 0 ||
            (result = program_find(store, "lodge-init", "LODGE_INIT", init, err)) < 0)
            return result;
        result = initramfs_prepare(&kernel, init, arguments->extra, "/tmp", path, err);
    }
    if (result == 0)
        puts(path);
    return result;
}

static int parse(struct arguments *arguments, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (!strcmp(argv[i], "--json")) {
            arguments->json = true;
            continue;
        }
        if (strcmp(argv[i], "--initramfs") != 0 && strcmp(argv[i], "--disk") != 0 &&
            strcmp(argv[i], "--module") != 0)
            return cli_usage_error(&verb_kernels, "unknown argument '%s'", argv[i]);
        if (!value)
            return cli_usage_error(&verb_kernels, "option '%s' needs a value", argv[i]);
        if (!strcmp(argv[i], "--initramfs"))
            arguments->initramfs = value;
        else if (!strcmp(argv[i], "--disk"))
            arguments->disk = value;
        else if (arguments->nr_extra < EXTRA_MAX)
            arguments->extra[arguments->nr_extra++] = value;
        else
            return cli_usage_error(&verb_kernels, "more than %d modules", EXTRA_MAX);
        i++;
    }
    return 0;
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct err err = ERR_INIT;
    struct store store;
    int result = parse(&arguments, argc, argv);

    if (result != 0)
        return result;
    if ((result = store_open(&store, &err)) == 0) {
        if (!arguments.initramfs && !arguments.disk)
            return list(&store, arguments.json);
        result = print_path(&store, &arguments, &err);
    }
    if (result < 0) {
        log_error("%s", err.message);
        return CLI_EXIT_FAILURE;
    }
    return 0;
}

const struct cli_verb verb_kernels = {
    .name = "kernels",
    .summary = "Lists the guest kernels that there are",
    .usage = "kernels [--json] | --initramfs KERNEL [--module M]... | --disk IMAGE",
    .help =
        "--initramfs KERNEL  makes the initial root file system for that kernel (lodge-init and\n"
        "                    the modules it loads) if need be, and prints its path\n"
        "--module M          with one more kernel module; may be repeated\n"
        "--disk IMAGE        makes the disk image of IMAGE if need be, and prints its path\n"
        "So a VM can be started by hand:\n"
        "  lodge-vmm --kernel K --initrd $(lodge kernels --initramfs cloud) \\\n"
        "            --disk $(lodge kernels --disk busybox),ro\n",
    .run = run,
};
