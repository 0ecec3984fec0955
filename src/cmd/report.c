/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/report.h"

#include "base/clock.h"
#include "base/log.h"
#include "cmd/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define EVERY_NS (100 * NS_PER_MS)

static void write_line(json_t *line)
{
    if (line && json_dumpf(line, stdout, JSON_COMPACT) == 0)
        putchar('\n');
    fflush(stdout);
    json_decref(line);
}

void report_progress(struct report *report, const char *text, uint64_t done, uint64_t total)
{
    uint64_t now = clock_monotonic_ns();

    if (report->written_ns && now - report->written_ns < EVERY_NS &&
        !strncmp(text, report->text, sizeof(report->text) - 1))
        return;
    report->written_ns = now;
    snprintf(report->text, sizeof(report->text), "%s", text);
    /* A line of another program is text as it comes. */
    write_line(json_pack("{s:{s:o, s:I, s:I}}", "progress", "text",
                         json_string(report->text) ?: json_string("working"), "done",
                         (json_int_t)done, "total", (json_int_t)total));
}

void report_result(json_t *result)
{
    write_line(json_pack("{s:o}", "result", result));
}

int report_exit(bool asked, int result, const struct err *err)
{
    if (result >= 0)
        return result;
    if (asked)
        write_line(json_pack("{s:{s:i, s:o}}", "error", "code", -result, "message",
                             json_string(err->message) ?: json_string("failed")));
    else
        log_error("%s", err->message);
    return CLI_EXIT_FAILURE;
}
