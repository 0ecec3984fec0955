/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT. Where Intel and AMD differ the vendor that CPUID names
 * decides:
 *
 *                      Intel                          AMD
 *   SYSCALL/SYSRET     64-bit mode only               also compatibility and legacy mode
 *   SYSRET to a non-   #GP(0) at CPL 0                #GP(0) at the target
 *    canonical RCX
 *   SYSENTER/SYSEXIT   any protected mode             not in long mode
 *
 * Source: SDM 2 and 3A 5.8.7, 5.8.8; AMD APM 3.
 */
#include "soft/interp/sys.h"

#define ATTRIBUTES_CODE32 0xc09bu
#define ATTRIBUTES_CODE64 0xa09bu
#define ATTRIBUTES_DATA   0xc093u

/* CS and SS as these instructions set them: flat, without looking at any table. */
static void set_flat(struct soft_cpu *cpu, uint16_t cs, uint16_t ss, bool long64, unsigned cpl)
{
    cpu->segment[CPU_CS] = (struct cpu_segment){
        .limit = 0xffffffff,
        .attributes = (long64 ? ATTRIBUTES_CODE64 : ATTRIBUTES_CODE32) | cpl << 5,
        .selector = (uint16_t)((cs & ~3u) | cpl),
    };
    cpu->segment[CPU_SS] = (struct cpu_segment){
        .limit = 0xffffffff,
        .attributes = ATTRIBUTES_DATA | cpl << 5,
        .selector = (uint16_t)((ss & ~3u) | cpl),
    };
}

enum soft_result op_syscall(struct soft_cpu *cpu, const struct insn *insn)
{
    bool long64 = cpu->mode == SOFT_MODE_LONG64;
    uint16_t cs = (uint16_t)(cpu->star >> 32);

    (void)insn;
    if (!(cpu->efer & CPU_EFER_SCE) || (!long64 && (!cpu_protected(cpu) || cpu_is_intel(cpu))))
        return fault_raise(cpu, CPU_VECTOR_UD);
    cpu->gpr[CPU_RCX] = long64 ? cpu->next_rip : (uint32_t)cpu->next_rip;
    if (cpu_long_mode(cpu)) {
        cpu->gpr[CPU_R11] = cpu->rflags & ~CPU_FLAG_RF;
        cpu->next_rip = long64 ? cpu->lstar : cpu->cstar;
        cpu->rflags &= ~(cpu->sfmask | CPU_FLAG_RF);
    } else {
        cpu->next_rip = (uint32_t)cpu->star;
        cpu->rflags &= ~(CPU_FLAG_IF | CPU_FLAG_VM | CPU_FLAG_RF);
    }
    cpu->rflags |= CPU_FLAG_ONE;
    set_flat(cpu, cs, (uint16_t)(cs + 8), cpu_long_mode(cpu), 0);
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

enum soft_result op_sysret(struct soft_cpu *cpu, const struct insn *insn)
{
    bool long_mode = cpu_long_mode(cpu), to64 = long_mode && insn->operand_size == 8;
    uint16_t base = (uint16_t)(cpu->star >> 48);

    if (!(cpu->efer & CPU_EFER_SCE) || (cpu->mode != SOFT_MODE_LONG64 && cpu_is_intel(cpu)))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (!cpu_protected(cpu) || cpu->cpl != 0)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    if (to64 && cpu_is_intel(cpu) && !address_is_canonical(cpu->gpr[CPU_RCX]))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    cpu->next_rip = to64 ? cpu->gpr[CPU_RCX] : (uint32_t)cpu->gpr[CPU_RCX];
    if (long_mode)
        cpu->rflags = (cpu->gpr[CPU_R11] & UINT64_C(0x3c7fd7)) | CPU_FLAG_ONE;
    else
        cpu->rflags |= CPU_FLAG_IF;
    set_flat(cpu, (uint16_t)(to64 ? base + 16 : base), (uint16_t)(base + 8), to64, 3);
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

enum soft_result op_sysenter(struct soft_cpu *cpu, const struct insn *insn)
{
    bool long_mode = cpu_long_mode(cpu);
    uint16_t cs = (uint16_t)cpu->sysenter_cs;

    (void)insn;
    if (long_mode && !cpu_is_intel(cpu))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (cpu->mode == SOFT_MODE_REAL || selector_is_null(cs))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    cpu->next_rip = long_mode ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip;
    cpu->gpr[CPU_RSP] = long_mode ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
    cpu->rflags &= ~(CPU_FLAG_IF | CPU_FLAG_VM | CPU_FLAG_RF);
    set_flat(cpu, cs, (uint16_t)((cs & ~3u) + 8), long_mode, 0);
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

enum soft_result op_sysexit(struct soft_cpu *cpu, const struct insn *insn)
{
    bool long_mode = cpu_long_mode(cpu), to64 = long_mode && insn->operand_size == 8;
    uint16_t cs = (uint16_t)(cpu->sysenter_cs & ~3u);
    uint64_t rip = cpu->gpr[CPU_RDX], rsp = cpu->gpr[CPU_RCX];

    if (long_mode && !cpu_is_intel(cpu))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (!cpu_protected(cpu) || cpu->cpl != 0 || cs == 0)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    if (to64 && (!address_is_canonical(rip) || !address_is_canonical(rsp)))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    cpu->next_rip = to64 ? rip : (uint32_t)rip;
    cpu->gpr[CPU_RSP] = to64 ? rsp : (uint32_t)rsp;
    cs = (uint16_t)(cs + (to64 ? 32 : 16));
    set_flat(cpu, cs, (uint16_t)(cs + 8), to64, 3);
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}
