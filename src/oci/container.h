/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs of the runtime (OCI runtime specification, runtime.md "Lifecycle" and "Operations").
 *
 * Invariants: 1. A verb that fails leaves nothing: no process, cgroup, mount or state. 2. A
 * container whose runtime was killed at any moment is removed completely by container_delete with
 * `force`: the state directory is made first and removed last, and names the cgroup before anything
 * is in it.
 */
#ifndef LODGE_OCI_CONTAINER_H
#define LODGE_OCI_CONTAINER_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct container_options {
    const char *root;   /* state root */
    const char *bundle; /* directory with config.json */
    const char *id;
    const char *console_socket; /* NULL: none */
    const char *pid_file;       /* NULL: none */
    int preserve_fds;
    unsigned listen_fds;   /* run, create: how many of them by socket activation */
    bool detach;           /* run: return when the program runs */
    bool keep;             /* run: leave the state after the exit */
    bool exit_with_parent; /* run: the caller's death ends the container */
};

/* Up to "created": everything but the program. */
int container_create(const struct container_options *options, struct err *err);
int container_start(const char *root, const char *id, struct err *err);
/* create, start, and unless `detach` wait: *ret_status is the exit status (128 + n for signal n).
 * -ENOENT and -EACCES from the execution of the program itself also set it, to 127 and 126. */
int container_run(const struct container_options *options, int *ret_status, struct err *err);
/* -EBUSY while it runs, unless force. With force, an unknown id is fine. */
int container_delete(const char *root, const char *id, bool force, struct err *err);
/* New reference. */
int container_state(const char *root, const char *id, json_t **ret, struct err *err);
/* Array of the same objects. */
int container_list(const char *root, json_t **ret, struct err *err);

#endif
