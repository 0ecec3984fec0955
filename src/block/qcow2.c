/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 images: the header, opening with the backing files that the caller names, and the driver.
 * One worker thread executes all requests in turn, so the tables need no lock.
 *
 * Refused: encryption, an external data file, extended L2 entries, compression other than zlib,
 * unknown incompatible features, and for writing an image that is marked dirty or corrupt
 * (`qemu-img check -r all` repairs those). A header that names a backing file is refused unless the
 * caller names one: no path that stands in an image is ever opened.
 */
#include "block/qcow2_internal.h"

#include "block/file_lock.h"
#include "block/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct qcow2_block {
    struct block block;
    struct qcow2 *q;
    bool has_pool;
    struct pool pool;
};

static uint32_t be32_at(const uint8_t *p)
{
    return be32toh(load_le32(p));
}

static uint64_t be64_at(const uint8_t *p)
{
    return be64toh(load_le64(p));
}

int qcow2_pread(struct qcow2 *q, void *data, uint64_t bytes, uint64_t offset)
{
    while (bytes) {
        ssize_t n = pread(q->fd, data, bytes, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) {
            memset(data, 0, bytes);
            return 0;
        }
        data = (uint8_t *)data + n;
        bytes -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int qcow2_pwrite(struct qcow2 *q, const void *data, uint64_t bytes, uint64_t offset)
{
    q->unsynced = true;
    while (bytes) {
        ssize_t n = pwrite(q->fd, data, bytes, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        data = (const uint8_t *)data + n;
        bytes -= (uint64_t)n;
        offset += (uint64_t)n;
        q->file_end = MAX(q->file_end, offset);
    }
    return 0;
}

int qcow2_sync(struct qcow2 *q)
{
    if (fdatasync(q->fd) < 0)
        return -errno;
    q->unsynced = false;
    return 0;
}

static int check_features(struct qcow2 *q, const uint8_t *header, uint32_t header_bytes,
                          const char *path, struct err *err)
{
    uint64_t incompatible = be64_at(header + 72);

    if (incompatible & ~(uint64_t)(QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_COMPRESSION_TYPE))
        return err_set(err, -ENOTSUP,
                       "qcow2 image '%s' uses features that are not supported (%#llx)", path,
                       (unsigned long long)incompatible);
    if ((incompatible & QCOW2_COMPRESSION_TYPE) && (header_bytes < 105 || header[104]))
        return err_set(err, -ENOTSUP, "qcow2 image '%s': only zlib compression is supported", path);
    if (!q->read_only && (incompatible & (QCOW2_DIRTY | QCOW2_CORRUPT)))
        return err_set(
            err, -EUCLEAN,
            "qcow2 image '%s' is marked %s: repair it (qemu-img check -r all) or open it "
            "read-only",
            path, incompatible & QCOW2_CORRUPT ? "corrupt" : "dirty");
    q->refcount_order = be32_at(header + 96);
    if (q->refcount_order > 6)
        return err_set(err, -EINVAL, "qcow2 image '%s': refcounts of 2^%u bits", path,
                       q->refcount_order);
    return 0;
}

static int check_table(const struct qcow2 *q, uint64_t offset, uint64_t bytes, uint64_t most)
{
    return offset == 0 || (offset & (q->cluster_size - 1)) || offset >= QCOW2_OFFSET_MAX ||
                   bytes > most || !range_fits(offset, bytes, q->file_end)
               ? -EINVAL
               : 0;
}

static int parse_tables(struct qcow2 *q, const uint8_t *header, const char *path, struct err *err)
{
    uint64_t l1_needed;
    uint32_t reftable_clusters = be32_at(header + 56);

    q->size = be64_at(header + 24);
    q->l1_size = be32_at(header + 36);
    q->l1_offset = be64_at(header + 40);
    q->reftable_offset = be64_at(header + 48);
    q->nr_snapshots = be32_at(header + 60);
    q->snapshots_offset = be64_at(header + 64);
    if (q->size >= QCOW2_OFFSET_MAX || q->nr_snapshots > QCOW2_SNAPSHOTS_MAX)
        return err_set(err, -EINVAL, "qcow2 image '%s': size or snapshots out of range", path);
    l1_needed = (q->size + (UINT64_C(1) << (q->cluster_bits + q->l2_bits)) - 1) >>
                (q->cluster_bits + q->l2_bits);
    if (q->l1_size < l1_needed ||
        (q->l1_size && check_table(q, q->l1_offset, (uint64_t)q->l1_size * 8, QCOW2_L1_BYTES_MAX)))
        return err_set(err, -EINVAL, "qcow2 image '%s': its L1 table is not acceptable", path);
    if (reftable_clusters == 0 ||
        check_table(q, q->reftable_offset, (uint64_t)reftable_clusters << q->cluster_bits,
                    QCOW2_REFTABLE_MAX))
        return err_set(err, -EINVAL, "qcow2 image '%s': its refcount table is not acceptable",
                       path);
    q->reftable_entries = (uint32_t)(((uint64_t)reftable_clusters << q->cluster_bits) / 8);
    return 0;
}

static int parse_header(struct qcow2 *q, const uint8_t *header, const char *path, bool *ret_backed,
                        struct err *err)
{
    uint32_t header_bytes;
    int r;

    if (be32_at(header) != QCOW2_MAGIC)
        return err_set(err, -EINVAL, "'%s' is no qcow2 image", path);
    q->version = be32_at(header + 4);
    q->cluster_bits = be32_at(header + 20);
    header_bytes = q->version == 2 ? 72 : be32_at(header + 100);
    if (q->version != 2 && q->version != 3)
        return err_set(err, -ENOTSUP, "qcow2 image '%s': version %u (2 and 3 are known)", path,
                       q->version);
    if (q->cluster_bits < QCOW2_CLUSTER_BITS_MIN || q->cluster_bits > QCOW2_CLUSTER_BITS_MAX ||
        (q->version == 3 &&
         (header_bytes < 104 || header_bytes % 8 || header_bytes > UINT64_C(1) << q->cluster_bits)))
        return err_set(err, -EINVAL, "qcow2 image '%s': its header is not acceptable", path);
    if (be32_at(header + 32))
        return err_set(err, -ENOTSUP, "qcow2 image '%s' is encrypted", path);
    q->cluster_size = UINT64_C(1) << q->cluster_bits;
    q->l2_bits = q->cluster_bits - 3;
    q->refcount_order = 4;
    if (q->version == 3 && (r = check_features(q, header, header_bytes, path, err)) < 0)
        return r;
    q->refblock_bits = q->cluster_bits + 3 - q->refcount_order;
    *ret_backed = be64_at(header + 8) != 0;
    return parse_tables(q, header, path, err);
}

static uint64_t *read_table(struct qcow2 *q, uint64_t offset, uint32_t entries, int *ret)
{
    uint64_t *table = calloc(MAX(entries, 1u), 8);

    *ret = table ? qcow2_pread(q, table, (uint64_t)entries * 8, offset) : -ENOMEM;
    for (uint32_t i = 0; *ret == 0 && i < entries; i++)
        table[i] = be64toh(table[i]);
    return table;
}

/* Features that clear themselves when somebody writes who does not know them: bitmaps and such. */
static int clear_autoclear(struct qcow2 *q, const uint8_t *header)
{
    uint64_t none = 0;

    if (q->version < 3 || q->read_only || be64_at(header + 88) == 0)
        return 0;
    return qcow2_pwrite(q, &none, sizeof(none), 88);
}

static int load(struct qcow2 *q, const char *path, bool *ret_backed, struct err *err)
{
    uint8_t header[112] = {0};
    struct stat st;
    off_t end;
    int r;

    if (fstat(q->fd, &st) < 0 || (end = lseek(q->fd, 0, SEEK_END)) < 0)
        return err_errno(err, -errno, "size of '%s'", path);
    q->file_end = (uint64_t)end;
    if ((r = qcow2_pread(q, header, sizeof(header), 0)) < 0)
        return err_errno(err, r, "read '%s'", path);
    if ((r = parse_header(q, header, path, ret_backed, err)) < 0)
        return r;
    q->l1 = read_table(q, q->l1_offset, q->l1_size, &r);
    if (r == 0)
        q->reftable = read_table(q, q->reftable_offset, q->reftable_entries, &r);
    q->scratch = malloc(q->cluster_size);
    q->inflated = malloc(q->cluster_size);
    q->deflated = malloc(2 * q->cluster_size);
    if (r == 0 && (!q->scratch || !q->inflated || !q->deflated))
        r = -ENOMEM;
    if (r == 0)
        r = qcow2_cache_init(q, &q->l2);
    if (r == 0)
        r = qcow2_cache_init(q, &q->refblocks);
    if (r == 0)
        r = clear_autoclear(q, header);
    return r < 0 ? err_errno(err, r, "open qcow2 image '%s'", path) : 0;
}

static int open_backing(struct qcow2 *q, const struct qcow2_backing *backing, unsigned nr_backing,
                        struct err *err)
{
    struct stat st;
    int r;

    if (!backing->path)
        return 0;
    if (backing->qcow2) {
        r = qcow2_open(backing->path, true, backing + 1, nr_backing - 1, &q->backing, err);
        if (r == 0)
            q->backing_bytes = q->backing->size;
        return r;
    }
    if (nr_backing > 1)
        return err_set(err, -EINVAL, "the raw image '%s' has no backing file", backing->path);
    if ((r = block_file_open(backing->path, true, &q->backing_fd, err)) < 0)
        return r;
    if (fstat(q->backing_fd, &st) < 0)
        return err_errno(err, -errno, "size of '%s'", backing->path);
    q->backing_bytes = (uint64_t)lseek(q->backing_fd, 0, SEEK_END);
    return 0;
}

int qcow2_open(const char *path, bool read_only, const struct qcow2_backing *backing,
               unsigned nr_backing, struct qcow2 **ret, struct err *err)
{
    CLEANUP(qcow2_closep) struct qcow2 *q = calloc(1, sizeof(*q));
    bool backed = false;
    int r;

    if (!q)
        return err_set(err, -ENOMEM, "open qcow2 image '%s': out of memory", path);
    q->fd = q->backing_fd = -1;
    q->read_only = read_only;
    if (nr_backing > QCOW2_DEPTH_MAX)
        return err_set(err, -E2BIG, "more than %d backing files", QCOW2_DEPTH_MAX);
    if ((r = block_file_open(path, read_only, &q->fd, err)) < 0 ||
        (r = load(q, path, &backed, err)) < 0)
        return r;
    if (backed && !nr_backing)
        return err_set(err, -EPERM,
                       "qcow2 image '%s' has a backing file: name it (backing=raw:FILE or "
                       "backing=qcow2:FILE)",
                       path);
    if (!backed && nr_backing)
        return err_set(err, -EINVAL, "qcow2 image '%s' has no backing file", path);
    if (backed && (r = open_backing(q, backing, nr_backing, err)) < 0)
        return r;
    *ret = TAKE_PTR(q);
    return 0;
}

void qcow2_close(struct qcow2 *q)
{
    if (!q)
        return;
    qcow2_close(q->backing);
    if (q->backing_fd >= 0)
        close(q->backing_fd);
    qcow2_cache_done(&q->l2);
    qcow2_cache_done(&q->refblocks);
    free(q->l1);
    free(q->reftable);
    free(q->scratch);
    free(q->inflated);
    free(q->deflated);
    if (q->fd >= 0)
        close(q->fd);
    free(q);
}

/* The driver. On the worker: */
static int execute(void *context, struct block_request *request)
{
    struct qcow2 *q = ((struct qcow2_block *)context)->q;
    uint64_t offset = request->sector << BLOCK_SECTOR_SHIFT;
    uint64_t bytes = request->nr_sectors << BLOCK_SECTOR_SHIFT;

    switch (request->op) {
    case BLOCK_READ:
        return qcow2_read(q, offset, request->iov, request->nr_iov, bytes);
    case BLOCK_WRITE:
        return qcow2_write(q, offset, request->iov, request->nr_iov, bytes);
    case BLOCK_FLUSH:
        return q->read_only ? 0 : qcow2_flush(q);
    case BLOCK_DISCARD:
        return qcow2_zero(q, offset, bytes, true);
    case BLOCK_WRITE_ZEROES:
        return qcow2_zero(q, offset, bytes, false);
    }
    return -EINVAL;
}

static void driver_submit(struct block *block, struct block_request *request)
{
    pool_submit(&CONTAINER_OF(block, struct qcow2_block, block)->pool, request);
}

static void driver_kick(struct block *block)
{
    (void)block;
}

static void driver_wait(struct block *block)
{
    pool_wait(&CONTAINER_OF(block, struct qcow2_block, block)->pool);
}

static void driver_close(struct block *block)
{
    struct qcow2_block *b = CONTAINER_OF(block, struct qcow2_block, block);

    if (b->has_pool)
        pool_done(&b->pool);
    /* The second writes the refcounts that the first let go down. */
    if (b->q && !b->q->read_only && qcow2_flush(b->q) == 0)
        (void)!qcow2_flush(b->q);
    qcow2_close(b->q);
    free(b);
}

static const struct block_driver qcow2_driver = {
    .submit = driver_submit,
    .kick = driver_kick,
    .wait = driver_wait,
    .close = driver_close,
};

int block_open_qcow2(const char *path, const struct block_options *options, struct loop *loop,
                     struct block **ret, struct err *err)
{
    CLEANUP(block_closep) struct block *block = NULL;
    struct qcow2_block *b = calloc(1, sizeof(*b));
    struct qcow2_backing backing[QCOW2_DEPTH_MAX];
    int r;

    if (!b)
        return err_set(err, -ENOMEM, "open qcow2 image '%s': out of memory", path);
    block_init(&b->block, &qcow2_driver, loop);
    block = &b->block;
    for (unsigned i = 0; i < options->nr_backing && i < QCOW2_DEPTH_MAX; i++)
        backing[i] = (struct qcow2_backing){options->backing[i].path,
                                            options->backing[i].format == BLOCK_FORMAT_QCOW2};
    r = qcow2_open(path, options->read_only, backing, options->nr_backing, &b->q, err);
    if (r == 0) {
        b->block.info = (struct block_info){
            .nr_sectors = (b->q->size + BLOCK_SECTOR_SIZE - 1) >> BLOCK_SECTOR_SHIFT,
            .read_only = options->read_only,
            .physical_block_bytes = 4096,
            .engine = "qcow2",
        };
        r = pool_init(&b->pool, 1, execute, b, loop, err);
        b->has_pool = r == 0;
    }
    if (r < 0)
        return r;
    *ret = TAKE_PTR(block);
    return 0;
}
