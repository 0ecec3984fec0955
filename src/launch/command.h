/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is run: arguments, environment, directory and user, out of what an image's configuration
 * says and what was asked for. What was asked for wins.
 */
#ifndef LODGE_LAUNCH_COMMAND_H
#define LODGE_LAUNCH_COMMAND_H

#include "base/err.h"
#include "image/store.h"

#include <stdbool.h>
#include <stddef.h>

/* What was asked for; everything borrowed. */
struct launch_request {
    char *const *argv;      /* NULL-terminated; empty: the image's own command */
    const char *const *env; /* NAME=VALUE, or NAME alone, which passes our own on */
    size_t nr_env;
    const char *cwd, *user; /* NULL: the image's */
    const char *term;       /* TERM, unless the image or env says otherwise; NULL: none */
};

/* The entries of env are owned, the rest is borrowed from the request and the image. */
struct launch_command {
    char **argv, **env; /* NULL-terminated */
    const char *cwd, *user;
    size_t nr_env;
};

int launch_command_build(const struct launch_request *request, const struct image *image,
                         struct launch_command *ret, struct err *err);
void launch_command_done(struct launch_command *command);

#endif
