/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, forwards, checksums, name servers; the user-mode stack's answers to hand-made frames.
 */
#include "base/util.h"
#include "net/net_driver.h"
#include "net/resolver.h"
#include "testing.h"

#include <arpa/inet.h>
#include <string.h>

START_TEST(forwards)
{
    static const char *const wrong[] = {"",
                                        "tcp",
                                        "tcp:",
                                        "sctp::1-:2",
                                        "tcp::0-:2",
                                        "tcp::1-:65536",
                                        "tcp::1-2",
                                        "tcp:1.2.3:1-:2",
                                        "tcp::x-:2",
                                        "tcp::1-:2x",
                                        "tcp:127.0.0.1-:80",
                                        "tcp::-1-:2",
                                        "tcp:: 1-:2"};
    struct net_forward forward;
    struct err err = ERR_INIT;

    ck_assert_int_eq(net_forward_parse("tcp:127.0.0.1:8080-:80", &forward, &err), 0);
    ck_assert(!forward.udp && forward.host_address == INADDR_LOOPBACK);
    ck_assert(forward.host_port == 8080 && forward.guest_port == 80);
    ck_assert_int_eq(net_forward_parse("udp:0.0.0.0:53-:5353", &forward, &err), 0);
    ck_assert(forward.udp && forward.host_address == 0 && forward.guest_port == 5353);
    ck_assert_int_eq(net_forward_parse("tcp::65535-:1", &forward, &err), 0);
    ck_assert(forward.host_address == INADDR_LOOPBACK && forward.host_port == 65535);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_msg(net_forward_parse(wrong[i], &forward, &err) == -EINVAL, "%s", wrong[i]);
}
END_TEST

START_TEST(addresses)
{
    static const char *const wrong[] = {"",
                                        "02:00:00:00:00",
                                        "02:00:00:00:00:0g",
                                        "2:0:0:0:0:1",
                                        "01:00:00:00:00:01",
                                        "00:00:00:00:00:00",
                                        "02:00:00:00:00:01:02",
                                        "02-00-00-00-00-01"};
    uint8_t mac[NET_MAC_BYTES], other[NET_MAC_BYTES];
    struct err err = ERR_INIT;

    ck_assert_int_eq(net_mac_parse("02:aB:00:10:ff:01", mac, &err), 0);
    ck_assert_mem_eq(mac, "\x02\xab\x00\x10\xff\x01", 6);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_msg(net_mac_parse(wrong[i], mac, &err) == -EINVAL, "%s", wrong[i]);
    ck_assert_int_eq(net_mac_random(mac, &err), 0);
    ck_assert_int_eq(net_mac_random(other, &err), 0);
    ck_assert_uint_eq(mac[0] & 3, 2);
    ck_assert_mem_ne(mac, other, 6);
}
END_TEST

/* The sum as RFC 1071 writes it. */
static uint16_t plain_checksum(const uint8_t *data, size_t length)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < length; i++)
        sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

START_TEST(checksums)
{
    uint8_t frame[3000];

    for (size_t length = 40; length < sizeof(frame); length += 97) {
        struct net_header header = {
            .flags = NET_NEEDS_CSUM, .csum_start = (uint16_t)(length % 31), .csum_offset = 6};
        size_t at = (size_t)header.csum_start + 6;
        uint16_t expected;

        for (size_t i = 0; i < length; i++)
            frame[i] = (uint8_t)(i * 31 + length * 7 + (i % 3 ? 0xf0 : 0));
        expected = plain_checksum(frame + header.csum_start, length - header.csum_start);
        ck_assert(net_checksum_finish(&header, frame, length));
        ck_assert_uint_eq((unsigned)frame[at] << 8 | frame[at + 1], expected);
    }
    for (unsigned start = 0; start < 200; start += 9)
        for (unsigned offset = 0; offset < 200; offset += 7) {
            struct net_header header = {.csum_start = (uint16_t)start,
                                        .csum_offset = (uint16_t)offset};

            ck_assert(net_checksum_finish(&header, frame, 100) ==
                      (start < 100 && start + offset + 2 <= 100));
        }
}
END_TEST

START_TEST(name_servers)
{
    char text[256];

    net_resolv_conf_filter("# a comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n"
                           "nameserver ::1\noptions edns0\nsearch example.org\nsortlist x\n",
                           text, sizeof(text));
    ck_assert_str_eq(text, "nameserver 192.0.2.1\noptions edns0\nsearch example.org\n");
    net_resolv_conf_filter("nameserver 127.0.0.53\nsearch example.org\n", text, sizeof(text));
    ck_assert_str_eq(text, "");
    net_resolv_conf_filter("nameserver\t198.51.100.7 # main", text, sizeof(text));
    ck_assert_str_eq(text, "nameserver\t198.51.100.7 # main\n");
    net_resolv_conf_filter("nameserver 192.0.2.1\nnameserver 192.0.2.2\n", text, 30);
    ck_assert_str_eq(text, "nameserver 192.0.2.1\n");
}
END_TEST

struct catcher {
    uint8_t frame[2048];
    size_t length;
    unsigned nr, refuse, flushed;
};

static bool catch_frame(void *context, const struct net_header *header, const void *frame,
                        size_t length)
{
    struct catcher *catcher = context;

    (void)header;
    if (catcher->refuse) {
        catcher->refuse--;
        return false;
    }
    catcher->nr++;
    catcher->length = MIN(length, sizeof(catcher->frame));
    memcpy(catcher->frame, frame, catcher->length);
    return true;
}

static void catch_flush(void *context)
{
    ((struct catcher *)context)->flushed++;
}

static void catch_link(void *context, bool up)
{
    (void)context;
    (void)up;
}

static const uint8_t arp[42] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,  0, 0, 0,  0, 1, 8, 6, /* Ethernet */
    0,    1,    8,    0,    6,    4,    0,  1,                    /* request */
    2,    0,    0,    0,    0,    1,    10, 0, 2, 15,             /* from */
    0,    0,    0,    0,    0,    0,    10, 0, 2, 2};             /* who has the router's address */

START_TEST(user_stack_answers)
{
    struct err err = ERR_INIT;
    struct catcher catcher = {.refuse = 1};
    struct net_user_options options = {0};
    struct net_receiver receiver = {&catcher, catch_frame, catch_flush, catch_link};
    struct net_offload offload = {0};
    struct net_header header = {0};
    struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)(uintptr_t)arp, sizeof(arp)}};
    struct net_counters counters;
    struct loop *loop;
    struct net *net;
    int r;

    ck_assert_int_eq(loop_new(&loop, &err), 0);
    r = net_open_user(&options, loop, &net, &err);
    if (r == -ENOENT) { /* the library is not here: said, not crashed */
        ck_assert_ptr_nonnull(strstr(err.message, "libslirp"));
        loop_free(loop);
        return;
    }
    ck_assert_msg(r == 0, "%s", err.message);
    net_start(net, &receiver, &offload);
    ck_assert(net_send(net, iov, 2, sizeof(header) + sizeof(arp)));
    loop_run_once(loop, 0);
    ck_assert_uint_eq(catcher.nr, 0); /* held back: there was no room */
    net_resume(net);
    ck_assert_uint_eq(catcher.nr, 1);
    ck_assert_uint_ge(catcher.flushed, 1);
    ck_assert_uint_eq(catcher.frame[21], 2); /* a reply */
    ck_assert_mem_eq(catcher.frame + 28, "\x0a\x00\x02\x02", 4);
    header = (struct net_header){.flags = NET_NEEDS_CSUM, .csum_start = 60, .csum_offset = 60};
    ck_assert(!net_send(net, iov, 2, sizeof(header) + sizeof(arp)));
    net_get_counters(net, &counters);
    ck_assert_uint_eq(counters.sent_frames, 1);
    ck_assert_uint_eq(counters.received_frames, 1);
    ck_assert_uint_eq(counters.dropped, 1);
    net_stop(net);
    loop_run_once(loop, 0);
    net_free(net);
    loop_free(loop);
}
END_TEST

START_TEST(tap_errors)
{
    struct err err = ERR_INIT;
    struct loop *loop;
    struct net *net;

    ck_assert_int_eq(loop_new(&loop, &err), 0);
    ck_assert_int_lt(net_open_tap("", loop, &net, &err), 0);
    ck_assert_int_lt(net_open_tap("a-name-that-is-too-long", loop, &net, &err), 0);
    ck_assert_int_lt(net_open_tap("tap%d", loop, &net, &err), 0);
    ck_assert_int_lt(net_open_tap("lo", loop, &net, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "lo"));
    loop_free(loop);
}
END_TEST

TEST_MAIN("net", tcase_add_test(tcase, forwards); tcase_add_test(tcase, addresses);
          tcase_add_test(tcase, checksums); tcase_add_test(tcase, name_servers);
          tcase_add_test(tcase, user_stack_answers); tcase_add_test(tcase, tap_errors);)
