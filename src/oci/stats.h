/* SPDX-License-Identifier: Apache-2.0 */
/* What a container uses, from its cgroup, in the shape that runc's `events` prints. */
#ifndef LODGE_OCI_STATS_H
#define LODGE_OCI_STATS_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

/* The member `data` of a stats event; *ret_oom_kills: processes killed for want of memory so far.
 * New reference. */
int container_stats(const char *root, const char *id, json_t **ret, uint64_t *ret_oom_kills,
                    struct err *err);

#endif
