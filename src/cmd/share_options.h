/* SPDX-License-Identifier: Apache-2.0 */
/* An instance's part of the host, as options of run, create and update. Pure parsing. */
#ifndef LODGE_CMD_SHARE_OPTIONS_H
#define LODGE_CMD_SHARE_OPTIONS_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/* As given; NULL: not given. */
struct share_options {
    const char *priority, *alpha, *beta, *cpu_max, *reserve_cpu, *reserve_memory, *cpuset;
};

/* The members of "resources" in the API. 0 (or an empty list of processors) takes a bound away:
 * null. */
int share_options_put(const struct share_options *options, json_t *resources, struct err *err);

/* A finite number within least and most; what names the option in the error. */
int real_parse(const char *text, const char *what, double least, double most, double *ret,
               struct err *err);
/* Processors, such as 0.5, as thousandths; null for 0. */
int put_processors(json_t *object, const char *name, const char *option, const char *text,
                   struct err *err);
int put_bytes(json_t *object, const char *name, const char *option, const char *text,
              struct err *err);
int put_real(json_t *object, const char *name, const char *option, const char *text, double least,
             double most, struct err *err);

#endif
