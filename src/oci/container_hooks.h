/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks as the verbs run them. Those that come after the program's start are kept in the
 * container's state directory (hooks.json), because the bundle may be gone or changed by then.
 */
#ifndef LODGE_OCI_CONTAINER_HOOKS_H
#define LODGE_OCI_CONTAINER_HOOKS_H

#include "oci/state.h"

/* The state that hooks read, without status and pid. New reference, NULL without memory. */
json_t *container_hooks_state(const struct container_state *state);

/* prestart and createRuntime, one after the other; the first failure ends it. */
int container_hooks_created(const json_t *hooks, const struct container_state *state, pid_t pid,
                            struct err *err);
/* Keeps poststart and poststop, when there are any. */
int container_hooks_save(int state_fd, const json_t *hooks, struct err *err);
/* What was kept, or NULL. New reference. */
json_t *container_hooks_load(int state_fd);
/* Failures are warned of. hooks may be NULL. */
void container_hooks_started(const json_t *hooks, const struct container_state *state);
void container_hooks_stopped(const json_t *hooks, const struct container_state *state);

#endif
