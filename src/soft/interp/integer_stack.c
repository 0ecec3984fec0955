/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack in every operand and stack size: PUSH, POP, PUSHA, POPA, ENTER, LEAVE, PUSHF, POPF.
 * rSP changes after the last access that can fault.
 *
 * Source: SDM 2A/2B, the pages of the instructions; SDM 1 6.2.
 */
#include "soft/interp/integer.h"
#include "soft/interp/stack.h"
#include "soft/interp/sys.h"

enum soft_result integer_push_at(struct soft_cpu *cpu, uint64_t *sp, unsigned size, uint64_t value)
{
    uint64_t next = (*sp - size) & integer_mask(cpu->stack_size);
    enum soft_result result = mmu_store(cpu, CPU_SS, next, &value, size);

    if (!result)
        *sp = next;
    return result;
}

enum soft_result integer_pop_at(struct soft_cpu *cpu, uint64_t *sp, unsigned size, uint64_t *ret)
{
    enum soft_result result;

    *ret = 0;
    result = mmu_load(cpu, CPU_SS, *sp, ret, size);
    if (!result)
        *sp = (*sp + size) & integer_mask(cpu->stack_size);
    return result;
}

static enum soft_result run_push(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t sp = integer_stack_pointer(cpu), value;
    enum soft_result result;

    if (insn->operand[0].reg_class == INSN_REG_SEGMENT)
        return op_push_seg(cpu, insn);
    result = integer_read(cpu, insn, 0, &value);
    if (!result)
        result = integer_push_at(cpu, &sp, insn->operand_size, value);
    if (!result)
        integer_stack_pointer_write(cpu, sp);
    return result;
}

/* POP m computes its address with rSP already moved. */
static enum soft_result run_pop(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t sp = integer_stack_pointer(cpu), old = cpu->gpr[CPU_RSP], value;
    enum soft_result result;

    if (insn->operand[0].reg_class == INSN_REG_SEGMENT)
        return op_pop_seg(cpu, insn);
    result = integer_pop_at(cpu, &sp, insn->operand_size, &value);
    if (result)
        return result;
    integer_stack_pointer_write(cpu, sp);
    result = integer_write(cpu, insn, 0, value);
    if (result)
        cpu->gpr[CPU_RSP] = old;
    return result;
}

static enum soft_result run_pusha(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t sp = integer_stack_pointer(cpu);
    enum soft_result result;

    for (unsigned reg = CPU_RAX; reg <= CPU_RDI; reg++) {
        result = integer_push_at(cpu, &sp, insn->operand_size, cpu->gpr[reg]);
        if (result)
            return result;
    }
    integer_stack_pointer_write(cpu, sp);
    return SOFT_OK;
}

static enum soft_result run_popa(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t sp = integer_stack_pointer(cpu), values[8];
    enum soft_result result;

    for (unsigned i = 0; i < 8; i++) {
        result = integer_pop_at(cpu, &sp, insn->operand_size, &values[i]);
        if (result)
            return result;
    }
    for (unsigned i = 0; i < 8; i++)
        if (7 - i != CPU_RSP)
            integer_gpr_write(cpu, 7 - i, insn->operand_size, values[i]);
    integer_stack_pointer_write(cpu, sp);
    return SOFT_OK;
}

static enum soft_result run_enter(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size, level = (unsigned)insn->imm2 & 31;
    uint64_t mask = integer_mask(cpu->stack_size);
    uint64_t sp = integer_stack_pointer(cpu), bp = cpu->gpr[CPU_RBP] & mask, frame, value = 0;
    enum soft_result result = integer_push_at(cpu, &sp, size, cpu->gpr[CPU_RBP]);

    frame = sp;
    for (unsigned i = 1; i < level && !result; i++) {
        bp = (bp - size) & mask;
        result = mmu_load(cpu, CPU_SS, bp, &value, size);
        if (!result)
            result = integer_push_at(cpu, &sp, size, value);
    }
    if (!result && level)
        result = integer_push_at(cpu, &sp, size, frame);
    sp = (sp - (insn->imm & 0xffff)) & mask;
    if (!result)
        result = mmu_probe_store(cpu, CPU_SS, sp, size);
    if (result)
        return result;
    integer_gpr_write(cpu, CPU_RBP, size, frame);
    integer_stack_pointer_write(cpu, sp);
    return SOFT_OK;
}

static enum soft_result run_leave(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t sp = cpu->gpr[CPU_RBP] & integer_mask(cpu->stack_size), value;
    enum soft_result result = integer_pop_at(cpu, &sp, insn->operand_size, &value);

    if (result)
        return result;
    integer_stack_pointer_write(cpu, sp);
    integer_gpr_write(cpu, CPU_RBP, insn->operand_size, value);
    return SOFT_OK;
}

/* Virtual-8086 mode with IOPL below 3 (and no VME): #GP(0). */
static bool v86_forbids(const struct soft_cpu *cpu)
{
    return cpu->mode == SOFT_MODE_V86 && (cpu->rflags & CPU_FLAG_IOPL) != CPU_FLAG_IOPL;
}

static enum soft_result run_pushf(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t sp = integer_stack_pointer(cpu);
    enum soft_result result;

    if (v86_forbids(cpu))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = integer_push_at(cpu, &sp, insn->operand_size,
                             cpu->rflags & ~(CPU_FLAG_VM | CPU_FLAG_RF));
    if (!result)
        integer_stack_pointer_write(cpu, sp);
    return result;
}

/* VM, VIF and VIP do not change (VIF and VIP are cleared at CPL 0), RF is cleared. */
static enum soft_result run_popf(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t mask = CPU_FLAGS_STATUS | CPU_FLAG_TF | CPU_FLAG_DF | CPU_FLAG_NT | CPU_FLAG_AC |
                    CPU_FLAG_ID | CPU_FLAG_RF;
    uint64_t sp = integer_stack_pointer(cpu), old = cpu->rflags, value;
    enum soft_result result;

    if (v86_forbids(cpu))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = integer_pop_at(cpu, &sp, insn->operand_size, &value);
    if (result)
        return result;
    if (cpu->cpl == 0)
        mask |= CPU_FLAG_IOPL;
    if (cpu->cpl <= (cpu->rflags & CPU_FLAG_IOPL) >> 12 || cpu->mode == SOFT_MODE_V86)
        mask |= CPU_FLAG_IF;
    if (insn->operand_size == 2)
        mask &= 0xffff;
    integer_stack_pointer_write(cpu, sp);
    cpu->rflags = (old & ~mask) | (value & mask & ~CPU_FLAG_RF) | CPU_FLAG_ONE;
    if (insn->operand_size != 2 && cpu->cpl == 0)
        cpu->rflags &= ~(CPU_FLAG_VIF | CPU_FLAG_VIP);
    if ((old ^ cpu->rflags) & (CPU_FLAG_IF | CPU_FLAG_TF | CPU_FLAG_AC)) {
        cpu->end_block = true;
        debug_update(cpu);
        mmu_context_changed(cpu);
    }
    return SOFT_OK;
}

const struct soft_handler integer_handlers_stack[] = {
    {INSN_PUSH, run_push},   {INSN_POP, run_pop},     {INSN_PUSHA, run_pusha},
    {INSN_POPA, run_popa},   {INSN_ENTER, run_enter}, {INSN_LEAVE, run_leave},
    {INSN_PUSHF, run_pushf}, {INSN_POPF, run_popf},   {INSN_NONE, NULL},
};
