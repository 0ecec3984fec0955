/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line to standard error per event: "<program>: <level>: <message>", or a JSON object {"time",
 * "level", "program", "message"} with "instance", "operation" and "client" where they are known.
 * Only the owner of an operation logs; libraries return errors. Thread-safe: each line is one
 * write(2).
 */
#ifndef LODGE_BASE_LOG_H
#define LODGE_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
};

/* program must outlive the process's logging. Without a call: "lodge", LOG_LEVEL_INFO, standard
 * error. */
void log_init(const char *program, enum log_level most_verbose);
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

void log_set_format(enum log_format format);
/* "error", "warning", "info", "debug". False: none of these. */
bool log_level_parse(const char *name, enum log_level *ret);

/* What the lines of a thread are about; NULL and 0 are not said. Borrowed while it is set. */
struct log_subject {
    const char *instance, *client;
    uint64_t operation;
};

/* Of the calling thread; NULL: nothing. Returns what it was before, for the end of a scope. */
const struct log_subject *log_set_subject(const struct log_subject *subject);

/* Lines go to fd from now on (it stays the caller's). */
void log_set_fd(int fd);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * For what a guest can trigger: true at most `burst` times per second per struct; the caller logs
 * only then. static struct log_limit limit = {.burst = 5}; if (log_limit_allow(&limit))
 * log_warning(...);
 */
struct log_limit {
    unsigned burst;
    uint64_t window_start_ns; /* written atomically by log_limit_allow */
    unsigned used;
};

bool log_limit_allow(struct log_limit *limit);

#endif
