/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose names a guest gets to know. One that is joined to several networks asks the resolver of the
 * first alone, which therefore answers for the others too: but only for those that this guest is
 * joined to itself. It is known by the address it asks from, which the check of what a port may
 * send keeps true (rules.c); on the other networks by the same lock or the same process.
 */
#include "network/internal.h"

#include <string.h>
#include <strings.h>

static const struct network_endpoint *endpoint_named(const struct network *network,
                                                     const char *name)
{
    for (unsigned i = 0; i < network->nr_endpoints; i++)
        if (!strcasecmp(network->endpoints[i].id, name))
            return &network->endpoints[i];
    return NULL;
}

static const struct network_endpoint *endpoint_at(const struct network *network,
                                                  const struct sockaddr_storage *from)
{
    const struct sockaddr_in *v4 = (const void *)from;
    const struct sockaddr_in6 *v6 = (const void *)from;

    for (unsigned i = 0; i < network->nr_endpoints; i++) {
        const struct network_endpoint *e = &network->endpoints[i];
        struct in6_addr address6;

        if (from->ss_family == AF_INET && ntohl(v4->sin_addr.s_addr) == e->address4)
            return e;
        if (from->ss_family != AF_INET6 || !network->has6)
            continue;
        address6 = network_address6(network, e);
        if (!memcmp(&v6->sin6_addr, &address6, sizeof(address6)))
            return e;
    }
    return NULL;
}

static bool is_joined(const struct network *network, const struct network_endpoint *guest)
{
    for (unsigned i = 0; i < network->nr_endpoints; i++) {
        const struct network_endpoint *e = &network->endpoints[i];

        if (guest->lock[0] ? !strcmp(e->lock, guest->lock)
                           : guest->owner && e->owner == guest->owner &&
                                 e->owner_started == guest->owner_started)
            return true;
    }
    return false;
}

const struct network_endpoint *names_find(const struct network *own, const struct network *others,
                                          unsigned nr, const struct sockaddr_storage *from,
                                          const char *name, const struct network **ret_network)
{
    const struct network_endpoint *found = endpoint_named(own, name), *guest;

    *ret_network = own;
    if (found || !(guest = endpoint_at(own, from)))
        return found;
    for (unsigned i = 0; i < nr; i++) {
        found = endpoint_named(&others[i], name);
        if (found && is_joined(&others[i], guest)) {
            *ret_network = &others[i];
            return found;
        }
    }
    return NULL;
}
