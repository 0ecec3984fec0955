/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growth doubles, and stops at the cap; what buf_consume took off the front is moved over at once,
 * so data always begins at the allocation's start.
 */
#include "base/buf.h"

#include "base/util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_init(struct buf *buf, size_t cap)
{
    *buf = (struct buf){.cap = cap};
}

void buf_done(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

int buf_reserve(struct buf *buf, size_t extra)
{
    size_t need, capacity;
    char *data;

    if (buf->length > buf->cap || extra > buf->cap - buf->length)
        return -EFBIG;
    need = buf->length + extra;
    if (need <= buf->capacity)
        return 0;
    capacity = MAX(buf->capacity * 2, (size_t)64);
    capacity = MIN(MAX(capacity, need), buf->cap);
    if (!(data = realloc(buf->data, capacity)))
        return -ENOMEM;
    buf->data = data;
    buf->capacity = capacity;
    return 0;
}

int buf_append(struct buf *buf, const void *data, size_t length)
{
    int result = buf_reserve(buf, length);

    if (result < 0)
        return result;
    if (length)
        memcpy(buf->data + buf->length, data, length);
    buf->length += length;
    return 0;
}

int buf_append_string(struct buf *buf, const char *string)
{
    return buf_append(buf, string, strlen(string));
}

int buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    int length, result;

    va_start(args, format);
    length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0)
        return -EINVAL;
    if ((result = buf_reserve(buf, (size_t)length + 1)) < 0)
        return result;
    va_start(args, format);
    vsnprintf(buf->data + buf->length, (size_t)length + 1, format, args);
    va_end(args);
    buf->length += (size_t)length;
    return 0;
}

void buf_consume(struct buf *buf, size_t length)
{
    if ((length = MIN(length, buf->length)) == 0)
        return; /* there may be no data yet */
    buf->length -= length;
    memmove(buf->data, buf->data + length, buf->length);
}

char *buf_string(struct buf *buf)
{
    if (buf_reserve(buf, 1) < 0)
        return NULL;
    buf->data[buf->length] = '\0';
    return buf->data;
}
