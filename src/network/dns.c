/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages (RFC 1035), as far as a resolver of few names needs them: a query's one question is
 * read, a reply without compression beyond a pointer to the question is written. Pure.
 */
#include "network/internal.h"

#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define HEADER_BYTES 12
#define TTL_S        5

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

int dns_parse(const uint8_t *message, size_t length, struct dns_question *ret)
{
    size_t at = HEADER_BYTES, nr = 0;

    /* a query (QR 0), of the standard kind (OPCODE 0), with one question */
    if (length < HEADER_BYTES || (message[2] & 0xf8) || get16(message + 4) != 1)
        return -EBADMSG;
    for (;;) {
        size_t label;

        if (at >= length)
            return -EBADMSG;
        label = message[at++];
        if (!label)
            break;
        /* No pointers in a question; names have 255 bytes at most. */
        if (label > 63 || label > length - at || nr + label + 1 >= sizeof(ret->name))
            return -EBADMSG;
        if (nr)
            ret->name[nr++] = '.';
        for (size_t i = 0; i < label; i++) {
            if (!message[at + i])
                return -EBADMSG;
            ret->name[nr++] = (char)tolower(message[at + i]);
        }
        at += label;
    }
    ret->name[nr] = '\0';
    if (length - at < 4)
        return -EBADMSG;
    ret->type = get16(message + at);
    ret->class = get16(message + at + 2);
    ret->end = at + 4;
    return 0;
}

size_t dns_reply(const uint8_t *message, const struct dns_question *question,
                 enum dns_answer answer, const void *address, size_t address_bytes, uint8_t *ret)
{
    size_t at = question->end;

    memcpy(ret, message, at);                    /* header, one question: at most 12 + 256 + 4 */
    ret[2] = (uint8_t)(0x84 | (message[2] & 1)); /* a reply, authoritative; RD as asked */
    ret[3] = 0x80;                               /* recursion is there */
    if (answer == DNS_FAILURE) {
        ret[2] &= (uint8_t)~4;
        ret[3] |= 2;
    }
    put16(ret + 4, 1);
    put16(ret + 6, answer == DNS_ADDRESS);
    put16(ret + 8, 0);
    put16(ret + 10, 0);
    if (answer != DNS_ADDRESS)
        return at;
    put16(ret + at, 0xc000 | HEADER_BYTES); /* the question's name */
    put16(ret + at + 2, question->type);
    put16(ret + at + 4, DNS_CLASS_IN);
    put16(ret + at + 6, 0);
    put16(ret + at + 8, TTL_S);
    put16(ret + at + 10, (unsigned)address_bytes);
    memcpy(ret + at + 12, address, address_bytes);
    return at + 12 + address_bytes;
}
