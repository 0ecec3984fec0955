/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and removing networks, attaching and detaching. Order: the file first (it says what may be
 * there), then interfaces and rules; when those fail, the file goes back. What a crash leaves in
 * between is what the file says, and the next operation makes or removes.
 */
#include "network/internal.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Where subnets are taken from: /24s of 10.88.0.0/14. */
#define POOL_FIRST UINT32_C(0x0a580000)
#define POOL_NR    1024u

static bool overlap(const struct network_subnet4 *a, const struct network_subnet4 *b)
{
    uint32_t mask = UINT32_MAX << (32 - MIN(a->bits, b->bits));

    return (a->address & mask) == (b->address & mask);
}

/* A network of ours, or an interface of the host. */
static const char *in_the_way(const struct network_state *state, const struct ifaddrs *host,
                              const struct network_subnet4 *subnet)
{
    for (unsigned i = 0; i < state->nr; i++)
        if (overlap(&state->networks[i].subnet4, subnet))
            return state->networks[i].name;
    for (; host; host = host->ifa_next) {
        const struct sockaddr_in *address = (const void *)host->ifa_addr;
        const struct sockaddr_in *mask = (const void *)host->ifa_netmask;
        struct network_subnet4 theirs;

        if (!address || !mask || address->sin_family != AF_INET)
            continue;
        theirs.bits = (unsigned)__builtin_popcount(mask->sin_addr.s_addr);
        theirs.address = ntohl(address->sin_addr.s_addr & mask->sin_addr.s_addr);
        if (theirs.bits && overlap(&theirs, subnet))
            return host->ifa_name;
    }
    return NULL;
}

static int choose_subnet(struct network_state *state, const char *text, struct network_subnet4 *ret,
                         struct err *err)
{
    struct ifaddrs *host = NULL;
    const char *other;
    int r = 0;

    if (text && (r = network_subnet_parse(text, ret, err)) < 0)
        return r;
    if (getifaddrs(&host))
        host = NULL;
    if (text) {
        if ((other = in_the_way(state, host, ret)))
            r = err_set(err, -EEXIST, "subnet %s overlaps with that of '%s'", text, other);
    } else {
        r = err_set(err, -ENOSPC, "no free subnet: give one with --subnet");
        for (uint32_t i = 0; r < 0 && i < POOL_NR; i++) {
            *ret = (struct network_subnet4){POOL_FIRST + (i << 8), 24};
            if (!in_the_way(state, host, ret)) {
                err_clear(err);
                r = 0;
            }
        }
    }
    freeifaddrs(host);
    return r;
}

static void remove_files(struct network_state *state, const struct network *network)
{
    char name[NETWORK_NAME_MAX + 8];

    snprintf(name, sizeof(name), "%s.json", network->name);
    unlinkat(state->dir_fd, name, 0);
    snprintf(name, sizeof(name), ".%s.dns", network->name);
    unlinkat(state->dir_fd, name, 0);
}

static void drop(struct network_state *state, struct network *network)
{
    network_done(network);
    *network = state->networks[--state->nr];
}

static int random_bytes(void *data, size_t length, struct err *err)
{
    return getrandom(data, length, 0) == (ssize_t)length ? 0
                                                         : err_errno(err, -errno, "random numbers");
}

int network_create(struct network_state *state, const struct network_create *create,
                   struct network **ret, struct err *err)
{
    struct network *network = &state->networks[state->nr];
    uint8_t random[9];
    int r;

    if (!network_name_ok(create->name))
        return err_set(err, -EINVAL,
                       "network '%.40s': 1 to %d letters, digits, '-', '_' and '.' are needed, the "
                       "first a letter or digit; none, user and host are not free",
                       create->name, NETWORK_NAME_MAX - 1);
    if (network_find(state, create->name))
        return err_set(err, -EEXIST, "network '%s' exists", create->name);
    if (state->nr == NETWORK_MAX)
        return err_set(err, -E2BIG, "more than %d networks", NETWORK_MAX);
    if (create->mtu && (create->mtu < 1280 || create->mtu > 65535))
        return err_set(err, -EINVAL, "an MTU of %u: 1280 to 65535 are possible", create->mtu);
    *network = (struct network){.has6 = !create->no_ipv6,
                                .internal = create->internal,
                                .mtu = create->mtu ? create->mtu : NETWORK_MTU_DEFAULT};
    strcpy(network->name, create->name);
    if ((r = choose_subnet(state, create->subnet4, &network->subnet4, err)) < 0 ||
        (r = random_bytes(random, sizeof(random), err)) < 0)
        return r;
    /* RFC 4193: fd, 40 random bits, subnet 0 */
    network->prefix6.s6_addr[0] = 0xfd;
    memcpy(&network->prefix6.s6_addr[1], random, 5);
    snprintf(network->bridge, sizeof(network->bridge), "lgb-%02x%02x%02x%02x", random[5], random[6],
             random[7], random[8]);
    if (!(network->endpoints = calloc(1, sizeof(*network->endpoints))))
        return err_set(err, -ENOMEM, "out of memory");
    state->nr++;
    if ((r = state_save(state, network, err)) == 0 && (r = links_network(network, err)) == 0)
        r = rules_apply(state->networks, state->nr, err);
    if (r < 0) {
        links_remove(network->bridge);
        remove_files(state, network);
        drop(state, network);
        return r;
    }
    *ret = network;
    return 0;
}

static struct network *find(struct network_state *state, const char *name, struct err *err)
{
    struct network *network = network_find(state, name);

    if (!network)
        err_set(err, -ENOENT,
                "there is no network '%s'; `lodge network ls` lists them, `lodge network create "
                "%s` makes it",
                name, network_name_ok(name) ? name : "NAME");
    return network;
}

int network_remove(struct network_state *state, const char *name, struct err *err)
{
    struct network *network = find(state, name, err);

    if (!network)
        return -ENOENT;
    if (network->nr_endpoints)
        return err_set(err, -EBUSY, "network '%s' is in use by '%s'%s", name,
                       network->endpoints[0].id, network->nr_endpoints > 1 ? " and others" : "");
    links_remove(network->bridge);
    remove_files(state, network);
    drop(state, network);
    return rules_apply(state->networks, state->nr, err);
}

/* --- endpoints --- */

static bool address_taken(const struct network *network, uint32_t address)
{
    for (unsigned i = 0; i < network->nr_endpoints; i++)
        if (network->endpoints[i].address4 == address)
            return true;
    return false;
}

/* The lowest that is free: not the network's, the gateway's, nor the broadcast's; and one that is
 * kept for nobody, where there is one. */
static uint32_t free_address(const struct network *network)
{
    uint32_t last = network->subnet4.address | (UINT32_MAX >> network->subnet4.bits), kept = 0;

    for (uint32_t address = network->subnet4.address + 2; address < last; address++) {
        if (address_taken(network, address))
            continue;
        if (!network->nr_leases || !lease_has_address(network, address))
            return address;
        kept = kept ? kept : address;
    }
    return kept;
}

static int choose_address(const struct network *network, const struct network_attach *attach,
                          uint32_t *ret, struct err *err)
{
    uint32_t earlier = attach->keep ? lease_find(network, attach->id) : 0;
    int r;

    if (attach->address4) {
        if ((r = network_address_parse(network, attach->address4, ret, err)) < 0)
            return r;
        return address_taken(network, *ret)
                   ? err_set(err, -EADDRINUSE, "address %s of network '%s' is in use",
                             attach->address4, network->name)
                   : 0;
    }
    *ret = earlier && !address_taken(network, earlier) ? earlier : free_address(network);
    return *ret ? 0 : err_set(err, -ENOSPC, "network '%s' has no free address", network->name);
}

static bool any_host(const struct net_forward *port)
{
    return !port->host_is6 && !port->host_address;
}

static bool same_port(const struct net_forward *a, const struct net_forward *b)
{
    if (a->udp != b->udp || a->host_port != b->host_port)
        return false;
    if (any_host(a) || any_host(b))
        return true;
    if (a->host_is6 != b->host_is6)
        return false;
    return a->host_is6 ? !memcmp(&a->host_address6, &b->host_address6, 16)
                       : a->host_address == b->host_address;
}

/* A program of this host that listens there would be cut off from its clients by our rules. */
static int check_listener(const struct net_forward *port, struct err *err)
{
    for (unsigned six = 0; six < 2; six++) {
        struct sockaddr_in in = {.sin_family = AF_INET,
                                 .sin_port = htons(port->host_port),
                                 .sin_addr.s_addr = htonl(port->host_address)};
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
                                   .sin6_port = htons(port->host_port),
                                   .sin6_addr = port->host_address6};
        CLEANUP(fd_closep) int fd = -1;
        int on = 1;

        if (!any_host(port) && port->host_is6 != six)
            continue;
        fd = socket(six ? AF_INET6 : AF_INET, (port->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC,
                    0);
        if (fd < 0)
            continue;
        if (six)
            (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
        if (!port->udp) /* ended connections are no listeners */
            (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(fd, six ? (const struct sockaddr *)&in6 : (const struct sockaddr *)&in,
                 six ? sizeof(in6) : sizeof(in)) < 0 &&
            errno == EADDRINUSE)
            return err_set(err, -EADDRINUSE, "a program of this host listens on %s port %u",
                           port->udp ? "UDP" : "TCP", port->host_port);
    }
    return 0;
}

static int check_ports(const struct network_state *state, const struct network_attach *attach,
                       struct err *err)
{
    int r = 0;

    if (attach->nr_ports > NETWORK_PORTS_MAX)
        return err_set(err, -E2BIG, "more than %d published ports", NETWORK_PORTS_MAX);
    for (unsigned p = 0; p < attach->nr_ports; p++)
        for (unsigned i = 0; i < state->nr; i++)
            for (unsigned j = 0; j < state->networks[i].nr_endpoints; j++) {
                const struct network_endpoint *e = &state->networks[i].endpoints[j];

                for (unsigned k = 0; k < e->nr_ports; k++)
                    if (same_port(&e->ports[k], &attach->ports[p]))
                        return err_set(err, -EADDRINUSE, "port %u of this host leads to '%s'",
                                       attach->ports[p].host_port, e->id);
            }
    for (unsigned p = 0; p < attach->nr_ports && r == 0; p++)
        r = check_listener(&attach->ports[p], err);
    return r;
}

static int endpoint_fill(const struct network *network, const struct network_attach *attach,
                         struct network_endpoint *e, struct err *err)
{
    uint32_t address = 0, big_endian;
    uint8_t random[4];
    int r = random_bytes(random, sizeof(random), err);

    if (r < 0 || (r = choose_address(network, attach, &address, err)) < 0)
        return r;
    if (attach->lock && strlen(attach->lock) >= sizeof(e->lock))
        return err_set(err, -ENAMETOOLONG, "the path '%s' is too long", attach->lock);
    big_endian = htonl(address);
    *e = (struct network_endpoint){.tap = attach->tap,
                                   .address4 = address,
                                   .nr_ports = attach->nr_ports,
                                   .owner = attach->owner,
                                   .mac = {0x02, 0x6c}};
    memcpy(&e->mac[2], &big_endian, 4);
    strcpy(e->id, attach->id);
    snprintf(e->interface, sizeof(e->interface), "lg%c-%02x%02x%02x%02x", attach->tap ? 't' : 'v',
             random[0], random[1], random[2], random[3]);
    if (attach->nr_ports)
        memcpy(e->ports, attach->ports, attach->nr_ports * sizeof(*attach->ports));
    if (attach->lock)
        strcpy(e->lock, attach->lock);
    if (attach->owner)
        e->owner_started = process_started(attach->owner);
    return 0;
}

static int check_id(const struct network *network, const char *id, struct err *err)
{
    if (!id[0] || strlen(id) >= NETWORK_ID_MAX || strpbrk(id, "\"\n\\/ "))
        return err_set(err, -EINVAL, "'%.70s' cannot be a name on a network", id);
    for (unsigned i = 0; i < network->nr_endpoints; i++)
        if (!strcmp(network->endpoints[i].id, id))
            return err_set(err, -EEXIST, "'%s' is on network '%s' already", id, network->name);
    return 0;
}

int network_attach(struct network_state *state, const char *name,
                   const struct network_attach *attach, struct network_endpoint *ret,
                   struct err *err)
{
    struct network *network = find(state, name, err);
    struct network_endpoint *grown, *e;
    struct err ignored = ERR_INIT;
    int r;

    if (!network)
        return -ENOENT;
    if ((r = check_id(network, attach->id, err)) < 0 || (r = check_ports(state, attach, err)) < 0)
        return r;
    if (network->nr_endpoints == NETWORK_ENDPOINTS_MAX)
        return err_set(err, -E2BIG, "network '%s' has %d guests", network->name,
                       NETWORK_ENDPOINTS_MAX);
    grown = reallocarray(network->endpoints, network->nr_endpoints + 1, sizeof(*grown));
    if (!grown)
        return err_set(err, -ENOMEM, "out of memory");
    network->endpoints = grown;
    e = &grown[network->nr_endpoints];
    if ((r = endpoint_fill(network, attach, e, err)) < 0)
        return r;
    network->nr_endpoints++;
    if (attach->keep && (r = lease_put(network, e->id, e->address4)) < 0) {
        network->nr_endpoints--;
        return err_errno(err, r, "keep an address");
    }
    /* Rules before the interface: there is no moment in which a port is not guarded. */
    if ((r = state_save(state, network, err)) == 0 && (r = links_network(network, err)) == 0 &&
        (r = rules_apply(state->networks, state->nr, err)) == 0)
        r = links_endpoint(network, e, attach, err);
    if (r < 0) {
        links_remove(e->interface);
        network->nr_endpoints--;
        if (state_save(state, network, &ignored) == 0)
            rules_apply(state->networks, state->nr, &ignored);
        return r;
    }
    *ret = *e;
    return 0;
}

int network_detach(struct network_state *state, const char *name, const char *id, struct err *err)
{
    struct network *network = find(state, name, err);
    int r;

    if (!network)
        return -ENOENT;
    for (unsigned i = 0; i < network->nr_endpoints; i++) {
        if (strcmp(network->endpoints[i].id, id) != 0)
            continue;
        links_remove(network->endpoints[i].interface);
        network->endpoints[i] = network->endpoints[--network->nr_endpoints];
        r = state_save(state, network, err);
        return r < 0 ? r : rules_apply(state->networks, state->nr, err);
    }
    return err_set(err, -ENOENT, "'%s' is not on network '%s'", id, name);
}

/* Of one network: what belongs to that lock goes. */
static bool drop_of_lock(struct network *network, const char *lock)
{
    unsigned kept = 0;
    bool dropped;

    for (unsigned i = 0; i < network->nr_endpoints; i++) {
        struct network_endpoint *e = &network->endpoints[i];

        if (!strcmp(e->lock, lock))
            links_remove(e->interface);
        else if (kept++ != i)
            network->endpoints[kept - 1] = *e;
    }
    dropped = kept != network->nr_endpoints;
    network->nr_endpoints = kept;
    return dropped;
}

int network_detach_lock(struct network_state *state, const char *lock, const char *id,
                        struct err *err)
{
    bool rules = false;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < state->nr; i++) {
        bool dropped = drop_of_lock(&state->networks[i], lock);
        bool forgotten = id && lease_drop(&state->networks[i], id);

        rules |= dropped;
        if (dropped || forgotten)
            r = state_save(state, &state->networks[i], err);
    }
    return r == 0 && rules ? rules_apply(state->networks, state->nr, err) : r;
}

int network_forget(struct network_state *state, const char *name, const char *id, struct err *err)
{
    struct network *network = network_find(state, name);

    return network && lease_drop(network, id) ? state_save(state, network, err) : 0;
}

static struct network_endpoint *endpoint_of_lock(struct network *network, const char *lock)
{
    for (unsigned i = 0; i < network->nr_endpoints; i++)
        if (!strcmp(network->endpoints[i].lock, lock))
            return &network->endpoints[i];
    return NULL;
}

static int rename_in(struct network *network, const char *lock, const char *from, const char *to,
                     struct err *err)
{
    struct network_endpoint *e = endpoint_of_lock(network, lock);
    uint32_t address = e ? e->address4 : lease_find(network, from);
    int r;

    if (e)
        snprintf(e->id, sizeof(e->id), "%s", to);
    lease_drop(network, from);
    r = lease_put(network, to, address);
    return r < 0 ? err_errno(err, r, "keep an address") : 0;
}

int network_rename(struct network_state *state, const char *lock, const char *from, const char *to,
                   struct err *err)
{
    bool concerned[NETWORK_MAX] = {false};
    int r = 0;

    for (unsigned i = 0; i < state->nr; i++) {
        struct network *network = &state->networks[i];
        const struct network_endpoint *e = endpoint_of_lock(network, lock);

        concerned[i] = strcmp(e ? e->id : from, to) != 0 && (e || lease_find(network, from));
        if (concerned[i] && (r = check_id(network, to, err)) < 0)
            return r;
    }
    for (unsigned i = 0; i < state->nr && r == 0; i++)
        if (concerned[i] && (r = rename_in(&state->networks[i], lock, from, to, err)) == 0)
            r = state_save(state, &state->networks[i], err);
    return r;
}
