/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From guest offsets to clusters of the file, and the data itself. A write in place needs a cluster
 * that is the image's alone (QCOW2_COPIED); every other write goes to a new cluster that carries
 * the old contents around it.
 */
#include "block/qcow2_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Parts of one transfer: as many pieces as a request has, and two cut ones. */
#define IOV_PIECES 512

static uint64_t l2_index(const struct qcow2 *q, uint64_t offset)
{
    return (offset >> q->cluster_bits) & ((UINT64_C(1) << q->l2_bits) - 1);
}

/* The table for an offset, NULL when there is none. */
static int l2_load(struct qcow2 *q, uint64_t offset, struct qcow2_table **ret)
{
    uint64_t index = offset >> (q->cluster_bits + q->l2_bits), entry, at;

    *ret = NULL;
    if (index >= q->l1_size)
        return -EIO;
    entry = q->l1[index];
    if (!(at = entry & QCOW2_OFFSET_MASK))
        return 0;
    if (at & (q->cluster_size - 1))
        return -EIO;
    return qcow2_table_get(q, &q->l2, at, false, ret);
}

static int entry_get(struct qcow2 *q, uint64_t offset, uint64_t *ret)
{
    struct qcow2_table *table;
    int r = l2_load(q, offset, &table);

    *ret = r == 0 && table ? be64toh(load_le64(table->data + 8 * l2_index(q, offset))) : 0;
    return r;
}

static void l1_set(struct qcow2 *q, uint64_t index, uint64_t value)
{
    bool dirty = q->l1_dirty_from < q->l1_dirty_to;

    q->l1[index] = value;
    q->l1_dirty_from = dirty ? MIN(q->l1_dirty_from, (uint32_t)index) : (uint32_t)index;
    q->l1_dirty_to = MAX(q->l1_dirty_to, (uint32_t)index + 1);
}

/* The table for an offset, made or copied so that it may be changed. */
static int l2_load_own(struct qcow2 *q, uint64_t offset, struct qcow2_table **ret)
{
    uint64_t index = offset >> (q->cluster_bits + q->l2_bits), old, new;
    CLEANUP(freep) uint8_t *copy = NULL;
    struct qcow2_table *table;
    int r;

    if ((r = l2_load(q, offset, &table)) < 0)
        return r;
    if (table && (q->l1[index] & QCOW2_COPIED)) {
        *ret = table;
        return 0;
    }
    if (table) {
        if (!(copy = malloc(q->cluster_size)))
            return -ENOMEM;
        memcpy(copy, table->data, q->cluster_size);
    }
    old = q->l1[index] & QCOW2_OFFSET_MASK;
    if ((r = qcow2_allocate(q, &new)) < 0 ||
        (r = qcow2_table_get(q, &q->l2, new, true, &table)) < 0)
        return r;
    if (copy)
        memcpy(table->data, copy, q->cluster_size);
    l1_set(q, index, new | QCOW2_COPIED);
    /* `table` would not outlive a flush inside of release; it is found again. */
    if (old && (r = qcow2_release(q, old)) < 0)
        return r;
    return qcow2_table_get(q, &q->l2, new, false, ret);
}

static int release_entry(struct qcow2 *q, uint64_t entry)
{
    unsigned shift = 62 - (q->cluster_bits - 8);
    uint64_t offset, end;
    int r = 0;

    if (!(entry & QCOW2_COMPRESSED)) {
        offset = entry & QCOW2_OFFSET_MASK;
        return offset ? qcow2_release(q, offset) : 0;
    }
    offset = entry & ((UINT64_C(1) << shift) - 1);
    end = align_down(offset, 512) +
          (((entry & ~(QCOW2_COMPRESSED | QCOW2_COPIED)) >> shift) + 1) * 512;
    for (offset = align_down(offset, q->cluster_size); r == 0 && offset < end;
         offset += q->cluster_size)
        r = qcow2_release(q, offset);
    return r;
}

static int entry_set(struct qcow2 *q, uint64_t offset, uint64_t value)
{
    struct qcow2_table *table;
    uint64_t index = l2_index(q, offset), old;
    int r = l2_load_own(q, offset, &table);

    if (r < 0)
        return r;
    old = be64toh(load_le64(table->data + 8 * index));
    store_le64(table->data + 8 * index, htobe64(value));
    qcow2_table_dirty(table, (uint32_t)(8 * index), (uint32_t)(8 * index + 8));
    if (!(old & QCOW2_COMPRESSED) && (old & QCOW2_OFFSET_MASK) == (value & QCOW2_OFFSET_MASK))
        return 0;
    return release_entry(q, old);
}

/* Pieces of an iov. Returns how many; the range lies inside and needs at most max of them. */
static unsigned slice(const struct iovec *iov, unsigned nr_iov, uint64_t offset, uint64_t *bytes,
                      struct iovec *ret, unsigned max)
{
    uint64_t left = *bytes;
    unsigned nr = 0;

    for (unsigned i = 0; i < nr_iov && left && nr < max; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        ret[nr].iov_base = (char *)iov[i].iov_base + offset;
        ret[nr].iov_len = MIN(iov[i].iov_len - offset, left);
        left -= ret[nr].iov_len;
        offset = 0;
        nr++;
    }
    *bytes -= left;
    return nr;
}

enum copy { COPY_TO_IOV, COPY_FROM_IOV, CLEAR_IOV };

/* Between part of an iov and plain memory. */
static void copy_iov(enum copy how, const struct iovec *iov, unsigned nr_iov, uint64_t at,
                     uint8_t *data, uint64_t bytes)
{
    struct iovec pieces[IOV_PIECES];

    while (bytes) {
        uint64_t part = bytes;
        unsigned nr = slice(iov, nr_iov, at, &part, pieces, IOV_PIECES);

        if (!nr)
            return;
        for (unsigned i = 0; i < nr; i++) {
            size_t length = pieces[i].iov_len;

            if (how == CLEAR_IOV) {
                memset(pieces[i].iov_base, 0, length);
                continue;
            }
            if (how == COPY_TO_IOV)
                memcpy(pieces[i].iov_base, data, length);
            else
                memcpy(data, pieces[i].iov_base, length);
            data += length;
        }
        at += part;
        bytes -= part;
    }
}

/* One transfer of part of an iov at an offset of a file; the end of the file reads as zeros. */
static int transfer(int fd, bool write, const struct iovec *iov, unsigned nr_iov, uint64_t at,
                    uint64_t bytes, uint64_t offset)
{
    struct iovec pieces[IOV_PIECES];

    while (bytes) {
        uint64_t part = bytes;
        unsigned nr = slice(iov, nr_iov, at, &part, pieces, IOV_PIECES);
        ssize_t n = write ? pwritev(fd, pieces, (int)nr, (off_t)offset)
                          : preadv(fd, pieces, (int)nr, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0 && write)
            return -EIO;
        if (n == 0) {
            copy_iov(CLEAR_IOV, iov, nr_iov, at, NULL, bytes);
            return 0;
        }
        at += (uint64_t)n;
        bytes -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int inflate_cluster(struct qcow2 *q, uint64_t entry)
{
    unsigned shift = 62 - (q->cluster_bits - 8);
    uint64_t offset = entry & ((UINT64_C(1) << shift) - 1);
    uint64_t sectors = ((entry & ~(QCOW2_COMPRESSED | QCOW2_COPIED)) >> shift) + 1;
    uint64_t bytes = sectors * 512 - (offset & 511);
    z_stream stream = {0};
    int r;

    if (q->inflated_entry == entry)
        return 0;
    q->inflated_entry = 0;
    if (bytes > 2 * q->cluster_size || offset >= q->file_end)
        return -EIO;
    if ((r = qcow2_pread(q, q->deflated, bytes, offset)) < 0)
        return r;
    stream.next_in = q->deflated;
    stream.avail_in = (uInt)bytes;
    stream.next_out = q->inflated;
    stream.avail_out = (uInt)q->cluster_size;
    if (inflateInit2(&stream, -12) != Z_OK)
        return -ENOMEM;
    r = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    /* What follows in the last sector belongs to others; a full cluster is what counts. */
    if ((r != Z_STREAM_END && r != Z_BUF_ERROR) || stream.avail_out)
        return -EIO;
    q->inflated_entry = entry;
    return 0;
}

static int read_backing(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned nr_iov,
                        uint64_t at, uint64_t bytes)
{
    uint64_t there = offset < q->backing_bytes ? MIN(bytes, q->backing_bytes - offset) : 0;
    struct iovec pieces[IOV_PIECES];
    int r = 0;

    if (q->backing_fd >= 0)
        r = transfer(q->backing_fd, false, iov, nr_iov, at, there, offset);
    for (uint64_t done = 0; q->backing && r == 0 && done < there;) {
        uint64_t part = there - done;
        unsigned nr = slice(iov, nr_iov, at + done, &part, pieces, IOV_PIECES);

        if (!nr)
            return -EINVAL;
        r = qcow2_read(q->backing, offset + done, pieces, nr, part);
        done += part;
    }
    if (r == 0)
        copy_iov(CLEAR_IOV, iov, nr_iov, at + there, NULL, bytes - there);
    return r;
}

/* Part of one cluster (or of several that lie one after another in the file). */
static int read_part(struct qcow2 *q, uint64_t entry, uint64_t offset, const struct iovec *iov,
                     unsigned nr_iov, uint64_t at, uint64_t bytes)
{
    uint64_t in_cluster = offset & (q->cluster_size - 1), host = entry & QCOW2_OFFSET_MASK;
    int r;

    if (entry & QCOW2_COMPRESSED) {
        if ((r = inflate_cluster(q, entry)) == 0)
            copy_iov(COPY_TO_IOV, iov, nr_iov, at, q->inflated + in_cluster, bytes);
        return r;
    }
    if ((entry & QCOW2_ZERO) && q->version >= 3) {
        copy_iov(CLEAR_IOV, iov, nr_iov, at, NULL, bytes);
        return 0;
    }
    if (!host)
        return read_backing(q, offset, iov, nr_iov, at, bytes);
    if (host & (q->cluster_size - 1))
        return -EIO;
    return transfer(q->fd, false, iov, nr_iov, at, bytes, host + in_cluster);
}

static bool is_plain(const struct qcow2 *q, uint64_t entry)
{
    return !(entry & QCOW2_COMPRESSED) && (entry & QCOW2_OFFSET_MASK) &&
           !((entry & QCOW2_ZERO) && q->version >= 3);
}

/* How many bytes from offset on are like the first: one after another in the file, or all of them
 * nowhere. */
static int extent(struct qcow2 *q, uint64_t offset, uint64_t bytes, uint64_t *ret_entry,
                  uint64_t *ret_bytes)
{
    uint64_t first, entry, length = q->cluster_size - (offset & (q->cluster_size - 1));
    uint64_t step = q->cluster_size;
    int r = entry_get(q, offset, &first);

    if (r < 0)
        return r;
    *ret_entry = first;
    *ret_bytes = MIN(length, bytes);
    if (first & QCOW2_COMPRESSED)
        return 0;
    if (!is_plain(q, first))
        step = 0;
    for (uint64_t n = 1; length < bytes; n++, length += q->cluster_size) {
        if ((r = entry_get(q, offset + length, &entry)) < 0)
            return r;
        if (entry != first + n * step)
            break;
    }
    *ret_bytes = MIN(length, bytes);
    return 0;
}

int qcow2_extent_zero(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool *ret_zero,
                      uint64_t *ret_bytes)
{
    bool below = q->backing || q->backing_fd >= 0;
    uint64_t entry;
    int r = extent(q, offset, bytes, &entry, ret_bytes);

    *ret_zero = r == 0 && !(entry & QCOW2_COMPRESSED) &&
                (((entry & QCOW2_ZERO) && q->version >= 3) ||
                 (!(entry & QCOW2_OFFSET_MASK) && !below));
    return r;
}

int qcow2_read(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned nr_iov,
               uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes;) {
        uint64_t entry, part;
        int r = extent(q, offset + at, bytes - at, &entry, &part);

        if (r == 0)
            r = read_part(q, entry, offset + at, iov, nr_iov, at, part);
        if (r < 0)
            return r;
        at += part;
    }
    return 0;
}

/* Writes into a new cluster; what the request does not cover comes from where it was. */
static int write_new(struct qcow2 *q, uint64_t entry, uint64_t offset, const struct iovec *iov,
                     unsigned nr_iov, uint64_t at, uint64_t bytes)
{
    uint64_t start = align_down(offset, q->cluster_size), in_cluster = offset - start, host;
    bool whole = bytes == q->cluster_size;
    bool zeros = !q->backing && q->backing_fd < 0 && !(entry & ~QCOW2_COPIED);
    struct iovec around = {q->scratch, q->cluster_size};
    int r = qcow2_allocate(q, &host);

    if (r < 0)
        return r;
    q->unsynced = true;
    if (whole || (zeros && host >= q->file_end)) {
        r = transfer(q->fd, true, iov, nr_iov, at, bytes, host + in_cluster);
        if (r == 0 && !whole && ftruncate(q->fd, (off_t)(host + q->cluster_size)) < 0)
            r = -errno;
    } else {
        r = read_part(q, entry, start, &around, 1, 0, q->cluster_size);
        if (r == 0) {
            copy_iov(COPY_FROM_IOV, iov, nr_iov, at, q->scratch + in_cluster, bytes);
            r = qcow2_pwrite(q, q->scratch, q->cluster_size, host);
        }
    }
    if (r < 0)
        return r; /* a leak, no more */
    q->file_end = MAX(q->file_end, host + q->cluster_size);
    return entry_set(q, offset, host | QCOW2_COPIED);
}

int qcow2_write(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned nr_iov,
                uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes;) {
        uint64_t entry, part, here = q->cluster_size - ((offset + at) & (q->cluster_size - 1));
        int r = extent(q, offset + at, bytes - at, &entry, &part);

        if (r < 0)
            return r;
        if (is_plain(q, entry) && (entry & QCOW2_COPIED)) {
            if (entry & QCOW2_OFFSET_MASK & (q->cluster_size - 1))
                return -EIO;
            q->unsynced = true;
            r = transfer(q->fd, true, iov, nr_iov, at, part,
                         (entry & QCOW2_OFFSET_MASK) + ((offset + at) & (q->cluster_size - 1)));
        } else {
            part = MIN(part, here);
            r = write_new(q, entry, offset + at, iov, nr_iov, at, part);
        }
        if (r < 0)
            return r;
        at += part;
    }
    return 0;
}

static int zero_cluster(struct qcow2 *q, uint64_t offset, bool discard)
{
    bool below = q->backing || q->backing_fd >= 0;
    struct iovec zeros = {q->scratch, q->cluster_size};
    uint64_t entry;
    int r = entry_get(q, offset, &entry);

    if (r < 0)
        return r;
    if (!(entry & ~QCOW2_COPIED) && !below)
        return 0;
    if (q->version >= 3)
        return (entry & ~QCOW2_COPIED) == QCOW2_ZERO ? 0 : entry_set(q, offset, QCOW2_ZERO);
    if (!below)
        return entry_set(q, offset, 0);
    if (discard)
        return 0;
    memset(q->scratch, 0, q->cluster_size);
    return qcow2_write(q, offset, &zeros, 1, q->cluster_size);
}

int qcow2_zero(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool discard)
{
    static const uint8_t nothing[4096];

    while (bytes) {
        uint64_t in_cluster = offset & (q->cluster_size - 1);
        uint64_t part = MIN(bytes, q->cluster_size - in_cluster);
        /* The last cluster may be cut by the end of the image. */
        bool whole = !in_cluster && (part == q->cluster_size || offset + part == q->size);
        int r = 0;

        if (whole) {
            r = zero_cluster(q, offset, discard);
        } else if (!discard) {
            for (uint64_t done = 0; r == 0 && done < part;) {
                uint64_t n = MIN(part - done, sizeof(nothing));
                struct iovec iov = {(void *)(uintptr_t)nothing, n};

                r = qcow2_write(q, offset + done, &iov, 1, n);
                done += n;
            }
        }
        if (r < 0)
            return r;
        offset += part;
        bytes -= part;
    }
    return 0;
}

static int l1_write(struct qcow2 *q)
{
    uint32_t from = q->l1_dirty_from, nr = q->l1_dirty_to - from;
    CLEANUP(freep) uint64_t *disk = NULL;
    int r;

    if (q->l1_dirty_from >= q->l1_dirty_to)
        return 0;
    if (!(disk = malloc((size_t)nr * 8)))
        return -ENOMEM;
    for (uint32_t i = 0; i < nr; i++)
        disk[i] = htobe64(q->l1[from + i]);
    r = qcow2_pwrite(q, disk, (uint64_t)nr * 8, q->l1_offset + (uint64_t)from * 8);
    if (r == 0)
        q->l1_dirty_from = q->l1_dirty_to = 0;
    return r;
}

int qcow2_flush(struct qcow2 *q)
{
    bool references = qcow2_cache_is_dirty(&q->l2) || q->l1_dirty_from < q->l1_dirty_to;
    int r;

    if ((r = qcow2_cache_write(q, &q->refblocks)) < 0)
        return r;
    if (q->unsynced && (r = qcow2_sync(q)) < 0)
        return r;
    if (references && ((r = qcow2_cache_write(q, &q->l2)) < 0 || (r = qcow2_sync(q)) < 0 ||
                       (r = l1_write(q)) < 0 || (r = qcow2_sync(q)) < 0))
        return r;
    return qcow2_released_apply(q);
}
