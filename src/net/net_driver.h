/* SPDX-License-Identifier: Apache-2.0 */
/* What a back end implements. Private to net/. */
#ifndef LODGE_NET_NET_DRIVER_H
#define LODGE_NET_NET_DRIVER_H

#include "net/net.h"

struct net_driver {
    void (*start)(struct net *net, const struct net_offload *offload);
    void (*stop)(struct net *net);
    void (*resume)(struct net *net);
    bool (*send)(struct net *net, const struct iovec *iov, unsigned nr, size_t bytes);
    void (*free)(struct net *net);
};

/* The head of a back end's structure. */
struct net {
    const struct net_driver *driver;
    struct net_receiver receiver;
    bool started, link;
    uint16_t mtu;
    struct net_counters counters;
};

/* The ones' complement sum of data, not yet folded or inverted. */
uint32_t net_checksum_add(uint32_t sum, const void *data, size_t length);
/* Finishes the checksum that header asks for in a frame of our own. False: it lies outside. */
bool net_checksum_finish(const struct net_header *header, void *frame, size_t length);

#endif
