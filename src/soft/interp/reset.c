/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INIT and SIPI.
 *
 * Source: SDM 3A 8.4.3, 9.1.4, table 9-1.
 */
#include "soft/interp/run.h"
#include "soft/soft.h"

void run_init(struct soft_cpu *cpu)
{
    struct cpu_state old, state;

    soft_get_state(&cpu->cpu, &old, NULL);
    cpu_state_reset(&state, cpu->cpu.index);
    state.cr0 |= old.cr0 & (CPU_CR0_CD | CPU_CR0_NW);
    memcpy(state.xsave, old.xsave, sizeof(state.xsave));
    state.xcr0 = old.xcr0;
    state.tsc = old.tsc;
    state.tsc_adjust = old.tsc_adjust;
    state.tsc_aux = old.tsc_aux;
    state.pat = old.pat;
    state.mtrr = old.mtrr;
    state.misc_enable = old.misc_enable;
    state.apic_base = old.apic_base;
    state.kvm_wall_clock_msr = old.kvm_wall_clock_msr;
    state.kvm_system_time_msr = old.kvm_system_time_msr;
    soft_set_state(&cpu->cpu, &state, NULL);
    cpu->interrupt_possible = false;
    cpu->debug_hits = 0;
    cpu->end_block = true;
}

void run_sipi(struct soft_cpu *cpu)
{
    uint8_t vector = (uint8_t)__atomic_load_n(&cpu->cpu.sipi_vector, __ATOMIC_ACQUIRE);

    cpu->segment[CPU_CS].selector = (uint16_t)(vector << 8);
    cpu->segment[CPU_CS].base = (uint64_t)vector << 12;
    cpu->rip = 0;
    cpu->activity = CPU_ACTIVITY_RUNNING;
    soft_cpu_update_mode(cpu);
}
