/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What travels on a connection that was upgraded to "lodge-stream" (attach, exec): frames both
 * ways, each an 8-byte header and then `length` bytes.
 *
 *      byte 0     type
 *      bytes 1-3  zero
 *      bytes 4-7  length, big-endian, at most STREAM_DATA_MAX
 *
 *      client -> guest: STDIN* STDIN_END, RESIZE, SIGNAL at any time
 *      guest -> client: STDOUT STDERR ..., at the end one of
 *                       EXIT {"exit_code": N}, ERROR text (with EXIT behind it)
 * With a terminal there is no STDERR. A connection that ends without EXIT was broken.
 */
#ifndef LODGE_STREAM_PROTOCOL_H
#define LODGE_STREAM_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

#define STREAM_HEADER_SIZE 8u
#define STREAM_DATA_MAX    65536u
#define STREAM_UPGRADE     "lodge-stream"

enum stream_type {
    STREAM_STDIN = 0,
    STREAM_STDOUT = 1,
    STREAM_STDERR = 2,
    STREAM_EXIT = 3,      /* JSON */
    STREAM_ERROR = 4,     /* text */
    STREAM_STDIN_END = 5, /* empty */
    STREAM_RESIZE = 6,    /* rows, columns: two big-endian 16-bit numbers */
    STREAM_SIGNAL = 7,    /* one byte */
    STREAM_NR_TYPES = 8,
};

static inline void stream_header_encode(uint8_t header[STREAM_HEADER_SIZE], enum stream_type type,
                                        uint32_t length)
{
    header[0] = (uint8_t)type;
    header[1] = header[2] = header[3] = 0;
    header[4] = (uint8_t)(length >> 24);
    header[5] = (uint8_t)(length >> 16);
    header[6] = (uint8_t)(length >> 8);
    header[7] = (uint8_t)length;
}

/* 0 when these bytes cannot be a header. */
static inline int stream_header_decode(const uint8_t header[STREAM_HEADER_SIZE],
                                       enum stream_type *ret_type, uint32_t *ret_length)
{
    uint32_t length = (uint32_t)header[4] << 24 | (uint32_t)header[5] << 16 |
                      (uint32_t)header[6] << 8 | header[7];

    if (header[0] >= STREAM_NR_TYPES || header[1] || header[2] || header[3] ||
        length > STREAM_DATA_MAX)
        return 0;
    *ret_type = (enum stream_type)header[0];
    *ret_length = length;
    return 1;
}

#endif
