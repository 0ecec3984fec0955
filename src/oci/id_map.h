/* SPDX-License-Identifier: Apache-2.0 */
/* The uid and gid maps of a new user namespace (user_namespaces(7)). */
#ifndef LODGE_OCI_ID_MAP_H
#define LODGE_OCI_ID_MAP_H

#include "base/err.h"
#include "oci/spec.h"

#include <sys/types.h>

/* Writes both maps for process pid: as root directly, as an ordinary user either the one id that is
 * their own or, through newuidmap(1) and newgidmap(1), what /etc/subuid and /etc/subgid grant. */
int id_map_write(pid_t pid, const struct oci_spec *spec, struct err *err);

/* file: "uid_map" or "gid_map" of process pid; without maps it stays as it is. -errno. */
int id_map_write_file(pid_t pid, const char *file, const struct oci_id_map *maps, size_t length);

#endif
