/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge-bootdisk: finds the kernel on a guest's own disk for lodge-vmm (--boot disk, --boot cdrom).
 * A program of its own, so that what reads foreign file systems is confined and linked to nobody
 * else.
 *
 *      lodge-bootdisk DEVICE FORMAT:FILE [FORMAT:FILE-BELOW]... [--kernel FD] [--initrd FD]
 *
 * The files go to the descriptors; to standard output one JSON object: kernel, initrd, cmdline,
 * title, from, partition; or error. Exit status 0, or 1 with an error.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "block/disk_file.h"
#include "bootdisk/confine.h"
#include "bootdisk/find.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct output {
    int fd; /* -1: only looked at */
    uint64_t bytes;
};

static int put(void *context, const void *data, size_t length)
{
    struct output *output = context;

    output->bytes += length;
    if (output->bytes > BOOT_INITRD_MAX)
        return -EFBIG;
    return output->fd < 0 ? 0 : file_write_full(output->fd, data, length);
}

static int read_disk(void *context, uint64_t offset, void *data, size_t length)
{
    return disk_file_read(context, offset, data, length);
}

static int split(const char *word, const char **ret_path, enum block_format *ret_format,
                 struct err *err)
{
    if (!strncmp(word, "raw:", 4))
        *ret_format = BLOCK_FORMAT_RAW;
    else if (!strncmp(word, "qcow2:", 6))
        *ret_format = BLOCK_FORMAT_QCOW2;
    else
        return err_set(err, -EINVAL, "'%s': raw:FILE or qcow2:FILE is needed", word);
    *ret_path = strchr(word, ':') + 1;
    return 0;
}

static int parse(int argc, char **argv, struct disk_source *source, struct output *kernel,
                 struct output *initrd, struct err *err)
{
    int r = 0;

    if (argc < 3)
        return err_set(err, -EINVAL, "usage: lodge-bootdisk DEVICE FORMAT:FILE...");
    for (int i = 2; r == 0 && i < argc; i++) {
        if (!strcmp(argv[i], "--kernel") && i + 1 < argc)
            kernel->fd = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--initrd") && i + 1 < argc)
            initrd->fd = atoi(argv[++i]);
        else if (i == 2)
            r = split(argv[i], &source->path, &source->format, err);
        else if (source->nr_backing == BLOCK_BACKING_MAX)
            r = err_set(err, -E2BIG, "too many files");
        else {
            struct block_backing *below = &source->backing[source->nr_backing++];

            r = split(argv[i], &below->path, &below->format, err);
        }
    }
    return r;
}

static int find(int argc, char **argv, struct boot_found *found, struct err *err)
{
    struct disk_source source = {.format = BLOCK_FORMAT_RAW};
    struct output kernel = {.fd = -1}, initrd = {.fd = -1};
    CLEANUP(disk_file_closep) struct disk_file *file = NULL;
    struct disk_bytes disk = {.read = read_disk};
    int r;

    if ((r = parse(argc, argv, &source, &kernel, &initrd, err)) < 0 ||
        (r = disk_file_open(&source, true, &file, err)) < 0 || (r = confine(err)) < 0)
        return r;
    disk.bytes = disk_file_bytes(file);
    disk.context = file;
    return boot_find(&disk, argv[1], put, &kernel, put, &initrd, found, err);
}

/* Bytes that are no UTF-8 cannot be JSON's. */
static json_t *text(const char *string)
{
    json_t *value = json_string(string);

    return value ? value : json_string("?");
}

int main(int argc, char **argv)
{
    CLEANUP(freep) struct boot_found *found = calloc(1, sizeof(*found));
    struct err err = ERR_INIT;
    json_t *object = json_object();
    char *line;
    int r = found && object ? find(argc, argv, found, &err) : -ENOMEM;

    if (r < 0) {
        json_object_set_new(object, "error", text(*err.message ? err.message : "out of memory"));
    } else {
        json_t *initrds = json_array();

        for (size_t i = 0; i < found->entry.nr_initrds; i++)
            json_array_append_new(initrds, text(found->entry.initrds[i]));
        json_object_set_new(object, "kernel", text(found->entry.kernel));
        json_object_set_new(object, "initrd", initrds);
        json_object_set_new(object, "cmdline", text(found->entry.args));
        json_object_set_new(object, "title", text(found->entry.title));
        json_object_set_new(object, "from", text(found->from));
        json_object_set_new(object, "partition", json_integer(found->partition));
    }
    line = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!line || file_write_full(STDOUT_FILENO, line, strlen(line)) < 0 ||
        file_write_full(STDOUT_FILENO, "\n", 1) < 0)
        r = -EIO;
    free(line);
    return r < 0 ? 1 : 0;
}
