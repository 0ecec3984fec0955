/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vector and x87 unit of a vCPU: its life cycle, and the state in and out. The instructions are
 * reached through fpu_handlers_fill.
 *
 * Threads: the vCPU's own.
 */
#ifndef LODGE_SOFT_FPU_H
#define LODGE_SOFT_FPU_H

#include "base/err.h"
#include "soft/soft_cpu.h"

/* Enters the handlers of every x87, MMX, SSE, AVX and state-saving mnemonic. */
void fpu_handlers_fill(soft_handler_fn *table[INSN_NR_IDS]);

/* Maps the code buffer and puts the registers in their reset state. Call before the process gives
 * up the right to make executable mappings. */
int fpu_init(struct soft_cpu *cpu, struct err *err);
void fpu_done(struct soft_cpu *cpu);

/* State after RESET and INIT differ: INIT leaves the registers alone. */
void fpu_reset(struct soft_cpu *cpu);

/*
 * The area of struct cpu_state. Import takes any bytes: components that xstate_bv does not name
 * take their initial values, reserved bits are dropped.
 */
void fpu_import(struct soft_cpu *cpu, const uint8_t xsave[CPU_XSAVE_SIZE]);
void fpu_export(const struct soft_cpu *cpu, uint8_t ret_xsave[CPU_XSAVE_SIZE]);

/* XINUSE (SDM 1 13.6): the components that are not in their initial configuration. XGETBV with
 * ECX = 1 gives this and XCR0. */
uint64_t fpu_in_use(const struct soft_cpu *cpu);

#endif
