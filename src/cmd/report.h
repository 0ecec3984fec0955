/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `lodge ... --report` writes on standard output for a program that watches it, the manager
 * above all: a line of JSON each.
 *
 *      {"progress": {"text": "layer 1 of 2", "done": 1048576, "total": 4194304}}    bytes; 0:
 * unknown
 *      {"result": {...}}                                                            at the end
 *      {"error": {"code": 2, "message": "..."}}                                     an errno
 */
#ifndef LODGE_CMD_REPORT_H
#define LODGE_CMD_REPORT_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct report {
    uint64_t written_ns;
    char text[64];
};

/* At most ten lines a second, unless `text` changes. */
void report_progress(struct report *report, const char *text, uint64_t done, uint64_t total);
/* result: consumed. */
void report_result(json_t *result);
/* The exit status for what a verb came to; a failure is told, by such a line if that was asked for,
 * and in words otherwise. */
int report_exit(bool asked, int result, const struct err *err);

#endif
