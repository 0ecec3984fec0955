/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI transport (virtio 1.2 4.1), modern interface, INTA or MSI-X with a vector a queue and one
 * for the configuration: configuration space with the capabilities that say where the structures
 * lie in BAR 0, and those structures. No access through configuration space
 * (VIRTIO_PCI_CAP_PCI_CFG), which no operating system's driver needs.
 */
#include "virtio/device.h"

#include "base/util.h"
#include "machine/pci.h"

#include <string.h>

#define BAR_BYTES  0x8000u
#define AT_COMMON  0x0000u
#define AT_ISR     0x1000u
#define AT_DEVICE  0x2000u
#define AT_NOTIFY  0x3000u
#define AT_VECTORS 0x4000u
#define AT_PENDING 0x5000u
#define AREA       0x1000u

#define NOTIFY_MULTIPLIER 4u

#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_MODERN 0x1040

/* 4.1.4 */
#define CAP_COMMON 1
#define CAP_NOTIFY 2
#define CAP_ISR    3
#define CAP_DEVICE 4

/* 4.1.4.3 */
#define COMMON_DEVICE_SELECT 0
#define COMMON_DEVICE        4
#define COMMON_DRIVER_SELECT 8
#define COMMON_DRIVER        12
#define COMMON_MSIX          16
#define COMMON_NR_QUEUES     18
#define COMMON_STATUS        20
#define COMMON_GENERATION    21
#define COMMON_QUEUE_SELECT  22
#define COMMON_QUEUE_SIZE    24
#define COMMON_QUEUE_MSIX    26
#define COMMON_QUEUE_ENABLE  28
#define COMMON_QUEUE_NOTIFY  30
#define COMMON_QUEUE_DESC    32
#define COMMON_QUEUE_DRIVER  40
#define COMMON_QUEUE_DEVICE  48
#define COMMON_BYTES         56

static struct virtq_setup *selected(struct virtio_device *device)
{
    return device->queue_sel < device->class->nr_queues ? &device->setup[device->queue_sel] : NULL;
}

/* control_lock held. The whole structure as it reads now. */
static void common_fill(struct virtio_device *device, uint8_t to[COMMON_BYTES])
{
    const struct virtq_setup *setup = selected(device);
    unsigned select = device->device_features_sel;

    memset(to, 0, COMMON_BYTES);
    store_le32(to + COMMON_DEVICE_SELECT, select);
    store_le32(to + COMMON_DEVICE,
               select <= 1 ? (uint32_t)(device->features_offered >> 32 * select) : 0);
    store_le32(to + COMMON_DRIVER_SELECT, device->driver_features_sel);
    if (device->driver_features_sel <= 1)
        store_le32(to + COMMON_DRIVER,
                   (uint32_t)(device->features >> 32 * device->driver_features_sel));
    store_le16(to + COMMON_NR_QUEUES, (uint16_t)device->class->nr_queues);
    to[COMMON_STATUS] = (uint8_t)__atomic_load_n(&device->status, __ATOMIC_ACQUIRE);
    pthread_mutex_lock(&device->lock);
    to[COMMON_GENERATION] = (uint8_t)device->config_generation;
    store_le16(to + COMMON_MSIX, device->config_vector);
    if (setup)
        store_le16(to + COMMON_QUEUE_MSIX, device->queue_vectors[device->queue_sel]);
    pthread_mutex_unlock(&device->lock);
    store_le16(to + COMMON_QUEUE_SELECT, (uint16_t)device->queue_sel);
    if (!setup)
        return;
    store_le16(to + COMMON_QUEUE_SIZE, setup->size ? setup->size : device->queue_size_max);
    store_le16(to + COMMON_QUEUE_ENABLE, setup->ready);
    store_le16(to + COMMON_QUEUE_NOTIFY, (uint16_t)device->queue_sel);
    store_le64(to + COMMON_QUEUE_DESC, setup->desc);
    store_le64(to + COMMON_QUEUE_DRIVER, setup->avail);
    store_le64(to + COMMON_QUEUE_DEVICE, setup->used);
}

static void set_bytes(uint64_t *place, unsigned at, uint64_t value, unsigned size)
{
    unsigned shift = 8 * at;
    uint64_t mask = size == 8 ? UINT64_MAX : ((UINT64_C(1) << 8 * size) - 1) << shift;

    *place = (*place & ~mask) | (value << shift & mask);
}

/* A driver that does not say another size takes the one that it reads. */
static void enable(const struct virtio_device *device, struct virtq_setup *setup, bool on)
{
    if (on && !setup->size)
        setup->size = device->queue_size_max;
    setup->ready = on;
}

/* control_lock held. Reading it back tells the driver whether there is such a vector (4.1.5.1.2).
 */
static void set_vector(struct virtio_device *device, uint16_t *place, uint64_t vector)
{
    pthread_mutex_lock(&device->lock);
    *place = vector <= device->class->nr_queues ? (uint16_t)vector : VIRTIO_NO_VECTOR;
    pthread_mutex_unlock(&device->lock);
}

/* control_lock held. As over MMIO: between FEATURES_OK and DRIVER_OK, before it is enabled. */
static void queue_write(struct virtio_device *device, uint64_t offset, uint64_t value,
                        unsigned size)
{
    uint32_t status = __atomic_load_n(&device->status, __ATOMIC_ACQUIRE);
    struct virtq_setup *setup = selected(device);

    if (!setup || setup->ready || !(status & VIRTIO_STATUS_FEATURES_OK) ||
        (status & VIRTIO_STATUS_DRIVER_OK))
        return;
    if (offset == COMMON_QUEUE_SIZE && size == 2)
        setup->size = (uint16_t)value;
    else if (offset == COMMON_QUEUE_ENABLE && size == 2)
        enable(device, setup, value & 1);
    else if (offset >= COMMON_QUEUE_DEVICE)
        set_bytes(&setup->used, (unsigned)offset - COMMON_QUEUE_DEVICE, value, size);
    else if (offset >= COMMON_QUEUE_DRIVER)
        set_bytes(&setup->avail, (unsigned)offset - COMMON_QUEUE_DRIVER, value, size);
    else if (offset >= COMMON_QUEUE_DESC)
        set_bytes(&setup->desc, (unsigned)offset - COMMON_QUEUE_DESC, value, size);
}

/* control_lock held. */
static void common_write(struct virtio_device *device, uint64_t offset, uint64_t value,
                         unsigned size)
{
    uint32_t status = __atomic_load_n(&device->status, __ATOMIC_ACQUIRE);

    if (offset == COMMON_DEVICE_SELECT && size == 4)
        device->device_features_sel = (uint32_t)value;
    else if (offset == COMMON_DRIVER_SELECT && size == 4)
        device->driver_features_sel = (uint32_t)value;
    else if (offset == COMMON_DRIVER && size == 4 && !(status & VIRTIO_STATUS_FEATURES_OK) &&
             device->driver_features_sel <= 1)
        set_bytes(&device->features, 4 * device->driver_features_sel, value, 4);
    else if (offset == COMMON_STATUS && size == 1)
        virtio_device_write_status(device, (uint32_t)value);
    else if (offset == COMMON_QUEUE_SELECT && size == 2)
        device->queue_sel = (uint32_t)value;
    else if (offset == COMMON_MSIX && size == 2)
        set_vector(device, &device->config_vector, value);
    else if (offset == COMMON_QUEUE_MSIX && size == 2 && selected(device))
        set_vector(device, &device->queue_vectors[device->queue_sel], value);
    else
        queue_write(device, offset, value, size);
}

static void bar_read(void *context, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct virtio_device *device = context;
    uint8_t common[COMMON_BYTES];
    uint64_t at = offset % AREA;

    (void)cpu;
    memset(data, 0, size);
    switch (offset - at) {
    case AT_COMMON:
        pthread_mutex_lock(&device->control_lock);
        common_fill(device, common);
        pthread_mutex_unlock(&device->control_lock);
        if (range_fits(at, size, sizeof(common)))
            memcpy(data, common + at, size);
        break;
    case AT_ISR: /* reading it acknowledges (4.1.4.5) */
        if (at == 0) {
            uint32_t bits = __atomic_load_n(&device->interrupt_status, __ATOMIC_ACQUIRE);

            virtio_device_acknowledge(device, bits);
            *(uint8_t *)data = (uint8_t)bits;
        }
        break;
    case AT_DEVICE:
        virtio_device_config_read(device, at, data, size);
        break;
    case AT_VECTORS:
        msix_table_read(&device->msix, at, data, size);
        break;
    case AT_PENDING:
        msix_pending_read(&device->msix, at, data, size);
        break;
    default:
        break;
    }
}

static void bar_write(void *context, unsigned cpu, uint64_t offset, const void *data, unsigned size)
{
    struct virtio_device *device = context;
    uint64_t at = offset % AREA;
    uint8_t bytes[8] = {0};

    (void)cpu;
    memcpy(bytes, data, size);
    switch (offset - at) {
    case AT_COMMON:
        if (at % size || !range_fits(at, size, COMMON_BYTES))
            break;
        pthread_mutex_lock(&device->control_lock);
        common_write(device, at, load_le64(bytes), size);
        pthread_mutex_unlock(&device->control_lock);
        break;
    case AT_DEVICE:
        virtio_device_config_write(device, at, data, size);
        break;
    case AT_NOTIFY:
        if (at % NOTIFY_MULTIPLIER == 0)
            virtio_device_notified(device, (uint32_t)(at / NOTIFY_MULTIPLIER));
        break;
    case AT_VECTORS:
        msix_table_write(&device->msix, at, data, size);
        break;
    default:
        break;
    }
}

static unsigned add_capability(uint8_t *config, unsigned at, unsigned type, uint32_t offset,
                               uint32_t length, unsigned bytes)
{
    config[at] = 0x09; /* vendor-specific */
    config[at + 1] = (uint8_t)(at + bytes);
    config[at + 2] = (uint8_t)bytes;
    config[at + 3] = (uint8_t)type;
    store_le32(config + at + 8, offset);
    store_le32(config + at + 12, length);
    return at + bytes;
}

static void reset(void *context)
{
    struct virtio_device *device = context;

    pthread_mutex_lock(&device->control_lock);
    virtio_device_write_status(device, 0);
    pthread_mutex_unlock(&device->control_lock);
}

static void set_master(void *context, bool on)
{
    virtio_device_set_master(context, on);
}

void virtio_pci_describe(struct virtio_device *device, const struct irq_line *line,
                         struct pci_device *ret)
{
    static const struct bus_ops ops = {bar_read, bar_write};
    unsigned at = 0x40;
    uint8_t *config = ret->config;

    device->line = *line;
    device->held = true; /* until the driver makes it bus master */
    msix_connect(&device->msix, line->sink);
    *ret = (struct pci_device){.bar_bytes = BAR_BYTES,
                               .ops = &ops,
                               .context = device,
                               .reset = reset,
                               .master = set_master,
                               .msix = &device->msix};
    store_le16(config + PCI_VENDOR, VIRTIO_VENDOR);
    store_le16(config + PCI_VENDOR + 2, (uint16_t)(VIRTIO_MODERN + device->class->id));
    config[PCI_STATUS] = 0x10; /* it has capabilities */
    config[PCI_REVISION] = 1;
    config[PCI_CLASS + 2] = device->class->id == VIRTIO_ID_NET ? 0x02 : 0x01;
    config[PCI_CLASS + 1] = device->class->id == VIRTIO_ID_NET ? 0x00 : 0x80;
    store_le16(config + PCI_SUBSYSTEM, VIRTIO_VENDOR);
    store_le16(config + PCI_SUBSYSTEM + 2, (uint16_t)(0x40 + device->class->id));
    config[PCI_CAPABILITY] = (uint8_t)at;
    at = add_capability(config, at, CAP_COMMON, AT_COMMON, COMMON_BYTES, 16);
    at = add_capability(config, at, CAP_ISR, AT_ISR, 1, 16);
    at = add_capability(config, at, CAP_DEVICE, AT_DEVICE, AREA, 16);
    at = add_capability(config, at, CAP_NOTIFY, AT_NOTIFY, AREA, 20);
    store_le32(config + at - 4, NOTIFY_MULTIPLIER);
    ret->msix_at = at;
    msix_describe(&device->msix, config + at, 0, AT_VECTORS, AT_PENDING);
}
