/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Far JMP, CALL and RET: direct, through call gates, to other privilege levels, to tasks.
 *
 * Source: SDM 2 JMP, CALL, RET; 3A 5.8.
 */
#include "soft/interp/sys.h"

static enum soft_result gp(struct soft_cpu *cpu, uint16_t selector)
{
    return fault_raise_error(cpu, CPU_VECTOR_GP, selector & 0xfffc);
}

/* Where a far transfer goes. */
struct target {
    struct cpu_segment cs; /* selector with the new CPL as RPL */
    uint64_t offset;
    unsigned cpl;
};

static enum soft_result far_operand(struct soft_cpu *cpu, const struct insn *insn,
                                    uint16_t *ret_selector, uint64_t *ret_offset)
{
    enum soft_result result;
    uint64_t address;

    *ret_offset = 0;
    if (insn->operand[0].kind != INSN_OPERAND_MEM) {
        *ret_selector = (uint16_t)insn->imm2;
        *ret_offset = insn->imm & (insn->operand_size == 2 ? 0xffff : 0xffffffff);
        return SOFT_OK;
    }
    address = sys_effective_address(cpu, insn);
    result = mmu_load(cpu, insn->mem.segment, address, ret_offset, insn->operand_size);
    if (!result)
        result = mmu_load16(cpu, insn->mem.segment, address + insn->operand_size, ret_selector);
    return result;
}

enum soft_result code_target_check(struct soft_cpu *cpu, const struct descriptor *d,
                                   uint16_t selector, uint64_t offset)
{
    uint32_t attributes = descriptor_attributes(d);
    struct cpu_segment expanded;

    if (cpu_long_mode(cpu) && (attributes & CPU_SEGMENT_L)) {
        if (attributes & CPU_SEGMENT_DB)
            return gp(cpu, selector);
        return address_is_canonical(offset) ? SOFT_OK : gp(cpu, 0);
    }
    descriptor_expand(d, selector, &expanded);
    return offset <= expanded.limit ? SOFT_OK : gp(cpu, 0);
}

/* A code segment as the direct target of JMP or CALL. */
static enum soft_result direct_target(struct soft_cpu *cpu, struct descriptor *d, uint16_t selector,
                                      uint64_t offset, struct target *ret)
{
    enum soft_result result;

    if (descriptor_conforming(d)) {
        if (descriptor_dpl(d) > cpu->cpl)
            return gp(cpu, selector);
    } else if ((selector & 3u) > cpu->cpl || descriptor_dpl(d) != cpu->cpl) {
        return gp(cpu, selector);
    }
    if (!descriptor_present(d))
        return fault_raise_error(cpu, CPU_VECTOR_NP, selector & 0xfffc);
    result = code_target_check(cpu, d, selector, offset);
    if (!result)
        result = descriptor_set_accessed(cpu, d);
    if (result)
        return result;
    descriptor_expand(d, (uint16_t)((selector & ~3u) | cpu->cpl), &ret->cs);
    ret->offset = offset;
    ret->cpl = cpu->cpl;
    return SOFT_OK;
}

/* The code segment behind a call gate. */
static enum soft_result gate_target(struct soft_cpu *cpu, struct descriptor *gate,
                                    uint16_t gate_selector, bool call, struct target *ret)
{
    unsigned rpl = gate_selector & 3;
    bool wide = descriptor_type(gate) == SYSTEM_CALL_GATE;
    uint16_t selector = (uint16_t)(gate->low >> 16);
    struct descriptor d;
    enum soft_result result;

    if (descriptor_dpl(gate) < cpu->cpl || descriptor_dpl(gate) < rpl)
        return gp(cpu, gate_selector);
    if (!descriptor_present(gate))
        return fault_raise_error(cpu, CPU_VECTOR_NP, gate_selector & 0xfffc);
    if (cpu_long_mode(cpu)) {
        result = descriptor_read_upper(cpu, gate_selector, CPU_VECTOR_GP, gate);
        if (result)
            return result;
    }
    if (selector_is_null(selector))
        return gp(cpu, 0);
    result = descriptor_read(cpu, selector, CPU_VECTOR_GP, &d);
    if (result)
        return result;
    if (!descriptor_is_code(&d) || descriptor_dpl(&d) > cpu->cpl ||
        (!call && !descriptor_conforming(&d) && descriptor_dpl(&d) != cpu->cpl))
        return gp(cpu, selector);
    if (cpu_long_mode(cpu) &&
        (descriptor_attributes(&d) & (CPU_SEGMENT_L | CPU_SEGMENT_DB)) != CPU_SEGMENT_L)
        return gp(cpu, selector);
    if (!descriptor_present(&d))
        return fault_raise_error(cpu, CPU_VECTOR_NP, selector & 0xfffc);
    ret->offset = (gate->low & 0xffff) | (gate->high & 0xffff0000) | (uint64_t)gate->upper << 32;
    if (!wide)
        ret->offset &= 0xffff;
    ret->cpl = descriptor_conforming(&d) ? cpu->cpl : descriptor_dpl(&d);
    result = code_target_check(cpu, &d, selector, ret->offset);
    if (!result)
        result = descriptor_set_accessed(cpu, &d);
    if (result)
        return result;
    descriptor_expand(&d, (uint16_t)((selector & ~3u) | ret->cpl), &ret->cs);
    return SOFT_OK;
}

static bool is_call_gate(const struct soft_cpu *cpu, unsigned type)
{
    return type == SYSTEM_CALL_GATE || (type == SYSTEM_CALL_GATE16 && !cpu_long_mode(cpu));
}

static bool is_task(const struct soft_cpu *cpu, unsigned type)
{
    return !cpu_long_mode(cpu) &&
           (type == SYSTEM_TSS || type == SYSTEM_TSS16 || type == SYSTEM_TASK_GATE);
}

/* JMP or CALL to a TSS or task gate. */
static enum soft_result to_task(struct soft_cpu *cpu, const struct descriptor *d, uint16_t selector,
                                enum task_source source)
{
    if (descriptor_dpl(d) < cpu->cpl || descriptor_dpl(d) < (selector & 3u))
        return gp(cpu, selector);
    if (!descriptor_present(d))
        return fault_raise_error(cpu, CPU_VECTOR_NP, selector & 0xfffc);
    if (descriptor_type(d) == SYSTEM_TASK_GATE)
        return task_switch_gate(cpu, d, source, false, 0);
    return task_switch(cpu, selector, source, false, 0);
}

static void enter(struct soft_cpu *cpu, const struct target *target)
{
    cpu->segment[CPU_CS] = target->cs;
    cpu->next_rip = target->offset;
    soft_cpu_update_mode(cpu);
}

static enum soft_result jump_real(struct soft_cpu *cpu, uint16_t selector, uint64_t offset)
{
    if (offset > cpu->segment[CPU_CS].limit)
        return gp(cpu, 0);
    segment_set_real(cpu, CPU_CS, selector);
    cpu->next_rip = offset;
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

enum soft_result op_jmp_far(struct soft_cpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    struct target target;
    enum soft_result result;
    uint16_t selector;
    uint64_t offset;

    result = far_operand(cpu, insn, &selector, &offset);
    if (result)
        return result;
    if (!cpu_protected(cpu))
        return jump_real(cpu, selector, offset);
    if (selector_is_null(selector))
        return gp(cpu, 0);
    result = descriptor_read(cpu, selector, CPU_VECTOR_GP, &d);
    if (result)
        return result;
    if (descriptor_is_code(&d))
        result = direct_target(cpu, &d, selector, offset, &target);
    else if (descriptor_is_segment(&d))
        return gp(cpu, selector);
    else if (is_call_gate(cpu, descriptor_type(&d)))
        result = gate_target(cpu, &d, selector, false, &target);
    else if (is_task(cpu, descriptor_type(&d)))
        return to_task(cpu, &d, selector, TASK_JUMP);
    else
        return gp(cpu, selector);
    if (!result)
        enter(cpu, &target);
    return result;
}

/* CALL that stays at its level: return address on the current stack. */
static enum soft_result call_same(struct soft_cpu *cpu, const struct target *target, unsigned size)
{
    uint64_t frame[2] = {cpu->segment[CPU_CS].selector, cpu->next_rip};
    enum soft_result result;
    struct stack stack;

    stack_current(cpu, &stack);
    result = stack_push(cpu, &stack, frame, 2, size);
    if (result)
        return result;
    stack_pointer_write(cpu, stack.address_size, stack.sp);
    enter(cpu, target);
    return SOFT_OK;
}

/* CALL through a gate to a more privileged level: new stack, parameters copied. */
static enum soft_result call_inner(struct soft_cpu *cpu, const struct descriptor *gate,
                                   const struct target *target)
{
    bool long_mode = cpu_long_mode(cpu);
    unsigned size = long_mode ? 8 : descriptor_type(gate) == SYSTEM_CALL_GATE ? 4 : 2;
    unsigned nr_parameters = long_mode ? 0 : gate->high & 0x1f, nr = 0;
    struct stack stack = {.address_size = 8, .cpl = target->cpl};
    uint64_t frame[4 + 32];
    enum soft_result result;

    if (long_mode) {
        result = tss_stack_long(cpu, target->cpl, &stack.sp);
        segment_set_null(&stack.segment, (uint16_t)target->cpl, target->cpl);
    } else {
        result = tss_stack(cpu, target->cpl, &stack);
    }
    if (result)
        return result;
    frame[nr++] = cpu->segment[CPU_SS].selector;
    frame[nr++] = cpu->gpr[CPU_RSP];
    for (unsigned i = nr_parameters; i-- > 0;) {
        result = stack_peek(cpu, i, size, &frame[nr++]);
        if (result)
            return result;
    }
    frame[nr++] = cpu->segment[CPU_CS].selector;
    frame[nr++] = cpu->next_rip;
    result = stack_push(cpu, &stack, frame, nr, size);
    if (result)
        return result;
    cpu->segment[CPU_SS] = stack.segment;
    stack_pointer_write(cpu, stack.address_size, stack.sp);
    enter(cpu, target);
    return SOFT_OK;
}

static enum soft_result call_real(struct soft_cpu *cpu, uint16_t selector, uint64_t offset,
                                  unsigned size)
{
    uint64_t frame[2] = {cpu->segment[CPU_CS].selector, cpu->next_rip};
    enum soft_result result;
    struct stack stack;

    if (offset > cpu->segment[CPU_CS].limit)
        return gp(cpu, 0);
    stack_current(cpu, &stack);
    result = stack_push(cpu, &stack, frame, 2, size);
    if (result)
        return result;
    stack_pointer_write(cpu, stack.address_size, stack.sp);
    return jump_real(cpu, selector, offset);
}

enum soft_result op_call_far(struct soft_cpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    struct target target;
    enum soft_result result;
    unsigned size = insn->operand_size;
    uint16_t selector;
    uint64_t offset;

    result = far_operand(cpu, insn, &selector, &offset);
    if (result)
        return result;
    if (!cpu_protected(cpu))
        return call_real(cpu, selector, offset, size);
    if (selector_is_null(selector))
        return gp(cpu, 0);
    result = descriptor_read(cpu, selector, CPU_VECTOR_GP, &d);
    if (result)
        return result;
    if (descriptor_is_code(&d)) {
        result = direct_target(cpu, &d, selector, offset, &target);
        return result ? result : call_same(cpu, &target, size);
    }
    if (!descriptor_is_segment(&d) && is_task(cpu, descriptor_type(&d)))
        return to_task(cpu, &d, selector, TASK_CALL);
    if (descriptor_is_segment(&d) || !is_call_gate(cpu, descriptor_type(&d)))
        return gp(cpu, selector);
    result = gate_target(cpu, &d, selector, true, &target);
    if (result)
        return result;
    if (target.cpl != cpu->cpl)
        return call_inner(cpu, &d, &target);
    size = cpu_long_mode(cpu) ? 8 : descriptor_type(&d) == SYSTEM_CALL_GATE ? 4 : 2;
    return call_same(cpu, &target, size);
}

enum soft_result code_return_check(struct soft_cpu *cpu, uint16_t selector, uint64_t offset,
                                   struct cpu_segment *ret)
{
    unsigned rpl = selector & 3;
    struct descriptor d;
    enum soft_result result;

    if (selector_is_null(selector))
        return gp(cpu, 0);
    result = descriptor_read(cpu, selector, CPU_VECTOR_GP, &d);
    if (result)
        return result;
    if (!descriptor_is_code(&d) || rpl < cpu->cpl ||
        (descriptor_conforming(&d) ? descriptor_dpl(&d) > rpl : descriptor_dpl(&d) != rpl))
        return gp(cpu, selector);
    if (!descriptor_present(&d))
        return fault_raise_error(cpu, CPU_VECTOR_NP, selector & 0xfffc);
    result = code_target_check(cpu, &d, selector, offset);
    if (!result)
        result = descriptor_set_accessed(cpu, &d);
    if (!result)
        descriptor_expand(&d, selector, ret);
    return result;
}

static enum soft_result return_target(struct soft_cpu *cpu, uint16_t selector, uint64_t offset,
                                      struct target *ret)
{
    enum soft_result result = code_return_check(cpu, selector, offset, &ret->cs);

    if (result)
        return result;
    ret->offset = offset;
    ret->cpl = selector & 3;
    return SOFT_OK;
}

/* RET to a less privileged level: SS:SP lie above the return address and the parameters. */
static enum soft_result return_outer(struct soft_cpu *cpu, const struct target *target,
                                     unsigned size, unsigned drop)
{
    uint64_t mask = cpu->stack_size >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * cpu->stack_size) - 1;
    uint64_t at = cpu->gpr[CPU_RSP] + 2 * size + drop;
    bool to_long64 = cpu_long_mode(cpu) && (target->cs.attributes & CPU_SEGMENT_L);
    uint64_t sp = 0, ss = 0;
    struct cpu_segment loaded;
    enum soft_result result;
    unsigned address_size;

    result = mmu_load(cpu, CPU_SS, at & mask, &sp, size);
    if (!result)
        result = mmu_load(cpu, CPU_SS, (at + size) & mask, &ss, size);
    if (!result)
        result = stack_segment_check(cpu, (uint16_t)ss, target->cpl, CPU_VECTOR_GP,
                                     to_long64 && target->cpl != 3, &loaded);
    if (result)
        return result;
    cpu->segment[CPU_SS] = loaded;
    address_size = to_long64 ? 8 : loaded.attributes & CPU_SEGMENT_DB ? 4 : 2;
    stack_pointer_write(cpu, address_size, sp + drop);
    segments_drop_privileged(cpu, target->cpl);
    enter(cpu, target);
    return SOFT_OK;
}

enum soft_result op_ret_far(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    unsigned drop = insn->nr_operands && insn->operand[0].kind == INSN_OPERAND_IMM
                        ? (unsigned)insn->imm & 0xffff
                        : 0;
    unsigned address_size = cpu->stack_size;
    uint64_t sp = cpu->gpr[CPU_RSP] + 2 * size + drop;
    uint64_t offset, selector;
    struct target target;
    enum soft_result result;

    result = stack_peek(cpu, 0, size, &offset);
    if (!result)
        result = stack_peek(cpu, 1, size, &selector);
    if (result)
        return result;
    if (!cpu_protected(cpu)) {
        result = jump_real(cpu, (uint16_t)selector, offset);
        if (!result)
            stack_pointer_write(cpu, address_size, sp);
        return result;
    }
    result = return_target(cpu, (uint16_t)selector, offset, &target);
    if (result)
        return result;
    if (target.cpl != cpu->cpl)
        return return_outer(cpu, &target, size, drop);
    stack_pointer_write(cpu, address_size, sp);
    enter(cpu, &target);
    return SOFT_OK;
}
