/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a boot loader would read from: a disk's bytes, its partitions, and the files of a file
 * system on one of them. All of it is the guest's own and may be anything: every size is capped,
 * every offset checked, and whoever calls this does so in a confined process (confine.h).
 *
 * Partition tables: MBR with extended partitions; GPT (UEFI specification 2.10, 5.3). File systems:
 * ext2 to ext4 by libext2fs, ISO 9660 by libarchive.
 *
 * Threads: one at a time for what belongs to one disk.
 */
#ifndef LODGE_BOOTDISK_VOLUME_H
#define LODGE_BOOTDISK_VOLUME_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A disk, or a part of one. read gets what lies inside only. */
struct disk_bytes {
    uint64_t bytes;
    int (*read)(void *context, uint64_t offset, void *data, size_t length);
    void *context;
};
/* -EIO for what does not lie inside. */
int disk_bytes_read(const struct disk_bytes *disk, uint64_t offset, void *data, size_t length);

#define PARTITIONS_MAX 64

struct partition {
    unsigned number; /* as Linux counts; 0: the whole disk, which has no table */
    uint64_t offset, bytes;
};

/* How many there are; at least one, the whole disk. *ret_table: "GPT", "MBR" or "none". */
size_t partitions_find(const struct disk_bytes *disk, struct partition ret[PARTITIONS_MAX],
                       const char **ret_table);

struct volume;
typedef int volume_sink_fn(void *context, const void *data, size_t length); /* 0 or -errno */
typedef void volume_name_fn(void *context, const char *name);

struct volume_functions {
    int (*load)(struct volume *volume, const char *path, uint64_t most, volume_sink_fn *sink,
                void *context);
    int (*list)(struct volume *volume, const char *path, volume_name_fn *each, void *context);
    void (*close)(struct volume *volume);
};

struct volume {
    const struct volume_functions *functions;
    const char *kind; /* "ext4", "ISO 9660"; static text */
};

/* -EINVAL: there is no such file system. disk is copied; what it refers to must last. */
int volume_open_ext(const struct disk_bytes *disk, struct volume **ret);
int volume_open_iso(const struct disk_bytes *disk, struct volume **ret);
void volume_close(struct volume *volume);

/* The whole file, its links followed inside the volume: -ENOENT, -EFBIG beyond `most` bytes, -EIO.
 */
int volume_load(struct volume *volume, const char *path, uint64_t most, volume_sink_fn *sink,
                void *context);
/* Into a buffer, up to its cap; as text: terminated behind its end. */
int volume_load_text(struct volume *volume, const char *path, struct buf *ret);
/* The names in a directory; -ENOENT. */
int volume_list(struct volume *volume, const char *path, volume_name_fn *each, void *context);

#endif
