/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of src/kvm share. */
#ifndef LODGE_KVM_KVM_INTERNAL_H
#define LODGE_KVM_KVM_INTERNAL_H

#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "kvm/kvm.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cpu_vm {
    struct cpu_vm_config config; /* own copy; what it points to is borrowed */
    int kvm_fd, vm_fd;
    size_t run_size;                /* of the mapping of struct kvm_run */
    bool logging[MEMORY_SLOTS_MAX]; /* slot is registered with KVM_MEM_LOG_DIRTY_PAGES */
};

struct kvm_vcpu {
    struct cpu cpu; /* first */
    int fd;
    pid_t thread;         /* that made it and runs it */
    bool io_uncompleted;  /* the last exit was an access that KVM finishes on the next entry */
    uint64_t deadline_ns; /* probe only: CLOCK_MONOTONIC at which run gives up with a kick; 0: never
                           */
    struct kvm_run *run;
    struct cpu_counters counters; /* written by the vCPU's thread, read by any */
};

static inline struct kvm_vcpu *kvm_vcpu_of(struct cpu *cpu)
{
    return (struct kvm_vcpu *)(void *)cpu;
}

/* kvm.c */
int kvm_vm_new(const struct cpu_vm_config *config, struct cpu_vm **ret, struct err *err);
void kvm_vm_free(struct cpu_vm *vm);

/* vcpu.c */
int kvm_cpu_new(struct cpu_vm *vm, unsigned index, struct cpu **ret, struct err *err);
void kvm_cpu_free(struct cpu *cpu);
int kvm_cpu_run(struct cpu *cpu, struct cpu_exit *ret, struct err *err);
void kvm_cpu_kick(struct cpu *cpu);
void kvm_cpu_counters(struct cpu *cpu, struct cpu_counters *ret);

/* features.c: the CPUID policy and IA32_ARCH_CAPABILITIES, cut to what the kernel supports. */
int kvm_cpu_set_features(struct kvm_vcpu *vcpu, struct err *err);

/* vcpu_state.c */
int kvm_cpu_get_state(struct cpu *cpu, struct cpu_state *ret, struct err *err);
int kvm_cpu_set_state(struct cpu *cpu, const struct cpu_state *state, struct err *err);

/* probe.c */
int kvm_probe(struct err *err);

#endif
