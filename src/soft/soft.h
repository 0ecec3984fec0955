/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine: our own x86-64 CPU, an implementation of cpu/cpu.h. Needs nothing of the
 * host but an x86-64 processor.
 *
 * Options (cpu_vm_config.options): soft/tier.h. By default 64-bit code is translated, where the
 * host has what that needs (soft_translates), and interpreted elsewhere.
 */
#ifndef LODGE_SOFT_SOFT_H
#define LODGE_SOFT_SOFT_H

#include "cpu/cpu.h"

extern const struct cpu_engine soft_engine;

/* 0 when code can be translated on this host; else -ENOTSUP and why not: VMs are then interpreted,
 * several times slower. */
int soft_translates(struct err *err);

/* cpu_engine.get_state and set_state. (interp/state.c) */
int soft_get_state(struct cpu *cpu, struct cpu_state *ret, struct err *err);
int soft_set_state(struct cpu *cpu, const struct cpu_state *state, struct err *err);

#endif
