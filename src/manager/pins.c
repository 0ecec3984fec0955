/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pin's name is "lodged-" and a hash of our state directory, so that managers that share images
 * leave each other's alone, and the instance's id.
 */
#include "manager/pins.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "image/import.h"
#include "image/pin.h"
#include "manager/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OWNER_SIZE 64

static void prefix(const struct manager *m, char ret[OWNER_SIZE])
{
    const char *dir = m->options.state_dir;

    snprintf(ret, OWNER_SIZE, "lodged-%016llx-",
             (unsigned long long)hash_bytes(HASH_START, dir, strlen(dir)));
}

static void owner(const struct manager *m, const char *id, char ret[OWNER_SIZE])
{
    size_t length;

    prefix(m, ret);
    length = strlen(ret);
    snprintf(ret + length, OWNER_SIZE - length, "%s", id);
}

/* The descriptor of one store's layout. */
static bool open_store(const struct manager *m, size_t i, struct layout *ret)
{
    return layout_open(m->options.images->dirs[i], false, ret, NULL) == 0;
}

int pins_take(struct manager *m, const char *id, const char *name, const char *user, bool by_name,
              struct err *err)
{
    CLEANUP(freep) struct image *image = calloc(1, sizeof(*image));
    CLEANUP(freep) struct image *pinned = calloc(1, sizeof(*pinned));
    struct image_pin pin = {.name = ""};
    char mine[OWNER_SIZE];
    int result;

    if (!image || !pinned)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = image_open(m->options.images, name, image, err)) < 0)
        return result;
    owner(m, id, mine);
    snprintf(pin.user, sizeof(pin.user), "%s", user);
    snprintf(pin.place, sizeof(pin.place), "%s", m->options.state_dir);
    if (by_name)
        snprintf(pin.name, sizeof(pin.name), "%s", image->name);
    if (image->imported && (result = image_pin(image, mine, &pin, err)) == 0) {
        /* A collection may have been faster than the pin. */
        if ((result = image_open(m->options.images, image->digest, pinned, err)) == 0)
            image_done(pinned);
        else
            pins_drop(m, id);
    }
    image_done(image);
    return result;
}

void pins_rename(struct manager *m, const char *id, const char *user)
{
    char mine[OWNER_SIZE];

    owner(m, id, mine);
    for (size_t i = 0; i < m->options.images->nr_dirs; i++) {
        struct image_pin pin;
        struct layout layout;

        if (!open_store(m, i, &layout))
            continue;
        if (pin_read(&layout, mine, &pin) == 0) {
            snprintf(pin.user, sizeof(pin.user), "%s", user);
            pin_write(&layout, mine, &pin, NULL); /* the old words serve, too */
        }
        layout_close(&layout);
    }
}

void pins_drop(struct manager *m, const char *id)
{
    char path[OWNER_SIZE + 8] = "pins/";

    owner(m, id, path + strlen(path));
    for (size_t i = 0; i < m->options.images->nr_dirs; i++) {
        struct layout layout;

        if (!open_store(m, i, &layout))
            continue;
        unlinkat(layout.fd, path, 0);
        layout_close(&layout);
    }
}

void pins_resolve(struct manager *m, const char *id, struct spec *spec)
{
    char mine[OWNER_SIZE];

    owner(m, id, mine);
    for (size_t i = 0; i < m->options.images->nr_dirs; i++) {
        struct image_pin pin;
        struct layout layout;
        bool found;

        if (!open_store(m, i, &layout))
            continue;
        found = pin_read(&layout, mine, &pin) == 0;
        layout_close(&layout);
        if (!found)
            continue;
        snprintf(spec->pinned_image, sizeof(spec->pinned_image), "%.71s", pin.digest);
        spec->image = spec->pinned_image;
        return;
    }
}

static bool is_left_over(struct manager *m, const char *name, const char *ours)
{
    bool known;

    if (strncmp(name, ours, strlen(ours)) != 0)
        return false;
    pthread_mutex_lock(&m->lock);
    known = instance_find_id(m, name + strlen(ours)) != NULL;
    pthread_mutex_unlock(&m->lock);
    return !known;
}

void pins_sweep(struct manager *m)
{
    char ours[OWNER_SIZE];

    prefix(m, ours);
    for (size_t i = 0; i < m->options.images->nr_dirs; i++) {
        CLEANUP(dir_closep) DIR *dir = NULL;
        char path[PATH_MAX + 16];
        struct dirent *entry;

        snprintf(path, sizeof(path), "%s/oci/pins", m->options.images->dirs[i]);
        dir = opendir(path);
        while (dir && (entry = readdir(dir)))
            if (is_left_over(m, entry->d_name, ours))
                unlinkat(dirfd(dir), entry->d_name, 0);
    }
}
