/* SPDX-License-Identifier: Apache-2.0 */
/* `--disk SERIAL,FORMAT[,ro],PATH` of `lodge run --vm`: a disk beyond the machine's own. */
#ifndef LODGE_CMD_RUN_DISKS_H
#define LODGE_CMD_RUN_DISKS_H

#include "base/err.h"
#include "cmd/run_options.h"

#include <jansson.h>

struct run_disk {
    char serial[24];
    const char *format, *path; /* of the text */
    bool read_only;
};

int run_disk_parse(const char *text, struct run_disk *ret, struct err *err);
/* Adds them to the monitor's configuration, behind all others. */
int run_disks_config(const struct run_options *options, json_t *config, struct err *err);

#endif
