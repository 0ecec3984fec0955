/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LODGE_OCI_MOVE_H
#define LODGE_OCI_MOVE_H

#include "base/err.h"

/* A running container's processes into the cgroup at `path` (from the root of cgroups), with its
 * limits; its state says so then. -EBUSY: it is paused. Right to do again. */
int container_move(const char *root, const char *id, const char *path, struct err *err);

#endif
