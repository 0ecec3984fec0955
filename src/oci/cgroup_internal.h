/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that write limits share. */
#ifndef LODGE_OCI_CGROUP_INTERNAL_H
#define LODGE_OCI_CGROUP_INTERNAL_H

#include "oci/cgroup.h"

bool cgroup_has_file(struct cgroup *cgroup, const char *file);
/* To the file in whichever hierarchy has it; -ENOTSUP naming it when none does. */
int cgroup_write_text(struct cgroup *cgroup, const char *file, const char *text, struct err *err);
int cgroup_write_number(struct cgroup *cgroup, const char *file, int64_t value, struct err *err);
/* memory.checkBeforeUpdate, before anything is written: -EBUSY when the limit is below what is in
 * use. */
int cgroup_check_memory(struct cgroup *cgroup, json_t *resources, struct err *err);
/* Writes "+controller" to cgroup.subtree_control of all directories above the cgroup in the version
 * 2 hierarchy. Best effort: a missing controller shows when its file is used. */
void cgroup_hand_down(struct cgroup *cgroup, const char *controller);
/* The members of linux.resources that have no place in struct oci_resources. NULL: none. */
int cgroup_apply_document(struct cgroup *cgroup, json_t *resources, struct err *err);

#endif
