/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Id-mapped mounts (config.md "mounts": uidMappings, gidMappings, the options idmap and ridmap).
 * The kernel takes the map from a user namespace, and from a process with privileges over the file
 * system: so the runtime makes these mounts, detached, before the container's first process exists,
 * which then only attaches them.
 */
#ifndef LODGE_OCI_MOUNT_IDMAP_H
#define LODGE_OCI_MOUNT_IDMAP_H

#include "oci/spec.h"

/* Fills tree_fd of every mount that wants a map; relative sources count from bundle_fd. */
int mount_idmap_prepare(struct oci_spec *spec, int bundle_fd, struct err *err);

#endif
