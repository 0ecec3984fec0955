/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line to standard error per event: "<program>: <level>: <message>". Only the owner of an
 * operation logs; libraries return errors. Thread-safe: each line is one write(2).
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
