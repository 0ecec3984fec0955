/* SPDX-License-Identifier: Apache-2.0 */
/* linux.memoryPolicy (config-linux.md, version 1.3): on which NUMA nodes the container's processes
 * get their memory (set_mempolicy(2)). */
#ifndef LODGE_OCI_MEMORY_POLICY_H
#define LODGE_OCI_MEMORY_POLICY_H

#include "base/json.h"
#include "oci/spec.h"

int memory_policy_read(const struct json_at *linux_at, struct oci_memory_policy *ret,
                       struct err *err);
/* Of the calling process, kept over execve. */
int memory_policy_apply(const struct oci_memory_policy *policy, struct err *err);

#endif
