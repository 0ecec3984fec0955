/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named volumes: directories that outlive the guests that use them.
 *
 *      DIR/NAME/volume.json    what it is; written last, so a volume without it does not exist
 *      DIR/NAME/lock           held shared by each user, exclusively by who uses it alone or
 *                              removes it
 *      DIR/NAME/users/USER     locked by that user
 *      DIR/NAME/data/          the contents; of a volume with a size, under a project quota
 *      DIR/NAME/disk           instead, where the file system has no such quotas: an ext4 image
 *      DIR/NAME/foreign        the image was written by a guest's kernel: it is checked before ours
 *                              mounts it
 *
 * Locks are of open files: a user that dies, however, lets go. An image is mounted by its user,
 * through a loop device that the kernel frees with the mount, or is a disk of a virtual machine;
 * either way it is used by one at a time.
 *
 * Threads: none are started; any may call.
 */
#ifndef LODGE_VOLUME_VOLUME_H
#define LODGE_VOLUME_VOLUME_H

#include "base/err.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define VOLUME_NAME_MAX   64 /* with NUL */
#define VOLUME_USERS_MAX  256
#define VOLUME_SIZE_LEAST (UINT64_C(4) << 20)
#define VOLUME_SIZE_MOST  (UINT64_C(64) << 40)

struct volume {
    char name[VOLUME_NAME_MAX];
    char path[PATH_MAX]; /* DIR/NAME */
    uint64_t size_bytes; /* 0: as much as the file system has */
    uint64_t used_bytes; /* on the disk, as far as the directory may be read */
    uint64_t created_s;  /* since 1970 */
    uint32_t project;    /* that its quota is of; 0: none */
    bool image;          /* its contents are in an ext4 image */
    bool in_use;
    char users[VOLUME_USERS_MAX]; /* who uses it, as far as they gave a name: "a, b" */
};

/* New reference. */
json_t *volume_json(const struct volume *volume);
bool volume_name_ok(const char *name);
/* What dir NULL is in all of these: $LODGE_VOLUMES; else root's /var/lib/lodge/volumes, others'
 * $XDG_DATA_HOME/lodge/volumes or ~/.local/share/lodge/volumes. */
const char *volume_directory(void);
/* With a size: under a project quota where the file system of dir enforces such, else an image. */
int volume_create(const char *dir, const char *name, uint64_t size_bytes, struct err *err);
int volume_find(const char *dir, const char *name, struct volume *ret, struct err *err);
/* 0, or -ENOENT with what to do; without measuring it. */
int volume_check(const char *dir, const char *name, struct err *err);
/* Sorted by name. Returns how many. */
int volume_each(const char *dir, void (*each)(const struct volume *volume, void *context),
                void *context, struct err *err);
/* -EBUSY while it is used. What an interrupted creation or removal left goes, too. */
int volume_remove(const char *dir, const char *name, struct err *err);

struct volume_use {
    int lock_fd, user_fd;
    char path[PATH_MAX]; /* of the contents */
};
/*
 * Holds the volume until volume_release or the end of the process. place: an empty directory of the
 * caller's, where an image is mounted: the caller's mount namespace should be its own,
 * so that the mount ends with it. user: whom to name to others (NULL: nobody). Who inherits the
 * descriptors holds it on.
 */
int volume_take(const char *dir, const char *name, const char *place, const char *user,
                struct volume_use *ret, struct err *err);
/* The same for a virtual machine, of a volume that is an image: the path is that, and the guest
 * mounts it by itself. -EINVAL: it is none. */
int volume_take_disk(const char *dir, const char *name, bool read_only, const char *user,
                     struct volume_use *ret, struct err *err);
void volume_release(struct volume_use *use);

#endif
