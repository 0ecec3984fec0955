/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/msix.h"

#include "base/util.h"

#include <string.h>

#define CAPABILITY_ID 0x11
#define WORD_CONTROL  3
#define WORD_MASK     1u

void msix_init(struct msix *msix, unsigned nr_vectors)
{
    *msix = (struct msix){.nr = MIN(nr_vectors, (unsigned)MSIX_VECTORS_MAX)};
    pthread_mutex_init(&msix->lock, NULL);
    msix_reset(msix);
}

void msix_done(struct msix *msix)
{
    pthread_mutex_destroy(&msix->lock);
}

void msix_connect(struct msix *msix, const struct irq_sink *sink)
{
    msix->sink = sink;
}

void msix_reset(struct msix *msix)
{
    pthread_mutex_lock(&msix->lock);
    __atomic_store_n(&msix->control, 0, __ATOMIC_RELEASE);
    memset(msix->vectors, 0, sizeof(msix->vectors));
    for (unsigned i = 0; i < msix->nr; i++)
        msix->vectors[i].words[WORD_CONTROL] = WORD_MASK;
    pthread_mutex_unlock(&msix->lock);
}

void msix_describe(const struct msix *msix, uint8_t *capability, uint8_t next, uint32_t table,
                   uint32_t pending)
{
    capability[0] = CAPABILITY_ID;
    capability[1] = next;
    store_le16(capability + MSIX_CONTROL, (uint16_t)(msix->nr - 1));
    store_le32(capability + 4, table); /* the lowest bits: BAR 0 */
    store_le32(capability + 8, pending);
}

static void send_pending_locked(struct msix *msix)
{
    if ((msix->control & MSIX_CONTROL_KEPT) != MSIX_CONTROL_ENABLE)
        return;
    for (unsigned i = 0; i < msix->nr; i++) {
        struct msix_vector *vector = &msix->vectors[i];

        if (!vector->pending || vector->words[WORD_CONTROL] & WORD_MASK)
            continue;
        vector->pending = false;
        msix->sink->msi(msix->sink->context, (uint64_t)vector->words[1] << 32 | vector->words[0],
                        vector->words[2]);
    }
}

void msix_set_control(struct msix *msix, uint16_t control)
{
    pthread_mutex_lock(&msix->lock);
    __atomic_store_n(&msix->control, control & MSIX_CONTROL_KEPT, __ATOMIC_RELEASE);
    send_pending_locked(msix);
    pthread_mutex_unlock(&msix->lock);
}

void msix_raise(struct msix *msix, unsigned vector)
{
    pthread_mutex_lock(&msix->lock);
    if (vector < msix->nr && msix->control & MSIX_CONTROL_ENABLE) {
        msix->vectors[vector].pending = true;
        send_pending_locked(msix);
    }
    pthread_mutex_unlock(&msix->lock);
}

static bool in_table(const struct msix *msix, uint64_t offset, unsigned size)
{
    return (size == 4 || size == 8) && offset % size == 0 &&
           range_fits(offset, size, (uint64_t)msix->nr * MSIX_ENTRY_BYTES);
}

void msix_table_read(struct msix *msix, uint64_t offset, void *data, unsigned size)
{
    memset(data, 0, size);
    if (!in_table(msix, offset, size))
        return;
    pthread_mutex_lock(&msix->lock);
    memcpy(data, &msix->vectors[offset / MSIX_ENTRY_BYTES].words[offset % MSIX_ENTRY_BYTES / 4],
           size);
    pthread_mutex_unlock(&msix->lock);
}

void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned size)
{
    struct msix_vector *vector;

    if (!in_table(msix, offset, size))
        return;
    pthread_mutex_lock(&msix->lock);
    vector = &msix->vectors[offset / MSIX_ENTRY_BYTES];
    memcpy(&vector->words[offset % MSIX_ENTRY_BYTES / 4], data, size);
    vector->words[0] &= ~UINT32_C(3);
    vector->words[WORD_CONTROL] &= WORD_MASK;
    send_pending_locked(msix);
    pthread_mutex_unlock(&msix->lock);
}

void msix_pending_read(struct msix *msix, uint64_t offset, void *data, unsigned size)
{
    uint64_t bits = 0;

    memset(data, 0, size);
    if (!range_fits(offset, size, sizeof(bits)))
        return;
    pthread_mutex_lock(&msix->lock);
    for (unsigned i = 0; i < msix->nr; i++)
        bits |= (uint64_t)msix->vectors[i].pending << i;
    pthread_mutex_unlock(&msix->lock);
    memcpy(data, (const char *)&bits + offset, size);
}
