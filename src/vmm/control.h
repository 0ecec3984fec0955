/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket (include/vmm_control.h). Private to vmm/. Everything on the loop's thread.
 */
#ifndef LODGE_VMM_CONTROL_SERVER_H
#define LODGE_VMM_CONTROL_SERVER_H

#include "base/err.h"
#include "base/loop.h"

#include <jansson.h>

struct control;

/* Answers one request: 0 with *ret (NULL: an empty object; the server frees it), or a negative
 * errno with *err. */
typedef int control_fn(void *context, const char *command, const json_t *request, json_t **ret,
                       struct err *err);

/* Listens at path. A socket that is left from a process that is gone is replaced; one that is in
 * use is -EADDRINUSE. */
int control_new(struct loop *loop, const char *path, control_fn *fn, void *context,
                struct control **ret, struct err *err);
/* Removes the socket. NULL is fine. */
void control_free(struct control *control);

/* The descriptor that came with the request that is being handled: the caller's; -1: none. */
int control_take_fd(struct control *control);

#endif
