/* SPDX-License-Identifier: Apache-2.0 */
/* `-v` of a virtual machine: what the monitor shares, and where lodge-init mounts it. */
#ifndef LODGE_CMD_RUN_SHARES_H
#define LODGE_CMD_RUN_SHARES_H

#include "cmd/run_options.h"

#include <jansson.h>

/* Adds "shares" to the monitor's configuration, volumes that are images to its "disks", and extends
 * its "cmdline". After the disks of the system itself. */
int run_shares_config(const struct run_options *options, json_t *config, struct err *err);

/* Whether any volume is a directory or file of the host. */
bool run_shares_any(const struct run_options *options);

#endif
