/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Architectural state out of and into a software vCPU. A state that comes in may be from a file: it
 * is checked as far as our own code or the host's instructions rely on it (MXCSR, XSTATE_BV, CR0
 * and EFER that belong together); a guest that is given nonsense beyond that harms itself alone.
 *
 * Threads: the vCPU's own, while it does not run.
 */
#include "soft/fpu/fpu.h"
#include "soft/interp/sys.h"

#include <errno.h>

#define MSR_APIC_BASE          0x1bu
#define XSAVE_MXCSR            24
#define MXCSR_DEFINED          0xffffu
#define SEGMENT_ATTRIBUTE_MASK (0xf0ffu | CPU_SEGMENT_UNUSABLE)

int soft_get_state(struct cpu *base, struct cpu_state *ret, struct err *err)
{
    struct soft_cpu *cpu = CONTAINER_OF(base, struct soft_cpu, cpu);
    const struct cpu_irqchip *irqchip = cpu->vm->config->irqchip;

    (void)err;
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->gpr, cpu->gpr, sizeof(ret->gpr));
    memcpy(ret->segment, cpu->segment, sizeof(ret->segment));
    memcpy(ret->dr, cpu->dr, sizeof(ret->dr));
    fpu_export(cpu, ret->xsave);
#define COPY(field) ret->field = cpu->field
    COPY(rip), COPY(rflags), COPY(tr), COPY(ldtr), COPY(gdtr), COPY(idtr);
    COPY(cr0), COPY(cr2), COPY(cr3), COPY(cr4), COPY(xcr0);
    COPY(efer), COPY(star), COPY(lstar), COPY(cstar), COPY(sfmask), COPY(kernel_gs_base);
    COPY(sysenter_cs), COPY(sysenter_esp), COPY(sysenter_eip), COPY(pat);
    COPY(tsc_adjust), COPY(tsc_aux), COPY(misc_enable), COPY(spec_ctrl), COPY(mtrr);
    COPY(kvm_wall_clock_msr), COPY(kvm_system_time_msr);
    COPY(interrupt_shadow), COPY(nmi_pending), COPY(nmi_blocked);
#undef COPY
    ret->activity = cpu->activity;
    ret->tsc = soft_tsc(cpu);
    if (irqchip) {
        ret->cr8 = irqchip->cr8_read(irqchip->context, cpu->cpu.index);
        irqchip->msr_read(irqchip->context, cpu->cpu.index, MSR_APIC_BASE, &ret->apic_base);
    }
    return 0;
}

static int state_check(const struct cpu_state *state, struct err *err)
{
    bool lma = state->efer & CPU_EFER_LMA;

    if ((state->cr0 & CPU_CR0_PG) && !(state->cr0 & CPU_CR0_PE))
        return err_set(err, -EINVAL, "vCPU state: CR0 0x%llx has PG without PE",
                       (unsigned long long)state->cr0);
    if (lma != ((state->cr0 & CPU_CR0_PG) && (state->efer & CPU_EFER_LME)))
        return err_set(err, -EINVAL, "vCPU state: EFER 0x%llx does not fit CR0 0x%llx",
                       (unsigned long long)state->efer, (unsigned long long)state->cr0);
    if (lma && !(state->cr4 & CPU_CR4_PAE))
        return err_set(err, -EINVAL, "vCPU state: long mode without CR4.PAE");
    if ((state->xcr0 & ~CPU_XCR0_SUPPORTED) || !(state->xcr0 & CPU_XCR0_X87) ||
        (state->xcr0 & (CPU_XCR0_AVX | CPU_XCR0_SSE)) == CPU_XCR0_AVX)
        return err_set(err, -EINVAL, "vCPU state: XCR0 0x%llx", (unsigned long long)state->xcr0);
    if (load_le32(state->xsave + XSAVE_MXCSR) & ~MXCSR_DEFINED)
        return err_set(err, -EINVAL, "vCPU state: MXCSR 0x%x",
                       load_le32(state->xsave + XSAVE_MXCSR));
    if (state->activity > CPU_ACTIVITY_SHUTDOWN)
        return err_set(err, -EINVAL, "vCPU state: activity %d", (int)state->activity);
    return 0;
}

static void segment_set(struct cpu_segment *to, const struct cpu_segment *from)
{
    *to = *from;
    to->attributes &= SEGMENT_ATTRIBUTE_MASK;
}

static void irqchip_set(struct soft_cpu *cpu, const struct cpu_state *state)
{
    const struct cpu_irqchip *irqchip = cpu->vm->config->irqchip;
    unsigned index = cpu->cpu.index;
    uint64_t apic_base;

    if (!irqchip)
        return;
    if (state->apic_base &&
        irqchip->msr_read(irqchip->context, index, MSR_APIC_BASE, &apic_base) == 0 &&
        apic_base != state->apic_base)
        irqchip->msr_write(irqchip->context, index, MSR_APIC_BASE, state->apic_base);
    if (irqchip->cr8_read(irqchip->context, index) != state->cr8)
        irqchip->cr8_write(irqchip->context, index, state->cr8);
}

int soft_set_state(struct cpu *base, const struct cpu_state *state, struct err *err)
{
    struct soft_cpu *cpu = CONTAINER_OF(base, struct soft_cpu, cpu);
    int r = state_check(state, err);

    if (r)
        return r;
    memcpy(cpu->gpr, state->gpr, sizeof(cpu->gpr));
    memcpy(cpu->dr, state->dr, sizeof(cpu->dr));
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        segment_set(&cpu->segment[i], &state->segment[i]);
    segment_set(&cpu->tr, &state->tr);
    segment_set(&cpu->ldtr, &state->ldtr);
#define COPY(field) cpu->field = state->field
    COPY(rip), COPY(gdtr), COPY(idtr), COPY(cr0), COPY(cr2), COPY(cr3), COPY(cr4), COPY(xcr0);
    COPY(efer), COPY(star), COPY(lstar), COPY(cstar), COPY(sfmask), COPY(kernel_gs_base);
    COPY(sysenter_cs), COPY(sysenter_esp), COPY(sysenter_eip), COPY(pat);
    COPY(tsc_adjust), COPY(tsc_aux), COPY(misc_enable), COPY(spec_ctrl), COPY(mtrr);
    COPY(kvm_wall_clock_msr), COPY(kvm_system_time_msr);
    COPY(interrupt_shadow), COPY(nmi_pending), COPY(nmi_blocked);
#undef COPY
    cpu->rflags = (state->rflags & UINT64_C(0x3f7fd7)) | CPU_FLAG_ONE;
    cpu->next_rip = cpu->rip;
    cpu->activity = (uint8_t)state->activity;
    cpu->interrupt_possible = true;
    cpu->debug_hits = 0;
    fpu_import(cpu, state->xsave);
    irqchip_set(cpu, state);
    tsc_restore(cpu, state->tsc);
    mmu_flush_all(cpu);
    soft_cpu_update_mode(cpu);
    kvmclock_write_system_time(cpu);
    if (state->exception_pending) {
        cpu->fault.cr2 = state->cr2;
        interrupt_deliver(cpu, state->exception_vector, SOFT_EVENT_EXCEPTION,
                          state->exception_has_error, state->exception_error);
    }
    return 0;
}
