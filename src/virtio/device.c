/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of a virtio device: status changes, interrupts, failure (virtio 1.2 2.1, 3.1). What a vCPU
 * does that concerns the queues is carried out on the loop's thread by loop_sync, so queues need no
 * lock.
 */
#include "virtio/device.h"

#include <errno.h>
#include <string.h>

/* By message where the driver chose so: then the status tells of changed configuration alone
 * (4.1.4.5, 4.1.5.3, 4.1.5.4). */
static void set_interrupt(struct virtio_device *device, uint32_t bit, const uint16_t *vector)
{
    bool message = msix_enabled(&device->msix);
    unsigned number;

    pthread_mutex_lock(&device->lock);
    number = *vector;
    if (message && bit == VIRTIO_INTERRUPT_USED)
        bit = 0;
    if (bit && device->interrupt_status == 0 && device->line.sink)
        irq_line_set(&device->line, true);
    __atomic_store_n(&device->interrupt_status, device->interrupt_status | bit, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&device->lock);
    if (message)
        msix_raise(&device->msix, number);
}

void virtio_device_acknowledge(struct virtio_device *device, uint32_t bits)
{
    uint32_t left;

    pthread_mutex_lock(&device->lock);
    left = device->interrupt_status & ~bits;
    if (device->interrupt_status && !left && device->line.sink)
        irq_line_set(&device->line, false);
    __atomic_store_n(&device->interrupt_status, left, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&device->lock);
}

static void take_notifications(void *context)
{
    struct virtio_device *device = context;
    uint32_t queues = __atomic_exchange_n(&device->notified, 0, __ATOMIC_ACQ_REL);

    for (unsigned i = 0; i < device->class->nr_queues && device->active; i++)
        if (queues & 1u << i)
            device->class->notify(device, i);
}

void virtio_device_notified(struct virtio_device *device, uint32_t queue)
{
    if (queue >= device->class->nr_queues)
        return;
    if (__atomic_fetch_or(&device->notified, 1u << queue, __ATOMIC_ACQ_REL) & 1u << queue)
        return;
    loop_post(device->loop, &device->notify_call);
}

static void no_vectors(struct virtio_device *device)
{
    pthread_mutex_lock(&device->lock);
    device->config_vector = VIRTIO_NO_VECTOR;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        device->queue_vectors[i] = VIRTIO_NO_VECTOR;
    pthread_mutex_unlock(&device->lock);
}

void virtio_device_init(struct virtio_device *device, const struct virtio_class *class,
                        const struct virtio_host *host, uint64_t features)
{
    device->class = class;
    device->memory = host->memory;
    device->loop = host->loop;
    device->features_offered = features | VIRTIO_F(VIRTIO_F_VERSION_1) |
                               VIRTIO_F(VIRTIO_F_INDIRECT_DESC) | VIRTIO_F(VIRTIO_F_EVENT_IDX);
    device->queue_size_max = VIRTQ_SIZE_MAX;
    device->notify_call = (struct loop_call){.fn = take_notifications, .context = device};
    pthread_mutex_init(&device->control_lock, NULL);
    pthread_mutex_init(&device->lock, NULL);
    msix_init(&device->msix, class->nr_queues + 1);
    no_vectors(device);
}

void virtio_device_done(struct virtio_device *device)
{
    loop_cancel(device->loop, &device->notify_call);
    msix_done(&device->msix);
    pthread_mutex_destroy(&device->lock);
    pthread_mutex_destroy(&device->control_lock);
}

void virtio_device_fail(struct virtio_device *device, const char *why)
{
    if (!device->active)
        return;
    device->active = false;
    __atomic_store_n(&device->failure, why, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < device->class->nr_queues; i++)
        device->queues[i].broken = why;
    __atomic_fetch_or(&device->status, VIRTIO_STATUS_NEEDS_RESET, __ATOMIC_ACQ_REL);
    set_interrupt(device, VIRTIO_INTERRUPT_CONFIG, &device->config_vector);
}

int virtio_device_pop(struct virtio_device *device, unsigned queue, struct virtq_chain *ret)
{
    int r = device->active ? virtq_pop(&device->queues[queue], ret) : 0;

    if (r >= 0)
        return r;
    virtio_device_fail(device, device->queues[queue].broken);
    return 0;
}

void virtio_device_publish(struct virtio_device *device, unsigned queue)
{
    if (virtq_publish(&device->queues[queue]))
        set_interrupt(device, VIRTIO_INTERRUPT_USED, &device->queue_vectors[queue]);
}

void virtio_device_set_config(struct virtio_device *device, unsigned offset, const void *data,
                              unsigned length)
{
    pthread_mutex_lock(&device->lock);
    memcpy(device->config + offset, data, length);
    device->config_generation++;
    pthread_mutex_unlock(&device->lock);
    if (device->active)
        set_interrupt(device, VIRTIO_INTERRUPT_CONFIG, &device->config_vector);
}

static void notify_all(struct virtio_device *device)
{
    for (unsigned i = 0; i < device->class->nr_queues && device->active; i++)
        device->class->notify(device, i);
}

static void hold(void *context)
{
    struct virtio_device *device = context;

    device->held = true;
    if (device->active && device->class->quiesce)
        device->class->quiesce(device);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        virtq_hold(&device->queues[i]);
}

static void release(void *context)
{
    struct virtio_device *device = context;

    device->held = false;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        virtq_release(&device->queues[i]);
    notify_all(device);
}

void virtio_device_set_master(struct virtio_device *device, bool on)
{
    loop_sync(device->loop, on ? release : hold, device);
}

static void activate(void *context)
{
    struct virtio_device *device = context;

    device->active = true;
    __atomic_fetch_or(&device->status, VIRTIO_STATUS_DRIVER_OK, __ATOMIC_ACQ_REL);
    for (unsigned i = 0; i < device->class->nr_queues; i++) {
        struct virtq *queue = &device->queues[i];

        if (device->setup[i].ready &&
            virtq_start(queue, device->memory, &device->setup[i], device->features) < 0) {
            virtio_device_fail(device, queue->broken);
            return;
        }
        if (device->held)
            virtq_hold(queue);
    }
    if (device->class->activate)
        device->class->activate(device);
    notify_all(device);
}

static void reset(void *context)
{
    struct virtio_device *device = context;

    device->active = false;
    if (device->class->reset)
        device->class->reset(device);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        virtq_stop(&device->queues[i]);
    memset(device->setup, 0, sizeof(device->setup));
    no_vectors(device);
    device->features = 0;
    device->device_features_sel = device->driver_features_sel = device->queue_sel = 0;
    __atomic_store_n(&device->notified, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&device->failure, NULL, __ATOMIC_RELEASE);
    virtio_device_acknowledge(device, UINT32_MAX);
    __atomic_store_n(&device->status, 0, __ATOMIC_RELEASE);
}

void virtio_device_write_status(struct virtio_device *device, uint32_t value)
{
    uint32_t old = __atomic_load_n(&device->status, __ATOMIC_ACQUIRE);
    uint32_t added = value & ~old;
    uint64_t features = device->features;

    if (value == 0) {
        loop_sync(device->loop, reset, device);
        return;
    }
    /* The driver never clears bits, and NEEDS_RESET is the device's. */
    if ((added & VIRTIO_STATUS_FEATURES_OK) &&
        ((features & ~device->features_offered) || !(features & VIRTIO_F(VIRTIO_F_VERSION_1))))
        added &= ~VIRTIO_STATUS_FEATURES_OK;
    __atomic_fetch_or(&device->status,
                      added & (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                               VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_FAILED),
                      __ATOMIC_ACQ_REL);
    if ((added & VIRTIO_STATUS_DRIVER_OK) && ((old | added) & VIRTIO_STATUS_FEATURES_OK))
        loop_sync(device->loop, activate, device);
}

void virtio_device_free(struct virtio_device *device)
{
    if (!device)
        return;
    reset(device);
    device->class->free(device);
}

const char *virtio_device_name(const struct virtio_device *device)
{
    return device->class->name;
}

bool virtio_device_driven(const struct virtio_device *device)
{
    return __atomic_load_n(&device->status, __ATOMIC_ACQUIRE) & VIRTIO_STATUS_DRIVER_OK;
}

const char *virtio_device_failure(const struct virtio_device *device)
{
    return __atomic_load_n(&device->failure, __ATOMIC_ACQUIRE);
}
