/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks and volumes belong to the host, and the manager keeps its instances on them: the verbs
 * ask it where it is there, and go to the state themselves where it is not.
 */
#ifndef LODGE_CMD_SHARED_API_H
#define LODGE_CMD_SHARED_API_H

#include <jansson.h>
#include <stdbool.h>

/*
 * Whether there is a manager for what is in `directory`, as the answer to GET `path` says; *ret
 * (may be NULL): that answer, a new reference. in_namespace: and in our own network namespace.
 * wake: one that has a store but does not run is started, since its instances may be users (not for
 * a directory that only our own environment names).
 */
bool shared_by_manager(const char *path, const char *directory, bool in_namespace, bool wake,
                       json_t **ret);
/* Indented, on standard output; value is consumed. */
void shared_print(json_t *value);

#endif
