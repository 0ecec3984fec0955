/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of network/: rtnetlink, rules, the state's files, DNS messages. */
#ifndef LODGE_NETWORK_INTERNAL_H
#define LODGE_NETWORK_INTERNAL_H

#include "network/network.h"

/* --- rtnl.c: route(7) messages; all return 0 or -errno --- */

/* A socket in the namespace netns_fd, or (-1) in ours. */
int rtnl_open(int netns_fd);
/* 0: there is none */
int rtnl_index(int rtnl, const char *name);
int rtnl_bridge_add(int rtnl, const char *name);
/* `name` here; guest_name, with that hardware address, in netns_fd. */
int rtnl_veth_add(int rtnl, const char *name, const char *guest_name, int netns_fd,
                  const uint8_t mac[NET_MAC_BYTES], unsigned mtu);
int rtnl_delete(int rtnl, int index);
/* Up; with mtu and master where they are not 0. */
int rtnl_set(int rtnl, int index, unsigned mtu, int master);
int rtnl_address_add(int rtnl, int index, int family, const void *address, unsigned bits);
int rtnl_default_route(int rtnl, int index, int family, const void *gateway);

/* --- links.c --- */

/* The bridge is there, up, with its addresses. */
int links_network(const struct network *network, struct err *err);
int links_endpoint(const struct network *network, const struct network_endpoint *endpoint,
                   const struct network_attach *attach, struct err *err);
void links_remove(const char *interface);

/* --- rules.c --- */

int rules_apply(const struct network *networks, unsigned nr, struct err *err);

/* --- state.c --- */

int state_save(struct network_state *state, const struct network *network, struct err *err);
int state_load_one(const char *text, size_t length, struct network *ret, struct err *err);
void network_done(struct network *network);
/* When this process was started, in clock ticks; 0: it is gone. */
uint64_t process_started(pid_t pid);

/* Whether somebody has that file locked for himself. */
bool lock_is_held(const char *path);

/* --- leases.c --- */

/* The address that was given to that name before; 0: none. */
uint32_t lease_find(const struct network *network, const char *id);
bool lease_has_address(const struct network *network, uint32_t address);
int lease_put(struct network *network, const char *id, uint32_t address);
bool lease_drop(struct network *network, const char *id);

/* --- user_jail.c --- */

/* For good, this process: no rights, and no system calls but those of a user-mode network.
 * resolv_conf: files may be opened for reading. */
int user_jail_enter(bool resolv_conf, struct err *err);

/* --- names.c --- */

/* Where a guest may find an endpoint with that name: on `own`, or on another of the networks that
 * it is joined to, in their order. from: the address that it asks from. NULL: nowhere. */
const struct network_endpoint *names_find(const struct network *own, const struct network *others,
                                          unsigned nr, const struct sockaddr_storage *from,
                                          const char *name, const struct network **ret_network);

/* --- dns.c --- */

#define DNS_MESSAGE_MAX 1232

struct dns_question {
    char name[256]; /* lower case, without the last dot */
    uint16_t type, class;
    size_t end; /* of the question in the message */
};
/* The one question of a query; -EBADMSG. */
int dns_parse(const uint8_t *message, size_t length, struct dns_question *ret);

enum dns_answer { DNS_ADDRESS, DNS_NO_DATA, DNS_FAILURE };
/* A reply to that query, in ret (DNS_MESSAGE_MAX); returns its length. address: 4 or 16 bytes. */
size_t dns_reply(const uint8_t *message, const struct dns_question *question,
                 enum dns_answer answer, const void *address, size_t address_bytes, uint8_t *ret);

#define DNS_TYPE_A    1
#define DNS_TYPE_AAAA 28
#define DNS_CLASS_IN  1

#endif
