/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the configuration's parser, one per file; for spec.c and its neighbours only. Each
 * reads one member of `at` into *ret; absent members leave the defaults. What was allocated by then
 * belongs to the specification also after an error.
 */
#ifndef LODGE_OCI_SPEC_PARTS_H
#define LODGE_OCI_SPEC_PARTS_H

#include "base/json.h"
#include "oci/spec.h"

/* spec_process.c */
int spec_read_process(const struct json_at *root, struct oci_process *ret, struct err *err);

/* spec_mounts.c */
int spec_read_mounts(const struct json_at *root, struct oci_spec *ret, struct err *err);
int spec_read_id_maps(const struct json_at *at, const char *name, struct oci_id_map **ret,
                      size_t *ret_length, struct err *err);

/* spec_linux.c */
int spec_read_linux(const struct json_at *root, struct oci_spec *ret, struct err *err);

/* spec_resources.c */
int spec_read_devices(const struct json_at *linux_at, struct oci_spec *ret, struct err *err);
int spec_read_resources(const struct json_at *linux_at, struct oci_resources *ret, struct err *err);

#endif
