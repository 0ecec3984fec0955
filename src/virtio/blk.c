/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device (virtio 1.2 5.2): one queue, requests served out of order by a struct block.
 *
 * Invariants:
 *  1. A chain that is popped occupies one slot of `slots` until it is pushed; with no slot free the
 *     queue is not popped, so a guest cannot have more than BLK_SLOTS requests in flight.
 *  2. Data moves between the image and guest memory directly; a request's checks use copies.
 *  3. The status byte is written after the data and before the used index.
 *  4. With a write-through cache a write ends only after a flush.
 *
 * A request that makes no sense as a block request ends with IOERR or UNSUPP; only one that has no
 * room for a status byte breaks the device.
 */
#include "virtio/device.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

#define BLK_SLOTS   VIRTQ_SIZE_MAX
#define BLK_SEG_MAX (VIRTQ_SEGMENTS_MAX - 2)

/* 5.2.3 */
#define VIRTIO_BLK_F_SEG_MAX      2
#define VIRTIO_BLK_F_RO           5
#define VIRTIO_BLK_F_BLK_SIZE     6
#define VIRTIO_BLK_F_FLUSH        9
#define VIRTIO_BLK_F_TOPOLOGY     10
#define VIRTIO_BLK_F_CONFIG_WCE   11
#define VIRTIO_BLK_F_DISCARD      13
#define VIRTIO_BLK_F_WRITE_ZEROES 14

/* 5.2.6 */
#define VIRTIO_BLK_T_IN           0
#define VIRTIO_BLK_T_OUT          1
#define VIRTIO_BLK_T_FLUSH        4
#define VIRTIO_BLK_T_GET_ID       8
#define VIRTIO_BLK_T_DISCARD      11
#define VIRTIO_BLK_T_WRITE_ZEROES 13

#define VIRTIO_BLK_S_OK     0
#define VIRTIO_BLK_S_IOERR  1
#define VIRTIO_BLK_S_UNSUPP 2

#define BLK_WRITE_ZEROES_UNMAP 1u

/* One request zeroes at most this much: a bound on the work when the file system cannot help. */
#define BLK_ZEROES_SECTORS_MAX  (UINT32_C(256) << (20 - BLOCK_SECTOR_SHIFT))
#define BLK_DISCARD_SECTORS_MAX (UINT32_C(4096) << (20 - BLOCK_SECTOR_SHIFT))

/* 5.2.4; every field is naturally aligned, so the structure has no padding. */
struct blk_config_space {
    uint64_t capacity;
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct blk_config_space) <= VIRTIO_CONFIG_MAX, "configuration space");
#define BLK_WRITEBACK_OFFSET offsetof(struct blk_config_space, writeback)

struct blk_header {
    uint32_t type, reserved;
    uint64_t sector;
};

struct blk_range {
    uint64_t sector;
    uint32_t nr_sectors, flags;
};

struct blk_slot {
    struct blk_slot *next_free;
    struct blk *blk;
    struct block_request request;
    bool flush_after;
    struct virtq_chain chain;
    struct iovec iov[VIRTQ_SEGMENTS_MAX];
};

struct blk {
    struct virtio_device device;
    struct block *block;
    bool stalled; /* the queue waits for a slot */
    struct blk_slot *free_slots;
    struct loop_call publish_call;
    uint8_t serial[VIRTIO_BLK_ID_BYTES];
    struct blk_slot slots[BLK_SLOTS];
};

static void serve(struct blk *blk);

static void finish(struct blk_slot *slot, uint8_t status)
{
    struct blk *blk = slot->blk;
    struct virtq_chain *chain = &slot->chain;

    virtq_chain_write(chain, chain->in_bytes - 1, &status, 1);
    virtq_push(&blk->device.queues[0], chain, chain->in_bytes);
    slot->next_free = blk->free_slots;
    blk->free_slots = slot;
    loop_post(blk->device.loop, &blk->publish_call);
}

static bool write_through(const struct blk *blk)
{
    if (virtio_device_has(&blk->device, VIRTIO_BLK_F_CONFIG_WCE))
        return __atomic_load_n(&blk->device.config[BLK_WRITEBACK_OFFSET], __ATOMIC_RELAXED) == 0;
    return !virtio_device_has(&blk->device, VIRTIO_BLK_F_FLUSH);
}

static void request_done(struct block_request *request, int result)
{
    struct blk_slot *slot = CONTAINER_OF(request, struct blk_slot, request);

    if (result == 0 && slot->flush_after) {
        slot->flush_after = false;
        request->op = BLOCK_FLUSH;
        request->nr_sectors = 0;
        block_submit(slot->blk->block, request);
        loop_post(slot->blk->device.loop, &slot->blk->publish_call); /* kicks */
        return;
    }
    finish(slot, result == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
}

static void publish(void *context)
{
    struct blk *blk = context;

    virtio_device_publish(&blk->device, 0);
    if (blk->stalled)
        serve(blk);
    else
        block_kick(blk->block);
}

static void submit(struct blk_slot *slot, enum block_op op, uint64_t sector, uint64_t nr_sectors,
                   unsigned nr_iov)
{
    bool changes = op != BLOCK_READ && op != BLOCK_FLUSH;

    slot->flush_after = changes && write_through(slot->blk);
    slot->request.op = op;
    slot->request.sector = sector;
    slot->request.nr_sectors = nr_sectors;
    slot->request.iov = slot->iov;
    slot->request.nr_iov = nr_iov;
    slot->request.done = request_done;
    block_submit(slot->blk->block, &slot->request);
}

static void start_data(struct blk_slot *slot, const struct blk_header *header, bool read)
{
    struct virtq_chain *chain = &slot->chain;
    uint32_t offset = read ? 0 : (uint32_t)sizeof(*header);
    uint32_t bytes = read ? chain->in_bytes - 1 : chain->out_bytes - offset;
    unsigned nr;

    if (bytes % BLOCK_SECTOR_SIZE) {
        finish(slot, VIRTIO_BLK_S_IOERR);
        return;
    }
    nr = virtq_chain_slice(chain, read, offset, bytes, slot->iov, VIRTQ_SEGMENTS_MAX);
    if (read)
        chain->touched_bytes = bytes;
    submit(slot, read ? BLOCK_READ : BLOCK_WRITE, header->sector, bytes >> BLOCK_SECTOR_SHIFT, nr);
}

static void start_range(struct blk_slot *slot, bool discard)
{
    struct blk_range range;
    uint32_t most = discard ? BLK_DISCARD_SECTORS_MAX : BLK_ZEROES_SECTORS_MAX;

    if (slot->chain.out_bytes != sizeof(struct blk_header) + sizeof(range)) {
        finish(slot, VIRTIO_BLK_S_IOERR);
        return;
    }
    virtq_chain_read(&slot->chain, sizeof(struct blk_header), &range, sizeof(range));
    if (range.flags & ~(discard ? 0 : BLK_WRITE_ZEROES_UNMAP)) {
        finish(slot, VIRTIO_BLK_S_UNSUPP);
        return;
    }
    if (range.nr_sectors > most) {
        finish(slot, VIRTIO_BLK_S_IOERR);
        return;
    }
    slot->request.may_unmap = range.flags & BLK_WRITE_ZEROES_UNMAP;
    submit(slot, discard ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES, range.sector, range.nr_sectors, 0);
}

static void start_get_id(struct blk_slot *slot)
{
    struct virtq_chain *chain = &slot->chain;

    if (chain->in_bytes - 1 < VIRTIO_BLK_ID_BYTES) {
        finish(slot, VIRTIO_BLK_S_IOERR);
        return;
    }
    virtq_chain_write(chain, 0, slot->blk->serial, VIRTIO_BLK_ID_BYTES);
    finish(slot, VIRTIO_BLK_S_OK);
}

static void start(struct blk_slot *slot)
{
    struct blk_header header;

    if (virtq_chain_read(&slot->chain, 0, &header, sizeof(header)) < sizeof(header)) {
        finish(slot, VIRTIO_BLK_S_IOERR);
        return;
    }
    switch (header.type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
        start_data(slot, &header, header.type == VIRTIO_BLK_T_IN);
        break;
    case VIRTIO_BLK_T_FLUSH:
        submit(slot, BLOCK_FLUSH, 0, 0, 0);
        break;
    case VIRTIO_BLK_T_GET_ID:
        start_get_id(slot);
        break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        start_range(slot, header.type == VIRTIO_BLK_T_DISCARD);
        break;
    default:
        finish(slot, VIRTIO_BLK_S_UNSUPP);
        break;
    }
}

/* Takes what is available until the queue is empty or no slot is left. */
static void serve(struct blk *blk)
{
    struct virtq *queue = &blk->device.queues[0];
    unsigned budget = VIRTIO_DEVICE_BURST;

    blk->stalled = false;
    virtq_quiet(queue);
    do {
        struct blk_slot *slot = blk->free_slots;

        while (slot && budget && virtio_device_pop(&blk->device, 0, &slot->chain)) {
            budget--;
            if (slot->chain.in_bytes == 0) {
                virtio_device_fail(&blk->device, "block request without room for a status");
                break;
            }
            blk->free_slots = slot->next_free;
            start(slot);
            slot = blk->free_slots;
        }
        blk->stalled = !slot;
    } while (!blk->stalled && budget && virtq_listen(queue));
    if (!budget)
        virtio_device_notified(&blk->device, 0);
    block_kick(blk->block);
}

static void blk_notify(struct virtio_device *device, unsigned queue)
{
    (void)queue;
    serve(CONTAINER_OF(device, struct blk, device));
}

/* Completions run inside the drain and may submit a flush; all of it ends here. */
static void blk_reset(struct virtio_device *device)
{
    struct blk *blk = CONTAINER_OF(device, struct blk, device);
    uint8_t writeback = 1;

    block_drain(blk->block);
    loop_cancel(device->loop, &blk->publish_call);
    blk->stalled = false;
    virtio_device_set_config(device, BLK_WRITEBACK_OFFSET, &writeback, 1);
}

static void blk_quiesce(struct virtio_device *device)
{
    struct blk *blk = CONTAINER_OF(device, struct blk, device);

    block_drain(blk->block);
    loop_cancel(device->loop, &blk->publish_call);
    blk->stalled = false;
    virtio_device_publish(device, 0);
}

static bool blk_config_write(struct virtio_device *device, unsigned offset, unsigned size)
{
    return offset == BLK_WRITEBACK_OFFSET && size == 1 && device->config[offset] <= 1;
}

static void blk_free(struct virtio_device *device)
{
    struct blk *blk = CONTAINER_OF(device, struct blk, device);

    block_close(blk->block);
    virtio_device_done(device);
    free(blk);
}

int virtio_blk_revoke(struct virtio_device *device)
{
    struct blk *blk = CONTAINER_OF(device, struct blk, device);
    struct block *gone;
    int result = block_open_gone(blk->block, device->loop, &gone);

    if (result < 0)
        return result;
    block_drain(blk->block);
    block_close(blk->block);
    blk->block = gone;
    return 0;
}

static const struct virtio_class blk_class = {
    .name = "blk",
    .id = VIRTIO_ID_BLOCK,
    .nr_queues = 1,
    .notify = blk_notify,
    .reset = blk_reset,
    .quiesce = blk_quiesce,
    .config_write = blk_config_write,
    .free = blk_free,
};

static void fill_config(struct virtio_device *device, const struct block_info *info)
{
    struct blk_config_space config = {
        .capacity = info->nr_sectors,
        .seg_max = BLK_SEG_MAX,
        .blk_size = BLOCK_SECTOR_SIZE,
        .physical_block_exp = (uint8_t)__builtin_ctz(info->physical_block_bytes >>
                                                     BLOCK_SECTOR_SHIFT),
        .min_io_size = (uint16_t)(info->physical_block_bytes >> BLOCK_SECTOR_SHIFT),
        .writeback = 1,
        .num_queues = 1,
        .max_discard_sectors = BLK_DISCARD_SECTORS_MAX,
        .max_discard_seg = 1,
        .discard_sector_alignment = info->physical_block_bytes >> BLOCK_SECTOR_SHIFT,
        .max_write_zeroes_sectors = BLK_ZEROES_SECTORS_MAX,
        .max_write_zeroes_seg = 1,
        .write_zeroes_may_unmap = 1,
    };

    memcpy(device->config, &config, sizeof(config));
    device->config_bytes = sizeof(config);
}

int virtio_blk_new(const struct virtio_host *host, const struct virtio_blk_config *config,
                   struct virtio_device **ret, struct err *err)
{
    uint64_t features = VIRTIO_F(VIRTIO_BLK_F_SEG_MAX) | VIRTIO_F(VIRTIO_BLK_F_BLK_SIZE) |
                        VIRTIO_F(VIRTIO_BLK_F_FLUSH) | VIRTIO_F(VIRTIO_BLK_F_TOPOLOGY) |
                        VIRTIO_F(VIRTIO_BLK_F_CONFIG_WCE);
    struct blk *blk = calloc(1, sizeof(*blk));
    struct block_info info;

    if (!blk)
        return err_set(err, -ENOMEM, "block device: out of memory");
    block_get_info(config->block, &info);
    features |= info.read_only
                    ? VIRTIO_F(VIRTIO_BLK_F_RO)
                    : VIRTIO_F(VIRTIO_BLK_F_DISCARD) | VIRTIO_F(VIRTIO_BLK_F_WRITE_ZEROES);
    virtio_device_init(&blk->device, &blk_class, host, features);
    fill_config(&blk->device, &info);
    if (config->serial)
        memcpy(blk->serial, config->serial, strnlen(config->serial, VIRTIO_BLK_ID_BYTES));
    blk->block = config->block;
    blk->publish_call = (struct loop_call){.fn = publish, .context = blk};
    for (unsigned i = 0; i < BLK_SLOTS; i++) {
        blk->slots[i].blk = blk;
        blk->slots[i].next_free = blk->free_slots;
        blk->free_slots = &blk->slots[i];
    }
    *ret = &blk->device;
    return 0;
}
