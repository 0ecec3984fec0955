/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs that act on a container that is there: signals, freezing, listing its processes, new
 * limits. */
#ifndef LODGE_OCI_CONTROL_H
#define LODGE_OCI_CONTROL_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* To the first process, or with `all` to every process of the cgroup. -ESRCH: it does not run. */
int container_kill(const char *root, const char *id, int signal_number, bool all, struct err *err);
/* -EINVAL unless it runs (pause) or is paused (resume). */
int container_freeze(const char *root, const char *id, bool freeze, struct err *err);
/* Its processes, ascending; malloc. */
int container_processes(const char *root, const char *id, pid_t **ret, size_t *ret_length,
                        struct err *err);
/* Members of `changes` (an object as linux.resources) replace those in force; 0, "" and null leave
 * theirs as they are. The result stays with the container's state. */
int container_update(const char *root, const char *id, json_t *changes, struct err *err);
/* New schemata of linux.intelRdt; NULL: unchanged. */
int container_update_rdt(const char *root, const char *id, const char *l3_schema,
                         const char *bandwidth_schema, struct err *err);

#endif
