/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the socket device (virtio 1.2 5.10) among themselves. Private to virtio/:
 *   vsock.c       queues and packets
 *   vsock_conn.c  connections: state, credit, the host's socket
 *   vsock_host.c  the listening socket and the CONNECT line
 *
 * A connection:
 *
 *   host says CONNECT                    guest sends REQUEST
 *         | vsock_conn_new                     | vsock_conn_request
 *         v           RESPONSE                 v
 *     CONNECTING ----------------------> CONNECTED
 *         |  RST, time out, host gone          | RST, or SHUTDOWN of both directions
 *         v                                    v            host has read all, or is gone
 *       (free) <---------------------------- LINGER ---------------------------> (free)
 *
 * LINGER is out of the table: the guest is done with it, the rest of its data still goes to the
 * host. All on the loop's thread.
 */
#ifndef LODGE_VIRTIO_VSOCK_H
#define LODGE_VIRTIO_VSOCK_H

#include "virtio/device.h"

#include "base/util.h"

#include <sys/queue.h>
#include <sys/un.h>

#define VSOCK_RX 0 /* to the guest */
#define VSOCK_TX 1 /* from the guest */

#define VSOCK_HOST_CID     2
#define VSOCK_HEADER_BYTES 44u
#define VSOCK_PACKET_MAX   (64u << 10)

/* What we hold for a host program that reads slowly: the credit that a guest gets. */
#define VSOCK_BUFFER_BYTES (512u << 10)
/* The guest is told of freed space in steps of this. */
#define VSOCK_CREDIT_STEP (VSOCK_BUFFER_BYTES / 4)

#define VSOCK_CONNECTIONS_DEFAULT 1024u
#define VSOCK_CONNECTIONS_MAX     65536u
#define VSOCK_BUCKETS             512u
#define VSOCK_TIMEOUT_NS          (10 * UINT64_C(1000000000))

enum vsock_op {
    VSOCK_OP_REQUEST = 1,
    VSOCK_OP_RESPONSE = 2,
    VSOCK_OP_RST = 3,
    VSOCK_OP_SHUTDOWN = 4,
    VSOCK_OP_RW = 5,
    VSOCK_OP_CREDIT_UPDATE = 6,
    VSOCK_OP_CREDIT_REQUEST = 7,
};

#define VSOCK_TYPE_STREAM      1
#define VSOCK_SHUTDOWN_RECEIVE 1u
#define VSOCK_SHUTDOWN_SEND    2u
#define VSOCK_SHUTDOWN_BOTH    3u

/* 5.10.6 */
struct vsock_header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port;
    uint32_t length;
    uint16_t type, op;
    uint32_t flags;
    uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct vsock_header) == VSOCK_HEADER_BYTES, "packet header");

enum vsock_state {
    VSOCK_FREE,
    VSOCK_CONNECTING,
    VSOCK_CONNECTED,
    VSOCK_LINGER,
};

/* Packets that a connection owes the guest. */
#define VSOCK_OWES_REQUEST        (1u << 0)
#define VSOCK_OWES_RESPONSE       (1u << 1)
#define VSOCK_OWES_CREDIT_UPDATE  (1u << 2)
#define VSOCK_OWES_CREDIT_REQUEST (1u << 3)

struct vsock_conn {
    struct vsock *vsock;
    enum vsock_state state;
    LIST_ENTRY(vsock_conn) bucket; /* in the table, or in the free list */
    TAILQ_ENTRY(vsock_conn) ready;
    bool is_ready; /* in vsock.ready */
    uint32_t host_port, guest_port;
    uint64_t deadline_ns; /* CONNECTING */

    int fd; /* -1: the host is gone */
    struct loop_fd *watch;
    bool can_read;   /* the host's socket may have data or EOF */
    bool host_eof;   /* nothing more will come from the host */
    bool write_dead; /* the host takes nothing any more */
    bool request_sent;
    unsigned owes;
    uint32_t shutdown_owed, shutdown_sent; /* to the guest: VSOCK_SHUTDOWN_* */
    uint32_t guest_shutdown;

    /* Credit (5.10.6.3), counters modulo 2^32. */
    uint32_t peer_buf_alloc, peer_fwd_cnt, tx_cnt; /* towards the guest */
    uint32_t rx_cnt, fwd_cnt, fwd_cnt_told;        /* from the guest */

    uint8_t *buffer; /* ring of VSOCK_BUFFER_BYTES; made when first needed */
    uint32_t buffer_start, buffer_fill;
};

struct vsock_client;
LIST_HEAD(vsock_conn_list, vsock_conn);
TAILQ_HEAD(vsock_conn_queue, vsock_conn);
LIST_HEAD(vsock_client_list, vsock_client);

/* A RST that has no connection (any more). */
struct vsock_reset {
    uint32_t host_port, guest_port;
    uint16_t type;
};

#define VSOCK_BURST   16
#define VSOCK_IOV_MAX 128

struct vsock {
    struct virtio_device device;
    uint64_t guest_cid;
    struct sockaddr_un address; /* path of the listening socket */

    unsigned connections_max, nr_connections;
    struct vsock_conn *connections;
    struct vsock_conn_list free_connections;
    struct vsock_conn_list table[VSOCK_BUCKETS];
    struct vsock_conn_queue ready;
    struct loop_call pump_call;
    struct loop_timer *timer; /* once a second while something may time out */

    /* Ring of 2 * connections_max. A connection turns into at most one reset, and packets from the
     * guest are taken only while connections and resets are fewer than that: it never overflows. */
    struct vsock_reset *resets;
    unsigned nr_resets, first_reset;
    bool tx_paused;

    int listen_fd;
    struct loop_fd *listen_watch;
    bool accept_paused; /* out of descriptors; the timer tries again */
    unsigned nr_clients;
    struct vsock_client_list clients;
    uint32_t next_host_port;

    struct virtq_chain tx_chain;
    struct virtq_chain rx_chains[VSOCK_BURST];
    struct iovec iov[VSOCK_IOV_MAX];
};

/* vsock.c */
void vsock_schedule(struct vsock *vsock); /* there is something to send to the guest */
void vsock_arm_timer(struct vsock *vsock);

/* vsock_conn.c */
int vsock_conns_init(struct vsock *vsock, unsigned most, struct err *err);
void vsock_conns_done(struct vsock *vsock);
struct vsock_conn *vsock_conn_find(struct vsock *vsock, uint32_t host_port, uint32_t guest_port);
/* NULL when there is no room; else owns fd. */
struct vsock_conn *vsock_conn_new(struct vsock *vsock, int fd, uint32_t host_port,
                                  uint32_t guest_port, enum vsock_state state);
/* The guest connects. */
void vsock_conn_request(struct vsock *vsock, const struct vsock_header *header);
/* Ends it for the guest; what it sent still goes to the host. */
void vsock_conn_drop(struct vsock_conn *conn, bool send_reset);
void vsock_conn_drop_all(struct vsock *vsock); /* without resets */
void vsock_conn_expire(struct vsock *vsock, uint64_t now_ns, bool *ret_waiting);
void vsock_conn_responded(struct vsock_conn *conn);
void vsock_conn_guest_shutdown(struct vsock_conn *conn, uint32_t flags);
/* The payload of vsock.tx_chain. */
void vsock_conn_guest_data(struct vsock_conn *conn, uint32_t length);
void vsock_conn_read_ended(struct vsock_conn *conn, bool reset_by_peer);
uint32_t vsock_conn_credit(const struct vsock_conn *conn);
bool vsock_conn_has_output(const struct vsock_conn *conn);
void vsock_conn_wake(struct vsock_conn *conn); /* into the ready queue when it has output */
void vsock_add_reset(struct vsock *vsock, uint32_t host_port, uint32_t guest_port, uint16_t type);

/* vsock_host.c */
int vsock_listen(struct vsock *vsock, const char *path, struct err *err);
void vsock_listen_done(struct vsock *vsock);
void vsock_clients_expire(struct vsock *vsock, uint64_t now_ns, bool *ret_waiting);

#endif
