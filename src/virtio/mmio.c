/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport, version 2 (virtio 1.2 4.2). Registers are 32 bits wide; other accesses to
 * them read as zero and write nothing. The configuration space takes any size. No shared memory
 * regions, no queue reset, no legacy interface.
 */
#include "virtio/device.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

#define VENDOR_ID 0x45474f4cu /* "LOGE" */

static struct virtq_setup *selected(struct virtio_device *device)
{
    return device->queue_sel < device->class->nr_queues ? &device->setup[device->queue_sel] : NULL;
}

/* control_lock held. */
static uint32_t register_read(struct virtio_device *device, uint64_t offset)
{
    struct virtq_setup *setup = selected(device);

    switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
        return VIRTIO_MMIO_MAGIC;
    case VIRTIO_MMIO_VERSION:
        return 2;
    case VIRTIO_MMIO_DEVICE_ID:
        return device->class->id;
    case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR_ID;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        if (device->device_features_sel > 1)
            return 0;
        return (uint32_t)(device->features_offered >> (32 * device->device_features_sel));
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
        return setup ? device->queue_size_max : 0;
    case VIRTIO_MMIO_QUEUE_READY:
        return setup ? setup->ready : 0;
    case VIRTIO_MMIO_STATUS:
        return __atomic_load_n(&device->status, __ATOMIC_ACQUIRE);
    default:
        /* SHMLen and SHMBase of a region that does not exist are all ones. */
        if (offset >= VIRTIO_MMIO_SHM_LEN_LOW && offset <= VIRTIO_MMIO_SHM_BASE_HIGH)
            return UINT32_MAX;
        return 0;
    }
}

void virtio_device_config_read(struct virtio_device *device, uint64_t offset, void *data,
                               unsigned size)
{
    memset(data, 0, size);
    pthread_mutex_lock(&device->lock);
    if (range_fits(offset, size, device->config_bytes))
        memcpy(data, device->config + offset, size);
    pthread_mutex_unlock(&device->lock);
}

static void mmio_read(void *context, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct virtio_device *device = context;
    uint32_t value;

    (void)cpu;
    if (offset >= VIRTIO_MMIO_CONFIG) {
        virtio_device_config_read(device, offset - VIRTIO_MMIO_CONFIG, data, size);
        return;
    }
    if (size != 4 || offset % 4) {
        memset(data, 0, size);
        return;
    }
    if (offset == VIRTIO_MMIO_INTERRUPT_STATUS) {
        value = __atomic_load_n(&device->interrupt_status, __ATOMIC_ACQUIRE);
    } else if (offset == VIRTIO_MMIO_CONFIG_GENERATION) {
        pthread_mutex_lock(&device->lock);
        value = device->config_generation;
        pthread_mutex_unlock(&device->lock);
    } else {
        pthread_mutex_lock(&device->control_lock);
        value = register_read(device, offset);
        pthread_mutex_unlock(&device->control_lock);
    }
    store_le32(data, value);
}

static void set_half(uint64_t *address, bool high, uint32_t value)
{
    unsigned shift = high ? 32 : 0;

    *address = (*address & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)value << shift;
}

/* Only between FEATURES_OK and DRIVER_OK, and not while the queue is ready. */
static void queue_write(struct virtio_device *device, uint64_t offset, uint32_t value)
{
    uint32_t status = __atomic_load_n(&device->status, __ATOMIC_ACQUIRE);
    struct virtq_setup *setup = selected(device);

    if (!setup || !(status & VIRTIO_STATUS_FEATURES_OK) || (status & VIRTIO_STATUS_DRIVER_OK))
        return;
    if (offset == VIRTIO_MMIO_QUEUE_READY) {
        setup->ready = value & 1;
        return;
    }
    if (setup->ready)
        return;
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM:
        setup->size = value <= UINT16_MAX ? (uint16_t)value : 0;
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        set_half(&setup->desc, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
        break;
    case VIRTIO_MMIO_QUEUE_DRIVER_LOW:
    case VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
        set_half(&setup->avail, offset == VIRTIO_MMIO_QUEUE_DRIVER_HIGH, value);
        break;
    case VIRTIO_MMIO_QUEUE_DEVICE_LOW:
    case VIRTIO_MMIO_QUEUE_DEVICE_HIGH:
        set_half(&setup->used, offset == VIRTIO_MMIO_QUEUE_DEVICE_HIGH, value);
        break;
    default:
        break;
    }
}

/* control_lock held. */
static void register_write(struct virtio_device *device, uint64_t offset, uint32_t value)
{
    uint32_t status = __atomic_load_n(&device->status, __ATOMIC_ACQUIRE);

    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        device->device_features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        device->driver_features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        if (!(status & VIRTIO_STATUS_FEATURES_OK) && device->driver_features_sel <= 1)
            set_half(&device->features, device->driver_features_sel, value);
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        device->queue_sel = value;
        break;
    case VIRTIO_MMIO_STATUS:
        virtio_device_write_status(device, value);
        break;
    default:
        queue_write(device, offset, value);
        break;
    }
}

void virtio_device_config_write(struct virtio_device *device, uint64_t offset, const void *data,
                                unsigned size)
{
    uint8_t before[8];

    if (!device->class->config_write || !range_fits(offset, size, device->config_bytes))
        return;
    pthread_mutex_lock(&device->lock);
    memcpy(before, device->config + offset, size);
    memcpy(device->config + offset, data, size);
    if (!device->class->config_write(device, (unsigned)offset, size))
        memcpy(device->config + offset, before, size);
    pthread_mutex_unlock(&device->lock);
}

static void mmio_write(void *context, unsigned cpu, uint64_t offset, const void *data,
                       unsigned size)
{
    struct virtio_device *device = context;

    (void)cpu;
    if (offset >= VIRTIO_MMIO_CONFIG) {
        virtio_device_config_write(device, offset - VIRTIO_MMIO_CONFIG, data, size);
        return;
    }
    if (size != 4 || offset % 4)
        return;
    if (offset == VIRTIO_MMIO_QUEUE_NOTIFY) {
        virtio_device_notified(device, load_le32(data));
    } else if (offset == VIRTIO_MMIO_INTERRUPT_ACK) {
        virtio_device_acknowledge(device, load_le32(data));
    } else {
        pthread_mutex_lock(&device->control_lock);
        register_write(device, offset, load_le32(data));
        pthread_mutex_unlock(&device->control_lock);
    }
}

const struct bus_ops virtio_mmio_ops = {.read = mmio_read, .write = mmio_write};

void virtio_mmio_connect(struct virtio_device *device, const struct irq_line *line)
{
    device->line = *line;
}

int virtio_mmio_attach(struct virtio_device *device, struct bus *bus, gpa_t gpa,
                       const struct irq_line *line, struct err *err)
{
    virtio_mmio_connect(device, line);
    return bus_add(bus, BUS_MMIO, gpa, VIRTIO_MMIO_SIZE, &virtio_mmio_ops, device,
                   device->class->name, err);
}
