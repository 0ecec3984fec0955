/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images as files, outside of a running VM: made, looked at, changed in size, converted,
 * checked, with internal snapshots. Everything here is synchronous and holds the image's lock while
 * it works, so that it cannot meet a VM that writes (-EBUSY).
 *
 * A crash leaves an image that is usable: new images appear by rename, and changes of a qcow2 image
 * keep its order of writing (qcow2_internal.h), so that at worst clusters are lost to nobody's use,
 * which disk_check repairs.
 *
 * Formats are named by the caller, never probed. Paths in an image are never followed.
 *
 * Threads: any, one call each.
 */
#ifndef LODGE_BLOCK_DISK_FILE_H
#define LODGE_BLOCK_DISK_FILE_H

#include "block/block.h"

struct disk_source {
    const char *path;
    enum block_format format;
    struct block_backing backing[BLOCK_BACKING_MAX]; /* as in block_options */
    unsigned nr_backing;
};

struct disk_file;
int disk_file_open(const struct disk_source *source, bool read_only, struct disk_file **ret,
                   struct err *err);
void disk_file_close(struct disk_file *file);
DEFINE_CLEANUP(disk_file_closep, struct disk_file *, disk_file_close);
uint64_t disk_file_bytes(const struct disk_file *file);
/* Inside the disk, else -EINVAL. */
int disk_file_read(struct disk_file *file, uint64_t offset, void *data, uint64_t bytes);
int disk_file_write(struct disk_file *file, uint64_t offset, const void *data, uint64_t bytes);
int disk_file_flush(struct disk_file *file);
/* How many bytes from offset on are alike, and whether they are known to be zeros. */
int disk_file_extent(struct disk_file *file, uint64_t offset, bool *ret_zero, uint64_t *ret_bytes);

struct disk_info {
    uint64_t bytes, allocated_bytes; /* of the disk; of the host's */
    uint32_t version, cluster_bytes; /* qcow2 */
    uint32_t nr_snapshots;
    bool dirty, corrupt;
    bool in_use;        /* somebody writes to it: the rest is what its header says, no backing */
    char backing[1024]; /* what the image says; "" for none. For display only. */
};
int disk_info(const char *path, enum block_format format, struct disk_info *ret, struct err *err);

/* A sparse raw image, or a qcow2 image. -EEXIST. bytes: a multiple of 512, not 0. */
int disk_create(const char *path, enum block_format format, const struct block_create *create,
                struct err *err);
/* Raw files and qcow2. Shrinking only with `shrink`: what is behind the new end is lost. */
int disk_resize(const struct disk_source *source, uint64_t bytes, bool shrink, struct err *err);

struct disk_convert {
    enum block_format format; /* of the new image */
    uint32_t cluster_bits;    /* qcow2; 0: 16 */
    bool replace;             /* what is there at the new path */
    void (*progress)(void *context, uint64_t done, uint64_t total); /* NULL: none */
    void *context;
};
/* Zeros take no space in the new image. It appears whole, by rename. */
int disk_convert(const struct disk_source *source, const char *path,
                 const struct disk_convert *convert, struct err *err);

/* Internal snapshots of qcow2 images without a backing file in use. name: 1 to 255 bytes, not
 * used yet; else its id does as well. */
int disk_snapshot_create(const char *path, const char *name, struct err *err);
int disk_snapshot_apply(const char *path, const char *name, struct err *err);
int disk_snapshot_remove(const char *path, const char *name, struct err *err);

struct disk_checked {
    uint64_t nr_errors, nr_leaks, nr_repaired, nr_clusters;
};
/* qcow2: references against refcounts. repair: leaks are given back (errors stay). */
int disk_check(const char *path, bool repair, struct disk_checked *ret, struct err *err);

#endif
