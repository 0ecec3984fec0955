/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manager: many instances on one host, kept in a store, started and watched through lodge-shim,
 * served over HTTP. docs/design/manager.md has the whole picture. It runs no guest code and holds
 * nothing that a guest needs: it may be killed at any moment.
 */
#ifndef LODGE_MANAGER_MANAGER_H
#define LODGE_MANAGER_MANAGER_H

#include "base/err.h"
#include "image/store.h"

#include <limits.h>
#include <stdbool.h>

#define MANAGER_PATH_MAX 512

struct manager;

struct manager_options {
    char state_dir[MANAGER_PATH_MAX];   /* what stays: store, writable layers, logs */
    char runtime_dir[MANAGER_PATH_MAX]; /* what a restart of the host takes away: sockets, locks */
    char oci[PATH_MAX], shim[PATH_MAX], lodge[PATH_MAX], vmm[PATH_MAX]; /* the programs; oci and
                                                                       vmm may be "" */
    const struct store *images;
    int listen_fd; /* a listening unix socket; the API is served there */
    const char *version;
    /* A further host name under which the API may be asked for (any thread); NULL: there is none.
     */
    bool (*name_is_ours)(const char *host, void *context);
    void *name_context;
};

/* Opens the store, adopts what runs, starts serving. -EBUSY: another manager has the state. */
int manager_open(const struct manager_options *options, struct manager **ret, struct err *err);
/* Stops serving; guests go on. */
void manager_close(struct manager *manager);

#endif
