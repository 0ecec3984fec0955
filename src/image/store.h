/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local store: directories with what guests are made of.
 *
 *      STORE/images/NAME/{config.json,rootfs/}                   made by tools/make_images.sh
 *      STORE/kernels/NAME/{vmlinuz,release,lib/modules/...}      made by tools/fetch_kernel.sh
 *      STORE/oci/                                                imported images (image/layout.h)
 *      STORE/disks/KEY.ext4                                      made here, once per image digest
 *
 * Where it looks, first to last: $LODGE_HOME alone when it is set; otherwise guest/ beside the
 * programs' bin/ (a source tree's build/guest), /var/lib/lodge, $XDG_DATA_HOME/lodge or
 * ~/.local/share/lodge. Reading takes the first directory that has the thing; every entry appears
 * by rename, so what is there is whole.
 */
#ifndef LODGE_IMAGE_STORE_H
#define LODGE_IMAGE_STORE_H

#include "base/err.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define STORE_DIRS_MAX   4
#define IMAGE_NAME_MAX   256
#define IMAGE_LAYERS_MAX 127

struct store {
    char dirs[STORE_DIRS_MAX][PATH_MAX];
    size_t nr_dirs;
    char exe_dir[PATH_MAX];   /* where the programs are */
    char tools_dir[PATH_MAX]; /* where the scripts that fill the store are, to be shown to users */
};

struct image_layer {
    char path[PATH_MAX];
    int fd;
};

struct image {
    char name[IMAGE_NAME_MAX];
    char rootfs[PATH_MAX]; /* absolute; of an image of several layers the topmost one alone */
    char digest[96];       /* "sha256:..."; "" for a directory of the user's */
    char store_dir[PATH_MAX];
    json_t *config; /* owned; an object: cmd, entrypoint, env, workdir, user */
    bool imported;  /* of STORE/oci */
    /* Owned: the root file system's directories, topmost first, for overlayfs, each with a
     * descriptor. Of an imported image they are locked, so that no collection takes them away
     * before image_done. */
    size_t nr_layers;
    struct image_layer *layers;
};

struct kernel {
    char name[IMAGE_NAME_MAX];
    char vmlinuz[PATH_MAX];
    char dir[PATH_MAX]; /* with lib/modules below it; "" when there are no modules */
    char release[128];  /* "" when unknown */
};

/* Fills in the directories (they need not exist). */
int store_open(struct store *ret, struct err *err);

/* name_or_dir: the name of an image (NAME[:TAG] or the first digits of a digest when it was
 * imported), or a root file system's directory: what begins with '/' or '.', or has a '/' in it and
 * is no image. -ENOENT with the images that there are. image_done frees. */
int image_open(const struct store *store, const char *name_or_dir, struct image *ret,
               struct err *err);
void image_done(struct image *image);
/* Calls back for each image, in the order of the store; a broken one is passed over. */
int image_list(const struct store *store, void (*each)(const struct image *image, void *context),
               void *context);

/* name_or_path: a name (cloud), a directory laid out like STORE/kernels/NAME, or a kernel file,
 * which then has all it needs built in unless it lies in such a directory. */
int kernel_open(const struct store *store, const char *name_or_path, struct kernel *ret,
                struct err *err);
int kernel_list(const struct store *store, void (*each)(const struct kernel *kernel, void *context),
                void *context);

/* The first of the store's directories in which `subdir` exists or can be made writable: its path.
 * -EROFS when there is none. */
int store_writable_dir(const struct store *store, const char *subdir, char ret[PATH_MAX]);

#endif
