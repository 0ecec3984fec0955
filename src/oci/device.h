/* SPDX-License-Identifier: Apache-2.0 */
/* /dev of a container: the nodes and links that the specification promises (config-linux.md
 * "Default Devices"), and its own. */
#ifndef LODGE_OCI_DEVICE_H
#define LODGE_OCI_DEVICE_H

#include "base/err.h"
#include "oci/spec.h"

/* Default nodes, spec.devices and the links (fd, stdin, ptmx, ...) below root_fd. In a user
 * namespace nodes are binds of the host's. */
int device_make_all(const struct oci_spec *spec, int root_fd, struct err *err);

/* The default nodes, one after the other; NULL behind the last. */
const struct oci_device *device_default(size_t index);

#endif
