/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tap back end: one descriptor of /dev/net/tun with the virtio header in front of each frame
 * (IFF_VNET_HDR), so that checksums and segmentation are left to whoever is behind the interface,
 * often to nobody.
 *
 * Frames go out by one writev straight from guest memory. Frames come in by one read into a buffer
 * here, because their size is not known before and the guest's buffers are small; one frame that
 * the guest had no room for is held, and then nothing more is read: the kernel's queue fills and
 * drops, as a wire does.
 */
#include "net/net_driver.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAP_BATCH 64 /* frames read in one go */

struct tap {
    struct net net;
    struct loop *loop;
    struct loop_fd *watch;
    int fd;
    size_t held; /* bytes in the buffer that the guest had no room for */
    uint8_t buffer[sizeof(struct net_header) + NET_FRAME_MAX];
};

/* The interface went away (ip link delete). */
static void gone(struct tap *tap)
{
    loop_fd_remove(tap->watch);
    tap->watch = NULL;
    tap->net.link = false;
    tap->held = 0;
    tap->net.receiver.link(tap->net.receiver.context, false);
}

static bool pass(struct tap *tap, size_t length)
{
    struct net *net = &tap->net;
    struct net_header header;

    memcpy(&header, tap->buffer, sizeof(header));
    if (!net->receiver.deliver(net->receiver.context, &header, tap->buffer + sizeof(header),
                               length - sizeof(header)))
        return false;
    net->counters.received_frames++;
    net->counters.received_bytes += length - sizeof(header);
    return true;
}

static void receive(struct tap *tap)
{
    unsigned budget = TAP_BATCH;

    while (tap->net.started && budget--) {
        ssize_t n = read(tap->fd, tap->buffer, sizeof(tap->buffer));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            gone(tap);
            return;
        }
        if (n < 0)
            break;
        if ((size_t)n < sizeof(struct net_header) + NET_ETHERNET_BYTES)
            continue;
        if (!pass(tap, (size_t)n)) {
            tap->held = (size_t)n;
            loop_fd_set_events(tap->watch, 0);
            break;
        }
    }
    tap->net.receiver.flush(tap->net.receiver.context);
}

static void on_event(void *context, uint32_t events)
{
    struct tap *tap = context;

    if (!tap->net.started)
        return;
    if ((events & EPOLLERR) && !(events & EPOLLIN)) {
        gone(tap);
        return;
    }
    receive(tap);
}

static void tap_start(struct net *net, const struct net_offload *offload)
{
    struct tap *tap = CONTAINER_OF(net, struct tap, net);
    unsigned long flags = (offload->csum ? TUN_F_CSUM : 0) |
                          (offload->csum && offload->tso4 ? TUN_F_TSO4 : 0) |
                          (offload->csum && offload->tso6 ? TUN_F_TSO6 : 0);

    /* A kernel that refuses hands over finished frames only, which is always right. */
    (void)!ioctl(tap->fd, TUNSETOFFLOAD, flags);
    tap->held = 0;
    if (tap->watch)
        loop_fd_set_events(tap->watch, EPOLLIN);
}

static void tap_stop(struct net *net)
{
    struct tap *tap = CONTAINER_OF(net, struct tap, net);

    tap->held = 0;
    if (tap->watch)
        loop_fd_set_events(tap->watch, 0);
}

static void tap_resume(struct net *net)
{
    struct tap *tap = CONTAINER_OF(net, struct tap, net);

    if (!tap->held || !tap->watch || !pass(tap, tap->held))
        return;
    tap->held = 0;
    net->receiver.flush(net->receiver.context);
    loop_fd_set_events(tap->watch, EPOLLIN);
}

static bool tap_send(struct net *net, const struct iovec *iov, unsigned nr, size_t bytes)
{
    struct tap *tap = CONTAINER_OF(net, struct tap, net);
    ssize_t n;

    (void)bytes;
    do
        n = writev(tap->fd, iov, (int)nr);
    while (n < 0 && errno == EINTR);
    return n >= 0;
}

static void tap_free(struct net *net)
{
    struct tap *tap = CONTAINER_OF(net, struct tap, net);

    loop_fd_remove(tap->watch);
    if (tap->fd >= 0)
        close(tap->fd);
    free(tap);
}

static const struct net_driver tap_driver = {
    .start = tap_start,
    .stop = tap_stop,
    .resume = tap_resume,
    .send = tap_send,
    .free = tap_free,
};

static uint16_t interface_mtu(const char *name)
{
    CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {0};

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (fd < 0 || ioctl(fd, SIOCGIFMTU, &request) < 0 || request.ifr_mtu < 68 ||
        request.ifr_mtu > UINT16_MAX)
        return 0;
    return (uint16_t)request.ifr_mtu;
}

static int configure(struct tap *tap, const char *name, struct err *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int header_bytes = sizeof(struct net_header);

    if (!*name || strlen(name) >= sizeof(request.ifr_name) || strchr(name, '%'))
        return err_set(err, -EINVAL, "'%s' is no name of an interface (1 to 15 characters)", name);
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    tap->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (tap->fd < 0)
        return err_errno(err, -errno, "tap '%s': open /dev/net/tun", name);
    if (ioctl(tap->fd, TUNSETIFF, &request) < 0)
        return err_errno(err, -errno,
                         errno == EPERM ? "tap '%s': the interface is missing or another user's "
                                          "(ip tuntap add %s mode tap vnet_hdr user ...)"
                         : errno == EBUSY
                             ? "tap '%s': another process uses %s"
                             : "tap '%s': attach to %s (a tap interface with vnet_hdr is needed)",
                         name, name);
    if (ioctl(tap->fd, TUNSETVNETHDRSZ, &header_bytes) < 0)
        return err_errno(err, -errno, "tap '%s': set the header's size", name);
    tap->net.mtu = interface_mtu(name);
    return 0;
}

int net_adopt_tap(int fd, unsigned mtu, struct loop *loop, struct net **ret, struct err *err)
{
    CLEANUP(net_freep) struct net *net = NULL;
    struct tap *tap = calloc(1, sizeof(*tap));
    int header_bytes = sizeof(struct net_header), r;

    if (!tap) {
        close(fd);
        return err_set(err, -ENOMEM, "tap: out of memory");
    }
    tap->net = (struct net){.driver = &tap_driver, .link = true, .mtu = (uint16_t)mtu};
    tap->loop = loop;
    tap->fd = fd;
    net = &tap->net;
    if (ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0)
        return err_errno(err, -errno, "tap: set the header's size");
    if ((r = loop_fd_add(loop, fd, 0, on_event, tap, &tap->watch, err)) < 0)
        return r;
    *ret = TAKE_PTR(net);
    return 0;
}

int net_open_tap(const char *name, struct loop *loop, struct net **ret, struct err *err)
{
    CLEANUP(net_freep) struct net *net = NULL;
    struct tap *tap = calloc(1, sizeof(*tap));
    int r;

    if (!tap)
        return err_set(err, -ENOMEM, "tap '%s': out of memory", name);
    tap->net.driver = &tap_driver;
    tap->net.link = true;
    tap->loop = loop;
    tap->fd = -1;
    net = &tap->net;
    if ((r = configure(tap, name, err)) < 0 ||
        (r = loop_fd_add(loop, tap->fd, 0, on_event, tap, &tap->watch, err)) < 0)
        return r;
    *ret = TAKE_PTR(net);
    return 0;
}
