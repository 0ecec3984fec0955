/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device (virtio 1.2 5.1): one receive and one transmit queue, and the control queue
 * (net_control.c). Behind it is a struct net.
 *
 * Invariants:
 *  1. What is checked of a frame of the guest (header, addresses) is a copy, and that copy is what
 *     the back end gets; the rest goes straight from guest memory.
 *  2. A frame for the guest is copied into as many buffers as it needs; they are published together
 *     or not at all.
 *  3. A frame that is wrong is dropped, and its chain returned: only a broken ring fails the
 * device.
 *
 * Unless the host allows any source, frames and ARP messages that name another sender than the
 * device's own address are dropped, so a guest cannot take its neighbours' traffic.
 */
#include "virtio/net_device.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

/* Linux fills the receive ring with pages and takes them in turn: with more of them than the host's
 * second-level cache holds, every copy misses it. */
#define NET_QUEUE_SIZE 128u
#define RX_BUFFERS_MAX 128u /* for one frame; a driver whose buffers are smaller loses it */
#define ETHERTYPE_AT   12u
#define ETHERTYPE_ARP  0x0608 /* as stored, big-endian */
#define ETHERTYPE_VLAN 0x0081
#define ARP_SENDER_AT  8u

/* 5.1.4 */
struct net_config_space {
    uint8_t mac[NET_MAC_BYTES];
    uint16_t status, max_virtqueue_pairs, mtu;
};
#define NET_STATUS_OFFSET offsetof(struct net_config_space, status)
#define NET_STATUS_LINK   1u

/* The frame's bytes behind the header of the first buffer, then on into further ones. Returns the
 * number of chains used, 0 when there are not enough. */
static unsigned fill(struct netdev *netdev, const struct net_header *header, const uint8_t *frame,
                     size_t length)
{
    struct virtio_device *device = &netdev->device;
    struct virtq *queue = &device->queues[NETDEV_RX];
    unsigned most = virtio_device_has(device, VIRTIO_NET_F_MRG_RXBUF) ? RX_BUFFERS_MAX : 1;
    unsigned used = 0;
    size_t done = 0;

    while (done < length && used < most) {
        struct virtq_chain *chain = used ? &netdev->rx : &netdev->rx_first;
        uint32_t at = used ? 0 : (uint32_t)sizeof(*header);
        uint32_t n;

        if (!virtio_device_pop(device, NETDEV_RX, chain))
            break;
        if (chain->in_bytes <= at) { /* no room for a header, or nothing writable */
            virtio_device_fail(device, "receive buffer without room for a frame");
            return 0;
        }
        if (!used)
            virtq_chain_write(chain, 0, header, sizeof(*header));
        n = virtq_chain_write(chain, at, frame + done, (uint32_t)(length - done));
        done += n;
        virtq_push(queue, chain, at + n);
        used++;
    }
    if (done == length)
        return used;
    virtq_take_back(queue, used);
    return 0;
}

/* How many buffers a frame took is known when the first one is already full. */
static void patch_count(struct netdev *netdev, unsigned used)
{
    struct virtq_chain *first = &netdev->rx_first;
    uint16_t count = (uint16_t)used;
    uint32_t left = sizeof(struct net_header);

    virtq_chain_write(first, offsetof(struct net_header, num_buffers), &count, sizeof(count));
    for (unsigned i = first->nr_out; left && i < (unsigned)first->nr_out + first->nr_in; i++) {
        uint32_t here = MIN(left, (uint32_t)first->iov[i].iov_len);

        memory_written(netdev->device.memory, first->gpa[i], here);
        left -= here;
    }
}

/* Whether there may be room later. A frame too large for the driver's buffers is not waited for. */
static bool hopeless(struct netdev *netdev)
{
    struct virtq *queue = &netdev->device.queues[NETDEV_RX];
    unsigned most = MIN(RX_BUFFERS_MAX, queue->size);

    if (!virtio_device_has(&netdev->device, VIRTIO_NET_F_MRG_RXBUF))
        most = 1;
    return !netdev->device.active || virtq_nr_available(queue) >= most;
}

static bool deliver(void *context, const struct net_header *header, const void *frame,
                    size_t length)
{
    struct netdev *netdev = context;
    struct virtio_device *device = &netdev->device;
    struct virtq *queue = &device->queues[NETDEV_RX];
    struct net_header copy = *header;
    unsigned used;

    if (length < NET_ETHERNET_BYTES || !netdev_filter_accepts(netdev, frame))
        return true;
    copy.num_buffers = 1;
    if (!virtio_device_has(device, VIRTIO_NET_F_GUEST_CSUM))
        copy.flags = 0;
    used = fill(netdev, &copy, frame, length);
    /* Asked to say when there is more, the driver may have added some in between. Ends: a ring is
     * finite, and a full one is hopeless. */
    while (!used && !hopeless(netdev) && virtq_listen_for_more(queue))
        used = fill(netdev, &copy, frame, length);
    if (used > 1)
        patch_count(netdev, used);
    if (used)
        return true;
    if (hopeless(netdev))
        return true;
    netdev->receive_stopped = true;
    return false;
}

static void flush(void *context)
{
    struct netdev *netdev = context;

    virtio_device_publish(&netdev->device, NETDEV_RX);
}

static void link_changed(void *context, bool up)
{
    struct netdev *netdev = context;
    uint16_t status = up ? NET_STATUS_LINK : 0;

    virtio_device_set_config(&netdev->device, NET_STATUS_OFFSET, &status, sizeof(status));
}

/* The sender that the frame names, at Ethernet's level and inside an ARP message. */
static bool source_allowed(const struct netdev *netdev, const uint8_t *frame, uint32_t length)
{
    uint32_t at = ETHERTYPE_AT;

    if (netdev->any_source)
        return true;
    if (memcmp(frame + NET_MAC_BYTES, netdev->mac, NET_MAC_BYTES) != 0)
        return false;
    while (at + 6 <= length && load_le16(frame + at) == ETHERTYPE_VLAN && at < 20)
        at += 4;
    if (load_le16(frame + at) != ETHERTYPE_ARP)
        return true;
    at += 2 + ARP_SENDER_AT;
    return at + NET_MAC_BYTES <= length && !memcmp(frame + at, netdev->mac, NET_MAC_BYTES);
}

/* Only what was negotiated; the back end relies on it. */
static bool header_allowed(const struct netdev *netdev, struct net_header *header)
{
    const struct virtio_device *device = &netdev->device;

    header->flags &= NET_NEEDS_CSUM;
    header->num_buffers = 0;
    if (header->flags && !virtio_device_has(device, VIRTIO_NET_F_CSUM))
        return false;
    switch (header->gso_type) {
    case NET_GSO_NONE:
        return true;
    case NET_GSO_TCPV4:
        return header->flags && virtio_device_has(device, VIRTIO_NET_F_HOST_TSO4);
    case NET_GSO_TCPV6:
        return header->flags && virtio_device_has(device, VIRTIO_NET_F_HOST_TSO6);
    default:
        return false;
    }
}

static void transmit(struct netdev *netdev)
{
    struct virtq_chain *chain = &netdev->tx;
    struct {
        struct net_header header;
        uint8_t frame[NETDEV_FRONT_BYTES];
    } front = {0};
    uint32_t bytes = chain->out_bytes, length;
    unsigned nr;

    if (bytes < sizeof(front.header) + NET_ETHERNET_BYTES ||
        bytes > sizeof(front.header) + NET_FRAME_MAX)
        return;
    length = virtq_chain_read(chain, 0, &front, sizeof(front));
    if (!header_allowed(netdev, &front.header) ||
        !source_allowed(netdev, front.frame, length - (uint32_t)sizeof(front.header)))
        return;
    netdev->iov[0] = (struct iovec){&front, length};
    nr = virtq_chain_slice(chain, false, length, bytes - length, netdev->iov + 1,
                           VIRTQ_SEGMENTS_MAX);
    net_send(netdev->net, netdev->iov, nr + 1, bytes);
}

static void serve_transmit(struct netdev *netdev)
{
    struct virtio_device *device = &netdev->device;
    struct virtq *queue = &device->queues[NETDEV_TX];
    unsigned budget = VIRTIO_DEVICE_BURST;

    virtq_quiet(queue);
    do {
        while (budget && virtio_device_pop(device, NETDEV_TX, &netdev->tx)) {
            budget--;
            transmit(netdev);
            virtq_push(queue, &netdev->tx, 0);
        }
        virtio_device_publish(device, NETDEV_TX);
    } while (budget && virtq_listen(queue));
    if (!budget)
        virtio_device_notified(device, NETDEV_TX);
}

static void net_notify(struct virtio_device *device, unsigned queue)
{
    struct netdev *netdev = CONTAINER_OF(device, struct netdev, device);

    if (queue == NETDEV_TX) {
        serve_transmit(netdev);
    } else if (queue == NETDEV_CONTROL) {
        netdev_control(netdev);
    } else if (netdev->receive_stopped) {
        netdev->receive_stopped = false;
        virtq_quiet(&device->queues[NETDEV_RX]);
        net_resume(netdev->net);
    }
}

static void net_activate(struct virtio_device *device)
{
    struct netdev *netdev = CONTAINER_OF(device, struct netdev, device);
    struct net_receiver receiver = {
        .context = netdev, .deliver = deliver, .flush = flush, .link = link_changed};
    bool csum = virtio_device_has(device, VIRTIO_NET_F_GUEST_CSUM);
    struct net_offload offload = {
        .csum = csum,
        .tso4 = csum && virtio_device_has(device, VIRTIO_NET_F_GUEST_TSO4),
        .tso6 = csum && virtio_device_has(device, VIRTIO_NET_F_GUEST_TSO6),
    };

    net_start(netdev->net, &receiver, &offload);
    /* New receive buffers are worth a notification only while a frame waits for them. */
    virtq_quiet(&device->queues[NETDEV_RX]);
}

static void net_reset(struct virtio_device *device)
{
    struct netdev *netdev = CONTAINER_OF(device, struct netdev, device);

    net_stop(netdev->net);
    netdev->receive_stopped = false;
    memcpy(netdev->guest_mac, netdev->mac, NET_MAC_BYTES);
    netdev_filter_reset(netdev);
}

static void net_device_free(struct virtio_device *device)
{
    struct netdev *netdev = CONTAINER_OF(device, struct netdev, device);

    net_free(netdev->net);
    virtio_device_done(device);
    free(netdev);
}

static const struct virtio_class net_class = {
    .name = "net",
    .id = VIRTIO_ID_NET,
    .nr_queues = 3,
    .activate = net_activate,
    .notify = net_notify,
    .reset = net_reset,
    .free = net_device_free,
};

#define NET_FEATURES                                                        \
    (VIRTIO_F(VIRTIO_NET_F_CSUM) | VIRTIO_F(VIRTIO_NET_F_GUEST_CSUM) |      \
     VIRTIO_F(VIRTIO_NET_F_MAC) | VIRTIO_F(VIRTIO_NET_F_GUEST_TSO4) |       \
     VIRTIO_F(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_F(VIRTIO_NET_F_HOST_TSO4) | \
     VIRTIO_F(VIRTIO_NET_F_HOST_TSO6) | VIRTIO_F(VIRTIO_NET_F_MRG_RXBUF) |  \
     VIRTIO_F(VIRTIO_NET_F_STATUS) | VIRTIO_F(VIRTIO_NET_F_CTRL_VQ) |       \
     VIRTIO_F(VIRTIO_NET_F_CTRL_RX) | VIRTIO_F(VIRTIO_NET_F_CTRL_RX_EXTRA))

int virtio_net_new(const struct virtio_host *host, const struct virtio_net_config *config,
                   struct virtio_device **ret, struct err *err)
{
    struct netdev *netdev = calloc(1, sizeof(*netdev));
    struct net_config_space space = {
        .status = net_link(config->net) ? NET_STATUS_LINK : 0,
        .max_virtqueue_pairs = 1,
        .mtu = config->mtu ? config->mtu : net_mtu(config->net),
    };
    uint64_t features = NET_FEATURES;

    if (!netdev)
        return err_set(err, -ENOMEM, "network device: out of memory");
    if (space.mtu)
        features |= VIRTIO_F(VIRTIO_NET_F_MTU);
    if (config->any_source)
        features |= VIRTIO_F(VIRTIO_NET_F_CTRL_MAC_ADDR);
    virtio_device_init(&netdev->device, &net_class, host, features);
    netdev->device.queue_size_max = NET_QUEUE_SIZE;
    memcpy(space.mac, config->mac, NET_MAC_BYTES);
    memcpy(netdev->mac, config->mac, NET_MAC_BYTES);
    memcpy(netdev->guest_mac, config->mac, NET_MAC_BYTES);
    memcpy(netdev->device.config, &space, sizeof(space));
    netdev->device.config_bytes = sizeof(space);
    netdev->any_source = config->any_source;
    netdev->net = config->net;
    netdev_filter_reset(netdev);
    *ret = &netdev->device;
    return 0;
}
