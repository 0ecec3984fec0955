/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resolver of one network. A query is answered from the state, or sent on under a random number
 * of ours from a socket of its own to the host's name server, whose reply goes back under the
 * guest's number. At most PENDING_MAX wait at once, the oldest goes first, each for five seconds.
 *
 * There is one for each network that has guests:
 * 1. Whoever joins starts one, which ends at once when another holds the network's lock. It is
 *    given up under the lock of the state: who joins after that finds it free.
 * 2. The resolver of a network that was removed keeps its address until it looks again. That of the
 *    next network with this subnet tries for it as long as it has guests.
 * 3. A network made anew under the same name is another one: it is known by its bridge.
 */
#include "network/internal.h"
#include "network/streams.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PENDING_MAX   64
#define PENDING_NS    (5 * NS_PER_S)
#define LOOK_MS       500
#define RETRY_MS      50 /* while another holds our address */
#define COMING_NS     (30 * NS_PER_S)
#define FRESH_NS      (20 * NS_PER_MS)
#define MESSAGE_BYTES 4096 /* of a name server with EDNS */

struct pending {
    int fd; /* -1: free */
    uint16_t guest_id, our_id;
    unsigned place; /* where the guest asked */
    struct sockaddr_storage guest;
    socklen_t guest_bytes;
    uint64_t since_ns;
};

/* At the gateway's IPv4 and IPv6 addresses. */
#define PLACES STREAM_LISTENERS

struct resolver {
    const char *dir, *name;
    struct network network;
    struct network *others; /* of this host */
    unsigned nr_others;
    uint64_t looked_ns;
    uint64_t coming_until_ns; /* so long there may be no guest yet */
    char bridge[IFNAMSIZ];
    int lock_fd;     /* -1: given up, we are over */
    int fds[PLACES]; /* UDP; -1: none */
    bool awaited;    /* a place that another holds still */
    struct streams streams;
    struct sockaddr_storage upstream;
    socklen_t upstream_bytes; /* 0: the host has none */
    struct pending pending[PENDING_MAX];
};

static void others_done(struct resolver *r)
{
    for (unsigned i = 0; i < r->nr_others; i++)
        network_done(&r->others[i]);
    free(r->others);
    r->others = NULL;
    r->nr_others = 0;
}

static void close_one(int *fd)
{
    fd_closep(fd);
    *fd = -1;
}

static void pending_end(struct pending *p)
{
    close_one(&p->fd);
}

static void close_places(struct resolver *r)
{
    streams_done(&r->streams);
    for (unsigned i = 0; i < PENDING_MAX; i++)
        pending_end(&r->pending[i]);
    for (unsigned i = 0; i < PLACES; i++) {
        close_one(&r->fds[i]);
        close_one(&r->streams.listeners[i]);
    }
}

static void leave(struct resolver *r)
{
    close_places(r);
    close_one(&r->lock_fd);
}

/* The state again. Dead owners are taken back on the way. may_leave: when there are no guests any
 * more, it is over with us; not in the middle of a query. */
static void look(struct resolver *r, bool may_leave)
{
    struct network_state state;
    struct network *found;

    r->looked_ns = clock_monotonic_ns();
    if (may_leave && access(r->dir, F_OK) && errno == ENOENT) {
        leave(r); /* opening would make the directory again */
        return;
    }
    if (network_state_open(r->dir, false, &state, NULL) < 0)
        return; /* as before */
    found = network_find(&state, r->name);
    if (found && !r->bridge[0])
        memcpy(r->bridge, found->bridge, sizeof(r->bridge));
    network_done(&r->network);
    others_done(r);
    if (found && !strcmp(found->bridge, r->bridge)) {
        r->network = *found;
        *found = (struct network){0};
    }
    r->others = TAKE_PTR(state.networks);
    r->nr_others = state.nr;
    state.nr = 0;
    if (r->network.nr_endpoints || !found)
        r->coming_until_ns = 0;
    if (may_leave && !r->network.nr_endpoints && r->looked_ns >= r->coming_until_ns)
        leave(r);
    network_state_close(&state);
}

static void read_upstream(struct resolver *r)
{
    struct sockaddr_in *v4 = (void *)&r->upstream;
    struct sockaddr_in6 *v6 = (void *)&r->upstream;
    CLEANUP(buf_donep) struct buf text;
    char *line, *rest, address[64];

    buf_init(&text, 64 << 10);
    if (file_load(AT_FDCWD, "/etc/resolv.conf", &text, NULL) < 0 || !(line = buf_string(&text)))
        return;
    for (line = strtok_r(line, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (sscanf(line, " nameserver %63s", address) != 1)
            continue;
        memset(&r->upstream, 0, sizeof(r->upstream));
        if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
            v4->sin_family = AF_INET;
            v4->sin_port = htons(53);
            r->upstream_bytes = sizeof(*v4);
            return;
        }
        if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
            v6->sin6_family = AF_INET6;
            v6->sin6_port = htons(53);
            r->upstream_bytes = sizeof(*v6);
            return;
        }
    }
}

static void reply_to(struct resolver *r, unsigned place, const uint8_t *data, size_t length,
                     const struct sockaddr_storage *guest, socklen_t guest_bytes)
{
    if (sendto(r->fds[place], data, length, MSG_DONTWAIT | MSG_NOSIGNAL, (const void *)guest,
               guest_bytes) < 0)
        return; /* as lost on the wire: the guest asks again */
}

static struct pending *pending_slot(struct resolver *r)
{
    struct pending *oldest = &r->pending[0];

    for (unsigned i = 0; i < PENDING_MAX; i++) {
        if (r->pending[i].fd < 0)
            return &r->pending[i];
        if (r->pending[i].since_ns < oldest->since_ns)
            oldest = &r->pending[i];
    }
    pending_end(oldest);
    return oldest;
}

/* False: it cannot be. */
static bool forward(struct resolver *r, unsigned place, uint8_t *query, size_t length,
                    const struct sockaddr_storage *guest, socklen_t guest_bytes)
{
    struct pending *p;

    if (!r->upstream_bytes || r->network.internal)
        return false;
    p = pending_slot(r);
    p->fd = socket(r->upstream.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (p->fd < 0)
        return false;
    p->place = place;
    p->guest = *guest;
    p->guest_bytes = guest_bytes;
    memcpy(&p->guest_id, query, 2);
    p->since_ns = clock_monotonic_ns();
    if (getrandom(&p->our_id, 2, 0) == 2) {
        memcpy(query, &p->our_id, 2);
        /* Connected: only the name server's own replies come in. */
        if (connect(p->fd, (const void *)&r->upstream, r->upstream_bytes) == 0 &&
            send(p->fd, query, length, MSG_NOSIGNAL) == (ssize_t)length)
            return true;
        memcpy(query, &p->guest_id, 2);
    }
    pending_end(p);
    return false;
}

/* From the state: the reply's length; 0: it is not ours to know; -EBADMSG. */
static int answer(void *context, const struct sockaddr_storage *guest, const uint8_t *query,
                  size_t length, uint8_t *reply)
{
    struct resolver *r = context;
    const struct network_endpoint *e;
    const struct network *on;
    struct dns_question question;
    struct in6_addr address6;
    uint32_t address4;

    if (dns_parse(query, length, &question) < 0)
        return -EBADMSG;
    /* Names of guests alone have no dot as a rule: one that is not known may be new. */
    e = names_find(&r->network, r->others, r->nr_others, guest, question.name, &on);
    if (!strchr(question.name, '.') && !e && clock_monotonic_ns() - r->looked_ns > FRESH_NS) {
        look(r, false);
        e = names_find(&r->network, r->others, r->nr_others, guest, question.name, &on);
    }
    /* Who asks is a guest of the next network here, whose resolver gets it when asked again. */
    if (!r->network.nr_endpoints)
        return -EBADMSG;
    if (question.class != DNS_CLASS_IN)
        e = NULL;
    if (e && question.type == DNS_TYPE_A) {
        address4 = htonl(e->address4);
        return (int)dns_reply(query, &question, DNS_ADDRESS, &address4, 4, reply);
    }
    if (e && question.type == DNS_TYPE_AAAA && on->has6) {
        address6 = network_address6(on, e);
        return (int)dns_reply(query, &question, DNS_ADDRESS, &address6, 16, reply);
    }
    if (e)
        return (int)dns_reply(query, &question, DNS_NO_DATA, NULL, 0, reply);
    if (r->upstream_bytes && !r->network.internal)
        return 0;
    return (int)dns_reply(query, &question, DNS_FAILURE, NULL, 0, reply);
}

static void take_query(struct resolver *r, unsigned place)
{
    uint8_t query[DNS_MESSAGE_MAX], reply[DNS_MESSAGE_MAX];
    struct dns_question question;
    struct sockaddr_storage guest;
    socklen_t bytes = sizeof(guest);
    ssize_t n = recvfrom(r->fds[place], query, sizeof(query), MSG_DONTWAIT, (void *)&guest, &bytes);
    int length = n <= 0 ? -EBADMSG : answer(r, &guest, query, (size_t)n, reply);

    if (length < 0 || (length == 0 && forward(r, place, query, (size_t)n, &guest, bytes)))
        return;
    if (length == 0 && dns_parse(query, (size_t)n, &question) == 0)
        length = (int)dns_reply(query, &question, DNS_FAILURE, NULL, 0, reply);
    reply_to(r, place, reply, (size_t)length, &guest, bytes);
}

static void take_reply(struct resolver *r, struct pending *p)
{
    uint8_t reply[MESSAGE_BYTES];
    ssize_t n = recv(p->fd, reply, sizeof(reply), MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n >= 12 && !memcmp(reply, &p->our_id, 2) && (reply[2] & 0x80)) {
        memcpy(reply, &p->guest_id, 2);
        reply_to(r, p->place, reply, (size_t)n, &p->guest, p->guest_bytes);
    } else if (n >= 0) {
        return; /* not ours: the real one may still come */
    }
    pending_end(p);
}

static void turn(struct resolver *r)
{
    struct pollfd fds[PENDING_MAX + PLACES + STREAMS_POLL_MAX];
    struct pollfd *guests = fds + PENDING_MAX, *streams = guests + PLACES;
    uint64_t now;

    for (unsigned i = 0; i < PENDING_MAX; i++)
        fds[i] = (struct pollfd){.fd = r->pending[i].fd, .events = POLLIN};
    for (unsigned i = 0; i < PLACES; i++)
        guests[i] = (struct pollfd){.fd = r->fds[i], .events = POLLIN};
    streams_poll(&r->streams, streams);
    if (poll(fds, ARRAY_LEN(fds), r->awaited ? RETRY_MS : LOOK_MS) < 0)
        return;
    for (unsigned i = 0; i < PENDING_MAX; i++)
        if (fds[i].revents)
            take_reply(r, &r->pending[i]);
    for (unsigned i = 0; i < PLACES; i++)
        if (guests[i].revents)
            take_query(r, i);
    streams_serve(&r->streams, streams);
    now = clock_monotonic_ns();
    for (unsigned i = 0; i < PENDING_MAX; i++)
        if (r->pending[i].fd >= 0 && now - r->pending[i].since_ns > PENDING_NS)
            pending_end(&r->pending[i]);
}

#define LOCK_PATH_MAX (PATH_MAX + NETWORK_NAME_MAX + 8)

static void lock_path(const char *dir, const char *name, char ret[LOCK_PATH_MAX])
{
    snprintf(ret, LOCK_PATH_MAX, "%s/.%s.dns", dir, name);
}

bool network_resolver_is_there(const char *dir, const char *name)
{
    char path[LOCK_PATH_MAX];

    lock_path(dir, name, path);
    return lock_is_held(path);
}

/* 1: we hold it now; 0: another process does. Who only looks whether it is held shares it for a
 * moment, and is waited for. */
static int take_lock(struct resolver *r, struct err *err)
{
    char path[LOCK_PATH_MAX];

    lock_path(r->dir, r->name, path);
    r->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (r->lock_fd < 0)
        return err_errno(err, -errno, "open '%s'", path);
    while (flock(r->lock_fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK)
            return err_errno(err, -errno, "lock '%s'", path);
        if (flock(r->lock_fd, LOCK_SH | LOCK_NB))
            return 0;
        flock(r->lock_fd, LOCK_UN);
        usleep(1000);
    }
    return 1;
}

/* UDP and TCP at one address. */
static int open_place(struct resolver *r, unsigned place, const struct sockaddr *address,
                      socklen_t bytes)
{
    CLEANUP(fd_closep)
    int datagrams = socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CLEANUP(fd_closep)
    int streams = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int one = 1;

    if (datagrams < 0 || streams < 0)
        return -errno;
    setsockopt(streams, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(datagrams, address, bytes) || bind(streams, address, bytes) ||
        listen(streams, STREAMS_MAX))
        return -errno;
    r->fds[place] = TAKE_FD(datagrams);
    r->streams.listeners[place] = TAKE_FD(streams);
    return 0;
}

/* Those that are not open yet, as far as others let us. */
static int open_places(struct resolver *r, struct err *err)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET,
                             .sin_port = htons(53),
                             .sin_addr = {htonl(network_gateway4(&r->network))}};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons(53),
                              .sin6_addr = network_gateway6(&r->network)};
    int four = r->fds[0] < 0 ? open_place(r, 0, (const void *)&v4, sizeof(v4)) : 0, six = 0;

    if (four < 0 && four != -EADDRINUSE)
        return err_errno(err, four, "answer for names at %s, port 53", inet_ntoa(v4.sin_addr));
    /* A host without IPv6 does without. */
    if (r->network.has6 && r->fds[1] < 0)
        six = open_place(r, 1, (const void *)&v6, sizeof(v6));
    r->awaited = four == -EADDRINUSE || six == -EADDRINUSE;
    return 0;
}

/* Until there are no guests any more. */
static int serve(struct resolver *r, struct err *err)
{
    int result = 0;

    look(r, true);
    read_upstream(r);
    r->awaited = true;
    while (result == 0 && r->lock_fd >= 0) {
        if (r->awaited && (result = open_places(r, err)) < 0)
            break;
        turn(r);
        if ((!r->network.nr_endpoints && !r->coming_until_ns) ||
            clock_monotonic_ns() - r->looked_ns > LOOK_MS * NS_PER_MS)
            look(r, true);
    }
    return result;
}

int network_resolve(const char *dir, const char *name, bool coming, struct err *err)
{
    CLEANUP(freep) struct resolver *r = calloc(1, sizeof(*r));
    int result;

    if (!r)
        return err_set(err, -ENOMEM, "out of memory");
    r->dir = dir;
    r->name = name;
    r->coming_until_ns = coming ? clock_monotonic_ns() + COMING_NS : 0;
    r->lock_fd = r->fds[0] = r->fds[1] = -1;
    for (unsigned i = 0; i < PENDING_MAX; i++)
        r->pending[i].fd = -1;
    streams_init(&r->streams);
    r->streams.answer = answer;
    r->streams.context = r;
    r->streams.upstream = &r->upstream;
    r->streams.upstream_bytes = &r->upstream_bytes;
    if ((result = take_lock(r, err)) > 0)
        result = serve(r, err);
    leave(r);
    network_done(&r->network);
    others_done(r);
    return result;
}
