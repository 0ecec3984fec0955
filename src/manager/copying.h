/* SPDX-License-Identifier: Apache-2.0 */
/* The client of a copy, for the files copying*.c. */
#ifndef LODGE_MANAGER_COPYING_H
#define LODGE_MANAGER_COPYING_H

#include "manager/internal.h"

/* How often a wait for the client looks whether we are to end. */
#define COPYING_LOOK_MS 500

struct copying_client {
    struct manager *m;
    int fd;
    uint32_t left; /* bytes of the current STDIN frame */
    bool ended;
};

/* The archive to the client, and from it (copy/copy.h has the contract); context: it. */
int copying_write(const void *data, size_t length, void *client);
ssize_t copying_read(void *data, size_t most, void *client);

/* By who has the instance, which does not run, and its lock: in a machine of its own. */
int copying_vm(struct copying_client *client, const struct instance *instance,
               const struct copying *copying, struct err *err);

#endif
