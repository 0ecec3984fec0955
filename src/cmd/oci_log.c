/* SPDX-License-Identifier: Apache-2.0 */
/* Errors go to standard error, and to the file that --log names in the format that --log-format
 * says, as callers of runtimes expect. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "cmd/oci_cli.h"
#include "oci/self.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void write_log(const struct oci_global *global, const char *message)
{
    CLEANUP(fd_closep) int fd = -1;
    CLEANUP(freep) char *line = NULL;
    time_t now = (time_t)(clock_realtime_ns() / NS_PER_S);
    char stamp[40];
    struct tm tm;

    if (!global->log_path)
        return;
    fd = open(global->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (global->log_json) {
        CLEANUP(json_decrefp)
        json_t *json = json_pack("{s:s, s:s, s:s}", "level", "error", "msg", message, "time",
                                 stamp);
        CLEANUP(freep) char *text = json_text(json, JSON_COMPACT);

        if (!text || asprintf(&line, "%s\n", text) < 0)
            line = NULL;
    } else if (asprintf(&line, "time=\"%s\" level=error msg=\"%s\"\n", stamp, message) < 0) {
        line = NULL;
    }
    if (fd >= 0 && line)
        file_write_full(fd, line, strlen(line));
}

int oci_fail(const struct oci_global *global, const struct err *err)
{
    fprintf(stderr, "lodge-oci: %s\n", err->message);
    write_log(global, err->message);
    return 1;
}

int oci_usage_error(const struct oci_global *global, const char *format, ...)
{
    struct err err = ERR_INIT;
    va_list args;

    va_start(args, format);
    vsnprintf(err.message, sizeof(err.message), format, args);
    va_end(args);
    oci_fail(global, &err);
    return oci_unknown_option();
}

int oci_unknown_option(void)
{
    fputs("Try 'lodge-oci --help'.\n", stderr);
    return 1;
}

int oci_check_preserved(const struct oci_global *global, const char *verb, int n)
{
    for (int fd = 3; fd < 3 + n; fd++)
        if (fd == self_mount() || fcntl(fd, F_GETFD) < 0)
            return oci_usage_error(global, "%s: --preserve-fds %d: descriptor %d is not open", verb,
                                   n, fd);
    return 0;
}

const char *oci_single_id(const struct oci_global *global, int argc, char **argv)
{
    if (argc - optind == 1)
        return argv[optind];
    oci_usage_error(global, "%s: one container id is needed, not %d", argv[0], argc - optind);
    return NULL;
}

const char *oci_only_id(const struct oci_global *global, int argc, char **argv)
{
    static const struct option none[] = {{NULL, 0, NULL, 0}};

    if (getopt_long(argc, argv, "+", none, NULL) < 0)
        return oci_single_id(global, argc, argv);
    oci_unknown_option();
    return NULL;
}

int oci_print_json(const struct oci_global *global, json_t *json, size_t flags)
{
    struct err err;

    if (json_dumpf(json, stdout, flags | JSON_REAL_PRECISION(17)) < 0 || putchar('\n') < 0 ||
        fflush(stdout) != 0) {
        err_errno(&err, -EIO, "standard output");
        return oci_fail(global, &err);
    }
    return 0;
}
