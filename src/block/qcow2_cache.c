/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of one cluster in a fixed number of slots, the least recently used given up first. Of a
 * dirty table only the changed part is written. A dirty slot is never dropped: when all are dirty,
 * the caller's qcow2_flush writes them in the right order.
 */
#include "block/qcow2_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int qcow2_cache_init(struct qcow2 *q, struct qcow2_cache *cache)
{
    uint64_t nr = QCOW2_CACHE_BYTES / q->cluster_size;

    nr = MIN(MAX(nr, (uint64_t)QCOW2_CACHE_SLOTS_MIN), (uint64_t)QCOW2_CACHE_SLOTS_MAX);
    for (; cache->nr < nr; cache->nr++)
        if (!(cache->slots[cache->nr].data = malloc(q->cluster_size)))
            return -ENOMEM;
    return 0;
}

void qcow2_cache_done(struct qcow2_cache *cache)
{
    for (unsigned i = 0; i < cache->nr; i++)
        free(cache->slots[i].data);
}

static bool dirty(const struct qcow2_table *table)
{
    return table->dirty_from < table->dirty_to;
}

void qcow2_table_dirty(struct qcow2_table *table, uint32_t from, uint32_t to)
{
    table->dirty_from = dirty(table) ? MIN(table->dirty_from, from) : from;
    table->dirty_to = MAX(table->dirty_to, to);
}

static struct qcow2_table *victim(struct qcow2_cache *cache)
{
    struct qcow2_table *oldest = NULL;

    for (unsigned i = 0; i < cache->nr; i++) {
        struct qcow2_table *table = &cache->slots[i];

        if (!dirty(table) && (!oldest || table->stamp < oldest->stamp))
            oldest = table;
    }
    return oldest;
}

int qcow2_table_get(struct qcow2 *q, struct qcow2_cache *cache, uint64_t offset, bool fresh,
                    struct qcow2_table **ret)
{
    struct qcow2_table *table;
    int r;

    for (unsigned i = 0; i < cache->nr; i++)
        if (cache->slots[i].offset == offset) {
            table = &cache->slots[i];
            goto found;
        }
    if (!(table = victim(cache))) {
        if ((r = qcow2_flush(q)) < 0)
            return r;
        if (!(table = victim(cache)))
            return -EIO;
    }
    table->offset = 0;
    if (!fresh) {
        /* A table lies in the file whole; what is beyond its end is no table. */
        if (!range_fits(offset, q->cluster_size, q->file_end))
            return -EIO;
        if ((r = qcow2_pread(q, table->data, q->cluster_size, offset)) < 0)
            return r;
    }
    table->offset = offset;
    table->dirty_from = table->dirty_to = 0;
found:
    if (fresh) {
        memset(table->data, 0, q->cluster_size);
        qcow2_table_dirty(table, 0, (uint32_t)q->cluster_size);
    }
    table->stamp = ++cache->clock;
    *ret = table;
    return 0;
}

int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *cache)
{
    for (unsigned i = 0; i < cache->nr; i++) {
        struct qcow2_table *table = &cache->slots[i];
        int r;

        if (!dirty(table))
            continue;
        r = qcow2_pwrite(q, table->data + table->dirty_from, table->dirty_to - table->dirty_from,
                         table->offset + table->dirty_from);
        if (r < 0)
            return r;
        table->dirty_from = table->dirty_to = 0;
    }
    return 0;
}

bool qcow2_cache_is_dirty(const struct qcow2_cache *cache)
{
    for (unsigned i = 0; i < cache->nr; i++)
        if (dirty(&cache->slots[i]))
            return true;
    return false;
}
