/* SPDX-License-Identifier: Apache-2.0 */
/* Which name servers a guest behind this host can use. */
#ifndef LODGE_NET_RESOLVER_H
#define LODGE_NET_RESOLVER_H

#include <stddef.h>
#include <stdint.h>

/* The host's resolv.conf as far as it is of use to a guest: IPv4 name servers that are not the
 * host's own loopback, and search, domain and options lines. "" when there is no such server. */
void net_resolv_conf(char *ret, size_t size);
/* The same from a given text, for tests. */
void net_resolv_conf_filter(const char *text, char *ret, size_t size);
/* The first of its name servers, in host byte order; 0: none. */
uint32_t net_host_resolver(void);

#endif
