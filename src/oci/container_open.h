/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs that act on an existing container share: finding it, its configuration, its
 * process. */
#ifndef LODGE_OCI_CONTAINER_OPEN_H
#define LODGE_OCI_CONTAINER_OPEN_H

#include "base/err.h"
#include "base/buf.h"
#include "oci/state.h"

/* The container's directory and state. -ENOENT: there is none of that name. */
int container_open(const char *root, const char *id, int *ret_dir_fd, struct container_state **ret,
                   struct err *err);
/* state_status, and whether a running one is paused. */
enum container_status container_status(int dir_fd, const struct container_state *state);
/* A pidfd that surely is the container's first process, or -ESRCH. */
int container_open_process(const struct container_state *state);
/* The configuration that the container was made from. New reference. */
int container_load_config(const struct container_state *state, json_t **ret, struct err *err);

#endif
