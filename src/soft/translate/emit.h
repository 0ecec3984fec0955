/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of host instructions. No policy: which registers and why is block.c's and copy.c's.
 *
 * Host registers. Guest RAX, RDX, RBX, RBP, RSI, RDI, R8, R12, R13, R14 live in their namesakes,
 * RCX in R9, RSP in R15; R9, R10, R11, R14 and R15 live in translate_hot.kept. RCX, R10 and R11 are
 * scratch, RSP is the host's own stack. R14 points behind translate_hot: processors know what was
 * stored at a base register plus a constant when it is loaded again (no cycle instead of six), but
 * not where the address is a segment's.
 *
 * Invariant: nothing here writes more than EMIT_SLACK bytes past `at` without a check by its
 * caller; block.c checks between instructions.
 */
#ifndef LODGE_SOFT_TRANSLATE_EMIT_H
#define LODGE_SOFT_TRANSLATE_EMIT_H

#include "soft/translate/translate_internal.h"

enum {
    HOST_RAX,
    HOST_RCX,
    HOST_RDX,
    HOST_RBX,
    HOST_RSP,
    HOST_RBP,
    HOST_RSI,
    HOST_RDI,
    HOST_R8,
    HOST_R9,
    HOST_R10,
    HOST_R11,
    HOST_R12,
    HOST_R13,
    HOST_R14,
    HOST_R15,
    HOST_NONE = 0xff,
    HOST_BASE = HOST_R14, /* struct translate_class, plus FLAT_LOAD */
};

/* Guest register -> host register, or HOST_NONE: kept in memory. */
static const uint8_t emit_home[CPU_NR_GPRS] = {
    HOST_RAX, HOST_R9,   HOST_RDX,  HOST_RBX,  HOST_R15, HOST_RBP, HOST_RSI,  HOST_RDI,
    HOST_R8,  HOST_NONE, HOST_NONE, HOST_NONE, HOST_R12, HOST_R13, HOST_NONE, HOST_NONE,
};

struct emit {
    uint8_t *at;
};

#define HOT(field)   ((uint32_t)offsetof(struct translate_class, hot.field))
#define CLASS(field) ((uint32_t)offsetof(struct translate_class, field))

static inline uint32_t emit_kept(unsigned guest)
{
    return HOT(kept) + 8u * (guest >= CPU_R14 ? guest - CPU_R11 : guest - CPU_R9);
}

static inline void emit8(struct emit *e, unsigned byte)
{
    *e->at++ = (uint8_t)byte;
}

static inline void emit32(struct emit *e, uint32_t value)
{
    store_le32(e->at, value);
    e->at += 4;
}

static inline void emit64(struct emit *e, uint64_t value)
{
    store_le64(e->at, value);
    e->at += 8;
}

/* rorx to, from, count: no flags */
static inline void emit_rorx(struct emit *e, unsigned to, unsigned from, unsigned count)
{
    emit8(e, 0xc4);
    emit8(e, (to < 8 ? 0x80 : 0) | 0x40 | (from < 8 ? 0x20 : 0) | 3);
    emit8(e, 0xfb);
    emit8(e, 0xf0);
    emit8(e, 0xc0 | (to & 7) << 3 | (from & 7));
    emit8(e, count);
}

static inline void emit_move(struct emit *e, unsigned to, unsigned from)
{
    emit8(e, 0x48 | (from >> 3) << 2 | to >> 3);
    emit8(e, 0x89);
    emit8(e, 0xc0 | (from & 7) << 3 | (to & 7));
}

/* ModRM, SIB and displacement of [base + index * scale + displacement] for register field `reg`;
 * base or index HOST_NONE: absent. */
static inline void emit_address(struct emit *e, unsigned reg, unsigned base, unsigned index,
                                unsigned shift, int32_t displacement)
{
    bool sib = index != HOST_NONE || base == HOST_NONE || (base & 7) == 4;
    unsigned mod = displacement == (int8_t)displacement ? 1 : 2;

    if (base == HOST_NONE)
        mod = 0;
    else if (!displacement && (base & 7) != 5)
        mod = 0;
    emit8(e, mod << 6 | (reg & 7) << 3 | (sib ? 4 : base & 7));
    if (sib)
        emit8(e, shift << 6 | (index == HOST_NONE ? 4 : index & 7) << 3 |
                     (base == HOST_NONE ? 5 : base & 7));
    if (mod == 1)
        emit8(e, (uint8_t)displacement);
    else if (mod == 2 || base == HOST_NONE)
        emit32(e, (uint32_t)displacement);
}

static inline unsigned emit_rex_of(unsigned reg, unsigned base, unsigned index)
{
    return (reg != HOST_NONE && reg >= 8 ? 4u : 0u) | (index != HOST_NONE && index >= 8 ? 2u : 0u) |
           (base != HOST_NONE && base >= 8 ? 1u : 0u);
}

static inline void emit_lea(struct emit *e, unsigned reg, unsigned base, unsigned index,
                            unsigned shift, int32_t displacement)
{
    emit8(e, 0x48 | emit_rex_of(reg, base, index));
    emit8(e, 0x8d);
    emit_address(e, reg, base, index, shift, displacement);
}

/* op reg, [base + displacement], 64 bits */
static inline void emit_memory(struct emit *e, unsigned op, unsigned reg, unsigned base,
                               int32_t displacement)
{
    emit8(e, 0x48 | emit_rex_of(reg, base, HOST_NONE));
    emit8(e, op);
    emit_address(e, reg, base, HOST_NONE, 0, displacement);
}

/* What is in struct translate_class, `offset` from its start, is addressed from HOST_BASE. */
static inline int32_t emit_based(uint32_t offset)
{
    return (int32_t)(offset - FLAT_LOAD);
}

static inline void emit_load_hot(struct emit *e, unsigned reg, uint32_t offset)
{
    emit_memory(e, 0x8b, reg, HOST_BASE, emit_based(offset));
}

static inline void emit_store_hot(struct emit *e, unsigned reg, uint32_t offset)
{
    emit_memory(e, 0x89, reg, HOST_BASE, emit_based(offset));
}

/* mov reg, [base + index * 8 + offset] */
static inline void emit_load_at(struct emit *e, unsigned reg, unsigned index, uint32_t offset)
{
    emit8(e, 0x48 | emit_rex_of(reg, HOST_BASE, index));
    emit8(e, 0x8b);
    emit_address(e, reg, HOST_BASE, index, 3, emit_based(offset));
}

/* mov reg, [base + r11 * 8 + offset] */
static inline void emit_load_indexed(struct emit *e, unsigned reg, uint32_t offset)
{
    emit_load_at(e, reg, HOST_R11, offset);
}

/* pext reg, source, [offset]; prefix 2; pdep 3 */
static inline void emit_pick(struct emit *e, unsigned prefix, unsigned reg, unsigned source,
                             uint32_t offset)
{
    emit8(e, 0xc4);
    emit8(e, (~emit_rex_of(reg, HOST_BASE, HOST_NONE) & 7) << 5 | 2);
    emit8(e, 0x80 | (~source & 15) << 3 | prefix);
    emit8(e, 0xf5);
    emit_address(e, reg, HOST_BASE, HOST_NONE, 0, emit_based(offset));
}

static inline void emit_pext(struct emit *e, unsigned reg, unsigned source, uint32_t offset)
{
    emit_pick(e, 2, reg, source, offset);
}

static inline void emit_pdep(struct emit *e, unsigned reg, unsigned source, uint32_t offset)
{
    emit_pick(e, 3, reg, source, offset);
}

/* op reg, [base + displacement], 32 bits */
static inline void emit_memory32(struct emit *e, unsigned op, unsigned reg, unsigned base,
                                 int32_t displacement)
{
    emit8(e, 0x40 | emit_rex_of(reg, base, HOST_NONE));
    emit8(e, op);
    emit_address(e, reg, base, HOST_NONE, 0, displacement);
}

/* A memory operand, host registers: [base + (index << shift) + displacement]. */
struct emit_operand {
    uint8_t base, index, shift;
    int32_t displacement;
};

static inline void emit_operand(struct emit *e, unsigned reg, const struct emit_operand *operand)
{
    emit_address(e, reg, operand->base, operand->index, operand->shift, operand->displacement);
}

/* op reg, operand, 64 bits */
static inline void emit_guest(struct emit *e, unsigned op, unsigned reg,
                              const struct emit_operand *operand)
{
    emit8(e, 0x48 | emit_rex_of(reg, operand->base, operand->index));
    emit8(e, op);
    emit_operand(e, reg, operand);
}

/* jmp; returns where the displacement stands */
static inline uint8_t *emit_jump(struct emit *e)
{
    emit8(e, 0xe9);
    emit32(e, 0);
    return e->at - 4;
}

static inline uint8_t *emit_jump_if(struct emit *e, unsigned condition)
{
    emit8(e, 0x0f);
    emit8(e, 0x80 | condition);
    emit32(e, 0);
    return e->at - 4;
}

/* call; returns where the displacement stands */
static inline uint8_t *emit_call(struct emit *e)
{
    emit8(e, 0xe8);
    emit32(e, 0);
    return e->at - 4;
}

static inline void emit_push(struct emit *e, unsigned reg)
{
    if (reg >= 8)
        emit8(e, 0x41);
    emit8(e, 0x50 | (reg & 7));
}

static inline void emit_pop(struct emit *e, unsigned reg)
{
    if (reg >= 8)
        emit8(e, 0x41);
    emit8(e, 0x58 | (reg & 7));
}

static inline void emit_not(struct emit *e, unsigned reg)
{
    emit8(e, 0x48 | reg >> 3);
    emit8(e, 0xf7);
    emit8(e, 0xd0 | (reg & 7));
}

/* Both addresses in the same mapping. */
static inline void emit_patch(uint8_t *displacement, const uint8_t *target)
{
    store_le32(displacement, (uint32_t)(target - (displacement + 4)));
}

/* jmp [r11 * 8 + table] */
static inline void emit_jump_table(struct emit *e, uint32_t table)
{
    emit8(e, 0x40 | emit_rex_of(HOST_NONE, HOST_BASE, HOST_R11));
    emit8(e, 0xff);
    emit_address(e, 4, HOST_BASE, HOST_R11, 3, emit_based(table));
}

static inline void emit_jump_indexed(struct emit *e)
{
    emit_jump_table(e, CLASS(jump_code));
}

/* op [offset]; extension 4 jumps, 2 calls */
static inline void emit_branch_hot(struct emit *e, unsigned extension, uint32_t offset)
{
    emit8(e, 0x40 | emit_rex_of(HOST_NONE, HOST_BASE, HOST_NONE));
    emit8(e, 0xff);
    emit_address(e, extension, HOST_BASE, HOST_NONE, 0, emit_based(offset));
}

#endif
