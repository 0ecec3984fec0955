/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Near branches that are not hot (16- and 32-bit CALL, RET, JMP through registers and memory),
 * LOOP, JrCXZ, software interrupts and BOUND.
 *
 * Source: SDM 2A/2B, the pages of the instructions.
 */
#include "soft/interp/stack.h"

/* next_rip = target, as wide as the operand size; #GP(0) beyond the CS limit. */
static enum soft_result branch_check(struct soft_cpu *cpu, const struct insn *insn,
                                     uint64_t *target)
{
    if (cpu->code_mode == INSN_MODE_64)
        return SOFT_OK;
    *target &= integer_mask(insn->operand_size);
    if (*target > cpu->segment[CPU_CS].limit)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    return SOFT_OK;
}

static enum soft_result branch_target(struct soft_cpu *cpu, const struct insn *insn, uint64_t *ret)
{
    enum soft_result result = SOFT_OK;

    if (insn->operand[0].kind == INSN_OPERAND_REL)
        *ret = cpu->next_rip + insn->imm;
    else
        result = integer_read(cpu, insn, 0, ret);
    return result ? result : branch_check(cpu, insn, ret);
}

static enum soft_result run_jmp(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t target;
    enum soft_result result = branch_target(cpu, insn, &target);

    if (!result)
        cpu->next_rip = target;
    return result;
}

static enum soft_result run_jcc(struct soft_cpu *cpu, const struct insn *insn)
{
    return integer_condition(cpu, insn->condition) ? run_jmp(cpu, insn) : SOFT_OK;
}

static enum soft_result run_call(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t sp = integer_stack_pointer(cpu), target;
    enum soft_result result = branch_target(cpu, insn, &target);

    if (!result)
        result = integer_push_at(cpu, &sp, insn->operand_size, cpu->next_rip);
    if (result)
        return result;
    integer_stack_pointer_write(cpu, sp);
    cpu->next_rip = target;
    return SOFT_OK;
}

static enum soft_result run_ret(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t sp = integer_stack_pointer(cpu), target;
    enum soft_result result = integer_pop_at(cpu, &sp, insn->operand_size, &target);

    if (!result)
        result = branch_check(cpu, insn, &target);
    if (result)
        return result;
    if (insn->operand[0].kind == INSN_OPERAND_IMM)
        sp += insn->imm & 0xffff;
    integer_stack_pointer_write(cpu, sp);
    cpu->next_rip = target;
    return SOFT_OK;
}

/* The counter's size is the address size; it is written back only when the branch did not fault. */
static enum soft_result run_loop(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t count = (cpu->gpr[CPU_RCX] - 1) & integer_mask(insn->address_size);
    bool zero = cpu->rflags & CPU_FLAG_ZF;
    bool taken = count && (insn->id == INSN_LOOP || zero == (insn->id == INSN_LOOPE));
    enum soft_result result = taken ? run_jmp(cpu, insn) : SOFT_OK;

    if (!result)
        integer_gpr_write(cpu, CPU_RCX, insn->address_size, count);
    return result;
}

static enum soft_result run_jrcxz(struct soft_cpu *cpu, const struct insn *insn)
{
    return integer_gpr(cpu, CPU_RCX, insn->address_size) ? SOFT_OK : run_jmp(cpu, insn);
}

static enum soft_result software_interrupt(struct soft_cpu *cpu, uint8_t vector)
{
    cpu->interp.event_vector = vector;
    cpu->interp.event_kind = SOFT_EVENT_SOFTWARE_INTERRUPT;
    return SOFT_INTERRUPT;
}

static enum soft_result run_int(struct soft_cpu *cpu, const struct insn *insn)
{
    if (cpu->mode == SOFT_MODE_V86 && (cpu->rflags & CPU_FLAG_IOPL) != CPU_FLAG_IOPL)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    return software_interrupt(cpu, (uint8_t)insn->imm);
}

static enum soft_result run_int3(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    return software_interrupt(cpu, CPU_VECTOR_BP);
}

/* INT1 is #DB without a DPL check, a trap. */
static enum soft_result run_int1(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    cpu->rip = cpu->next_rip;
    cpu->interp.event_vector = CPU_VECTOR_DB;
    cpu->interp.event_kind = SOFT_EVENT_EXCEPTION;
    return SOFT_INTERRUPT;
}

static enum soft_result run_into(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    return cpu->rflags & CPU_FLAG_OF ? software_interrupt(cpu, CPU_VECTOR_OF) : SOFT_OK;
}

static enum soft_result run_bound(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t address = integer_address(cpu, insn), low = 0, high = 0;
    int64_t index = integer_sign_extend(integer_register(cpu, &insn->operand[0]), size);
    enum soft_result result = mmu_load(cpu, insn->mem.segment, address, &low, size);

    if (!result)
        result = mmu_load(cpu, insn->mem.segment,
                          (address + size) & integer_mask(insn->address_size), &high, size);
    if (result)
        return result;
    if (index < integer_sign_extend(low, size) || index > integer_sign_extend(high, size))
        return fault_raise(cpu, CPU_VECTOR_BR);
    return SOFT_OK;
}

const struct soft_handler integer_handlers_branch[] = {
    {INSN_JMP, run_jmp},     {INSN_JCC, run_jcc},     {INSN_CALL, run_call},
    {INSN_RET, run_ret},     {INSN_LOOP, run_loop},   {INSN_LOOPE, run_loop},
    {INSN_LOOPNE, run_loop}, {INSN_JRCXZ, run_jrcxz}, {INSN_INT, run_int},
    {INSN_INT3, run_int3},   {INSN_INT1, run_int1},   {INSN_INTO, run_into},
    {INSN_BOUND, run_bound}, {INSN_NONE, NULL},
};
