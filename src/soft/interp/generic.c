/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hot operations share: leaving a block, slow memory paths, and the operations that stand for
 * a whole handler (op_generic) or for no instruction at all (op_end, op_stale).
 */
#include "soft/interp/access.h"
#include "soft/interp/cache.h"

int interp_leave_fault(struct soft_cpu *cpu, const struct interp_op *op, int result)
{
    cpu->rip += op->offset;
    cpu->interp.executed = op->position;
    return result;
}

int interp_leave(struct soft_cpu *cpu, const struct interp_op *op)
{
    cpu->rip += (uint64_t)op->offset + op->length;
    cpu->interp.executed = op->position + 1u;
    return INTERP_LEFT;
}

struct interp_loaded interp_load_slow(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                      unsigned size)
{
    struct interp_loaded loaded = {0};

    loaded.result = mmu_load(cpu, segment, offset, &loaded.value, size);
    return loaded;
}

int interp_store_slow(struct soft_cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
                      uint64_t value)
{
    return (int)mmu_store(cpu, segment, offset, &value, size);
}

struct interp_loaded interp_rmw_load_slow(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                          unsigned size)
{
    struct interp_loaded loaded = {0};

    loaded.result = mmu_probe_store(cpu, segment, offset, size);
    if (!loaded.result)
        loaded.result = mmu_load(cpu, segment, offset, &loaded.value, size);
    return loaded;
}

void interp_code_stored(struct soft_cpu *cpu, const void *host, unsigned size)
{
    mmu_written_host(cpu, host, size);
}

/* The block's last instruction was not a branch: go on behind it. */
int op_end(struct soft_cpu *cpu, const struct interp_op *op)
{
    cpu->rip += op->offset;
    return 0;
}

/* 16- and 32-bit code */
int op_end_legacy(struct soft_cpu *cpu, const struct interp_op *op)
{
    cpu->rip = (uint32_t)(cpu->rip + op->offset);
    return 0;
}

int op_stale(struct soft_cpu *cpu, const struct interp_op *op)
{
    cpu->rip += op->offset;
    cpu->interp.executed = op->position;
    cache_jump_forget(cpu);
    return INTERP_LEFT;
}

static int generic_call(struct soft_cpu *cpu, const struct interp_op *op, uint64_t start)
{
    const struct interp_generic *generic = op->generic;
    int result;

    cpu->rip = start + op->offset;
    cpu->next_rip = cpu->rip + op->length;
    if (UNLIKELY(cpu->code_mode != INSN_MODE_64))
        cpu->next_rip = (uint32_t)cpu->next_rip;
    interp_flags_store(cpu);
    result = UNLIKELY(generic->guarded) ? (int)interp_guarded(cpu, &generic->insn) : SOFT_OK;
    if (!result)
        result = (int)generic->run(cpu, &generic->insn);
    interp_flags_load(cpu);
    if (UNLIKELY(result))
        cpu->interp.executed = op->position;
    return result;
}

int op_generic(struct soft_cpu *cpu, const struct interp_op *op)
{
    uint64_t start = cpu->rip;
    int result = generic_call(cpu, op, start);

    if (UNLIKELY(result))
        return result;
    if (UNLIKELY(cpu->end_block)) {
        cpu->rip = cpu->next_rip;
        cpu->interp.executed = op->position + 1u;
        return INTERP_LEFT;
    }
    cpu->rip = start;
    INTERP_NEXT();
}

/* The last of its block: a branch, or an instruction that may change the mode. */
int op_generic_end(struct soft_cpu *cpu, const struct interp_op *op)
{
    int result = generic_call(cpu, op, cpu->rip);

    if (UNLIKELY(result))
        return result;
    cpu->rip = cpu->next_rip;
    return 0;
}

/* #UD */
int op_undefined(struct soft_cpu *cpu, const struct interp_op *op)
{
    return interp_leave_fault(cpu, op, (int)fault_raise(cpu, CPU_VECTOR_UD));
}

/* An instruction longer than 15 bytes. */
int op_too_long(struct soft_cpu *cpu, const struct interp_op *op)
{
    return interp_leave_fault(cpu, op, (int)fault_raise_error(cpu, CPU_VECTOR_GP, 0));
}

/* Decodes, but has no handler: the monitor is told. */
int op_unsupported(struct soft_cpu *cpu, const struct interp_op *op)
{
    interp_leave_fault(cpu, op, 0);
    interp_unsupported(cpu, "instruction without a handler");
    return SOFT_EXIT;
}

void interp_unsupported(struct soft_cpu *cpu, const char *reason)
{
    unsigned length = 0;
    gpa_t gpa;

    cpu->exit = (struct cpu_exit){.kind = CPU_EXIT_UNSUPPORTED};
    cpu->exit.unsupported.reason = reason;
    cpu->exit.unsupported.linear_address = cpu->rip + cpu->segment[CPU_CS].base;
    if (mmu_fetch(cpu, cpu->rip, cpu->exit.unsupported.bytes, CPU_INSN_MAX, &length, &gpa))
        length = 0;
    cpu->exit.unsupported.nr_bytes = (uint8_t)length;
}

/* Mode and privilege checks of the instruction's table row. */
enum soft_result interp_guarded(struct soft_cpu *cpu, const struct insn *insn)
{
    if ((insn->traits & INSN_TRAIT_NOT_REAL_MODE) && cpu->mode < SOFT_MODE_PROTECTED)
        return fault_raise(cpu, CPU_VECTOR_UD);
    if ((insn->traits & INSN_TRAIT_PRIVILEGED) && cpu->cpl != 0)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    return SOFT_OK;
}
