/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-virtual memory for the interpreter: translation (SDM 3A 4), permission checks, TLB,
 * page-crossing accesses, MMIO, dirty log and decoded-code tracking. The segment-level functions
 * check limits and types first (SDM 3A 5.3) and are what instruction handlers use; the linear ones
 * are for system structures (descriptor tables, TSS, IDT: `implicit supervisor`).
 *
 * All return SOFT_OK, or SOFT_FAULT with cpu->fault set and nothing written. A store that crosses a
 * page checks both pages before it writes either.
 *
 * Handlers use mmu_load8..64, mmu_store8..64 and mmu_rmw_begin from mmu_fast.h (included below).
 */
#ifndef LODGE_SOFT_MMU_H
#define LODGE_SOFT_MMU_H

#include "soft/soft_cpu.h"

/* Explicit data accesses at the current CPL, through a segment. size: 1..64 bytes; 1, 2, 4, 8 are
 * one host access when aligned. */
enum soft_result mmu_load(struct soft_cpu *cpu, unsigned segment, uint64_t offset, void *data,
                          unsigned size);
enum soft_result mmu_store(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                           const void *data, unsigned size);
/* Is a store there possible? Faults as the store would; sets accessed and dirty bits. For
 * read-modify-write and multi-part stores. size: 1..4096. */
enum soft_result mmu_probe_store(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                 unsigned size);
/* The same for loads of several parts. */
enum soft_result mmu_probe_load(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                unsigned size);

/* Slow part of mmu_rmw_begin (mmu_fast.h). */
enum soft_result mmu_rmw_begin_slow(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                    unsigned size, void **ret);
/* Guest RAM at host address [host, host + length) was written by this vCPU: dirty log and decoded
 * code. */
void mmu_written_host(struct soft_cpu *cpu, const uint8_t *host, unsigned length);

/* System-structure accesses at a linear address, as supervisor whatever the CPL. */
enum soft_result mmu_load_system(struct soft_cpu *cpu, gva_t address, void *data, unsigned size);
enum soft_result mmu_store_system(struct soft_cpu *cpu, gva_t address, const void *data,
                                  unsigned size);
enum soft_result mmu_probe_store_system(struct soft_cpu *cpu, gva_t address, unsigned size);
/* Accesses at a linear address with the privileges of user mode or supervisor mode given: for
 * stacks that are switched to before the CPL is. */
enum soft_result mmu_load_linear(struct soft_cpu *cpu, gva_t address, bool user, void *data,
                                 unsigned size);
enum soft_result mmu_store_linear(struct soft_cpu *cpu, gva_t address, bool user, const void *data,
                                  unsigned size);
enum soft_result mmu_probe_store_linear(struct soft_cpu *cpu, gva_t address, bool user,
                                        unsigned size);

/*
 * For string instructions and block decoding: the host pointer to [address, address + *ret_length)
 * of RAM that may be read (written; fetched) at the current CPL, up to the end of its page; NULL
 * with *ret_length = 0 where the bytes are not plain RAM or must be accessed one by one (watched
 * addresses, dirty log, alignment checks). A pointer for writing must be followed by
 * mmu_written_host(cpu, pointer, bytes) after the writes.
 */
enum mmu_access { MMU_READ, MMU_WRITE, MMU_FETCH };
enum soft_result mmu_host_range(struct soft_cpu *cpu, gva_t address, enum mmu_access access,
                                void **ret, unsigned *ret_length);

/* Segment checks alone: offset -> linear, or #GP/#SS. Wraps as the mode says. Canonical check in
 * 64-bit mode. */
enum soft_result mmu_linear(struct soft_cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
                            enum mmu_access access, gva_t *ret);

/* Fetches instruction bytes at CS:rip: at least one, at most `most`, not beyond the page; and the
 * guest-physical address of the first (all ones when it is not RAM). */
enum soft_result mmu_fetch(struct soft_cpu *cpu, uint64_t rip, uint8_t *bytes, unsigned most,
                           unsigned *ret_length, gpa_t *ret_gpa);

/* Sets the code_map byte of the page that holds gpa, so that every later store to it is reported
 * (mmu_fast.h says why this is enough). To be called before the bytes to be decoded are read.
 * Clearing the byte is the caller's; mark and clear of one page must not run at the same time.
 * False when gpa is not RAM. */
bool mmu_code_page_mark(struct soft_vm *vm, gpa_t gpa);

/* CR3/CR4/CR0/EFER/CPL changes and invalidations (SDM 3A 4.10.4). */
void mmu_init(struct soft_cpu *cpu);
void mmu_done(struct soft_cpu *cpu);
void mmu_flush_all(struct soft_cpu *cpu);        /* including global pages */
void mmu_flush_non_global(struct soft_cpu *cpu); /* all PCIDs */
void mmu_flush_pcid(struct soft_cpu *cpu, unsigned pcid);
void mmu_flush_page(struct soft_cpu *cpu, gva_t address); /* INVLPG */
/* After cpu->cr3 was written: current PCID changes; keep: the no-flush bit was set. */
void mmu_cr3_loaded(struct soft_cpu *cpu, bool keep);
/* Called by soft_cpu_update_mode, and by whoever changes EFLAGS.AC or DR7 alone: picks the TLB
 * table of (CPL, SMAP/AC) and whether the fast path may be used. Cheap. */
void mmu_context_changed(struct soft_cpu *cpu);
/* What a processor might have in its TLB for user accesses: the walk sets nothing, but finds what
 * earlier accesses have set. False: nothing. */
struct mmu_known {
    gpa_t gpa;
    unsigned shift; /* of the page's size */
    bool write;     /* dirty, too */
};
bool mmu_user_known(struct soft_cpu *cpu, gva_t address, struct mmu_known *ret);
/* Page walk without side effects, for debuggers and tests: -EFAULT when not mapped. */
int mmu_translate_debug(struct soft_cpu *cpu, gva_t address, gpa_t *ret);

#include "soft/mmu/mmu_fast.h"

#endif
