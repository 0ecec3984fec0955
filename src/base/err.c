/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Formatting into the bounded message. Wrapping writes the new context in front of what is there
 * and cuts at the end, so the outermost context survives.
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 0))) static void message_format(struct err *err, int code,
                                                                 const char *format, va_list args)
{
    err->code = code;
    vsnprintf(err->message, sizeof(err->message), format, args);
}

int err_set_(struct err *err, int code, const char *format, ...)
{
    va_list args;

    if (!err)
        return code;
    va_start(args, format);
    message_format(err, code, format, args);
    va_end(args);
    return code;
}

int err_errno_(struct err *err, int code, const char *format, ...)
{
    va_list args;
    size_t used;

    if (!err)
        return code;
    va_start(args, format);
    message_format(err, code, format, args);
    va_end(args);
    used = strlen(err->message);
    snprintf(err->message + used, sizeof(err->message) - used, ": %s", strerror(-code));
    return code;
}

int err_wrap_(struct err *err, const char *format, ...)
{
    char inner[ERR_MESSAGE_MAX];
    va_list args;
    size_t used;

    if (!err)
        return 0;
    memcpy(inner, err->message, sizeof(inner));
    va_start(args, format);
    vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    used = strlen(err->message);
    snprintf(err->message + used, sizeof(err->message) - used, ": %s", inner);
    return err->code;
}

void err_clear(struct err *err)
{
    if (!err)
        return;
    err->code = 0;
    err->message[0] = '\0';
}
