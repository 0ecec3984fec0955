/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPUID policy: what the guest is told the processor can do, fixed when the VM is made. It is
 * what the host has, cut to what every engine of ours implements (nothing above AVX2; no LA57, PKU,
 * CET, AMX, TSX, MPX, VMX, SVM), with the topology, the TSC frequency leaves (15h, 16h) and the KVM
 * paravirtual leaves (40000000h: kvmclock) filled in. The vendor is the host's, so that results of
 * approximating instructions (RCPPS, RSQRTPS) agree with it.
 *
 * Source: SDM 2A CPUID; AMD APM 3 appendix E; Linux Documentation/virt/kvm/x86/cpuid.
 */
#ifndef LODGE_CPU_CPUID_H
#define LODGE_CPU_CPUID_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define CPUID_ENTRIES_MAX 64

struct cpuid_entry {
    uint32_t leaf, subleaf;
    bool subleaf_matters;
    uint32_t eax, ebx, ecx, edx;
};

struct cpuid_policy {
    struct cpuid_entry entries[CPUID_ENTRIES_MAX];
    unsigned nr_entries;
    unsigned physical_address_bits;
    /* IA32_ARCH_CAPABILITIES; 0: the MSR does not exist (CPUID 7 EDX bit 29 clear). An engine that
     * runs the guest on the host's own processor cuts it to what the host is immune to. */
    uint64_t arch_capabilities;
};

struct cpuid_options {
    unsigned nr_cpus;
    uint64_t tsc_hz;
    unsigned physical_address_bits; /* 0: 40 */
};

void cpuid_policy_init(struct cpuid_policy *policy, const struct cpuid_options *options);

/* What CPUID gives on vCPU `cpu` (its APIC id goes into leaves 1, 0Bh, 1Fh, 8000001Eh). The bits
 * that follow CR4 and XCR0 (OSXSAVE in leaf 1; sizes in leaf 0Dh) are put in from the arguments.
 * Leaves out of range give what AMD gives: zeros (Intel: the highest basic leaf); we follow the
 * vendor. */
void cpuid_query(const struct cpuid_policy *policy, unsigned cpu, uint32_t leaf, uint32_t subleaf,
                 uint64_t cr4, uint64_t xcr0, uint32_t ret[4]);

#endif
