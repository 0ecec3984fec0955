/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What no tag and no pin leads to goes: mark from index.json and pins/, then sweep blobs, unpacked
 * layers, disk images and what killed processes left in tmp/. Nothing is counted in the files
 * themselves, so nothing can be counted wrong.
 */
#include "image/import.h"
#include "image/pin.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct marks {
    json_t *blobs, *layers, *disks; /* objects: hexadecimal digests */
};

struct marking {
    const struct layout *layout;
    struct marks *marks;
};

static void mark(json_t *set, const char *digest)
{
    json_object_set_new(set, digest_hex(digest), json_true());
}

/* A manifest that cannot be read keeps itself alone: its layers cannot be used anyway. */
static void mark_image(const struct layout *layout, const char *digest, struct marks *marks)
{
    CLEANUP(buf_donep) struct buf text;
    CLEANUP(buf_donep) struct buf config_text;
    CLEANUP(freep) struct manifest *manifest = malloc(sizeof(*manifest));
    CLEANUP(freep) struct image_config *parsed = malloc(sizeof(*parsed));

    buf_init(&text, DOCUMENT_MAX);
    buf_init(&config_text, DOCUMENT_MAX);
    mark(marks->blobs, digest);
    mark(marks->disks, digest);
    if (!manifest || !parsed || blob_load(layout, digest, &text, NULL) < 0 ||
        manifest_parse(text.data, text.length, "manifest", manifest, NULL) < 0)
        return;
    mark(marks->blobs, manifest->config.digest);
    for (size_t i = 0; i < manifest->nr_layers; i++)
        mark(marks->blobs, manifest->layers[i].digest);
    if (blob_load(layout, manifest->config.digest, &config_text, NULL) < 0 ||
        image_config_parse(config_text.data, config_text.length, "config", manifest->nr_layers,
                           parsed, NULL) < 0)
        return;
    for (size_t i = 0; i < parsed->nr_layers; i++)
        mark(marks->layers, parsed->diff_ids[i]);
    image_config_done(parsed);
}

static void mark_pin(const struct image_pin *pin, void *context)
{
    const struct marking *marking = context;

    if (json_object_get(marking->marks->disks, digest_hex(pin->digest)))
        return; /* many have the same one */
    mark_image(marking->layout, pin->digest, marking->marks);
}

static int mark_all(const struct layout *layout, struct marks *marks, struct err *err)
{
    struct marking marking = {layout, marks};
    json_t *index, *list;
    int result = layout_index(layout, &index, err);

    if (result < 0)
        return result;
    list = json_object_get(index, "manifests");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *digest = json_string_value(json_object_get(json_array_get(list, i), "digest"));

        if (digest && digest_valid(digest))
            mark_image(layout, digest, marks);
    }
    json_decref(index);
    pin_each(layout, mark_pin, &marking);
    return 0;
}

struct sweep {
    const struct layout *layout;
    struct layout_collected *collected;
    json_t *keep;
    pid_t pid; /* of image_abandon */
};

static void each_name(int dirfd, const char *path,
                      void (*each)(struct sweep *sweep, int fd, const char *name),
                      struct sweep *sweep)
{
    int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir_closep) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    while (dir && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            each(sweep, fd, entry->d_name);
}

static void sweep_blob(struct sweep *sweep, int fd, const char *name)
{
    struct stat st;

    if (json_object_get(sweep->keep, name) || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (unlinkat(fd, name, 0) == 0) {
        sweep->collected->nr_blobs++;
        sweep->collected->bytes += (uint64_t)st.st_blocks * 512;
    }
}

/* First out of sight, then away: a killed collection leaves no half layer under its name. */
static void sweep_layer(struct sweep *sweep, int fd, const char *name)
{
    CLEANUP(fd_closep) int layer = -1;
    char temporary[64];

    if (json_object_get(sweep->keep, name))
        return;
    layer = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (layer >= 0 && flock(layer, LOCK_EX | LOCK_NB) < 0) {
        sweep->collected->nr_busy++;
        return;
    }
    layout_temporary("gone", temporary);
    if (renameat(fd, name, sweep->layout->fd, temporary) < 0)
        return;
    tree_remove(sweep->layout->fd, temporary);
    sweep->collected->nr_layers++;
}

static void sweep_temporary(struct sweep *sweep, int fd, const char *name)
{
    (void)sweep;
    tree_remove(fd, name);
}

/* disks/oci-HEX.ext4 (image/disk.h). */
static void sweep_disk(struct sweep *sweep, int fd, const char *name)
{
    char hex[65];
    struct stat st;

    if (strncmp(name, "oci-", 4) != 0 || strlen(name) < 4 + 64)
        return;
    snprintf(hex, sizeof(hex), "%.64s", name + 4);
    if (json_object_get(sweep->keep, hex) || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (unlinkat(fd, name, 0) == 0) {
        sweep->collected->nr_disks++;
        sweep->collected->bytes += (uint64_t)st.st_blocks * 512;
    }
}

int layout_collect(const struct layout *layout, const char *store_dir, struct layout_collected *ret,
                   struct err *err)
{
    CLEANUP(fd_closep) int content = layout_lock(layout, LAYOUT_COLLECT, err);
    CLEANUP(fd_closep) int index = content < 0 ? content : layout_lock(layout, LAYOUT_INDEX, err);
    struct marks marks = {json_object(), json_object(), json_object()};
    struct sweep sweep = {layout, ret, NULL};
    char disks[PATH_MAX];
    int result = index < 0 ? index : 0;

    memset(ret, 0, sizeof(*ret));
    if (result == 0)
        result = mark_all(layout, &marks, err);
    if (result == 0) {
        sweep.keep = marks.blobs;
        each_name(layout->fd, "blobs/sha256", sweep_blob, &sweep);
        sweep.keep = marks.layers;
        each_name(layout->fd, "layers", sweep_layer, &sweep);
        each_name(layout->fd, "tmp", sweep_temporary, &sweep);
        sweep.keep = marks.disks;
        if (snprintf(disks, sizeof(disks), "%s/disks", store_dir) < (int)sizeof(disks))
            each_name(AT_FDCWD, disks, sweep_disk, &sweep);
    }
    json_decref(marks.blobs);
    json_decref(marks.layers);
    json_decref(marks.disks);
    return result;
}

/* tmp/WHAT.PID.N, and tmp/WHAT.PID.N.more */
static void sweep_process(struct sweep *sweep, int fd, const char *name)
{
    const char *dot = strchr(name, '.');
    char *end;

    if (dot && strtol(dot + 1, &end, 10) == sweep->pid && *end == '.')
        tree_remove(fd, name);
}

static void abandon(const struct layout *layout, const char *store_dir, pid_t pid)
{
    uint64_t deadline_ns = clock_monotonic_ns() + (pid ? NS_PER_S / 5 : 5 * NS_PER_S);
    struct sweep sweep = {.layout = layout, .pid = pid};
    struct layout_collected collected;

    if (pid)
        each_name(layout->fd, "tmp", sweep_process, &sweep);
    /* One that was killed has its locks for another moment. */
    while (layout_collect(layout, store_dir, &collected, NULL) == -EAGAIN &&
           clock_monotonic_ns() < deadline_ns)
        usleep(20000);
}

void image_abandon(const struct store *store, pid_t pid)
{
    char dir[PATH_MAX];
    struct layout layout;

    if (import_store_dir(store, dir, NULL) < 0 || layout_open(dir, false, &layout, NULL) < 0)
        return;
    abandon(&layout, dir, pid);
    layout_close(&layout);
}
