/* SPDX-License-Identifier: Apache-2.0 */
/* Work that the manager does as an operation, seen from the command line. */
#ifndef LODGE_CMD_OPERATE_H
#define LODGE_CMD_OPERATE_H

#include "base/err.h"
#include "cmd/progress.h"

#include <jansson.h>

/*
 * POSTs `body` (consumed; NULL: none) to `path`, draws how far the operation is until it is over,
 * and gives its result (a new reference; ret may be NULL). SIGINT and SIGTERM cancel it: -ECANCELED
 * then. One that failed is -EREMOTEIO with its words.
 */
int operate(const char *path, json_t *body, struct progress *progress, json_t **ret,
            struct err *err);
/* The file as the manager finds it: absolute, by our working directory. -ENAMETOOLONG. */
int operate_path(const char *path, char *ret, size_t size, struct err *err);
/* What the bar says of an operation's document. */
void operate_show(struct progress *progress, const json_t *operation);

#endif
