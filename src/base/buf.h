/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growable byte buffer with a cap: growth past the cap fails with -EFBIG, so that no peer can
 * make a process grow without end. One owner, no locks.
 */
#ifndef LODGE_BASE_BUF_H
#define LODGE_BASE_BUF_H

#include "base/cleanup.h"

#include <stddef.h>

struct buf {
    char *data;
    size_t length;   /* bytes in use */
    size_t capacity; /* bytes allocated */
    size_t cap;      /* never more than this many bytes */
};

void buf_init(struct buf *buf, size_t cap);
void buf_done(struct buf *buf);

/* All return 0, -ENOMEM or -EFBIG; on failure the contents are unchanged. */
int buf_reserve(struct buf *buf, size_t extra);
int buf_append(struct buf *buf, const void *data, size_t length);
int buf_append_string(struct buf *buf, const char *string);
int buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Removes `length` bytes from the front. */
void buf_consume(struct buf *buf, size_t length);
/* Terminates the contents with NUL (not counted in length) and returns them; NULL when out of
 * memory or cap. */
char *buf_string(struct buf *buf);

static inline void buf_donep(struct buf *buf)
{
    buf_done(buf);
}

#endif
