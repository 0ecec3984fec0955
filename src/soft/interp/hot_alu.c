/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot operations with two operands that write the status flags: ADD OR ADC SBB AND SUB XOR CMP TEST
 * in every size and operand form without LOCK. One function each, made by the macros below.
 *
 * A memory destination is read and written in place; flags are committed after the store, so a
 * fault leaves everything as it was.
 *
 * Source: SDM 2A/2B, the pages of the instructions.
 */
#include "soft/interp/access.h"
#include "soft/interp/host_alu.h"

#define ALU_RR(name, bits)                                                           \
    static int name##bits##_rr(struct soft_cpu *cpu, const struct interp_op *op)     \
    {                                                                                \
        uint64_t flags = cpu->host_flags;                                            \
        uint##bits##_t value = host_##name##bits(INTERP_REG##bits(op->dst),          \
                                                 INTERP_REG##bits(op->src), &flags); \
                                                                                     \
        cpu->host_flags = flags;                                                     \
        ALU_WRITE_##name(bits, op->dst, value);                                      \
        INTERP_NEXT();                                                               \
    }
#define ALU_RI(name, bits)                                                         \
    static int name##bits##_ri(struct soft_cpu *cpu, const struct interp_op *op)   \
    {                                                                              \
        uint64_t flags = cpu->host_flags;                                          \
        uint##bits##_t value = host_##name##bits(INTERP_REG##bits(op->dst),        \
                                                 (uint##bits##_t)op->imm, &flags); \
                                                                                   \
        cpu->host_flags = flags;                                                   \
        ALU_WRITE_##name(bits, op->dst, value);                                    \
        INTERP_NEXT();                                                             \
    }
#define ALU_RM(name, bits, form)                                                           \
    static int name##bits##_rm_##form(struct soft_cpu *cpu, const struct interp_op *op)    \
    {                                                                                      \
        uint64_t flags = cpu->host_flags;                                                  \
        struct interp_loaded loaded = interp_load##bits##_##form(cpu, op);                 \
        uint##bits##_t value;                                                              \
                                                                                           \
        if (UNLIKELY(loaded.result))                                                       \
            return interp_leave_fault(cpu, op, (int)loaded.result);                        \
        value = host_##name##bits(INTERP_REG##bits(op->dst), (uint##bits##_t)loaded.value, \
                                  &flags);                                                 \
        cpu->host_flags = flags;                                                           \
        ALU_WRITE_##name(bits, op->dst, value);                                            \
        INTERP_NEXT();                                                                     \
    }
/* Memory destination, written back. */
#define ALU_MX(name, bits, form, suffix, source)                                                 \
    static int name##bits##_##suffix##_##form(struct soft_cpu *cpu, const struct interp_op *op)  \
    {                                                                                            \
        uint64_t flags = cpu->host_flags;                                                        \
                                                                                                 \
        INTERP_RMW(bits, form, value = host_##name##bits(old, (uint##bits##_t)(source), &flags), \
                   cpu->host_flags = flags);                                                     \
        INTERP_NEXT();                                                                           \
    }
/* Memory first operand, only compared. */
#define ALU_MX_READ(name, bits, form, suffix, source)                                           \
    static int name##bits##_##suffix##_##form(struct soft_cpu *cpu, const struct interp_op *op) \
    {                                                                                           \
        uint64_t flags = cpu->host_flags;                                                       \
        struct interp_loaded loaded = interp_load##bits##_##form(cpu, op);                      \
                                                                                                \
        if (UNLIKELY(loaded.result))                                                            \
            return interp_leave_fault(cpu, op, (int)loaded.result);                             \
        host_##name##bits((uint##bits##_t)loaded.value, (uint##bits##_t)(source), &flags);      \
        cpu->host_flags = flags;                                                                \
        INTERP_NEXT();                                                                          \
    }

#define ALU_WRITE_YES(bits, place, value) INTERP_WRITE##bits(place, value)
#define ALU_WRITE_NO(bits, place, value)  (void)(value)
#define ALU_WRITE_add                     ALU_WRITE_YES
#define ALU_WRITE_or                      ALU_WRITE_YES
#define ALU_WRITE_adc                     ALU_WRITE_YES
#define ALU_WRITE_sbb                     ALU_WRITE_YES
#define ALU_WRITE_and                     ALU_WRITE_YES
#define ALU_WRITE_sub                     ALU_WRITE_YES
#define ALU_WRITE_xor                     ALU_WRITE_YES
#define ALU_WRITE_cmp                     ALU_WRITE_NO
#define ALU_WRITE_test                    ALU_WRITE_NO

#define ALU_SIZE(name, bits, memory)                                                            \
    ALU_RR(name, bits)                                                                          \
    ALU_RI(name, bits)                                                                          \
    ALU_RM(name, bits, F)                                                                       \
    ALU_RM(name, bits, G)                                                                       \
    memory(name, bits, F, mr, INTERP_REG##bits(op->src))                                        \
        memory(name, bits, G, mr, INTERP_REG##bits(op->src)) memory(name, bits, F, mi, op->imm) \
            memory(name, bits, G, mi, op->imm)

#define ALU(name, memory)      \
    ALU_SIZE(name, 8, memory)  \
    ALU_SIZE(name, 16, memory) \
    ALU_SIZE(name, 32, memory) \
    ALU_SIZE(name, 64, memory)

ALU(add, ALU_MX)
ALU(or, ALU_MX)
ALU(adc, ALU_MX)
ALU(sbb, ALU_MX)
ALU(and, ALU_MX)
ALU(sub, ALU_MX)
ALU(xor, ALU_MX)
ALU(cmp, ALU_MX_READ)
ALU(test, ALU_MX_READ)

#define ROW_SIZE(name, bits)                                                                       \
    {                                                                                              \
        name##bits##_rr, name##bits##_ri, name##bits##_rm_F, name##bits##_rm_G, name##bits##_mr_F, \
            name##bits##_mr_G, name##bits##_mi_F, name##bits##_mi_G                                \
    }
#define ROW(name)                                                                     \
    {                                                                                 \
        ROW_SIZE(name, 8), ROW_SIZE(name, 16), ROW_SIZE(name, 32), ROW_SIZE(name, 64) \
    }

static interp_fn *const alu_functions[9][4][HOT_NR_FORMS] = {
    ROW(add), ROW(or), ROW(adc), ROW(sbb), ROW(and), ROW(sub), ROW(xor), ROW(cmp), ROW(test),
};

interp_fn *hot_alu_select(const struct insn *insn, struct interp_op *op)
{
    enum hot_form form = hot_form_of(insn);
    unsigned row;

    (void)op;
    switch (insn->id) {
    case INSN_ADD:
        row = 0;
        break;
    case INSN_OR:
        row = 1;
        break;
    case INSN_ADC:
        row = 2;
        break;
    case INSN_SBB:
        row = 3;
        break;
    case INSN_AND:
        row = 4;
        break;
    case INSN_SUB:
        row = 5;
        break;
    case INSN_XOR:
        row = 6;
        break;
    case INSN_CMP:
        row = 7;
        break;
    case INSN_TEST:
        row = 8;
        break;
    default:
        return NULL;
    }
    if (form == HOT_NONE || (insn->prefixes & INSN_PREFIX_LOCK))
        return NULL;
    return alu_functions[row][hot_size_index(insn->operand[0].size)][form];
}
