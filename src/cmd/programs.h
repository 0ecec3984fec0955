/* SPDX-License-Identifier: Apache-2.0 */
/* Where our other programs are. */
#ifndef LODGE_CMD_PROGRAMS_H
#define LODGE_CMD_PROGRAMS_H

#include "base/err.h"
#include "image/store.h"

/* The program `name`: what the environment variable `override` says, else beside our own, else in
 * ../libexec/lodge. -ENOENT naming the places. */
int program_find(const struct store *store, const char *name, const char *override,
                 char ret[PATH_MAX], struct err *err);

#endif
