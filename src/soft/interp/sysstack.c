/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks of far transfers and event delivery: pushes to a stack that may not be the current one
 * yet, and the stacks that the TSS names.
 *
 * Source: SDM 3A 5.8.5, 6.12.1, 7.2.1, 7.7; AMD APM 2 4.8.3 (limits do not apply in 64-bit mode).
 */
#include "soft/interp/sys.h"

static uint64_t address_mask(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}

void stack_current(const struct soft_cpu *cpu, struct stack *ret)
{
    *ret = (struct stack){
        .segment = cpu->segment[CPU_SS],
        .sp = cpu->gpr[CPU_RSP] & address_mask(cpu->stack_size),
        .cpl = cpu->cpl,
        .address_size = cpu->stack_size,
    };
}

void stack_pointer_write(struct soft_cpu *cpu, unsigned address_size, uint64_t value)
{
    uint64_t mask = address_mask(address_size);

    if (address_size == 4)
        cpu->gpr[CPU_RSP] = value & mask;
    else
        cpu->gpr[CPU_RSP] = (cpu->gpr[CPU_RSP] & ~mask) | (value & mask);
}

/* Linear address of [offset, offset + size) of the stack, or #SS. */
static enum soft_result stack_linear(struct soft_cpu *cpu, const struct stack *stack,
                                     uint64_t offset, unsigned size, gva_t *ret)
{
    const struct cpu_segment *s = &stack->segment;
    uint64_t last = offset + size - 1;
    bool ok;

    if (stack->address_size == 8) {
        *ret = offset;
        ok = address_is_canonical(offset) && address_is_canonical(last);
    } else {
        *ret = (uint32_t)(s->base + offset);
        if (s->attributes & SEGMENT_TYPE_EXPAND_DOWN && !(s->attributes & SEGMENT_TYPE_CODE))
            ok = offset > s->limit &&
                 last <= (s->attributes & CPU_SEGMENT_DB ? 0xffffffff : 0xffff);
        else
            ok = last <= s->limit || s->limit == 0xffffffff;
        ok = ok && !(s->attributes & CPU_SEGMENT_UNUSABLE);
    }
    return ok ? SOFT_OK : fault_raise_error(cpu, CPU_VECTOR_SS, stack->error);
}

enum soft_result stack_push(struct soft_cpu *cpu, struct stack *stack, const uint64_t *values,
                            unsigned nr, unsigned size)
{
    uint64_t mask = address_mask(stack->address_size);
    enum soft_result result;
    gva_t address;

    /* Every slot is checked before any is written: a fault leaves the memory as it was. */
    for (unsigned i = 0; i < nr; i++) {
        result = stack_linear(cpu, stack, (stack->sp - (i + 1) * size) & mask, size, &address);
        if (!result)
            result = mmu_probe_store_linear(cpu, address, stack->cpl == 3, size);
        if (result)
            return result;
    }
    for (unsigned i = 0; i < nr; i++) {
        uint64_t sp = (stack->sp - size) & mask;

        result = stack_linear(cpu, stack, sp, size, &address);
        if (!result)
            result = mmu_store_linear(cpu, address, stack->cpl == 3, &values[i], size);
        if (result)
            return result;
        stack->sp = sp;
    }
    return SOFT_OK;
}

enum soft_result stack_peek(struct soft_cpu *cpu, unsigned i, unsigned size, uint64_t *ret)
{
    uint64_t offset = (cpu->gpr[CPU_RSP] + (uint64_t)i * size) & address_mask(cpu->stack_size);

    *ret = 0;
    return mmu_load(cpu, CPU_SS, offset, ret, size);
}

enum soft_result tss_stack(struct soft_cpu *cpu, unsigned cpl, struct stack *ret)
{
    bool wide = (cpu->tr.attributes & 0xd) == SYSTEM_TSS;
    unsigned width = wide ? 4 : 2;
    uint32_t offset = wide ? 4 + cpl * 8 : 2 + cpl * 4;
    uint32_t sp = 0;
    uint16_t ss = 0;
    enum soft_result result;

    if (offset + width + 2 - 1 > cpu->tr.limit)
        return fault_raise_error(cpu, CPU_VECTOR_TS, cpu->tr.selector & 0xfffc);
    result = mmu_load_system(cpu, (uint32_t)(cpu->tr.base + offset), &sp, width);
    if (!result)
        result = mmu_load_system(cpu, (uint32_t)(cpu->tr.base + offset + width), &ss, 2);
    if (!result)
        result = stack_segment_check(cpu, ss, cpl, CPU_VECTOR_TS, false, &ret->segment);
    if (result)
        return result;
    ret->sp = sp;
    ret->cpl = cpl;
    ret->address_size = ret->segment.attributes & CPU_SEGMENT_DB ? 4 : 2;
    ret->error = ss & 0xfffc;
    return SOFT_OK;
}

enum soft_result tss_stack_long(struct soft_cpu *cpu, unsigned index, uint64_t *ret)
{
    uint32_t offset = index < 3 ? 4 + index * 8 : 0x24 + (index - 3) * 8;
    enum soft_result result;

    if (offset + 7 > cpu->tr.limit)
        return fault_raise_error(cpu, CPU_VECTOR_TS, cpu->tr.selector & 0xfffc);
    result = mmu_load_system(cpu, cpu->tr.base + offset, ret, 8);
    if (!result && !address_is_canonical(*ret))
        return fault_raise_error(cpu, CPU_VECTOR_SS, 0);
    return result;
}
