/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks and volumes belong to the host, and the manager keeps its instances on them: the verbs
 * ask it where it is there, and go to the state themselves where it is not.
 */
#ifndef LODGE_CMD_SHARED_API_H
#define LODGE_CMD_SHARED_API_H

#include "base/err.h"

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
/* What `ls` prints: the list (a new reference from `all`) as JSON, or a heading and a row each; an
 * empty one: nothing. */
int shared_ls(int (*all)(json_t **ret, struct err *err), bool json, const char *heading,
              void (*print_row)(const json_t *one), struct err *err);
/* Indented, on standard output; value is consumed. */
void shared_print(json_t *value);

#endif
