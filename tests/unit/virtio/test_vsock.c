/* SPDX-License-Identifier: Apache-2.0 */
/* The socket device between a guest in test code and unix sockets. */
#include "base/clock.h"
#include "fake_driver.h"
#include "testing.h"
#include "virtio/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define GUEST_CID  3
#define RX_BUFFERS 48
#define RX_BYTES   (4096u + VSOCK_HEADER_BYTES)
#define RX_GPA     FAKE_DATA_GPA
#define TX_SLOTS   32u
#define TX_BYTES   (VSOCK_PACKET_MAX + 4096u)
#define TX_GPA     (FAKE_DATA_GPA + UINT64_C(0x100000))
#define BUF_ALLOC  (64u << 10)

struct packet {
    struct vsock_header header;
    uint8_t data[4096];
};

static struct fake fake;
static bool threaded; /* the loop runs on a thread of its own */
static char directory[64], path[96];
static unsigned rx_next, tx_sent, tx_done;

static struct virtio_device *new_vsock(unsigned connections_max)
{
    struct virtio_vsock_config config = {
        .guest_cid = GUEST_CID, .path = path, .connections_max = connections_max};
    struct virtio_device *device = NULL;
    struct err err = ERR_INIT;

    ck_assert_msg(virtio_vsock_new(&fake.host, &config, &device, &err) == 0, "%s", err.message);
    return device;
}

static void offer_rx(void)
{
    struct fake_segment segments[2] = {
        {RX_GPA + (rx_next % RX_BUFFERS) * 0x2000, 100, true},
        {RX_GPA + (rx_next % RX_BUFFERS) * 0x2000 + 100, RX_BYTES - 100, true}};
    /* Each buffer has two descriptors of its own, whatever order they come back in. */
    uint16_t at = (uint16_t)(2 * (rx_next % RX_BUFFERS));

    rx_next++;
    fake_desc(&fake, VSOCK_RX, at, segments[0].gpa, segments[0].length, FAKE_WRITE | FAKE_NEXT,
              (uint16_t)(at + 1));
    fake_desc(&fake, VSOCK_RX, (uint16_t)(at + 1), segments[1].gpa, segments[1].length, FAKE_WRITE,
              0);
    fake_offer(&fake, VSOCK_RX, at);
}

static void start_guest(unsigned rx_buffers)
{
    fake_negotiate(&fake, fake.device, UINT64_MAX);
    fake_queue_setup(&fake, VSOCK_RX, 128);
    fake_queue_setup(&fake, VSOCK_TX, 64);
    fake_queue_setup(&fake, 2, 16);
    fake_driver_ok(&fake);
    rx_next = tx_sent = tx_done = 0;
    for (unsigned i = 0; i < rx_buffers; i++)
        offer_rx();
    fake_notify(&fake, VSOCK_RX);
}

static void setup(void)
{
    fake_init(&fake);
    snprintf(directory, sizeof(directory), "/tmp/test_vsock.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/vsock", directory);
    fake.device = new_vsock(0);
    start_guest(RX_BUFFERS);
}

static void teardown(void)
{
    loop_thread_stop(fake.loop);
    fake_done(&fake);
    ck_assert_int_eq(access(path, F_OK), -1); /* the socket file is gone */
    rmdir(directory);
}

static void turn(int timeout_ms)
{
    if (!threaded)
        fake_run(&fake, timeout_ms);
    while (fake_used(&fake, VSOCK_TX, NULL, NULL))
        tx_done++;
    ck_assert_msg(!fake_failed(&fake), "%s", virtio_device_failure(fake.device));
}

/* The next packet for the guest, when there is one. Its buffer goes back. */
static bool take(struct packet *ret)
{
    uint32_t length;
    uint16_t head;

    if (!fake_used(&fake, VSOCK_RX, &head, &length))
        return false;
    ck_assert_uint_ge(length, VSOCK_HEADER_BYTES);
    memcpy(ret, fake_host(&fake, RX_GPA + head / 2u * 0x2000, RX_BYTES), length);
    ck_assert_uint_eq(ret->header.length, length - VSOCK_HEADER_BYTES);
    ck_assert_uint_eq(ret->header.src_cid, VSOCK_HOST_CID);
    ck_assert_uint_eq(ret->header.dst_cid, GUEST_CID);
    offer_rx();
    fake_notify(&fake, VSOCK_RX);
    return true;
}

static void expect(struct packet *ret, enum vsock_op op)
{
    uint64_t deadline = clock_monotonic_ns() + 5 * NS_PER_S;

    while (!take(ret)) {
        ck_assert_msg(clock_monotonic_ns() < deadline, "no packet, waited for op %d", op);
        turn(50);
    }
    ck_assert_int_eq(ret->header.op, op);
}

static void expect_nothing(void)
{
    struct packet packet;

    for (int i = 0; i < 5; i++)
        turn(2);
    if (take(&packet))
        ck_abort_msg("unexpected packet, op %d", packet.header.op);
}

static void send_header(struct vsock_header header, const void *data)
{
    gpa_t gpa = TX_GPA + (tx_sent % TX_SLOTS) * TX_BYTES;
    uint32_t length = data ? header.length : 0;
    struct fake_segment segments[2] = {{gpa, VSOCK_HEADER_BYTES, false},
                                       {gpa + 0x100, length, false}};

    while (tx_sent - tx_done >= TX_SLOTS)
        turn(50);
    memcpy(fake_host(&fake, gpa, VSOCK_HEADER_BYTES), &header, VSOCK_HEADER_BYTES);
    if (length)
        memcpy(fake_host(&fake, gpa + 0x100, length), data, length);
    fake_add(&fake, VSOCK_TX, segments, length ? 2 : 1);
    tx_sent++;
    fake_notify(&fake, VSOCK_TX);
}

static struct vsock_header header_of(enum vsock_op op, uint32_t guest_port, uint32_t host_port)
{
    return (struct vsock_header){
        .src_cid = GUEST_CID,
        .dst_cid = VSOCK_HOST_CID,
        .src_port = guest_port,
        .dst_port = host_port,
        .type = VSOCK_TYPE_STREAM,
        .op = (uint16_t)op,
        .buf_alloc = BUF_ALLOC,
    };
}

static int dial(const char *where)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", where);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* Reads exactly `length` bytes, turning the loop. */
static void read_all(int fd, void *data, size_t length)
{
    uint64_t deadline = clock_monotonic_ns() + 5 * NS_PER_S;

    for (size_t done = 0; done < length;) {
        ssize_t n = read(fd, (char *)data + done, length - done);

        ck_assert_msg(n > 0 || (n < 0 && errno == EAGAIN), "read: %zd", n);
        ck_assert(clock_monotonic_ns() < deadline);
        if (n > 0)
            done += (size_t)n;
        else
            turn(5);
    }
}

static void expect_eof(int fd)
{
    uint64_t deadline = clock_monotonic_ns() + 5 * NS_PER_S;
    char byte;
    ssize_t n;

    while ((n = read(fd, &byte, 1)) < 0 && errno == EAGAIN) {
        ck_assert(clock_monotonic_ns() < deadline);
        turn(5);
    }
    ck_assert_int_eq(n, 0);
}

static int say_connect(const char *line)
{
    int fd = dial(path);

    ck_assert_int_eq(write(fd, line, strlen(line)), (ssize_t)strlen(line));
    return fd;
}

/* A stream from the host to guest port 1234; *ret_port is the host's. */
static int connect_to_guest(uint32_t *ret_port)
{
    struct packet packet;
    char line[64] = "", want[64];
    int fd = say_connect("CONNECT 1234\n");

    expect(&packet, VSOCK_OP_REQUEST);
    ck_assert_uint_eq(packet.header.dst_port, 1234);
    ck_assert_uint_eq(packet.header.buf_alloc, VSOCK_BUFFER_BYTES);
    *ret_port = packet.header.src_port;
    send_header(header_of(VSOCK_OP_RESPONSE, 1234, *ret_port), NULL);
    read_all(fd, line, (size_t)snprintf(want, sizeof(want), "OK %u\n", *ret_port));
    ck_assert_str_eq(line, want);
    return fd;
}

static int listen_for_guest(unsigned port)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", path, port);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 64), 0);
    return fd;
}

static void unlisten(int fd, unsigned port)
{
    char name[128];

    snprintf(name, sizeof(name), "%s_%u", path, port);
    unlink(name);
    close(fd);
}

START_TEST(host_connects_and_talks)
{
    struct vsock_header header;
    struct packet packet;
    uint32_t port;
    char back[8] = "";
    int fd = connect_to_guest(&port);

    ck_assert_int_eq(write(fd, "hello", 5), 5);
    expect(&packet, VSOCK_OP_RW);
    ck_assert_uint_eq(packet.header.src_port, port);
    ck_assert_uint_eq(packet.header.length, 5);
    ck_assert_mem_eq(packet.data, "hello", 5);
    header = header_of(VSOCK_OP_RW, 1234, port);
    header.length = 3;
    send_header(header, "you");
    read_all(fd, back, 3);
    ck_assert_str_eq(back, "you");
    close(fd);
    do
        expect(&packet, VSOCK_OP_SHUTDOWN);
    while (packet.header.flags != VSOCK_SHUTDOWN_BOTH);
    send_header(header_of(VSOCK_OP_RST, 1234, port), NULL);
    expect_nothing();
    /* The connection is forgotten: a packet to it is answered with RST. */
    send_header(header_of(VSOCK_OP_CREDIT_REQUEST, 1234, port), NULL);
    expect(&packet, VSOCK_OP_RST);
}
END_TEST

START_TEST(guest_connects_to_the_host)
{
    struct packet packet;
    int listener = listen_for_guest(77), fd;

    send_header(header_of(VSOCK_OP_REQUEST, 5000, 78), NULL);
    expect(&packet, VSOCK_OP_RST);
    ck_assert_uint_eq(packet.header.src_port, 78);
    ck_assert_uint_eq(packet.header.dst_port, 5000);
    send_header(header_of(VSOCK_OP_REQUEST, 5000, 77), NULL);
    expect(&packet, VSOCK_OP_RESPONSE);
    fd = accept(listener, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    ck_assert_int_eq(write(fd, "x", 1), 1);
    expect(&packet, VSOCK_OP_RW);
    /* The guest closes: it gets RST, the host EOF. */
    {
        struct vsock_header header = header_of(VSOCK_OP_SHUTDOWN, 5000, 77);

        header.flags = VSOCK_SHUTDOWN_BOTH;
        send_header(header, NULL);
    }
    expect(&packet, VSOCK_OP_RST);
    expect_eof(fd);
    close(fd);
    unlisten(listener, 77);
}
END_TEST

START_TEST(half_close_keeps_the_other_half)
{
    struct vsock_header header;
    struct packet packet;
    uint32_t port;
    char back[4];
    int fd = connect_to_guest(&port);

    ck_assert_int_eq(write(fd, "end", 3), 3);
    shutdown(fd, SHUT_WR);
    expect(&packet, VSOCK_OP_RW);
    expect(&packet, VSOCK_OP_SHUTDOWN);
    ck_assert_uint_eq(packet.header.flags, VSOCK_SHUTDOWN_SEND);
    header = header_of(VSOCK_OP_RW, 1234, port);
    header.length = 4;
    send_header(header, "late");
    header = header_of(VSOCK_OP_SHUTDOWN, 1234, port);
    header.flags = VSOCK_SHUTDOWN_BOTH;
    send_header(header, NULL);
    read_all(fd, back, 4);
    expect_eof(fd);
    expect(&packet, VSOCK_OP_RST);
    close(fd);
}
END_TEST

START_TEST(guest_half_close_reaches_the_host)
{
    struct vsock_header header;
    struct packet packet;
    uint32_t port;
    int fd = connect_to_guest(&port);

    header = header_of(VSOCK_OP_SHUTDOWN, 1234, port);
    header.flags = VSOCK_SHUTDOWN_SEND;
    send_header(header, NULL);
    expect_eof(fd);
    ck_assert_int_eq(write(fd, "still", 5), 5);
    expect(&packet, VSOCK_OP_RW);
    ck_assert_uint_eq(packet.header.length, 5);
    /* Data after its own SHUTDOWN is a fault. */
    header = header_of(VSOCK_OP_RW, 1234, port);
    header.length = 1;
    send_header(header, "!");
    expect(&packet, VSOCK_OP_RST);
    close(fd);
}
END_TEST

/* The host program is told at once that the guest does not listen. */
START_TEST(refusal_closes_the_client)
{
    struct packet packet;
    int fd = say_connect("CONNECT 9\nearly data");

    expect(&packet, VSOCK_OP_REQUEST);
    send_header(header_of(VSOCK_OP_RST, 9, packet.header.src_port), NULL);
    turn(10);
    ck_assert_int_eq(recv(fd, &packet, 1, 0), -1); /* ECONNRESET: unread data is lost */
    close(fd);
}
END_TEST

START_TEST(connect_line_is_strict)
{
    static const char *const lines[] = {
        "CONNECT\n",
        "CONNECT 12x\n",
        "CONNECT -1\n",
        "CONNECT 4294967296\n",
        "connect 1\n",
        "GET / HTTP/1.0\n",
        "\n",
        "CONNECT \n",
        "CONNECT 1 2\n",
        "CONNECT 00000000000000000000000000000000000000001\n",
    };
    struct packet packet;
    int fd;

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        char byte;
        ssize_t n;

        fd = say_connect(lines[i]);
        while ((n = read(fd, &byte, 1)) < 0 && errno == EAGAIN)
            turn(10);
        ck_assert_msg(n <= 0, "%s", lines[i]);
        close(fd);
    }
    expect_nothing();
    /* In pieces it is fine, and data behind it is kept. */
    fd = say_connect("CONN");
    turn(10);
    ck_assert_int_eq(write(fd, "ECT 44", 6), 6);
    turn(10);
    ck_assert_int_eq(write(fd, "4\nabc", 5), 5);
    expect(&packet, VSOCK_OP_REQUEST);
    ck_assert_uint_eq(packet.header.dst_port, 444);
    send_header(header_of(VSOCK_OP_RESPONSE, 444, packet.header.src_port), NULL);
    expect(&packet, VSOCK_OP_RW);
    ck_assert_mem_eq(packet.data, "abc", 3);
    close(fd);
}
END_TEST

START_TEST(without_a_driver_clients_are_closed)
{
    int fd;

    fake_write(&fake, VIRTIO_MMIO_STATUS, 0);
    fd = say_connect("CONNECT 1\n");
    turn(10);
    turn(10);
    ck_assert_int_le((int)read(fd, &(char){0}, 1), 0);
    ck_assert_int_ne(errno, EAGAIN);
    close(fd);
}
END_TEST

START_TEST(credit_limits_what_the_guest_gets)
{
    static char data[3 * BUF_ALLOC];
    struct vsock_header header;
    struct packet packet;
    uint32_t port, got = 0;
    int fd = connect_to_guest(&port);

    ck_assert_int_gt((int)write(fd, data, sizeof(data)), (int)BUF_ALLOC + 1000);
    while (got < BUF_ALLOC) {
        expect(&packet, VSOCK_OP_RW);
        got += packet.header.length;
    }
    ck_assert_uint_eq(got, BUF_ALLOC);
    expect(&packet, VSOCK_OP_CREDIT_REQUEST);
    expect_nothing();
    header = header_of(VSOCK_OP_CREDIT_UPDATE, 1234, port);
    header.fwd_cnt = 1000;
    send_header(header, NULL);
    expect(&packet, VSOCK_OP_RW);
    ck_assert_uint_eq(packet.header.length, 1000);
    /* Counters that make no sense give no credit. */
    header.fwd_cnt = 5 * BUF_ALLOC;
    send_header(header, NULL);
    expect(&packet, VSOCK_OP_CREDIT_REQUEST);
    expect_nothing();
    close(fd);
}
END_TEST

START_TEST(guest_beyond_its_credit_is_reset)
{
    static char data[VSOCK_PACKET_MAX];
    struct packet packet = {0};
    struct vsock_header header;
    uint32_t port, sent = 0;
    bool reset = false;
    int fd = connect_to_guest(&port);

    while (!reset && sent < 4 * VSOCK_BUFFER_BYTES) {
        header = header_of(VSOCK_OP_RW, 1234, port);
        header.length = sizeof(data);
        send_header(header, data);
        sent += header.length;
        turn(1);
        while (take(&packet))
            reset |= packet.header.op == VSOCK_OP_RST;
    }
    ck_assert(reset);
    ck_assert_uint_gt(sent, VSOCK_BUFFER_BYTES);
    close(fd);
}
END_TEST

struct slow_reader {
    int fd;
    size_t got;
};

static void *read_slowly(void *context)
{
    struct slow_reader *reader = context;
    char data[8192];
    ssize_t n;

    fcntl(reader->fd, F_SETFL, 0);
    while ((n = read(reader->fd, data, sizeof(data))) > 0) {
        reader->got += (size_t)n;
        usleep(1000);
    }
    return NULL;
}

/* The end of the VM waits for a host program that goes on reading, and not for one that does not.
 */
START_TEST(the_end_waits_for_readers)
{
    static uint8_t data[VSOCK_PACKET_MAX];
    struct slow_reader reader = {0};
    uint64_t begin;
    uint32_t port;
    pthread_t thread;

    reader.fd = connect_to_guest(&port);
    for (size_t at = 0; at < VSOCK_BUFFER_BYTES; at += sizeof(data)) {
        struct vsock_header header = header_of(VSOCK_OP_RW, 1234, port);

        header.length = sizeof(data);
        send_header(header, data);
    }
    turn(10);
    turn(10);
    if (_i == 0)
        ck_assert_int_eq(pthread_create(&thread, NULL, read_slowly, &reader), 0);
    begin = clock_monotonic_ns();
    virtio_device_free(fake.device);
    fake.device = NULL;
    ck_assert(clock_monotonic_ns() - begin < 10 * NS_PER_S);
    if (_i == 0) {
        pthread_join(thread, NULL);
        ck_assert_uint_eq(reader.got, VSOCK_BUFFER_BYTES);
    }
    close(reader.fd);
}
END_TEST

/* What the guest sent before it closed still reaches a slow reader. */
START_TEST(buffered_data_outlives_the_guest_side)
{
    static uint8_t data[VSOCK_BUFFER_BYTES], back[VSOCK_BUFFER_BYTES];
    struct vsock_header header;
    struct packet packet;
    uint32_t port;
    int fd = connect_to_guest(&port);

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + (i >> 9));
    for (size_t at = 0; at < sizeof(data); at += VSOCK_PACKET_MAX) {
        header = header_of(VSOCK_OP_RW, 1234, port);
        header.length = VSOCK_PACKET_MAX;
        send_header(header, data + at);
    }
    if (_i == 0) {
        header = header_of(VSOCK_OP_SHUTDOWN, 1234, port);
        header.flags = VSOCK_SHUTDOWN_BOTH;
        send_header(header, NULL);
        expect(&packet, VSOCK_OP_RST);
    } else {
        turn(10);
        fake_write(&fake, VIRTIO_MMIO_STATUS, 0); /* the guest restarts */
    }
    read_all(fd, back, sizeof(back));
    ck_assert_mem_eq(data, back, sizeof(back));
    expect_eof(fd);
    close(fd);
}
END_TEST

START_TEST(odd_packets)
{
    struct vsock_header header;
    struct packet packet;
    uint32_t port;
    int fd = connect_to_guest(&port);

    header = header_of(VSOCK_OP_RW, 1, 1);
    header.src_cid = 9;
    send_header(header, NULL); /* not ours to answer */
    header = header_of(VSOCK_OP_RW, 1, 1);
    header.dst_cid = 4;
    send_header(header, NULL);
    send_header(header_of(VSOCK_OP_RST, 1, 1), NULL);
    expect_nothing();
    header = header_of(VSOCK_OP_REQUEST, 1, 1);
    header.type = 2;
    send_header(header, NULL);
    expect(&packet, VSOCK_OP_RST);
    ck_assert_uint_eq(packet.header.type, 2);
    header = header_of(VSOCK_OP_RW, 1234, port); /* says more than it carries */
    header.length = 100;
    send_header(header, NULL);
    expect(&packet, VSOCK_OP_RST);
    expect_eof(fd);
    send_header(header_of((enum vsock_op)99, 1, 1), NULL);
    expect(&packet, VSOCK_OP_RST);
    close(fd);
}
END_TEST

/* A guest that sends garbage and gives no receive buffers: sending stops, nothing grows; buffers
 * bring all the answers. */
START_TEST(resets_are_bounded)
{
    struct packet packet;
    unsigned got = 0, sent = 0;

    virtio_device_free(fake.device);
    fake.device = new_vsock(4);
    start_guest(0);
    while (tx_sent - tx_done < TX_SLOTS && sent < 200) {
        send_header(header_of(VSOCK_OP_RW, 1000 + sent++, 1), NULL);
        turn(0);
    }
    ck_assert_uint_eq(tx_done, 8);
    for (unsigned i = 0; i < RX_BUFFERS; i++)
        offer_rx();
    fake_notify(&fake, VSOCK_RX);
    for (got = 0; got < sent; got++) {
        expect(&packet, VSOCK_OP_RST);
        ck_assert_uint_eq(packet.header.dst_port, 1000 + got);
    }
}
END_TEST

START_TEST(connections_are_bounded)
{
    struct packet packet;
    int listener = listen_for_guest(77);

    virtio_device_free(fake.device);
    fake.device = new_vsock(4);
    start_guest(RX_BUFFERS);
    for (unsigned i = 0; i < 8; i++) {
        send_header(header_of(VSOCK_OP_REQUEST, 5000 + i, 77), NULL);
        expect(&packet, i < 4 ? VSOCK_OP_RESPONSE : VSOCK_OP_RST);
    }
    send_header(header_of(VSOCK_OP_RST, 5000, 77), NULL);
    send_header(header_of(VSOCK_OP_REQUEST, 5009, 77), NULL);
    expect(&packet, VSOCK_OP_RESPONSE);
    unlisten(listener, 77);
}
END_TEST

START_TEST(stale_socket_is_replaced)
{
    struct virtio_vsock_config config = {.guest_cid = GUEST_CID, .path = path};
    struct virtio_device *second = NULL;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct err err = ERR_INIT;
    struct stat st;
    int fd;

    ck_assert_int_eq(virtio_vsock_new(&fake.host, &config, &second, &err), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(err.message, path));
    ck_assert(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
    virtio_device_free(fake.device);
    fake.device = NULL;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    ck_assert_int_eq(access(path, F_OK), 0);
    fake.device = new_vsock(0);
}
END_TEST

/* Many streams at once through an echoing guest, with credit in both directions. */
#define STREAMS      60
#define STREAM_BYTES (1u << 20)

struct stream {
    int fd;
    uint32_t port; /* guest port; the host's is 77 */
    uint32_t written, read;
    /* the guest's side */
    uint8_t fifo[BUF_ALLOC];
    uint32_t received, echoed; /* counters; fifo holds [echoed, received) */
    uint32_t peer_buf_alloc, peer_fwd_cnt;
    unsigned turns;
};

static uint8_t pattern(const struct stream *stream, uint32_t at)
{
    return (uint8_t)(at * 13 + (at >> 8) * 7 + (at >> 16) + stream->port * 31);
}

static void guest_receives(struct stream *streams, const struct packet *packet)
{
    struct stream *stream = &streams[packet->header.dst_port - 6000];

    stream->peer_buf_alloc = packet->header.buf_alloc;
    stream->peer_fwd_cnt = packet->header.fwd_cnt;
    ck_assert_int_ne(packet->header.op, VSOCK_OP_RST);
    if (packet->header.op != VSOCK_OP_RW)
        return;
    ck_assert_uint_le(stream->received - stream->echoed + packet->header.length, BUF_ALLOC);
    for (uint32_t i = 0; i < packet->header.length; i++)
        stream->fifo[stream->received++ % BUF_ALLOC] = packet->data[i];
}

static void guest_echoes(struct stream *stream)
{
    static uint8_t data[VSOCK_PACKET_MAX];
    struct vsock_header header = header_of(VSOCK_OP_RW, stream->port, 77);
    uint32_t credit = stream->peer_buf_alloc - (stream->echoed - stream->peer_fwd_cnt);
    uint32_t length = MIN(stream->received - stream->echoed, MIN(credit, VSOCK_PACKET_MAX));

    if (length == 0 || tx_sent - tx_done >= TX_SLOTS)
        return;
    for (uint32_t i = 0; i < length; i++)
        data[i] = stream->fifo[stream->echoed++ % BUF_ALLOC];
    header.length = length;
    header.fwd_cnt = stream->echoed;
    send_header(header, data);
}

static void host_moves(struct stream *stream)
{
    uint8_t data[5000];
    uint32_t want = MIN((uint32_t)sizeof(data), STREAM_BYTES - stream->written);
    unsigned wrong = 0;
    ssize_t n;

    for (uint32_t i = 0; i < want; i++)
        data[i] = pattern(stream, stream->written + i);
    n = want ? write(stream->fd, data, want) : 0;
    if (n > 0)
        stream->written += (uint32_t)n;
    /* A slow reader now and then, so that the device has to buffer. */
    if (stream->port % 3 == 0 && ++stream->turns % 4)
        return;
    n = read(stream->fd, data, sizeof(data));
    for (ssize_t i = 0; i < n; i++) /* an assertion each would take most of the time */
        wrong += data[i] != pattern(stream, stream->read++);
    ck_assert_uint_eq(wrong, 0);
}

START_TEST(many_streams_arrive_whole)
{
    struct stream *streams = calloc(STREAMS, sizeof(*streams));
    uint64_t deadline = clock_monotonic_ns() + 20 * NS_PER_S;
    int listener = listen_for_guest(77);
    unsigned ended = 0;
    struct packet packet;

    threaded = _i;
    if (threaded)
        ck_assert_int_eq(loop_thread_start(fake.loop, "io", NULL), 0);
    for (unsigned i = 0; i < STREAMS; i++) {
        streams[i].port = 6000 + i;
        send_header(header_of(VSOCK_OP_REQUEST, streams[i].port, 77), NULL);
        expect(&packet, VSOCK_OP_RESPONSE);
        guest_receives(streams, &packet);
        streams[i].fd = accept(listener, NULL, NULL);
        fcntl(streams[i].fd, F_SETFL, O_NONBLOCK);
    }
    while (ended < STREAMS) {
        ended = 0;
        turn(0);
        while (take(&packet))
            guest_receives(streams, &packet);
        for (unsigned i = 0; i < STREAMS; i++) {
            guest_echoes(&streams[i]);
            host_moves(&streams[i]);
            ended += streams[i].read == STREAM_BYTES;
        }
        ck_assert_msg(clock_monotonic_ns() < deadline, "%u of %u streams ended", ended, STREAMS);
    }
    for (unsigned i = 0; i < STREAMS; i++)
        close(streams[i].fd);
    free(streams);
    unlisten(listener, 77);
}
END_TEST

TEST_MAIN("vsock", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_test(tcase, host_connects_and_talks);
          tcase_add_test(tcase, guest_connects_to_the_host);
          tcase_add_test(tcase, half_close_keeps_the_other_half);
          tcase_add_test(tcase, guest_half_close_reaches_the_host);
          tcase_add_test(tcase, refusal_closes_the_client);
          tcase_add_test(tcase, connect_line_is_strict);
          tcase_add_test(tcase, without_a_driver_clients_are_closed);
          tcase_add_test(tcase, credit_limits_what_the_guest_gets);
          tcase_add_test(tcase, guest_beyond_its_credit_is_reset);
          tcase_add_loop_test(tcase, the_end_waits_for_readers, 0, 2);
          tcase_add_loop_test(tcase, buffered_data_outlives_the_guest_side, 0, 2);
          tcase_add_test(tcase, odd_packets); tcase_add_test(tcase, resets_are_bounded);
          tcase_add_test(tcase, connections_are_bounded);
          tcase_add_test(tcase, stale_socket_is_replaced);
          tcase_add_loop_test(tcase, many_streams_arrive_whole, 0, 2);)
