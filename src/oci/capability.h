/* SPDX-License-Identifier: Apache-2.0 */
/* Linux capabilities by number and set (capabilities(7)), through the system calls themselves. */
#ifndef LODGE_OCI_CAPABILITY_H
#define LODGE_OCI_CAPABILITY_H

#include "base/err.h"

#include <stdint.h>

struct oci_capabilities;

/* "CAP_SYS_ADMIN" -> 21; -1 when the name is not known. */
int capability_from_name(const char *name);
/* The name for a number, or NULL. */
const char *capability_name(unsigned number);

/* Drops everything outside `bounding` from the bounding set. Needs CAP_SETPCAP: call before the
 * user changes. */
int capability_limit_bounding(uint64_t bounding, struct err *err);
/* Effective, permitted, inheritable and ambient sets, after the user has changed (with
 * PR_SET_KEEPCAPS on). */
int capability_apply(const struct oci_capabilities *capabilities, struct err *err);

#endif
