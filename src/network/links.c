/* SPDX-License-Identifier: Apache-2.0 */
/* Bridges and their ports, made to be as the state says. What is there already is left. */
#include "network/internal.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

/* /proc/sys/net/FAMILY/conf/INTERFACE/NAME */
static int setting(const char *family, const char *interface, const char *name, const char *value)
{
    CLEANUP(fd_closep) int fd = -1;
    char path[128];

    snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, interface, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

/* Packets pass through this host; to published ports also from its own 127.0.0.1 (rules.c keeps
 * guests from there). */
static int forwarding(const struct network *network, struct err *err)
{
    int r;

    if (network->internal)
        return 0;
    if ((r = setting("ipv4", "all", "forwarding", "1")) < 0 ||
        (r = setting("ipv4", network->bridge, "route_localnet", "1")) < 0)
        return err_errno(err, r, "let packets of network '%s' pass through this host",
                         network->name);
    if (network->has6)
        setting("ipv6", "all", "forwarding", "1");
    return 0;
}

int links_network(const struct network *network, struct err *err)
{
    CLEANUP(fd_closep) int rtnl = rtnl_open(-1);
    uint32_t gateway4 = htonl(network_gateway4(network));
    struct in6_addr gateway6 = network_gateway6(network);
    struct in6_addr local6 = {.s6_addr = {0xfe, 0x80, [15] = 1}};
    int index, r;

    if (rtnl < 0)
        return err_errno(err, rtnl, "speak to the kernel about interfaces");
    if ((index = rtnl_index(rtnl, network->bridge)) == 0) {
        if ((r = rtnl_bridge_add(rtnl, network->bridge)) < 0)
            return err_errno(err, r, "make the bridge '%s'%s", network->bridge,
                             r == -EPERM ? " (networks need root; --net user does not)" : "");
        index = rtnl_index(rtnl, network->bridge);
    }
    if (network->has6) /* addresses of its own making would only be noise */
        setting("ipv6", network->bridge, "addr_gen_mode", "1");
    if ((r = rtnl_set(rtnl, index, network->mtu, 0)) < 0 ||
        (r = rtnl_address_add(rtnl, index, AF_INET, &gateway4, network->subnet4.bits)) < 0)
        return err_errno(err, r, "bridge '%s'", network->bridge);
    /* Neighbours of packets that pass through are looked for from a link-local address alone. */
    if (network->has6 && ((r = rtnl_address_add(rtnl, index, AF_INET6, &gateway6, 64)) < 0 ||
                          (r = rtnl_address_add(rtnl, index, AF_INET6, &local6, 64)) < 0))
        return err_errno(err, r, "IPv6 address of the bridge '%s'", network->bridge);
    return forwarding(network, err);
}

static int tap_fd(const char *name, int flags)
{
    CLEANUP(fd_closep) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | flags);
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
        return -errno;
    return TAKE_FD(fd);
}

static int make_tap(const char *name)
{
    CLEANUP(fd_closep) int fd = tap_fd(name, 0);

    if (fd < 0)
        return fd;
    return ioctl(fd, TUNSETPERSIST, 1L) ? -errno : 0;
}

int network_tap_open(const char *name, struct err *err)
{
    int fd = -EINVAL;

    if (*name && strlen(name) < IFNAMSIZ && !strchr(name, '%'))
        fd = tap_fd(name, O_NONBLOCK);
    return fd < 0 ? err_errno(err, fd, "tap '%s'", name) : fd;
}

/* The guest's side of a veth pair. */
static int fill_namespace(const struct network *network, const struct network_endpoint *endpoint,
                          const struct network_attach *attach, const char *name)
{
    CLEANUP(fd_closep) int rtnl = rtnl_open(attach->netns_fd);
    bool route = !network->internal && !attach->no_route;
    uint32_t address4 = htonl(endpoint->address4), gateway4 = htonl(network_gateway4(network));
    struct in6_addr address6 = network_address6(network, endpoint);
    struct in6_addr gateway6 = network_gateway6(network);
    int index, loopback, r;

    if (rtnl < 0)
        return rtnl;
    index = rtnl_index(rtnl, name);
    loopback = rtnl_index(rtnl, "lo");
    if ((r = rtnl_set(rtnl, loopback, 0, 0)) < 0 || (r = rtnl_set(rtnl, index, 0, 0)) < 0 ||
        (r = rtnl_address_add(rtnl, index, AF_INET, &address4, network->subnet4.bits)) < 0)
        return r;
    if (route && (r = rtnl_default_route(rtnl, index, AF_INET, &gateway4)) < 0)
        return r;
    if (!network->has6)
        return 0;
    /* A host without IPv6 leaves the guest without it. */
    if (rtnl_address_add(rtnl, index, AF_INET6, &address6, 64) == 0 && route)
        rtnl_default_route(rtnl, index, AF_INET6, &gateway6);
    return 0;
}

static int free_name(int netns_fd, char ret[IFNAMSIZ])
{
    CLEANUP(fd_closep) int rtnl = rtnl_open(netns_fd);

    if (rtnl < 0)
        return rtnl;
    for (unsigned i = 0; i < 64; i++) {
        snprintf(ret, IFNAMSIZ, "eth%u", i);
        if (rtnl_index(rtnl, ret) == 0)
            return 0;
    }
    return -E2BIG;
}

int links_endpoint(const struct network *network, const struct network_endpoint *endpoint,
                   const struct network_attach *attach, struct err *err)
{
    CLEANUP(fd_closep) int rtnl = rtnl_open(-1);
    const char *name = endpoint->interface;
    char guest_name[IFNAMSIZ] = "";
    int r;

    if (rtnl < 0)
        return err_errno(err, rtnl, "speak to the kernel about interfaces");
    if (!endpoint->tap && (r = free_name(attach->netns_fd, guest_name)) < 0)
        return err_errno(err, r, "look at the guest's interfaces");
    r = endpoint->tap
            ? make_tap(name)
            : rtnl_veth_add(rtnl, name, guest_name, attach->netns_fd, endpoint->mac, network->mtu);
    if (r == 0) { /* its link-local address would be one more neighbour to the guests */
        setting("ipv6", name, "disable_ipv6", "1");
        r = rtnl_set(rtnl, rtnl_index(rtnl, name), network->mtu, rtnl_index(rtnl, network->bridge));
    }
    if (r == 0 && !endpoint->tap)
        r = fill_namespace(network, endpoint, attach, guest_name);
    return r < 0 ? err_errno(err, r, "interface '%s' of network '%s'", name, network->name) : 0;
}

void links_remove(const char *interface)
{
    CLEANUP(fd_closep) int rtnl = rtnl_open(-1);
    int index = rtnl < 0 ? 0 : rtnl_index(rtnl, interface);

    if (index)
        rtnl_delete(rtnl, index);
}
