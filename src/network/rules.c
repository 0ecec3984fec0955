/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of all networks as one text, which nft takes as one transaction. In `inet lodge`:
 * translation of what leaves, published ports, and no way from one network to another. In `bridge
 * lodge`: what a port may send, by its hardware address and its IP addresses.
 */
#include "network/internal.h"

#include "base/buf.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RULES_MAX (16u << 20)

struct text4 {
    char text[INET_ADDRSTRLEN];
};

static struct text4 text_of(uint32_t address)
{
    struct in_addr in = {htonl(address)};
    struct text4 ret;

    inet_ntop(AF_INET, &in, ret.text, sizeof(ret.text));
    return ret;
}

/* The link-local address that a guest makes of its hardware address (EUI-64). */
static struct in6_addr link_local(const uint8_t mac[NET_MAC_BYTES])
{
    struct in6_addr ret = {.s6_addr = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2],
                                       0xff, 0xfe, mac[3], mac[4], mac[5]}};

    return ret;
}

/* One published port: as IPv4, as IPv6, or (without an address) as both. */
static int port_rule(const struct network *network, const struct network_endpoint *e,
                     const struct net_forward *port, struct buf *to)
{
    const char *protocol = port->udp ? "udp" : "tcp";
    struct in6_addr guest6 = network_address6(network, e);
    char text[INET6_ADDRSTRLEN], host[INET6_ADDRSTRLEN];
    int r = 0;

    if (!port->host_is6) {
        r = port->host_address
                ? buf_printf(to, "    ip daddr %s", text_of(port->host_address).text)
                : buf_append_string(to, "    meta nfproto ipv4 fib daddr type local");
        if (r == 0)
            r = buf_printf(to, " %s dport %u dnat ip to %s:%u\n", protocol, port->host_port,
                           text_of(e->address4).text, port->guest_port);
    }
    if (r < 0 || !network->has6 || (!port->host_is6 && port->host_address))
        return r;
    inet_ntop(AF_INET6, &guest6, text, sizeof(text));
    inet_ntop(AF_INET6, &port->host_address6, host, sizeof(host));
    r = port->host_is6 ? buf_printf(to, "    ip6 daddr %s", host)
                       : buf_append_string(to, "    meta nfproto ipv6 fib daddr type local");
    return r < 0 ? r
                 : buf_printf(to, " %s dport %u dnat ip6 to [%s]:%u\n", protocol, port->host_port,
                              text, port->guest_port);
}

static int port_rules(const struct network *networks, unsigned nr, bool output, struct buf *to)
{
    int r = buf_printf(to, "  chain %s {\n    type nat hook %s priority %d\n",
                       output ? "published_here" : "published", output ? "output" : "prerouting",
                       -100);

    for (unsigned i = 0; r == 0 && i < nr; i++)
        for (unsigned j = 0; r == 0 && j < networks[i].nr_endpoints; j++) {
            const struct network_endpoint *e = &networks[i].endpoints[j];

            for (unsigned k = 0; r == 0 && k < e->nr_ports; k++)
                r = port_rule(&networks[i], e, &e->ports[k], to);
        }
    return r < 0 ? r : buf_append_string(to, "  }\n");
}

static int leaving_rules(const struct network *networks, unsigned nr, struct buf *to)
{
    int r = buf_append_string(to, "  chain leaving {\n    type nat hook postrouting priority "
                                  "100\n");

    for (unsigned i = 0; r == 0 && i < nr; i++) {
        const struct network *n = &networks[i];
        char prefix[INET6_ADDRSTRLEN];

        if (n->internal)
            continue;
        inet_ntop(AF_INET6, &n->prefix6, prefix, sizeof(prefix));
        r = buf_printf(to,
                       "    ip saddr %s/%u oifname != \"%s\" masquerade\n"
                       "    ip saddr 127.0.0.0/8 oifname \"%s\" masquerade\n"
                       /* a guest that reaches itself by a published port of the host */
                       "    ip saddr %s/%u oifname \"%s\" ct status dnat masquerade\n",
                       text_of(n->subnet4.address).text, n->subnet4.bits, n->bridge, n->bridge,
                       text_of(n->subnet4.address).text, n->subnet4.bits, n->bridge);
        if (r == 0 && n->has6)
            r = buf_printf(to,
                           "    ip6 saddr %s/64 oifname != \"%s\" masquerade\n"
                           "    ip6 saddr ::1 oifname \"%s\" masquerade\n"
                           "    ip6 saddr %s/64 oifname \"%s\" ct status dnat masquerade\n",
                           prefix, n->bridge, n->bridge, prefix, n->bridge);
    }
    return r < 0 ? r : buf_append_string(to, "  }\n");
}

static int filter_rules(const struct network *networks, unsigned nr, struct buf *to)
{
    int r = buf_append_string(to, "  chain early {\n    type filter hook prerouting priority "
                                  "-300\n");

    for (unsigned i = 0; r == 0 && i < nr; i++)
        r = buf_printf(to, "    iifname \"%s\" ip daddr 127.0.0.0/8 drop\n", networks[i].bridge);
    if (r == 0)
        r = buf_append_string(to, "  }\n  chain between {\n    type filter hook forward priority "
                                  "0\n");
    for (unsigned i = 0; r == 0 && i < nr; i++) {
        const char *bridge = networks[i].bridge;

        /* Published ports of another network are reached as from anywhere. */
        r = buf_printf(to,
                       "    iifname \"%s\" oifname \"lgb-*\" oifname != \"%s\" ct status dnat "
                       "accept\n    iifname \"%s\" oifname \"lgb-*\" oifname != \"%s\" ct state "
                       "new drop\n",
                       bridge, bridge, bridge, bridge);
        if (r == 0 && networks[i].internal)
            r = buf_printf(to,
                           "    iifname \"%s\" oifname != \"%s\" drop\n"
                           "    oifname \"%s\" iifname != \"%s\" drop\n",
                           bridge, bridge, bridge, bridge);
    }
    return r < 0 ? r : buf_append_string(to, "  }\n");
}

static int port_guard(const struct network *network, const struct network_endpoint *e,
                      struct buf *to)
{
    struct in6_addr address6 = network_address6(network, e), local = link_local(e->mac);
    char text6[INET6_ADDRSTRLEN], text_local[INET6_ADDRSTRLEN];
    const char *name = e->interface;

    inet_ntop(AF_INET6, &address6, text6, sizeof(text6));
    inet_ntop(AF_INET6, &local, text_local, sizeof(text_local));
    return buf_printf(to,
                      "    iifname \"%s\" ether saddr != %02x:%02x:%02x:%02x:%02x:%02x drop\n"
                      "    iifname \"%s\" arp saddr ip != { 0.0.0.0, %s } drop\n"
                      "    iifname \"%s\" arp saddr ether != %02x:%02x:%02x:%02x:%02x:%02x drop\n"
                      "    iifname \"%s\" ip saddr != { 0.0.0.0, %s } drop\n"
                      "    iifname \"%s\" ip6 saddr != { ::, %s, %s } drop\n"
                      /* nobody but the gateway says where the way out is */
                      "    iifname \"%s\" icmpv6 type { nd-router-advert, nd-redirect } drop\n"
                      "    iifname \"%s\" udp sport 67 drop\n"
                      "    iifname \"%s\" ether type != { ip, ip6, arp } drop\n",
                      name, e->mac[0], e->mac[1], e->mac[2], e->mac[3], e->mac[4], e->mac[5], name,
                      text_of(e->address4).text, name, e->mac[0], e->mac[1], e->mac[2], e->mac[3],
                      e->mac[4], e->mac[5], name, text_of(e->address4).text, name, text6,
                      text_local, name, name, name);
}

static int guard_rules(const struct network *networks, unsigned nr, struct buf *to)
{
    int r = buf_append_string(to, "table bridge lodge {\n  chain ports {\n    type filter hook "
                                  "prerouting priority -300\n");

    for (unsigned i = 0; r == 0 && i < nr; i++)
        for (unsigned j = 0; r == 0 && j < networks[i].nr_endpoints; j++)
            r = port_guard(&networks[i], &networks[i].endpoints[j], to);
    return r < 0 ? r : buf_append_string(to, "  }\n}\n");
}

int network_rules(const struct network *networks, unsigned nr, struct buf *ret)
{
    /* Adding what may be there makes the deletion of it possible in any case. */
    int r = buf_append_string(ret, "add table inet lodge\ndelete table inet lodge\n"
                                   "add table bridge lodge\ndelete table bridge lodge\n");

    if (r < 0 || !nr)
        return r;
    if ((r = buf_append_string(ret, "table inet lodge {\n")) < 0 ||
        (r = port_rules(networks, nr, false, ret)) < 0 ||
        (r = port_rules(networks, nr, true, ret)) < 0 ||
        (r = leaving_rules(networks, nr, ret)) < 0 || (r = filter_rules(networks, nr, ret)) < 0 ||
        (r = buf_append_string(ret, "}\n")) < 0)
        return r;
    return guard_rules(networks, nr, ret);
}

static const char *find_nft(void)
{
    static const char *const places[] = {"/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"};

    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return NULL;
}

/* The rules in a file without a name; nft's complaint in another. */
static int run_nft(const char *program, int rules, int complaint)
{
    pid_t pid = fork();
    int status;

    if (pid < 0)
        return -errno;
    if (pid == 0) {
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        dup2(rules, STDIN_FILENO);
        dup2(complaint, STDOUT_FILENO);
        dup2(complaint, STDERR_FILENO);
        execl(program, program, "-f", "-", (char *)NULL);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

int rules_apply(const struct network *networks, unsigned nr, struct err *err)
{
    CLEANUP(fd_closep) int rules = memfd_create("rules", MFD_CLOEXEC);
    CLEANUP(fd_closep) int complaint = memfd_create("complaint", MFD_CLOEXEC);
    CLEANUP(buf_donep) struct buf text;
    const char *program = find_nft();
    char line[256] = "";
    int r;

    buf_init(&text, RULES_MAX);
    if (!program)
        return err_set(err, -ENOENT, "networks need nft: apt-get install nftables");
    if (rules < 0 || complaint < 0)
        return err_errno(err, -errno, "make a file for rules");
    if ((r = network_rules(networks, nr, &text)) < 0)
        return err_errno(err, r, "write the rules of networks");
    if (pwrite(rules, text.data, text.length, 0) != (ssize_t)text.length)
        return err_set(err, -EIO, "write the rules of networks");
    if ((r = run_nft(program, rules, complaint)) == 0)
        return 0;
    if (pread(complaint, line, sizeof(line) - 1, 0) > 0)
        line[strcspn(line, "\n")] = '\0';
    return err_set(err, r, "nft refuses the rules of networks: %s", line);
}
