/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of `lodge run`: what both isolations need, and the two of them. */
#ifndef LODGE_CMD_RUN_H
#define LODGE_CMD_RUN_H

#include "base/buf.h"
#include "cmd/run_dir.h"
#include "cmd/run_options.h"
#include "image/store.h"
#include "launch/command.h"

struct run_attachment;

struct run_context {
    const struct run_options *options;
    const struct store *store;
    const struct image *image;
    const struct launch_command *command;
    struct run_dir *dir;
    const char *hostname;
    struct run_attachment *attachment; /* to a network by name; NULL: none */
    int signal_fd;                     /* the signals to pass on; all of them blocked */
};

/* *ret_status: the exit status. Negative: an error of our own (*ret_status is then what to exit
 * with, 125 unless the cause is the command). */
int run_vm(const struct run_context *context, int *ret_status, struct err *err);
int run_container(const struct run_context *context, const char *oci_program, int *ret_status,
                  struct err *err);

#endif
