/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses that are kept for a name while its guest does not run, so that one that starts again is
 * found where it was. At most NETWORK_LEASES_MAX: the oldest goes first. Nobody is refused an
 * address for the sake of one that is only kept.
 */
#include "network/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint32_t lease_find(const struct network *network, const char *id)
{
    for (unsigned i = 0; i < network->nr_leases; i++)
        if (!strcmp(network->leases[i].id, id))
            return network->leases[i].address4;
    return 0;
}

bool lease_has_address(const struct network *network, uint32_t address)
{
    for (unsigned i = 0; i < network->nr_leases; i++)
        if (network->leases[i].address4 == address)
            return true;
    return false;
}

static void drop_at(struct network *network, unsigned at)
{
    memmove(&network->leases[at], &network->leases[at + 1],
            (--network->nr_leases - at) * sizeof(*network->leases));
}

bool lease_drop(struct network *network, const char *id)
{
    for (unsigned i = 0; i < network->nr_leases; i++)
        if (!strcmp(network->leases[i].id, id)) {
            drop_at(network, i);
            return true;
        }
    return false;
}

int lease_put(struct network *network, const char *id, uint32_t address)
{
    struct network_lease *grown;

    lease_drop(network, id);
    for (unsigned i = network->nr_leases; i-- > 0;)
        if (network->leases[i].address4 == address)
            drop_at(network, i);
    if (network->nr_leases == NETWORK_LEASES_MAX)
        drop_at(network, 0);
    grown = reallocarray(network->leases, network->nr_leases + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    network->leases = grown;
    grown[network->nr_leases] = (struct network_lease){.address4 = address};
    strncpy(grown[network->nr_leases].id, id, NETWORK_ID_MAX - 1);
    network->nr_leases++;
    return 0;
}
