/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts every reference in the image and compares with its refcounts. More counted than there are
 * is an error (a cluster used twice, or in use but free), fewer is a leak. Repair gives leaks back
 * and sets QCOW2_COPIED right; errors are left to be seen.
 */
#include "block/disk_file.h"
#include "block/qcow2_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLUSTERS_MAX (UINT64_C(1) << 28) /* 1 GiB of counters */

struct check {
    uint32_t *counts;
    uint64_t nr;
    struct disk_checked *result;
};

static int count(struct qcow2 *q, uint64_t cluster, void *context)
{
    struct check *check = context;

    (void)q;
    if (cluster >= check->nr)
        check->result->nr_errors++; /* behind the end of the file */
    else if (check->counts[cluster] < UINT32_MAX)
        check->counts[cluster]++;
    return 0;
}

static int count_run(struct qcow2 *q, struct check *check, uint64_t offset, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += q->cluster_size)
        count(q, (offset + at) >> q->cluster_bits, check);
    return 0;
}

static int count_snapshots(struct qcow2 *q, struct check *check)
{
    uint64_t at = q->snapshots_offset;
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < q->nr_snapshots; i++) {
        CLEANUP(freep) uint64_t *l1 = NULL;
        struct qcow2_snapshot snapshot;

        if ((r = qcow2_snapshot_read(q, &at, &snapshot)) < 0 ||
            (r = qcow2_load_l1(q, snapshot.l1_offset, snapshot.l1_size, &l1)) < 0)
            break;
        count_run(q, check, snapshot.l1_offset, MAX((uint64_t)snapshot.l1_size * 8, UINT64_C(1)));
        r = qcow2_walk(q, l1, snapshot.l1_size, count, check);
    }
    if (q->nr_snapshots)
        count_run(q, check, q->snapshots_offset, at - q->snapshots_offset);
    return r;
}

static int count_all(struct qcow2 *q, struct check *check)
{
    int r;

    count(q, 0, check);
    count_run(q, check, q->l1_offset, (uint64_t)q->l1_size * 8);
    count_run(q, check, q->reftable_offset, (uint64_t)q->reftable_entries * 8);
    for (uint32_t i = 0; i < q->reftable_entries; i++)
        if (q->reftable[i])
            count(q, q->reftable[i] >> q->cluster_bits, check);
    if ((r = qcow2_walk(q, q->l1, q->l1_size, count, check)) < 0)
        return r;
    return count_snapshots(q, check);
}

static int compare(struct qcow2 *q, struct check *check, bool repair)
{
    struct disk_checked *result = check->result;

    for (uint64_t cluster = 0; cluster < check->nr; cluster++) {
        uint64_t has, wanted = check->counts[cluster];
        int r = qcow2_refcount_get(q, cluster, &has);

        if (r < 0)
            return r;
        result->nr_clusters += wanted != 0;
        if (has < wanted)
            result->nr_errors++;
        if (has <= wanted)
            continue;
        result->nr_leaks++;
        if (!repair)
            continue;
        while (r == 0 && has > wanted) {
            int step = (int)MIN(has - wanted, (uint64_t)INT32_MAX);

            r = qcow2_refcount_add(q, cluster, -step);
            has -= (uint64_t)step;
        }
        if (r < 0)
            return r;
        result->nr_repaired++;
    }
    return 0;
}

static int flag_is_right(struct qcow2 *q, uint64_t entry, uint64_t *nr_wrong)
{
    uint64_t has;
    int r;

    if (entry & QCOW2_COMPRESSED || !(entry & QCOW2_OFFSET_MASK))
        return 0;
    if ((r = qcow2_refcount_get(q, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits, &has)) < 0)
        return r;
    *nr_wrong += (has == 1) != ((entry & QCOW2_COPIED) != 0);
    return 0;
}

static int check_flags(struct qcow2 *q, uint64_t *nr_wrong)
{
    CLEANUP(freep) uint8_t *copy = malloc(q->cluster_size);
    int r = copy ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < q->l1_size; i++) {
        struct qcow2_table *table;
        uint64_t offset = q->l1[i] & QCOW2_OFFSET_MASK;

        if (!offset)
            continue;
        if ((r = flag_is_right(q, q->l1[i], nr_wrong)) < 0 ||
            (r = qcow2_table_get(q, &q->l2, offset, false, &table)) < 0)
            return r;
        memcpy(copy, table->data, q->cluster_size);
        for (uint64_t n = 0; r == 0 && n < q->cluster_size / 8; n++)
            r = flag_is_right(q, be64toh(load_le64(copy + 8 * n)), nr_wrong);
    }
    return r;
}

static int check_image(struct qcow2 *q, bool repair, struct disk_checked *ret)
{
    CLEANUP(freep) uint32_t *counts = NULL;
    struct check check = {.nr = (q->file_end + q->cluster_size - 1) >> q->cluster_bits,
                          .result = ret};
    uint64_t nr_wrong = 0;
    int r;

    if (check.nr > CLUSTERS_MAX)
        return -EFBIG;
    if (!(counts = calloc(MAX(check.nr, UINT64_C(1)), sizeof(*counts))))
        return -ENOMEM;
    check.counts = counts;
    if ((r = count_all(q, &check)) < 0 || (r = compare(q, &check, repair)) < 0 ||
        (r = check_flags(q, &nr_wrong)) < 0)
        return r;
    if (repair && nr_wrong && ret->nr_errors == 0) {
        if ((r = qcow2_flag_all(q)) < 0)
            return r;
        ret->nr_repaired += nr_wrong;
    } else {
        ret->nr_errors += nr_wrong;
    }
    return repair ? qcow2_flush(q) : 0;
}

int disk_check(const char *path, bool repair, struct disk_checked *ret, struct err *err)
{
    struct qcow2_backing none = {NULL, false};
    CLEANUP(qcow2_closep) struct qcow2 *q = NULL;
    struct err first = ERR_INIT;
    int r = qcow2_open(path, !repair, NULL, 0, &q, &first);

    if (r == -EPERM)
        r = qcow2_open(path, !repair, &none, 1, &q, err);
    else if (r < 0)
        return err_set(err, r, "%s", first.message);
    if (r < 0)
        return r;
    memset(ret, 0, sizeof(*ret));
    r = check_image(q, repair, ret);
    if (r == -EIO || r == -EINVAL)
        return err_set(err, -EUCLEAN, "'%s' is damaged: its tables lead outside of it", path);
    return r < 0 ? err_errno(err, r, "check '%s'", path) : 0;
}
