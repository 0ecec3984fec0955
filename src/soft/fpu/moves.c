/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vector instructions that a guest executes most, in C: moves, bitwise logic, and the few that
 * no thunk can do (VZEROALL, EMMS, LDMXCSR, STMXCSR). Everything else is vector.c.
 *
 * The forms with MMX registers are rare and go to the thunks.
 */
#include "soft/fpu/fpu_internal.h"

#include <string.h>

static bool is_vector(const struct insn_operand *operand)
{
    return operand->kind == INSN_OPERAND_REG &&
           (operand->reg_class == INSN_REG_XMM || operand->reg_class == INSN_REG_YMM);
}

static bool has_mmx(const struct insn *insn)
{
    return (insn->operand[0].kind == INSN_OPERAND_REG &&
            insn->operand[0].reg_class == INSN_REG_MMX) ||
           (insn->operand[1].kind == INSN_OPERAND_REG &&
            insn->operand[1].reg_class == INSN_REG_MMX);
}

/* Whole registers: MOVAPS, MOVUPS, MOVDQA, MOVDQU, LDDQU, MOVNTDQ... and their VEX forms. */
enum soft_result fpu_run_move(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    const struct insn_operand *to = &insn->operand[0], *from = &insn->operand[1];
    uint8_t data[32] __attribute__((aligned(32)));
    unsigned size = insn->vex_l ? 32 : 16;
    uint64_t offset;

    if (UNLIKELY(has_mmx(insn)))
        return fpu_run_vector(cpu, insn);
    if (fpu_check_vector(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    if (to->kind == INSN_OPERAND_MEM) {
        offset = fpu_address(cpu, insn);
        if (fpu_check_aligned(cpu, insn, offset, size) != SOFT_OK)
            return SOFT_FAULT;
        if (size == 16)
            return fpu_store_operand(cpu, insn->mem.segment, offset, area->xmm[from->reg], 16);
        memcpy(data, area->xmm[from->reg], 16);
        memcpy(data + 16, area->ymm_high[from->reg], 16);
        return fpu_store_operand(cpu, insn->mem.segment, offset, data, 32);
    }
    if (from->kind == INSN_OPERAND_MEM) {
        offset = fpu_address(cpu, insn);
        if (fpu_check_aligned(cpu, insn, offset, size) != SOFT_OK ||
            fpu_load_operand(cpu, insn->mem.segment, offset, data, size) != SOFT_OK)
            return SOFT_FAULT;
    } else {
        memcpy(data, area->xmm[from->reg], 16);
        memcpy(data + 16, area->ymm_high[from->reg], 16);
    }
    fpu_set_xmm(area, insn, to->reg, data);
    if (size == 32)
        memcpy(area->ymm_high[to->reg], data + 16, 16);
    return SOFT_OK;
}

/* MOVD and MOVQ between the low end of a register, general registers and memory. */
enum soft_result fpu_run_movd(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    const struct insn_operand *to = &insn->operand[0], *from = &insn->operand[1];
    bool quad = is_vector(to) && is_vector(from);
    uint64_t data[2] = {0, 0};
    unsigned size;

    if (UNLIKELY(has_mmx(insn)))
        return fpu_run_vector(cpu, insn);
    if (fpu_check_vector(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    size = quad ? 8 : is_vector(to) ? from->size : to->size;
    if (!is_vector(to)) {
        memcpy(data, area->xmm[from->reg], size == 8 ? 8 : 4);
        if (to->kind == INSN_OPERAND_MEM)
            return fpu_store_operand(cpu, insn->mem.segment, fpu_address(cpu, insn), data,
                                     size == 8 ? 8 : 4);
        cpu->gpr[to->reg] = data[0];
        return SOFT_OK;
    }
    if (from->kind == INSN_OPERAND_MEM) {
        if (fpu_load_operand(cpu, insn->mem.segment, fpu_address(cpu, insn), data,
                             size == 8 ? 8 : 4) != SOFT_OK)
            return SOFT_FAULT;
    } else if (quad) {
        memcpy(data, area->xmm[from->reg], 8);
    } else {
        data[0] = size == 8 ? cpu->gpr[from->reg] : (uint32_t)cpu->gpr[from->reg];
    }
    fpu_set_xmm(area, insn, to->reg, data);
    return SOFT_OK;
}

/* MOVSS and MOVSD. */
enum soft_result fpu_run_movss(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    unsigned size = insn->mandatory == 0xf2 ? 8 : 4;
    uint8_t data[16] = {0};

    if ((insn->modrm >> 6) == 3)
        return fpu_run_vector(cpu, insn);
    if (fpu_check_vector(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    if (insn->operand[0].kind == INSN_OPERAND_MEM)
        return fpu_store_operand(cpu, insn->mem.segment, fpu_address(cpu, insn),
                                 area->xmm[insn->operand[1].reg], size);
    if (fpu_load_operand(cpu, insn->mem.segment, fpu_address(cpu, insn), data, size) != SOFT_OK)
        return SOFT_FAULT;
    fpu_set_xmm(area, insn, insn->operand[0].reg, data);
    return SOFT_OK;
}

/* MOVLPS, MOVLPD, MOVHPS, MOVHPD: legacy forms with memory. */
enum soft_result fpu_run_move_half(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    unsigned half = insn->opcode >= 0x16 ? 8 : 0;
    uint64_t data;

    if ((insn->prefixes & INSN_PREFIX_VEX) || (insn->modrm >> 6) == 3)
        return fpu_run_vector(cpu, insn);
    if (fpu_check_vector(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    if (insn->operand[0].kind == INSN_OPERAND_MEM)
        return fpu_store_operand(cpu, insn->mem.segment, fpu_address(cpu, insn),
                                 area->xmm[insn->operand[1].reg] + half, 8);
    if (fpu_load_operand(cpu, insn->mem.segment, fpu_address(cpu, insn), &data, 8) != SOFT_OK)
        return SOFT_FAULT;
    memcpy(area->xmm[insn->operand[0].reg] + half, &data, 8);
    return SOFT_OK;
}

/* Legacy PXOR, XORPS, PAND, ANDPS, PANDN, ANDNPS, POR, ORPS. */
enum soft_result fpu_run_logic(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    uint64_t to[2], from[2];

    if ((insn->prefixes & INSN_PREFIX_VEX) || has_mmx(insn))
        return fpu_run_vector(cpu, insn);
    if (fpu_check_vector(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    if (insn->operand[1].kind == INSN_OPERAND_MEM) {
        uint64_t offset = fpu_address(cpu, insn);

        if (fpu_check_aligned(cpu, insn, offset, 16) != SOFT_OK ||
            fpu_load_operand(cpu, insn->mem.segment, offset, from, 16) != SOFT_OK)
            return SOFT_FAULT;
    } else {
        memcpy(from, area->xmm[insn->operand[1].reg], 16);
    }
    memcpy(to, area->xmm[insn->operand[0].reg], 16);
    for (unsigned i = 0; i < 2; i++) {
        switch (insn->opcode) {
        case 0x54: /* ANDPS */
        case 0xdb: /* PAND */
            to[i] &= from[i];
            break;
        case 0x55: /* ANDNPS */
        case 0xdf: /* PANDN */
            to[i] = ~to[i] & from[i];
            break;
        case 0x56: /* ORPS */
        case 0xeb: /* POR */
            to[i] |= from[i];
            break;
        default: /* XORPS, PXOR */
            to[i] ^= from[i];
            break;
        }
    }
    memcpy(area->xmm[insn->operand[0].reg], to, 16);
    return SOFT_OK;
}

/* VZEROUPPER, VZEROALL: eight registers outside 64-bit mode. */
enum soft_result fpu_run_vzero(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    unsigned count = insn->mode == INSN_MODE_64 ? 16 : 8;

    if (fpu_check_vector(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    memset(area->ymm_high, 0, count * 16);
    if (insn->id == INSN_VZEROALL)
        memset(area->xmm, 0, count * 16);
    return SOFT_OK;
}

enum soft_result fpu_run_emms(struct soft_cpu *cpu, const struct insn *insn)
{
    if (fpu_check_mmx(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    fpu_mmx_enter(&cpu->fpu.area);
    cpu->fpu.area.ftw = 0;
    return SOFT_OK;
}

enum soft_result fpu_run_nop(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)cpu;
    (void)insn;
    return SOFT_OK;
}

enum soft_result fpu_run_mxcsr(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = fpu_address(cpu, insn);
    uint32_t value = cpu->fpu.area.mxcsr;

    if (fpu_check_vector(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    if (insn->id == INSN_STMXCSR || insn->id == INSN_VSTMXCSR)
        return fpu_store_operand(cpu, insn->mem.segment, offset, &value, 4);
    if (fpu_load_operand(cpu, insn->mem.segment, offset, &value, 4) != SOFT_OK)
        return SOFT_FAULT;
    if (value & ~FPU_MXCSR_MASK)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    cpu->fpu.area.mxcsr = value;
    return SOFT_OK;
}
