/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life cycle and state of the vector and x87 unit, the checks that come before its instructions,
 * and memory operands larger than one access.
 *
 * Order of the checks: SDM 2, chapter 2.7 (exception classes) and the exception tables of the
 * instructions; SDM 3A 2.5 for CR0.EM, MP, TS, NE.
 */
#include "soft/fpu/fpu.h"
#include "soft/fpu/fpu_internal.h"

#include <string.h>

int fpu_init(struct soft_cpu *cpu, struct err *err)
{
    int r = thunks_new(&cpu->fpu.thunks, err);

    if (r < 0)
        return r;
    fpu_reset(cpu);
    return 0;
}

void fpu_done(struct soft_cpu *cpu)
{
    thunks_free(cpu->fpu.thunks);
    cpu->fpu.thunks = NULL;
}

void fpu_reset(struct soft_cpu *cpu)
{
    struct fpu_area *area = &cpu->fpu.area;

    memset(area, 0, sizeof(*area));
    /* SDM 3A table 9-1: as after FNINIT, but for the control word and the tags. */
    area->fcw = 0x0040;
    area->ftw = 0xff;
    area->mxcsr = FPU_MXCSR_DEFAULT;
    area->mxcsr_mask = FPU_MXCSR_MASK;
    area->xstate_bv = CPU_XCR0_SUPPORTED;
    cpu->fpu.fcs = 0;
    cpu->fpu.fds = 0;
}

void fpu_import(struct soft_cpu *cpu, const uint8_t xsave[CPU_XSAVE_SIZE])
{
    struct fpu_area *area = &cpu->fpu.area;
    struct fpu_area from;

    memcpy(&from, xsave, sizeof(from));
    memset(area, 0, sizeof(*area));
    area->fcw = FPU_FCW_DEFAULT;
    if (from.xstate_bv & CPU_XCR0_X87) {
        memcpy(area, &from, offsetof(struct fpu_area, mxcsr));
        area->reserved_5 = 0;
        area->fcw = (from.fcw & 0x1f3f) | 0x40;
        area->fop &= 0x7ff;
        for (unsigned i = 0; i < 8; i++) {
            area->st[i].mantissa = from.st[i].mantissa;
            area->st[i].exponent = from.st[i].exponent;
        }
        fpu_update_es(area);
    }
    area->mxcsr = FPU_MXCSR_DEFAULT;
    if (from.xstate_bv & (CPU_XCR0_SSE | CPU_XCR0_AVX))
        area->mxcsr = from.mxcsr & FPU_MXCSR_MASK;
    if (from.xstate_bv & CPU_XCR0_SSE)
        memcpy(area->xmm, from.xmm, sizeof(area->xmm));
    if (from.xstate_bv & CPU_XCR0_AVX)
        memcpy(area->ymm_high, from.ymm_high, sizeof(area->ymm_high));
    area->mxcsr_mask = FPU_MXCSR_MASK;
    area->xstate_bv = CPU_XCR0_SUPPORTED;
    cpu->fpu.fcs = 0;
    cpu->fpu.fds = 0;
}

void fpu_export(const struct soft_cpu *cpu, uint8_t ret_xsave[CPU_XSAVE_SIZE])
{
    memcpy(ret_xsave, cpu->fpu.xsave, CPU_XSAVE_SIZE);
}

enum soft_result fpu_check_vector_slow(struct soft_cpu *cpu, const struct insn *insn)
{
    if (!cpu->vm->features[insn->feature])
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (insn->prefixes & INSN_PREFIX_VEX) {
        if (!(cpu->cr4 & CPU_CR4_OSXSAVE) || cpu->mode == SOFT_MODE_REAL ||
            cpu->mode == SOFT_MODE_V86 || (~cpu->xcr0 & (CPU_XCR0_SSE | CPU_XCR0_AVX)))
            return fault_raise(cpu, CPU_VECTOR_UD);
    } else if ((cpu->cr0 & CPU_CR0_EM) || !(cpu->cr4 & CPU_CR4_OSFXSR)) {
        return fault_raise(cpu, CPU_VECTOR_UD);
    }
    if (cpu->cr0 & CPU_CR0_TS)
        return fault_raise(cpu, CPU_VECTOR_NM);
    return SOFT_OK;
}

/* With CR0.NE clear a PC reports through FERR# and IRQ 13, which this machine does not have: the
 * exception stays pending and the instruction goes on, as with IGNNE# asserted. */
static bool exception_reported(const struct soft_cpu *cpu)
{
    return (cpu->fpu.area.fsw & FPU_FSW_ES) && (cpu->cr0 & CPU_CR0_NE);
}

enum soft_result fpu_check_mmx(struct soft_cpu *cpu, const struct insn *insn)
{
    if (!cpu->vm->features[insn->feature] || (cpu->cr0 & CPU_CR0_EM))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (cpu->cr0 & CPU_CR0_TS)
        return fault_raise(cpu, CPU_VECTOR_NM);
    if (exception_reported(cpu))
        return fault_raise(cpu, CPU_VECTOR_MF);
    return SOFT_OK;
}

enum soft_result fpu_check_x87(struct soft_cpu *cpu, const struct insn *insn, bool waiting)
{
    if (!cpu->vm->features[insn->feature])
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (cpu->cr0 & (CPU_CR0_EM | CPU_CR0_TS))
        return fault_raise(cpu, CPU_VECTOR_NM);
    if (waiting && exception_reported(cpu))
        return fault_raise(cpu, CPU_VECTOR_MF);
    return SOFT_OK;
}

#define CHUNK 64u

enum soft_result fpu_load(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset,
                          void *data, unsigned size)
{
    for (unsigned done = 0; done < size; done += CHUNK)
        if (mmu_load(cpu, insn->mem.segment, fpu_address_add(insn, offset, done),
                     (uint8_t *)data + done, MIN(size - done, CHUNK)) != SOFT_OK)
            return SOFT_FAULT;
    return SOFT_OK;
}

enum soft_result fpu_probe_store(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset,
                                 unsigned size)
{
    if (insn->address_size == 8) /* no wrap inside the area */
        return mmu_probe_store(cpu, insn->mem.segment, offset, size);
    for (unsigned done = 0; done < size; done += CHUNK)
        if (mmu_probe_store(cpu, insn->mem.segment, fpu_address_add(insn, offset, done),
                            MIN(size - done, CHUNK)) != SOFT_OK)
            return SOFT_FAULT;
    return SOFT_OK;
}

enum soft_result fpu_store(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset,
                           const void *data, unsigned size)
{
    if (size > CHUNK && fpu_probe_store(cpu, insn, offset, size) != SOFT_OK)
        return SOFT_FAULT;
    for (unsigned done = 0; done < size; done += CHUNK)
        if (mmu_store(cpu, insn->mem.segment, fpu_address_add(insn, offset, done),
                      (const uint8_t *)data + done, MIN(size - done, CHUNK)) != SOFT_OK)
            return SOFT_FAULT;
    return SOFT_OK;
}

enum soft_result fpu_exit_unsupported(struct soft_cpu *cpu, const struct insn *insn,
                                      const char *reason)
{
    cpu->exit.kind = CPU_EXIT_UNSUPPORTED;
    cpu->exit.unsupported.linear_address = cpu->rip + cpu->segment[CPU_CS].base;
    cpu->exit.unsupported.nr_bytes = 0;
    cpu->exit.unsupported.reason = reason;
    for (unsigned i = 0; i < insn->length && i < CPU_INSN_MAX; i++) {
        uint8_t byte;

        if (mmu_load_system(cpu, cpu->exit.unsupported.linear_address + i, &byte, 1) != SOFT_OK)
            break;
        cpu->exit.unsupported.bytes[cpu->exit.unsupported.nr_bytes++] = byte;
    }
    return SOFT_EXIT;
}

void fpu_mmx_enter(struct fpu_area *area)
{
    unsigned top = fpu_top(area);

    if (top) {
        struct fpu_st physical[8];

        for (unsigned i = 0; i < 8; i++)
            physical[(top + i) & 7] = area->st[i];
        memcpy(area->st, physical, sizeof(physical));
        area->fsw &= (uint16_t)~FPU_FSW_TOP;
    }
    area->ftw = 0xff;
}
