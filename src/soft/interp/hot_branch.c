/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot operations that end a block: near JMP, Jcc, CALL and RET. The 64-bit forms need no limit
 * check; in 16- and 32-bit code a target beyond the CS limit is #GP(0) of the branch itself, and so
 * is a 64-bit target through a register or memory that is not canonical.
 *
 * op->imm is the target's distance from the block's first byte, op->mask what the operand size
 * leaves of it.
 *
 * Source: SDM 2A CALL, Jcc, JMP; 2B RET.
 */
#include "soft/interp/access.h"

static inline uint64_t behind(const struct soft_cpu *cpu, const struct interp_op *op)
{
    return cpu->rip + op->offset + op->length;
}

static inline bool canonical(uint64_t address)
{
    return LIKELY((uint64_t)((int64_t)(address << 16) >> 16) == address);
}

static int not_canonical(struct soft_cpu *cpu, const struct interp_op *op)
{
    return interp_leave_fault(cpu, op, (int)fault_raise_error(cpu, CPU_VECTOR_GP, 0));
}

/* The push of a CALL is checked before its target. */
static int call_not_canonical(struct soft_cpu *cpu, const struct interp_op *op)
{
    int result = (int)mmu_probe_store(cpu, CPU_SS, cpu->gpr[CPU_RSP] - 8, 8);

    return result ? interp_leave_fault(cpu, op, result) : not_canonical(cpu, op);
}

static int jmp_rel(struct soft_cpu *cpu, const struct interp_op *op)
{
    cpu->rip += op->imm;
    return 0;
}

#define JCC(number)                                                                                \
    static int jcc_##number(struct soft_cpu *cpu, const struct interp_op *op)                      \
    {                                                                                              \
        cpu->rip += interp_condition(cpu->host_flags, number) ? op->imm                            \
                                                              : (uint64_t)op->offset + op->length; \
        return 0;                                                                                  \
    }
JCC(0)
JCC(1)
JCC(2)
JCC(3)
JCC(4)
JCC(5)
JCC(6)
JCC(7)
JCC(8)
JCC(9)
JCC(10)
JCC(11)
JCC(12)
JCC(13)
JCC(14)
JCC(15)

static interp_fn *const jcc_functions[16] = {
    jcc_0, jcc_1, jcc_2,  jcc_3,  jcc_4,  jcc_5,  jcc_6,  jcc_7,
    jcc_8, jcc_9, jcc_10, jcc_11, jcc_12, jcc_13, jcc_14, jcc_15,
};

/* Not the block's last: goes on with the next one, unless it is taken. */
static int jcc_side(struct soft_cpu *cpu, const struct interp_op *op)
{
    if (!interp_condition(cpu->host_flags, op->condition))
        INTERP_NEXT();
    cpu->rip += op->imm;
    cpu->interp.executed = op->position + 1u;
    return INTERP_LEFT;
}

bool hot_jcc_forward(const struct interp_op *op)
{
    return op->run == jcc_functions[op->condition & 15] && (int64_t)op->imm > op->offset &&
           (int64_t)op->imm < INT32_MAX - 2 * (int64_t)GUEST_PAGE_SIZE;
}

void hot_jcc_go_on(struct interp_op *op)
{
    op->run = jcc_side;
}

/* 16- and 32-bit code */
static int jump_legacy(struct soft_cpu *cpu, const struct interp_op *op, uint64_t target)
{
    if (UNLIKELY(target > cpu->segment[CPU_CS].limit))
        return interp_leave_fault(cpu, op, fault_raise_error(cpu, CPU_VECTOR_GP, 0));
    cpu->rip = target;
    return 0;
}

static int jmp_rel_legacy(struct soft_cpu *cpu, const struct interp_op *op)
{
    return jump_legacy(cpu, op, (cpu->rip + op->imm) & op->mask);
}

static int jcc_legacy(struct soft_cpu *cpu, const struct interp_op *op)
{
    if (interp_condition(cpu->host_flags, op->condition))
        return jump_legacy(cpu, op, (cpu->rip + op->imm) & op->mask);
    cpu->rip = (uint32_t)behind(cpu, op);
    return 0;
}

static int jmp_r(struct soft_cpu *cpu, const struct interp_op *op)
{
    if (!canonical(INTERP_REG64(op->dst)))
        return not_canonical(cpu, op);
    cpu->rip = INTERP_REG64(op->dst);
    return 0;
}

static int jmp_m(struct soft_cpu *cpu, const struct interp_op *op)
{
    struct interp_loaded loaded = interp_load64_G(cpu, op);

    if (UNLIKELY(loaded.result))
        return interp_leave_fault(cpu, op, (int)loaded.result);
    if (!canonical(loaded.value))
        return not_canonical(cpu, op);
    cpu->rip = loaded.value;
    return 0;
}

/* Pushes the return address, then goes to target. */
INTERP_INLINE int call_to(struct soft_cpu *cpu, const struct interp_op *op, uint64_t target)
{
    uint64_t stack = cpu->gpr[CPU_RSP] - 8;
    uint8_t *code_byte;
    volatile struct mmu_unaligned64 *host = mmu_host_write_fast(cpu, CPU_SS, stack, 8, &code_byte);

    if (LIKELY(host)) {
        host->value = behind(cpu, op);
        if (UNLIKELY(*(volatile uint8_t *)code_byte))
            interp_code_stored(cpu, (const void *)(uintptr_t)host, 8);
    } else {
        int result = interp_store_slow(cpu, CPU_SS, stack, 8, behind(cpu, op));

        if (result)
            return interp_leave_fault(cpu, op, result);
    }
    cpu->gpr[CPU_RSP] = stack;
    cpu->rip = target;
    return 0;
}

static int call_rel(struct soft_cpu *cpu, const struct interp_op *op)
{
    return call_to(cpu, op, cpu->rip + op->imm);
}

static int call_r(struct soft_cpu *cpu, const struct interp_op *op)
{
    if (!canonical(INTERP_REG64(op->dst)))
        return call_not_canonical(cpu, op);
    return call_to(cpu, op, INTERP_REG64(op->dst));
}

static int call_m(struct soft_cpu *cpu, const struct interp_op *op)
{
    struct interp_loaded loaded = interp_load64_G(cpu, op);

    if (UNLIKELY(loaded.result))
        return interp_leave_fault(cpu, op, (int)loaded.result);
    if (!canonical(loaded.value))
        return call_not_canonical(cpu, op);
    return call_to(cpu, op, loaded.value);
}

static int ret(struct soft_cpu *cpu, const struct interp_op *op)
{
    uint64_t stack = cpu->gpr[CPU_RSP], target;
    const volatile struct mmu_unaligned64 *host = mmu_host_read_fast(cpu, CPU_SS, stack, 8);

    if (LIKELY(host)) {
        target = host->value;
    } else {
        struct interp_loaded loaded = interp_load_slow(cpu, CPU_SS, stack, 8);

        if (loaded.result)
            return interp_leave_fault(cpu, op, (int)loaded.result);
        target = loaded.value;
    }
    if (!canonical(target))
        return not_canonical(cpu, op);
    cpu->rip = target;
    cpu->gpr[CPU_RSP] = stack + 8 + op->imm;
    return 0;
}

interp_fn *hot_branch_select(const struct insn *insn, struct interp_op *op)
{
    bool wide = insn->mode == INSN_MODE_64 && insn->operand_size == 8;

    switch (insn->id) {
    case INSN_JCC:
        if (insn->mode != INSN_MODE_64)
            return jcc_legacy;
        return wide ? jcc_functions[insn->condition & 15] : NULL;
    case INSN_JMP:
        if (insn->operand[0].kind == INSN_OPERAND_REL && insn->mode != INSN_MODE_64)
            return jmp_rel_legacy;
        if (!wide)
            return NULL;
        if (insn->operand[0].kind == INSN_OPERAND_REL)
            return jmp_rel;
        return insn->operand[0].kind == INSN_OPERAND_REG ? jmp_r : jmp_m;
    case INSN_CALL:
        if (!wide)
            return NULL;
        if (insn->operand[0].kind == INSN_OPERAND_REL)
            return call_rel;
        return insn->operand[0].kind == INSN_OPERAND_REG ? call_r : call_m;
    case INSN_RET:
        if (!wide)
            return NULL;
        op->imm = insn->operand[0].kind == INSN_OPERAND_IMM ? insn->imm : 0;
        return ret;
    default:
        return NULL;
    }
}
