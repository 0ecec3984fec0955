/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error that travels up: a negative errno and a bounded message, owned by the caller, never
 * allocated. A library fills it once with err_set, each level above may add context in front of the
 * message with err_wrap, and whoever owns the operation prints it, once.
 *
 * Invariants: 1. code is 0 or a negative errno.  2. message is always terminated.
 * Every function here accepts err == NULL (the caller wants the code alone).
 */
#ifndef LODGE_BASE_ERR_H
#define LODGE_BASE_ERR_H

#include <errno.h>

#define ERR_MESSAGE_MAX 1024

struct err {
    int code; /* negative errno, 0 while nothing went wrong */
    char message[ERR_MESSAGE_MAX];
};

/* clang-format off */
#define ERR_INIT {0, ""}
/* clang-format on */

/*
 * Sets code and message and returns code, so that a failure is one line: return err_set(err,
 * -EINVAL, ...). A code that is not negative is our own bug; it becomes -EIO, so that a failure can
 * never look like success (and compilers and analyzers know it).
 */
#define err_set(err, code, ...) err_negative_(err_set_(err, code, __VA_ARGS__))

/* As err_set, and appends ": " and the text of -code (strerror). For failed system calls. */
#define err_errno(err, code, ...) err_negative_(err_errno_(err, code, __VA_ARGS__))

/* Puts "<context>: " in front of the message that is already there. Returns the code that is there.
 */
#define err_wrap(err, ...) err_negative_(err_wrap_(err, __VA_ARGS__))

int err_set_(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int err_errno_(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int err_wrap_(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline int err_negative_(int code)
{
    return code < 0 ? code : -EIO;
}

void err_clear(struct err *err);

#endif
