/* SPDX-License-Identifier: Apache-2.0 */
/* rtnetlink(7): one request and its answer at a time. */
#include "oci/net_device.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "oci/spec_read.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESSES_MAX 64

struct request {
    struct nlmsghdr header;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg address;
    };
    char attributes[256];
};

/* One address of a device, as it was given. */
struct address {
    struct ifaddrmsg message;
    unsigned char local[16], peer[16], broadcast[4];
    unsigned length; /* of an address of its family */
    bool has_local, has_broadcast;
};

static bool is_device_name(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length < IFNAMSIZ && !strpbrk(name, "/: \t\n") && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

int net_device_read(const struct json_at *linux_at, struct oci_spec *ret, struct err *err)
{
    struct json_at at, member;
    const char *name;
    json_t *value;
    int result = json_at_member(linux_at, "netDevices", &at, err);

    if (result < 0 || !at.value)
        return result;
    if (!json_is_object(at.value))
        return err_set(err, -EINVAL, "%s: an object is needed", at.path);
    if (!(ret->net_devices = spec_new_list(json_object_size(at.value), sizeof(*ret->net_devices))))
        return err_set(err, -ENOMEM, "%s: out of memory", at.path);
    json_object_foreach(at.value, name, value)
    {
        struct oci_net_device *device = &ret->net_devices[ret->nr_net_devices];

        *device = (struct oci_net_device){name, name};
        if ((result = json_at_member(&at, name, &member, err)) < 0 ||
            (member.value &&
             (result = json_opt_string(&member, "name", &device->new_name, err)) < 0))
            return result;
        if (!device->new_name[0])
            device->new_name = name;
        if (!is_device_name(name) || !is_device_name(device->new_name))
            return err_set(err, -EINVAL, "%s: '%s' is not the name of a network device", at.path,
                           is_device_name(name) ? device->new_name : name);
        ret->nr_net_devices++;
    }
    return 0;
}

static void start_request(struct request *r, int type, int flags, size_t body)
{
    *r = (struct request){.header = {.nlmsg_len = (uint32_t)NLMSG_LENGTH(body),
                                     .nlmsg_type = (uint16_t)type,
                                     .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)}};
}

static void add_attribute(struct request *r, int type, const void *data, size_t length)
{
    struct rtattr *attribute =
        (struct rtattr *)(void *)((char *)r + NLMSG_ALIGN(r->header.nlmsg_len));

    attribute->rta_type = (uint16_t)type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(length);
    memcpy(RTA_DATA(attribute), data, length);
    r->header.nlmsg_len =
        (uint32_t)(NLMSG_ALIGN(r->header.nlmsg_len) + RTA_ALIGN(RTA_LENGTH(length)));
}

/* Sends r and waits for its acknowledgement. */
static int perform(int fd, struct request *r)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char rest[512];
    } answer;
    ssize_t n;

    r->header.nlmsg_flags |= NLM_F_ACK;
    if (send(fd, r, r->header.nlmsg_len, 0) < 0)
        return -errno;
    if ((n = recv(fd, &answer, sizeof(answer), 0)) < 0)
        return -errno;
    if ((size_t)n < sizeof(answer.header) + sizeof(int) || answer.header.nlmsg_type != NLMSG_ERROR)
        return -EPROTO;
    return answer.error.error;
}

/* The C library's macros cast away what compilers check. */
static const struct nlmsghdr *next_message(const struct nlmsghdr *header, size_t *left)
{
    size_t step = MIN(NLMSG_ALIGN((size_t)header->nlmsg_len), *left);

    *left -= step;
    return (const void *)((const char *)header + step);
}

static const struct rtattr *next_attribute(const struct rtattr *attribute, size_t *left)
{
    size_t step = MIN(RTA_ALIGN((size_t)attribute->rta_len), *left);

    *left -= step;
    return (const void *)((const char *)attribute + step);
}

static void take_address(const struct nlmsghdr *header, struct address *ret)
{
    const struct ifaddrmsg *message = NLMSG_DATA(header);
    size_t left = IFA_PAYLOAD(header);

    *ret = (struct address){.message = *message, .length = message->ifa_family == AF_INET ? 4 : 16};
    for (const struct rtattr *a =
             (const void *)((const char *)message + NLMSG_ALIGN(sizeof(*message)));
         RTA_OK(a, left); a = next_attribute(a, &left)) {
        unsigned char *to = a->rta_type == IFA_LOCAL     ? ret->local
                            : a->rta_type == IFA_ADDRESS ? ret->peer
                                                         : NULL;

        if (to && RTA_PAYLOAD(a) == ret->length)
            memcpy(to, RTA_DATA(a), ret->length);
        ret->has_local = ret->has_local || a->rta_type == IFA_LOCAL;
        if (a->rta_type == IFA_BROADCAST && RTA_PAYLOAD(a) == sizeof(ret->broadcast)) {
            memcpy(ret->broadcast, RTA_DATA(a), sizeof(ret->broadcast));
            ret->has_broadcast = true;
        }
    }
}

/* The global addresses of a device. Number of them, or -errno. */
static int list_addresses(int fd, unsigned index, struct address *ret)
{
    CLEANUP(freep) char *data = malloc(65536);
    struct request r;
    int count = 0;

    start_request(&r, RTM_GETADDR, NLM_F_DUMP, sizeof(r.address));
    if (!data)
        return -ENOMEM;
    if (send(fd, &r, r.header.nlmsg_len, 0) < 0)
        return -errno;
    for (;;) {
        ssize_t n = recv(fd, data, 65536, 0);
        size_t left = n > 0 ? (size_t)n : 0;

        if (n <= 0)
            return n < 0 ? -errno : -EPROTO;
        for (const struct nlmsghdr *h = (void *)data; NLMSG_OK(h, left);
             h = next_message(h, &left)) {
            const struct ifaddrmsg *message = NLMSG_DATA(h);

            if (h->nlmsg_type == NLMSG_DONE)
                return count;
            if (h->nlmsg_type != RTM_NEWADDR || message->ifa_index != index ||
                message->ifa_scope != RT_SCOPE_UNIVERSE || !(message->ifa_flags & IFA_F_PERMANENT))
                continue;
            if (count == ADDRESSES_MAX)
                return -E2BIG;
            take_address(h, &ret[count++]);
        }
    }
}

static int add_address(int fd, unsigned index, const struct address *address)
{
    struct request r;

    start_request(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(r.address));
    r.address = address->message;
    r.address.ifa_index = index;
    add_attribute(&r, IFA_LOCAL, address->has_local ? address->local : address->peer,
                  address->length);
    add_attribute(&r, IFA_ADDRESS, address->peer, address->length);
    if (address->has_broadcast)
        add_attribute(&r, IFA_BROADCAST, address->broadcast, sizeof(address->broadcast));
    return perform(fd, &r);
}

/* A netlink socket of another network namespace. -errno. */
static int open_there(int namespace_fd)
{
    CLEANUP(fd_closep) int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int fd, result;

    if (own < 0 || setns(namespace_fd, CLONE_NEWNET) < 0)
        return -errno;
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    result = fd < 0 ? -errno : fd;
    /* The start ends then: nothing of ours may go on in the container's network. */
    if (setns(own, CLONE_NEWNET) < 0) {
        result = -errno;
        if (fd >= 0)
            close(fd);
    }
    return result;
}

static int find_index(int fd, const char *name, unsigned *ret)
{
    CLEANUP(freep) char *data = malloc(65536);
    const struct nlmsghdr *header = (void *)data;
    const struct ifinfomsg *link;
    struct request r;
    ssize_t n;

    if (!data)
        return -ENOMEM;
    start_request(&r, RTM_GETLINK, 0, sizeof(r.link));
    add_attribute(&r, IFLA_IFNAME, name, strlen(name) + 1);
    if (send(fd, &r, r.header.nlmsg_len, 0) < 0 || (n = recv(fd, data, 65536, 0)) < 0)
        return -errno;
    if (!NLMSG_OK(header, (size_t)n) || header->nlmsg_type != RTM_NEWLINK)
        return -ENODEV;
    link = NLMSG_DATA(header);
    *ret = (unsigned)link->ifi_index;
    return 0;
}

static int set_up(int fd, unsigned index)
{
    struct request r;

    start_request(&r, RTM_NEWLINK, 0, sizeof(r.link));
    r.link.ifi_index = (int)index;
    r.link.ifi_flags = r.link.ifi_change = IFF_UP;
    return perform(fd, &r);
}

static int move(const struct oci_net_device *device, int here, int namespace_fd, struct err *err)
{
    CLEANUP(freep) struct address *addresses = calloc(ADDRESSES_MAX, sizeof(*addresses));
    CLEANUP(fd_closep) int there = open_there(namespace_fd);
    unsigned index = 0;
    struct request r;
    int count, result;

    if (!addresses || there < 0)
        return err_errno(err, addresses ? there : -ENOMEM, "linux.netDevices");
    if ((result = find_index(here, device->name, &index)) < 0)
        return err_errno(err, result, "linux.netDevices: device '%s'", device->name);
    if ((count = list_addresses(here, index, addresses)) < 0)
        return err_errno(err, count, "linux.netDevices: addresses of '%s'", device->name);
    start_request(&r, RTM_NEWLINK, 0, sizeof(r.link));
    r.link.ifi_index = (int)index;
    add_attribute(&r, IFLA_NET_NS_FD, &namespace_fd, sizeof(namespace_fd));
    add_attribute(&r, IFLA_IFNAME, device->new_name, strlen(device->new_name) + 1);
    if ((result = perform(here, &r)) < 0)
        return err_errno(err, result, "linux.netDevices: move '%s' (as '%s')", device->name,
                         device->new_name);
    if ((result = find_index(there, device->new_name, &index)) < 0)
        return err_errno(err, result, "linux.netDevices: '%s' in the container", device->new_name);
    for (int i = 0; i < count && result == 0; i++)
        result = add_address(there, index, &addresses[i]);
    if (result == 0)
        result = set_up(there, index);
    return result < 0 ? err_errno(err, result, "linux.netDevices: set up '%s'", device->new_name)
                      : 0;
}

int net_device_move_all(const struct oci_spec *spec, int namespace_fd, struct err *err)
{
    CLEANUP(fd_closep) int here = -1;
    int result = 0;

    if (!spec->nr_net_devices)
        return 0;
    here = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (here < 0)
        return err_errno(err, -errno, "linux.netDevices");
    for (size_t i = 0; i < spec->nr_net_devices && result == 0; i++)
        result = move(&spec->net_devices[i], here, namespace_fd, err);
    return result;
}
