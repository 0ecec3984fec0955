/* SPDX-License-Identifier: Apache-2.0 */
/* `-v` of a virtual machine: what the monitor shares, and where lodge-init mounts it. */
#ifndef LODGE_CMD_RUN_SHARES_H
#define LODGE_CMD_RUN_SHARES_H

#include "cmd/run_options.h"

#include <jansson.h>

/* Adds "shares" to the monitor's configuration and extends its "cmdline". */
int run_shares_config(const struct run_options *options, json_t *config, struct err *err);

#endif
