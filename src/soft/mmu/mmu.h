/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-virtual memory for the interpreter: translation (SDM 3A 4), permission checks, TLB,
 * page-crossing accesses, MMIO, dirty log and decoded-code tracking. The segment-level functions
 * check limits and types first (SDM 3A 5.3) and are what instruction handlers use; the linear ones
 * are for system structures (descriptor tables, TSS, IDT: `implicit supervisor`).
 *
 * All return SOFT_OK, or SOFT_FAULT with cpu->fault set and nothing written. A store that crosses a
 * page checks both pages before it writes either.
 */
#ifndef LODGE_SOFT_MMU_H
#define LODGE_SOFT_MMU_H

#include "soft/soft_cpu.h"

/* Explicit data accesses at the current CPL, through a segment. size: 1..64 bytes for the _bytes
 * forms. */
enum soft_result mmu_load(struct soft_cpu *cpu, unsigned segment, uint64_t offset, void *data,
                          unsigned size);
enum soft_result mmu_store(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                           const void *data, unsigned size);
/* Is a store there possible? Faults as the store would; sets accessed and dirty bits. For
 * read-modify-write and multi-part stores. */
enum soft_result mmu_probe_store(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                 unsigned size);

/*
 * A host pointer for an atomic read-modify-write at segment:offset, checked for writing, marked
 * dirty and (after the caller's operation) followed by mmu_rmw_done. *ret is NULL when no single
 * host access can do it (page-crossing, MMIO): the caller then holds vm->bus_lock and uses
 * mmu_load/mmu_store.
 */
enum soft_result mmu_rmw_begin(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                               unsigned size, void **ret);
void mmu_rmw_done(struct soft_cpu *cpu, unsigned segment, uint64_t offset, unsigned size);

/* System-structure accesses at a linear address, as supervisor whatever the CPL. */
enum soft_result mmu_load_system(struct soft_cpu *cpu, gva_t address, void *data, unsigned size);
enum soft_result mmu_store_system(struct soft_cpu *cpu, gva_t address, const void *data,
                                  unsigned size);

/*
 * For string instructions and block decoding: the host pointer to [address, address + *ret_length)
 * of RAM that may be read (written; fetched) at the current CPL, up to the end of its page; NULL
 * with *ret_length = 0 where the bytes are not plain RAM. A pointer for writing must be followed by
 * mmu_written(cpu, address, bytes) after the writes.
 */
enum mmu_access { MMU_READ, MMU_WRITE, MMU_FETCH };
enum soft_result mmu_host_range(struct soft_cpu *cpu, gva_t address, enum mmu_access access,
                                void **ret, unsigned *ret_length);
void mmu_written(struct soft_cpu *cpu, gva_t address, unsigned length);

/* Segment checks alone: offset -> linear, or #GP/#SS. Wraps as the mode says. Canonical check in
 * 64-bit mode. */
enum soft_result mmu_linear(struct soft_cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
                            enum mmu_access access, gva_t *ret);

/* Fetches instruction bytes at CS:rip: at least one, at most `most`; and the guest-physical address
 * of the first. */
enum soft_result mmu_fetch(struct soft_cpu *cpu, uint64_t rip, uint8_t *bytes, unsigned most,
                           unsigned *ret_length, gpa_t *ret_gpa);

/* CR3/CR4/CR0/EFER/CPL changes and invalidations (SDM 3A 4.10.4). */
void mmu_init(struct soft_cpu *cpu);
void mmu_done(struct soft_cpu *cpu);
void mmu_flush_all(struct soft_cpu *cpu);        /* including global pages */
void mmu_flush_non_global(struct soft_cpu *cpu); /* current PCID */
void mmu_flush_pcid(struct soft_cpu *cpu, unsigned pcid);
void mmu_flush_page(struct soft_cpu *cpu, gva_t address); /* INVLPG */
/* Called by soft_cpu_update_mode: picks the TLB context of (CPL, SMAP/AC, paging mode). */
void mmu_context_changed(struct soft_cpu *cpu);
/* Page walk without side effects, for debuggers and tests: -EFAULT when not mapped. */
int mmu_translate_debug(struct soft_cpu *cpu, gva_t address, gpa_t *ret);

#endif
