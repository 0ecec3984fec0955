/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the socket device. Flow control, both ways by counters modulo 2^32 (virtio 1.2
 * 5.10.6.3):
 *  - to the guest we send no more than peer_buf_alloc - (tx_cnt - peer_fwd_cnt) bytes; the rest
 *    stays in the host's socket, whose writer then blocks;
 *  - from the guest we take at most VSOCK_BUFFER_BYTES that the host's socket has not taken; a
 * guest that sends more is reset.
 *
 * The host's socket is watched edge-triggered: can_read says what epoll said last, until EAGAIN.
 */
#include "virtio/vsock.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define VSOCK_FAREWELL_MS 1000
#define FIRST_EVENTS      (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

static struct vsock_conn_list *bucket_of(struct vsock *vsock, uint32_t host_port,
                                         uint32_t guest_port)
{
    uint32_t hash = (host_port * 0x9e3779b1u) ^ (guest_port * 0x85ebca6bu);

    return &vsock->table[(hash >> 16) % VSOCK_BUCKETS];
}

int vsock_conns_init(struct vsock *vsock, unsigned most, struct err *err)
{
    TAILQ_INIT(&vsock->ready);
    vsock->connections = calloc(most, sizeof(*vsock->connections));
    vsock->resets = calloc(2 * (size_t)most, sizeof(*vsock->resets));
    if (!vsock->connections || !vsock->resets)
        return err_set(err, -ENOMEM, "vsock: out of memory for %u connections", most);
    vsock->connections_max = most;
    for (unsigned i = most; i-- > 0;) {
        vsock->connections[i].vsock = vsock;
        vsock->connections[i].fd = -1;
        LIST_INSERT_HEAD(&vsock->free_connections, &vsock->connections[i], bucket);
    }
    return 0;
}

void vsock_add_reset(struct vsock *vsock, uint32_t host_port, uint32_t guest_port, uint16_t type)
{
    unsigned size = 2 * vsock->connections_max;

    if (!vsock->device.active || vsock->nr_resets == size)
        return;
    vsock->resets[(vsock->first_reset + vsock->nr_resets++) % size] = (struct vsock_reset){
        .host_port = host_port,
        .guest_port = guest_port,
        .type = type,
    };
    vsock_schedule(vsock);
}

struct vsock_conn *vsock_conn_find(struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
    struct vsock_conn *conn;

    LIST_FOREACH(conn, bucket_of(vsock, host_port, guest_port), bucket)
    if (conn->host_port == host_port && conn->guest_port == guest_port)
        return conn;
    return NULL;
}

uint32_t vsock_conn_credit(const struct vsock_conn *conn)
{
    uint32_t in_flight = conn->tx_cnt - conn->peer_fwd_cnt;

    return in_flight < conn->peer_buf_alloc ? conn->peer_buf_alloc - in_flight : 0;
}

bool vsock_conn_has_output(const struct vsock_conn *conn)
{
    if (conn->owes || (conn->shutdown_owed & ~conn->shutdown_sent))
        return true;
    return conn->state == VSOCK_CONNECTED && conn->can_read && !conn->host_eof &&
           vsock_conn_credit(conn);
}

void vsock_conn_wake(struct vsock_conn *conn)
{
    struct vsock *vsock = conn->vsock;

    if (conn->is_ready || (conn->state != VSOCK_CONNECTED && conn->state != VSOCK_CONNECTING) ||
        !vsock_conn_has_output(conn))
        return;
    conn->is_ready = true;
    TAILQ_INSERT_TAIL(&vsock->ready, conn, ready);
    vsock_schedule(vsock);
}

static void unready(struct vsock_conn *conn)
{
    if (conn->is_ready)
        TAILQ_REMOVE(&conn->vsock->ready, conn, ready);
    conn->is_ready = false;
}

static void close_host(struct vsock_conn *conn)
{
    loop_fd_remove(conn->watch);
    conn->watch = NULL;
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
}

/* To the free list. The connection is in no other list. */
static void release(struct vsock_conn *conn)
{
    struct vsock *vsock = conn->vsock;

    close_host(conn);
    free(conn->buffer);
    memset(conn, 0, sizeof(*conn));
    conn->vsock = vsock;
    conn->fd = -1;
    LIST_INSERT_HEAD(&vsock->free_connections, conn, bucket);
    vsock->nr_connections--;
    if (vsock->tx_paused)
        virtio_device_notified(&vsock->device, VSOCK_TX);
}

/* Space was freed: the guest hears of it in steps. */
static void forwarded(struct vsock_conn *conn, uint32_t bytes)
{
    conn->fwd_cnt += bytes;
    if (conn->fwd_cnt - conn->fwd_cnt_told >= VSOCK_CREDIT_STEP) {
        conn->owes |= VSOCK_OWES_CREDIT_UPDATE;
        vsock_conn_wake(conn);
    }
}

/* The host's program takes nothing any more: drop what waits for it and tell the guest. */
static void host_stopped_reading(struct vsock_conn *conn)
{
    uint32_t waiting = conn->buffer_fill;

    conn->write_dead = true;
    conn->buffer_fill = 0;
    conn->shutdown_owed |= VSOCK_SHUTDOWN_RECEIVE;
    forwarded(conn, waiting);
    vsock_conn_wake(conn);
}

/* Bytes written, 0 when the socket is full or dead. */
static uint32_t write_host(struct vsock_conn *conn, struct iovec *iov, unsigned nr)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = nr};
    ssize_t n;

    do
        n = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return (uint32_t)n;
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        host_stopped_reading(conn);
    return 0;
}

static void flush(struct vsock_conn *conn)
{
    while (conn->buffer_fill && !conn->write_dead) {
        uint32_t first = MIN(conn->buffer_fill, VSOCK_BUFFER_BYTES - conn->buffer_start);
        struct iovec iov[2] = {{conn->buffer + conn->buffer_start, first},
                               {conn->buffer, conn->buffer_fill - first}};
        uint32_t n = write_host(conn, iov, iov[1].iov_len ? 2 : 1);

        if (n == 0)
            break;
        conn->buffer_start = (conn->buffer_start + n) % VSOCK_BUFFER_BYTES;
        conn->buffer_fill -= n;
        forwarded(conn, n);
    }
    if (conn->buffer_fill)
        return;
    if (conn->state == VSOCK_LINGER)
        release(conn);
    else if ((conn->guest_shutdown & VSOCK_SHUTDOWN_SEND) && conn->fd >= 0)
        shutdown(conn->fd, SHUT_WR);
}

/*
 * The VM is over, yet host programs that read slowly are still owed data. Each gets it as long as
 * it takes some at least every VSOCK_FAREWELL_MS.
 */
static void farewell(struct vsock_conn *conn)
{
    struct pollfd wait = {.fd = conn->fd, .events = POLLOUT};

    while (conn->state == VSOCK_LINGER && poll(&wait, 1, VSOCK_FAREWELL_MS) > 0)
        flush(conn);
    if (conn->state == VSOCK_LINGER)
        release(conn);
}

void vsock_conns_done(struct vsock *vsock)
{
    for (unsigned i = 0; i < vsock->connections_max; i++)
        if (vsock->connections[i].state == VSOCK_LINGER)
            farewell(&vsock->connections[i]);
    free(vsock->connections);
    free(vsock->resets);
}

void vsock_conn_read_ended(struct vsock_conn *conn, bool reset_by_peer)
{
    conn->host_eof = true;
    conn->can_read = false;
    conn->shutdown_owed |= VSOCK_SHUTDOWN_SEND;
    if (reset_by_peer)
        host_stopped_reading(conn);
    vsock_conn_wake(conn);
}

static void on_host_event(void *context, uint32_t events)
{
    struct vsock_conn *conn = context;

    if (conn->state == VSOCK_CONNECTING) {
        if (events & (EPOLLHUP | EPOLLERR))
            vsock_conn_drop(conn, conn->request_sent);
        else
            conn->can_read = conn->can_read || (events & (EPOLLIN | EPOLLRDHUP));
        return;
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        conn->can_read = true;
    /* Both directions of the host's socket are over, yet what it sent before is still read. */
    if ((events & (EPOLLHUP | EPOLLERR)) && !conn->write_dead)
        host_stopped_reading(conn);
    if (conn->state == VSOCK_LINGER || (events & EPOLLOUT))
        flush(conn); /* may release it */
    if (conn->state == VSOCK_CONNECTED)
        vsock_conn_wake(conn);
}

struct vsock_conn *vsock_conn_new(struct vsock *vsock, int fd, uint32_t host_port,
                                  uint32_t guest_port, enum vsock_state state)
{
    struct vsock_conn *conn = LIST_FIRST(&vsock->free_connections);

    if (!conn || vsock->nr_connections + vsock->nr_resets >= 2 * vsock->connections_max)
        return NULL;
    if (loop_fd_add(vsock->device.loop, fd, FIRST_EVENTS, on_host_event, conn, &conn->watch, NULL) <
        0)
        return NULL;
    LIST_REMOVE(conn, bucket);
    conn->fd = fd;
    conn->host_port = host_port;
    conn->guest_port = guest_port;
    conn->state = state;
    vsock->nr_connections++;
    LIST_INSERT_HEAD(bucket_of(vsock, host_port, guest_port), conn, bucket);
    if (state == VSOCK_CONNECTING) {
        conn->owes = VSOCK_OWES_REQUEST;
        conn->deadline_ns = clock_monotonic_ns() + VSOCK_TIMEOUT_NS;
        vsock_arm_timer(vsock);
    } else {
        conn->owes = VSOCK_OWES_RESPONSE;
    }
    vsock_conn_wake(conn);
    return conn;
}

/* A connected, non-blocking socket to `path`_port, or -1. */
static int connect_host(const struct vsock *vsock, uint32_t port)
{
    CLEANUP(fd_closep) int fd = -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", vsock->address.sun_path,
                     port);

    if (n < 0 || (size_t)n >= sizeof(address.sun_path))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -1;
    return TAKE_FD(fd);
}

void vsock_conn_request(struct vsock *vsock, const struct vsock_header *header)
{
    CLEANUP(fd_closep) int fd = connect_host(vsock, header->dst_port);
    struct vsock_conn *conn = NULL;

    if (fd >= 0)
        conn = vsock_conn_new(vsock, fd, header->dst_port, header->src_port, VSOCK_CONNECTED);
    if (!conn) {
        vsock_add_reset(vsock, header->dst_port, header->src_port, VSOCK_TYPE_STREAM);
        return;
    }
    TAKE_FD(fd);
    conn->peer_buf_alloc = header->buf_alloc;
    conn->peer_fwd_cnt = header->fwd_cnt;
}

void vsock_conn_drop(struct vsock_conn *conn, bool send_reset)
{
    struct vsock *vsock = conn->vsock;
    uint32_t host_port = conn->host_port, guest_port = conn->guest_port;

    unready(conn);
    LIST_REMOVE(conn, bucket);
    conn->state = VSOCK_LINGER;
    conn->owes = 0;
    conn->shutdown_owed = conn->shutdown_sent = 0;
    if (conn->buffer_fill == 0)
        release(conn);
    if (send_reset)
        vsock_add_reset(vsock, host_port, guest_port, VSOCK_TYPE_STREAM);
}

void vsock_conn_drop_all(struct vsock *vsock)
{
    for (unsigned i = 0; i < vsock->connections_max; i++) {
        struct vsock_conn *conn = &vsock->connections[i];

        if (conn->state == VSOCK_CONNECTING || conn->state == VSOCK_CONNECTED)
            vsock_conn_drop(conn, false);
    }
}

void vsock_conn_expire(struct vsock *vsock, uint64_t now_ns, bool *ret_waiting)
{
    for (unsigned i = 0; i < vsock->connections_max; i++) {
        struct vsock_conn *conn = &vsock->connections[i];

        if (conn->state != VSOCK_CONNECTING)
            continue;
        if (now_ns >= conn->deadline_ns)
            vsock_conn_drop(conn, conn->request_sent);
        else
            *ret_waiting = true;
    }
}

void vsock_conn_responded(struct vsock_conn *conn)
{
    char line[32];
    int n = snprintf(line, sizeof(line), "OK %u\n", conn->host_port);
    struct iovec iov = {line, (size_t)n};

    if (conn->state != VSOCK_CONNECTING) {
        vsock_conn_drop(conn, true);
        return;
    }
    conn->state = VSOCK_CONNECTED;
    if (write_host(conn, &iov, 1) != (uint32_t)n) {
        vsock_conn_drop(conn, true);
        return;
    }
    vsock_conn_wake(conn);
}

void vsock_conn_guest_shutdown(struct vsock_conn *conn, uint32_t flags)
{
    conn->guest_shutdown |= flags & VSOCK_SHUTDOWN_BOTH;
    if (conn->guest_shutdown == VSOCK_SHUTDOWN_BOTH || conn->state == VSOCK_CONNECTING) {
        vsock_conn_drop(conn, true);
        return;
    }
    if (conn->guest_shutdown & VSOCK_SHUTDOWN_RECEIVE) {
        conn->host_eof = true;
        shutdown(conn->fd, SHUT_RD);
    }
    if ((conn->guest_shutdown & VSOCK_SHUTDOWN_SEND) && conn->buffer_fill == 0)
        shutdown(conn->fd, SHUT_WR);
}

/* Keeps `length` bytes of the payload from `offset` on. */
static bool keep(struct vsock_conn *conn, uint32_t offset, uint32_t length)
{
    const struct virtq_chain *chain = &conn->vsock->tx_chain;
    uint32_t at, first;

    if (!conn->buffer)
        conn->buffer = malloc(VSOCK_BUFFER_BYTES);
    if (!conn->buffer)
        return false;
    at = (conn->buffer_start + conn->buffer_fill) % VSOCK_BUFFER_BYTES;
    first = MIN(length, VSOCK_BUFFER_BYTES - at);
    virtq_chain_read(chain, VSOCK_HEADER_BYTES + offset, conn->buffer + at, first);
    virtq_chain_read(chain, VSOCK_HEADER_BYTES + offset + first, conn->buffer, length - first);
    conn->buffer_fill += length;
    return true;
}

void vsock_conn_guest_data(struct vsock_conn *conn, uint32_t length)
{
    struct iovec iov[VSOCK_IOV_MAX];
    uint32_t done = 0;

    /* Beyond its credit, or after it said that it would send no more. */
    if (conn->state != VSOCK_CONNECTED || (conn->guest_shutdown & VSOCK_SHUTDOWN_SEND) ||
        length > VSOCK_BUFFER_BYTES - conn->buffer_fill) {
        vsock_conn_drop(conn, true);
        return;
    }
    conn->rx_cnt += length;
    if (conn->write_dead) {
        forwarded(conn, length);
        return;
    }
    if (conn->buffer_fill == 0 && length) {
        unsigned nr = virtq_chain_slice(&conn->vsock->tx_chain, false, VSOCK_HEADER_BYTES, length,
                                        iov, VSOCK_IOV_MAX);

        done = write_host(conn, iov, nr);
        forwarded(conn, conn->write_dead ? length : done);
        if (conn->write_dead)
            return;
    }
    if (done < length && !keep(conn, done, length - done))
        vsock_conn_drop(conn, true);
}
