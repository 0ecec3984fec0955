/* SPDX-License-Identifier: Apache-2.0 */
/* A key is (field << 3 | wire type): 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes. */
#include "oci/protobuf.h"

#include <errno.h>
#include <string.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static int put_varint(struct buf *buf, uint64_t value)
{
    unsigned char bytes[10];
    size_t n = 0;

    do {
        bytes[n++] = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value);
    return buf_append(buf, bytes, n);
}

int protobuf_put_uint(struct buf *buf, unsigned field, uint64_t value)
{
    int result = put_varint(buf, (uint64_t)field << 3 | WIRE_VARINT);

    return result < 0 ? result : put_varint(buf, value);
}

int protobuf_put_int(struct buf *buf, unsigned field, int64_t value)
{
    return protobuf_put_uint(buf, field, (uint64_t)value);
}

int protobuf_put_bytes(struct buf *buf, unsigned field, const void *data, size_t length)
{
    int result = put_varint(buf, (uint64_t)field << 3 | WIRE_BYTES);

    if (result < 0 || (result = put_varint(buf, length)) < 0)
        return result;
    return buf_append(buf, data, length);
}

int protobuf_put_string(struct buf *buf, unsigned field, const char *string)
{
    return protobuf_put_bytes(buf, field, string, strlen(string));
}

int protobuf_put_message(struct buf *buf, unsigned field, const struct buf *message)
{
    return protobuf_put_bytes(buf, field, message->data, message->length);
}

static int get_varint(struct protobuf_reader *reader, uint64_t *ret)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 70 && reader->next < reader->end; shift += 7) {
        unsigned char byte = *reader->next++;

        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret = value;
            return 0;
        }
    }
    return -EBADMSG;
}

static int skip(struct protobuf_reader *reader, size_t length)
{
    if ((size_t)(reader->end - reader->next) < length)
        return -EBADMSG;
    reader->next += length;
    return 0;
}

int protobuf_next(struct protobuf_reader *reader, struct protobuf_field *ret)
{
    while (reader->next < reader->end) {
        uint64_t key, length;
        int result = get_varint(reader, &key);

        if (result < 0 || key >> 3 > UINT32_MAX)
            return -EBADMSG;
        *ret = (struct protobuf_field){.number = (unsigned)(key >> 3)};
        switch (key & 7) {
        case WIRE_VARINT:
            result = get_varint(reader, &ret->value);
            return result < 0 ? result : 1;
        case WIRE_BYTES:
            if ((result = get_varint(reader, &length)) < 0)
                return result;
            ret->is_bytes = true;
            ret->data = reader->next;
            ret->length = length;
            return skip(reader, length) < 0 ? -EBADMSG : 1;
        case WIRE_64:
            result = skip(reader, 8);
            break;
        case WIRE_32:
            result = skip(reader, 4);
            break;
        default:
            return -EBADMSG;
        }
        if (result < 0)
            return result;
    }
    return 0;
}
