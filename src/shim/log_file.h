/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of an instance's output: include/shim_protocol.h has the format. Never in the way of the
 * guest: what cannot be written (a full disk) is counted and dropped, and a line says so later.
 * One thread.
 */
#ifndef LODGE_SHIM_LOG_FILE_H
#define LODGE_SHIM_LOG_FILE_H

#include "base/buf.h"
#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct log_file {
    int fd;
    char path[PATH_MAX];
    uint64_t size, most; /* bytes now, and at most before the file is turned over */
    uint64_t dropped;    /* bytes of output that could not be written */
    struct buf line[2];  /* the unfinished line of standard output, of standard error */
};

int log_file_open(struct log_file *log, const char *path, uint64_t most, struct err *err);
/* stream: 0 standard output, 1 standard error. */
void log_file_write(struct log_file *log, unsigned stream, const char *data, size_t length);
/* Writes what is left of unfinished lines, closes. */
void log_file_close(struct log_file *log);

#endif
