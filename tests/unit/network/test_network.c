/* SPDX-License-Identifier: Apache-2.0 */
/* Subnets and ports as text, DNS messages, state files, and the rules that come of them. */
#include "base/buf.h"
#include "base/sanitizer.h"
#include "base/util.h"
#include "network/internal.h"
#include "testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

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

static struct sockaddr_storage asker(const char *address)
{
    struct sockaddr_storage from = {0};
    struct sockaddr_in *v4 = (void *)&from;
    struct sockaddr_in6 *v6 = (void *)&from;

    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1)
        from.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1)
        from.ss_family = AF_INET6;
    return from;
}

START_TEST(names_of_other_networks)
{
    struct network_endpoint on_one[] = {
        {.id = "both", .address4 = 0x0a580002, .lock = "/l/both"},
        {.id = "near", .address4 = 0x0a580003, .lock = "/l/near"},
        {.id = "pair", .address4 = 0x0a580004, .owner = 7, .owner_started = 70},
        {.id = "old", .address4 = 0x0a580005, .owner = 7, .owner_started = 69}};
    struct network_endpoint on_two[] = {
        {.id = "both", .address4 = 0x0a590002, .lock = "/l/both"},
        {.id = "far", .address4 = 0x0a590003, .lock = "/l/far"},
        {.id = "near", .address4 = 0x0a590004, .lock = "/l/other"},
        {.id = "pair", .address4 = 0x0a590005, .owner = 7, .owner_started = 70}};
    struct network one = {.name = "one", .endpoints = on_one, .nr_endpoints = 4, .has6 = true};
    struct network two = {.name = "two", .endpoints = on_two, .nr_endpoints = 4};
    const struct {
        const char *from, *name;
        const struct network_endpoint *endpoint;
    } cases[] = {{"10.88.0.2", "near", &on_one[1]},  {"10.88.0.2", "FAR", &on_two[1]},
                 {"10.88.0.3", "far", NULL},         {"10.88.0.4", "far", &on_two[1]},
                 {"10.88.0.5", "far", NULL},         {"10.88.0.9", "far", NULL},
                 {"10.89.0.2", "far", NULL},         {"10.88.0.2", "none", NULL},
                 {"fd00::a58:2", "far", &on_two[1]}, {"fd00::a58:3", "far", NULL}};
    const struct network *on;

    inet_pton(AF_INET6, "fd00::", &one.prefix6);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sockaddr_storage from = asker(cases[i].from);

        if (from.ss_family == AF_INET6) {
            struct in6_addr six =
                network_address6(&one, &on_one[cases[i].from[strlen(cases[i].from) - 1] - '2']);

            memcpy(&((struct sockaddr_in6 *)(void *)&from)->sin6_addr, &six, sizeof(six));
        }
        ck_assert_msg(names_find(&one, &two, 1, &from, cases[i].name, &on) == cases[i].endpoint,
                      "%s asks for %s", cases[i].from, cases[i].name);
        if (cases[i].endpoint)
            ck_assert_ptr_eq(
                on, cases[i].endpoint >= on_two && cases[i].endpoint < on_two + 4 ? &two : &one);
    }
}
END_TEST

START_TEST(processes)
{
    ck_assert_uint_gt(process_started(getpid()), 0);
    ck_assert_uint_eq(process_started(getpid()), process_started(getpid()));
    ck_assert_uint_eq(process_started(0x3fffffff), 0);
}
END_TEST

/* In a child, since there is no way back. Which of these it can still do, one bit each. */
static unsigned possible_in_jail(bool resolv_conf)
{
    char *const nothing[] = {NULL};
    unsigned can = 0;
    pid_t child = fork();
    int status;

    if (child == 0) {
        if (user_jail_enter(resolv_conf, NULL) < 0)
            _exit(0xff);
        can |= socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 ? 1 : 0;
        can |= socket(AF_INET, SOCK_DGRAM, 0) >= 0 ? 2 : 0;
        can |= open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 ? 4 : 0;
        can |= open("/dev/null", O_WRONLY | O_CLOEXEC) >= 0 ? 8 : 0;
        can |= socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || socket(AF_INET, SOCK_RAW, 1) >= 0 ? 16 : 0;
        can |= kill(getppid(), 0) == 0 || fork() > 0 ? 32 : 0;
        can |= mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                       MAP_FAILED
                   ? 64
                   : 0;
        execve("/bin/true", nothing, nothing);
        _exit((int)can);
    }
    ck_assert_int_gt(child, 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status), "%x", (unsigned)status);
    return (unsigned)WEXITSTATUS(status);
}

START_TEST(jail_of_the_user_mode_network)
{
    if (SANITIZER_ADDRESS || SANITIZER_THREAD)
        return; /* no filter there */
    ck_assert_uint_eq(possible_in_jail(false), 1 | 2);
    ck_assert_uint_eq(possible_in_jail(true), 1 | 2 | 4);
}
END_TEST

TEST_MAIN("network", tcase_add_test(tcase, subnets); tcase_add_test(tcase, ports);
          tcase_add_test(tcase, names); tcase_add_test(tcase, names_of_other_networks);
          tcase_add_test(tcase, dns_questions); tcase_add_test(tcase, state_files);
          tcase_add_test(tcase, processes); tcase_add_test(tcase, jail_of_the_user_mode_network);)
