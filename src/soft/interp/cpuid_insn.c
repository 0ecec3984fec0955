/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID, and the instructions that the policy hides or that call the hypervisor.
 *
 * Source: SDM 2 CPUID; Linux Documentation/virt/kvm/x86/hypercalls.
 */
#include "soft/interp/sys.h"

#define KVM_ENOSYS 1000
#define KVM_EPERM  1

void cpuid_of(const struct soft_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
    cpuid_query(cpu->vm->config->cpuid, cpu->cpu.index, leaf, subleaf, cpu->cr4, cpu->xcr0, ret);
}

bool cpu_is_intel(const struct soft_cpu *cpu)
{
    uint32_t leaf[4];

    cpuid_of(cpu, 0, 0, leaf);
    return leaf[1] == 0x756e6547; /* "Genu" */
}

enum soft_result op_cpuid(struct soft_cpu *cpu, const struct insn *insn)
{
    uint32_t leaf[4];

    (void)insn;
    cpuid_of(cpu, (uint32_t)cpu->gpr[CPU_RAX], (uint32_t)cpu->gpr[CPU_RCX], leaf);
    cpu->gpr[CPU_RAX] = leaf[0];
    cpu->gpr[CPU_RBX] = leaf[1];
    cpu->gpr[CPU_RCX] = leaf[2];
    cpu->gpr[CPU_RDX] = leaf[3];
    return SOFT_OK;
}

/* MONITOR and MWAIT are not exposed. */
enum soft_result op_monitor(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    return fault_raise(cpu, CPU_VECTOR_UD);
}

/* No hypercall is offered in CPUID; the answer is KVM's for one it does not know. */
enum soft_result op_hypercall(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    cpu->gpr[CPU_RAX] = (uint64_t) - (int64_t)(cpu->cpl == 0 ? KVM_ENOSYS : KVM_EPERM);
    if (cpu->mode != SOFT_MODE_LONG64)
        cpu->gpr[CPU_RAX] = (uint32_t)cpu->gpr[CPU_RAX];
    return SOFT_OK;
}

/* Outside system-management mode. */
enum soft_result op_rsm(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    return fault_raise(cpu, CPU_VECTOR_UD);
}
