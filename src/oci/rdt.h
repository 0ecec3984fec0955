/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.intelRdt (config-linux.md): shares of last-level cache and memory bandwidth, by the
 * kernel's resctrl file system (Documentation/filesystems/resctrl.rst). A class of service is a
 * directory; a container that names none (closID) gets one of its own, which goes away with it.
 *
 * The root is a parameter so that tests can give another one; `rdt_root` finds the real one.
 */
#ifndef LODGE_OCI_RDT_H
#define LODGE_OCI_RDT_H

#include "base/json.h"
#include "oci/spec.h"

int rdt_read(const struct json_at *linux_at, struct oci_rdt *ret, struct err *err);
/* /sys/fs/resctrl, or NULL with err set where it is not there. */
const char *rdt_root(struct err *err);

/* What the container's directories will be, for the state: {group, own, monitor}. New reference,
 * NULL without memory. */
json_t *rdt_plan(const char *root, const struct oci_rdt *rdt, const char *container_id);
/* Makes them and writes the schemata. After a failure rdt_remove takes back what stands. */
int rdt_create(const json_t *plan, const struct oci_rdt *rdt, struct err *err);
/* The process (and what it will start) belongs to them from now on. */
int rdt_join(const json_t *plan, pid_t pid, struct err *err);
/* New lines for the schemata of a container that runs; NULL: unchanged. */
int rdt_update(const json_t *plan, const char *l3_schema, const char *bandwidth_schema,
               struct err *err);
/* plan NULL: nothing. */
void rdt_remove(const json_t *plan);

#endif
