/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot operations with one data operand or a constant second one: INC DEC NEG NOT (register and
 * memory), shifts and rotates of a register by a constant or CL, IMUL with two and three operands,
 * BT/BTS/BTR/BTC on registers, and BSF/BSR/POPCNT/LZCNT/TZCNT between registers.
 *
 * Source: SDM 2A/2B, the pages of the instructions.
 */
#include "soft/interp/access.h"
#include "soft/interp/host_alu.h"

#define UNARY_SIZE(name, bits)                                                       \
    static int name##bits##_r(struct soft_cpu *cpu, const struct interp_op *op)      \
    {                                                                                \
        uint64_t flags = cpu->host_flags;                                            \
        uint##bits##_t value = host_##name##bits(INTERP_REG##bits(op->dst), &flags); \
                                                                                     \
        cpu->host_flags = flags;                                                     \
        INTERP_WRITE##bits(op->dst, value);                                          \
        INTERP_NEXT();                                                               \
    }                                                                                \
    UNARY_MEMORY(name, bits, F)                                                      \
    UNARY_MEMORY(name, bits, G)
#define UNARY_MEMORY(name, bits, form)                                                           \
    static int name##bits##_m_##form(struct soft_cpu *cpu, const struct interp_op *op)           \
    {                                                                                            \
        uint64_t flags = cpu->host_flags;                                                        \
                                                                                                 \
        INTERP_RMW(bits, form, value = host_##name##bits(old, &flags), cpu->host_flags = flags); \
        INTERP_NEXT();                                                                           \
    }
#define UNARY(name)      \
    UNARY_SIZE(name, 8)  \
    UNARY_SIZE(name, 16) \
    UNARY_SIZE(name, 32) \
    UNARY_SIZE(name, 64)
UNARY(inc)
UNARY(dec)
UNARY(neg)
UNARY(not )

#define SHIFT_SIZE(name, bits)                                                                \
    static int name##bits##_i(struct soft_cpu *cpu, const struct interp_op *op)               \
    {                                                                                         \
        uint64_t flags = cpu->host_flags;                                                     \
        uint##bits##_t value = host_##name##bits(INTERP_REG##bits(op->dst), (uint8_t)op->imm, \
                                                 &flags);                                     \
                                                                                              \
        cpu->host_flags = flags;                                                              \
        INTERP_WRITE##bits(op->dst, value);                                                   \
        INTERP_NEXT();                                                                        \
    }                                                                                         \
    static int name##bits##_cl(struct soft_cpu *cpu, const struct interp_op *op)              \
    {                                                                                         \
        uint64_t flags = cpu->host_flags;                                                     \
        uint##bits##_t value = host_##name##bits(INTERP_REG##bits(op->dst),                   \
                                                 (uint8_t)cpu->gpr[CPU_RCX], &flags);         \
                                                                                              \
        cpu->host_flags = flags;                                                              \
        INTERP_WRITE##bits(op->dst, value);                                                   \
        INTERP_NEXT();                                                                        \
    }
#define SHIFT(name)      \
    SHIFT_SIZE(name, 8)  \
    SHIFT_SIZE(name, 16) \
    SHIFT_SIZE(name, 32) \
    SHIFT_SIZE(name, 64)
SHIFT(rol)
SHIFT(ror)
SHIFT(shl)
SHIFT(shr)
SHIFT(sar)

/* dst = dst OP src */
#define BINARY_RR(name, bits)                                                        \
    static int name##bits##_rr(struct soft_cpu *cpu, const struct interp_op *op)     \
    {                                                                                \
        uint64_t flags = cpu->host_flags;                                            \
        uint##bits##_t value = host_##name##bits(INTERP_REG##bits(op->dst),          \
                                                 INTERP_REG##bits(op->src), &flags); \
                                                                                     \
        cpu->host_flags = flags;                                                     \
        INTERP_WRITE##bits(op->dst, value);                                          \
        INTERP_NEXT();                                                               \
    }
#define BINARY_RI(name, bits)                                                      \
    static int name##bits##_ri(struct soft_cpu *cpu, const struct interp_op *op)   \
    {                                                                              \
        uint64_t flags = cpu->host_flags;                                          \
        uint##bits##_t value = host_##name##bits(INTERP_REG##bits(op->dst),        \
                                                 (uint##bits##_t)op->imm, &flags); \
                                                                                   \
        cpu->host_flags = flags;                                                   \
        INTERP_WRITE##bits(op->dst, value);                                        \
        INTERP_NEXT();                                                             \
    }
#define BIT_TEST(bits)                                                               \
    static int bt##bits##_rr(struct soft_cpu *cpu, const struct interp_op *op)       \
    {                                                                                \
        uint64_t flags = cpu->host_flags;                                            \
                                                                                     \
        host_bt##bits(INTERP_REG##bits(op->dst), INTERP_REG##bits(op->src), &flags); \
        cpu->host_flags = flags;                                                     \
        INTERP_NEXT();                                                               \
    }                                                                                \
    static int bt##bits##_ri(struct soft_cpu *cpu, const struct interp_op *op)       \
    {                                                                                \
        uint64_t flags = cpu->host_flags;                                            \
                                                                                     \
        host_bt##bits(INTERP_REG##bits(op->dst), (uint##bits##_t)op->imm, &flags);   \
        cpu->host_flags = flags;                                                     \
        INTERP_NEXT();                                                               \
    }
#define WIDE(define, name) define(name, 16) define(name, 32) define(name, 64)
WIDE(BINARY_RR, imul)
WIDE(BINARY_RR, bts)
WIDE(BINARY_RR, btr)
WIDE(BINARY_RR, btc)
WIDE(BINARY_RI, bts)
WIDE(BINARY_RI, btr)
WIDE(BINARY_RI, btc)
WIDE(BINARY_RR, popcnt)
WIDE(BINARY_RR, lzcnt)
WIDE(BINARY_RR, tzcnt)
BIT_TEST(16)
BIT_TEST(32)
BIT_TEST(64)

#define IMUL(bits)                                                                                 \
    static int imul##bits##_rri(struct soft_cpu *cpu, const struct interp_op *op)                  \
    {                                                                                              \
        uint64_t flags = cpu->host_flags;                                                          \
        uint##bits##_t value = host_imul##bits(INTERP_REG##bits(op->src), (uint##bits##_t)op->imm, \
                                               &flags);                                            \
                                                                                                   \
        cpu->host_flags = flags;                                                                   \
        INTERP_WRITE##bits(op->dst, value);                                                        \
        INTERP_NEXT();                                                                             \
    }                                                                                              \
    static int imul##bits##_rm_G(struct soft_cpu *cpu, const struct interp_op *op)                 \
    {                                                                                              \
        uint64_t flags = cpu->host_flags;                                                          \
        struct interp_loaded loaded = interp_load##bits##_G(cpu, op);                              \
        uint##bits##_t value;                                                                      \
                                                                                                   \
        if (UNLIKELY(loaded.result))                                                               \
            return interp_leave_fault(cpu, op, (int)loaded.result);                                \
        value = host_imul##bits(INTERP_REG##bits(op->dst), (uint##bits##_t)loaded.value, &flags);  \
        cpu->host_flags = flags;                                                                   \
        INTERP_WRITE##bits(op->dst, value);                                                        \
        INTERP_NEXT();                                                                             \
    }
IMUL(16)
IMUL(32)
IMUL(64)

/* The destination keeps its value (and upper half) when the source is zero, as on this host. */
#define SCAN(name, bits)                                                                     \
    static int name##bits##_rr(struct soft_cpu *cpu, const struct interp_op *op)             \
    {                                                                                        \
        uint64_t flags = cpu->host_flags;                                                    \
        uint##bits##_t source = INTERP_REG##bits(op->src);                                   \
        uint##bits##_t value = host_##name##bits(INTERP_REG##bits(op->dst), source, &flags); \
                                                                                             \
        cpu->host_flags = flags;                                                             \
        if (source)                                                                          \
            INTERP_WRITE##bits(op->dst, value);                                              \
        INTERP_NEXT();                                                                       \
    }
WIDE(SCAN, bsf)
WIDE(SCAN, bsr)

#define SIZES(name, suffix)                                                   \
    {                                                                         \
        name##8##suffix, name##16##suffix, name##32##suffix, name##64##suffix \
    }
#define WIDES(name, suffix)                                        \
    {                                                              \
        NULL, name##16##suffix, name##32##suffix, name##64##suffix \
    }

struct unary_row {
    uint16_t id;
    interp_fn *reg[4], *flat[4], *any[4];
};
static const struct unary_row unary_rows[] = {
    {INSN_INC, SIZES(inc, _r), SIZES(inc, _m_F), SIZES(inc, _m_G)},
    {INSN_DEC, SIZES(dec, _r), SIZES(dec, _m_F), SIZES(dec, _m_G)},
    {INSN_NEG, SIZES(neg, _r), SIZES(neg, _m_F), SIZES(neg, _m_G)},
    {INSN_NOT, SIZES(not, _r), SIZES(not, _m_F), SIZES(not, _m_G)},
};

struct shift_row {
    uint16_t id;
    interp_fn *constant[4], *cl[4];
};
static const struct shift_row shift_rows[] = {
    {INSN_ROL, SIZES(rol, _i), SIZES(rol, _cl)}, {INSN_ROR, SIZES(ror, _i), SIZES(ror, _cl)},
    {INSN_SHL, SIZES(shl, _i), SIZES(shl, _cl)}, {INSN_SHR, SIZES(shr, _i), SIZES(shr, _cl)},
    {INSN_SAR, SIZES(sar, _i), SIZES(sar, _cl)},
};

struct pair_row {
    uint16_t id;
    interp_fn *rr[4], *ri[4];
};
static const struct pair_row pair_rows[] = {
    {INSN_BT, WIDES(bt, _rr), WIDES(bt, _ri)},    {INSN_BTS, WIDES(bts, _rr), WIDES(bts, _ri)},
    {INSN_BTR, WIDES(btr, _rr), WIDES(btr, _ri)}, {INSN_BTC, WIDES(btc, _rr), WIDES(btc, _ri)},
    {INSN_BSF, WIDES(bsf, _rr), {NULL}},          {INSN_BSR, WIDES(bsr, _rr), {NULL}},
    {INSN_POPCNT, WIDES(popcnt, _rr), {NULL}},    {INSN_LZCNT, WIDES(lzcnt, _rr), {NULL}},
    {INSN_TZCNT, WIDES(tzcnt, _rr), {NULL}},
};

static interp_fn *select_imul(const struct insn *insn)
{
    static interp_fn *const rr[4] = WIDES(imul, _rr);
    static interp_fn *const rri[4] = WIDES(imul, _rri);
    static interp_fn *const rm[4] = WIDES(imul, _rm_G);
    unsigned size = hot_size_index(insn->operand[0].size);

    if (insn->opcode == 0xaf && insn->map == 1)
        return insn->operand[1].kind == INSN_OPERAND_MEM ? rm[size] : rr[size];
    if (insn->nr_operands >= 3 && insn->operand[1].kind == INSN_OPERAND_REG &&
        insn->operand[2].kind == INSN_OPERAND_IMM)
        return rri[size];
    return NULL;
}

static interp_fn *select_shift(const struct insn *insn, const struct shift_row *row)
{
    unsigned size = hot_size_index(insn->operand[0].size);

    if (insn->operand[0].kind != INSN_OPERAND_REG)
        return NULL;
    return insn->operand[1].kind == INSN_OPERAND_REG ? row->cl[size] : row->constant[size];
}

interp_fn *hot_unary_select(const struct insn *insn, struct interp_op *op)
{
    unsigned size = hot_size_index(insn->operand[0].size);

    (void)op;
    if (insn->prefixes & INSN_PREFIX_LOCK)
        return NULL;
    if (insn->id == INSN_IMUL)
        return select_imul(insn);
    for (unsigned i = 0; i < ARRAY_LEN(unary_rows); i++) {
        if (unary_rows[i].id != insn->id)
            continue;
        if (insn->operand[0].kind == INSN_OPERAND_REG)
            return unary_rows[i].reg[size];
        return hot_address_flat(insn) ? unary_rows[i].flat[size] : unary_rows[i].any[size];
    }
    for (unsigned i = 0; i < ARRAY_LEN(shift_rows); i++)
        if (shift_rows[i].id == insn->id)
            return select_shift(insn, &shift_rows[i]);
    for (unsigned i = 0; i < ARRAY_LEN(pair_rows); i++) {
        if (pair_rows[i].id != insn->id || insn->operand[0].kind != INSN_OPERAND_REG)
            continue;
        if (insn->operand[1].kind == INSN_OPERAND_REG)
            return pair_rows[i].rr[size];
        if (insn->operand[1].kind == INSN_OPERAND_IMM)
            return pair_rows[i].ri[size];
    }
    return NULL;
}
