/* SPDX-License-Identifier: Apache-2.0 */
/* What all back ends share: counting, checksums, and the text forms of addresses and forwards. */
#include "net/net_driver.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

void net_free(struct net *net)
{
    if (!net)
        return;
    net_stop(net);
    net->driver->free(net);
}

void net_start(struct net *net, const struct net_receiver *receiver,
               const struct net_offload *offload)
{
    net->receiver = *receiver;
    net->started = true;
    net->driver->start(net, offload);
}

void net_stop(struct net *net)
{
    if (net->started)
        net->driver->stop(net);
    net->started = false;
}

void net_resume(struct net *net)
{
    if (net->started)
        net->driver->resume(net);
}

bool net_send(struct net *net, const struct iovec *iov, unsigned nr, size_t bytes)
{
    bool sent = net->link && net->driver->send(net, iov, nr, bytes);

    if (sent) {
        net->counters.sent_frames++;
        net->counters.sent_bytes += bytes - sizeof(struct net_header);
    } else {
        net->counters.dropped++;
    }
    return sent;
}

bool net_link(const struct net *net)
{
    return net->link;
}

uint16_t net_mtu(const struct net *net)
{
    return net->mtu;
}

void net_get_counters(const struct net *net, struct net_counters *ret)
{
    *ret = net->counters;
}

uint32_t net_checksum_add(uint32_t sum, const void *data, size_t length)
{
    const uint8_t *bytes = data;
    uint64_t wide = sum;

    /* 32 bits at a time into 64: the carries wait above (RFC 1071 2). */
    for (; length >= 4; bytes += 4, length -= 4)
        wide += load_le32(bytes);
    if (length >= 2) {
        wide += load_le16(bytes);
        bytes += 2;
        length -= 2;
    }
    if (length)
        wide += *bytes;
    wide = (wide & 0xffffffff) + (wide >> 32);
    wide = (wide & 0xffffffff) + (wide >> 32);
    wide = (wide & 0xffff) + (wide >> 16);
    return (uint32_t)((wide & 0xffff) + (wide >> 16));
}

bool net_checksum_finish(const struct net_header *header, void *frame, size_t length)
{
    size_t at = (size_t)header->csum_start + header->csum_offset;
    uint32_t sum;

    if (header->csum_start >= length || !range_fits(at, 2, length))
        return false;
    sum = net_checksum_add(0, (uint8_t *)frame + header->csum_start, length - header->csum_start);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
    store_le16((uint8_t *)frame + at, sum ? (uint16_t)sum : 0xffff);
    return true;
}

int net_mac_parse(const char *text, uint8_t ret[NET_MAC_BYTES], struct err *err)
{
    static const uint8_t none[NET_MAC_BYTES];
    uint8_t mac[NET_MAC_BYTES];
    int end = 0;

    if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3],
               &mac[4], &mac[5], &end) != NET_MAC_BYTES ||
        end != 17 || text[end])
        return err_set(err, -EINVAL, "'%s' is no hardware address such as 02:00:5e:10:00:01", text);
    if ((mac[0] & 1) || !memcmp(mac, none, sizeof(mac)))
        return err_set(err, -EINVAL, "'%s' is the hardware address of a group or of nobody", text);
    memcpy(ret, mac, sizeof(mac));
    return 0;
}

int net_mac_random(uint8_t ret[NET_MAC_BYTES], struct err *err)
{
    if (getrandom(ret, NET_MAC_BYTES, 0) != NET_MAC_BYTES)
        return err_set(err, -EIO, "no random hardware address");
    ret[0] = (uint8_t)((ret[0] & 0xfc) | 2);
    return 0;
}

static bool parse_port(const char *text, uint16_t *ret)
{
    unsigned value;
    int end = 0;

    if (text[0] < '0' || text[0] > '9' || sscanf(text, "%5u%n", &value, &end) != 1 || text[end] ||
        value == 0 || value > UINT16_MAX)
        return false;
    *ret = (uint16_t)value;
    return true;
}

int net_forward_parse(const char *text, struct net_forward *ret, struct err *err)
{
    struct net_forward forward = {.host_address = INADDR_LOOPBACK};
    char copy[64], *address, *port, *guest;
    struct in_addr in;

    if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy) || strlen(copy) < 4 ||
        copy[3] != ':' || (strncmp(copy, "tcp", 3) != 0 && strncmp(copy, "udp", 3) != 0))
        goto malformed;
    forward.udp = copy[0] == 'u';
    address = copy + 4;
    guest = strstr(address, "-:");
    port = strchr(address, ':');
    if (!guest || !port || port >= guest)
        goto malformed;
    *guest = *port = '\0';
    if (*address && inet_pton(AF_INET, address, &in) != 1)
        goto malformed;
    if (*address)
        forward.host_address = ntohl(in.s_addr);
    if (!parse_port(port + 1, &forward.host_port) || !parse_port(guest + 2, &forward.guest_port))
        goto malformed;
    *ret = forward;
    return 0;
malformed:
    return err_set(err, -EINVAL,
                   "'%s' is no forward such as tcp:127.0.0.1:8080-:80 "
                   "(tcp or udp, host address or nothing, host port, guest port)",
                   text);
}
