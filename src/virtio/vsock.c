/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device: its queues and packets. To the guest, connections with something to say wait
 * in a queue and are served in turn; one turn reads up to VSOCK_BURST buffers' worth from the
 * host's socket straight into guest memory with one system call. From the guest, each packet is
 * checked and handed to its connection.
 *
 * Packets are taken from the guest only while there is room to remember a RST for each; a guest
 * that gives no receive buffers therefore stops its own sending, and nothing grows.
 */
#include "virtio/vsock.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

void vsock_schedule(struct vsock *vsock)
{
    loop_post(vsock->device.loop, &vsock->pump_call);
}

void vsock_arm_timer(struct vsock *vsock)
{
    loop_timer_arm(vsock->timer, clock_monotonic_ns() + NS_PER_S);
}

static void on_timer(void *context)
{
    struct vsock *vsock = context;
    uint64_t now = clock_monotonic_ns();
    bool waiting = false;

    vsock_conn_expire(vsock, now, &waiting);
    vsock_clients_expire(vsock, now, &waiting);
    if (waiting)
        vsock_arm_timer(vsock);
}

/* The buffer's header is written last; returns its bytes including the payload. */
static void finish_packet(struct vsock *vsock, struct virtq_chain *chain,
                          const struct vsock_conn *conn, enum vsock_op op, uint32_t flags,
                          uint32_t length)
{
    struct vsock_header header = {
        .src_cid = VSOCK_HOST_CID,
        .dst_cid = vsock->guest_cid,
        .src_port = conn->host_port,
        .dst_port = conn->guest_port,
        .length = length,
        .type = VSOCK_TYPE_STREAM,
        .op = (uint16_t)op,
        .flags = flags,
        .buf_alloc = VSOCK_BUFFER_BYTES,
        .fwd_cnt = conn->fwd_cnt,
    };

    virtq_chain_write(chain, 0, &header, sizeof(header));
    virtq_push(&vsock->device.queues[VSOCK_RX], chain, VSOCK_HEADER_BYTES + length);
}

static bool pop_rx(struct vsock *vsock, struct virtq_chain *chain)
{
    if (!virtio_device_pop(&vsock->device, VSOCK_RX, chain))
        return false;
    if (chain->in_bytes > VSOCK_HEADER_BYTES)
        return true;
    virtio_device_fail(&vsock->device, "socket receive buffer too small for a packet");
    return false;
}

static bool send_reset(struct vsock *vsock)
{
    struct vsock_reset *reset = &vsock->resets[vsock->first_reset];
    struct virtq_chain *chain = &vsock->rx_chains[0];
    struct vsock_header header = {
        .src_cid = VSOCK_HOST_CID,
        .dst_cid = vsock->guest_cid,
        .src_port = reset->host_port,
        .dst_port = reset->guest_port,
        .type = reset->type,
        .op = VSOCK_OP_RST,
    };

    if (!pop_rx(vsock, chain))
        return false;
    virtq_chain_write(chain, 0, &header, sizeof(header));
    virtq_push(&vsock->device.queues[VSOCK_RX], chain, VSOCK_HEADER_BYTES);
    vsock->first_reset = (vsock->first_reset + 1) % (2 * vsock->connections_max);
    vsock->nr_resets--;
    if (vsock->tx_paused) {
        vsock->tx_paused = false;
        virtio_device_notified(&vsock->device, VSOCK_TX);
    }
    return true;
}

static enum vsock_op next_control(struct vsock_conn *conn, uint32_t *ret_flags)
{
    *ret_flags = 0;
    if (conn->owes & VSOCK_OWES_REQUEST) {
        conn->owes &= ~VSOCK_OWES_REQUEST;
        conn->request_sent = true;
        return VSOCK_OP_REQUEST;
    }
    if (conn->owes & VSOCK_OWES_RESPONSE) {
        conn->owes &= ~VSOCK_OWES_RESPONSE;
        return VSOCK_OP_RESPONSE;
    }
    if (conn->shutdown_owed & ~conn->shutdown_sent) {
        conn->shutdown_sent |= conn->shutdown_owed;
        *ret_flags = conn->shutdown_sent;
        return VSOCK_OP_SHUTDOWN;
    }
    if (conn->owes & VSOCK_OWES_CREDIT_REQUEST) {
        conn->owes &= ~VSOCK_OWES_CREDIT_REQUEST;
        return VSOCK_OP_CREDIT_REQUEST;
    }
    return VSOCK_OP_CREDIT_UPDATE;
}

static bool owes_control(const struct vsock_conn *conn)
{
    return conn->owes || (conn->shutdown_owed & ~conn->shutdown_sent);
}

static bool send_control(struct vsock_conn *conn)
{
    struct vsock *vsock = conn->vsock;
    struct virtq_chain *chain = &vsock->rx_chains[0];
    enum vsock_op op;
    uint32_t flags;

    if (!pop_rx(vsock, chain))
        return false;
    op = next_control(conn, &flags);
    /* Every packet carries the credit, so that a separate update is not owed any more. */
    conn->owes &= ~VSOCK_OWES_CREDIT_UPDATE;
    conn->fwd_cnt_told = conn->fwd_cnt;
    finish_packet(vsock, chain, conn, op, flags, 0);
    return true;
}

/* Pops receive buffers for at most `credit` bytes; fills vsock->iov and the room in each. */
static unsigned gather(struct vsock *vsock, uint32_t credit, uint32_t room[VSOCK_BURST],
                       unsigned *ret_nr_iov)
{
    unsigned nr = 0, nr_iov = 0;

    while (nr < VSOCK_BURST && credit && nr_iov < VSOCK_IOV_MAX &&
           pop_rx(vsock, &vsock->rx_chains[nr])) {
        const struct virtq_chain *chain = &vsock->rx_chains[nr];
        uint32_t want = MIN(chain->in_bytes - VSOCK_HEADER_BYTES, MIN(credit, VSOCK_PACKET_MAX));
        unsigned n = virtq_chain_slice(chain, true, VSOCK_HEADER_BYTES, want, vsock->iov + nr_iov,
                                       VSOCK_IOV_MAX - nr_iov);

        room[nr] = 0;
        for (unsigned i = nr_iov; i < nr_iov + n; i++)
            room[nr] += (uint32_t)vsock->iov[i].iov_len;
        credit -= room[nr++];
        nr_iov += n;
    }
    *ret_nr_iov = nr_iov;
    return nr;
}

/* One burst of data from the host. False when the guest gave no buffer. */
static bool send_data(struct vsock_conn *conn)
{
    struct vsock *vsock = conn->vsock;
    struct virtq *queue = &vsock->device.queues[VSOCK_RX];
    uint32_t room[VSOCK_BURST] = {0};
    unsigned nr_iov, used = 0;
    unsigned nr = gather(vsock, vsock_conn_credit(conn), room, &nr_iov);
    uint32_t left;
    ssize_t n;

    if (nr == 0)
        return false;
    do
        n = readv(conn->fd, vsock->iov, (int)nr_iov);
    while (n < 0 && errno == EINTR);
    for (left = n > 0 ? (uint32_t)n : 0; left; used++) {
        uint32_t length = MIN(left, room[used]);

        conn->owes &= ~VSOCK_OWES_CREDIT_UPDATE;
        conn->fwd_cnt_told = conn->fwd_cnt;
        finish_packet(vsock, &vsock->rx_chains[used], conn, VSOCK_OP_RW, 0, length);
        conn->tx_cnt += length;
        left -= length;
    }
    virtq_rewind(queue, nr - used);
    virtio_device_publish(&vsock->device, VSOCK_RX);
    if (n > 0 && vsock_conn_credit(conn) == 0)
        conn->owes |= VSOCK_OWES_CREDIT_REQUEST;
    if (n < 0 && errno == EAGAIN)
        conn->can_read = false;
    else if (n <= 0)
        vsock_conn_read_ended(conn, n < 0);
    return true;
}

static bool send_next(struct vsock *vsock)
{
    struct vsock_conn *conn;
    bool sent;

    if (!virtq_available(&vsock->device.queues[VSOCK_RX]))
        return false;
    if (vsock->nr_resets)
        return send_reset(vsock);
    conn = TAILQ_FIRST(&vsock->ready);
    if (!conn)
        return false;
    TAILQ_REMOVE(&vsock->ready, conn, ready);
    conn->is_ready = false;
    if (!vsock_conn_has_output(conn))
        return true;
    sent = owes_control(conn) ? send_control(conn) : send_data(conn);
    vsock_conn_wake(conn);
    return sent;
}

static void pump(void *context)
{
    struct vsock *vsock = context;
    struct virtio_device *device = &vsock->device;
    struct virtq *queue = &device->queues[VSOCK_RX];
    unsigned budget = VIRTIO_DEVICE_BURST / VSOCK_BURST;

    if (!device->active)
        return;
    virtq_quiet(queue);
    do {
        while (budget && send_next(vsock))
            budget--;
        virtio_device_publish(device, VSOCK_RX);
        if (!vsock->nr_resets && TAILQ_EMPTY(&vsock->ready))
            return;
    } while (budget && virtq_listen(queue));
    if (!budget)
        vsock_schedule(vsock);
}

static void dispatch(struct vsock_conn *conn, const struct vsock_header *header)
{
    conn->peer_buf_alloc = header->buf_alloc;
    conn->peer_fwd_cnt = header->fwd_cnt;
    switch (header->op) {
    case VSOCK_OP_RESPONSE:
        vsock_conn_responded(conn);
        return;
    case VSOCK_OP_RST:
        vsock_conn_drop(conn, false);
        return;
    case VSOCK_OP_SHUTDOWN:
        vsock_conn_guest_shutdown(conn, header->flags);
        return;
    case VSOCK_OP_RW:
        vsock_conn_guest_data(conn, header->length);
        vsock_conn_wake(conn); /* its header may have brought credit */
        return;
    case VSOCK_OP_CREDIT_REQUEST:
        conn->owes |= VSOCK_OWES_CREDIT_UPDATE;
        vsock_conn_wake(conn);
        return;
    case VSOCK_OP_CREDIT_UPDATE:
        vsock_conn_wake(conn);
        return;
    default: /* also a REQUEST for ports that are in use */
        vsock_conn_drop(conn, true);
        return;
    }
}

static void take_packet(struct vsock *vsock, const struct virtq_chain *chain)
{
    struct vsock_header header;
    struct vsock_conn *conn;
    bool whole;

    if (virtq_chain_read(chain, 0, &header, sizeof(header)) < sizeof(header) ||
        header.src_cid != vsock->guest_cid || header.dst_cid != VSOCK_HOST_CID)
        return;
    whole = header.length <= chain->out_bytes - VSOCK_HEADER_BYTES &&
            header.length <= VSOCK_PACKET_MAX;
    conn = header.type == VSOCK_TYPE_STREAM
               ? vsock_conn_find(vsock, header.dst_port, header.src_port)
               : NULL;
    if (conn && whole)
        dispatch(conn, &header);
    else if (conn)
        vsock_conn_drop(conn, true);
    else if (header.op == VSOCK_OP_REQUEST && header.type == VSOCK_TYPE_STREAM)
        vsock_conn_request(vsock, &header);
    else if (header.op != VSOCK_OP_RST)
        vsock_add_reset(vsock, header.dst_port, header.src_port, header.type);
}

static void serve_tx(struct vsock *vsock)
{
    struct virtio_device *device = &vsock->device;
    struct virtq *queue = &device->queues[VSOCK_TX];
    unsigned budget = VIRTIO_DEVICE_BURST;

    virtq_quiet(queue);
    do {
        while (budget && vsock->nr_connections + vsock->nr_resets < 2 * vsock->connections_max &&
               virtio_device_pop(device, VSOCK_TX, &vsock->tx_chain)) {
            take_packet(vsock, &vsock->tx_chain);
            virtq_push(queue, &vsock->tx_chain, 0);
            if (--budget % VSOCK_BURST == 0)
                virtio_device_publish(device, VSOCK_TX);
        }
        virtio_device_publish(device, VSOCK_TX);
        vsock->tx_paused = vsock->nr_connections + vsock->nr_resets >= 2 * vsock->connections_max;
    } while (budget && !vsock->tx_paused && virtq_listen(queue));
    if (!budget)
        virtio_device_notified(device, VSOCK_TX);
}

static void vsock_notify(struct virtio_device *device, unsigned queue)
{
    struct vsock *vsock = CONTAINER_OF(device, struct vsock, device);

    if (queue == VSOCK_TX)
        serve_tx(vsock);
    else if (queue == VSOCK_RX)
        pump(vsock);
}

static void vsock_reset(struct virtio_device *device)
{
    struct vsock *vsock = CONTAINER_OF(device, struct vsock, device);

    vsock_conn_drop_all(vsock);
    vsock->nr_resets = 0;
    vsock->tx_paused = false;
    loop_cancel(device->loop, &vsock->pump_call);
}

static void vsock_free(struct virtio_device *device)
{
    struct vsock *vsock = CONTAINER_OF(device, struct vsock, device);

    vsock_listen_done(vsock);
    vsock_conns_done(vsock);
    loop_cancel(device->loop, &vsock->pump_call);
    loop_timer_free(vsock->timer);
    virtio_device_done(device);
    free(vsock);
}

static const struct virtio_class vsock_class = {
    .name = "vsock",
    .id = VIRTIO_ID_SOCKET,
    .nr_queues = 3, /* the third carries transport events, of which we have none */
    .notify = vsock_notify,
    .reset = vsock_reset,
    .free = vsock_free,
};

int virtio_vsock_new(const struct virtio_host *host, const struct virtio_vsock_config *config,
                     struct virtio_device **ret, struct err *err)
{
    CLEANUP(virtio_device_freep) struct virtio_device *device = NULL;
    struct vsock *vsock;
    int r;

    if (config->guest_cid <= VSOCK_HOST_CID || config->guest_cid >= UINT32_MAX)
        return err_set(err, -EINVAL, "vsock guest CID %llu: must be 3 to 4294967294",
                       (unsigned long long)config->guest_cid);
    if (config->connections_max > VSOCK_CONNECTIONS_MAX)
        return err_set(err, -EINVAL, "vsock: %u connections: at most %u", config->connections_max,
                       VSOCK_CONNECTIONS_MAX);
    vsock = calloc(1, sizeof(*vsock));
    if (!vsock)
        return err_set(err, -ENOMEM, "vsock: out of memory");
    virtio_device_init(&vsock->device, &vsock_class, host, 0);
    device = &vsock->device;
    vsock->listen_fd = -1;
    vsock->guest_cid = config->guest_cid;
    vsock->pump_call = (struct loop_call){.fn = pump, .context = vsock};
    device->config_bytes = sizeof(vsock->guest_cid);
    memcpy(device->config, &vsock->guest_cid, sizeof(vsock->guest_cid));
    r = vsock_conns_init(
        vsock, config->connections_max ? config->connections_max : VSOCK_CONNECTIONS_DEFAULT, err);
    if (r < 0 || (r = loop_timer_new(host->loop, on_timer, vsock, &vsock->timer, err)) < 0 ||
        (r = vsock_listen(vsock, config->path, err)) < 0)
        return r;
    *ret = TAKE_PTR(device);
    return 0;
}
