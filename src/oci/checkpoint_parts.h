/* SPDX-License-Identifier: Apache-2.0 */
/* What saving and restoring have in common; for checkpoint.c and restore.c only. */
#ifndef LODGE_OCI_CHECKPOINT_PARTS_H
#define LODGE_OCI_CHECKPOINT_PARTS_H

#include "oci/checkpoint.h"
#include "oci/criu_options.h"
#include "oci/spec.h"

#define CHECKPOINT_DESCRIPTORS "descriptors.json"
/* CRIU's names for namespaces that were joined by path. */
#define CHECKPOINT_NETWORK "extRootNetNS"
#define CHECKPOINT_PIDS    "extRootPidNS"

struct checkpoint_directories {
    int image, work; /* descriptors; work may be -1 */
};

/* make: directories that are missing. */
int checkpoint_open(const struct checkpoint_options *options, bool make,
                    struct checkpoint_directories *ret, struct err *err);
void checkpoint_close(struct checkpoint_directories *directories);

/* The options that both requests have. */
int checkpoint_common(const struct checkpoint_options *options,
                      const struct checkpoint_directories *directories, const char *log_name,
                      struct criu_options *ret, struct err *err);
/* Adds the first error of CRIU's own log to err, which says where the rest is. */
int checkpoint_explain(const struct checkpoint_options *options,
                       const struct checkpoint_directories *directories, const char *log_name,
                       struct err *err);

/* Calls `each` for every mount that comes from outside the container: its place as the
 * configuration names it, and the host's file (absolute; NULL when it has no fixed one). */
typedef int checkpoint_mount_fn(void *opaque, const char *place, const char *host, struct err *err);
int checkpoint_each_mount(const struct oci_spec *spec, const char *bundle, const char *cgroup_path,
                          checkpoint_mount_fn *each, void *opaque, struct err *err);

#endif
