/* SPDX-License-Identifier: Apache-2.0 */
/* The few rtnetlink(7) requests that bridges and their ports need. Each waits for its answer. */
#include "network/internal.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#define MESSAGE_MAX 1024

struct message {
    union {
        struct nlmsghdr header;
        uint8_t bytes[MESSAGE_MAX];
    };
};

static void start(struct message *m, uint16_t type, uint16_t flags, const void *body, size_t size)
{
    memset(m, 0, sizeof(*m));
    m->header.nlmsg_type = type;
    m->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    m->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(size);
    memcpy(NLMSG_DATA(&m->header), body, size);
}

/* Everything here fits by far; what would not is left out and makes the kernel refuse. */
static struct rtattr *add(struct message *m, uint16_t type, const void *data, size_t size)
{
    size_t at = NLMSG_ALIGN(m->header.nlmsg_len);
    struct rtattr *attribute = (struct rtattr *)(void *)(m->bytes + at);

    if (at + RTA_SPACE(size) > sizeof(m->bytes))
        return attribute;
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    if (size)
        memcpy(RTA_DATA(attribute), data, size);
    m->header.nlmsg_len = (uint32_t)(at + RTA_ALIGN(attribute->rta_len));
    return attribute;
}

static void add_string(struct message *m, uint16_t type, const char *text)
{
    add(m, type, text, strlen(text) + 1);
}

static void add_u32(struct message *m, uint16_t type, uint32_t value)
{
    add(m, type, &value, sizeof(value));
}

static void end(struct message *m, struct rtattr *nest)
{
    nest->rta_len = (uint16_t)(m->bytes + m->header.nlmsg_len - (uint8_t *)nest);
}

/* The answer's error; *ret_index: of a link that it describes. */
static int talk(int rtnl, struct message *m, int *ret_index)
{
    union {
        struct nlmsghdr header;
        uint8_t bytes[16384];
    } answer;
    ssize_t n;

    if (send(rtnl, m->bytes, m->header.nlmsg_len, 0) < 0)
        return -errno;
    for (;;) {
        n = recv(rtnl, &answer, sizeof(answer), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        for (size_t at = 0; at + NLMSG_HDRLEN <= (size_t)n;) {
            const struct nlmsghdr *h = (const void *)(answer.bytes + at);
            const void *body = answer.bytes + at + NLMSG_HDRLEN;

            if (h->nlmsg_len < NLMSG_HDRLEN || h->nlmsg_len > (size_t)n - at)
                return -EBADMSG;
            if (h->nlmsg_type == NLMSG_ERROR)
                return ((const struct nlmsgerr *)body)->error;
            if (h->nlmsg_type == RTM_NEWLINK && ret_index)
                *ret_index = ((const struct ifinfomsg *)body)->ifi_index;
            at += NLMSG_ALIGN(h->nlmsg_len);
        }
    }
}

int rtnl_open(int netns_fd)
{
    CLEANUP(fd_closep) int ours = -1;
    int fd, r;

    if (netns_fd >= 0) {
        ours = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (ours < 0 || setns(netns_fd, CLONE_NEWNET))
            return -errno;
    }
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    r = fd < 0 ? -errno : fd;
    if (ours >= 0 && setns(ours, CLONE_NEWNET)) {
        r = -errno;
        fd_closep(&fd);
    }
    return r;
}

int rtnl_index(int rtnl, const char *name)
{
    struct ifinfomsg body = {.ifi_family = AF_UNSPEC};
    struct message m;
    int index = 0;

    start(&m, RTM_GETLINK, 0, &body, sizeof(body));
    add_string(&m, IFLA_IFNAME, name);
    return talk(rtnl, &m, &index) < 0 ? 0 : index;
}

int rtnl_bridge_add(int rtnl, const char *name)
{
    struct ifinfomsg body = {.ifi_family = AF_UNSPEC};
    struct rtattr *info;
    struct message m;

    start(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof(body));
    add_string(&m, IFLA_IFNAME, name);
    info = add(&m, IFLA_LINKINFO, NULL, 0);
    add_string(&m, IFLA_INFO_KIND, "bridge");
    end(&m, info);
    return talk(rtnl, &m, NULL);
}

int rtnl_veth_add(int rtnl, const char *name, const char *guest_name, int netns_fd,
                  const uint8_t mac[NET_MAC_BYTES], unsigned mtu)
{
    struct ifinfomsg body = {.ifi_family = AF_UNSPEC};
    struct rtattr *info, *data, *peer;
    struct message m;

    start(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof(body));
    add_string(&m, IFLA_IFNAME, name);
    add_u32(&m, IFLA_MTU, mtu);
    info = add(&m, IFLA_LINKINFO, NULL, 0);
    add_string(&m, IFLA_INFO_KIND, "veth");
    data = add(&m, IFLA_INFO_DATA, NULL, 0);
    peer = add(&m, VETH_INFO_PEER, &body, sizeof(body));
    add_string(&m, IFLA_IFNAME, guest_name);
    add(&m, IFLA_ADDRESS, mac, NET_MAC_BYTES);
    add_u32(&m, IFLA_MTU, mtu);
    add_u32(&m, IFLA_NET_NS_FD, (uint32_t)netns_fd);
    end(&m, peer);
    end(&m, data);
    end(&m, info);
    return talk(rtnl, &m, NULL);
}

int rtnl_delete(int rtnl, int index)
{
    struct ifinfomsg body = {.ifi_family = AF_UNSPEC, .ifi_index = index};
    struct message m;

    start(&m, RTM_DELLINK, 0, &body, sizeof(body));
    return talk(rtnl, &m, NULL);
}

int rtnl_set(int rtnl, int index, unsigned mtu, int master)
{
    struct ifinfomsg body = {
        .ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    struct message m;

    start(&m, RTM_NEWLINK, 0, &body, sizeof(body));
    if (mtu)
        add_u32(&m, IFLA_MTU, mtu);
    if (master)
        add_u32(&m, IFLA_MASTER, (uint32_t)master);
    return talk(rtnl, &m, NULL);
}

static size_t address_bytes(int family)
{
    return family == AF_INET ? 4 : 16;
}

int rtnl_address_add(int rtnl, int index, int family, const void *address, unsigned bits)
{
    struct ifaddrmsg body = {.ifa_family = (uint8_t)family,
                             .ifa_prefixlen = (uint8_t)bits,
                             .ifa_index = (uint32_t)index,
                             .ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0};
    struct message m;

    start(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof(body));
    add(&m, IFA_LOCAL, address, address_bytes(family));
    add(&m, IFA_ADDRESS, address, address_bytes(family));
    return talk(rtnl, &m, NULL);
}

int rtnl_default_route(int rtnl, int index, int family, const void *gateway)
{
    struct rtmsg body = {.rtm_family = (uint8_t)family,
                         .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_BOOT,
                         .rtm_scope = RT_SCOPE_UNIVERSE,
                         .rtm_type = RTN_UNICAST};
    struct message m;

    start(&m, RTM_NEWROUTE, NLM_F_CREATE, &body, sizeof(body));
    add(&m, RTA_GATEWAY, gateway, address_bytes(family));
    add_u32(&m, RTA_OIF, (uint32_t)index);
    return talk(rtnl, &m, NULL);
}
