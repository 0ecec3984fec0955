/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks that users make for their VMs: STORE/vdisks/NAME.raw or NAME.qcow2. Names only: what is
 * in the files is block/disk_file.h's. The format is what the file's name says, never what is in
 * it.
 */
#ifndef LODGE_IMAGE_VDISK_H
#define LODGE_IMAGE_VDISK_H

#include "image/store.h"

#include <stdbool.h>
#include <sys/types.h>

#define VDISK_NAME_MAX 64

struct vdisk {
    char name[VDISK_NAME_MAX]; /* "" for a path of the user's */
    char path[PATH_MAX];
    bool qcow2;
};

/* name_or_path: a disk's name, or a path with '/': then the format is qcow2 when it ends so.
 * format: "raw", "qcow2" or NULL for what the name says. -ENOENT with the directories that were
 * looked in. */
int vdisk_find(const struct store *store, const char *name_or_path, const char *format,
               struct vdisk *ret, struct err *err);
/* Where a disk of this name is to be made: names are letters, digits and . _ -; -EEXIST. */
int vdisk_place(const struct store *store, const char *name_or_path, const char *format,
                struct vdisk *ret, struct err *err);
/* A disk is made as PATH.PID.tmp. After a process (pid; 0: whichever are gone) that was killed
 * while it made one at `path`: removes that. */
void vdisk_abandon(const char *path, pid_t pid);
void vdisk_list(const struct store *store, void (*each)(const struct vdisk *disk, void *context),
                void *context);

#endif
