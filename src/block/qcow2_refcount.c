/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts: a table in memory of blocks on disk, each a cluster of counters of 1 to 64 bits. A
 * block that does not exist counts zero for all of its clusters; a new one is put into the first
 * cluster that it covers. The table grows into fresh clusters at the end of the file.
 */
#include "block/qcow2_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Clusters that may be taken but not written yet are few. */
#define ALLOCATE_BEYOND_END (UINT64_C(1) << 20)

static uint64_t counter_get(const struct qcow2 *q, const uint8_t *data, uint64_t index)
{
    unsigned order = q->refcount_order;

    switch (order) {
    case 3:
        return data[index];
    case 4:
        return be16toh(load_le16(data + 2 * index));
    case 5:
        return be32toh(load_le32(data + 4 * index));
    case 6:
        return be64toh(load_le64(data + 8 * index));
    default:
        return (data[(index << order) / 8] >> ((index << order) % 8)) & ((1u << (1u << order)) - 1);
    }
}

static void counter_set(const struct qcow2 *q, uint8_t *data, uint64_t index, uint64_t value)
{
    unsigned order = q->refcount_order, shift = (index << order) % 8;
    uint8_t *byte = data + (index << order) / 8, mask;

    switch (order) {
    case 3:
        *byte = (uint8_t)value;
        break;
    case 4:
        store_le16(byte, htobe16((uint16_t)value));
        break;
    case 5:
        store_le32(byte, htobe32((uint32_t)value));
        break;
    case 6:
        store_le64(byte, htobe64(value));
        break;
    default:
        mask = (uint8_t)((1u << (1u << order)) - 1);
        *byte = (uint8_t)((*byte & ~(mask << shift)) | (value & mask) << shift);
        break;
    }
}

/* The block that covers a cluster; *ret NULL when there is none. */
static int block_of(struct qcow2 *q, uint64_t cluster, struct qcow2_table **ret)
{
    uint64_t index = cluster >> q->refblock_bits, offset;

    *ret = NULL;
    if (index >= q->reftable_entries || !(offset = q->reftable[index]))
        return 0;
    if (offset & (q->cluster_size - 1) || offset >= QCOW2_OFFSET_MAX)
        return -EIO;
    return qcow2_table_get(q, &q->refblocks, offset, false, ret);
}

static uint64_t index_in_block(const struct qcow2 *q, uint64_t cluster)
{
    return cluster & ((UINT64_C(1) << q->refblock_bits) - 1);
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret)
{
    struct qcow2_table *block;
    int r = block_of(q, cluster, &block);

    *ret = r == 0 && block ? counter_get(q, block->data, index_in_block(q, cluster)) : 0;
    return r;
}

static void block_set(struct qcow2 *q, struct qcow2_table *block, uint64_t cluster, uint64_t value)
{
    uint64_t index = index_in_block(q, cluster);
    uint32_t byte = (uint32_t)((index << q->refcount_order) / 8);
    uint32_t bytes = q->refcount_order > 3 ? 1u << (q->refcount_order - 3) : 1;

    counter_set(q, block->data, index, value);
    qcow2_table_dirty(block, byte, byte + bytes);
}

static int write_reftable_entry(struct qcow2 *q, uint64_t index)
{
    uint64_t value = htobe64(q->reftable[index]);

    return qcow2_pwrite(q, &value, sizeof(value), q->reftable_offset + index * sizeof(value));
}

static uint64_t round_up_clusters(const struct qcow2 *q, uint64_t bytes)
{
    return (bytes + q->cluster_size - 1) >> q->cluster_bits;
}

/* A hostile image may call its own header free. */
static bool holds_metadata(const struct qcow2 *q, uint64_t cluster)
{
    uint64_t l1 = q->l1_offset >> q->cluster_bits, table = q->reftable_offset >> q->cluster_bits;

    return cluster == 0 || cluster - l1 < round_up_clusters(q, (uint64_t)q->l1_size * 8) ||
           cluster - table < round_up_clusters(q, (uint64_t)q->reftable_entries * 8);
}

/* A new block that counts itself, and then its place in the table on disk. */
static int block_new(struct qcow2 *q, uint64_t index)
{
    uint64_t cluster = index << q->refblock_bits, offset = cluster << q->cluster_bits;
    struct qcow2_table *block;
    int r;

    if (offset >= QCOW2_OFFSET_MAX)
        return -EFBIG;
    if (holds_metadata(q, cluster)) /* nobody has counted the header: a broken image */
        return -EIO;
    if ((r = qcow2_table_get(q, &q->refblocks, offset, true, &block)) < 0)
        return r;
    block_set(q, block, cluster, 1);
    if ((r = qcow2_cache_write(q, &q->refblocks)) < 0 || (r = qcow2_sync(q)) < 0)
        return r;
    q->reftable[index] = offset;
    if ((r = write_reftable_entry(q, index)) < 0)
        q->reftable[index] = 0;
    return r;
}

/* Blocks [first, first + nr) each counting the clusters below `end`, all of them taken. */
static int write_new_blocks(struct qcow2 *q, uint64_t *table, uint64_t start, uint64_t first,
                            uint64_t nr, uint64_t end)
{
    for (uint64_t i = 0; i < nr; i++) {
        uint64_t from = (first + i) << q->refblock_bits, offset = (start + i) << q->cluster_bits;
        int r;

        memset(q->scratch, 0, q->cluster_size);
        for (uint64_t c = MAX(from, start); c < end && c - from < UINT64_C(1) << q->refblock_bits;
             c++)
            counter_set(q, q->scratch, c - from, 1);
        if ((r = qcow2_pwrite(q, q->scratch, q->cluster_size, offset)) < 0)
            return r;
        table[first + i] = offset;
    }
    return 0;
}

static int point_header_at(struct qcow2 *q, uint64_t offset, uint64_t clusters)
{
    uint8_t bytes[12];

    store_le64(bytes, htobe64(offset));
    store_le32(bytes + 8, htobe32((uint32_t)clusters));
    return qcow2_pwrite(q, bytes, sizeof(bytes), 48);
}

/*
 * A table of twice the size, behind everything that the old one can count: so the blocks for it are
 * new as well, and lie before it: [blocks][table], all counted by these blocks.
 */
static int reftable_grow(struct qcow2 *q)
{
    uint64_t entries = (uint64_t)q->reftable_entries * 2, per_cluster = q->cluster_size / 8;
    uint64_t start = (uint64_t)q->reftable_entries << q->refblock_bits;
    uint64_t clusters = round_up_clusters(q, entries * 8), nr_blocks = 1, end;
    uint64_t old_offset = q->reftable_offset, old_clusters = q->reftable_entries / per_cluster;
    CLEANUP(freep) uint64_t *disk = NULL;
    uint64_t *table;
    int r;

    if (entries * 8 > QCOW2_REFTABLE_MAX)
        return -EFBIG;
    while ((nr_blocks << q->refblock_bits) < nr_blocks + clusters)
        nr_blocks++;
    end = start + nr_blocks + clusters;
    if (end << q->cluster_bits >= QCOW2_OFFSET_MAX || nr_blocks > q->reftable_entries)
        return -EFBIG;
    table = calloc(entries, 8);
    disk = malloc(entries * 8);
    if (!table || !disk) {
        free(table);
        return -ENOMEM;
    }
    memcpy(table, q->reftable, (size_t)q->reftable_entries * 8);
    r = write_new_blocks(q, table, start, q->reftable_entries, nr_blocks, end);
    for (uint64_t i = 0; i < entries; i++)
        disk[i] = htobe64(table[i]);
    if (r < 0 ||
        (r = qcow2_pwrite(q, disk, entries * 8, (start + nr_blocks) << q->cluster_bits)) < 0 ||
        (r = qcow2_sync(q)) < 0 ||
        (r = point_header_at(q, (start + nr_blocks) << q->cluster_bits, clusters)) < 0) {
        free(table);
        return r;
    }
    free(q->reftable);
    q->reftable = table;
    q->reftable_entries = (uint32_t)entries;
    q->reftable_offset = (start + nr_blocks) << q->cluster_bits;
    for (uint64_t i = 0; r == 0 && i < old_clusters; i++)
        r = qcow2_release(q, old_offset + (i << q->cluster_bits));
    return r;
}

int qcow2_allocate(struct qcow2 *q, uint64_t *ret_offset)
{
    for (uint64_t cluster = q->free_hint;; cluster++) {
        struct qcow2_table *block;
        uint64_t index = cluster >> q->refblock_bits;
        int r;

        if (cluster << q->cluster_bits >= QCOW2_OFFSET_MAX)
            return -EFBIG;
        if (index >= q->reftable_entries) {
            if ((r = reftable_grow(q)) < 0)
                return r;
            continue;
        }
        if (!q->reftable[index] && (r = block_new(q, index)) < 0)
            return r;
        if ((r = block_of(q, cluster, &block)) < 0)
            return r;
        if (!block)
            return -EIO;
        if (counter_get(q, block->data, index_in_block(q, cluster))) {
            /* Taken, far behind the end of the file: the counts are invented. */
            if (cluster > (q->file_end >> q->cluster_bits) + ALLOCATE_BEYOND_END)
                return -EIO;
            continue;
        }
        if (holds_metadata(q, cluster))
            return -EIO;
        block_set(q, block, cluster, 1);
        q->free_hint = cluster + 1;
        *ret_offset = cluster << q->cluster_bits;
        return 0;
    }
}

int qcow2_refcount_add(struct qcow2 *q, uint64_t cluster, int delta)
{
    uint64_t most = q->refcount_order == 6 ? UINT64_MAX
                                           : (UINT64_C(1) << (1u << q->refcount_order)) - 1;
    struct qcow2_table *block;
    uint64_t count;
    int r = block_of(q, cluster, &block);

    if (r < 0)
        return r;
    count = block ? counter_get(q, block->data, index_in_block(q, cluster)) : 0;
    if (count == 0)
        return -EIO; /* of a cluster in use: the image is wrong about it */
    if (delta > 0 && count > most - (uint64_t)delta)
        return -EOVERFLOW;
    if (delta < 0 && count < (uint64_t)-delta)
        return -EIO;
    block_set(q, block, cluster, count + (uint64_t)delta);
    if (count + (uint64_t)delta == 0)
        q->free_hint = MIN(q->free_hint, cluster);
    return 0;
}

int qcow2_allocate_run(struct qcow2 *q, uint64_t nr, uint64_t *ret_offset)
{
    uint64_t first = 0, length = 0;
    int r = 0;

    while (r == 0 && length < nr) {
        uint64_t offset;

        if ((r = qcow2_allocate(q, &offset)) < 0)
            break;
        if (length && offset == first + (length << q->cluster_bits)) {
            length++;
            continue;
        }
        /* Too short a gap: given back, and looked for further on. */
        for (uint64_t i = 0; r == 0 && i < length; i++)
            r = qcow2_refcount_add(q, (first >> q->cluster_bits) + i, -1);
        first = offset;
        length = 1;
        q->free_hint = (offset >> q->cluster_bits) + 1;
    }
    *ret_offset = first;
    return r;
}

int qcow2_release(struct qcow2 *q, uint64_t offset)
{
    int r = q->nr_released == QCOW2_RELEASED_MAX ? qcow2_flush(q) : 0;

    if (r == 0)
        q->released[q->nr_released++] = offset;
    return r;
}

int qcow2_released_apply(struct qcow2 *q)
{
    unsigned nr = q->nr_released;

    q->nr_released = 0;
    for (unsigned i = 0; i < nr; i++) {
        uint64_t cluster = q->released[i] >> q->cluster_bits, count;
        struct qcow2_table *block;
        int r = block_of(q, cluster, &block);

        if (r < 0)
            return r;
        if (!block || !(count = counter_get(q, block->data, index_in_block(q, cluster))))
            continue; /* the image was wrong about it */
        block_set(q, block, cluster, count - 1);
        if (count == 1)
            q->free_hint = MIN(q->free_hint, cluster);
    }
    return 0;
}
