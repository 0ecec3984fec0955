/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking the manager: HTTP/1.1 over its unix socket, one request a connection. Starts a manager
 * when none answers. One thread.
 */
#ifndef LODGE_CMD_API_CLIENT_H
#define LODGE_CMD_API_CLIENT_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/* Whether a manager answers at its socket, without starting one. */
bool api_is_there(void);
/* Sends `body` (NULL: none; consumed). *ret (may be NULL): the answer's document, the caller's.
 * An answer that is a refusal is -EREMOTEIO with the manager's words, *ret_status its HTTP status.
 */
int api_ask(const char *method, const char *path, json_t *body, json_t **ret, int *ret_status,
            struct err *err);
/* Likewise, a request of an instance's life. *ret_exit_code is written where it failed because a
 * command could not be run: 126, 127. */
int api_ask_life(const char *method, const char *path, json_t *body, int *ret_exit_code,
                 struct err *err);
/* A GET whose answer comes piece by piece; fn returns non-zero to break off. */
int api_stream(const char *path, int (*fn)(const char *data, size_t length, void *context),
               void *context, struct err *err);
/* POST that turns the connection into a stream (include/stream_protocol.h): *ret_fd. */
int api_upgrade(const char *path, json_t *body, int *ret_fd, struct err *err);
/* Appends `text` to a path or a query, escaped. */
void api_escape(struct buf *to, const char *text);

#endif
