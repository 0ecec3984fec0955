/* SPDX-License-Identifier: Apache-2.0 */
/* How an instance is kept running and known to be well, as options of run, create, update and vm.
 * Pure parsing. */
#ifndef LODGE_CMD_LIFE_OPTIONS_H
#define LODGE_CMD_LIFE_OPTIONS_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

/* "no", "on-failure:5" and so on as the member "restart" of object (NULL: only looked at); text
 * NULL: nothing. -EINVAL. */
int restart_put(json_t *object, const char *text, struct err *err);

struct health_options {
    const char *command;                              /* NULL: no health check */
    uint64_t interval_s, timeout_s, start_s, retries; /* 0: not given */
};

/* -EINVAL: figures without a command. */
int health_options_check(const struct health_options *options, struct err *err);
/* As the member "health" of object. What was not given is the API's default. */
void health_options_put(const struct health_options *options, json_t *object);

#endif
