/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's side of the virtio devices for tests: registers through virtio_mmio_ops, rings and
 * buffers in a struct memory. One thread drives both sides: fake_run runs the devices' loop. The
 * driver trusts nobody to be right: tests build whatever rings they like with fake_desc and
 * fake_offer.
 */
#ifndef LODGE_TESTS_FAKE_DRIVER_H
#define LODGE_TESTS_FAKE_DRIVER_H

#include "base/loop.h"
#include "virtio/virtio.h"

#define FAKE_RAM_BYTES (UINT64_C(16) << 20)
#define FAKE_DATA_GPA  UINT64_C(0x100000) /* free for buffers, up to FAKE_RAM_BYTES */
#define FAKE_QUEUES    4

#define FAKE_NEXT     1
#define FAKE_WRITE    2
#define FAKE_INDIRECT 4

struct fake_queue {
    uint16_t size;
    gpa_t desc, avail, used;
    uint16_t avail_idx, used_seen;
    uint16_t next_desc; /* for fake_add */
};

struct fake_segment {
    gpa_t gpa;
    uint32_t length;
    bool writable;
};

struct fake {
    struct memory *memory;
    struct loop *loop;
    struct virtio_host host;
    struct virtio_device *device;
    struct irq_sink sink;
    struct fake_queue queues[FAKE_QUEUES];
    bool irq_level;      /* atomic */
    unsigned irq_raised; /* atomic: how often the level went up */
};

void fake_init(struct fake *fake);
void fake_done(struct fake *fake);

uint32_t fake_read(struct fake *fake, uint64_t offset);
void fake_write(struct fake *fake, uint64_t offset, uint32_t value);
/* Reset, features (those wanted that are offered), FEATURES_OK checked. */
void fake_negotiate(struct fake *fake, struct virtio_device *device, uint64_t features);
void fake_queue_setup(struct fake *fake, unsigned index, uint16_t size);
void fake_driver_ok(struct fake *fake);
/* All three for `nr_queues` queues of 64. */
void fake_start(struct fake *fake, struct virtio_device *device, uint64_t features,
                unsigned nr_queues);

void *fake_host(struct fake *fake, gpa_t gpa, uint64_t length);
void fake_desc(struct fake *fake, unsigned queue, uint16_t index, uint64_t gpa, uint32_t length,
               uint16_t flags, uint16_t next);
void fake_offer(struct fake *fake, unsigned queue, uint16_t head); /* available ring entry */
/* Builds a chain in the next descriptors and offers it; returns its head. */
uint16_t fake_add(struct fake *fake, unsigned queue, const struct fake_segment *segments,
                  unsigned nr);
void fake_notify(struct fake *fake, unsigned queue);
/* One round of the loop, at most timeout_ms. */
void fake_run(struct fake *fake, int timeout_ms);
/* The next used element, or false. */
bool fake_used(struct fake *fake, unsigned queue, uint16_t *ret_head, uint32_t *ret_length);
/* Runs the loop until there is one; fails the test after 5 seconds. */
uint32_t fake_wait_used(struct fake *fake, unsigned queue, uint16_t *ret_head);
bool fake_failed(struct fake *fake); /* DEVICE_NEEDS_RESET */

#endif
