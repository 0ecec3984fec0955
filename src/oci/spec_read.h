/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads that every part of the configuration's parser needs: bounded arrays, lists of strings,
 * 32-bit numbers. Absent members leave *ret as it is. Each error names the member by its path.
 */
#ifndef LODGE_OCI_SPEC_READ_H
#define LODGE_OCI_SPEC_READ_H

#include "base/json.h"
#include "oci/spec.h"

/* at.name as an array of at most 65,536 elements; absent: ret->value is NULL and the length 0. */
int spec_read_array(const struct json_at *at, const char *name, struct json_at *ret,
                    size_t *ret_length, struct err *err);
/* Zeroed room for length + 1 elements, or NULL. */
void *spec_new_list(size_t length, size_t size);
/* Strings without NUL; ret->items is malloc'ed (also after an error) and NULL-terminated. */
int spec_read_strings(const struct json_at *at, const char *name, struct oci_strings *ret,
                      struct err *err);
int spec_read_uint32(const struct json_at *at, const char *name, uint32_t *ret, struct err *err);

#endif
