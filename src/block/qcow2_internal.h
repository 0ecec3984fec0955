/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a qcow2 image (docs/interop/qcow2 of QEMU is the format's specification). Private
 * to block/.
 *
 *   qcow2.c           header, opening, the block driver
 *   qcow2_cache.c     tables of one cluster each, in memory, with what is dirty
 *   qcow2_refcount.c  which clusters of the file are taken; allocation
 *   qcow2_cluster.c   guest offsets to clusters; reading and writing
 *   qcow2_create.c    new images; the list of snapshots
 *   qcow2_snapshot.c  snapshots made, applied, removed; another size
 *   qcow2_check.c     whether the refcounts are what the references say
 *
 * Order on disk (what a crash may leave is clusters that nobody uses, never one used twice):
 *  1. A reference reaches the disk after the refcount that covers it, and after the data behind it.
 *  2. A refcount goes down after the reference is gone from the disk, and the cluster is not
 *     allocated again before that (`released`).
 * qcow2_flush is the one place that writes tables: refcounts, sync, L2, L1, sync, then releases.
 *
 * Nothing read from the file is trusted: every offset and size is checked before it is used, and
 * arithmetic on them cannot wrap. A broken image gives errors, and writes harm that image only.
 *
 * Threads: one at a time (the driver's single worker).
 */
#ifndef LODGE_BLOCK_QCOW2_INTERNAL_H
#define LODGE_BLOCK_QCOW2_INTERNAL_H

#include "block/block_driver.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <endian.h>

#define QCOW2_MAGIC            0x514649fbu
#define QCOW2_CLUSTER_BITS_MIN 9
#define QCOW2_CLUSTER_BITS_MAX 21
#define QCOW2_L1_BYTES_MAX     (32 * MIB)
#define QCOW2_REFTABLE_MAX     (8 * MIB)
#define QCOW2_SNAPSHOTS_MAX    65536u
#define QCOW2_CACHE_BYTES      (4 * MIB)
#define QCOW2_CACHE_SLOTS_MAX  64
#define QCOW2_CACHE_SLOTS_MIN  3
#define QCOW2_RELEASED_MAX     1024
#define QCOW2_DEPTH_MAX        8 /* backing files */
#define QCOW2_OFFSET_MAX       (UINT64_C(1) << 56)

#define QCOW2_COPIED      (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED  (UINT64_C(1) << 62)
#define QCOW2_ZERO        UINT64_C(1)
#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00)

/* Incompatible features */
#define QCOW2_DIRTY            1u
#define QCOW2_CORRUPT          2u
#define QCOW2_EXTERNAL_DATA    4u
#define QCOW2_COMPRESSION_TYPE 8u
#define QCOW2_EXTENDED_L2      16u

struct qcow2_table {
    uint64_t offset; /* in the file; 0: the slot is free */
    uint64_t stamp;
    uint32_t dirty_from, dirty_to; /* bytes; empty when from >= to */
    uint8_t *data;
};

struct qcow2_cache {
    unsigned nr;
    uint64_t clock;
    struct qcow2_table slots[QCOW2_CACHE_SLOTS_MAX];
};

struct qcow2 {
    int fd;
    bool read_only;
    uint32_t version, cluster_bits, refcount_order;
    uint64_t cluster_size, size, file_end; /* bytes */

    uint64_t l1_offset;
    uint32_t l1_size, l2_bits;
    uint64_t *l1;                        /* host byte order */
    uint32_t l1_dirty_from, l1_dirty_to; /* entries */

    uint64_t reftable_offset;
    uint32_t reftable_entries, refblock_bits;
    uint64_t *reftable; /* host byte order */
    uint64_t free_hint; /* cluster to look at first */

    struct qcow2_cache l2, refblocks;
    uint64_t released[QCOW2_RELEASED_MAX]; /* clusters whose refcount goes down after a flush */
    unsigned nr_released;
    bool unsynced; /* data or refcounts were written since the last sync */

    uint64_t snapshots_offset;
    uint32_t nr_snapshots;

    /* What is below: another qcow2, or a raw file; neither: zeros. */
    struct qcow2 *backing;
    int backing_fd;
    uint64_t backing_bytes;

    uint8_t *scratch;  /* one cluster */
    uint8_t *inflated; /* one cluster, of inflated_entry */
    uint64_t inflated_entry;
    uint8_t *deflated; /* what it was read from: two clusters */
};

/* qcow2_cache.c */
int qcow2_cache_init(struct qcow2 *q, struct qcow2_cache *cache);
void qcow2_cache_done(struct qcow2_cache *cache);
/* The table at offset. fresh: all zeros, dirty, not read. The pointer holds until the next get. */
int qcow2_table_get(struct qcow2 *q, struct qcow2_cache *cache, uint64_t offset, bool fresh,
                    struct qcow2_table **ret);
void qcow2_table_dirty(struct qcow2_table *table, uint32_t from, uint32_t to);
int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *cache);
bool qcow2_cache_is_dirty(const struct qcow2_cache *cache);

/* qcow2_refcount.c */
int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret);
/* Changes the count of a cluster that is in use. -EOVERFLOW: the counters are too narrow. */
int qcow2_refcount_add(struct qcow2 *q, uint64_t cluster, int delta);
/* nr clusters one behind the other. */
int qcow2_allocate_run(struct qcow2 *q, uint64_t nr, uint64_t *ret_offset);
/* Allocates one cluster with refcount 1: its offset. */
int qcow2_allocate(struct qcow2 *q, uint64_t *ret_offset);
/* The refcount goes down by one once the reference is off the disk. */
int qcow2_release(struct qcow2 *q, uint64_t offset);
/* After a flush of the references. */
int qcow2_released_apply(struct qcow2 *q);

/* qcow2_cluster.c */
int qcow2_read(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned nr_iov,
               uint64_t bytes);
int qcow2_write(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned nr_iov,
                uint64_t bytes);
/* How many bytes from offset on are alike, and whether they are known to be zeros. */
int qcow2_extent_zero(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool *ret_zero,
                      uint64_t *ret_bytes);
/* Whole clusters inside the range become zeros without space; parts of clusters are written, or for
 * a discard left alone. */
int qcow2_zero(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool discard);
/* Everything written so far is on stable storage. */
int qcow2_flush(struct qcow2 *q);

/* Full transfers; beyond the end of the file reads give zeros. */
int qcow2_pread(struct qcow2 *q, void *data, uint64_t bytes, uint64_t offset);
int qcow2_pwrite(struct qcow2 *q, const void *data, uint64_t bytes, uint64_t offset);
int qcow2_sync(struct qcow2 *q);

/* qcow2_create.c: one snapshot's entry at *at, which moves on to the next. */
struct qcow2_snapshot {
    struct block_snapshot shown;
    uint64_t l1_offset, disk_bytes; /* disk_bytes 0: not recorded */
    uint32_t l1_size;
};
int qcow2_snapshot_read(struct qcow2 *q, uint64_t *at, struct qcow2_snapshot *ret);

/* qcow2_snapshot.c: the clusters that a table of level 1 leads to, itself left out; compressed ones
 * with each cluster that they touch. */
typedef int qcow2_visit_fn(struct qcow2 *q, uint64_t cluster, void *context);
int qcow2_walk(struct qcow2 *q, const uint64_t *l1, uint32_t l1_size, qcow2_visit_fn *visit,
               void *context);
/* QCOW2_COPIED as the counts say, in all active tables; on the disk when this returns. */
int qcow2_flag_all(struct qcow2 *q);
/* Another size; what is behind a smaller one is gone. Refused by the caller: version 2 with
 * snapshots, which do not record theirs. */
int qcow2_resize(struct qcow2 *q, uint64_t bytes);
int qcow2_load_l1(struct qcow2 *q, uint64_t offset, uint32_t size, uint64_t **ret);

/* qcow2.c */
struct qcow2_backing {
    const char *path; /* NULL: what is below is not opened, for work on tables alone */
    bool qcow2;
};
int qcow2_open(const char *path, bool read_only, const struct qcow2_backing *backing,
               unsigned nr_backing, struct qcow2 **ret, struct err *err);
void qcow2_close(struct qcow2 *q);
DEFINE_CLEANUP(qcow2_closep, struct qcow2 *, qcow2_close);

#endif
