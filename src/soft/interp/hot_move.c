/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot operations that move data and leave the flags alone: MOV, MOVZX, MOVSX, MOVSXD, LEA, CMOVcc,
 * SETcc to a register, CBW/CWDE/CDQE, CWD/CDQ/CQO, XCHG of registers, BSWAP, and NOP.
 *
 * Source: SDM 2A/2B, the pages of the instructions.
 */
#include "soft/interp/access.h"

#define MOV_SIZE(bits)                                                           \
    static int mov##bits##_rr(struct soft_cpu *cpu, const struct interp_op *op)  \
    {                                                                            \
        INTERP_WRITE##bits(op->dst, INTERP_REG##bits(op->src));                  \
        INTERP_NEXT();                                                           \
    }                                                                            \
    static int mov##bits##_ri(struct soft_cpu *cpu, const struct interp_op *op)  \
    {                                                                            \
        INTERP_WRITE##bits(op->dst, op->imm);                                    \
        INTERP_NEXT();                                                           \
    }                                                                            \
    static int xchg##bits##_rr(struct soft_cpu *cpu, const struct interp_op *op) \
    {                                                                            \
        uint##bits##_t old = INTERP_REG##bits(op->dst);                          \
                                                                                 \
        INTERP_WRITE##bits(op->dst, INTERP_REG##bits(op->src));                  \
        INTERP_WRITE##bits(op->src, old);                                        \
        INTERP_NEXT();                                                           \
    }                                                                            \
    MOV_MEMORY(bits, F)                                                          \
    MOV_MEMORY(bits, G)
#define MOV_MEMORY(bits, form)                                                         \
    static int mov##bits##_rm_##form(struct soft_cpu *cpu, const struct interp_op *op) \
    {                                                                                  \
        struct interp_loaded loaded = interp_load##bits##_##form(cpu, op);             \
                                                                                       \
        if (UNLIKELY(loaded.result))                                                   \
            return interp_leave_fault(cpu, op, (int)loaded.result);                    \
        INTERP_WRITE##bits(op->dst, loaded.value);                                     \
        INTERP_NEXT();                                                                 \
    }                                                                                  \
    static int mov##bits##_mr_##form(struct soft_cpu *cpu, const struct interp_op *op) \
    {                                                                                  \
        int result = interp_store##bits##_##form(cpu, op, INTERP_REG##bits(op->src));  \
                                                                                       \
        if (UNLIKELY(result))                                                          \
            return interp_leave_fault(cpu, op, result);                                \
        INTERP_NEXT();                                                                 \
    }                                                                                  \
    static int mov##bits##_mi_##form(struct soft_cpu *cpu, const struct interp_op *op) \
    {                                                                                  \
        int result = interp_store##bits##_##form(cpu, op, op->imm);                    \
                                                                                       \
        if (UNLIKELY(result))                                                          \
            return interp_leave_fault(cpu, op, result);                                \
        INTERP_NEXT();                                                                 \
    }

MOV_SIZE(8)
MOV_SIZE(16)
MOV_SIZE(32)
MOV_SIZE(64)

/* name: MOVZX or MOVSX; to and from: sizes; type: what the source is read as. */
#define EXTEND(name, to, from, type)                                                    \
    static int name##to##_##from##_rr(struct soft_cpu *cpu, const struct interp_op *op) \
    {                                                                                   \
        INTERP_WRITE##to(op->dst, (type)INTERP_REG##from(op->src));                     \
        INTERP_NEXT();                                                                  \
    }                                                                                   \
    EXTEND_MEMORY(name, to, from, type, F)                                              \
    EXTEND_MEMORY(name, to, from, type, G)
#define EXTEND_MEMORY(name, to, from, type, form)                                              \
    static int name##to##_##from##_rm_##form(struct soft_cpu *cpu, const struct interp_op *op) \
    {                                                                                          \
        struct interp_loaded loaded = interp_load##from##_##form(cpu, op);                     \
                                                                                               \
        if (UNLIKELY(loaded.result))                                                           \
            return interp_leave_fault(cpu, op, (int)loaded.result);                            \
        INTERP_WRITE##to(op->dst, (type)loaded.value);                                         \
        INTERP_NEXT();                                                                         \
    }
EXTEND(movzx, 16, 8, uint8_t)
EXTEND(movzx, 32, 8, uint8_t)
EXTEND(movzx, 64, 8, uint8_t)
EXTEND(movzx, 32, 16, uint16_t)
EXTEND(movzx, 64, 16, uint16_t)
EXTEND(movsx, 16, 8, int8_t)
EXTEND(movsx, 32, 8, int8_t)
EXTEND(movsx, 64, 8, int8_t)
EXTEND(movsx, 32, 16, int16_t)
EXTEND(movsx, 64, 16, int16_t)
EXTEND(movsx, 64, 32, int32_t)

#define LEA(bits, form)                                                             \
    static int lea##bits##_##form(struct soft_cpu *cpu, const struct interp_op *op) \
    {                                                                               \
        INTERP_WRITE##bits(op->dst, interp_address_##form(cpu, op));                \
        INTERP_NEXT();                                                              \
    }
LEA(16, G)
LEA(32, F)
LEA(32, G)
LEA(64, F)
LEA(64, G)

#define CONDITIONAL(bits)                                                                       \
    static int cmov##bits##_rr(struct soft_cpu *cpu, const struct interp_op *op)                \
    {                                                                                           \
        uint##bits##_t value = interp_condition(cpu->host_flags, op->condition)                 \
                                   ? INTERP_REG##bits(op->src)                                  \
                                   : INTERP_REG##bits(op->dst);                                 \
                                                                                                \
        INTERP_WRITE##bits(op->dst, value);                                                     \
        INTERP_NEXT();                                                                          \
    }                                                                                           \
    static int cmov##bits##_rm_G(struct soft_cpu *cpu, const struct interp_op *op)              \
    {                                                                                           \
        struct interp_loaded loaded = interp_load##bits##_G(cpu, op);                           \
        uint##bits##_t value;                                                                   \
                                                                                                \
        if (UNLIKELY(loaded.result))                                                            \
            return interp_leave_fault(cpu, op, (int)loaded.result);                             \
        value = interp_condition(cpu->host_flags, op->condition) ? (uint##bits##_t)loaded.value \
                                                                 : INTERP_REG##bits(op->dst);   \
        INTERP_WRITE##bits(op->dst, value);                                                     \
        INTERP_NEXT();                                                                          \
    }
CONDITIONAL(16)
CONDITIONAL(32)
CONDITIONAL(64)

static int setcc_r(struct soft_cpu *cpu, const struct interp_op *op)
{
    INTERP_WRITE8(op->dst, interp_condition(cpu->host_flags, op->condition));
    INTERP_NEXT();
}

static int setcc_m(struct soft_cpu *cpu, const struct interp_op *op)
{
    int result = interp_store8_G(cpu, op, interp_condition(cpu->host_flags, op->condition));

    if (UNLIKELY(result))
        return interp_leave_fault(cpu, op, result);
    INTERP_NEXT();
}

#define ACCUMULATOR(name, write)                                      \
    static int name(struct soft_cpu *cpu, const struct interp_op *op) \
    {                                                                 \
        write;                                                        \
        INTERP_NEXT();                                                \
    }
#define RAX INTERP_GPR(CPU_RAX)
#define RDX INTERP_GPR(CPU_RDX)
ACCUMULATOR(cbw, INTERP_WRITE16(RAX, (int8_t)INTERP_REG8(RAX)))
ACCUMULATOR(cwde, INTERP_WRITE32(RAX, (int16_t)INTERP_REG16(RAX)))
ACCUMULATOR(cdqe, INTERP_WRITE64(RAX, (int32_t)INTERP_REG32(RAX)))
ACCUMULATOR(cwd, INTERP_WRITE16(RDX, (int16_t)INTERP_REG16(RAX) >> 15))
ACCUMULATOR(cdq, INTERP_WRITE32(RDX, (int32_t)INTERP_REG32(RAX) >> 31))
ACCUMULATOR(cqo, INTERP_WRITE64(RDX, (int64_t)INTERP_REG64(RAX) >> 63))
#undef RAX
#undef RDX

static int bswap32(struct soft_cpu *cpu, const struct interp_op *op)
{
    INTERP_WRITE32(op->dst, __builtin_bswap32(INTERP_REG32(op->dst)));
    INTERP_NEXT();
}

static int bswap64(struct soft_cpu *cpu, const struct interp_op *op)
{
    INTERP_WRITE64(op->dst, __builtin_bswap64(INTERP_REG64(op->dst)));
    INTERP_NEXT();
}

static int nop(struct soft_cpu *cpu, const struct interp_op *op)
{
    INTERP_NEXT();
}

#define MOV_ROW(bits)                                                                         \
    {                                                                                         \
        mov##bits##_rr, mov##bits##_ri, mov##bits##_rm_F, mov##bits##_rm_G, mov##bits##_mr_F, \
            mov##bits##_mr_G, mov##bits##_mi_F, mov##bits##_mi_G                              \
    }
static interp_fn *const mov_functions[4][HOT_NR_FORMS] = {MOV_ROW(8), MOV_ROW(16), MOV_ROW(32),
                                                          MOV_ROW(64)};
static interp_fn *const xchg_functions[4] = {xchg8_rr, xchg16_rr, xchg32_rr, xchg64_rr};

#define EXTEND_ROW(name, to, from)                                                 \
    {                                                                              \
        name##to##_##from##_rr, name##to##_##from##_rm_F, name##to##_##from##_rm_G \
    }
/* [from][to][form] */
static interp_fn *const movzx_functions[3][4][3] = {
    {{NULL}, EXTEND_ROW(movzx, 16, 8), EXTEND_ROW(movzx, 32, 8), EXTEND_ROW(movzx, 64, 8)},
    {{NULL}, {NULL}, EXTEND_ROW(movzx, 32, 16), EXTEND_ROW(movzx, 64, 16)},
    {{NULL}, {NULL}, {NULL}, {NULL}},
};
static interp_fn *const movsx_functions[3][4][3] = {
    {{NULL}, EXTEND_ROW(movsx, 16, 8), EXTEND_ROW(movsx, 32, 8), EXTEND_ROW(movsx, 64, 8)},
    {{NULL}, {NULL}, EXTEND_ROW(movsx, 32, 16), EXTEND_ROW(movsx, 64, 16)},
    {{NULL}, {NULL}, {NULL}, EXTEND_ROW(movsx, 64, 32)},
};

static interp_fn *select_extend(interp_fn *const table[3][4][3], const struct insn *insn)
{
    unsigned from = hot_size_index(insn->operand[1].size);
    enum hot_form form = hot_form_of(insn);

    if (from > 2 || form == HOT_NONE || form == HOT_RI || form > HOT_RM_G)
        return NULL;
    return table[from][hot_size_index(insn->operand[0].size)][form == HOT_RR ? 0 : form - 1];
}

static interp_fn *select_lea(const struct insn *insn)
{
    bool flat = insn->mode == INSN_MODE_64 && insn->address_size == 8;

    switch (insn->operand[0].size) {
    case 2:
        return lea16_G;
    case 4:
        return flat ? lea32_F : lea32_G;
    default:
        return flat ? lea64_F : lea64_G;
    }
}

static interp_fn *select_cmov(const struct insn *insn)
{
    bool memory = insn->operand[1].kind == INSN_OPERAND_MEM;

    switch (insn->operand[0].size) {
    case 2:
        return memory ? cmov16_rm_G : cmov16_rr;
    case 4:
        return memory ? cmov32_rm_G : cmov32_rr;
    default:
        return memory ? cmov64_rm_G : cmov64_rr;
    }
}

interp_fn *hot_move_select(const struct insn *insn, struct interp_op *op)
{
    enum hot_form form;

    (void)op;
    switch (insn->id) {
    case INSN_MOV:
        form = hot_form_of(insn);
        return form == HOT_NONE ? NULL : mov_functions[hot_size_index(insn->operand[0].size)][form];
    case INSN_XCHG:
        if (hot_form_of(insn) != HOT_RR)
            return NULL;
        return xchg_functions[hot_size_index(insn->operand[0].size)];
    case INSN_MOVZX:
        return select_extend(movzx_functions, insn);
    case INSN_MOVSX:
    case INSN_MOVSXD:
        return select_extend(movsx_functions, insn);
    case INSN_LEA:
        return select_lea(insn);
    case INSN_CMOVCC:
        return select_cmov(insn);
    case INSN_SETCC:
        return insn->operand[0].kind == INSN_OPERAND_MEM ? setcc_m : setcc_r;
    case INSN_CBW:
        return cbw;
    case INSN_CWDE:
        return cwde;
    case INSN_CDQE:
        return cdqe;
    case INSN_CWD:
        return cwd;
    case INSN_CDQ:
        return cdq;
    case INSN_CQO:
        return cqo;
    case INSN_BSWAP:
        return insn->operand[0].size == 8 ? bswap64 : insn->operand[0].size == 4 ? bswap32 : NULL;
    case INSN_NOP:
        return nop;
    default:
        return NULL;
    }
}
