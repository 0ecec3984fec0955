/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire format of protocol buffers, as far as CRIU's service needs it: numbers and
 * length-delimited fields, written to a buffer and read from one. No schema: the caller knows the
 * field numbers. What is read came from another program: every length is checked.
 */
#ifndef LODGE_OCI_PROTOBUF_H
#define LODGE_OCI_PROTOBUF_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All append one field; 0, -ENOMEM or -EFBIG. */
int protobuf_put_uint(struct buf *buf, unsigned field, uint64_t value);
/* A negative number takes ten bytes, as the format has it. */
int protobuf_put_int(struct buf *buf, unsigned field, int64_t value);
int protobuf_put_bytes(struct buf *buf, unsigned field, const void *data, size_t length);
int protobuf_put_string(struct buf *buf, unsigned field, const char *string);
/* A message within the message. */
int protobuf_put_message(struct buf *buf, unsigned field, const struct buf *message);

struct protobuf_reader {
    const unsigned char *next, *end;
};

struct protobuf_field {
    unsigned number;
    bool is_bytes;
    uint64_t value;            /* !is_bytes */
    const unsigned char *data; /* is_bytes; borrowed */
    size_t length;
};

/* 1: a field; 0: the end; -EBADMSG. Fixed-size fields are skipped. */
int protobuf_next(struct protobuf_reader *reader, struct protobuf_field *ret);

#endif
