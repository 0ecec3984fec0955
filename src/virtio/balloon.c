/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory balloon (virtio 1.2 5.5): pages that the guest gives (inflate) or reports as free go
 * back to the host at once, by a hole in the memfd behind them; the guest finds zeros there when it
 * uses them again. Statistics come when the driver's buffer is handed back to it.
 *
 * Queues: 0 inflate, 1 deflate, then statistics and free-page reporting, each only when it was
 * negotiated (Linux numbers queues without gaps; free-page hints are not offered).
 *
 * Invariant: only whole pages of RAM inside the guest's slots are discarded, and memory_written
 * tells of it before the chain is returned.
 */
#include "virtio/device.h"

#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <string.h>

#define F_STATS_VQ       1
#define F_DEFLATE_ON_OOM 2
#define F_REPORTING      5

#define QUEUE_INFLATE 0
#define QUEUE_DEFLATE 1
#define CONFIG_TARGET 0 /* le32 num_pages */
#define CONFIG_ACTUAL 4 /* le32 actual: the driver's */
#define CONFIG_BYTES  8
#define STAT_BYTES    10 /* le16 tag, le64 value */
#define PFNS_AT_ONCE  256

struct balloon {
    struct virtio_device device;
    uint64_t returned_bytes;
    struct virtq_chain chain;
    struct virtq_chain statistics; /* held until they are asked for */
    bool holds_statistics;
    uint64_t values[VIRTIO_BALLOON_STATS];
    uint32_t known; /* bit a value */
    uint64_t taken_ns;
};

static struct balloon *balloon_of(struct virtio_device *device)
{
    return CONTAINER_OF(device, struct balloon, device);
}

/* [gpa, gpa + length): what of it are whole pages of RAM. */
static void discard(struct balloon *b, gpa_t gpa, uint64_t length)
{
    uint64_t start = align_up(gpa, GUEST_PAGE_SIZE);
    uint64_t end = align_down(gpa + length, GUEST_PAGE_SIZE);

    if (end <= start || gpa + length < gpa)
        return;
    if (memory_discard(b->device.memory, start, end - start))
        return; /* the pages stay: nothing is lost but memory */
    memory_written(b->device.memory, start, end - start);
    b->returned_bytes += end - start;
}

/* An array of page numbers; neighbours, in either order, become one range. */
static void inflate(struct balloon *b)
{
    uint8_t pfns[4 * PFNS_AT_ONCE];
    uint64_t first = 0, nr = 0;

    for (uint32_t at = 0; at < b->chain.out_bytes;) {
        uint32_t n = virtq_chain_read(&b->chain, at, pfns, sizeof(pfns)) & ~3u;

        if (!n)
            break;
        for (uint32_t i = 0; i < n; i += 4) {
            uint64_t pfn = load_le32(pfns + i);

            if (nr && pfn == first + nr) {
                nr++;
            } else if (nr && pfn + 1 == first) {
                first = pfn;
                nr++;
            } else {
                discard(b, first << GUEST_PAGE_SHIFT, nr << GUEST_PAGE_SHIFT);
                first = pfn;
                nr = 1;
            }
        }
        at += n;
    }
    discard(b, first << GUEST_PAGE_SHIFT, nr << GUEST_PAGE_SHIFT);
}

static void report(struct balloon *b)
{
    const struct virtq_chain *chain = &b->chain;

    for (unsigned i = chain->nr_out; i < (unsigned)chain->nr_out + chain->nr_in; i++)
        discard(b, chain->gpa[i], chain->iov[i].iov_len);
}

static void statistics_read(struct balloon *b)
{
    uint8_t one[STAT_BYTES];
    uint32_t known = 0;

    for (uint32_t at = 0; at < STAT_BYTES * 64u; at += STAT_BYTES) {
        uint16_t tag;

        if (virtq_chain_read(&b->statistics, at, one, STAT_BYTES) != STAT_BYTES)
            break;
        tag = load_le16(one);
        if (tag < VIRTIO_BALLOON_STATS) {
            b->values[tag] = load_le64(one + 2);
            known |= 1u << tag;
        }
    }
    b->known = known;
    b->taken_ns = clock_monotonic_ns();
}

/* The buffer with statistics stays with us until they are wanted anew. */
static void serve_statistics(struct balloon *b)
{
    if (!b->holds_statistics && virtio_device_pop(&b->device, 2, &b->statistics)) {
        b->holds_statistics = true;
        statistics_read(b);
    }
    virtq_listen(&b->device.queues[2]);
}

static void balloon_notify(struct virtio_device *device, unsigned queue)
{
    struct balloon *b = balloon_of(device);
    bool statistics = virtio_device_has(device, F_STATS_VQ);
    unsigned reporting = statistics ? 3 : 2, budget = VIRTIO_DEVICE_BURST;

    if (queue == 2 && statistics) {
        serve_statistics(b);
        return;
    }
    if (queue > 2 && queue != reporting)
        return;
    while (budget-- && virtio_device_pop(device, queue, &b->chain)) {
        if (queue == QUEUE_INFLATE)
            inflate(b);
        else if (queue == reporting && virtio_device_has(device, F_REPORTING))
            report(b);
        virtq_push(&device->queues[queue], &b->chain, 0);
    }
    virtio_device_publish(device, queue);
    if (virtq_listen(&device->queues[queue]))
        virtio_device_notified(device, queue);
}

static void balloon_reset(struct virtio_device *device)
{
    struct balloon *b = balloon_of(device);

    b->holds_statistics = false;
    b->known = 0;
    pthread_mutex_lock(&device->lock);
    store_le32(device->config + CONFIG_ACTUAL, 0);
    pthread_mutex_unlock(&device->lock);
}

/* Only `actual` is the driver's; it may be anything, and is only shown. */
static bool balloon_config_write(struct virtio_device *device, unsigned offset, unsigned size)
{
    (void)device;
    return offset >= CONFIG_ACTUAL && offset + size <= CONFIG_BYTES;
}

static void balloon_free(struct virtio_device *device)
{
    virtio_device_done(device);
    free(balloon_of(device));
}

static const struct virtio_class balloon_class = {
    .name = "balloon",
    .id = VIRTIO_ID_BALLOON,
    .nr_queues = 4,
    .notify = balloon_notify,
    .reset = balloon_reset,
    .config_write = balloon_config_write,
    .free = balloon_free,
};

int virtio_balloon_new(const struct virtio_host *host, struct virtio_device **ret, struct err *err)
{
    struct balloon *b = calloc(1, sizeof(*b));

    if (!b)
        return err_set(err, -ENOMEM, "balloon device: out of memory");
    virtio_device_init(&b->device, &balloon_class, host,
                       VIRTIO_F(F_STATS_VQ) | VIRTIO_F(F_DEFLATE_ON_OOM) | VIRTIO_F(F_REPORTING));
    b->device.config_bytes = CONFIG_BYTES;
    *ret = &b->device;
    return 0;
}

void virtio_balloon_set(struct virtio_device *device, uint64_t balloon_bytes)
{
    uint8_t pages[4];

    store_le32(pages, (uint32_t)MIN(balloon_bytes >> GUEST_PAGE_SHIFT, (uint64_t)UINT32_MAX));
    virtio_device_set_config(device, CONFIG_TARGET, pages, sizeof(pages));
}

void virtio_balloon_get(struct virtio_device *device, struct virtio_balloon_info *ret)
{
    struct balloon *b = balloon_of(device);

    *ret = (struct virtio_balloon_info){
        .running = device->active, .returned_bytes = b->returned_bytes, .known = b->known};
    memcpy(ret->values, b->values, sizeof(ret->values));
    if (b->known)
        ret->age_ms = (clock_monotonic_ns() - b->taken_ns) / NS_PER_MS;
    pthread_mutex_lock(&device->lock);
    ret->target_bytes = (uint64_t)load_le32(device->config + CONFIG_TARGET) << GUEST_PAGE_SHIFT;
    ret->actual_bytes = (uint64_t)load_le32(device->config + CONFIG_ACTUAL) << GUEST_PAGE_SHIFT;
    pthread_mutex_unlock(&device->lock);
    if (b->holds_statistics && device->active) {
        virtq_push(&device->queues[2], &b->statistics, 0);
        virtio_device_publish(device, 2);
        b->holds_statistics = false;
    }
}
