/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware task switches by JMP, CALL, IRET, task gate; 32-bit and 16-bit TSS.
 *
 *   check the new TSS ──▶ save the old one ──▶ busy bits, link ──▶ load the new one (commit)
 *                     ──▶ segment registers ──▶ error code, T flag
 *
 * Up to the commit a fault belongs to the old task and changes nothing there that it can see.
 * Behind it the vCPU is in the new task: cpu->rip is its EIP, and faults are its own (#TS).
 *
 * Source: SDM 3A 7.2, 7.3, table 7-1.
 */
#include "soft/interp/sys.h"

#define TSS32_SIZE 104u
#define TSS16_SIZE 44u

/* What a task switch moves, as offsets into the TSS. */
struct tss_layout {
    uint8_t ip, flags, gpr, segments, ldt, width, nr_segments;
    uint8_t size;
};

static const struct tss_layout layout16 = {14, 16, 18, 34, 42, 2, 4, TSS16_SIZE};
static const struct tss_layout layout32 = {32, 36, 40, 72, 96, 4, 6, TSS32_SIZE};

#define TSS_LINK 0
#define TSS_CR3  28
#define TSS_TRAP 100

struct task {
    const struct tss_layout *layout;
    struct descriptor descriptor;
    struct cpu_segment tr;
    uint8_t image[TSS32_SIZE];
};

static const struct tss_layout *layout_of(uint32_t attributes)
{
    return attributes & 8 ? &layout32 : &layout16;
}

static uint32_t image_read(const struct task *task, unsigned offset)
{
    return task->layout->width == 4 ? load_le32(task->image + offset)
                                    : load_le16(task->image + offset);
}

static void image_write(struct task *task, unsigned offset, uint64_t value)
{
    if (task->layout->width == 4)
        store_le32(task->image + offset, (uint32_t)value);
    else
        store_le16(task->image + offset, (uint16_t)value);
}

/* Checks and reads the TSS that is switched to. */
static enum soft_result task_open(struct soft_cpu *cpu, uint16_t selector, enum task_source source,
                                  struct task *ret)
{
    enum cpu_vector vector = source == TASK_IRET ? CPU_VECTOR_TS : CPU_VECTOR_GP;
    uint32_t error = selector & 0xfffc;
    enum soft_result result;
    unsigned type;

    if (selector_is_null(selector) || (selector & 4))
        return fault_raise_error(cpu, source == TASK_INTERRUPT ? CPU_VECTOR_GP : vector, error);
    result = descriptor_read(cpu, selector, vector, &ret->descriptor);
    if (result)
        return result;
    type = descriptor_type(&ret->descriptor);
    if (descriptor_is_segment(&ret->descriptor) || (type & 5) != 1 ||
        ((type & 2) != 0) != (source == TASK_IRET))
        return fault_raise_error(cpu, vector, error);
    if (!descriptor_present(&ret->descriptor))
        return fault_raise_error(cpu, CPU_VECTOR_NP, error);
    descriptor_expand(&ret->descriptor, selector, &ret->tr);
    ret->layout = layout_of(ret->tr.attributes);
    if (ret->tr.limit < ret->layout->size - 1u)
        return fault_raise_error(cpu, CPU_VECTOR_TS, error);
    return mmu_load_system(cpu, ret->tr.base, ret->image, ret->layout->size);
}

/* The register part of the current TSS, as it will be written. */
static enum soft_result task_save(struct soft_cpu *cpu, enum task_source source)
{
    struct task old = {.layout = layout_of(cpu->tr.attributes)};
    const struct tss_layout *l = old.layout;
    uint64_t flags = cpu->rflags;
    enum soft_result result;

    if (cpu->tr.limit < l->size - 1u)
        return fault_raise_error(cpu, CPU_VECTOR_TS, cpu->tr.selector & 0xfffc);
    result = mmu_probe_store_system(cpu, cpu->tr.base, l->size);
    if (!result)
        result = mmu_load_system(cpu, cpu->tr.base, old.image, l->size);
    if (result)
        return result;
    if (source == TASK_IRET)
        flags &= ~CPU_FLAG_NT;
    image_write(&old, l->ip, cpu->next_rip);
    image_write(&old, l->flags, flags);
    for (unsigned i = 0; i < 8; i++)
        image_write(&old, l->gpr + i * l->width, cpu->gpr[i]);
    for (unsigned i = 0; i < l->nr_segments; i++)
        store_le16(old.image + l->segments + i * l->width, cpu->segment[i].selector);
    return mmu_store_system(cpu, cpu->tr.base + l->ip, old.image + l->ip,
                            (unsigned)(l->ldt - l->ip));
}

/* Busy flags and the back link. */
static enum soft_result task_link(struct soft_cpu *cpu, enum task_source source, struct task *new)
{
    bool nested = source == TASK_CALL || source == TASK_INTERRUPT;
    struct descriptor old;
    enum soft_result result = SOFT_OK;

    if (!nested) {
        result = descriptor_read(cpu, cpu->tr.selector, CPU_VECTOR_TS, &old);
        if (!result)
            result = descriptor_set_type(cpu, &old, descriptor_type(&old) & ~2u);
    } else {
        result = mmu_store_system(cpu, new->tr.base + TSS_LINK, &cpu->tr.selector, 2);
    }
    if (!result && source != TASK_IRET)
        result = descriptor_set_type(cpu, &new->descriptor, descriptor_type(&new->descriptor) | 2);
    return result;
}

/* The commit: registers of the new task, segment registers with selectors only. */
static void task_load(struct soft_cpu *cpu, enum task_source source, struct task *new)
{
    const struct tss_layout *l = new->layout;
    uint32_t flags = image_read(new, l->flags);

    new->tr.attributes |= 2;
    cpu->tr = new->tr;
    if (l->width == 4 && (cpu->cr0 & CPU_CR0_PG)) {
        cpu->cr3 = load_le32(new->image + TSS_CR3);
        mmu_cr3_loaded(cpu, false);
    }
    cpu->rip = cpu->next_rip = image_read(new, l->ip);
    if (l->width == 2)
        flags |= (uint32_t)cpu->rflags & 0xffff0000 & ~(uint32_t)CPU_FLAG_VM;
    cpu->rflags = (flags & UINT64_C(0x3f7fd7)) | CPU_FLAG_ONE;
    if (source == TASK_CALL || source == TASK_INTERRUPT)
        cpu->rflags |= CPU_FLAG_NT;
    for (unsigned i = 0; i < 8; i++)
        cpu->gpr[i] = image_read(new, l->gpr + i * l->width);
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++) {
        uint16_t selector = i < l->nr_segments ? load_le16(new->image + l->segments + i * l->width)
                                               : 0;

        if (cpu->rflags & CPU_FLAG_VM)
            segment_set_real(cpu, i, selector);
        else
            segment_set_null(&cpu->segment[i], selector, 0);
    }
    cpu->cr0 |= CPU_CR0_TS;
    cpu->dr[7] &= ~UINT64_C(0x155); /* local breakpoints belong to the old task */
}

static enum soft_result task_code_segment(struct soft_cpu *cpu, uint16_t selector)
{
    unsigned rpl = selector & 3;
    struct descriptor d;
    enum soft_result result;

    if (selector_is_null(selector))
        return fault_raise_error(cpu, CPU_VECTOR_TS, 0);
    result = descriptor_read(cpu, selector, CPU_VECTOR_TS, &d);
    if (result)
        return result;
    if (!descriptor_is_code(&d) ||
        (descriptor_conforming(&d) ? descriptor_dpl(&d) > rpl : descriptor_dpl(&d) != rpl))
        return fault_raise_error(cpu, CPU_VECTOR_TS, selector & 0xfffc);
    if (!descriptor_present(&d))
        return fault_raise_error(cpu, CPU_VECTOR_NP, selector & 0xfffc);
    result = descriptor_set_accessed(cpu, &d);
    if (!result)
        descriptor_expand(&d, selector, &cpu->segment[CPU_CS]);
    return result;
}

/* Loads the hidden parts; the selectors are in place. */
static enum soft_result task_segments(struct soft_cpu *cpu, const struct task *new)
{
    static const uint8_t data[] = {CPU_DS, CPU_ES, CPU_FS, CPU_GS};
    uint16_t ldt = load_le16(new->image + new->layout->ldt);
    unsigned cpl = cpu->segment[CPU_CS].selector & 3;
    struct cpu_segment ss;
    enum soft_result result;

    segment_set_null(&cpu->ldtr, 0, 0);
    result = ldtr_load(cpu, ldt, CPU_VECTOR_TS);
    if (result || (cpu->rflags & CPU_FLAG_VM))
        return result;
    result = task_code_segment(cpu, cpu->segment[CPU_CS].selector);
    if (!result)
        result = stack_segment_check(cpu, cpu->segment[CPU_SS].selector, cpl, CPU_VECTOR_TS, false,
                                     &ss);
    if (result)
        return result;
    cpu->segment[CPU_SS] = ss;
    soft_cpu_update_mode(cpu);
    for (unsigned i = 0; i < ARRAY_LEN(data); i++) {
        result = segment_load(cpu, data[i], cpu->segment[data[i]].selector);
        if (result && cpu->fault.vector == CPU_VECTOR_GP)
            cpu->fault.vector = CPU_VECTOR_TS;
        if (result)
            return result;
    }
    return SOFT_OK;
}

static enum soft_result task_finish(struct soft_cpu *cpu, const struct task *new, bool has_error,
                                    uint32_t error)
{
    enum soft_result result;
    struct stack stack;
    uint64_t value = error;

    soft_cpu_update_mode(cpu);
    if (cpu->rip > cpu->segment[CPU_CS].limit)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    if (has_error) {
        stack_current(cpu, &stack);
        result = stack_push(cpu, &stack, &value, 1, new->layout->width);
        if (result)
            return result;
        stack_pointer_write(cpu, stack.address_size, stack.sp);
    }
    if (new->layout->width == 4 && (new->image[TSS_TRAP] & 1))
        cpu->debug_hits |= DEBUG_DR6_BT;
    return SOFT_OK;
}

enum soft_result task_switch(struct soft_cpu *cpu, uint16_t selector, enum task_source source,
                             bool has_error, uint32_t error)
{
    struct task new;
    enum soft_result result = task_open(cpu, selector, source, &new);

    if (!result)
        result = task_save(cpu, source);
    if (!result)
        result = task_link(cpu, source, &new);
    if (result)
        return result;
    task_load(cpu, source, &new);
    result = task_segments(cpu, &new);
    if (!result)
        return task_finish(cpu, &new, has_error, error);
    soft_cpu_update_mode(cpu);
    return result;
}

enum soft_result task_switch_gate(struct soft_cpu *cpu, const struct descriptor *gate,
                                  enum task_source source, bool has_error, uint32_t error)
{
    return task_switch(cpu, (uint16_t)(gate->low >> 16), source, has_error, error);
}
