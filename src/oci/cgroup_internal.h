/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that write limits share. */
#ifndef LODGE_OCI_CGROUP_INTERNAL_H
#define LODGE_OCI_CGROUP_INTERNAL_H

#include "oci/cgroup.h"

bool cgroup_has_file(struct cgroup *cgroup, const char *file);
/* To the file in whichever hierarchy has it; -ENOTSUP naming it when none does. */
int cgroup_write_text(struct cgroup *cgroup, const char *file, const char *text, struct err *err);
int cgroup_write_number(struct cgroup *cgroup, const char *file, int64_t value, struct err *err);
/* The members of linux.resources that have no place in struct oci_resources. NULL: none. */
int cgroup_apply_document(struct cgroup *cgroup, json_t *resources, struct err *err);

#endif
