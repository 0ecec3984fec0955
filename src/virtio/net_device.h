/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the network device share. Private to virtio/. */
#ifndef LODGE_VIRTIO_NET_DEVICE_H
#define LODGE_VIRTIO_NET_DEVICE_H

#include "virtio/device.h"

#define NETDEV_RX      0
#define NETDEV_TX      1
#define NETDEV_CONTROL 2

/* 5.1.3 */
#define VIRTIO_NET_F_CSUM          0
#define VIRTIO_NET_F_GUEST_CSUM    1
#define VIRTIO_NET_F_MTU           3
#define VIRTIO_NET_F_MAC           5
#define VIRTIO_NET_F_GUEST_TSO4    7
#define VIRTIO_NET_F_GUEST_TSO6    8
#define VIRTIO_NET_F_HOST_TSO4     11
#define VIRTIO_NET_F_HOST_TSO6     12
#define VIRTIO_NET_F_MRG_RXBUF     15
#define VIRTIO_NET_F_STATUS        16
#define VIRTIO_NET_F_CTRL_VQ       17
#define VIRTIO_NET_F_CTRL_RX       18
#define VIRTIO_NET_F_CTRL_RX_EXTRA 20
#define VIRTIO_NET_F_CTRL_MAC_ADDR 23

#define NETDEV_MACS_MAX 64 /* of each table; a longer one means: all */
/* The part of a frame that is copied before it is checked: Ethernet, a VLAN tag, ARP or IPv4. */
#define NETDEV_FRONT_BYTES 64u

/* Which frames the driver wants (5.1.6.5.1, 5.1.6.5.2). */
struct netdev_filter {
    bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
    bool unicast_overflow, multicast_overflow;
    unsigned nr_unicast, nr_multicast;
    uint8_t unicast[NETDEV_MACS_MAX][NET_MAC_BYTES];
    uint8_t multicast[NETDEV_MACS_MAX][NET_MAC_BYTES];
};

struct netdev {
    struct virtio_device device;
    struct net *net;
    uint8_t mac[NET_MAC_BYTES];       /* that the host gave */
    uint8_t guest_mac[NET_MAC_BYTES]; /* that the guest uses */
    bool any_source;
    bool receive_stopped; /* until the driver gives buffers */
    struct netdev_filter filter;
    struct virtq_chain tx, rx, rx_first, control;
    struct iovec iov[VIRTQ_SEGMENTS_MAX + 1];
};

/* Everything as after a reset: all frames that a wire would bring. */
void netdev_filter_reset(struct netdev *netdev);
bool netdev_filter_accepts(const struct netdev *netdev, const uint8_t *frame);
void netdev_control(struct netdev *netdev);

#endif
