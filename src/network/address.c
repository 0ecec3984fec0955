/* SPDX-License-Identifier: Apache-2.0 */
/* Names, subnets and ports as text and as numbers. Pure. */
#include "network/internal.h"

#include "base/size.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

bool network_name_ok(const char *name)
{
    size_t length = strlen(name);

    if (length == 0 || length >= NETWORK_NAME_MAX || !isalnum((unsigned char)name[0]))
        return false;
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
            return false;
    return strcmp(name, "none") != 0 && strcmp(name, "user") != 0 && strcmp(name, "host") != 0;
}

int network_subnet_parse(const char *text, struct network_subnet4 *ret, struct err *err)
{
    char address[INET_ADDRSTRLEN];
    struct in_addr in;
    unsigned bits;
    char rest;

    if (sscanf(text, "%15[0-9.]/%2u%c", address, &bits, &rest) != 2 ||
        inet_pton(AF_INET, address, &in) != 1)
        return err_set(err, -EINVAL, "subnet '%s': ADDRESS/BITS, such as 10.1.2.0/24, is needed",
                       text);
    if (bits < 8 || bits > 29)
        return err_set(err, -EINVAL, "subnet '%s': 8 to 29 bits are possible", text);
    ret->address = ntohl(in.s_addr);
    ret->bits = bits;
    if (ret->address & (UINT32_MAX >> bits))
        return err_set(err, -EINVAL, "subnet '%s': the address has bits beyond the first %u", text,
                       bits);
    if (ret->address >> 24 == 127 || ret->address >> 28 >= 14 || ret->address >> 24 == 0)
        return err_set(err, -EINVAL, "subnet '%s' is not for hosts", text);
    return 0;
}

uint32_t network_gateway4(const struct network *network)
{
    return network->subnet4.address + 1;
}

static struct in6_addr with_host(struct in6_addr prefix, uint32_t host)
{
    host = htonl(host);
    memcpy(&prefix.s6_addr[12], &host, sizeof(host));
    return prefix;
}

struct in6_addr network_gateway6(const struct network *network)
{
    return with_host(network->prefix6, 1);
}

struct in6_addr network_address6(const struct network *network,
                                 const struct network_endpoint *endpoint)
{
    return with_host(network->prefix6, endpoint->address4 - network->subnet4.address);
}

int network_address_parse(const struct network *network, const char *text, uint32_t *ret,
                          struct err *err)
{
    uint32_t rest = UINT32_MAX >> network->subnet4.bits, address;
    struct in_addr in;

    if (inet_pton(AF_INET, text, &in) != 1)
        return err_set(err, -EINVAL, "'%.40s' is no IPv4 address", text);
    address = ntohl(in.s_addr);
    if ((address & ~rest) != network->subnet4.address)
        return err_set(err, -EINVAL, "address %s is not of network '%s'", text, network->name);
    if ((address & rest) < 2 || (address & rest) == rest)
        return err_set(err, -EINVAL,
                       "address %s of network '%s' is not for guests (the network's own, its "
                       "gateway's or the broadcast's)",
                       text, network->name);
    *ret = address;
    return 0;
}

static int parse_number(const char *text, const char *whole, uint16_t *ret, struct err *err)
{
    uint64_t value;

    if (number_parse(text, "port", 1, UINT16_MAX, &value, err) < 0)
        return err_wrap(err, "-p %s", whole);
    *ret = (uint16_t)value;
    return 0;
}

int network_port_parse(const char *text, struct net_forward *ret, struct err *err)
{
    CLEANUP(freep) char *copy = strdup(text);
    struct net_forward port = {0};
    char *protocol, *guest, *host;
    struct in_addr in;
    int r;

    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    if ((protocol = strchr(copy, '/'))) {
        *protocol++ = '\0';
        port.udp = !strcmp(protocol, "udp");
        if (!port.udp && strcmp(protocol, "tcp") != 0)
            return err_set(err, -EINVAL, "-p %s: '%s' is neither tcp nor udp", text, protocol);
    }
    if (!(guest = strrchr(copy, ':')))
        return err_set(err, -EINVAL, "-p %s: [ADDRESS:]HOSTPORT:GUESTPORT is needed", text);
    *guest++ = '\0';
    host = strrchr(copy, ':');
    if (copy[0] == '[' && (host = strstr(copy, "]:"))) {
        *host = '\0';
        host += 2;
        if (inet_pton(AF_INET6, copy + 1, &port.host_address6) != 1)
            return err_set(err, -EINVAL, "-p %s: '%s' is no IPv6 address", text, copy + 1);
        port.host_is6 = true;
    } else if (host) {
        *host++ = '\0';
        if (inet_pton(AF_INET, copy, &in) != 1)
            return err_set(err, -EINVAL, "-p %s: '%s' is no IPv4 address", text, copy);
        port.host_address = ntohl(in.s_addr);
    } else {
        host = copy;
    }
    if ((r = parse_number(host, text, &port.host_port, err)) < 0 ||
        (r = parse_number(guest, text, &port.guest_port, err)) < 0)
        return r;
    *ret = port;
    return 0;
}
