/* SPDX-License-Identifier: Apache-2.0 */
/* Operands of the system instructions. The hot integer instructions have their own, specialised. */
#include "soft/interp/integer.h"
#include "soft/interp/sys.h"

uint64_t sys_effective_address(const struct soft_cpu *cpu, const struct insn *insn)
{
    return integer_address(cpu, insn);
}

uint64_t sys_reg_read(const struct soft_cpu *cpu, const struct insn_operand *operand)
{
    if (operand->reg_class == INSN_REG_SEGMENT)
        return cpu->segment[operand->reg].selector;
    if (operand->reg_class == INSN_REG_GPR8_HIGH)
        return cpu->gpr[operand->reg] >> 8 & 0xff;
    return cpu->gpr[operand->reg] & integer_mask(operand->size);
}

void sys_reg_write(struct soft_cpu *cpu, const struct insn_operand *operand, uint64_t value)
{
    uint64_t mask = integer_mask(operand->size);

    if (operand->size == 4) /* zero-extends */
        cpu->gpr[operand->reg] = value & mask;
    else
        cpu->gpr[operand->reg] = (cpu->gpr[operand->reg] & ~mask) | (value & mask);
}

enum soft_result sys_operand_read(struct soft_cpu *cpu, const struct insn *insn, unsigned i,
                                  unsigned size, uint64_t *ret)
{
    const struct insn_operand *operand = &insn->operand[i];

    *ret = 0;
    if (operand->kind == INSN_OPERAND_MEM)
        return mmu_load(cpu, insn->mem.segment, sys_effective_address(cpu, insn), ret, size);
    if (operand->kind == INSN_OPERAND_IMM)
        *ret = insn->imm & integer_mask(size);
    else
        *ret = sys_reg_read(cpu, operand) & integer_mask(size);
    return SOFT_OK;
}

enum soft_result sys_operand_write(struct soft_cpu *cpu, const struct insn *insn, unsigned i,
                                   uint64_t value)
{
    const struct insn_operand *operand = &insn->operand[i];

    if (operand->kind == INSN_OPERAND_MEM)
        return mmu_store(cpu, insn->mem.segment, sys_effective_address(cpu, insn), &value,
                         operand->size);
    sys_reg_write(cpu, operand, value);
    return SOFT_OK;
}
