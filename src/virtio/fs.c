/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device (virtio 1.2 5.11): requests go to the share's server process, by address,
 * and come back in any order. Queue 0 is the high-priority one (FORGET), queue 1 the request queue.
 *
 * Invariants: 1. at most SHARE_INFLIGHT_MAX requests are with the server; the rest waits in the
 * guest's queues. 2. A slot's chain is the server's from its sending to its answer; a reset waits
 * for all answers, since the server writes to guest memory. 3. When the server is gone, everything
 * that it had and all that comes later is answered with an error (EIO) here: nobody in the guest
 * waits for ever, and what does not use this file system goes on.
 */
#include "virtio/device.h"

#include "base/log.h"
#include "base/util.h"
#include "share/server.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define QUEUES 2

struct slot {
    bool busy;
    uint8_t queue;
    struct virtq_chain chain;
};

struct fs {
    struct virtio_device device;
    struct share_server *server; /* owned */
    struct loop_fd *watch;
    struct slot *slots; /* SHARE_INFLIGHT_MAX */
    unsigned nr_busy;
    bool gone, full; /* full: the socket takes no more now */
    struct share_message message;
};

static struct slot *slot_find(struct fs *fs)
{
    for (unsigned i = 0; fs->nr_busy < SHARE_INFLIGHT_MAX && i < SHARE_INFLIGHT_MAX; i++)
        if (!fs->slots[i].busy)
            return &fs->slots[i];
    return NULL;
}

/* struct fuse_out_header: le32 len, le32 error, le64 unique. A request without room for it (FORGET)
 * has no answer. */
static void answer_failure(struct fs *fs, unsigned queue, struct virtq_chain *chain)
{
    uint8_t request[16], answer[16];
    uint32_t length = 0;

    if (virtq_chain_read(chain, 0, request, sizeof(request)) == sizeof(request) &&
        chain->in_bytes >= sizeof(answer)) {
        store_le32(answer, sizeof(answer));
        store_le32(answer + 4, (uint32_t)-EIO);
        memcpy(answer + 8, request + 8, 8);
        length = virtq_chain_write(chain, 0, answer, sizeof(answer));
    }
    virtq_push(&fs->device.queues[queue], chain, length);
}

static void server_gone(struct fs *fs)
{
    log_warning("the process for shared directories has ended; the guest's requests fail from now "
                "on");
    fs->gone = true;
    fs->full = false;
    loop_fd_remove(fs->watch);
    fs->watch = NULL;
    for (unsigned i = 0; i < SHARE_INFLIGHT_MAX; i++) {
        struct slot *slot = &fs->slots[i];

        if (!slot->busy)
            continue;
        slot->busy = false;
        /* It may have written any of that. */
        slot->chain.touched_bytes = slot->chain.in_bytes;
        answer_failure(fs, slot->queue, &slot->chain);
    }
    fs->nr_busy = 0;
}

static int send_slot(struct fs *fs, struct slot *slot)
{
    struct share_message *m = &fs->message;
    const struct virtq_chain *chain = &slot->chain;

    m->slot = (uint32_t)(slot - fs->slots);
    m->nr_out = chain->nr_out;
    m->nr_in = chain->nr_in;
    for (unsigned i = 0; i < (unsigned)chain->nr_out + chain->nr_in; i++)
        m->segments[i] = (struct share_segment){.gpa = chain->gpa[i],
                                                .length = (uint32_t)chain->iov[i].iov_len};
    return share_server_send(fs->server, m);
}

/* As long as there are requests, slots and room in the socket. */
static void take(struct fs *fs, unsigned queue)
{
    struct slot *slot;
    int r;

    while (!fs->full && (slot = slot_find(fs)) &&
           virtio_device_pop(&fs->device, queue, &slot->chain)) {
        r = fs->gone ? -EPIPE : send_slot(fs, slot);
        if (r == -EAGAIN) {
            virtq_rewind(&fs->device.queues[queue], 1);
            fs->full = true;
            loop_fd_set_events(fs->watch, EPOLLIN | EPOLLOUT);
            return;
        }
        if (r < 0) {
            if (!fs->gone)
                server_gone(fs);
            answer_failure(fs, queue, &slot->chain);
            continue;
        }
        slot->busy = true;
        slot->queue = (uint8_t)queue;
        fs->nr_busy++;
    }
}

static void take_all(struct fs *fs)
{
    for (unsigned i = 0; i < QUEUES && fs->device.active; i++) {
        do
            take(fs, i);
        while (!fs->full && fs->nr_busy < SHARE_INFLIGHT_MAX && fs->device.active &&
               virtq_listen(&fs->device.queues[i]));
    }
    for (unsigned i = 0; i < QUEUES && fs->gone && fs->device.active; i++)
        virtio_device_publish(&fs->device, i);
}

/* Returns whether there was one. */
static bool answer_take(struct fs *fs)
{
    struct share_answer answer;
    struct slot *slot;
    int r = share_server_receive(fs->server, &answer);

    if (r == 0)
        return false;
    if (r < 0 || answer.slot >= SHARE_INFLIGHT_MAX || !fs->slots[answer.slot].busy) {
        server_gone(fs);
        return false;
    }
    slot = &fs->slots[answer.slot];
    slot->busy = false;
    fs->nr_busy--;
    slot->chain.touched_bytes = MIN(answer.touched, slot->chain.in_bytes);
    virtq_push(&fs->device.queues[slot->queue], &slot->chain,
               MIN(answer.length, slot->chain.in_bytes));
    return true;
}

static void socket_event(void *context, uint32_t events)
{
    struct fs *fs = context;
    unsigned budget = VIRTIO_DEVICE_BURST;

    if (fs->full && (events & EPOLLOUT)) {
        fs->full = false;
        loop_fd_set_events(fs->watch, EPOLLIN);
    }
    while (budget-- && !fs->gone && answer_take(fs))
        continue;
    for (unsigned i = 0; i < QUEUES && fs->device.active; i++)
        virtio_device_publish(&fs->device, i);
    if (fs->device.active)
        take_all(fs);
}

static void fs_notify(struct virtio_device *device, unsigned queue)
{
    (void)queue;
    take_all(CONTAINER_OF(device, struct fs, device));
}

static void fs_reset(struct virtio_device *device)
{
    struct fs *fs = CONTAINER_OF(device, struct fs, device);
    struct pollfd fd = {.fd = share_server_fd(fs->server), .events = POLLIN};

    while (fs->nr_busy && !fs->gone) {
        poll(&fd, 1, -1);
        while (!fs->gone && answer_take(fs))
            continue;
    }
}

static void fs_free(struct virtio_device *device)
{
    struct fs *fs = CONTAINER_OF(device, struct fs, device);

    loop_fd_remove(fs->watch);
    share_server_free(fs->server);
    virtio_device_done(device);
    free(fs->slots);
    free(fs);
}

static const struct virtio_class fs_class = {
    .name = "fs",
    .id = VIRTIO_ID_FS,
    .nr_queues = QUEUES,
    .notify = fs_notify,
    .reset = fs_reset,
    .free = fs_free,
};

/* struct virtio_fs_config: tag[36], le32 num_request_queues */
static void config_fill(struct fs *fs, const char *tag)
{
    memcpy(fs->device.config, tag, strlen(tag));
    store_le32(fs->device.config + VIRTIO_FS_TAG_BYTES, QUEUES - 1);
    fs->device.config_bytes = VIRTIO_FS_TAG_BYTES + 4;
}

int virtio_fs_new(const struct virtio_host *host, const struct virtio_fs_config *config,
                  struct virtio_device **ret, struct err *err)
{
    struct fs *fs;
    int r = 0;

    if (!config->tag[0] || strlen(config->tag) > VIRTIO_FS_TAG_BYTES)
        return err_set(err, -EINVAL, "share tag '%s': 1 to %d bytes are needed", config->tag,
                       VIRTIO_FS_TAG_BYTES);
    fs = calloc(1, sizeof(*fs));
    if (!fs || !(fs->slots = calloc(SHARE_INFLIGHT_MAX, sizeof(*fs->slots)))) {
        free(fs);
        return err_set(err, -ENOMEM, "file system device: out of memory");
    }
    virtio_device_init(&fs->device, &fs_class, host, 0);
    config_fill(fs, config->tag);
    for (unsigned i = 0; r == 0 && i < host->memory->nr_slots; i++) {
        const struct memory_slot *slot = &host->memory->slots[i];

        if (!slot->read_only)
            r = share_server_map(config->server, slot->gpa, slot->size_bytes, slot->fd,
                                 slot->fd_offset, err);
    }
    if (r == 0)
        r = loop_fd_add(host->loop, share_server_fd(config->server), EPOLLIN, socket_event, fs,
                        &fs->watch, err);
    if (r < 0) {
        virtio_device_done(&fs->device);
        free(fs->slots);
        free(fs);
        return r;
    }
    fs->server = config->server;
    *ret = &fs->device;
    return 0;
}
