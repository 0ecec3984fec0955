/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking a running lodge-vmm over its control socket: see include/vmm_control.h. One connection,
 * one request after the other, each with a limit of time: a monitor that hangs must not hang us.
 */
#ifndef LODGE_CMD_VMM_CLIENT_H
#define LODGE_CMD_VMM_CLIENT_H

#include "base/err.h"

#include <jansson.h>

int vmm_client_connect(const char *path, int *ret_fd, struct err *err);
/* request is consumed; *ret is the reply's "result", owned by the caller. A refusal is -EREMOTEIO
 * with the monitor's own words. */
int vmm_client_ask(int fd, json_t *request, json_t **ret, struct err *err);

#endif
