/* SPDX-License-Identifier: Apache-2.0 */
/* The run loop (run.c) and the events that put a vCPU into a defined state (reset.c). */
#ifndef LODGE_SOFT_INTERP_RUN_H
#define LODGE_SOFT_INTERP_RUN_H

#include "soft/soft_cpu.h"

/* Runs until cpu->exit is filled. */
void run_until_exit(struct soft_cpu *cpu);

/* INIT: reset state, but caches, MSRs and vector state stay (SDM 3A table 9-1). */
void run_init(struct soft_cpu *cpu);
/* SIPI: real mode at vector * 4 KiB. */
void run_sipi(struct soft_cpu *cpu);

#endif
