/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translating tier: blocks of the interpreter's cache, copied into host code. The design is in
 * docs/design/software-cpu-translator.md; this header is what the rest of src/soft sees.
 *
 * A translation hangs on an interp_block and dies with it (translate_block_killed). The block's
 * operations stay: whatever translated code cannot do itself is done by running them.
 *
 * Threads: the vCPU's own, except translate_kick and what is said at a function.
 */
#ifndef LODGE_SOFT_TRANSLATE_H
#define LODGE_SOFT_TRANSLATE_H

#include "base/err.h"
#include "soft/soft_cpu.h"

struct interp_block;

/* -ENOTSUP where the host lacks BMI2, AVX2 or WRGSBASE, or does not let us run generated code. */
int translate_probe(struct err *err);
/* Makes cpu->translate, after a probe that said 0. */
int translate_init(struct soft_cpu *cpu, struct err *err);
void translate_done(struct soft_cpu *cpu);
/* Before any vCPU; -errno. After all. */
int translate_vm_init(struct soft_vm *vm);
void translate_vm_done(struct soft_vm *vm);

/* Blocks, translated or not, until something else has to be looked at: the counterpart of the
 * interpreter's execute(). */
int translate_execute(struct soft_cpu *cpu);

/* A block left the cache; the whole cache is dropped. From the vCPU's thread, outside generated
 * code. */
void translate_block_killed(struct soft_cpu *cpu, struct interp_block *block);
void translate_flushed(struct soft_cpu *cpu);

/* cpu_run begins: maybe on another thread than before. */
void translate_begin(struct soft_cpu *cpu);
/* INVLPG; larger invalidations show in mmu.epoch. */
void translate_page_flushed(struct soft_cpu *cpu, gva_t address);
/* A page that no instruction was fetched from is forgotten. */
void translate_data_flushed(struct soft_cpu *cpu, gva_t address);

/* Any thread: what the tier has done, in groups: "code", "exits" by reason, "handbacks" by
 * instruction. Nothing when this vCPU only interprets. */
void translate_figures(struct soft_cpu *cpu, cpu_figure_fn *fn, void *context);

/* cpu_engine.position and code_map; without a translator too. */
bool translate_position(struct soft_cpu *cpu, const void *context, struct cpu_position *ret);
void translate_code_map(struct soft_cpu *cpu, cpu_code_fn *fn, void *context);

/* Any thread: generated code comes out at its next poll. */
void translate_kick(struct soft_cpu *cpu);

/*
 * The page at `host`, whose code_map byte is already nonzero, becomes code: no vCPU may go on
 * storing there without looking. _begin before the membarrier of mmu_code_page_mark, _wait after
 * it; both under soft_vm.code_lock.
 */
void translate_stores_revoke_begin(struct soft_vm *vm, const void *host);
void translate_stores_revoke_wait(struct soft_vm *vm);

#endif
