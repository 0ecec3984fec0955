/* SPDX-License-Identifier: Apache-2.0 */
/* What `lodge stats` says of managed instances: the manager's figures as a table. */
#ifndef LODGE_CMD_MANAGED_STATS_H
#define LODGE_CMD_MANAGED_STATS_H

#include "base/err.h"

#include <jansson.h>

/* The figures of all that run, an array (new reference); empty when no manager serves. */
int managed_stats_ask(json_t **ret, struct err *err);
/* `earlier` (NULL: none): the same a time before, for the share of a processor. */
void managed_stats_print(const json_t *now, const json_t *earlier, double seconds);

#endif
