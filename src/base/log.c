/* SPDX-License-Identifier: Apache-2.0 */
/* One write(2) a line, so that lines of several threads and processes do not mix. */
#include "base/log.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048

static const char *log_program = "lodge";
static enum log_level log_most_verbose = LOG_LEVEL_INFO;
static int log_fd = STDERR_FILENO;
static enum log_format log_form = LOG_FORMAT_TEXT;
static _Thread_local const struct log_subject *log_subject;
static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_init(const char *program, enum log_level most_verbose)
{
    log_program = program;
    log_most_verbose = most_verbose;
}

void log_set_fd(int fd)
{
    log_fd = fd;
}

void log_set_format(enum log_format format)
{
    log_form = format;
}

bool log_level_parse(const char *name, enum log_level *ret)
{
    for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++)
        if (!strcmp(name, level_names[i])) {
            *ret = (enum log_level)i;
            return true;
        }
    return false;
}

const struct log_subject *log_set_subject(const struct log_subject *subject)
{
    const struct log_subject *before = log_subject;

    log_subject = subject;
    return before;
}

/* How many bytes a UTF-8 character at `at` has; 0: it is none (RFC 3629). */
static size_t utf8_length(const unsigned char *at)
{
    size_t length = at[0] < 0x80                    ? 1
                    : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
                    : at[0] >= 0xe0 && at[0] < 0xf0 ? 3
                    : at[0] >= 0xf0 && at[0] < 0xf5 ? 4
                                                    : 0;

    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] >= 0xa0) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] >= 0x90))
        return 0;
    return length;
}

/* As a JSON string behind what is in line already; cut where the line would be too long. */
static size_t put_string(char *line, size_t used, const char *name, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t length;

    used += (size_t)snprintf(line + used, LOG_LINE_MAX - used, ", \"%s\": \"", name);
    for (; *at && used < LOG_LINE_MAX - 200; at += length ? length : 1) {
        length = utf8_length(at);
        if (*at < 32 || !length)
            used += (size_t)snprintf(line + used, LOG_LINE_MAX - used, "\\u%04x",
                                     length ? *at : 0xfffdu);
        else if (*at == '"' || *at == '\\')
            used += (size_t)snprintf(line + used, LOG_LINE_MAX - used, "\\%c", *at);
        else {
            memcpy(line + used, at, length);
            used += length;
        }
    }
    line[used++] = '"';
    return used;
}

static size_t json_line(char line[LOG_LINE_MAX], enum log_level level, const char *message)
{
    struct timespec now;
    struct tm parts;
    size_t used;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    used = strftime(line, 64, "{\"time\": \"%Y-%m-%dT%H:%M:%S", &parts);
    used += (size_t)snprintf(line + used, LOG_LINE_MAX - used, ".%03ldZ\"", now.tv_nsec / 1000000);
    used = put_string(line, used, "level", level_names[level]);
    used = put_string(line, used, "program", log_program);
    if (log_subject && log_subject->instance)
        used = put_string(line, used, "instance", log_subject->instance);
    if (log_subject && log_subject->operation)
        used += (size_t)snprintf(line + used, LOG_LINE_MAX - used, ", \"operation\": %llu",
                                 (unsigned long long)log_subject->operation);
    if (log_subject && log_subject->client)
        used = put_string(line, used, "client", log_subject->client);
    used = put_string(line, used, "message", message);
    line[used++] = '}';
    return used;
}

__attribute__((format(printf, 2, 0))) static void log_line(enum log_level level, const char *format,
                                                           va_list args)
{
    char line[LOG_LINE_MAX];
    int saved_errno = errno;
    size_t used;

    if (level > log_most_verbose)
        return;
    if (log_form == LOG_FORMAT_JSON) {
        char message[LOG_LINE_MAX];

        vsnprintf(message, sizeof(message), format, args);
        used = json_line(line, level, message);
    } else {
        snprintf(line, sizeof(line), "%s: %s: ", log_program, level_names[level]);
        used = strlen(line);
        vsnprintf(line + used, sizeof(line) - used - 1, format, args);
        used = strlen(line);
    }
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
