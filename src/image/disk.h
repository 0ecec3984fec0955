/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A root file system's directory as a read-only disk image (ext4 without a journal, uncompressed:
 * built into the cloud kernel, and cheap to read for a guest whose processor is interpreted). Made
 * by mke2fs -d, once per image digest, or for a directory once per state of its files.
 */
#ifndef LODGE_IMAGE_DISK_H
#define LODGE_IMAGE_DISK_H

#include "image/store.h"

#include <stdint.h>

#include <stdbool.h>

/*
 * ret_path names the disk image. It is kept in the store's disks/ when that can be written, else
 * made in fallback_dir, whose owner removes it. *ret_built: it had to be made now.
 */
int disk_prepare(const struct store *store, const struct image *image, const char *fallback_dir,
                 char ret_path[PATH_MAX], bool *ret_built, struct err *err);

/* What a tree holds; key changes with any file's name, kind, owner, size or time. */
struct tree_summary {
    uint64_t key[2];
    uint64_t nr_files;
    uint64_t bytes; /* of regular files, each rounded up to 4 KiB */
    bool foreign;   /* some of it has another owner or group than who asks */
};

int tree_summarise(const char *dir, struct tree_summary *ret, struct err *err);

#endif
