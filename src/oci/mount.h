/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts of one container, made by its own first process in its own mount namespace: nothing here
 * is seen by, or left on, the host.
 */
#ifndef LODGE_OCI_MOUNT_H
#define LODGE_OCI_MOUNT_H

#include "base/err.h"
#include "oci/cgroup.h"
#include "oci/spec.h"

/*
 * Makes the root file system a mount of its own and returns an O_PATH fd to it. With the annotation
 * `io.lodge.overlay.lower` (one or more directories, ':' between them) the root is an overlay over
 * them: its upper layer is `io.lodge.overlay.upper` with `io.lodge.overlay.work`, or else a tmpfs
 * of `io.lodge.overlay.size` bytes that goes away with the container. rootfs is the absolute path
 * of root.path, which serves as the mount point.
 */
int mount_root(const struct oci_spec *spec, const char *rootfs, int *ret_root_fd, struct err *err);

/* Every entry of spec.mounts, in order, below root_fd; relative bind sources count from bundle_fd.
 * own (NULL: none) is the container's, for mounts of type cgroup. */
int mount_all(const struct oci_spec *spec, const struct cgroup *own, int bundle_fd, int root_fd,
              struct err *err);

/* A bind of the host file or device `source_fd` onto path (made where missing; a symlink there is
 * refused). */
int mount_bind_fd(int source_fd, int root_fd, const char *path, struct err *err);

/* The root becomes /, the host's root goes away. read_only: / is remounted so. */
int mount_pivot(int root_fd, bool read_only, struct err *err);

#endif
