/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.netDevices (config-linux.md, version 1.3): devices of the host that become the container's,
 * with their global addresses, under a name of their own, and set up. They are not given back: at
 * the namespace's end the kernel returns hardware to the host and removes virtual ones.
 */
#ifndef LODGE_OCI_NET_DEVICE_H
#define LODGE_OCI_NET_DEVICE_H

#include "base/json.h"
#include "oci/spec.h"

int net_device_read(const struct json_at *linux_at, struct oci_spec *ret, struct err *err);
/* All of spec's, to the network namespace. */
int net_device_move_all(const struct oci_spec *spec, int namespace_fd, struct err *err);

#endif
