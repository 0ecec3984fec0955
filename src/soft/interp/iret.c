/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IRET in every mode, and the write of EFLAGS by privilege.
 *
 *   op_iret ──▶ real | v86 (IOPL 3) | NT: task_switch
 *           └─▶ protected: to v86 (VM in the image, CPL 0) | same level | outer level
 *   64-bit mode always pops SS:RSP.
 *
 * Source: SDM 2 IRET; 3A 6.12.1, 6.14.3, 20.2.2.
 */
#include "soft/interp/sys.h"

#define FLAGS_ALWAYS                                                                          \
    (CPU_FLAGS_STATUS | CPU_FLAG_TF | CPU_FLAG_DF | CPU_FLAG_NT | CPU_FLAG_RF | CPU_FLAG_AC | \
     CPU_FLAG_ID)

struct iret_frame {
    uint64_t rip, cs, flags, rsp, ss;
};

static enum soft_result gp(struct soft_cpu *cpu, uint16_t selector)
{
    return fault_raise_error(cpu, CPU_VECTOR_GP, selector & 0xfffc);
}

void flags_write(struct soft_cpu *cpu, uint64_t value, unsigned size)
{
    uint64_t mask = FLAGS_ALWAYS;

    if (cpu->cpl == 0)
        mask |= CPU_FLAG_IOPL | CPU_FLAG_VIF | CPU_FLAG_VIP;
    if (cpu->cpl <= (cpu->rflags & CPU_FLAG_IOPL) >> 12)
        mask |= CPU_FLAG_IF;
    if (size == 2)
        mask &= 0xffff;
    cpu->rflags = (cpu->rflags & ~mask) | (value & mask) | CPU_FLAG_ONE;
    cpu->end_block = true;
    debug_update(cpu);
}

static enum soft_result iret_real(struct soft_cpu *cpu, unsigned size)
{
    unsigned address_size = cpu->stack_size;
    uint64_t rip, cs, flags, iopl = cpu->rflags & CPU_FLAG_IOPL;
    enum soft_result result;

    result = stack_peek(cpu, 0, size, &rip);
    if (!result)
        result = stack_peek(cpu, 1, size, &cs);
    if (!result)
        result = stack_peek(cpu, 2, size, &flags);
    if (result)
        return result;
    if (rip > cpu->segment[CPU_CS].limit)
        return gp(cpu, 0);
    stack_pointer_write(cpu, address_size, cpu->gpr[CPU_RSP] + 3 * size);
    segment_set_real(cpu, CPU_CS, (uint16_t)cs);
    cpu->next_rip = rip;
    flags_write(cpu, flags, size);
    if (cpu->mode == SOFT_MODE_V86)
        cpu->rflags = (cpu->rflags & ~CPU_FLAG_IOPL) | iopl;
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

static enum soft_result iret_to_v86(struct soft_cpu *cpu, const struct iret_frame *frame)
{
    static const uint8_t order[] = {CPU_ES, CPU_DS, CPU_FS, CPU_GS};
    uint64_t value[6];
    enum soft_result result;

    for (unsigned i = 0; i < ARRAY_LEN(value); i++) {
        result = stack_peek(cpu, 3 + i, 4, &value[i]);
        if (result)
            return result;
    }
    if ((frame->rip & 0xffff) != frame->rip)
        return gp(cpu, 0);
    cpu->rflags = (frame->flags & UINT64_C(0x3f7fd7)) | CPU_FLAG_ONE;
    segment_set_real(cpu, CPU_CS, (uint16_t)frame->cs);
    segment_set_real(cpu, CPU_SS, (uint16_t)value[1]);
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        segment_set_real(cpu, order[i], (uint16_t)value[2 + i]);
    cpu->gpr[CPU_RSP] = value[0];
    cpu->next_rip = frame->rip;
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

static enum soft_result iret_read(struct soft_cpu *cpu, unsigned size, struct iret_frame *frame)
{
    enum soft_result result = stack_peek(cpu, 0, size, &frame->rip);

    if (!result)
        result = stack_peek(cpu, 1, size, &frame->cs);
    if (!result)
        result = stack_peek(cpu, 2, size, &frame->flags);
    return result;
}

static enum soft_result iret_protected(struct soft_cpu *cpu, unsigned size)
{
    bool long64 = cpu->mode == SOFT_MODE_LONG64, outer, to_long64;
    unsigned address_size = cpu->stack_size;
    struct cpu_segment cs, ss;
    struct iret_frame frame;
    enum soft_result result = iret_read(cpu, size, &frame);
    unsigned cpl;

    if (result)
        return result;
    if (size == 4 && (frame.flags & CPU_FLAG_VM) && cpu->cpl == 0 && !cpu_long_mode(cpu))
        return iret_to_v86(cpu, &frame);
    result = code_return_check(cpu, (uint16_t)frame.cs, frame.rip, &cs);
    if (result)
        return result;
    cpl = frame.cs & 3;
    outer = cpl != cpu->cpl;
    to_long64 = cpu_long_mode(cpu) && (cs.attributes & CPU_SEGMENT_L);
    if (outer || long64) {
        result = stack_peek(cpu, 3, size, &frame.rsp);
        if (!result)
            result = stack_peek(cpu, 4, size, &frame.ss);
        if (!result)
            result = stack_segment_check(cpu, (uint16_t)frame.ss, cpl, CPU_VECTOR_GP,
                                         to_long64 && cpl != 3, &ss);
        if (result)
            return result;
    }
    flags_write(cpu, frame.flags, size);
    cpu->segment[CPU_CS] = cs;
    cpu->next_rip = frame.rip;
    if (outer || long64) {
        cpu->segment[CPU_SS] = ss;
        address_size = to_long64 ? 8 : ss.attributes & CPU_SEGMENT_DB ? 4 : 2;
        stack_pointer_write(cpu, address_size, frame.rsp);
        if (outer)
            segments_drop_privileged(cpu, cpl);
    } else {
        stack_pointer_write(cpu, address_size, cpu->gpr[CPU_RSP] + 3 * size);
    }
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

/* NT: back to the task that the link field of the current TSS names. */
static enum soft_result iret_task(struct soft_cpu *cpu)
{
    enum soft_result result;
    uint16_t link;

    if (cpu_long_mode(cpu))
        return gp(cpu, 0);
    result = mmu_load_system(cpu, cpu->tr.base, &link, 2);
    return result ? result : task_switch(cpu, link, TASK_IRET, false, 0);
}

enum soft_result op_iret(struct soft_cpu *cpu, const struct insn *insn)
{
    enum soft_result result;

    if (cpu->mode == SOFT_MODE_V86 && (cpu->rflags & CPU_FLAG_IOPL) != CPU_FLAG_IOPL)
        return gp(cpu, 0);
    if (!cpu_protected(cpu))
        result = iret_real(cpu, insn->operand_size);
    else if (cpu->rflags & CPU_FLAG_NT)
        result = iret_task(cpu);
    else
        result = iret_protected(cpu, insn->operand_size);
    if (!result)
        cpu->nmi_blocked = false;
    return result;
}
