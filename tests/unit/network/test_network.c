/* SPDX-License-Identifier: Apache-2.0 */
/* Subnets and ports as text, DNS messages, state files, and the rules that come of them. */
#include "base/buf.h"
#include "base/util.h"
#include "network/internal.h"
#include "testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

START_TEST(subnets)
{
    static const char *const wrong[] = {
        "",           "10.0.0.0",      "10.0.0.1/24",  "10.0.0.0/30",
        "10.0.0.0/7", "127.0.0.0/24",  "224.0.0.0/24", "0.0.0.0/8",
        "10.0.0/24",  "10.0.0.0/24 x", "10.0.0.0/-1",  "a/24"};
    struct network_subnet4 subnet;
    struct err err = ERR_INIT;

    ck_assert_int_eq(network_subnet_parse("10.1.2.0/24", &subnet, &err), 0);
    ck_assert(subnet.address == 0x0a010200 && subnet.bits == 24);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_msg(network_subnet_parse(wrong[i], &subnet, &err) == -EINVAL, "%s", wrong[i]);
}
END_TEST

START_TEST(ports)
{
    static const char *const wrong[] = {"",        "80",       "80:",   ":80",
                                        "0:80",    "80:0",     "80:x",  "80:80/sctp",
                                        "x:80:80", "80:65536", "::1:80"};
    struct net_forward port;
    struct err err = ERR_INIT;

    ck_assert_int_eq(network_port_parse("8080:80", &port, &err), 0);
    ck_assert(!port.udp && !port.host_address && port.host_port == 8080 && port.guest_port == 80);
    ck_assert_int_eq(network_port_parse("127.0.0.1:53:5353/udp", &port, &err), 0);
    ck_assert(port.udp && port.host_address == INADDR_LOOPBACK && port.guest_port == 5353);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_msg(network_port_parse(wrong[i], &port, &err) < 0, "%s", wrong[i]);
}
END_TEST

START_TEST(names)
{
    static const char *const wrong[] = {"",     "none", "user",
                                        "host", "-a",   "a b",
                                        "a/b",  "../a", "an-altogether-too-long-name-for-this"};

    ck_assert(network_name_ok("a") && network_name_ok("web-1.test_x"));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_msg(!network_name_ok(wrong[i]), "%s", wrong[i]);
}
END_TEST

/* id 0x1234, recursion desired, one question */
#define QUERY "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"

START_TEST(dns_questions)
{
    static const char good[] = QUERY "\3Web\4test\0\0\1\0\1";
    static const struct {
        const char *bytes;
        size_t length;
    } wrong[] = {
        {QUERY, 11},
        {QUERY, 12},
        {QUERY "\3web", 16},
        {QUERY "\3web\0\0\1\0", 20},
        {QUERY "\xc0\x0c\0\1\0\1", 18},                              /* a pointer */
        {QUERY "\3w\0b\0\0\1\0\1", 21},                              /* NUL in a name */
        {"\x12\x34\x81\x00\x00\x01\0\0\0\0\0\0\3web\0\0\1\0\1", 21}, /* a reply */
        {"\x12\x34\x01\x00\x00\x02\0\0\0\0\0\0\3web\0\0\1\0\1", 21}, /* two questions */
        {"\x12\x34\x09\x00\x00\x01\0\0\0\0\0\0\3web\0\0\1\0\1", 21}, /* another opcode */
    };
    uint8_t reply[DNS_MESSAGE_MAX], name[400] = QUERY;
    struct dns_question question;
    uint32_t address = htonl(0x0a580002);
    size_t n;

    ck_assert_int_eq(dns_parse((const uint8_t *)good, sizeof(good) - 1, &question), 0);
    ck_assert_str_eq(question.name, "web.test");
    ck_assert(question.type == DNS_TYPE_A && question.class == DNS_CLASS_IN);
    n = dns_reply((const uint8_t *)good, &question, DNS_ADDRESS, &address, 4, reply);
    ck_assert_uint_eq(n, sizeof(good) - 1 + 16);
    ck_assert(!memcmp(reply, "\x12\x34\x85\x80\0\1\0\1\0\0\0\0", 12));
    ck_assert(!memcmp(reply + n - 16, "\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\x58\0\2", 16));
    n = dns_reply((const uint8_t *)good, &question, DNS_FAILURE, NULL, 0, reply);
    ck_assert(n == sizeof(good) - 1 && (reply[3] & 15) == 2);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_msg(dns_parse((const uint8_t *)wrong[i].bytes, wrong[i].length, &question) ==
                          -EBADMSG,
                      "%zu", i);
    /* Labels without end. */
    for (size_t i = 12; i + 2 < sizeof(name); i += 2) {
        name[i] = 1;
        name[i + 1] = 'a';
    }
    ck_assert_int_eq(dns_parse(name, sizeof(name), &question), -EBADMSG);
}
END_TEST

#define STATE(address, ports)                                                                \
    "{\"version\": 1, \"name\": \"a\", \"bridge\": \"lgb-1\", \"subnet4\": 173539328, "      \
    "\"bits4\": 24, \"prefix6\": \"fd00::\", \"ipv6\": true, \"internal\": false, \"mtu\": " \
    "1500, \"endpoints\": [{\"id\": \"web\", \"interface\": \"lgv-1\", \"tap\": false, "     \
    "\"mac\": \"02:6c:0a:58:00:02\", \"address4\": " address ", \"ports\": [" ports "], "    \
    "\"owner\": 0, \"owner_started\": 0}]}"

START_TEST(state_files)
{
    static const char good[] = STATE("173539330", "{\"udp\": false, \"host_address\": 0, "
                                                  "\"host_port\": 8080, \"guest_port\": 80}");
    static const char *const wrong[] = {
        "",
        "[]",
        "{}",
        STATE("1", ""),
        STATE("-1", ""),
        STATE("173539330", "{}"),
        STATE("173539330", "{\"udp\": false, \"host_address\": 0, \"host_port\": 0, "
                           "\"guest_port\": 80}"),
    };
    struct network network;
    struct err err = ERR_INIT;
    struct buf rules;

    ck_assert_msg(state_load_one(good, strlen(good), &network, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(network.nr_endpoints, 1);
    ck_assert_uint_eq(network.endpoints[0].ports[0].host_port, 8080);
    ck_assert_uint_eq(network_address6(&network, &network.endpoints[0]).s6_addr[15], 2);
    buf_init(&rules, 1 << 20);
    ck_assert_int_eq(network_rules(&network, 1, &rules), 0);
    ck_assert_ptr_nonnull(strstr(buf_string(&rules), "tcp dport 8080 dnat ip to 10.88.0.2:80"));
    ck_assert_ptr_nonnull(strstr(buf_string(&rules), "arp saddr ip != { 0.0.0.0, 10.88.0.2 }"));
    /* Without networks, the rules are that there are none. */
    rules.length = 0;
    ck_assert_int_eq(network_rules(NULL, 0, &rules), 0);
    ck_assert_ptr_null(strstr(buf_string(&rules), "{"));
    buf_done(&rules);
    network_done(&network);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_msg(state_load_one(wrong[i], strlen(wrong[i]), &network, &err) < 0, "%zu", i);
}
END_TEST

START_TEST(processes)
{
    ck_assert_uint_gt(process_started(getpid()), 0);
    ck_assert_uint_eq(process_started(getpid()), process_started(getpid()));
    ck_assert_uint_eq(process_started(0x3fffffff), 0);
}
END_TEST

TEST_MAIN("network", tcase_add_test(tcase, subnets); tcase_add_test(tcase, ports);
          tcase_add_test(tcase, names); tcase_add_test(tcase, dns_questions);
          tcase_add_test(tcase, state_files); tcase_add_test(tcase, processes);)
