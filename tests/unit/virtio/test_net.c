/* SPDX-License-Identifier: Apache-2.0 */
/* The network device against a back end of the test's own, with drivers that keep the rules and
 * drivers that do not. */
#include "base/util.h"
#include "fake_driver.h"
#include "net/net_driver.h"
#include "testing.h"
#include "virtio/net_device.h"

#include <string.h>

#define HEADER sizeof(struct net_header)

struct wire {
    struct net net;
    struct net_offload offload;
    unsigned nr_sent, nr_started, nr_resumed;
    struct net_header header;
    size_t length;
    uint8_t frame[NET_FRAME_MAX];
};

static struct fake fake;
static struct wire *wire;
static const uint8_t own_mac[6] = {2, 0, 0, 0, 0, 7};

static void wire_start(struct net *net, const struct net_offload *offload)
{
    (void)net;
    wire->nr_started++;
    wire->offload = *offload;
}

static void wire_nothing(struct net *net)
{
    (void)net;
}

static void wire_resume(struct net *net)
{
    (void)net;
    wire->nr_resumed++;
}

static bool wire_send(struct net *net, const struct iovec *iov, unsigned nr, size_t bytes)
{
    uint8_t all[HEADER + NET_FRAME_MAX];
    size_t at = 0;

    (void)net;
    for (unsigned i = 0; i < nr; i++) {
        ck_assert(range_fits(at, iov[i].iov_len, sizeof(all)));
        memcpy(all + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    ck_assert_uint_eq(at, bytes);
    memcpy(&wire->header, all, HEADER);
    wire->length = at - HEADER;
    memcpy(wire->frame, all + HEADER, wire->length);
    wire->nr_sent++;
    return true;
}

static void wire_free(struct net *net)
{
    free(CONTAINER_OF(net, struct wire, net));
}

static const struct net_driver wire_driver = {
    .start = wire_start,
    .stop = wire_nothing,
    .resume = wire_resume,
    .send = wire_send,
    .free = wire_free,
};

static void make(bool any_source, uint16_t mtu)
{
    struct virtio_net_config config = {.any_source = any_source, .mtu = mtu};

    wire = calloc(1, sizeof(*wire));
    ck_assert_ptr_nonnull(wire);
    wire->net = (struct net){.driver = &wire_driver, .link = true};
    config.net = &wire->net;
    memcpy(config.mac, own_mac, 6);
    ck_assert_int_eq(virtio_net_new(&fake.host, &config, &fake.device, NULL), 0);
}

static void setup(void)
{
    fake_init(&fake);
    make(false, 0);
}

static void teardown(void)
{
    fake_done(&fake);
}

static void start(uint64_t features)
{
    fake_start(&fake, fake.device, features, 3);
}

static bool arrive(const void *frame, size_t length)
{
    struct net_header header = {.flags = NET_DATA_VALID};
    bool taken = wire->net.receiver.deliver(wire->net.receiver.context, &header, frame, length);

    wire->net.receiver.flush(wire->net.receiver.context);
    return taken;
}

/* A frame to `to` of the given length; bytes that can be told apart. */
static void fill_frame(uint8_t *frame, size_t length, const uint8_t *to)
{
    for (size_t i = 0; i < length; i++)
        frame[i] = (uint8_t)(i * 13 + i / 256);
    memcpy(frame, to, 6);
    memcpy(frame + 6, own_mac, 6);
    frame[12] = 8;
    frame[13] = 0;
}

/* Sends what stands at FAKE_DATA_GPA (header, frame) in `pieces`; returns whether it went out. */
static bool send_at(uint32_t bytes, uint32_t piece)
{
    struct fake_segment segments[32];
    unsigned before = wire->nr_sent, nr = 0;

    for (uint32_t at = 0; at < bytes; at += piece)
        segments[nr++] = (struct fake_segment){FAKE_DATA_GPA + at, MIN(piece, bytes - at), false};
    fake_add(&fake, NETDEV_TX, segments, nr);
    fake_notify(&fake, NETDEV_TX);
    fake_wait_used(&fake, NETDEV_TX, NULL);
    return wire->nr_sent > before;
}

START_TEST(frames_go_out_whole)
{
    uint8_t *data = fake_host(&fake, FAKE_DATA_GPA, HEADER + NET_FRAME_MAX);
    uint8_t copy[3000];
    static const uint32_t pieces[] = {9, 12, 13, 76, 100, 4000};

    start(UINT64_MAX);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        uint32_t length = pieces[i] * 20 > sizeof(copy) ? 1514 : pieces[i] * 20;

        memset(data, 0, HEADER);
        fill_frame(copy, length, (const uint8_t *)"\xff\xff\xff\xff\xff\xff");
        memcpy(data + HEADER, copy, length);
        ck_assert(send_at((uint32_t)HEADER + length, pieces[i]));
        ck_assert_uint_eq(wire->length, length);
        ck_assert_mem_eq(wire->frame, copy, length);
    }
}
END_TEST

START_TEST(sizes_are_bounded)
{
    start(UINT64_MAX);
    fill_frame((uint8_t *)fake_host(&fake, FAKE_DATA_GPA, 100) + HEADER, 60, own_mac);
    memset(fake_host(&fake, FAKE_DATA_GPA, HEADER), 0, HEADER);
    ck_assert(!send_at(1, 1));
    ck_assert(!send_at(HEADER, HEADER));
    ck_assert(!send_at(HEADER + 13, 100));
    ck_assert(send_at(HEADER + 14, 100));
    ck_assert(send_at(HEADER + NET_FRAME_MAX, 8192));
    ck_assert(!send_at(HEADER + NET_FRAME_MAX + 1, 8192));
    ck_assert(!fake_failed(&fake));
}
END_TEST

START_TEST(the_source_is_held)
{
    uint8_t *data = fake_host(&fake, FAKE_DATA_GPA, 200), *frame = data + HEADER;

    start(UINT64_MAX);
    memset(data, 0, HEADER);
    fill_frame(frame, 60, own_mac);
    frame[11] ^= 1;
    ck_assert(!send_at(HEADER + 60, 100));
    frame[11] ^= 1;
    ck_assert(send_at(HEADER + 60, 100));
    frame[13] = 6; /* ARP: the sender inside counts as well */
    memcpy(frame + 22, own_mac, 6);
    ck_assert(send_at(HEADER + 60, 100));
    frame[27] ^= 1;
    ck_assert(!send_at(HEADER + 60, 100));
    memcpy(frame + 22, own_mac, 6);
    ck_assert(!send_at(HEADER + 27, 100)); /* cut before its end */
    frame[12] = 0x81;                      /* the same behind a VLAN tag */
    frame[13] = 0;
    frame[16] = 8;
    frame[17] = 6;
    memcpy(frame + 26, own_mac, 6);
    ck_assert(send_at(HEADER + 60, 100));
    frame[31] ^= 1;
    ck_assert(!send_at(HEADER + 60, 100));
}
END_TEST

START_TEST(any_source_where_allowed)
{
    uint8_t *data = fake_host(&fake, FAKE_DATA_GPA, 200);

    virtio_device_free(fake.device);
    make(true, 1400);
    start(UINT64_MAX);
    memset(data, 0, HEADER);
    fill_frame(data + HEADER, 60, own_mac);
    data[HEADER + 11] ^= 1;
    ck_assert(send_at(HEADER + 60, 100));
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_CONFIG + 8) >> 16, 1400);
}
END_TEST

START_TEST(offloads_only_as_negotiated)
{
    struct net_header *header = fake_host(&fake, FAKE_DATA_GPA, HEADER);

    fill_frame((uint8_t *)header + HEADER, 60, own_mac);
    start(0);
    ck_assert(!wire->offload.csum && !wire->offload.tso4);
    *header = (struct net_header){.flags = NET_NEEDS_CSUM};
    ck_assert(!send_at(HEADER + 60, 100));
    start(VIRTIO_F(VIRTIO_NET_F_CSUM) | VIRTIO_F(VIRTIO_NET_F_GUEST_TSO4));
    ck_assert(!wire->offload.csum && !wire->offload.tso4); /* TSO4 without GUEST_CSUM */
    ck_assert(send_at(HEADER + 60, 100));
    header->gso_type = NET_GSO_TCPV4;
    ck_assert(!send_at(HEADER + 60, 100));
    start(UINT64_MAX);
    ck_assert(wire->offload.csum && wire->offload.tso4 && wire->offload.tso6);
    ck_assert(send_at(HEADER + 60, 100));
    header->gso_type = NET_GSO_TCPV6;
    ck_assert(send_at(HEADER + 60, 100));
    header->gso_type = 3; /* UFO is not offered */
    ck_assert(!send_at(HEADER + 60, 100));
    *header = (struct net_header){.flags = 0, .gso_type = NET_GSO_TCPV4};
    ck_assert(!send_at(HEADER + 60, 100));
}
END_TEST

static void give_buffers(unsigned nr, uint32_t bytes)
{
    for (unsigned i = 0; i < nr; i++) {
        struct fake_segment segment = {FAKE_DATA_GPA + (uint64_t)i * bytes, bytes, true};

        fake_add(&fake, NETDEV_RX, &segment, 1);
    }
    fake_notify(&fake, NETDEV_RX);
    fake_run(&fake, 0);
}

START_TEST(frames_are_merged_from_buffers)
{
    uint8_t frame[9000];
    uint32_t length, total = 0;
    struct net_header header;

    start(UINT64_MAX);
    give_buffers(16, 1000);
    fill_frame(frame, sizeof(frame), own_mac);
    ck_assert(arrive(frame, sizeof(frame)));
    memcpy(&header, fake_host(&fake, FAKE_DATA_GPA, HEADER), HEADER);
    ck_assert_uint_eq(header.num_buffers, 10);
    ck_assert_uint_eq(header.flags, NET_DATA_VALID);
    for (unsigned i = 0; i < 10; i++) {
        ck_assert(fake_used(&fake, NETDEV_RX, NULL, &length));
        total += length;
    }
    ck_assert(!fake_used(&fake, NETDEV_RX, NULL, NULL));
    ck_assert_uint_eq(total, HEADER + sizeof(frame));
    ck_assert_mem_eq(fake_host(&fake, FAKE_DATA_GPA + HEADER, sizeof(frame)), frame, sizeof(frame));
    /* Six are left: too few now, and nothing is visible of the attempt. */
    ck_assert(!arrive(frame, sizeof(frame)));
    ck_assert(!fake_used(&fake, NETDEV_RX, NULL, NULL));
    ck_assert_uint_eq(wire->nr_resumed, 0);
    /* The driver is asked to notify for the next one, not for those that are there already. */
    ck_assert_uint_eq(load_le16(fake_host(&fake, fake.queues[0].used + 4 + 8 * 64, 2)),
                      fake.queues[0].avail_idx);
    give_buffers(8, 1000);
    ck_assert_uint_eq(wire->nr_resumed, 1);
    ck_assert(arrive(frame, sizeof(frame)));
    ck_assert(fake_used(&fake, NETDEV_RX, NULL, &length));
    ck_assert_uint_eq(length, 1000);
}
END_TEST

START_TEST(one_buffer_a_frame_without_merging)
{
    uint8_t frame[2000];
    struct net_header header;
    uint32_t length;

    start(0);
    give_buffers(4, 1000);
    fill_frame(frame, sizeof(frame), own_mac);
    ck_assert(arrive(frame, sizeof(frame))); /* never fits: lost */
    ck_assert(!fake_used(&fake, NETDEV_RX, NULL, NULL));
    ck_assert(arrive(frame, 988));
    ck_assert(fake_used(&fake, NETDEV_RX, NULL, &length));
    ck_assert_uint_eq(length, 1000);
    memcpy(&header, fake_host(&fake, FAKE_DATA_GPA, HEADER), HEADER);
    ck_assert_uint_eq(header.num_buffers, 1);
    ck_assert_uint_eq(header.flags, 0); /* GUEST_CSUM was not negotiated */
}
END_TEST

START_TEST(tiny_buffers_do_not_hold_the_queue)
{
    uint8_t frame[9000];

    start(UINT64_MAX);
    fill_frame(frame, sizeof(frame), own_mac);
    for (unsigned i = 0; i < 64; i++)
        give_buffers(1, 20);
    ck_assert(arrive(frame, sizeof(frame))); /* the whole ring is too little: lost */
    ck_assert(!fake_failed(&fake));
    ck_assert(arrive(frame, 60));
}
END_TEST

START_TEST(a_buffer_without_room_fails_the_device)
{
    struct fake_segment segment = {FAKE_DATA_GPA, HEADER, true};
    uint8_t frame[60];

    start(UINT64_MAX);
    fill_frame(frame, sizeof(frame), own_mac);
    fake_add(&fake, NETDEV_RX, &segment, 1);
    ck_assert(arrive(frame, sizeof(frame)));
    ck_assert(fake_failed(&fake));
    start(UINT64_MAX);
    give_buffers(1, 200);
    ck_assert(arrive(frame, sizeof(frame)));
    ck_assert(fake_used(&fake, NETDEV_RX, NULL, NULL));
}
END_TEST

/* A control command; its answer, or -1 when the device failed. */
static int command(const void *data, uint32_t length)
{
    struct fake_segment segments[2] = {{FAKE_DATA_GPA + 0x10000, length, false},
                                       {FAKE_DATA_GPA + 0x20000, 1, true}};
    uint8_t *answer = fake_host(&fake, FAKE_DATA_GPA + 0x20000, 1);

    *answer = 0xee;
    memcpy(fake_host(&fake, FAKE_DATA_GPA + 0x10000, length), data, length);
    fake_add(&fake, NETDEV_CONTROL, segments, 2);
    fake_notify(&fake, NETDEV_CONTROL);
    fake_wait_used(&fake, NETDEV_CONTROL, NULL);
    return *answer;
}

static bool accepted(const uint8_t *to)
{
    uint8_t frame[60];

    fill_frame(frame, sizeof(frame), to);
    give_buffers(1, 200);
    ck_assert(arrive(frame, sizeof(frame)));
    if (fake_used(&fake, NETDEV_RX, NULL, NULL))
        return true;
    /* The buffer is still there: take it, so that the ring does not fill. */
    ck_assert(arrive(memcpy(frame, "\xff\xff\xff\xff\xff\xff", 6) ? frame : NULL, sizeof(frame)));
    ck_assert(fake_used(&fake, NETDEV_RX, NULL, NULL));
    return false;
}

START_TEST(receive_filter)
{
    static const uint8_t other[6] = {2, 0, 0, 0, 0, 8}, group[6] = {1, 0, 0x5e, 0, 0, 1};
    uint8_t tables[2 + 4 + 6 + 4 + 6] = {1, 0, 1, 0, 0, 0};

    start(UINT64_MAX);
    ck_assert(accepted(other));
    ck_assert_int_eq(command("\0\0\0", 3), 0); /* promiscuous off */
    ck_assert(!accepted(other) && !accepted(group) && accepted(own_mac));
    memcpy(tables + 6, other, 6);
    tables[12] = 1;
    memcpy(tables + 16, group, 6);
    ck_assert_int_eq(command(tables, sizeof(tables)), 0);
    ck_assert(accepted(other) && accepted(group));
    ck_assert_int_eq(command(tables, sizeof(tables) - 1), 1); /* cut: nothing changes */
    ck_assert(accepted(other) && accepted(group));
    memset(tables + 2, 0, 4);
    memset(tables + 6, 0, 4);
    ck_assert_int_eq(command(tables, 10), 0); /* both empty */
    ck_assert(!accepted(other) && !accepted(group));
    ck_assert_int_eq(command("\0\1\1", 3), 0); /* all multicast */
    ck_assert(accepted(group) && !accepted(other));
    ck_assert_int_eq(command("\0\3\1", 3), 0); /* no multicast */
    ck_assert(!accepted(group));
    ck_assert_int_eq(command("\0\4\1", 3), 0); /* no unicast */
    ck_assert(!accepted(own_mac));
}
END_TEST

START_TEST(control_commands_are_checked)
{
    uint8_t many[2 + 4 + 65 * 6 + 4] = {1, 0, 65};
    uint8_t huge[6] = {1, 0, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t mine[8] = {1, 1, 2, 0, 0, 0, 0, 7}, theirs[8] = {1, 1, 2, 0, 0, 0, 0, 9};

    start(UINT64_MAX);
    ck_assert_int_eq(command("\0", 1), 1);
    ck_assert_int_eq(command("\0\0", 2), 1);
    ck_assert_int_eq(command("\0\0\2", 3), 1);
    ck_assert_int_eq(command("\0\6\1", 3), 1);
    ck_assert_int_eq(command("\4\0\1\0", 4), 1); /* queue pairs: not offered */
    ck_assert_int_eq(command(huge, sizeof(huge)), 1);
    ck_assert_int_eq(command(many, sizeof(many)), 0); /* too long a table: all of its kind */
    ck_assert_int_eq(command("\0\0\0", 3), 0);
    ck_assert(accepted((const uint8_t *)"\2\0\0\0\0\x55"));
    ck_assert_int_eq(command(mine, sizeof(mine)), 0);
    ck_assert_int_eq(command(theirs, sizeof(theirs)), 1);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_CONFIG + 4) & 0xff00, 0x0700);
    ck_assert(!fake_failed(&fake));
}
END_TEST

START_TEST(an_answer_needs_room)
{
    struct fake_segment segment = {FAKE_DATA_GPA, 3, false};

    start(UINT64_MAX);
    fake_add(&fake, NETDEV_CONTROL, &segment, 1);
    fake_notify(&fake, NETDEV_CONTROL);
    fake_run(&fake, 0);
    ck_assert(fake_failed(&fake));
}
END_TEST

START_TEST(the_link_is_announced)
{
    start(UINT64_MAX);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_CONFIG + 4) >> 16, 1);
    wire->net.link = false;
    wire->net.receiver.link(wire->net.receiver.context, false);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_CONFIG + 4) >> 16, 0);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INTERRUPT_CONFIG);
    memset(fake_host(&fake, FAKE_DATA_GPA, HEADER), 0, HEADER);
    fill_frame((uint8_t *)fake_host(&fake, FAKE_DATA_GPA, 100) + HEADER, 60, own_mac);
    ck_assert(!send_at(HEADER + 60, 100)); /* returned all the same */
}
END_TEST

START_TEST(a_reset_forgets_all)
{
    start(UINT64_MAX);
    ck_assert_int_eq(command("\0\0\0", 3), 0);
    start(UINT64_MAX);
    ck_assert_uint_eq(wire->nr_started, 2);
    ck_assert(accepted((const uint8_t *)"\2\0\0\0\0\x55"));
}
END_TEST

TEST_MAIN("virtio_net", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_test(tcase, frames_go_out_whole); tcase_add_test(tcase, sizes_are_bounded);
          tcase_add_test(tcase, the_source_is_held);
          tcase_add_test(tcase, any_source_where_allowed);
          tcase_add_test(tcase, offloads_only_as_negotiated);
          tcase_add_test(tcase, frames_are_merged_from_buffers);
          tcase_add_test(tcase, one_buffer_a_frame_without_merging);
          tcase_add_test(tcase, tiny_buffers_do_not_hold_the_queue);
          tcase_add_test(tcase, a_buffer_without_room_fails_the_device);
          tcase_add_test(tcase, receive_filter);
          tcase_add_test(tcase, control_commands_are_checked);
          tcase_add_test(tcase, an_answer_needs_room); tcase_add_test(tcase, the_link_is_announced);
          tcase_add_test(tcase, a_reset_forgets_all);)
