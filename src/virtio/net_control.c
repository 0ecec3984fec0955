/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device's control queue (virtio 1.2 5.1.6.5): which frames the driver wants, and its
 * own address where the host lets it choose. A command that is unknown or malformed is answered by
 * an error and changes nothing.
 */
#include "virtio/net_device.h"

#include "base/util.h"

#include <string.h>

#define CONTROL_OK  0
#define CONTROL_ERR 1

#define CONTROL_RX                0
#define CONTROL_RX_PROMISC        0
#define CONTROL_RX_ALLMULTI       1
#define CONTROL_RX_ALLUNI         2
#define CONTROL_RX_NOMULTI        3
#define CONTROL_RX_NOUNI          4
#define CONTROL_RX_NOBCAST        5
#define CONTROL_MAC               1
#define CONTROL_MAC_TABLE_SET     0
#define CONTROL_MAC_ADDR_SET      1
#define CONTROL_TABLE_ENTRIES_MAX (UINT32_C(1) << 16)

void netdev_filter_reset(struct netdev *netdev)
{
    netdev->filter = (struct netdev_filter){.promiscuous = true};
}

static bool listed(const uint8_t (*macs)[NET_MAC_BYTES], unsigned nr, const uint8_t *mac)
{
    for (unsigned i = 0; i < nr; i++)
        if (!memcmp(macs[i], mac, NET_MAC_BYTES))
            return true;
    return false;
}

bool netdev_filter_accepts(const struct netdev *netdev, const uint8_t *frame)
{
    static const uint8_t broadcast[NET_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const struct netdev_filter *filter = &netdev->filter;

    if (filter->promiscuous)
        return true;
    if (!memcmp(frame, broadcast, NET_MAC_BYTES))
        return !filter->no_broadcast;
    if (frame[0] & 1)
        return !filter->no_multicast && (filter->all_multicast || filter->multicast_overflow ||
                                         listed(filter->multicast, filter->nr_multicast, frame));
    return !filter->no_unicast && (filter->all_unicast || filter->unicast_overflow ||
                                   !memcmp(frame, netdev->guest_mac, NET_MAC_BYTES) ||
                                   listed(filter->unicast, filter->nr_unicast, frame));
}

static bool set_mode(struct netdev *netdev, uint8_t command)
{
    struct netdev_filter *filter = &netdev->filter;
    bool *const modes[] = {
        [CONTROL_RX_PROMISC] = &filter->promiscuous, [CONTROL_RX_ALLMULTI] = &filter->all_multicast,
        [CONTROL_RX_ALLUNI] = &filter->all_unicast,  [CONTROL_RX_NOMULTI] = &filter->no_multicast,
        [CONTROL_RX_NOUNI] = &filter->no_unicast,    [CONTROL_RX_NOBCAST] = &filter->no_broadcast,
    };
    uint8_t on;

    if (command >= ARRAY_LEN(modes) || virtq_chain_read(&netdev->control, 2, &on, 1) != 1 || on > 1)
        return false;
    *modes[command] = on;
    return true;
}

/* One table: le32 count, then the addresses. Advances *at. */
static bool read_table(const struct virtq_chain *chain, uint32_t *at, unsigned *ret_nr,
                       bool *ret_overflow, uint8_t (*ret)[NET_MAC_BYTES])
{
    uint32_t count, bytes;

    if (virtq_chain_read(chain, *at, &count, sizeof(count)) != sizeof(count) ||
        count > CONTROL_TABLE_ENTRIES_MAX)
        return false;
    *at += (uint32_t)sizeof(count);
    bytes = count * NET_MAC_BYTES;
    if (!range_fits(*at, bytes, chain->out_bytes))
        return false;
    *ret_overflow = count > NETDEV_MACS_MAX;
    *ret_nr = *ret_overflow ? 0 : count;
    virtq_chain_read(chain, *at, ret, *ret_nr * NET_MAC_BYTES);
    *at += bytes;
    return true;
}

static bool set_tables(struct netdev *netdev)
{
    struct netdev_filter new = netdev->filter;
    uint32_t at = 2;

    if (!read_table(&netdev->control, &at, &new.nr_unicast, &new.unicast_overflow, new.unicast) ||
        !read_table(&netdev->control, &at, &new.nr_multicast, &new.multicast_overflow,
                    new.multicast))
        return false;
    netdev->filter = new;
    return true;
}

static bool set_address(struct netdev *netdev)
{
    uint8_t mac[NET_MAC_BYTES];

    if (virtq_chain_read(&netdev->control, 2, mac, sizeof(mac)) != sizeof(mac) || (mac[0] & 1))
        return false;
    if (!netdev->any_source && memcmp(mac, netdev->mac, sizeof(mac)) != 0)
        return false;
    memcpy(netdev->guest_mac, mac, sizeof(mac));
    virtio_device_set_config(&netdev->device, 0, mac, sizeof(mac));
    return true;
}

static bool execute(struct netdev *netdev)
{
    uint8_t command[2];

    if (virtq_chain_read(&netdev->control, 0, command, sizeof(command)) != sizeof(command))
        return false;
    if (command[0] == CONTROL_RX)
        return set_mode(netdev, command[1]);
    if (command[0] == CONTROL_MAC && command[1] == CONTROL_MAC_TABLE_SET)
        return set_tables(netdev);
    if (command[0] == CONTROL_MAC && command[1] == CONTROL_MAC_ADDR_SET)
        return set_address(netdev);
    return false;
}

void netdev_control(struct netdev *netdev)
{
    struct virtio_device *device = &netdev->device;
    struct virtq *queue = &device->queues[NETDEV_CONTROL];
    unsigned budget = VIRTIO_DEVICE_BURST;

    do {
        while (budget && virtio_device_pop(device, NETDEV_CONTROL, &netdev->control)) {
            uint8_t answer;

            budget--;
            if (netdev->control.in_bytes == 0) {
                virtio_device_fail(device, "control command without room for an answer");
                return;
            }
            answer = execute(netdev) ? CONTROL_OK : CONTROL_ERR;
            virtq_chain_write(&netdev->control, 0, &answer, 1);
            virtq_push(queue, &netdev->control, 1);
        }
        virtio_device_publish(device, NETDEV_CONTROL);
    } while (budget && virtq_listen(queue));
    if (!budget)
        virtio_device_notified(device, NETDEV_CONTROL);
}
