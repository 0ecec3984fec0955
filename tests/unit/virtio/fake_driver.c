/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_driver.h"

#include "base/clock.h"
#include "testing.h"
#include "virtio/spec.h"

static void sink_set(void *context, unsigned gsi, bool level)
{
    struct fake *fake = context;

    (void)gsi;
    if (level && !__atomic_load_n(&fake->irq_level, __ATOMIC_ACQUIRE))
        __atomic_fetch_add(&fake->irq_raised, 1, __ATOMIC_ACQ_REL);
    __atomic_store_n(&fake->irq_level, level, __ATOMIC_RELEASE);
}

void fake_init(struct fake *fake)
{
    struct err err = ERR_INIT;

    memset(fake, 0, sizeof(*fake));
    ck_assert_msg(memory_new(&fake->memory, &err) == 0, "%s", err.message);
    ck_assert_msg(memory_add_ram(fake->memory, 0, FAKE_RAM_BYTES, &err) == 0, "%s", err.message);
    ck_assert_msg(loop_new(&fake->loop, &err) == 0, "%s", err.message);
    fake->host = (struct virtio_host){.memory = fake->memory, .loop = fake->loop};
    fake->sink = (struct irq_sink){.context = fake, .set = sink_set};
}

void fake_done(struct fake *fake)
{
    virtio_device_free(fake->device);
    loop_free(fake->loop);
    memory_free(fake->memory);
}

uint32_t fake_read(struct fake *fake, uint64_t offset)
{
    uint32_t value = UINT32_MAX;

    virtio_mmio_ops.read(fake->device, 0, offset, &value, sizeof(value));
    return value;
}

void fake_write(struct fake *fake, uint64_t offset, uint32_t value)
{
    virtio_mmio_ops.write(fake->device, 0, offset, &value, sizeof(value));
}

void fake_negotiate(struct fake *fake, struct virtio_device *device, uint64_t features)
{
    struct irq_line line = {.sink = &fake->sink, .gsi = 5};
    uint64_t offered;

    fake->device = device;
    virtio_mmio_connect(device, &line);
    fake_write(fake, VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_eq(fake_read(fake, VIRTIO_MMIO_STATUS), 0);
    fake_write(fake, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE);
    fake_write(fake, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    fake_write(fake, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    offered = fake_read(fake, VIRTIO_MMIO_DEVICE_FEATURES);
    fake_write(fake, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    offered |= (uint64_t)fake_read(fake, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
    features = (features | VIRTIO_F(VIRTIO_F_VERSION_1)) & offered;
    for (unsigned i = 0; i < 2; i++) {
        fake_write(fake, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
        fake_write(fake, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * i)));
    }
    fake_write(fake, VIRTIO_MMIO_STATUS, 11);
    ck_assert_uint_eq(fake_read(fake, VIRTIO_MMIO_STATUS), 11);
    for (unsigned i = 0; i < FAKE_QUEUES; i++)
        fake->queues[i] = (struct fake_queue){
            .desc = 0x10000 * (i + 1),
            .avail = 0x10000 * (i + 1) + 0x2000,
            .used = 0x10000 * (i + 1) + 0x4000,
        };
}

void fake_queue_setup(struct fake *fake, unsigned index, uint16_t size)
{
    struct fake_queue *queue = &fake->queues[index];

    queue->size = size;
    memset(fake_host(fake, queue->desc, 0x8000), 0, 0x8000);
    fake_write(fake, VIRTIO_MMIO_QUEUE_SEL, index);
    fake_write(fake, VIRTIO_MMIO_QUEUE_NUM, size);
    fake_write(fake, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)queue->desc);
    fake_write(fake, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(queue->desc >> 32));
    fake_write(fake, VIRTIO_MMIO_QUEUE_DRIVER_LOW, (uint32_t)queue->avail);
    fake_write(fake, VIRTIO_MMIO_QUEUE_DRIVER_HIGH, (uint32_t)(queue->avail >> 32));
    fake_write(fake, VIRTIO_MMIO_QUEUE_DEVICE_LOW, (uint32_t)queue->used);
    fake_write(fake, VIRTIO_MMIO_QUEUE_DEVICE_HIGH, (uint32_t)(queue->used >> 32));
    fake_write(fake, VIRTIO_MMIO_QUEUE_READY, 1);
}

void fake_driver_ok(struct fake *fake)
{
    fake_write(fake, VIRTIO_MMIO_STATUS, 15);
}

void fake_start(struct fake *fake, struct virtio_device *device, uint64_t features,
                unsigned nr_queues)
{
    fake_negotiate(fake, device, features);
    for (unsigned i = 0; i < nr_queues; i++)
        fake_queue_setup(fake, i, 64);
    fake_driver_ok(fake);
    ck_assert_uint_eq(fake_read(fake, VIRTIO_MMIO_STATUS), 15);
}

void *fake_host(struct fake *fake, gpa_t gpa, uint64_t length)
{
    void *host = memory_range(fake->memory, gpa, length);

    ck_assert_ptr_nonnull(host);
    return host;
}

void fake_desc(struct fake *fake, unsigned queue, uint16_t index, uint64_t gpa, uint32_t length,
               uint16_t flags, uint16_t next)
{
    uint8_t *d = fake_host(fake, fake->queues[queue].desc + index * 16u, 16);

    store_le64(d, gpa);
    store_le32(d + 8, length);
    store_le16(d + 12, flags);
    store_le16(d + 14, next);
}

void fake_offer(struct fake *fake, unsigned queue, uint16_t head)
{
    struct fake_queue *q = &fake->queues[queue];
    uint8_t *avail = fake_host(fake, q->avail, 6 + 2u * q->size);

    store_le16(avail + 4 + 2 * (q->avail_idx % q->size), head);
    q->avail_idx++;
    __atomic_store_n((uint16_t *)(void *)(avail + 2), q->avail_idx, __ATOMIC_RELEASE);
}

uint16_t fake_add(struct fake *fake, unsigned queue, const struct fake_segment *segments,
                  unsigned nr)
{
    struct fake_queue *q = &fake->queues[queue];
    uint16_t head = q->next_desc;

    for (unsigned i = 0; i < nr; i++) {
        uint16_t at = q->next_desc;
        unsigned flags = (segments[i].writable ? FAKE_WRITE : 0u) | (i + 1 < nr ? FAKE_NEXT : 0u);

        q->next_desc = (uint16_t)((q->next_desc + 1) % q->size);
        fake_desc(fake, queue, at, segments[i].gpa, segments[i].length, (uint16_t)flags,
                  q->next_desc);
    }
    fake_offer(fake, queue, head);
    return head;
}

void fake_notify(struct fake *fake, unsigned queue)
{
    fake_write(fake, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

void fake_run(struct fake *fake, int timeout_ms)
{
    ck_assert_int_eq(loop_run_once(fake->loop, timeout_ms), 0);
}

bool fake_used(struct fake *fake, unsigned queue, uint16_t *ret_head, uint32_t *ret_length)
{
    struct fake_queue *q = &fake->queues[queue];
    uint8_t *used = fake_host(fake, q->used, 6 + 8u * q->size);
    uint8_t *element = used + 4 + 8 * (q->used_seen % q->size);

    if (__atomic_load_n((uint16_t *)(void *)(used + 2), __ATOMIC_ACQUIRE) == q->used_seen)
        return false;
    if (ret_head)
        *ret_head = (uint16_t)load_le32(element);
    if (ret_length)
        *ret_length = load_le32(element + 4);
    q->used_seen++;
    return true;
}

uint32_t fake_wait_used(struct fake *fake, unsigned queue, uint16_t *ret_head)
{
    uint64_t deadline = clock_monotonic_ns() + 5 * NS_PER_S;
    uint32_t length = 0;

    while (!fake_used(fake, queue, ret_head, &length)) {
        ck_assert_msg(clock_monotonic_ns() < deadline, "no used element on queue %u", queue);
        ck_assert_msg(!fake_failed(fake), "%s", virtio_device_failure(fake->device));
        fake_run(fake, 100);
    }
    return length;
}

bool fake_failed(struct fake *fake)
{
    return fake_read(fake, VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET;
}
