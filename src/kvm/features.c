/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a KVM guest is told about its processor: the CPUID policy, cut to what the kernel says it
 * supports, and IA32_ARCH_CAPABILITIES cut to what the host's processor is immune to (the guest
 * runs on it directly, so a promise that it does not keep would be a hole).
 */
#include "kvm/kvm_internal.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define SUPPORTED_MAX                 256
#define MSR_ARCH_CAPABILITIES         0x10a
#define CPUID_7_EDX_ARCH_CAPABILITIES (1u << 29)
#define CPUID_1_ECX_TSC_DEADLINE      (1u << 24)
#define CPUID_1_EDX_HTT               (1u << 28)
#define CPUID_80000001_ECX_LEGACY     (1u << 1)

struct one_msr {
    struct kvm_msrs head;
    struct kvm_msr_entry entry;
};

static struct kvm_cpuid2 *table_new(void)
{
    struct kvm_cpuid2 *table = calloc(1,
                                      sizeof(*table) + SUPPORTED_MAX * sizeof(table->entries[0]));

    if (table)
        table->nent = SUPPORTED_MAX;
    return table;
}

static const struct kvm_cpuid_entry2 *table_find(const struct kvm_cpuid2 *table, uint32_t leaf,
                                                 uint32_t subleaf)
{
    for (uint32_t i = 0; i < table->nent; i++)
        if (table->entries[i].function == leaf && table->entries[i].index == subleaf)
            return &table->entries[i];
    return NULL;
}

/* Cuts the words that are feature bits; the others (sizes, topology) stay ours. */
static void features_cut(struct kvm_cpuid_entry2 *e, const struct kvm_cpuid2 *supported,
                         uint32_t deadline)
{
    const struct kvm_cpuid_entry2 *s = table_find(supported, e->function, e->index);
    struct kvm_cpuid_entry2 none = {0};

    if (!s)
        s = &none;
    switch (e->function) {
    case 1:
        e->ecx &= (s->ecx & ~CPUID_1_ECX_TSC_DEADLINE) | deadline;
        e->edx &= s->edx | CPUID_1_EDX_HTT;
        break;
    case 7:
        e->ebx &= s->ebx;
        e->ecx &= s->ecx;
        e->edx &= s->edx;
        break;
    case 0xd:
        if (e->index == 0)
            e->eax &= s->eax;
        else if (e->index == 1)
            e->eax &= s->eax;
        break;
    case 0x80000001:
        e->ecx &= s->ecx | CPUID_80000001_ECX_LEGACY;
        e->edx &= s->edx;
        break;
    case 0x80000007:
        e->edx &= s->edx;
        break;
    default:
        break;
    }
}

/* Returns the value that the guest sees; 0: no such MSR. */
static uint64_t arch_capabilities(const struct cpu_vm *vm)
{
    struct one_msr msr = {.head.nmsrs = 1, .entry.index = MSR_ARCH_CAPABILITIES};

    if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_GET_MSR_FEATURES) <= 0 ||
        ioctl(vm->kvm_fd, KVM_GET_MSRS, &msr) != 1)
        return 0;
    return vm->config.cpuid->arch_capabilities & msr.entry.data;
}

int kvm_cpu_set_features(struct kvm_vcpu *vcpu, struct err *err)
{
    const struct cpu_vm *vm = vcpu->cpu.vm;
    const struct cpuid_policy *policy = vm->config.cpuid;
    CLEANUP(freep) struct kvm_cpuid2 *supported = table_new();
    CLEANUP(freep) struct kvm_cpuid2 *table = table_new();
    struct one_msr msr = {.head.nmsrs = 1,
                          .entry = {.index = MSR_ARCH_CAPABILITIES, .data = arch_capabilities(vm)}};
    uint32_t deadline = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0 ? ~0u
                                                                                               : 0;

    if (!supported || !table)
        return err_set(err, -ENOMEM, "out of memory");
    if (ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, supported))
        return err_errno(err, -errno, "ask KVM for its CPUID");
    table->nent = 0;
    for (unsigned i = 0; i < policy->nr_entries; i++) {
        const struct cpuid_entry *from = &policy->entries[i];
        struct kvm_cpuid_entry2 *to = &table->entries[table->nent++];
        uint32_t r[4];

        cpuid_query(policy, vcpu->cpu.index, from->leaf, from->subleaf, 0, CPU_XCR0_X87, r);
        *to = (struct kvm_cpuid_entry2){
            .function = from->leaf,
            .index = from->subleaf,
            .flags = from->subleaf_matters ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = r[0],
            .ebx = r[1],
            .ecx = r[2],
            .edx = r[3],
        };
        features_cut(to, supported, deadline & CPUID_1_ECX_TSC_DEADLINE);
        if (to->function == 7 && !msr.entry.data)
            to->edx &= ~CPUID_7_EDX_ARCH_CAPABILITIES;
    }
    if (ioctl(vcpu->fd, KVM_SET_CPUID2, table))
        return err_errno(err, -errno, "set the CPUID of KVM vCPU %u", vcpu->cpu.index);
    if (msr.entry.data && ioctl(vcpu->fd, KVM_SET_MSRS, &msr) != 1)
        return err_set(err, -EINVAL, "KVM refuses IA32_ARCH_CAPABILITIES 0x%llx",
                       (unsigned long long)msr.entry.data);
    return 0;
}
