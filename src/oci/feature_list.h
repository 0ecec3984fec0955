/* SPDX-License-Identifier: Apache-2.0 */
/* What this runtime understands, as the runtime specification's features.md has it. */
#ifndef LODGE_OCI_FEATURE_LIST_H
#define LODGE_OCI_FEATURE_LIST_H

#include <jansson.h>

/* New reference; NULL: out of memory. */
json_t *oci_features(void);

#endif
