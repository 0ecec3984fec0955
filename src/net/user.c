/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user-mode back end: libslirp, a TCP/IP stack that turns the guest's connections into sockets
 * of this process. The library is loaded when the first such back end is opened, so that a monitor
 * without one carries nothing of it.
 *
 *   frame of the guest --net_send--> slirp_input --> sockets of the host
 *   sockets --loop watch--> `poll` --> slirp_pollfds_poll --send_packet--> frame for the guest
 *
 * After each piece of work `refresh` asks the library which descriptors it waits for and until
 * when, and changes the loop's watches accordingly. Large segments go through whole, and checksums
 * are made here, natively, rather than by the guest. Frames that the guest has no room for wait in
 * a ring of USER_HELD_MAX; what finds no place there is lost, and TCP sends it again.
 *
 * The host's loopback addresses are out of the guest's reach unless host_loopback says otherwise.
 * Threads: the loop's thread. IPv4 only.
 */
#include "net/net_driver.h"
#include "net/resolver.h"

#include "base/clock.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <string.h>

#define USER_LIBRARY  "libslirp.so.0"
#define USER_MTU      32768u
#define USER_HELD_MAX 64u
#define USER_FDS_MAX  4096

struct library {
    Slirp *(*new)(const SlirpConfig *, const SlirpCb *, void *);
    void (*cleanup)(Slirp *);
    void (*input)(Slirp *, const uint8_t *, int);
    void (*fill)(Slirp *, uint32_t *, SlirpAddPollCb, void *);
    void (*poll)(Slirp *, int, SlirpGetREventsCb, void *);
    int (*forward)(Slirp *, int, struct in_addr, int, struct in_addr, int);
};

struct user_watch {
    struct user *user;
    struct loop_fd *watch;
    unsigned round; /* of the last refresh that wanted it */
    uint32_t seen;  /* events since the last poll */
};

struct held {
    uint8_t *frame;
    size_t length;
};

struct user {
    struct net net;
    struct loop *loop;
    void *handle;
    struct library library;
    Slirp *slirp;
    bool host_loopback, csum;
    unsigned round;
    struct user_watch *watches[USER_FDS_MAX]; /* by descriptor */
    int fd_end;                               /* one past the highest ever watched */
    struct loop_call poll_call, refresh_call;
    struct loop_timer *timer;
    struct held held[USER_HELD_MAX];
    unsigned held_first, nr_held;
    bool delivered;
    uint8_t frame[NET_FRAME_MAX];
};

struct user_timer {
    struct loop_timer *timer;
    SlirpTimerCb fn;
    void *context;
};

static void refresh(void *context);

static bool pass(struct user *user, const void *frame, size_t length)
{
    struct net *net = &user->net;
    struct net_header header = {.flags = user->csum ? NET_DATA_VALID : 0, .num_buffers = 1};

    if (!net->receiver.deliver(net->receiver.context, &header, frame, length))
        return false;
    user->delivered = true;
    net->counters.received_frames++;
    net->counters.received_bytes += length;
    return true;
}

static void flush(struct user *user)
{
    if (user->delivered && user->net.started)
        user->net.receiver.flush(user->net.receiver.context);
    user->delivered = false;
}

static void hold(struct user *user, const void *frame, size_t length)
{
    struct held *slot = &user->held[(user->held_first + user->nr_held) % USER_HELD_MAX];

    if (user->nr_held == USER_HELD_MAX || !(slot->frame = malloc(length))) {
        user->net.counters.dropped++;
        return;
    }
    memcpy(slot->frame, frame, length);
    slot->length = length;
    user->nr_held++;
}

static void drop_held(struct user *user)
{
    for (; user->nr_held; user->nr_held--) {
        free(user->held[user->held_first].frame);
        user->held_first = (user->held_first + 1) % USER_HELD_MAX;
    }
}

static void user_resume(struct net *net)
{
    struct user *user = CONTAINER_OF(net, struct user, net);

    while (user->nr_held) {
        struct held *slot = &user->held[user->held_first];

        if (!pass(user, slot->frame, slot->length))
            break;
        free(slot->frame);
        user->held_first = (user->held_first + 1) % USER_HELD_MAX;
        user->nr_held--;
    }
    flush(user);
}

/* The library's callbacks. */
static ssize_t on_send_packet(const void *frame, size_t length, void *context)
{
    struct user *user = context;

    if (!user->net.started || length < NET_ETHERNET_BYTES || length > NET_FRAME_MAX)
        return (ssize_t)length;
    if (user->nr_held || !pass(user, frame, length))
        hold(user, frame, length);
    return (ssize_t)length;
}

static void on_guest_error(const char *message, void *context)
{
    (void)message;
    (void)context;
}

static int64_t on_clock(void *context)
{
    (void)context;
    return (int64_t)clock_monotonic_ns();
}

static void timer_fired(void *context)
{
    struct user_timer *timer = context;

    timer->fn(timer->context);
}

static void *on_timer_new(SlirpTimerCb fn, void *fn_context, void *context)
{
    struct user *user = context;
    struct user_timer *timer = calloc(1, sizeof(*timer));

    if (!timer)
        return NULL;
    *timer = (struct user_timer){.fn = fn, .context = fn_context};
    if (loop_timer_new(user->loop, timer_fired, timer, &timer->timer, NULL) < 0) {
        free(timer);
        return NULL;
    }
    return timer;
}

static void on_timer_free(void *opaque, void *context)
{
    struct user_timer *timer = opaque;

    (void)context;
    if (!timer)
        return;
    loop_timer_free(timer->timer);
    free(timer);
}

static void on_timer_mod(void *opaque, int64_t expire_ms, void *context)
{
    struct user_timer *timer = opaque;

    (void)context;
    if (timer)
        loop_timer_arm(timer->timer, (uint64_t)MAX(expire_ms, 1) * NS_PER_MS);
}

static void watch_drop(struct user *user, int fd)
{
    struct user_watch *watch = fd >= 0 && fd < USER_FDS_MAX ? user->watches[fd] : NULL;

    if (!watch)
        return;
    loop_fd_remove(watch->watch);
    user->watches[fd] = NULL;
    free(watch);
}

static void on_register(int fd, void *context)
{
    (void)fd;
    (void)context;
}

/* Before the library closes it. */
static void on_unregister(int fd, void *context)
{
    watch_drop(context, fd);
}

static void on_notify(void *context)
{
    struct user *user = context;

    loop_post(user->loop, &user->refresh_call);
}

static const SlirpCb callbacks = {
    .send_packet = on_send_packet,
    .guest_error = on_guest_error,
    .clock_get_ns = on_clock,
    .timer_new = on_timer_new,
    .timer_free = on_timer_free,
    .timer_mod = on_timer_mod,
    .register_poll_fd = on_register,
    .unregister_poll_fd = on_unregister,
    .notify = on_notify,
};

static void on_event(void *context, uint32_t events)
{
    struct user_watch *watch = context;

    watch->seen |= events;
    loop_post(watch->user->loop, &watch->user->poll_call);
}

static int add_poll(int fd, int events, void *context)
{
    struct user *user = context;
    struct user_watch *watch;
    uint32_t wanted = (events & SLIRP_POLL_IN ? EPOLLIN : 0u) |
                      (events & SLIRP_POLL_OUT ? EPOLLOUT : 0u) |
                      (events & SLIRP_POLL_PRI ? EPOLLPRI : 0u);

    if (fd < 0 || fd >= USER_FDS_MAX)
        return -1;
    watch = user->watches[fd];
    if (!watch) {
        watch = calloc(1, sizeof(*watch));
        if (!watch)
            return -1;
        watch->user = user;
        if (loop_fd_add(user->loop, fd, wanted, on_event, watch, &watch->watch, NULL) < 0) {
            free(watch);
            return -1;
        }
        user->watches[fd] = watch;
        user->fd_end = MAX(user->fd_end, fd + 1);
    } else {
        loop_fd_set_events(watch->watch, wanted);
    }
    watch->round = user->round;
    return fd;
}

static int get_revents(int fd, void *context)
{
    struct user *user = context;
    uint32_t seen = fd >= 0 && fd < USER_FDS_MAX && user->watches[fd] ? user->watches[fd]->seen : 0;

    return (seen & EPOLLIN ? SLIRP_POLL_IN : 0) | (seen & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
           (seen & EPOLLPRI ? SLIRP_POLL_PRI : 0) | (seen & EPOLLERR ? SLIRP_POLL_ERR : 0) |
           (seen & EPOLLHUP ? SLIRP_POLL_HUP : 0);
}

static void refresh(void *context)
{
    struct user *user = context;
    uint32_t timeout_ms = UINT32_MAX;

    user->round++;
    user->library.fill(user->slirp, &timeout_ms, add_poll, user);
    for (int fd = 0; fd < user->fd_end; fd++)
        if (user->watches[fd] && user->watches[fd]->round != user->round)
            watch_drop(user, fd);
    loop_timer_arm(user->timer, timeout_ms == UINT32_MAX
                                    ? 0
                                    : clock_monotonic_ns() + (timeout_ms + 1) * NS_PER_MS);
    flush(user);
}

static void poll_sockets(void *context)
{
    struct user *user = context;

    user->library.poll(user->slirp, 0, get_revents, user);
    for (int fd = 0; fd < user->fd_end; fd++)
        if (user->watches[fd])
            user->watches[fd]->seen = 0;
    refresh(user);
}

static void user_start(struct net *net, const struct net_offload *offload)
{
    struct user *user = CONTAINER_OF(net, struct user, net);

    user->csum = offload->csum;
    loop_post(user->loop, &user->refresh_call);
}

static void user_stop(struct net *net)
{
    drop_held(CONTAINER_OF(net, struct user, net));
}

/* Destinations that would be this host itself, whatever the guest's own routes say. */
static bool destination_allowed(const struct user *user, const uint8_t *frame, size_t length)
{
    const uint8_t *ip = frame + NET_ETHERNET_BYTES;

    if (user->host_loopback || length < NET_ETHERNET_BYTES + 20 || frame[12] != 8 || frame[13] != 0)
        return true;
    return ip[16] != 127 && ip[16] != 0;
}

static bool user_send(struct net *net, const struct iovec *iov, unsigned nr, size_t bytes)
{
    struct user *user = CONTAINER_OF(net, struct user, net);
    struct net_header header;
    size_t length = 0, skip = sizeof(header);

    if (bytes < sizeof(header) || bytes - sizeof(header) > sizeof(user->frame) ||
        iov[0].iov_len < sizeof(header))
        return false;
    memcpy(&header, iov[0].iov_base, sizeof(header));
    for (unsigned i = 0; i < nr; i++) {
        memcpy(user->frame + length, (const char *)iov[i].iov_base + skip, iov[i].iov_len - skip);
        length += iov[i].iov_len - skip;
        skip = 0;
    }
    if (!destination_allowed(user, user->frame, length) ||
        ((header.flags & NET_NEEDS_CSUM) && !net_checksum_finish(&header, user->frame, length)))
        return false;
    user->library.input(user->slirp, user->frame, (int)length);
    loop_post(user->loop, &user->refresh_call);
    return true;
}

static void user_free(struct net *net)
{
    struct user *user = CONTAINER_OF(net, struct user, net);

    if (user->slirp)
        user->library.cleanup(user->slirp);
    for (int fd = 0; fd < user->fd_end; fd++)
        watch_drop(user, fd);
    loop_timer_free(user->timer);
    loop_cancel(user->loop, &user->poll_call);
    loop_cancel(user->loop, &user->refresh_call);
    drop_held(user);
    if (user->handle)
        dlclose(user->handle);
    free(user);
}

static const struct net_driver user_driver = {
    .start = user_start,
    .stop = user_stop,
    .resume = user_resume,
    .send = user_send,
    .free = user_free,
};

static int library_load(struct user *user, struct err *err)
{
    const struct {
        const char *name;
        void *place;
    } symbols[] = {
        {"slirp_new", &user->library.new},           {"slirp_cleanup", &user->library.cleanup},
        {"slirp_input", &user->library.input},       {"slirp_pollfds_fill", &user->library.fill},
        {"slirp_pollfds_poll", &user->library.poll}, {"slirp_add_hostfwd", &user->library.forward},
    };

    user->handle = dlopen(USER_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!user->handle)
        return err_set(err, -ENOENT, "user-mode network: %s (Debian package libslirp0)", dlerror());
    for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
        void *symbol = dlsym(user->handle, symbols[i].name);

        if (!symbol)
            return err_set(err, -ENOENT, "user-mode network: %s lacks %s", USER_LIBRARY,
                           symbols[i].name);
        memcpy(symbols[i].place, &symbol, sizeof(symbol));
    }
    return 0;
}

int net_user_preload(struct err *err)
{
    return dlopen(USER_LIBRARY, RTLD_NOW | RTLD_LOCAL)
               ? 0
               : err_set(err, -ENOENT, "%s (Debian package libslirp0)", dlerror());
}

static int forwards_open(struct user *user, const struct net_user_options *options, struct err *err)
{
    struct in_addr guest = {htonl(NET_USER_GUEST)};

    for (unsigned i = 0; i < options->nr_forwards; i++) {
        const struct net_forward *forward = &options->forwards[i];
        struct in_addr host = {htonl(forward->host_address)};
        char text[INET_ADDRSTRLEN] = "";

        errno = 0;
        if (user->library.forward(user->slirp, forward->udp, host, forward->host_port, guest,
                                  forward->guest_port) == 0)
            continue;
        inet_ntop(AF_INET, &host, text, sizeof(text));
        return err_errno(err, errno ? -errno : -EADDRINUSE, "forward %s port %u of %s",
                         forward->udp ? "UDP" : "TCP", forward->host_port, text);
    }
    return 0;
}

static int stack_open(struct user *user, const struct net_user_options *options, struct err *err)
{
    SlirpConfig config = {
        .version = 1,
        .in_enabled = true,
        .vnetwork = {htonl(NET_USER_NETWORK)},
        .vnetmask = {htonl(NET_USER_MASK)},
        .vhost = {htonl(NET_USER_GATEWAY)},
        .vdhcp_start = {htonl(NET_USER_GUEST)},
        .vnameserver = {htonl(net_host_resolver())},
        .vhostname = "lodge",
        .if_mtu = USER_MTU,
        .if_mru = USER_MTU,
        .disable_host_loopback = !options->host_loopback,
    };

    if (config.vnameserver.s_addr == 0)
        config.vnameserver.s_addr = htonl(NET_USER_DNS);
    user->slirp = user->library.new(&config, &callbacks, user);
    if (!user->slirp)
        return err_set(err, -EIO, "user-mode network: the stack did not start");
    return forwards_open(user, options, err);
}

int net_open_user(const struct net_user_options *options, struct loop *loop, struct net **ret,
                  struct err *err)
{
    CLEANUP(net_freep) struct net *net = NULL;
    struct user *user = calloc(1, sizeof(*user));
    int r;

    if (!user)
        return err_set(err, -ENOMEM, "user-mode network: out of memory");
    user->net = (struct net){.driver = &user_driver, .link = true, .mtu = USER_MTU};
    user->loop = loop;
    user->host_loopback = options->host_loopback;
    user->poll_call = (struct loop_call){.fn = poll_sockets, .context = user};
    user->refresh_call = (struct loop_call){.fn = refresh, .context = user};
    net = &user->net;
    if ((r = loop_timer_new(loop, poll_sockets, user, &user->timer, err)) < 0 ||
        (r = library_load(user, err)) < 0 || (r = stack_open(user, options, err)) < 0)
        return r;
    loop_post(loop, &user->refresh_call);
    *ret = TAKE_PTR(net);
    return 0;
}
