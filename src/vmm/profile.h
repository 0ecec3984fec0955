/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A profile of what the guest does, by function: --profile. Private to vmm/.
 *
 * Each vCPU's thread has a timer of its own processor time, whose signal interrupts it wherever it
 * is; the engine says which guest instruction that stands for (cpu_engine.position). The handler
 * counts it in a table of this vCPU. A vCPU that sleeps is not sampled.
 *
 * Invariants:
 *  1. Files are opened by profile_new, before the jail; nothing is opened later.
 *  2. A table is written by its vCPU's thread only (in the handler), and read when that has ended.
 *  3. Memory is bounded: PROFILE_ENTRIES places a vCPU; samples that find none are counted as lost.
 */
#ifndef LODGE_VMM_PROFILE_H
#define LODGE_VMM_PROFILE_H

#include "cpu/cpu.h"
#include "vmm/config.h"

#define PROFILE_ENTRIES   32768u /* a power of two */
#define PROFILE_PERIOD_NS 1000003

struct profile;

/* *ret stays NULL when the configuration asks for none. */
int profile_new(const struct vmm_config *config, const struct cpu_engine *engine,
                struct profile **ret, struct err *err);
void profile_free(struct profile *profile);

/* On the vCPU's thread: after its making, and before its end. NULL: nothing happens. */
int profile_begin(struct profile *profile, unsigned index, struct cpu *cpu, struct err *err);
void profile_end(struct profile *profile, unsigned index);

/* --perf-map, while vCPUs are paused or their threads have ended: an empty file (false: there is
 * none), then what each vCPU has. */
bool profile_map_begin(struct profile *profile);
void profile_map(struct profile *profile, struct cpu *cpu);
/* After the last run: the files. */
int profile_write(struct profile *profile, struct err *err);

/* How a sample's place is called in the files. For tests. */
struct symbols;
void profile_name(const struct symbols *symbols, const struct cpu_position *position, char *text,
                  size_t size);

#endif
