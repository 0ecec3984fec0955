/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal snapshots and changes of size (specification: "Snapshots", "Header").
 *
 * A snapshot is a copy of the L1 table: every L2 table and cluster below it counts once for each L1
 * table that leads to it. QCOW2_COPIED in the active tables says that a count is 1. The steps of
 * each change stand in the order in which they must reach the disk:
 *
 *      counts up, sync -> flags off, sync -> new tables, sync -> header, sync -> counts down
 *
 * so that a crash between any two leaves clusters that are counted too often, never too rarely, and
 * flags that are off by that; disk_check repairs both, and no data is in danger meanwhile.
 */
#include "block/disk_file.h"
#include "block/qcow2_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SNAPSHOT_HEAD  40
#define SNAPSHOT_EXTRA 16
#define TABLE_MAX      (64 * MIB)

int qcow2_load_l1(struct qcow2 *q, uint64_t offset, uint32_t size, uint64_t **ret)
{
    CLEANUP(freep) uint64_t *l1 = NULL;
    int r;

    if ((uint64_t)size * 8 > QCOW2_L1_BYTES_MAX || offset & (q->cluster_size - 1) ||
        !range_fits(offset, (uint64_t)size * 8, q->file_end))
        return -EINVAL;
    if (!(l1 = calloc(MAX(size, 1u), 8)))
        return -ENOMEM;
    if ((r = qcow2_pread(q, l1, (uint64_t)size * 8, offset)) < 0)
        return r;
    for (uint32_t i = 0; i < size; i++)
        l1[i] = be64toh(l1[i]);
    *ret = TAKE_PTR(l1);
    return 0;
}

static int visit_entry(struct qcow2 *q, uint64_t entry, qcow2_visit_fn *visit, void *context)
{
    unsigned shift = 62 - (q->cluster_bits - 8);
    uint64_t offset, end;
    int r = 0;

    if (!(entry & QCOW2_COMPRESSED)) {
        offset = entry & QCOW2_OFFSET_MASK;
        return offset ? visit(q, offset >> q->cluster_bits, context) : 0;
    }
    offset = align_down(entry & ((UINT64_C(1) << shift) - 1), 512);
    end = offset + (((entry & ~(QCOW2_COMPRESSED | QCOW2_COPIED)) >> shift) + 1) * 512;
    for (offset = align_down(offset, q->cluster_size); r == 0 && offset < end;
         offset += q->cluster_size)
        r = visit(q, offset >> q->cluster_bits, context);
    return r;
}

int qcow2_walk(struct qcow2 *q, const uint64_t *l1, uint32_t l1_size, qcow2_visit_fn *visit,
               void *context)
{
    CLEANUP(freep) uint8_t *copy = malloc(q->cluster_size);
    uint64_t most = q->file_end >> q->cluster_bits;
    int r = copy ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < l1_size; i++) {
        uint64_t offset = l1[i] & QCOW2_OFFSET_MASK;
        struct qcow2_table *table;

        if (!offset)
            continue;
        /* No table is there twice: a broken image must not make this as long as it likes. */
        if (offset & (q->cluster_size - 1) || most-- == 0)
            return -EIO;
        if ((r = qcow2_table_get(q, &q->l2, offset, false, &table)) < 0)
            return r;
        memcpy(copy, table->data, q->cluster_size);
        for (uint64_t n = 0; r == 0 && n < q->cluster_size / 8; n++)
            r = visit_entry(q, be64toh(load_le64(copy + 8 * n)), visit, context);
        if (r == 0)
            r = visit(q, offset >> q->cluster_bits, context);
    }
    return r;
}

/* Everything on the disk: the second flush writes the counts that the first let go down. */
static int settle(struct qcow2 *q)
{
    int r = qcow2_flush(q);

    return r < 0 ? r : qcow2_flush(q);
}

static int add_one(struct qcow2 *q, uint64_t cluster, void *context)
{
    return qcow2_refcount_add(q, cluster, *(int *)context);
}

static int count_tree(struct qcow2 *q, const uint64_t *l1, uint32_t l1_size, int delta)
{
    return qcow2_walk(q, l1, l1_size, add_one, &delta);
}

static int count_run(struct qcow2 *q, uint64_t offset, uint64_t bytes, int delta)
{
    int r = 0;

    for (uint64_t at = 0; r == 0 && at < bytes; at += q->cluster_size)
        r = qcow2_refcount_add(q, (offset + at) >> q->cluster_bits, delta);
    return r;
}

/* QCOW2_COPIED as the counts say, in the table of one L1 entry. */
static int flag_table(struct qcow2 *q, uint64_t offset)
{
    for (uint64_t n = 0; n < q->cluster_size / 8; n++) {
        struct qcow2_table *table;
        uint64_t entry, wanted, count;
        int r = qcow2_table_get(q, &q->l2, offset, false, &table);

        if (r < 0)
            return r;
        entry = be64toh(load_le64(table->data + 8 * n));
        if (entry & QCOW2_COMPRESSED || !(entry & QCOW2_OFFSET_MASK))
            continue;
        if ((r = qcow2_refcount_get(q, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits, &count)) < 0)
            return r;
        wanted = count == 1 ? entry | QCOW2_COPIED : entry & ~QCOW2_COPIED;
        if (wanted == entry)
            continue;
        if ((r = qcow2_table_get(q, &q->l2, offset, false, &table)) < 0)
            return r;
        store_le64(table->data + 8 * n, htobe64(wanted));
        qcow2_table_dirty(table, (uint32_t)(8 * n), (uint32_t)(8 * n + 8));
    }
    return 0;
}

int qcow2_flag_all(struct qcow2 *q)
{
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < q->l1_size; i++) {
        uint64_t offset = q->l1[i] & QCOW2_OFFSET_MASK, count;

        if (!offset)
            continue;
        if ((r = flag_table(q, offset)) == 0 &&
            (r = qcow2_refcount_get(q, offset >> q->cluster_bits, &count)) == 0)
            q->l1[i] = offset | (count == 1 ? QCOW2_COPIED : 0);
    }
    q->l1_dirty_from = 0;
    q->l1_dirty_to = q->l1_size;
    return r < 0 ? r : qcow2_flush(q);
}

/* A new table of level 1, written but not used yet. `keep`: the bits of each entry that stay. */
static int write_l1(struct qcow2 *q, const uint64_t *l1, uint32_t size, uint64_t keep,
                    uint64_t *ret_offset)
{
    CLEANUP(freep) uint64_t *disk = calloc(MAX(size, 1u), 8);
    uint64_t clusters = ((uint64_t)size * 8 + q->cluster_size - 1) >> q->cluster_bits;
    uint64_t bytes = MAX(clusters, UINT64_C(1)) << q->cluster_bits;
    CLEANUP(freep) uint8_t *padded = calloc(1, bytes);
    int r;

    if (!disk || !padded)
        return -ENOMEM;
    for (uint32_t i = 0; i < size; i++)
        disk[i] = htobe64(l1[i] & keep);
    memcpy(padded, disk, (uint64_t)size * 8);
    if ((r = qcow2_allocate_run(q, bytes >> q->cluster_bits, ret_offset)) < 0)
        return r;
    return qcow2_pwrite(q, padded, bytes, *ret_offset);
}

static uint64_t l1_bytes(const struct qcow2 *q, uint32_t size)
{
    return align_up(MAX((uint64_t)size * 8, UINT64_C(1)), q->cluster_size);
}

/* Size and L1 table change in one write: bytes 24 to 48 of the header lie in one sector. */
static int switch_l1(struct qcow2 *q, uint64_t bytes, uint64_t offset, uint32_t size)
{
    uint8_t header[24];
    int r;

    store_le64(header, htobe64(bytes));
    store_le32(header + 8, 0); /* not encrypted: others are not opened */
    store_le32(header + 12, htobe32(size));
    store_le64(header + 16, htobe64(offset));
    if ((r = qcow2_cache_write(q, &q->refblocks)) < 0 || (r = qcow2_sync(q)) < 0 ||
        (r = qcow2_pwrite(q, header, sizeof(header), 24)) < 0)
        return r;
    return qcow2_sync(q);
}

/* The list of snapshots in memory. */
struct snapshots {
    uint8_t *table;
    uint64_t bytes;
    uint32_t nr;
    uint64_t *starts; /* of each entry in table; nr + 1 */
    struct qcow2_snapshot *entries;
};

static void snapshots_done(struct snapshots *s)
{
    free(s->table);
    free(s->starts);
    free(s->entries);
}

static int snapshots_load(struct qcow2 *q, struct snapshots *s)
{
    uint64_t at = q->snapshots_offset;
    int r;

    memset(s, 0, sizeof(*s));
    s->nr = q->nr_snapshots;
    s->starts = calloc((size_t)s->nr + 2, sizeof(*s->starts));
    s->entries = calloc((size_t)s->nr + 1, sizeof(*s->entries));
    if (!s->starts || !s->entries)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->nr; i++) {
        if ((r = qcow2_snapshot_read(q, &at, &s->entries[i])) < 0)
            return r;
        s->starts[i + 1] = at - q->snapshots_offset;
        if (s->starts[i + 1] > TABLE_MAX)
            return -EFBIG;
    }
    s->bytes = s->starts[s->nr];
    if (!(s->table = calloc(1, s->bytes + SNAPSHOT_HEAD + SNAPSHOT_EXTRA + 512)))
        return -ENOMEM;
    return qcow2_pread(q, s->table, s->bytes, q->snapshots_offset);
}

/* Writes the list to a new place and lets the header name it. */
static int snapshots_store(struct qcow2 *q, const struct snapshots *s)
{
    uint64_t old = q->snapshots_offset, old_bytes = 0, offset = 0;
    struct snapshots before = {0};
    uint8_t header[12];
    int r;

    if (q->nr_snapshots) {
        r = snapshots_load(q, &before);
        old_bytes = before.bytes;
        snapshots_done(&before);
        if (r < 0)
            return r;
    }
    if (s->nr) {
        if ((r = qcow2_allocate_run(q, (s->bytes + q->cluster_size - 1) >> q->cluster_bits,
                                    &offset)) < 0 ||
            (r = qcow2_pwrite(q, s->table, s->bytes, offset)) < 0)
            return r;
    }
    store_le32(header, htobe32(s->nr));
    store_le64(header + 4, htobe64(offset));
    if ((r = qcow2_cache_write(q, &q->refblocks)) < 0 || (r = qcow2_sync(q)) < 0 ||
        (r = qcow2_pwrite(q, header, sizeof(header), 60)) < 0 || (r = qcow2_sync(q)) < 0)
        return r;
    q->nr_snapshots = s->nr;
    q->snapshots_offset = offset;
    return old_bytes ? count_run(q, old, old_bytes, -1) : 0;
}

static int append(struct qcow2 *q, struct snapshots *s, const char *name, uint64_t l1_offset)
{
    uint8_t *entry = s->table + s->bytes;
    unsigned long id = 0;
    char id_text[24];
    uint64_t length;

    for (uint32_t i = 0; i < s->nr; i++)
        id = MAX(id, strtoul(s->entries[i].shown.id, NULL, 10));
    snprintf(id_text, sizeof(id_text), "%lu", id + 1);
    length = SNAPSHOT_HEAD + SNAPSHOT_EXTRA + strlen(id_text) + strlen(name);
    store_le64(entry, htobe64(l1_offset));
    store_le32(entry + 8, htobe32(q->l1_size));
    store_le16(entry + 12, htobe16((uint16_t)strlen(id_text)));
    store_le16(entry + 14, htobe16((uint16_t)strlen(name)));
    store_le32(entry + 16, htobe32((uint32_t)time(NULL)));
    store_le32(entry + 36, htobe32(SNAPSHOT_EXTRA));
    store_le64(entry + SNAPSHOT_HEAD + 8, htobe64(q->size));
    memcpy(entry + SNAPSHOT_HEAD + SNAPSHOT_EXTRA, id_text, strlen(id_text));
    memcpy(entry + SNAPSHOT_HEAD + SNAPSHOT_EXTRA + strlen(id_text), name, strlen(name));
    s->bytes = align_up(s->bytes + length, 8);
    s->nr++;
    return s->nr > QCOW2_SNAPSHOTS_MAX ? -E2BIG : 0;
}

static int find(const struct snapshots *s, const char *name)
{
    for (uint32_t i = 0; i < s->nr; i++)
        if (!strcmp(s->entries[i].shown.name, name))
            return (int)i;
    for (uint32_t i = 0; i < s->nr; i++)
        if (!strcmp(s->entries[i].shown.id, name))
            return (int)i;
    return -ENOENT;
}

static int make(struct qcow2 *q, struct snapshots *s, const char *name)
{
    uint64_t l1_offset;
    int r;

    if ((r = settle(q)) < 0 || (r = count_tree(q, q->l1, q->l1_size, 1)) < 0 ||
        (r = qcow2_cache_write(q, &q->refblocks)) < 0 || (r = qcow2_sync(q)) < 0 ||
        (r = qcow2_flag_all(q)) < 0 ||
        (r = write_l1(q, q->l1, q->l1_size, QCOW2_OFFSET_MASK, &l1_offset)) < 0 ||
        (r = append(q, s, name, l1_offset)) < 0 || (r = snapshots_store(q, s)) < 0)
        return r;
    return qcow2_flush(q);
}

static int apply(struct qcow2 *q, const struct qcow2_snapshot *snapshot)
{
    uint64_t old_offset = q->l1_offset, *old = q->l1, bytes = snapshot->disk_bytes, offset;
    uint32_t old_size = q->l1_size, size = snapshot->l1_size;
    CLEANUP(freep) uint64_t *l1 = NULL;
    int r;

    if (!bytes)
        bytes = q->size;
    if (bytes >= QCOW2_OFFSET_MAX || (uint64_t)size << (q->cluster_bits + q->l2_bits) < bytes)
        return -EINVAL;
    if ((r = settle(q)) < 0 || (r = qcow2_load_l1(q, snapshot->l1_offset, size, &l1)) < 0 ||
        (r = count_tree(q, l1, size, 1)) < 0 || (r = qcow2_cache_write(q, &q->refblocks)) < 0 ||
        (r = qcow2_sync(q)) < 0 || (r = write_l1(q, l1, size, QCOW2_OFFSET_MASK, &offset)) < 0 ||
        (r = switch_l1(q, bytes, offset, size)) < 0)
        return r;
    q->l1 = TAKE_PTR(l1);
    for (uint32_t i = 0; i < size; i++)
        q->l1[i] &= QCOW2_OFFSET_MASK;
    q->l1_size = size;
    q->l1_offset = offset;
    q->size = bytes;
    r = count_tree(q, old, old_size, -1);
    free(old);
    if (r < 0 || (r = count_run(q, old_offset, l1_bytes(q, old_size), -1)) < 0)
        return r;
    return qcow2_flag_all(q);
}

static int drop(struct qcow2 *q, struct snapshots *s, uint32_t index)
{
    struct qcow2_snapshot gone = s->entries[index];
    uint64_t from = s->starts[index], to = s->starts[index + 1];
    CLEANUP(freep) uint64_t *l1 = NULL;
    int r;

    if ((r = qcow2_load_l1(q, gone.l1_offset, gone.l1_size, &l1)) < 0)
        return r;
    memmove(s->table + from, s->table + to, s->bytes - to);
    s->bytes -= to - from;
    s->nr--;
    if ((r = snapshots_store(q, s)) < 0 || (r = count_tree(q, l1, gone.l1_size, -1)) < 0 ||
        (r = count_run(q, gone.l1_offset, l1_bytes(q, gone.l1_size), -1)) < 0)
        return r;
    return qcow2_flag_all(q);
}

enum change { CREATE, APPLY, REMOVE };

static int change_snapshots(const char *path, const char *name, enum change change, struct err *err)
{
    static const char *const words[] = {"make", "apply", "remove"};
    struct qcow2_backing none = {NULL, false};
    CLEANUP(qcow2_closep) struct qcow2 *q = NULL;
    struct snapshots s = {0};
    struct err first = ERR_INIT;
    int r = qcow2_open(path, false, NULL, 0, &q, &first), at;

    /* Tables change here and no data: what is below does not matter. */
    if (r == -EPERM)
        r = qcow2_open(path, false, &none, 1, &q, err);
    else if (r < 0)
        return err_set(err, r, "%s", first.message);
    if (r < 0)
        return r;
    if (!*name || strlen(name) > 255)
        return err_set(err, -EINVAL, "a snapshot's name has 1 to 255 bytes");
    if ((r = snapshots_load(q, &s)) == 0) {
        at = find(&s, name);
        if (change == CREATE && at >= 0)
            r = err_set(err, -EEXIST, "'%s' has a snapshot '%s' already", path, name);
        else if (change != CREATE && at < 0)
            r = err_set(err, -ENOENT, "'%s' has no snapshot '%s'", path, name);
        else if (change == CREATE)
            r = make(q, &s, name);
        else
            r = change == APPLY ? apply(q, &s.entries[at]) : drop(q, &s, (uint32_t)at);
    }
    snapshots_done(&s);
    if (r == 0)
        r = qcow2_flush(q);
    if (r < 0 && err && err->code < 0)
        return r;
    if (r == -EOVERFLOW)
        return err_set(err, r, "'%s' counts references in too few bits for another snapshot", path);
    return r < 0 ? err_errno(err, r, "%s a snapshot of '%s'", words[change], path) : 0;
}

int disk_snapshot_create(const char *path, const char *name, struct err *err)
{
    return change_snapshots(path, name, CREATE, err);
}

int disk_snapshot_apply(const char *path, const char *name, struct err *err)
{
    return change_snapshots(path, name, APPLY, err);
}

int disk_snapshot_remove(const char *path, const char *name, struct err *err)
{
    return change_snapshots(path, name, REMOVE, err);
}

int qcow2_resize(struct qcow2 *q, uint64_t bytes)
{
    uint64_t old_bytes = q->size, old_offset = q->l1_offset, offset = q->l1_offset;
    uint64_t covered = UINT64_C(1) << (q->cluster_bits + q->l2_bits);
    uint64_t size = MAX((bytes + covered - 1) / covered, (uint64_t)q->l1_size);
    uint32_t old_size = q->l1_size;
    uint64_t *grown;
    int r;

    if (bytes >= QCOW2_OFFSET_MAX || size * 8 > QCOW2_L1_BYTES_MAX)
        return -EFBIG;
    if (bytes < old_bytes && (r = qcow2_zero(q, bytes, old_bytes - bytes, false)) < 0)
        return r;
    if ((r = settle(q)) < 0)
        return r;
    if (size > old_size) {
        if (!(grown = realloc(q->l1, size * 8)))
            return -ENOMEM;
        q->l1 = grown;
        memset(grown + old_size, 0, (size - old_size) * 8);
        if ((r = write_l1(q, grown, (uint32_t)size, UINT64_MAX, &offset)) < 0)
            return r;
    }
    if ((r = switch_l1(q, bytes, offset, (uint32_t)size)) < 0)
        return r;
    q->size = bytes;
    q->l1_size = (uint32_t)size;
    q->l1_offset = offset;
    if (offset != old_offset && (r = count_run(q, old_offset, l1_bytes(q, old_size), -1)) < 0)
        return r;
    /* A longer backing file must not show through what is new. */
    if (bytes > old_bytes && (q->backing || q->backing_fd >= 0) && q->backing_bytes > old_bytes &&
        (r = qcow2_zero(q, old_bytes, MIN(bytes, q->backing_bytes) - old_bytes, false)) < 0)
        return r;
    return settle(q);
}
