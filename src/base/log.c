/* SPDX-License-Identifier: Apache-2.0 */
/* One write(2) a line, so that lines of several threads and processes do not mix. */
#include "base/log.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048

static const char *log_program = "lodge";
static enum log_level log_most_verbose = LOG_LEVEL_INFO;
static int log_fd = STDERR_FILENO;

void log_init(const char *program, enum log_level most_verbose)
{
    log_program = program;
    log_most_verbose = most_verbose;
}

void log_set_fd(int fd)
{
    log_fd = fd;
}

__attribute__((format(printf, 2, 0))) static void log_line(enum log_level level, const char *format,
                                                           va_list args)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char line[LOG_LINE_MAX];
    int saved_errno = errno;
    size_t used;

    if (level > log_most_verbose)
        return;
    snprintf(line, sizeof(line), "%s: %s: ", log_program, names[level]);
    used = strlen(line);
    vsnprintf(line + used, sizeof(line) - used - 1, format, args);
    used = strlen(line);
    line[used++] = '\n';
    if (write(log_fd, line, used) < 0) {
        /* Nowhere left to say it. */
    }
    errno = saved_errno;
}

#define DEFINE_LOG(name, level)              \
    void log_##name(const char *format, ...) \
    {                                        \
        va_list args;                        \
                                             \
        va_start(args, format);              \
        log_line(level, format, args);       \
        va_end(args);                        \
    }
DEFINE_LOG(error, LOG_LEVEL_ERROR)
DEFINE_LOG(warning, LOG_LEVEL_WARNING)
DEFINE_LOG(info, LOG_LEVEL_INFO)
DEFINE_LOG(debug, LOG_LEVEL_DEBUG)

bool log_limit_allow(struct log_limit *limit)
{
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t start_ns = __atomic_load_n(&limit->window_start_ns, __ATOMIC_RELAXED);

    if (now_ns - start_ns >= NS_PER_S) {
        __atomic_store_n(&limit->window_start_ns, now_ns, __ATOMIC_RELAXED);
        __atomic_store_n(&limit->used, 0, __ATOMIC_RELAXED);
    }
    return __atomic_fetch_add(&limit->used, 1, __ATOMIC_RELAXED) < limit->burst;
}
