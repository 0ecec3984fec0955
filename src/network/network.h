/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks of this host that guests are attached to: a bridge each, veth pairs for containers, taps
 * for VMs; addresses from the network's own subnets; translation, published ports and the check of
 * what a port may send, by nftables; names by a resolver at the gateway's address.
 *
 * The truth is one file a network (NAME.json, replaced atomically) in a directory that a lock
 * guards; interfaces and rules are made from it, again and again the same. So a crash at any point
 * is mended by the next operation. An endpoint belongs to a process, or to whoever holds a lock
 * file (flock); when that is gone, the next operation on any network takes the endpoint back.
 *
 * Rules live in the tables `inet lodge` and `bridge lodge`, nowhere else; both are replaced as a
 * whole, and removed with the last network.
 *
 * Threads: any one at a time for each struct; processes are kept apart by the lock.
 */
#ifndef LODGE_NETWORK_NETWORK_H
#define LODGE_NETWORK_NETWORK_H

#include "base/cleanup.h"
#include "base/err.h"
#include "net/net.h"

#include <jansson.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NETWORK_NAME_MAX      32 /* with NUL */
#define NETWORK_ID_MAX        64 /* an endpoint's name: the instance's; with NUL */
#define NETWORK_MAX           64
#define NETWORK_ENDPOINTS_MAX 1000
#define NETWORK_PORTS_MAX     32
#define NETWORK_LOCK_MAX      160 /* path of a lock file; with NUL */
#define NETWORK_LEASES_MAX    1000
#define NETWORK_MTU_DEFAULT   1500u
#define NETWORK_COMING        "coming" /* argument of a resolver whose guest is about to join */

struct network_subnet4 {
    uint32_t address; /* the network's, host byte order */
    unsigned bits;    /* 8 to 29 */
};

struct network_endpoint {
    char id[NETWORK_ID_MAX];
    char interface[IFNAMSIZ]; /* on the bridge: the tap, or the host's end of the veth pair */
    bool tap;
    uint8_t mac[NET_MAC_BYTES];
    uint32_t address4; /* host byte order */
    struct net_forward ports[NETWORK_PORTS_MAX];
    unsigned nr_ports;
    pid_t owner; /* 0: not of a process */
    uint64_t owner_started;
    char lock[NETWORK_LOCK_MAX]; /* ours while somebody has this file locked; "": none */
};

/* An address that an endpoint with this name had, and gets again while it is free. */
struct network_lease {
    char id[NETWORK_ID_MAX];
    uint32_t address4;
};

struct network {
    char name[NETWORK_NAME_MAX];
    char bridge[IFNAMSIZ];
    struct network_subnet4 subnet4; /* the gateway is its first address */
    struct in6_addr prefix6;        /* /64; the gateway is ::1 */
    bool has6;
    bool internal; /* no way out */
    unsigned mtu;
    struct network_endpoint *endpoints;
    unsigned nr_endpoints;
    struct network_lease *leases; /* oldest first */
    unsigned nr_leases;
};

struct buf;

/* --- pure helpers --- */

bool network_name_ok(const char *name);
/* "10.1.2.0/24"; -EINVAL says what is wrong. */
int network_subnet_parse(const char *text, struct network_subnet4 *ret, struct err *err);
uint32_t network_gateway4(const struct network *network);
struct in6_addr network_gateway6(const struct network *network);
/* The endpoint's: the prefix and the low bits of its IPv4 address. */
struct in6_addr network_address6(const struct network *network,
                                 const struct network_endpoint *endpoint);
/* [ADDRESS:]HOSTPORT:GUESTPORT[/udp|/tcp]; an IPv6 ADDRESS stands in brackets; without one, all of
 * the host's (0), of both kinds. */
int network_port_parse(const char *text, struct net_forward *ret, struct err *err);
/* An address for a guest of that network; -EINVAL says what is wrong. */
int network_address_parse(const struct network *network, const char *text, uint32_t *ret,
                          struct err *err);
/* The whole ruleset for these networks, as nft reads it. */
int network_rules(const struct network *networks, unsigned nr, struct buf *ret);

/* --- the state of this host --- */

struct network_state {
    int dir_fd, lock_fd; /* locked while open */
    char dir[PATH_MAX];
    struct network *networks;
    unsigned nr;
};

/* $LODGE_NETWORKS, or /var/lib/lodge/networks. */
const char *network_directory(void);
/* Opens and locks it, loads every network, and takes back what dead owners left. dir NULL:
 * network_directory(). read_only: nothing is made or taken back. */
int network_state_open(const char *dir, bool read_only, struct network_state *ret, struct err *err);
void network_state_close(struct network_state *state);
struct network *network_find(struct network_state *state, const char *name);

struct network_create {
    const char *name;
    const char *subnet4; /* NULL: a free one is taken */
    bool no_ipv6, internal;
    unsigned mtu; /* 0: the default */
};
int network_create(struct network_state *state, const struct network_create *create,
                   struct network **ret, struct err *err);
/* -EBUSY while endpoints are there. */
int network_remove(struct network_state *state, const char *name, struct err *err);

struct network_attach {
    const char *id;
    bool tap;
    int netns_fd;         /* veth: where the other end goes, as the first free ethN, with its
                           * addresses and routes */
    bool no_route;        /* veth: another network of the guest leads out */
    const char *address4; /* text; NULL: a free one is taken, an earlier one where there is */
    bool keep;            /* the address is kept for the id until network_forget */
    const struct net_forward *ports;
    unsigned nr_ports;
    pid_t owner;
    const char *lock; /* an absolute path; NULL: none */
};
int network_attach(struct network_state *state, const char *name,
                   const struct network_attach *attach, struct network_endpoint *ret,
                   struct err *err);
int network_detach(struct network_state *state, const char *name, const char *id, struct err *err);
/* Everything that belongs to the holder of that lock; and, with id, the addresses kept for it. */
int network_detach_lock(struct network_state *state, const char *lock, const char *id,
                        struct err *err);
/* The address that is kept there for the id; nothing when there is none. */
int network_forget(struct network_state *state, const char *name, const char *id, struct err *err);
/* Another name for whoever holds that lock, or held it: of its endpoints, and of the addresses that
 * are kept for it. -EEXIST: one of its networks has a guest of that name; nothing is changed then.
 */
int network_rename(struct network_state *state, const char *lock, const char *from, const char *to,
                   struct err *err);

/* The tap interface of that name, made where there is none and rights allow: a descriptor without
 * waiting, for a monitor that may not open it itself. */
int network_tap_open(const char *name, struct err *err);

/* A new network namespace, mounted at `path` (a file that is made). Any thread: it is its own
 * namespace alone that changes, for a moment. */
int network_namespace_make(const char *path, int *ret_fd, struct err *err);
/* Unmounts and removes it; nothing when there is none. */
void network_namespace_remove(const char *path);

/* --- without rights (user_mode.c) --- */

/* Gives the container whose first process is pid an interface, behind a user-mode stack of this
 * process, and serves it until that process ends. One byte goes to ready_fd (then closed) when the
 * interface is there. From then on this process can do nothing else, and should end. */
int network_user_serve(pid_t pid, const struct net_user_options *options, int ready_fd,
                       struct err *err);
/* Appends [ADDRESS:]PORT:GUESTPORT as the stack's ",hostfwd=tcp:ADDRESS:PORT-:GUESTPORT". */
int network_user_forward(const char *port, struct buf *to, struct err *err);
/* What the container's /etc/resolv.conf is then. */
void network_user_resolv_conf(char *ret, size_t size);

/* --- as JSON (describe.c): new references --- */

json_t *network_json(const struct network *network);
json_t *network_endpoint_json(const struct network *network,
                              const struct network_endpoint *endpoint);

/* --- names (resolver.c) --- */

/*
 * Answers at the gateway's addresses, UDP and TCP port 53, until the network has no endpoints:
 * names of its endpoints from the state, then those of the other networks that the asking guest is
 * joined to, everything else from the host's name server. 0 at once when another process does it
 * already. coming: a guest is about to join, for 30 seconds there may be none.
 */
int network_resolve(const char *dir, const char *name, bool coming, struct err *err);
/* Starts `PROGRAM network resolve NAME`, which goes to the background by itself. */
int network_resolver_start(const char *program, const char *dir, const char *name, bool coming,
                           struct err *err);
/* Whether a process does that, whoever started it. */
bool network_resolver_is_there(const char *dir, const char *name);

#endif
