/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `lodge stats --all` and `lodge top --all` add of managed instances: what its scheduler,
 * cgroup and devices count of each, for containers and virtual machines alike (docs/policy.md).
 */
#ifndef LODGE_CMD_MANAGED_FIGURES_H
#define LODGE_CMD_MANAGED_FIGURES_H

#include "base/err.h"

#include <jansson.h>

/* The figures of one instance (new reference). -EREMOTEIO and others: the manager's words. */
int managed_figures_ask(const char *ref, json_t **ret, struct err *err);
/* Each of the list gets a member "figures"; null where there are none (it has just ended, or was
 * started without rights to cgroups). */
void managed_figures_add(json_t *list);
/* A table of those that have them. */
void managed_figures_print(const json_t *list);

#endif
