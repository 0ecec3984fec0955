/* SPDX-License-Identifier: Apache-2.0 */
/* Work that the manager does as an operation, seen from the command line. */
#ifndef LODGE_CMD_OPERATE_H
#define LODGE_CMD_OPERATE_H

#include "base/err.h"
#include "cmd/progress.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What an operation awaits. produce writes it with operate_write, which is fit for image_pack. */
struct operate_content {
    uint64_t length; /* UINT64_MAX: not known */
    int (*produce)(void *to, void *context, struct err *err);
    void *context;
};
/* -errno: the end of it. */
int operate_write(void *to, const void *data, size_t length);
/* Whether a signal has asked for its end: for a produce that waits elsewhere. */
bool operate_interrupted(void);

/*
 * Sends `body` (consumed; NULL: none) to `path`, and then the content (NULL: none is awaited),
 * draws how far the operation is until it is over, and gives its result (a new reference; ret may
 * be NULL). SIGINT and SIGTERM cancel it: -ECANCELED then. One that failed is -EREMOTEIO with its
 * words.
 */
int operate(const char *method, const char *path, json_t *body,
            const struct operate_content *content, struct progress *progress, json_t **ret,
            struct err *err);
/* The file as the manager finds it: absolute, by our working directory. -ENAMETOOLONG. */
int operate_path(const char *path, char *ret, size_t size, struct err *err);
/* What the bar says of an operation's document. */
void operate_show(struct progress *progress, const json_t *operation);

#endif
