/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors and segment registers: reading the tables, checks, loads, and the instructions that
 * move selectors.
 *
 * Source: SDM 3A 3.4, 3.5, 5.2-5.7; 2 MOV, POP, LDS, LLDT, LAR, LSL, VERR, ARPL.
 */
#include "soft/interp/integer.h"
#include "soft/interp/stack.h"
#include "soft/interp/sys.h"

static enum soft_result selector_fault(struct soft_cpu *cpu, enum cpu_vector vector,
                                       uint16_t selector)
{
    return fault_raise_error(cpu, vector, selector & 0xfffc);
}

/* false: outside its table. */
static bool descriptor_locate(const struct soft_cpu *cpu, uint16_t selector, unsigned size,
                              gva_t *ret)
{
    uint32_t offset = selector & 0xfff8u;

    if (selector & 4) {
        if ((cpu->ldtr.attributes & CPU_SEGMENT_UNUSABLE) || offset + size - 1 > cpu->ldtr.limit)
            return false;
        *ret = cpu->ldtr.base + offset;
        return true;
    }
    *ret = cpu->gdtr.base + offset;
    return offset + size - 1 <= cpu->gdtr.limit;
}

enum soft_result descriptor_read(struct soft_cpu *cpu, uint16_t selector, enum cpu_vector vector,
                                 struct descriptor *ret)
{
    uint64_t raw;
    enum soft_result result;

    if (!descriptor_locate(cpu, selector, 8, &ret->address))
        return selector_fault(cpu, vector, selector);
    result = mmu_load_system(cpu, ret->address, &raw, 8);
    ret->low = (uint32_t)raw;
    ret->high = (uint32_t)(raw >> 32);
    ret->upper = 0;
    return result;
}

enum soft_result descriptor_read_upper(struct soft_cpu *cpu, uint16_t selector,
                                       enum cpu_vector vector, struct descriptor *d)
{
    uint32_t raw[2];
    enum soft_result result;
    gva_t address;

    if (!descriptor_locate(cpu, selector, 16, &address))
        return selector_fault(cpu, vector, selector);
    result = mmu_load_system(cpu, address + 8, raw, 8);
    if (result)
        return result;
    if (raw[1] >> 8 & 0x1f) /* the type field of the second half must be 0 */
        return selector_fault(cpu, vector, selector);
    d->upper = raw[0];
    return SOFT_OK;
}

void descriptor_expand(const struct descriptor *d, uint16_t selector, struct cpu_segment *ret)
{
    uint32_t limit = (d->low & 0xffff) | (d->high & 0xf0000);

    ret->selector = selector;
    ret->attributes = descriptor_attributes(d);
    ret->limit = ret->attributes & CPU_SEGMENT_G ? limit << 12 | 0xfff : limit;
    ret->base = d->low >> 16 | (d->high & 0xff) << 16 | (d->high & 0xff000000);
    ret->base |= (uint64_t)d->upper << 32;
}

enum soft_result descriptor_set_accessed(struct soft_cpu *cpu, struct descriptor *d)
{
    uint8_t access = (uint8_t)(d->high >> 8);
    enum soft_result result;

    if (access & SEGMENT_TYPE_ACCESSED)
        return SOFT_OK;
    access |= SEGMENT_TYPE_ACCESSED;
    result = mmu_store_system(cpu, d->address + 5, &access, 1);
    if (!result)
        d->high |= SEGMENT_TYPE_ACCESSED << 8;
    return result;
}

enum soft_result descriptor_set_type(struct soft_cpu *cpu, struct descriptor *d, unsigned type)
{
    uint8_t access = (uint8_t)((d->high >> 8 & 0xf0) | type);
    enum soft_result result = mmu_store_system(cpu, d->address + 5, &access, 1);

    if (!result)
        d->high = (d->high & ~0xf00u) | type << 8;
    return result;
}

void segment_set_real(struct soft_cpu *cpu, unsigned segment, uint16_t selector)
{
    struct cpu_segment *s = &cpu->segment[segment];

    s->selector = selector;
    s->base = (uint32_t)selector << 4;
    if (cpu->rflags & CPU_FLAG_VM && cpu->cr0 & CPU_CR0_PE) {
        s->limit = 0xffff;
        s->attributes = 0xf3;
    } else if (s->attributes & CPU_SEGMENT_UNUSABLE) {
        s->limit = 0xffff;
        s->attributes = 0x93;
    }
}

void segment_set_null(struct cpu_segment *segment, uint16_t selector, unsigned dpl)
{
    *segment = (struct cpu_segment){
        .selector = selector,
        .attributes = CPU_SEGMENT_UNUSABLE | dpl << 5,
    };
}

enum soft_result stack_segment_check(struct soft_cpu *cpu, uint16_t selector, unsigned cpl,
                                     enum cpu_vector vector, bool null_allowed,
                                     struct cpu_segment *ret)
{
    struct descriptor d;
    enum soft_result result;

    if (selector_is_null(selector)) {
        if (!null_allowed || (selector & 3) != cpl)
            return fault_raise_error(cpu, vector, 0);
        segment_set_null(ret, selector, cpl);
        return SOFT_OK;
    }
    result = descriptor_read(cpu, selector, vector, &d);
    if (result)
        return result;
    if ((selector & 3u) != cpl || !descriptor_is_segment(&d) || descriptor_is_code(&d) ||
        !(descriptor_type(&d) & SEGMENT_TYPE_WRITABLE) || descriptor_dpl(&d) != cpl)
        return selector_fault(cpu, vector, selector);
    if (!descriptor_present(&d))
        return selector_fault(cpu, CPU_VECTOR_SS, selector);
    result = descriptor_set_accessed(cpu, &d);
    if (result)
        return result;
    descriptor_expand(&d, selector, ret);
    return SOFT_OK;
}

static enum soft_result data_segment_check(struct soft_cpu *cpu, uint16_t selector,
                                           struct cpu_segment *ret)
{
    struct descriptor d;
    enum soft_result result = descriptor_read(cpu, selector, CPU_VECTOR_GP, &d);
    unsigned rpl = selector & 3;

    if (result)
        return result;
    if (!descriptor_is_segment(&d) ||
        (descriptor_is_code(&d) && !(descriptor_type(&d) & SEGMENT_TYPE_READABLE)))
        return selector_fault(cpu, CPU_VECTOR_GP, selector);
    if (!descriptor_conforming(&d) && (rpl > descriptor_dpl(&d) || cpu->cpl > descriptor_dpl(&d)))
        return selector_fault(cpu, CPU_VECTOR_GP, selector);
    if (!descriptor_present(&d))
        return selector_fault(cpu, CPU_VECTOR_NP, selector);
    result = descriptor_set_accessed(cpu, &d);
    if (result)
        return result;
    descriptor_expand(&d, selector, ret);
    return SOFT_OK;
}

enum soft_result segment_load(struct soft_cpu *cpu, unsigned segment, uint16_t selector)
{
    struct cpu_segment loaded;
    enum soft_result result = SOFT_OK;

    if (!cpu_protected(cpu)) {
        segment_set_real(cpu, segment, selector);
        soft_cpu_update_mode(cpu);
        return SOFT_OK;
    }
    if (segment == CPU_SS)
        result = stack_segment_check(cpu, selector, cpu->cpl, CPU_VECTOR_GP,
                                     cpu->mode == SOFT_MODE_LONG64 && cpu->cpl != 3, &loaded);
    else if (selector_is_null(selector))
        segment_set_null(&loaded, selector, 0);
    else
        result = data_segment_check(cpu, selector, &loaded);
    if (result)
        return result;
    cpu->segment[segment] = loaded;
    if (cpu->mode != SOFT_MODE_LONG64 || segment == CPU_SS)
        soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

void segments_drop_privileged(struct soft_cpu *cpu, unsigned cpl)
{
    static const uint8_t segments[] = {CPU_ES, CPU_FS, CPU_GS, CPU_DS};

    for (unsigned i = 0; i < ARRAY_LEN(segments); i++) {
        struct cpu_segment *s = &cpu->segment[segments[i]];
        bool conforming = (s->attributes & (SEGMENT_TYPE_CODE | SEGMENT_TYPE_CONFORMING)) ==
                          (SEGMENT_TYPE_CODE | SEGMENT_TYPE_CONFORMING);

        /* An unusable one keeps its base: FS and GS of 64-bit user mode live by it. */
        if ((s->attributes & CPU_SEGMENT_UNUSABLE) || conforming ||
            CPU_SEGMENT_DPL(s->attributes) >= cpl)
            continue;
        segment_set_null(s, 0, 0);
    }
}

enum soft_result op_mov_seg(struct soft_cpu *cpu, const struct insn *insn)
{
    const struct insn_operand *to = &insn->operand[0];
    enum soft_result result;
    uint64_t value;

    if (to->reg_class != INSN_REG_SEGMENT) {
        value = sys_reg_read(cpu, &insn->operand[1]);
        return sys_operand_write(cpu, insn, 0, value);
    }
    if (to->reg == CPU_CS || to->reg >= CPU_NR_SEGMENTS)
        return fault_raise(cpu, CPU_VECTOR_UD);
    result = sys_operand_read(cpu, insn, 1, 2, &value);
    if (!result)
        result = segment_load(cpu, to->reg, (uint16_t)value);
    if (!result && to->reg == CPU_SS) {
        cpu->interrupt_shadow = true;
        cpu->end_block = true;
    }
    return result;
}

enum soft_result op_push_seg(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value = cpu->segment[insn->operand[0].reg].selector;
    uint64_t sp = integer_stack_pointer(cpu);
    enum soft_result result = integer_push_at(cpu, &sp, insn->operand_size, value);

    if (!result)
        integer_stack_pointer_write(cpu, sp);
    return result;
}

enum soft_result op_pop_seg(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned segment = insn->operand[0].reg;
    unsigned address_size = cpu->stack_size;
    enum soft_result result;
    uint64_t value;

    result = stack_peek(cpu, 0, insn->operand_size, &value);
    if (!result)
        result = segment_load(cpu, segment, (uint16_t)value);
    if (result)
        return result;
    stack_pointer_write(cpu, address_size, cpu->gpr[CPU_RSP] + insn->operand_size);
    if (segment == CPU_SS) {
        cpu->interrupt_shadow = true;
        cpu->end_block = true;
    }
    return SOFT_OK;
}

enum soft_result op_load_far_pointer(struct soft_cpu *cpu, const struct insn *insn)
{
    static const struct {
        uint16_t id;
        uint8_t segment;
    } targets[] = {{INSN_LDS, CPU_DS},
                   {INSN_LES, CPU_ES},
                   {INSN_LSS, CPU_SS},
                   {INSN_LFS, CPU_FS},
                   {INSN_LGS, CPU_GS}};
    uint64_t address = sys_effective_address(cpu, insn);
    uint64_t offset = 0;
    uint16_t selector;
    enum soft_result result;

    result = mmu_load(cpu, insn->mem.segment, address, &offset, insn->operand_size);
    if (!result)
        result = mmu_load16(cpu, insn->mem.segment, address + insn->operand_size, &selector);
    for (unsigned i = 0; !result && i < ARRAY_LEN(targets); i++)
        if (targets[i].id == insn->id)
            result = segment_load(cpu, targets[i].segment, selector);
    if (!result)
        sys_reg_write(cpu, &insn->operand[0], offset);
    return result;
}

enum soft_result ldtr_load(struct soft_cpu *cpu, uint16_t selector, enum cpu_vector vector)
{
    struct descriptor d;
    enum soft_result result;

    if (selector_is_null(selector)) {
        segment_set_null(&cpu->ldtr, selector, 0);
        return SOFT_OK;
    }
    if (selector & 4)
        return selector_fault(cpu, vector, selector);
    result = descriptor_read(cpu, selector, vector, &d);
    if (!result && (descriptor_is_segment(&d) || descriptor_type(&d) != SYSTEM_LDT))
        return selector_fault(cpu, vector, selector);
    if (!result && !descriptor_present(&d))
        return selector_fault(cpu, vector == CPU_VECTOR_TS ? CPU_VECTOR_TS : CPU_VECTOR_NP,
                              selector);
    if (!result && cpu_long_mode(cpu))
        result = descriptor_read_upper(cpu, selector, vector, &d);
    if (result)
        return result;
    descriptor_expand(&d, selector, &cpu->ldtr);
    return SOFT_OK;
}
