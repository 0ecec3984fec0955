/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection's turn:
 *
 *      QUERY ──known here──▶ REPLY ──▶ QUERY ...
 *        │                    ▲
 *        └─▶ ASK ──▶ WAIT ────┘
 *       (connect, send)  (the name server's answer)
 *
 * Whatever goes wrong closes the connection: the guest's resolver tries again.
 */
#include "network/streams.h"

#include "base/clock.h"
#include "network/internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define STREAM_NS (10 * NS_PER_S)

void streams_init(struct streams *streams)
{
    for (unsigned i = 0; i < STREAM_LISTENERS; i++)
        streams->listeners[i] = -1;
    for (unsigned i = 0; i < STREAMS_MAX; i++)
        streams->stream[i].fd = streams->stream[i].upstream = -1;
}

static void stream_end(struct stream *s)
{
    if (s->upstream >= 0)
        close(s->upstream);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = s->upstream = -1;
}

void streams_done(struct streams *streams)
{
    for (unsigned i = 0; i < STREAMS_MAX; i++)
        stream_end(&streams->stream[i]);
}

unsigned streams_poll(const struct streams *streams, struct pollfd fds[STREAMS_POLL_MAX])
{
    for (unsigned i = 0; i < STREAM_LISTENERS; i++)
        fds[i] = (struct pollfd){.fd = streams->listeners[i], .events = POLLIN};
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        const struct stream *s = &streams->stream[i];
        bool up = s->state == STREAM_ASK || s->state == STREAM_WAIT;
        bool out = s->state == STREAM_ASK || s->state == STREAM_REPLY;

        fds[STREAM_LISTENERS + i] = (struct pollfd){.fd = up ? s->upstream : s->fd,
                                                    .events = out ? POLLOUT : POLLIN};
    }
    return STREAMS_POLL_MAX;
}

static void begin(struct stream *s, enum stream_state state, size_t length)
{
    s->state = state;
    s->at = 0;
    s->length = length;
    s->since_ns = clock_monotonic_ns();
}

/* 1: the whole message is there or gone; 0: more is to come; -errno. */
static int receive_message(struct stream *s, int fd)
{
    size_t wanted = s->at < 2 ? 2 : 2 + (size_t)(s->bytes[0] << 8 | s->bytes[1]);
    ssize_t n = recv(fd, s->bytes + s->at, wanted - s->at, MSG_DONTWAIT);

    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -ECONNRESET;
    s->at += (size_t)n;
    if (s->at < 2)
        return 0;
    s->length = 2 + (size_t)(s->bytes[0] << 8 | s->bytes[1]);
    return s->length > 2 && s->at == s->length;
}

static int send_message(struct stream *s, int fd)
{
    ssize_t n = send(fd, s->bytes + s->at, s->length - s->at, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    s->at += (size_t)n;
    return s->at == s->length;
}

static int ask_upstream(struct streams *streams, struct stream *s)
{
    if (!*streams->upstream_bytes)
        return -ENETUNREACH;
    s->upstream = socket(streams->upstream->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                         0);
    if (s->upstream < 0)
        return -errno;
    if (connect(s->upstream, (const void *)streams->upstream, *streams->upstream_bytes) &&
        errno != EINPROGRESS)
        return -errno;
    begin(s, STREAM_ASK, s->length);
    return 0;
}

static int take_query(struct streams *streams, struct stream *s)
{
    uint8_t reply[DNS_MESSAGE_MAX];
    struct sockaddr_storage guest = {0};
    socklen_t bytes = sizeof(guest);
    int n;

    if (getpeername(s->fd, (void *)&guest, &bytes))
        return -errno;
    n = streams->answer(streams->context, &guest, s->bytes + 2, s->length - 2, reply);
    if (n < 0)
        return n;
    if (n == 0)
        return ask_upstream(streams, s);
    s->bytes[0] = (uint8_t)(n >> 8);
    s->bytes[1] = (uint8_t)n;
    memcpy(s->bytes + 2, reply, (size_t)n);
    begin(s, STREAM_REPLY, 2 + (size_t)n);
    return 0;
}

static int turn(struct streams *streams, struct stream *s)
{
    int r;

    switch (s->state) {
    case STREAM_QUERY:
        r = receive_message(s, s->fd);
        return r > 0 ? take_query(streams, s) : r;
    case STREAM_ASK:
        if ((r = send_message(s, s->upstream)) > 0)
            begin(s, STREAM_WAIT, 0);
        return r;
    case STREAM_WAIT:
        if ((r = receive_message(s, s->upstream)) > 0) {
            close(s->upstream);
            s->upstream = -1;
            begin(s, STREAM_REPLY, s->length);
        }
        return r;
    default:
        if ((r = send_message(s, s->fd)) > 0)
            begin(s, STREAM_QUERY, 0);
        return r;
    }
}

static void take_connection(struct streams *streams, int listener)
{
    struct stream *s = &streams->stream[0];
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    for (unsigned i = 0; i < STREAMS_MAX && s->fd >= 0; i++)
        if (streams->stream[i].fd < 0 || streams->stream[i].since_ns < s->since_ns)
            s = &streams->stream[i];
    stream_end(s);
    s->fd = fd;
    begin(s, STREAM_QUERY, 0);
}

void streams_serve(struct streams *streams, const struct pollfd fds[STREAMS_POLL_MAX])
{
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        struct stream *s = &streams->stream[i];
        int r = 0;

        if (s->fd < 0)
            continue;
        if (fds[STREAM_LISTENERS + i].revents)
            r = turn(streams, s);
        if (r < 0 || clock_monotonic_ns() - s->since_ns > STREAM_NS)
            stream_end(s);
    }
    for (unsigned i = 0; i < STREAM_LISTENERS; i++)
        if (fds[i].revents)
            take_connection(streams, streams->listeners[i]);
}
