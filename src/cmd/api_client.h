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
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

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
/*
 * A PUT of content that `produce` writes piece by piece with api_put_write, until it returns; a
 * failure of its own (with err set) is passed on, and the connection cut. length: of all of it;
 * UINT64_MAX: not known. stop: what a signal sets to have a wait end with -ECANCELED.
 * -EPIPE, -ECONNRESET: the manager wanted no more.
 */
struct api_put;
int api_put_write(struct api_put *put, const void *data, size_t length);
int api_put(const char *path, uint64_t length, const volatile sig_atomic_t *stop,
            int (*produce)(struct api_put *put, void *context, struct err *err), void *context,
            struct err *err);
/* A GET whose answer comes piece by piece; fn returns non-zero to break off. */
int api_stream(const char *path, int (*fn)(const char *data, size_t length, void *context),
               void *context, struct err *err);
/* POST that turns the connection into a stream (include/stream_protocol.h): *ret_fd. */
int api_upgrade(const char *path, json_t *body, int *ret_fd, struct err *err);
/* Appends `text` to a path or a query, escaped. */
void api_escape(struct buf *to, const char *text);

#endif
