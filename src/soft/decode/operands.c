/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory operand (ModRM, SIB, displacement) and the operands of a form: each method of
 * enum decode_method, and the sizes of enum decode_size.
 *
 * Source: SDM 2A 2.1.5 (tables 2-1 to 2-3), 2.2.1, 2.3.12; 3.1.1.
 */
#include "cpu/state.h"
#include "soft/decode/decoder.h"

/* clang-format off */
/* Columns: operand size 16, 32, 64 bits with VEX.L 0, then with VEX.L 1. */
static const uint16_t operand_bytes[Z_NR_SIZES][6] = {
    [Z_1]  = {1, 1, 1, 1, 1, 1},
    [Z_2]  = {2, 2, 2, 2, 2, 2},
    [Z_4]  = {4, 4, 4, 4, 4, 4},
    [Z_6]  = {6, 6, 6, 6, 6, 6},
    [Z_8]  = {8, 8, 8, 8, 8, 8},
    [Z_10] = {10, 10, 10, 10, 10, 10},
    [Z_16] = {16, 16, 16, 16, 16, 16},
    [Z_32] = {32, 32, 32, 32, 32, 32},
    [Z_512] = {512, 512, 512, 512, 512, 512},
    [Z_V]  = {2, 4, 8, 2, 4, 8},
    [Z_Z]  = {2, 4, 4, 2, 4, 4},
    [Z_Y]  = {4, 4, 8, 4, 4, 8},
    [Z_P]  = {4, 6, 10, 4, 6, 10},
    [Z_A]  = {4, 8, 16, 4, 8, 16},
    [Z_X]  = {16, 16, 16, 32, 32, 32},
    [Z_XH] = {8, 8, 8, 16, 16, 16},
    [Z_XQ] = {4, 4, 4, 8, 8, 8},
    [Z_XE] = {2, 2, 2, 4, 4, 4},
    [Z_DDUP] = {8, 8, 8, 32, 32, 32},
    [Z_TABLE] = {6, 6, 10, 6, 6, 10},
    [Z_NATIVE_W] = {2, 2, 2, 2, 2, 2},
    [Z_1_REG4] = {1, 1, 1, 1, 1, 1},
    [Z_2_REG4] = {2, 2, 2, 2, 2, 2},
    [Z_ENV] = {14, 28, 28, 14, 28, 28},
    [Z_X87] = {94, 108, 108, 94, 108, 108},
};
/* clang-format on */

/* size bytes, none for 0. */
static bool take_displacement(struct decoder *d, struct insn *insn, unsigned size)
{
    uint64_t displacement;

    if (size == 0)
        return true;
    insn->displacement_offset = d->position;
    insn->displacement_size = size;
    if (!take(d, size, &displacement))
        return false;
    insn->mem.displacement = (int64_t)sign_extend(displacement, size);
    return true;
}

static bool decode_memory_16(struct decoder *d, struct insn *insn)
{
    static const uint8_t bases[8] = {CPU_RBX, CPU_RBX, CPU_RBP, CPU_RBP,
                                     CPU_RSI, CPU_RDI, CPU_RBP, CPU_RBX};
    static const uint8_t indices[8] = {CPU_RSI,     CPU_RDI,     CPU_RSI,     CPU_RDI,
                                       INSN_NO_REG, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG};
    unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;
    unsigned size = mod == 2 ? 2 : mod;

    if (mod == 0 && rm == 6) {
        size = 2;
    } else {
        insn->mem.base = bases[rm];
        insn->mem.index = indices[rm];
    }
    if (insn->mem.base == CPU_RBP)
        insn->mem.segment = CPU_SS;
    return take_displacement(d, insn, size);
}

/* ModRM with mod != 3: SIB, displacement, default segment. */
bool decode_memory(struct decoder *d, struct insn *insn, bool vsib)
{
    unsigned mod = insn->modrm >> 6, base = insn->modrm & 7, index;
    unsigned size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    uint8_t sib;

    if (UNLIKELY(insn->address_size == 2))
        return decode_memory_16(d, insn);
    if (base == 4) {
        if (!take_byte(d, &sib))
            return false;
        base = sib & 7;
        index = (sib >> 3 & 7) | (insn->rex & REX_X) << 2;
        if (index != CPU_RSP || vsib) {
            insn->mem.index = index;
            insn->mem.scale = (uint8_t)(1u << (sib >> 6));
        }
    } else if (mod == 0 && base == 5 && insn->mode == INSN_MODE_64) {
        insn->mem.rip_relative = true;
    }
    if (mod == 0 && base == 5) {
        size = 4;
    } else {
        base |= (insn->rex & REX_B) << 3;
        insn->mem.base = base;
        if (base == CPU_RSP || base == CPU_RBP)
            insn->mem.segment = CPU_SS;
    }
    return take_displacement(d, insn, size);
}

static inline bool take_immediate(struct decoder *d, struct insn *insn, unsigned size,
                                  uint64_t *ret)
{
    if (!insn->imm_offset)
        insn->imm_offset = d->position;
    insn->imm_size += size;
    return take(d, size, ret);
}

static inline void set_register(struct insn_operand *operand, enum insn_reg_class class,
                                unsigned reg, unsigned size)
{
    operand->kind = INSN_OPERAND_REG;
    operand->reg_class = class;
    operand->reg = reg;
    operand->size = size;
}

static inline void set_gpr(const struct insn *insn, struct insn_operand *operand, unsigned reg,
                           unsigned size)
{
    bool high = size == 1 && reg >= 4 && !insn->rex;

    set_register(operand, high ? INSN_REG_GPR8_HIGH : INSN_REG_GPR, high ? reg - 4 : reg, size);
}

static inline void set_vector(struct insn_operand *operand, unsigned reg, unsigned l)
{
    set_register(operand, l ? INSN_REG_YMM : INSN_REG_XMM, reg, l ? 32 : 16);
}

static inline void set_memory(struct insn_operand *operand, unsigned size)
{
    operand->kind = INSN_OPERAND_MEM;
    operand->size = size;
}

/* A general register named by ModRM.rm: some sizes differ from those of the memory form. */
static inline unsigned register_bytes(const struct insn *insn, unsigned code, unsigned size)
{
    if (LIKELY(code < Z_NATIVE_W))
        return size;
    if (code == Z_NATIVE_W)
        return insn->operand_size;
    return code <= Z_2_REG4 ? 4 : size;
}

static enum insn_result immediate_operand(struct decoder *d, struct insn *insn,
                                          struct insn_operand *operand, unsigned method,
                                          unsigned size)
{
    operand->kind = INSN_OPERAND_IMM;
    operand->size = size;
    switch (method) {
    case M_I:
        if (!take_immediate(d, insn, size, &insn->imm))
            return out_of_bytes(d);
        return INSN_OK;
    case M_SIB:
        operand->size = size = 1;
        break;
    case M_I2:
        if (!take_immediate(d, insn, 1, &insn->imm2))
            return out_of_bytes(d);
        return INSN_OK;
    case M_ONE:
        operand->implicit = true;
        insn->imm = 1;
        return INSN_OK;
    case M_J:
        operand->kind = INSN_OPERAND_REL;
        break;
    case M_A:
        operand->kind = INSN_OPERAND_FAR;
        if (!take_immediate(d, insn, size - 2, &insn->imm) ||
            !take_immediate(d, insn, 2, &insn->imm2))
            return out_of_bytes(d);
        return INSN_OK;
    default:
        break;
    }
    if (!take_immediate(d, insn, size, &insn->imm))
        return out_of_bytes(d);
    insn->imm = sign_extend(insn->imm, size);
    return INSN_OK;
}

/* Memory that no ModRM byte names: moffs, the string registers, XLAT, MASKMOV. */
static enum insn_result implicit_memory(struct decoder *d, struct insn *insn,
                                        struct insn_operand *operand, unsigned method,
                                        unsigned size)
{
    unsigned base = CPU_RDI, segment = d->segment == INSN_NO_REG ? CPU_DS : d->segment;
    uint64_t offset;

    set_memory(operand, size);
    operand->implicit = true;
    switch (method) {
    case M_O:
        operand->implicit = false;
        insn->displacement_offset = d->position;
        insn->displacement_size = insn->address_size;
        insn->mem.segment = segment;
        if (!take(d, insn->address_size, &offset))
            return out_of_bytes(d);
        insn->mem.displacement = (int64_t)offset;
        return INSN_OK;
    case M_X:
        base = CPU_RSI;
        break;
    case M_XLAT:
        base = CPU_RBX;
        break;
    case M_Y:
        operand->reg = base;
        if (insn->mem.base != INSN_NO_REG) /* CMPS: insn.mem describes the DS:rSI operand */
            return INSN_OK;
        segment = CPU_ES;
        break;
    default: /* M_MASKMOV */
        break;
    }
    operand->reg = base;
    insn->mem.base = base;
    insn->mem.segment = segment;
    return INSN_OK;
}

static inline enum insn_result decode_operand(struct decoder *d, struct insn *insn,
                                              struct insn_operand *operand, unsigned spec)
{
    unsigned method = spec & 63, code = spec >> 6 & 31;
    unsigned size = operand_bytes[code][d->size + 3 * d->vector_l];
    unsigned reg = (insn->modrm >> 3 & 7) | (insn->rex & REX_R) << 1;
    unsigned rm = (insn->modrm & 7) | (insn->rex & REX_B) << 3;
    bool memory = insn->modrm < 0xc0;
    uint64_t imm;

    operand->access = spec >> 11 & 3;
    switch (method) {
    case M_E:
        if (memory)
            set_memory(operand, size);
        else
            set_gpr(insn, operand, rm, register_bytes(insn, code, size));
        return INSN_OK;
    case M_G:
        set_gpr(insn, operand, reg, size);
        return INSN_OK;
    case M_M:
        if (!memory)
            return INSN_UNDEFINED;
        set_memory(operand, size);
        return INSN_OK;
    case M_R:
        set_gpr(insn, operand, rm, size);
        return INSN_OK;
    case M_Z:
        set_gpr(insn, operand, (insn->opcode & 7) | (insn->rex & REX_B) << 3, size);
        return INSN_OK;
    case M_B:
        d->vvvv_used = true;
        set_gpr(insn, operand, insn->vex_vvvv, size);
        return INSN_OK;
    case M_FIXED ... M_FIXED_LAST:
        operand->implicit = true;
        set_register(operand, INSN_REG_GPR, method - M_FIXED, size);
        return INSN_OK;
    case M_AH:
        operand->implicit = true;
        set_register(operand, INSN_REG_GPR8_HIGH, 0, 1);
        return INSN_OK;
    case M_SEGMENT ... M_SEGMENT_LAST:
        operand->implicit = true;
        set_register(operand, INSN_REG_SEGMENT, method - M_SEGMENT, 2);
        return INSN_OK;
    case M_S:
    case M_SW:
        reg &= 7;
        if (reg > CPU_GS || (method == M_SW && reg == CPU_CS))
            return INSN_UNDEFINED;
        set_register(operand, INSN_REG_SEGMENT, reg, 2);
        return INSN_OK;
    case M_C:
        if (reg == 1 || (reg > 4 && reg != 8))
            return INSN_UNDEFINED;
        set_register(operand, INSN_REG_CR, reg, size);
        return INSN_OK;
    case M_D:
        if (reg > 7)
            return INSN_UNDEFINED;
        set_register(operand, INSN_REG_DR, reg, size);
        return INSN_OK;
    case M_ST0:
        operand->implicit = true;
        set_register(operand, INSN_REG_ST, 0, 10);
        return INSN_OK;
    case M_STI:
        set_register(operand, INSN_REG_ST, insn->modrm & 7, 10);
        return INSN_OK;
    case M_P:
        set_register(operand, INSN_REG_MMX, reg & 7, 8);
        return INSN_OK;
    case M_N:
    case M_Q:
        if (!memory)
            set_register(operand, INSN_REG_MMX, rm & 7, 8);
        else if (method == M_N)
            return INSN_UNDEFINED;
        else
            set_memory(operand, size);
        return INSN_OK;
    case M_V:
        set_vector(operand, reg, 0);
        return INSN_OK;
    case M_VL:
        set_vector(operand, reg, d->vector_l);
        return INSN_OK;
    case M_WX:
    case M_WL:
        if (memory)
            set_memory(operand, size);
        else
            set_vector(operand, rm, method == M_WL && d->vector_l);
        return INSN_OK;
    case M_U:
    case M_UL:
        if (memory)
            return INSN_UNDEFINED;
        set_vector(operand, rm, method == M_UL && d->vector_l);
        return INSN_OK;
    case M_H:
    case M_HL:
        d->vvvv_used = true;
        set_vector(operand, insn->vex_vvvv, method == M_HL && d->vector_l);
        return INSN_OK;
    case M_IS4:
    case M_IS4L:
        if (!take_immediate(d, insn, 1, &imm))
            return out_of_bytes(d);
        insn->imm = imm;
        imm >>= 4;
        set_vector(operand, insn->mode == INSN_MODE_64 ? imm : imm & 7,
                   method == M_IS4L && d->vector_l);
        return INSN_OK;
    case M_XMM0:
        operand->implicit = true;
        set_vector(operand, 0, 0);
        return INSN_OK;
    case M_VSIB:
    case M_VSIBL:
        if (!memory || (insn->modrm & 7) != 4 || insn->address_size == 2)
            return INSN_UNDEFINED;
        set_memory(operand, size);
        operand->reg_class = method == M_VSIBL && d->vector_l ? INSN_REG_YMM : INSN_REG_XMM;
        operand->reg = insn->mem.index;
        insn->mem.vsib = true;
        return INSN_OK;
    case M_I ... M_A:
        return immediate_operand(d, insn, operand, method, size);
    default:
        return implicit_memory(d, insn, operand, method, size);
    }
}

enum insn_result decode_operands(struct decoder *d, struct insn *insn,
                                 const struct decode_form *form)
{
    enum insn_result result;
    unsigned i;

    for (i = 0; i < INSN_OPERANDS_MAX && form->operand[i]; i++) {
        result = decode_operand(d, insn, &insn->operand[i], form->operand[i]);
        if (UNLIKELY(result != INSN_OK))
            return result;
    }
    insn->nr_operands = i;
    if (d->vvvv_present && !d->vvvv_used)
        return INSN_UNDEFINED;
    return INSN_OK;
}
