/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and routes of interfaces; of the first by the host's parameters. */
#include "guest/init.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "guest/parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

struct plan {
    struct in_addr address, mask, gateway;
};

/* "ADDRESS/BITS[,GATEWAY]" */
static int parse(const char *text, struct plan *ret)
{
    char address[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN] = "0.0.0.0";
    unsigned bits;
    int nr = sscanf(text, "%15[0-9.]/%2u,%15[0-9.]", address, &bits, gateway);

    if (nr < 2 || bits < 1 || bits > 32 || inet_pton(AF_INET, address, &ret->address) != 1 ||
        inet_pton(AF_INET, gateway, &ret->gateway) != 1)
        return -EINVAL;
    ret->mask.s_addr = htonl(~UINT32_C(0) << (32 - bits));
    return 0;
}

static int set_address(int fd, struct ifreq *request, unsigned long what, struct in_addr address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = address};

    memcpy(&request->ifr_addr, &in, sizeof(in));
    return ioctl(fd, what, request) < 0 ? -errno : 0;
}

static int add_default_route(int fd, struct in_addr gateway)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = gateway};
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};

    memcpy(&route.rt_gateway, &in, sizeof(in));
    in.sin_addr.s_addr = 0;
    memcpy(&route.rt_dst, &in, sizeof(in));
    memcpy(&route.rt_genmask, &in, sizeof(in));
    return ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST ? -errno : 0;
}

int init_interface_up(const char *name, const char *text, struct err *err)
{
    CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_flags = 0};
    struct plan plan;
    int r;

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (parse(text, &plan) < 0)
        return err_set(err, -EINVAL, "%s: '%s' is not ADDRESS/BITS,GATEWAY", name, text);
    if (fd < 0)
        return err_errno(err, -errno, "socket");
    if ((r = set_address(fd, &request, SIOCSIFADDR, plan.address)) < 0 ||
        (r = set_address(fd, &request, SIOCSIFNETMASK, plan.mask)) < 0)
        return err_errno(err, r, "give %s its address", name);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return err_errno(err, -errno, "start %s", name);
    if (plan.gateway.s_addr && (r = add_default_route(fd, plan.gateway)) < 0)
        return err_errno(err, r, "route through the gateway");
    return 0;
}

int init_network_up(const char *text, struct err *err)
{
    return *text ? init_interface_up("eth0", text, err) : 0;
}

/* As the kernel's linux/ipv6.h has them, whose other contents the C library's headers contradict.
 */
struct request6 {
    struct in6_addr address;
    uint32_t bits;
    int interface;
};
struct route6 {
    struct in6_addr destination, source, gateway;
    uint32_t type;
    uint16_t destination_bits, source_bits;
    uint32_t metric;
    unsigned long info;
    uint32_t flags;
    int interface;
};

int init_interface6_up(const char *name, const char *text, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    char address[INET6_ADDRSTRLEN], gateway[INET6_ADDRSTRLEN] = "::", dad[64];
    struct request6 request = {.interface = (int)if_nametoindex(name)};
    struct route6 route = {.metric = 1, .flags = RTF_UP | RTF_GATEWAY};
    bool out;

    if (sscanf(text, "%45[0-9a-f:]/%2u,%45[0-9a-f:]", address, &request.bits, gateway) < 2 ||
        inet_pton(AF_INET6, address, &request.address) != 1 ||
        inet_pton(AF_INET6, gateway, &route.gateway) != 1)
        return err_set(err, -EINVAL, "%s: '%s' is not ADDRESS/BITS,GATEWAY", name, text);
    fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    route.interface = request.interface;
    /* The host gives addresses once: to ask whether somebody else has ours takes a second in which
     * it is of no use. */
    snprintf(dad, sizeof(dad), "/proc/sys/net/ipv6/conf/%.16s/accept_dad", name);
    file_write_string(AT_FDCWD, dad, "0");
    out = !IN6_IS_ADDR_UNSPECIFIED(&route.gateway);
    if ((ioctl(fd, SIOCSIFADDR, &request) < 0 && errno != EEXIST) ||
        (out && ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST))
        return err_errno(err, -errno, "give %s its IPv6 address and route", name);
    return 0;
}

int init_network6_up(const char *text, struct err *err)
{
    return *text ? init_interface6_up("eth0", text, err) : 0;
}

int init_networks_up(const struct init_params *params, struct err *err)
{
    char nics[sizeof(params->nics)], *nic, *rest, *more;
    int result = 0;

    memcpy(nics, params->nics, sizeof(nics));
    for (nic = strtok_r(nics, " ", &rest); nic && result == 0; nic = strtok_r(NULL, " ", &rest)) {
        const char *mac = strtok_r(nic, "+", &more), *text4 = strtok_r(NULL, "+", &more);

        result = text4 ? parts_attach_net(mac, text4, strtok_r(NULL, "+", &more), err)
                       : err_set(err, -EINVAL, "lodge.nic=%s: MAC+ADDRESS/BITS is needed", nic);
    }
    return result;
}
