/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block device of the host side: sectors of 512 bytes, asynchronous requests, one completion
 * callback per request. Formats (raw, qcow2) and test doubles are drivers behind
 * struct block; the user names the format, nothing is probed.
 *
 * Invariants:
 *  1. A request belongs to the block layer from block_submit until its done callback is entered;
 *     done is entered exactly once for each submit, never inside block_submit.
 *  2. A request that does not lie wholly inside the device completes with -EINVAL and touches
 *     nothing; a write to a read-only device completes with -EROFS.
 *  3. A completed flush means that every write completed before its submission is on stable
 * storage.
 *  4. After block_drain nothing is in flight: buffers and requests may be freed.
 *
 * Image size: a size that is no multiple of 512 is rounded up. Of a read-only image the missing
 * bytes read as zeros; a writable image is extended to the whole sector when it is opened.
 *
 * Threads: all functions on the thread of the loop that was given to open (or while it does not
 * run); done callbacks run there too.
 */
#ifndef LODGE_BLOCK_BLOCK_H
#define LODGE_BLOCK_BLOCK_H

#include "base/err.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define BLOCK_SECTOR_SHIFT 9
#define BLOCK_SECTOR_SIZE  (UINT64_C(1) << BLOCK_SECTOR_SHIFT)

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,
    BLOCK_DISCARD, /* a hint: contents undefined afterwards */
    BLOCK_WRITE_ZEROES,
};

enum block_engine {
    BLOCK_ENGINE_AUTO, /* io_uring where the kernel lets us, else threads */
    BLOCK_ENGINE_URING,
    BLOCK_ENGINE_THREADS,
};

struct block;
struct block_request;

/* result: 0 or -errno (-EIO, -ENOSPC, ...). On failure the contents of read buffers and of written
 * sectors are undefined. */
typedef void block_done_fn(struct block_request *request, int result);

struct block_request {
    enum block_op op;
    bool may_unmap;      /* BLOCK_WRITE_ZEROES: may deallocate */
    uint64_t sector;     /* first */
    uint64_t nr_sectors; /* DISCARD, WRITE_ZEROES, and = the iov's length for READ, WRITE */
    struct iovec *iov;   /* READ, WRITE; the block layer may change it */
    unsigned nr_iov;
    block_done_fn *done;
    void *context;

    /* Private to the block layer. */
    struct block *block_;
    struct block_request *next_;
    uint64_t done_bytes_;
    int result_;
};

enum block_format {
    BLOCK_FORMAT_RAW,
    BLOCK_FORMAT_QCOW2,
};

struct block_backing {
    const char *path;
    enum block_format format;
};

#define BLOCK_BACKING_MAX 8

struct block_options {
    bool read_only;
    enum block_engine engine;
    /* qcow2: what lies below, from the nearest on. Images that need one name it here, or are
     * refused: a path inside an image is never followed. */
    struct block_backing backing[BLOCK_BACKING_MAX];
    unsigned nr_backing;
};

struct block_info {
    uint64_t nr_sectors;
    bool read_only;
    uint32_t physical_block_bytes; /* power of two, at least 512: hint for the guest's alignment */
    const char *engine;            /* "io_uring", "threads", ...; static text */
};

/* A path that begins so names a descriptor that is open already, by its number; it is duplicated,
 * and locked as any other. */
#define BLOCK_PATH_FD "fd:"

/* Raw file or block device at path. Takes an OFD lock on it: exclusive for writers, shared for
 * readers; -EBUSY when another holder is in the way. */
int block_open_raw(const char *path, const struct block_options *options, struct loop *loop,
                   struct block **ret, struct err *err);
/* qcow2, versions 2 and 3, read and written by one thread; the lock as for raw. */
int block_open_qcow2(const char *path, const struct block_options *options, struct loop *loop,
                     struct block **ret, struct err *err);

/* One of the size of `like` whose requests all fail with -EIO, for what was taken away. */
int block_open_gone(const struct block *like, struct loop *loop, struct block **ret);

struct block_create {
    uint64_t bytes;        /* a multiple of 512 */
    uint32_t cluster_bits; /* 12 to 21; 0: 16 */
    const char *backing;   /* NULL: none. Written into the image, not opened */
    enum block_format backing_format;
};

/* A new file at path; -EEXIST when there is one. */
int block_create_qcow2(const char *path, const struct block_create *create, struct err *err);

struct block_snapshot {
    char id[32], name[256]; /* cut when longer */
    uint32_t seconds;       /* since 1970 */
    uint64_t vm_state_bytes;
};
typedef void block_snapshot_fn(void *context, const struct block_snapshot *snapshot);
int block_list_qcow2_snapshots(const char *path, block_snapshot_fn *fn, void *context,
                               struct err *err);

/* Drains, then closes. NULL is fine. */
void block_close(struct block *block);

void block_get_info(const struct block *block, struct block_info *ret);
void block_submit(struct block *block, struct block_request *request);
/* Submissions may be held back until this is called: once after a batch. */
void block_kick(struct block *block);
/* Waits until everything in flight has completed; callbacks run inside, and what they submit is
 * waited for as well. */
void block_drain(struct block *block);
unsigned block_nr_in_flight(const struct block *block);

DEFINE_CLEANUP(block_closep, struct block *, block_close);

#endif
