/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot operations on the stack of 64-bit mode with the default operand size: PUSH and POP of
 * registers, PUSH of a constant and of memory, LEAVE. rSP changes after the access that can fault.
 *
 * Source: SDM 2B PUSH, POP; 2A LEAVE.
 */
#include "soft/interp/access.h"

INTERP_INLINE int push_value(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t stack = cpu->gpr[CPU_RSP] - 8;
    uint8_t *code_byte;
    volatile struct mmu_unaligned64 *host = mmu_host_write_fast(cpu, CPU_SS, stack, 8, &code_byte);

    if (LIKELY(host)) {
        host->value = value;
        if (UNLIKELY(*(volatile uint8_t *)code_byte))
            interp_code_stored(cpu, (const void *)(uintptr_t)host, 8);
    } else {
        int result = interp_store_slow(cpu, CPU_SS, stack, 8, value);

        if (result)
            return result;
    }
    cpu->gpr[CPU_RSP] = stack;
    return SOFT_OK;
}

INTERP_INLINE struct interp_loaded stack_load(struct soft_cpu *cpu, uint64_t stack)
{
    const volatile struct mmu_unaligned64 *host = mmu_host_read_fast(cpu, CPU_SS, stack, 8);

    if (UNLIKELY(!host))
        return interp_load_slow(cpu, CPU_SS, stack, 8);
    return (struct interp_loaded){host->value, SOFT_OK};
}

static int push_r(struct soft_cpu *cpu, const struct interp_op *op)
{
    int result = push_value(cpu, INTERP_REG64(op->dst));

    if (UNLIKELY(result))
        return interp_leave_fault(cpu, op, result);
    INTERP_NEXT();
}

static int push_i(struct soft_cpu *cpu, const struct interp_op *op)
{
    int result = push_value(cpu, op->imm);

    if (UNLIKELY(result))
        return interp_leave_fault(cpu, op, result);
    INTERP_NEXT();
}

static int push_m(struct soft_cpu *cpu, const struct interp_op *op)
{
    struct interp_loaded loaded = interp_load64_G(cpu, op);
    int result;

    if (UNLIKELY(loaded.result))
        return interp_leave_fault(cpu, op, (int)loaded.result);
    result = push_value(cpu, loaded.value);
    if (UNLIKELY(result))
        return interp_leave_fault(cpu, op, result);
    INTERP_NEXT();
}

static int pop_r(struct soft_cpu *cpu, const struct interp_op *op)
{
    uint64_t stack = cpu->gpr[CPU_RSP];
    struct interp_loaded loaded = stack_load(cpu, stack);

    if (UNLIKELY(loaded.result))
        return interp_leave_fault(cpu, op, (int)loaded.result);
    cpu->gpr[CPU_RSP] = stack + 8;
    INTERP_REG64(op->dst) = loaded.value;
    INTERP_NEXT();
}

static int leave(struct soft_cpu *cpu, const struct interp_op *op)
{
    uint64_t stack = cpu->gpr[CPU_RBP];
    struct interp_loaded loaded = stack_load(cpu, stack);

    if (UNLIKELY(loaded.result))
        return interp_leave_fault(cpu, op, (int)loaded.result);
    cpu->gpr[CPU_RSP] = stack + 8;
    cpu->gpr[CPU_RBP] = loaded.value;
    INTERP_NEXT();
}

interp_fn *hot_stack_select(const struct insn *insn, struct interp_op *op)
{
    (void)op;
    if (insn->mode != INSN_MODE_64 || insn->operand_size != 8)
        return NULL;
    switch (insn->id) {
    case INSN_PUSH:
        if (insn->operand[0].kind == INSN_OPERAND_IMM)
            return push_i;
        if (insn->operand[0].kind == INSN_OPERAND_MEM)
            return push_m;
        return insn->operand[0].reg_class == INSN_REG_GPR ? push_r : NULL;
    case INSN_POP:
        return insn->operand[0].kind == INSN_OPERAND_REG &&
                       insn->operand[0].reg_class == INSN_REG_GPR
                   ? pop_r
                   : NULL;
    case INSN_LEAVE:
        return leave;
    default:
        return NULL;
    }
}
