/* SPDX-License-Identifier: Apache-2.0 */
/* The manager's HTTP API on a listening socket: docs/API/openapi.json describes it. */
#ifndef LODGE_MANAGER_API_API_H
#define LODGE_MANAGER_API_API_H

#include "base/err.h"
#include "manager/manager.h"

struct api;

/* Serves listen_fd (taken, in failure too) until api_close. */
int api_open(struct manager *m, int listen_fd, struct api **ret, struct err *err);
void api_close(struct api *api);

#endif
