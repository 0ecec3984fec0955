/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of a split virtqueue (virtio 1.2 2.7). Private to virtio/.
 *
 * Invariants:
 *  1. Guest memory is reached only through memory_range, checked when the queue starts (rings) or
 *     when a chain is popped (tables and buffers).
 *  2. Everything read from a ring or a descriptor is copied once and then checked; nothing is read
 *     again.
 *  3. A walk ends after VIRTQ_SEGMENTS_MAX descriptors, whatever the guest links.
 *  4. What was written for the guest is reported by memory_written before the used index moves.
 *  5. After a malformed ring the queue is broken: pops give nothing and pushes do nothing until the
 *     device is reset.
 *
 * Threads: the loop's thread of the device.
 */
#ifndef LODGE_VIRTIO_QUEUE_H
#define LODGE_VIRTIO_QUEUE_H

#include "cpu/memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define VIRTQ_SIZE_MAX        256
#define VIRTQ_SEGMENTS_MAX    256
#define VIRTQ_CHAIN_BYTES_MAX (UINT32_C(1) << 30)

/* What the driver programmed. */
struct virtq_setup {
    uint16_t size;
    bool ready;
    gpa_t desc, avail, used;
};

/* One popped request: nr_out segments for the device to read, then nr_in for it to write. */
struct virtq_chain {
    uint16_t head;
    uint16_t nr_out, nr_in;
    uint32_t out_bytes, in_bytes;
    uint32_t touched_bytes; /* of the writable part, from its start: may have been written */
    struct iovec iov[VIRTQ_SEGMENTS_MAX];
    gpa_t gpa[VIRTQ_SEGMENTS_MAX];
};

struct virtq {
    struct memory *memory;
    bool running;
    const char *broken; /* why, or NULL; static text */
    bool event_idx, indirect;
    uint16_t size;
    uint16_t avail_next; /* index of the next entry to pop */
    uint16_t used_next;  /* index of the next entry to fill */
    uint16_t used_published;
    gpa_t used_gpa;
    const uint8_t *desc;
    uint8_t *avail, *used; /* host addresses, valid while running */
};

/* 0, or -EINVAL with queue->broken set when the setup is not acceptable. */
int virtq_start(struct virtq *queue, struct memory *memory, const struct virtq_setup *setup,
                uint64_t features);
void virtq_stop(struct virtq *queue);
/* No access to guest memory from here to the release. Nothing that was popped is outstanding. */
void virtq_hold(struct virtq *queue);
void virtq_release(struct virtq *queue);

/* 1: *ret is filled; 0: nothing available; -EPROTO: broken. */
int virtq_pop(struct virtq *queue, struct virtq_chain *ret);
/* Gives back the last `count` chains that were popped; they will be popped again. */
void virtq_rewind(struct virtq *queue, unsigned count);
/* Returns a chain to the driver: `written` bytes from the start of its writable part. */
void virtq_push(struct virtq *queue, const struct virtq_chain *chain, uint32_t written);
/* Undoes the last `count` pushes, which are not published yet: their chains will be popped again.
 */
void virtq_take_back(struct virtq *queue, unsigned count);
/* Makes what was pushed visible. Returns whether the driver wants an interrupt. */
bool virtq_publish(struct virtq *queue);

bool virtq_available(struct virtq *queue);
/* How many chains the driver offers now; what it says cannot exceed the ring. */
uint16_t virtq_nr_available(struct virtq *queue);
/* Notifications are not needed for now (a hint). */
void virtq_quiet(struct virtq *queue);
/* Notifications are wanted. True: something is available already, and may bring no notification. */
bool virtq_listen(struct virtq *queue);
/* The same for more than what is available now, which is not enough. True: more has come. */
bool virtq_listen_for_more(struct virtq *queue);

/* Copies from the readable part at offset; returns bytes copied (fewer at its end). */
uint32_t virtq_chain_read(const struct virtq_chain *chain, uint32_t offset, void *data,
                          uint32_t length);
/* Copies to the writable part at offset and counts it as touched; returns bytes copied. */
uint32_t virtq_chain_write(struct virtq_chain *chain, uint32_t offset, const void *data,
                           uint32_t length);
/* The iovecs of [offset, offset + length) of the readable (writable) part, at most max of them;
 * returns how many. The range must lie inside. */
unsigned virtq_chain_slice(const struct virtq_chain *chain, bool writable, uint32_t offset,
                           uint32_t length, struct iovec *ret, unsigned max);

#endif
