/* SPDX-License-Identifier: Apache-2.0 */
/* The processes of a container's cgroup: who they are, signals to all, freezing. */
#ifndef LODGE_OCI_CGROUP_PROCESSES_H
#define LODGE_OCI_CGROUP_PROCESSES_H

#include "base/err.h"
#include "oci/cgroup.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Every process in the cgroup and below it, ascending; malloc. */
int cgroup_processes(struct cgroup *cgroup, pid_t **ret, size_t *ret_length, struct err *err);
/* signal_number to each of them. */
int cgroup_signal_all(struct cgroup *cgroup, int signal_number, struct err *err);

/* Stops or continues all of them; returns when that has happened. -ENOTSUP without a freezer. */
int cgroup_freeze(struct cgroup *cgroup, bool freeze, struct err *err);
/* Is the cgroup at path frozen, or about to be? */
bool cgroup_is_frozen(const char *path);

#endif
