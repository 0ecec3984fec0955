/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine that lets the host's processor run the guest through /dev/kvm. Interrupt controllers
 * and the PIT are the kernel's (struct cpu_engine irq_line and msi); HLT waits inside run.
 *
 * Options (cpu_vm_config.options): NULL, or "fd=N" with /dev/kvm open already.
 *
 * vm_new takes the real-time signal KVM_KICK_SIGNAL for the whole process: it is how a vCPU that
 * runs guest code is told to look at its requests. Programs that use this engine must leave it
 * alone.
 */
#ifndef LODGE_KVM_KVM_H
#define LODGE_KVM_KVM_H

#include "cpu/cpu.h"

#include <signal.h>

#define KVM_KICK_SIGNAL (SIGRTMIN + 1)

extern const struct cpu_engine kvm_engine;

#endif
