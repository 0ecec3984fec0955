/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all virtio devices share: feature negotiation, status, queues, configuration space,
 * interrupts. Private to virtio/. A device type is a struct virtio_class and a structure that has
 * struct virtio_device as its head.
 *
 *   status 0 --ACKNOWLEDGE, DRIVER--> negotiating --FEATURES_OK--> setting up queues
 *     ^                                                                |
 *     | 0 written: virtio_device_reset                     DRIVER_OK: activate
 *     |                                                                v
 *     +---------------------- needs reset <--virtio_device_fail--- running
 *
 * Invariants:
 *  1. Features are fixed by FEATURES_OK and queue setups by QueueReady and DRIVER_OK: later writes
 *     are ignored until reset.
 *  2. `queues` and everything of a device type belong to the loop's thread; class functions run
 *     there, except config_write.
 *  3. While `held` no queue is running: the queues of a device that may not be bus master.
 *  4. Lock order: control_lock (vCPU threads only, across status changes; never taken by the loop's
 *     thread, which such a change waits for), then lock (short: configuration, interrupt status).
 */
#ifndef LODGE_VIRTIO_DEVICE_H
#define LODGE_VIRTIO_DEVICE_H

#include "machine/msix.h"
#include "virtio/queue.h"
#include "virtio/spec.h"
#include "virtio/virtio.h"

#include <pthread.h>

#define VIRTIO_QUEUES_MAX 4
#define VIRTIO_CONFIG_MAX 64
#define VIRTIO_NO_VECTOR  0xffff
/* Chains served in one go; then other users of the loop have their turn. */
#define VIRTIO_DEVICE_BURST 1024u

struct virtio_class {
    const char *name;
    uint32_t id;
    unsigned nr_queues;
    /* The driver is ready, queues are started. May be NULL. */
    void (*activate)(struct virtio_device *device);
    /* The driver made buffers available (or the device was just activated). */
    void (*notify)(struct virtio_device *device, unsigned queue);
    /* Ends all use of the queues: returns when nothing is in flight. May be NULL. */
    void (*reset)(struct virtio_device *device);
    /* Ends what is in flight, and publishes it: nothing that was popped is outstanding then. NULL:
     * nothing is, between calls. Asked only over PCI. */
    void (*quiesce)(struct virtio_device *device);
    /* The driver wrote to device->config, which has the new bytes. Any thread, `lock` held; returns
     * whether the write is allowed (else it is undone). NULL: nothing is writable. */
    bool (*config_write)(struct virtio_device *device, unsigned offset, unsigned size);
    /* Frees the structure; the device has been reset. */
    void (*free)(struct virtio_device *device);
};

struct virtio_device {
    const struct virtio_class *class;
    struct memory *memory;
    struct loop *loop;
    uint64_t features_offered;
    uint64_t features; /* the driver's; written under control_lock before FEATURES_OK */
    uint16_t queue_size_max;

    /* Registers, under control_lock. */
    pthread_mutex_t control_lock;
    uint32_t device_features_sel, driver_features_sel, queue_sel;
    struct virtq_setup setup[VIRTIO_QUEUES_MAX];
    uint32_t status; /* atomic */

    pthread_mutex_t lock;
    uint32_t interrupt_status; /* written under lock, read atomically */
    struct irq_line line;
    struct msix msix; /* over PCI; with locks of its own */
    uint16_t config_vector, queue_vectors[VIRTIO_QUEUES_MAX];
    uint32_t config_generation;
    unsigned config_bytes;
    uint8_t config[VIRTIO_CONFIG_MAX];

    uint32_t notified; /* atomic: a bit a queue */
    struct loop_call notify_call;

    /* Loop's thread. */
    bool active;
    bool held;           /* over PCI: no bus master, so the queues are held */
    const char *failure; /* atomic */
    struct virtq queues[VIRTIO_QUEUES_MAX];
};

void virtio_device_init(struct virtio_device *device, const struct virtio_class *class,
                        const struct virtio_host *host, uint64_t features);
/* For classes' free: ends what init began. */
void virtio_device_done(struct virtio_device *device);

/* The loop's thread. */
void virtio_device_fail(struct virtio_device *device, const char *why);
/* Pops; a broken ring fails the device. 1 or 0. */
int virtio_device_pop(struct virtio_device *device, unsigned queue, struct virtq_chain *ret);
/* Publishes and interrupts when the driver wants it. */
void virtio_device_publish(struct virtio_device *device, unsigned queue);
/* Changes configuration bytes, and tells a running driver. */
void virtio_device_set_config(struct virtio_device *device, unsigned offset, const void *data,
                              unsigned length);
static inline bool virtio_device_has(const struct virtio_device *device, unsigned feature)
{
    return device->features & VIRTIO_F(feature);
}

/* vCPU threads. May the device reach guest memory? If not, it waits with all that it does, until it
 * may again; when this returns nothing is under way. */
void virtio_device_set_master(struct virtio_device *device, bool on);
/* vCPU threads, control_lock held. */
void virtio_device_write_status(struct virtio_device *device, uint32_t value);
void virtio_device_acknowledge(struct virtio_device *device, uint32_t bits);
/* Any thread: what the driver does with the device's configuration. */
void virtio_device_config_read(struct virtio_device *device, uint64_t offset, void *data,
                               unsigned size);
void virtio_device_config_write(struct virtio_device *device, uint64_t offset, const void *data,
                                unsigned size);
/* Any thread, without the lock: `notify` runs soon on the loop's thread. */
void virtio_device_notified(struct virtio_device *device, uint32_t queue);

#endif
