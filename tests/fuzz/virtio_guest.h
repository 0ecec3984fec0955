/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest's memory for the fuzzers of virtio: an input that is read as a program, pieces of
 * memory, descriptors and ring entries; and a network without an end, which reads what it is given.
 */
#ifndef LODGE_TESTS_FUZZ_VIRTIO_GUEST_H
#define LODGE_TESTS_FUZZ_VIRTIO_GUEST_H

#include "base/util.h"
#include "cpu/memory.h"
#include "net/net_driver.h"

#include <stdlib.h>

#define RING(q)      (0x1000 + 0x1000 * (uint64_t)(q))
#define RING_AVAIL   0x400u
#define RING_USED    0x800u
#define RING_ENTRIES 16u

struct input {
    const uint8_t *data;
    size_t left;
};

static inline uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t value = 0;
    size_t n = MIN((size_t)bytes, in->left);

    memcpy(&value, in->data, n);
    in->data += n;
    in->left -= n;
    return value;
}

static inline void put_descriptor(struct memory *memory, struct input *in)
{
    uint8_t *d = memory_range(memory, RING(take(in, 1) % 4) + 16 * (take(in, 1) % 16), 16);
    uint64_t shape = take(in, 1);

    store_le64(d, shape & 1 ? take(in, 8) : 0x8000 + take(in, 2));
    store_le32(d + 8, shape & 2 ? (uint32_t)take(in, 4) : (uint32_t)take(in, 1));
    store_le16(d + 12, (uint16_t)(shape >> 2 & 7));
    store_le16(d + 14, (uint16_t)take(in, 1) % 18);
}

/* One more entry of the available ring. */
static inline void put_available(struct memory *memory, uint32_t queue, struct input *in)
{
    uint8_t *avail = memory_range(memory, RING(queue) + RING_AVAIL, 64);
    uint16_t idx = load_le16(avail + 2);

    store_le16(avail + 4 + 2 * (idx % 16), (uint16_t)take(in, 1) % 17);
    store_le16(avail + 2, (uint16_t)(idx + 1));
}

static inline void put_memory(struct memory *memory, struct input *in)
{
    uint64_t gpa = take(in, 2) * 4;
    size_t want = (size_t)take(in, 1), length = MIN(want, in->left);
    uint8_t *p = length ? memory_range(memory, gpa, length) : NULL;

    if (!p)
        return;
    memcpy(p, in->data, length);
    in->data += length;
    in->left -= length;
}

static inline void wire_start(struct net *net, const struct net_offload *offload)
{
    (void)net;
    (void)offload;
}

static inline void wire_nothing(struct net *net)
{
    (void)net;
}

/* Reads all that it is given. */
static inline bool wire_send(struct net *net, const struct iovec *iov, unsigned nr, size_t bytes)
{
    static uint8_t frame[sizeof(struct net_header) + NET_FRAME_MAX];
    size_t at = 0;

    (void)net;
    for (unsigned i = 0; i < nr; i++) {
        if (!range_fits(at, iov[i].iov_len, sizeof(frame)))
            abort();
        memcpy(frame + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    if (at != bytes)
        abort();
    return true;
}

static const struct net_driver wire_driver = {.start = wire_start,
                                              .stop = wire_nothing,
                                              .resume = wire_nothing,
                                              .send = wire_send,
                                              .free = wire_nothing};

/* A frame of what is left of the input, if anybody listens. */
static inline void wire_deliver(struct net *wire, const struct input *in)
{
    struct net_header header = {0};

    if (!wire->started)
        return;
    wire->receiver.deliver(wire->receiver.context, &header, in->data, in->left);
    wire->receiver.flush(wire->receiver.context);
}

#endif
