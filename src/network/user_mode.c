/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network for a container without rights: a tap in its network namespace, and this process, which
 * stays in the host's and carries frames between the tap and a user-mode TCP/IP stack (net/net.h).
 *
 *      container ── eth0 (tap) ── descriptor ── this process: net tap ⇄ net user ── host's sockets
 *
 * A child enters the container's namespaces, makes the tap and hands its descriptor over; the
 * process that serves never enters them, and confines itself before the first frame (user_jail.c).
 * It ends with the container's first process. Frames that find no room are dropped, as on a wire.
 * One thread.
 */
#include "network/internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fdpass.h"
#include "base/loop.h"
#include "base/util.h"
#include "net/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define USER_MODE_MTU  32768u /* as the stack's own (net/user.c) */
#define USER_MODE_NAME "eth0"
#define PORT_TRY_NS    (2 * NS_PER_S)
#define PORT_TRY_US    20000

struct carrier {
    struct loop *loop;
    struct net *tap, *user;
    struct loop_fd *end_watch;
};

/* --- in the child: inside the container's namespaces --- */

static int set_up_interface(void)
{
    CLEANUP(fd_closep) int rtnl = rtnl_open(-1);
    uint32_t address = htonl(NET_USER_GUEST), gateway = htonl(NET_USER_GATEWAY);
    int index, r;

    if (rtnl < 0)
        return rtnl;
    index = rtnl_index(rtnl, USER_MODE_NAME);
    if ((r = rtnl_set(rtnl, rtnl_index(rtnl, "lo"), 0, 0)) < 0 ||
        (r = rtnl_set(rtnl, index, USER_MODE_MTU, 0)) < 0 ||
        (r = rtnl_address_add(rtnl, index, AF_INET, &address, 24)) < 0)
        return r;
    return rtnl_default_route(rtnl, index, AF_INET, &gateway);
}

static int join(pid_t pid, const char *kind, int flag)
{
    CLEANUP(fd_closep) int fd = -1, own = -1;
    struct stat theirs, ours;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kind);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return -errno;
    snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
    own = open(path, O_RDONLY | O_CLOEXEC);
    /* A container without a user namespace of its own has ours. */
    if (own >= 0 && fstat(fd, &theirs) == 0 && fstat(own, &ours) == 0 &&
        theirs.st_ino == ours.st_ino)
        return flag == CLONE_NEWNET ? -EINVAL : 0;
    return setns(fd, flag) < 0 ? -errno : 0;
}

/* The tap's descriptor, or -errno; *ret_what: what failed. */
static int make_tap(pid_t pid, const char **ret_what)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
                            .ifr_name = USER_MODE_NAME};
    CLEANUP(fd_closep) int fd = -1;
    int r;

    *ret_what = "enter the container's user namespace";
    if ((r = join(pid, "user", CLONE_NEWUSER)) < 0)
        return r;
    *ret_what = "enter the container's network namespace";
    if ((r = join(pid, "net", CLONE_NEWNET)) < 0)
        return r;
    *ret_what = "make a tap interface with /dev/net/tun";
    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
        return -errno;
    *ret_what = "set up the container's interface";
    return (r = set_up_interface()) < 0 ? r : TAKE_FD(fd);
}

static _Noreturn void child_main(pid_t pid, int socket)
{
    const char *what;
    int fd = make_tap(pid, &what);
    char text[256] = "";

    if (fd < 0)
        snprintf(text, sizeof(text), "%s: %s", what, strerror(-fd));
    fdpass_send(socket, text, strlen(text) + 1, fd < 0 ? -1 : fd);
    _exit(0);
}

static int fetch_tap(pid_t pid, int *ret, struct err *err)
{
    char text[256] = "";
    int ends[2], fd = -1;
    pid_t child;
    ssize_t n;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_errno(err, -errno, "socket");
    if ((child = fork()) == 0)
        child_main(pid, ends[1]);
    close(ends[1]);
    n = child < 0 ? -errno : fdpass_receive(ends[0], text, sizeof(text) - 1, &fd);
    close(ends[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    if (fd >= 0) {
        *ret = fd;
        return 0;
    }
    return err_set(err, -EIO, "user-mode network: %s", n > 1 ? text : "its child failed");
}

/* --- frames --- */

static bool carry(struct net *to, const struct net_header *header, const void *frame, size_t length)
{
    struct net_header copy = *header;
    struct iovec iov[] = {{.iov_base = &copy, .iov_len = sizeof(copy)},
                          {.iov_base = (void *)(uintptr_t)frame, .iov_len = length}};

    copy.num_buffers = 0;
    net_send(to, iov, 2, sizeof(copy) + length);
    return true;
}

static bool from_tap(void *context, const struct net_header *header, const void *frame,
                     size_t length)
{
    return carry(((struct carrier *)context)->user, header, frame, length);
}

static bool from_user(void *context, const struct net_header *header, const void *frame,
                      size_t length)
{
    return carry(((struct carrier *)context)->tap, header, frame, length);
}

static void flushed(void *context)
{
    (void)context;
}

static void tap_link(void *context, bool up)
{
    struct carrier *c = context;

    if (!up)
        loop_stop(c->loop);
}

static void user_link(void *context, bool up)
{
    (void)context;
    (void)up;
}

static void ended(void *context, uint32_t events)
{
    struct carrier *c = context;

    (void)events;
    loop_stop(c->loop);
}

static void carrier_done(struct carrier *c)
{
    if (c->tap)
        net_stop(c->tap);
    if (c->user)
        net_stop(c->user);
    net_free(c->tap);
    net_free(c->user);
    loop_fd_remove(c->end_watch);
    loop_free(c->loop);
}

/* A published port may still be held by the process of a container that has only just ended. */
static int open_stack(struct carrier *c, const struct net_user_options *options, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + PORT_TRY_NS;
    int r;

    while ((r = net_open_user(options, c->loop, &c->user, err)) == -EADDRINUSE &&
           clock_monotonic_ns() < deadline_ns)
        usleep(PORT_TRY_US);
    return r;
}

static int carrier_open(struct carrier *c, pid_t pid, int end_fd,
                        const struct net_user_options *options, struct err *err)
{
    struct net_offload offload = {.csum = true, .tso4 = true};
    struct net_receiver of_tap = {
        .context = c, .deliver = from_tap, .flush = flushed, .link = tap_link};
    struct net_receiver of_user = {
        .context = c, .deliver = from_user, .flush = flushed, .link = user_link};
    int tap_fd = -1, r;

    if ((r = loop_new(&c->loop, err)) < 0 ||
        (r = loop_fd_add(c->loop, end_fd, EPOLLIN, ended, c, &c->end_watch, err)) < 0 ||
        (r = open_stack(c, options, err)) < 0 || (r = fetch_tap(pid, &tap_fd, err)) < 0 ||
        (r = net_adopt_tap(tap_fd, USER_MODE_MTU, c->loop, &c->tap, err)) < 0)
        return r;
    net_start(c->tap, &of_tap, &offload);
    net_start(c->user, &of_user, &offload);
    return 0;
}

int network_user_serve(pid_t pid, const struct net_user_options *options, int ready_fd,
                       struct err *err)
{
    CLEANUP(fd_closep) int end_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct carrier c = {0};
    int r;

    if (end_fd < 0)
        return err_errno(err, -errno, "user-mode network: process %d", (int)pid);
    if ((r = carrier_open(&c, pid, end_fd, options, err)) == 0 &&
        (r = user_jail_enter(net_host_resolver() == 0, err)) == 0) {
        (void)!write(ready_fd, "", 1);
        close(ready_fd);
        r = loop_run(c.loop);
    }
    carrier_done(&c);
    return r;
}

void network_user_resolv_conf(char *ret, size_t size)
{
    net_resolv_conf(ret, size);
}

int network_user_forward(const char *text, struct buf *to, struct err *err)
{
    char address[INET_ADDRSTRLEN];
    struct net_forward port;
    struct in_addr host;
    int r = network_port_parse(text, &port, err);

    if (r < 0)
        return r;
    if (port.host_is6)
        return err_set(err, -EOPNOTSUPP, "-p %s: a user-mode network is IPv4 alone", text);
    host.s_addr = htonl(port.host_address);
    inet_ntop(AF_INET, &host, address, sizeof(address));
    return buf_printf(to, ",hostfwd=%s:%s:%u-:%u", port.udp ? "udp" : "tcp", address,
                      port.host_port, port.guest_port);
}
