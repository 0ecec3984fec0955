/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues, device side (virtio 1.2 2.7). Layouts (all little-endian):
 *   descriptor: le64 address, le32 length, le16 flags, le16 next
 *   available:  le16 flags, le16 idx, le16 ring[size], le16 used_event
 *   used:       le16 flags, le16 idx, {le32 id, le32 length}[size], le16 avail_event
 */
#include "virtio/queue.h"

#include "base/util.h"
#include "virtio/spec.h"

#include <errno.h>
#include <string.h>

#define DESC_SIZE 16

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

struct table {
    const uint8_t *host;
    uint32_t size; /* descriptors */
};

/*
 * Ring fields are 2-aligned (checked in virtq_start). Stores are sequentially consistent, loads
 * too: "publish, then look whether the other side wants to hear of it" needs the full order, on
 * both sides.
 */
static uint16_t ring_load(const uint8_t *ring, size_t offset)
{
    return __atomic_load_n((const uint16_t *)(const void *)(ring + offset), __ATOMIC_SEQ_CST);
}

static void used_store(struct virtq *queue, size_t offset, uint16_t value)
{
    __atomic_store_n((uint16_t *)(void *)(queue->used + offset), value, __ATOMIC_SEQ_CST);
    memory_written(queue->memory, queue->used_gpa + offset, sizeof(value));
}

static size_t used_event_offset(const struct virtq *queue)
{
    return 4 + 2 * (size_t)queue->size;
}

static size_t avail_event_offset(const struct virtq *queue)
{
    return 4 + 8 * (size_t)queue->size;
}

static int break_queue(struct virtq *queue, const char *why)
{
    queue->broken = why;
    return -EPROTO;
}

/* A device may write here: RAM, not ROM. */
static void *writable_range(struct memory *memory, gpa_t gpa, uint64_t length)
{
    const struct memory_slot *slot = memory_slot_find(memory, gpa);

    return slot && !slot->read_only ? memory_range(memory, gpa, length) : NULL;
}

int virtq_start(struct virtq *queue, struct memory *memory, const struct virtq_setup *setup,
                uint64_t features)
{
    uint64_t size = setup->size;

    memset(queue, 0, sizeof(*queue));
    queue->memory = memory;
    queue->event_idx = features & VIRTIO_F(VIRTIO_F_EVENT_IDX);
    queue->indirect = features & VIRTIO_F(VIRTIO_F_INDIRECT_DESC);
    queue->broken = "queue setup is not acceptable";
    if (size == 0 || size > VIRTQ_SIZE_MAX || (size & (size - 1)) || setup->desc % 16 ||
        setup->avail % 2 || setup->used % 4)
        return -EINVAL;
    queue->size = setup->size;
    queue->desc = memory_range(memory, setup->desc, DESC_SIZE * size);
    queue->avail = memory_range(memory, setup->avail, 6 + 2 * size);
    queue->used = writable_range(memory, setup->used, 6 + 8 * size);
    queue->used_gpa = setup->used;
    if (!queue->desc || !queue->avail || !queue->used)
        return -EINVAL;
    queue->broken = NULL;
    queue->running = true;
    return 0;
}

void virtq_stop(struct virtq *queue)
{
    memset(queue, 0, sizeof(*queue));
}

void virtq_hold(struct virtq *queue)
{
    queue->running = false;
}

void virtq_release(struct virtq *queue)
{
    queue->running = queue->size && !queue->broken;
}

/* The barrier keeps the compiler from reading the guest's copy again later. */
static void descriptor_copy(const struct table *table, uint32_t index, struct descriptor *ret)
{
    memcpy(ret, table->host + (size_t)index * DESC_SIZE, DESC_SIZE);
    __asm__ volatile("" : "+m"(*ret) : : "memory");
}

static const char *enter_indirect(struct virtq *queue, const struct descriptor *d,
                                  struct table *table)
{
    if (!queue->indirect)
        return "indirect descriptor without VIRTIO_F_INDIRECT_DESC";
    if (table->host != queue->desc)
        return "indirect descriptor inside an indirect table";
    if (d->flags & VIRTQ_DESC_F_NEXT)
        return "indirect descriptor that has a next one";
    if (d->length == 0 || d->length % DESC_SIZE || d->length / DESC_SIZE > VIRTQ_SEGMENTS_MAX)
        return "indirect table of a wrong size";
    table->host = memory_range(queue->memory, d->address, d->length);
    table->size = d->length / DESC_SIZE;
    return table->host ? NULL : "indirect table outside of guest memory";
}

static const char *add_segment(struct virtq *queue, const struct descriptor *d,
                               struct virtq_chain *chain)
{
    bool writable = d->flags & VIRTQ_DESC_F_WRITE;
    unsigned at = (unsigned)chain->nr_out + chain->nr_in;
    void *host;

    if (d->length == 0)
        return "descriptor of no length";
    if (chain->nr_in && !writable)
        return "readable descriptor behind a writable one";
    if (d->length > VIRTQ_CHAIN_BYTES_MAX - chain->out_bytes - chain->in_bytes)
        return "chain of too many bytes";
    host = writable ? writable_range(queue->memory, d->address, d->length)
                    : memory_range(queue->memory, d->address, d->length);
    if (!host)
        return "descriptor outside of guest memory";
    chain->iov[at] = (struct iovec){.iov_base = host, .iov_len = d->length};
    chain->gpa[at] = d->address;
    if (writable) {
        chain->nr_in++;
        chain->in_bytes += d->length;
    } else {
        chain->nr_out++;
        chain->out_bytes += d->length;
    }
    return NULL;
}

static const char *walk(struct virtq *queue, uint16_t head, struct virtq_chain *chain)
{
    struct table table = {.host = queue->desc, .size = queue->size};
    uint32_t index = head;
    const char *why;

    chain->head = head;
    chain->nr_out = chain->nr_in = 0;
    chain->out_bytes = chain->in_bytes = chain->touched_bytes = 0;
    if (head >= queue->size)
        return "available entry names no descriptor";
    for (unsigned count = 0; count < VIRTQ_SEGMENTS_MAX;) {
        struct descriptor d;

        descriptor_copy(&table, index, &d);
        if (d.flags & VIRTQ_DESC_F_INDIRECT) {
            why = enter_indirect(queue, &d, &table);
            if (why)
                return why;
            index = 0;
            continue; /* not inside a table: happens once */
        }
        why = add_segment(queue, &d, chain);
        if (why)
            return why;
        count++;
        if (!(d.flags & VIRTQ_DESC_F_NEXT))
            return NULL;
        index = d.next;
        if (index >= table.size)
            return "next descriptor is outside of the table";
    }
    return "chain of too many descriptors";
}

bool virtq_available(struct virtq *queue)
{
    return queue->running && !queue->broken && ring_load(queue->avail, 2) != queue->avail_next;
}

uint16_t virtq_nr_available(struct virtq *queue)
{
    if (!queue->running || queue->broken)
        return 0;
    return MIN((uint16_t)(ring_load(queue->avail, 2) - queue->avail_next), queue->size);
}

int virtq_pop(struct virtq *queue, struct virtq_chain *ret)
{
    uint16_t index, head;
    const char *why;

    if (queue->broken)
        return -EPROTO;
    if (!queue->running)
        return 0;
    index = ring_load(queue->avail, 2);
    if (index == queue->avail_next)
        return 0;
    if ((uint16_t)(index - queue->avail_next) > queue->size)
        return break_queue(queue, "available index ran away");
    head = ring_load(queue->avail, 4 + 2 * (size_t)(queue->avail_next % queue->size));
    why = walk(queue, head, ret);
    if (why)
        return break_queue(queue, why);
    queue->avail_next++;
    return 1;
}

void virtq_rewind(struct virtq *queue, unsigned count)
{
    queue->avail_next = (uint16_t)(queue->avail_next - count);
}

static void report_written(struct virtq *queue, const struct virtq_chain *chain, uint32_t bytes)
{
    for (unsigned i = chain->nr_out; bytes && i < (unsigned)chain->nr_out + chain->nr_in; i++) {
        uint32_t length = MIN(bytes, (uint32_t)chain->iov[i].iov_len);

        memory_written(queue->memory, chain->gpa[i], length);
        bytes -= length;
    }
}

void virtq_push(struct virtq *queue, const struct virtq_chain *chain, uint32_t written)
{
    size_t offset;
    uint8_t *element;

    report_written(queue, chain, MAX(written, chain->touched_bytes));
    if (!queue->running || queue->broken)
        return;
    offset = 4 + 8 * (size_t)(queue->used_next % queue->size);
    element = queue->used + offset;
    store_le32(element, chain->head);
    store_le32(element + 4, written);
    memory_written(queue->memory, queue->used_gpa + offset, 8);
    queue->used_next++;
}

void virtq_take_back(struct virtq *queue, unsigned count)
{
    virtq_rewind(queue, count);
    queue->used_next = (uint16_t)(queue->used_next - count);
}

bool virtq_publish(struct virtq *queue)
{
    uint16_t old = queue->used_published, new = queue->used_next, event;

    if (!queue->running || queue->broken || old == new)
        return false;
    used_store(queue, 2, new);
    queue->used_published = new;
    if (!queue->event_idx)
        return !(ring_load(queue->avail, 0) & VIRTQ_AVAIL_F_NO_INTERRUPT);
    event = ring_load(queue->avail, used_event_offset(queue));
    return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

void virtq_quiet(struct virtq *queue)
{
    if (queue->running && !queue->broken && !queue->event_idx)
        used_store(queue, 0, VIRTQ_USED_F_NO_NOTIFY);
}

bool virtq_listen(struct virtq *queue)
{
    if (!queue->running || queue->broken)
        return false;
    if (queue->event_idx)
        used_store(queue, avail_event_offset(queue), queue->avail_next);
    else
        used_store(queue, 0, 0);
    return virtq_available(queue);
}

bool virtq_listen_for_more(struct virtq *queue)
{
    uint16_t index;

    if (!queue->running || queue->broken)
        return false;
    index = ring_load(queue->avail, 2);
    if (queue->event_idx)
        used_store(queue, avail_event_offset(queue), index);
    else
        used_store(queue, 0, 0);
    return ring_load(queue->avail, 2) != index;
}

unsigned virtq_chain_slice(const struct virtq_chain *chain, bool writable, uint32_t offset,
                           uint32_t length, struct iovec *ret, unsigned max)
{
    unsigned at = writable ? chain->nr_out : 0;
    unsigned end = at + (writable ? chain->nr_in : chain->nr_out);
    unsigned nr = 0;

    for (; at < end && length && nr < max; at++) {
        uint32_t here = (uint32_t)chain->iov[at].iov_len;

        if (offset >= here) {
            offset -= here;
            continue;
        }
        ret[nr].iov_base = (char *)chain->iov[at].iov_base + offset;
        ret[nr].iov_len = MIN(length, here - offset);
        length -= (uint32_t)ret[nr].iov_len;
        offset = 0;
        nr++;
    }
    return nr;
}

uint32_t virtq_chain_read(const struct virtq_chain *chain, uint32_t offset, void *data,
                          uint32_t length)
{
    uint32_t done = 0;

    for (unsigned i = 0; i < chain->nr_out && done < length; i++) {
        uint32_t here = (uint32_t)chain->iov[i].iov_len, n;

        if (offset >= here) {
            offset -= here;
            continue;
        }
        n = MIN(length - done, here - offset);
        memcpy((char *)data + done, (const char *)chain->iov[i].iov_base + offset, n);
        done += n;
        offset = 0;
    }
    /* The caller checks this copy; the guest's may change. */
    __asm__ volatile("" : : "r"(data) : "memory");
    return done;
}

uint32_t virtq_chain_write(struct virtq_chain *chain, uint32_t offset, const void *data,
                           uint32_t length)
{
    uint32_t done = 0, start = offset;

    for (unsigned i = chain->nr_out; i < (unsigned)chain->nr_out + chain->nr_in && done < length;
         i++) {
        uint32_t here = (uint32_t)chain->iov[i].iov_len, n;

        if (offset >= here) {
            offset -= here;
            continue;
        }
        n = MIN(length - done, here - offset);
        memcpy((char *)chain->iov[i].iov_base + offset, (const char *)data + done, n);
        done += n;
        offset = 0;
    }
    if (done)
        chain->touched_bytes = MAX(chain->touched_bytes, start + done);
    return done;
}
