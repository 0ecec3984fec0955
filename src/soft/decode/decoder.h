/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two halves of the decoder share: the state of one decode, and how bytes are taken.
 * Invariant: no byte at or past min(length, 15) is read; every read goes through take or take_byte.
 */
#ifndef LODGE_SOFT_DECODE_DECODER_H
#define LODGE_SOFT_DECODE_DECODER_H

#include "soft/decode/decode_table.h"

#include <string.h>

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

struct decoder {
    const uint8_t *bytes;
    unsigned length; /* of bytes, at most 15 */
    unsigned position;
    unsigned pp;       /* as in VEX.pp */
    unsigned size;     /* index of the operand size: 0 2 bytes, 1 4, 2 8 */
    unsigned vector_l; /* VEX.L */
    uint8_t repeat;    /* F2 or F3, the last one */
    uint8_t segment;   /* override, or INSN_NO_REG */
    bool vvvv_present; /* VEX.vvvv names a register (is not 1111b) */
    bool vvvv_used;
    bool rip_relative;
};

enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

static inline enum insn_result out_of_bytes(const struct decoder *d)
{
    return d->length >= INSN_LENGTH_MAX ? INSN_TOO_LONG : INSN_TRUNCATED;
}

static inline bool take_byte(struct decoder *d, uint8_t *ret)
{
    if (UNLIKELY(d->position >= d->length))
        return false;
    *ret = d->bytes[d->position++];
    return true;
}

/* Little-endian; `size` is 1, 2, 4 or 8. */
static inline bool take(struct decoder *d, unsigned size, uint64_t *ret)
{
    const uint8_t *p = d->bytes + d->position;
    uint16_t u16;
    uint32_t u32;

    if (UNLIKELY(size > d->length - d->position))
        return false;
    d->position += size;
    switch (size) {
    case 1:
        *ret = *p;
        break;
    case 2:
        memcpy(&u16, p, 2);
        *ret = u16;
        break;
    case 4:
        memcpy(&u32, p, 4);
        *ret = u32;
        break;
    default:
        memcpy(ret, p, 8);
        break;
    }
    return true;
}

static inline uint64_t sign_extend(uint64_t value, unsigned size)
{
    unsigned shift = 64 - size * 8;

    return (uint64_t)((int64_t)(value << shift) >> shift);
}

/* Takes the memory operand of a ModRM byte with mod != 3 into insn.mem; false: out of bytes. */
bool decode_memory(struct decoder *d, struct insn *insn, bool vsib);

/* Fills insn.operand as the form says, taking immediates. */
enum insn_result decode_operands(struct decoder *d, struct insn *insn,
                                 const struct decode_form *form);

#endif
