/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the runtime does below the container's /proc and /sys: kernel parameters are written, paths
 * are covered.
 *
 * Invariant: where the configuration mounts procfs or sysfs there, it is that mount which is worked
 * on. It is opened once, without symlinks, its type is checked, and everything below is looked up
 * from that descriptor; whoever shares the root and moves directories meanwhile ends the start with
 * an error, and cannot make a mask miss (CVE-2019-19921, CVE-2025-52881).
 */
#ifndef LODGE_OCI_SYSTEM_PATHS_H
#define LODGE_OCI_SYSTEM_PATHS_H

#include "base/err.h"
#include "oci/spec.h"

/* linux.sysctl, readonlyPaths and maskedPaths of a root whose mounts stand. Absent paths have
 * nothing to cover. Masked files get the host's null device, directories an empty read-only tmpfs.
 */
int system_paths_set_up(const struct oci_spec *spec, int root_fd, struct err *err);

#endif
