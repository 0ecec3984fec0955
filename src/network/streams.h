/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS over TCP (RFC 7766), for one resolver: each message behind its length. One query at a time on
 * each connection; what the resolver does not know itself is asked of the host's name server, over
 * TCP too. At most STREAMS_MAX guests at once, each for STREAM_NS without a whole turn: then the
 * oldest goes.
 *
 * Threads: the resolver's.
 */
#ifndef LODGE_NETWORK_STREAMS_H
#define LODGE_NETWORK_STREAMS_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define STREAMS_MAX      16
#define STREAM_LISTENERS 2
#define STREAMS_POLL_MAX (STREAMS_MAX + STREAM_LISTENERS)
#define STREAM_BYTES     (2 + 65535)

enum stream_state { STREAM_QUERY, STREAM_ASK, STREAM_WAIT, STREAM_REPLY };

struct stream {
    int fd, upstream; /* -1: none */
    enum stream_state state;
    uint64_t since_ns;
    size_t at, length; /* of what goes on in `bytes` */
    uint8_t bytes[STREAM_BYTES];
};

struct streams {
    int listeners[STREAM_LISTENERS]; /* -1: none; owned by the resolver */
    struct stream stream[STREAMS_MAX];
    /* The reply's length, in ret (DNS_MESSAGE_MAX bytes); 0: the name server's; -1: not a query. */
    int (*answer)(void *context, const struct sockaddr_storage *guest, const uint8_t *query,
                  size_t length, uint8_t *ret);
    void *context;
    const struct sockaddr_storage *upstream;
    const socklen_t *upstream_bytes;
};

void streams_init(struct streams *streams);
void streams_done(struct streams *streams);
/* What to wait for; returns STREAMS_POLL_MAX. */
unsigned streams_poll(const struct streams *streams, struct pollfd fds[STREAMS_POLL_MAX]);
/* After the wait. */
void streams_serve(struct streams *streams, const struct pollfd fds[STREAMS_POLL_MAX]);

#endif
