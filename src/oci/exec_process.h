/* SPDX-License-Identifier: Apache-2.0 */
/* What `exec` is to run, as the member `process` of a configuration. */
#ifndef LODGE_OCI_EXEC_PROCESS_H
#define LODGE_OCI_EXEC_PROCESS_H

#include "oci/exec.h"

#include <jansson.h>

/* Puts the process that the options describe in the place of the container's own in config. */
int exec_process_place(const struct exec_options *options, json_t *config, struct err *err);

#endif
