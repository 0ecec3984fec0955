/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What follows from CR0, CR4, EFER, RFLAGS and the segment registers: mode, privilege, sizes, and
 * the MMU's context (rule 4 of soft_cpu.h).
 *
 * The privilege level is SS.DPL, as in the processor: CS.RPL differs from it between the write of
 * CR0.PE and the first far jump, and CS.DPL in conforming code.
 *
 * Source: SDM 3A 2.2, 5.5; 3C 24.4.1.
 */
#include "soft/interp/sys.h"

static bool segment_is_flat_data(const struct cpu_segment *s)
{
    uint32_t type = s->attributes & (CPU_SEGMENT_TYPE | CPU_SEGMENT_UNUSABLE);

    return s->base == 0 && s->limit == 0xffffffff &&
           (type & ~SEGMENT_TYPE_ACCESSED) == SEGMENT_TYPE_WRITABLE;
}

static bool segments_flat(const struct soft_cpu *cpu)
{
    const struct cpu_segment *cs = &cpu->segment[CPU_CS];

    return cpu->mode == SOFT_MODE_LONG64 || (segment_is_flat_data(&cpu->segment[CPU_SS]) &&
                                             segment_is_flat_data(&cpu->segment[CPU_DS]) &&
                                             segment_is_flat_data(&cpu->segment[CPU_ES]) &&
                                             cs->base == 0 && cs->limit == 0xffffffff);
}

void soft_cpu_update_mode(struct soft_cpu *cpu)
{
    uint32_t cs = cpu->segment[CPU_CS].attributes;
    uint32_t ss = cpu->segment[CPU_SS].attributes;

    cpu->cpl = CPU_SEGMENT_DPL(ss);
    if (!(cpu->cr0 & CPU_CR0_PE)) {
        cpu->mode = SOFT_MODE_REAL;
        cpu->cpl = 0;
    } else if (cpu->rflags & CPU_FLAG_VM) {
        cpu->mode = SOFT_MODE_V86;
        cpu->cpl = 3;
    } else if (!(cpu->efer & CPU_EFER_LMA)) {
        cpu->mode = SOFT_MODE_PROTECTED;
    } else {
        cpu->mode = cs & CPU_SEGMENT_L ? SOFT_MODE_LONG64 : SOFT_MODE_COMPAT;
    }
    if (cpu->mode == SOFT_MODE_LONG64) {
        cpu->code_mode = INSN_MODE_64;
        cpu->stack_size = 8;
    } else {
        cpu->code_mode = cs & CPU_SEGMENT_DB ? INSN_MODE_32 : INSN_MODE_16;
        cpu->stack_size = ss & CPU_SEGMENT_DB ? 4 : 2;
    }
    cpu->flat_segments = segments_flat(cpu);
    cpu->end_block = true;
    debug_update(cpu);
    mmu_context_changed(cpu);
}
