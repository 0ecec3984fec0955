/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A back end of a network device: where the guest's Ethernet frames go, and where frames for it
 * come from. Two kinds: a tap interface of the host (tap.c) and a user-mode TCP/IP stack that needs
 * no rights (user.c).
 *
 * A frame travels behind a struct net_header, which is virtio's own (virtio 1.2 5.1.6): it says
 * whether the checksum is still to be made and whether the frame is a large segment to be cut. Both
 * ends agree on what is allowed by net_start.
 *
 * Invariants:
 *  1. deliver is called only between net_start and net_stop, and not inside net_start; it may be
 *     inside net_send. A frame that was not taken stays with the back end until net_resume; more
 *     frames wait behind it in the host's queue, or are dropped there.
 *  2. net_send takes the frame before it returns or drops it; it keeps no pointer.
 *  3. What a back end holds for a slow guest is bounded.
 *
 * Threads: all functions on the thread of the loop given to the constructor (or while it does not
 * run); the receiver's functions are called there too.
 */
#ifndef LODGE_NET_NET_H
#define LODGE_NET_NET_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/loop.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define NET_MAC_BYTES      6
#define NET_ETHERNET_BYTES 14
/* The largest frame: 64 KiB of IP, the Ethernet header, a VLAN tag. */
#define NET_FRAME_MAX (65535u + NET_ETHERNET_BYTES + 4)

/* net_header.flags */
#define NET_NEEDS_CSUM 1u
#define NET_DATA_VALID 2u
/* net_header.gso_type */
#define NET_GSO_NONE  0u
#define NET_GSO_TCPV4 1u
#define NET_GSO_TCPV6 4u
#define NET_GSO_ECN   0x80u

struct net_header {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
_Static_assert(sizeof(struct net_header) == 12, "virtio 1.2 5.1.6");

/* What the guest accepts in frames that it receives. */
struct net_offload {
    bool csum; /* frames without a finished checksum */
    bool tso4, tso6;
};

/* The device in front of a back end. */
struct net_receiver {
    void *context;
    /* A frame for the guest. False: no room now. */
    bool (*deliver)(void *context, const struct net_header *header, const void *frame,
                    size_t length);
    /* The last deliver of a batch has been made. */
    void (*flush)(void *context);
    /* The way out of the host is there, or gone for good. */
    void (*link)(void *context, bool up);
};

struct net;

struct net_counters {
    uint64_t sent_frames, sent_bytes, received_frames, received_bytes;
    uint64_t dropped; /* either way, by this side */
};

/* The interface `name`: an existing tap that the caller may use, or a new one where rights allow.
 */
int net_open_tap(const char *name, struct loop *loop, struct net **ret, struct err *err);

/* A tap that was opened elsewhere, with IFF_VNET_HDR and O_NONBLOCK; fd is taken, also on failure.
 */
int net_adopt_tap(int fd, unsigned mtu, struct loop *loop, struct net **ret, struct err *err);

/* A port of the host that leads into the guest. */
struct net_forward {
    bool udp;
    uint32_t host_address; /* host byte order */
    uint16_t host_port;
    uint16_t guest_port;
    bool host_is6; /* host_address6 counts, in the place of host_address (networks of the host) */
    struct in6_addr host_address6;
};
#define NET_FORWARDS_MAX 32

/* "tcp:127.0.0.1:8080-:80" or "udp::53-:5353"; an empty host address is 127.0.0.1. */
int net_forward_parse(const char *text, struct net_forward *ret, struct err *err);

struct net_user_options {
    const struct net_forward *forwards;
    unsigned nr_forwards;
    bool host_loopback; /* the guest may reach the host's 127.0.0.1 as NET_USER_GATEWAY */
};

/* The network that every user-mode back end makes: one guest, the router, the name server. */
#define NET_USER_NETWORK UINT32_C(0x0a000200) /* 10.0.2.0/24 */
#define NET_USER_MASK    UINT32_C(0xffffff00)
#define NET_USER_GATEWAY UINT32_C(0x0a000202)
#define NET_USER_DNS     UINT32_C(0x0a000203)
#define NET_USER_GUEST   UINT32_C(0x0a00020f)

/* Loads the library, for a process that later cannot open it any more. */
int net_user_preload(struct err *err);
/* Opens the forwarded ports. -ENOENT with a message when the library is not installed. */
int net_open_user(const struct net_user_options *options, struct loop *loop, struct net **ret,
                  struct err *err);

void net_free(struct net *net); /* NULL is fine */

/* The device is ready. *receiver is copied. */
void net_start(struct net *net, const struct net_receiver *receiver,
               const struct net_offload *offload);
void net_stop(struct net *net);
/* Room for frames again, after a deliver that gave false. */
void net_resume(struct net *net);
/* iov[0] starts with a struct net_header, the frame follows. Returns false when it was dropped. */
bool net_send(struct net *net, const struct iovec *iov, unsigned nr, size_t bytes);
bool net_link(const struct net *net);
/* The largest payload that the guest should send and expect; 0: no opinion. */
uint16_t net_mtu(const struct net *net);
void net_get_counters(const struct net *net, struct net_counters *ret);

/* "02:00:5e:10:00:01"; a group address or all zeros is refused. */
int net_mac_parse(const char *text, uint8_t ret[NET_MAC_BYTES], struct err *err);
/* A random, locally administered address. */
int net_mac_random(uint8_t ret[NET_MAC_BYTES], struct err *err);

DEFINE_CLEANUP(net_freep, struct net *, net_free);

#endif
