/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache of decoded blocks, one per vCPU.
 *
 * A block is a run of instructions that starts at one guest-physical address and stays in that
 * page (a single instruction that crosses into the next page is a block of its own). It is found
 * by linear address and context in a direct-mapped jump cache, behind that by physical address
 * and code mode in a hash.
 *
 * Invariants:
 *  1. A granule (64 bytes) of guest memory that any vCPU holds decoded has its bit in
 *     soft_vm.code_granules, and its page has its code_map byte, both set before the bytes that
 *     were decoded were read. Bits are set and cleared under soft_vm.code_lock.
 *  2. The jump cache is a hint: an entry counts only when linear address and context are equal.
 *     The context contains mmu.flushes, so a change of translation forgets every entry.
 *  3. A block that was invalidated is out of the hash and does nothing but leave (op_stale); its
 *     memory stays valid until cache_flush, which is called only between blocks.
 *  4. Memory is bounded: at most CACHE_ARENA_SIZE a vCPU; when it is full everything is dropped.
 *
 * Writes. Whoever writes guest RAM looks at the page's code_map byte after the write (mmu_fast.h)
 * and, when it is set, comes to cache_code_written. There, under code_lock, the written granules
 * are looked up: no bit, nothing to do (data beside code). Otherwise their bits are cleared and
 * every vCPU must drop its blocks there: the own thread's at once, so that the rest of the running
 * block is left before its next instruction; others find a message (CPU_REQUEST_ENGINE) at the end
 * of their block. The message is posted before the writer goes on, so it is there before any
 * interrupt or lock release by which the guest tells the other processor of its change: what
 * cross-modifying code needs (SDM 3A 8.1.3), because the other processor takes requests before
 * interrupts and at every block end.
 *
 * Threads: the vCPU's own, except cache_code_written (any).
 */
#ifndef LODGE_SOFT_INTERP_CACHE_H
#define LODGE_SOFT_INTERP_CACHE_H

#include "soft/interp/op.h"

#define CACHE_ARENA_SIZE  ((size_t)(48 * MIB))
#define CACHE_ARENA_LEAST ((size_t)(256 * KIB))
#define CACHE_JUMPS       8192u
#define CACHE_BLOCKS      131072u /* hash heads */
#define CACHE_PAGES       4096u   /* hash heads */
#define CACHE_GRANULE     64u
#define CACHE_SIDES_MAX   8u /* of a trace */

/* A block in one of the (at most two) pages that it was decoded from. */
struct interp_block_page {
    struct interp_block *block;
    struct interp_block_page *next;
    uint64_t mask; /* granules; 0: not used */
    gpa_t gpa;     /* of the page */
};

struct interp_block {
    gpa_t gpa;
    uint32_t key;
    uint32_t nr_instructions;
    bool stale;
    bool exact;                      /* for translate/: without flat tables */
    uint32_t runs;                   /* counted by translate/ until it is translated */
    struct translation *translation; /* NULL: none */
    struct interp_block *hash_next;
    struct interp_block_page page[2];
    unsigned nr_ops;
    unsigned nr_sides; /* Jcc before the end */
    struct interp_op ops[];
};

struct interp_code_page {
    struct interp_code_page *next;
    gpa_t gpa;
    struct interp_block_page *blocks;
};

/* Bits of a block's key. */
#define CACHE_KEY_MODE   3u        /* enum insn_mode */
#define CACHE_KEY_USER   (1u << 2) /* CPL 3: who may fetch differs */
#define CACHE_KEY_SINGLE (1u << 3) /* one instruction */
#define CACHE_KEY_WINDOW (1u << 4) /* with USER: translate/window.c */

int cache_init(struct soft_cpu *cpu); /* 0 or -ENOMEM */
void cache_done(struct soft_cpu *cpu);
void cache_vm_init(struct soft_vm *vm);
void cache_vm_done(struct soft_vm *vm);

static inline uint32_t cache_key(const struct soft_cpu *cpu)
{
    return (uint32_t)cpu->code_mode | (cpu->cpl == 3 ? cpu->user_key : 0u);
}

static inline uint64_t cache_context(const struct soft_cpu *cpu)
{
    return (uint64_t)cpu->mmu.flushes << 32 | cache_key(cpu);
}

static inline struct interp_jump *cache_jump(const struct soft_cpu *cpu, uint64_t linear)
{
    return &cpu->interp.jumps[(linear ^ linear >> 13) & (CACHE_JUMPS - 1)];
}

/* The block at CS:RIP. SOFT_OK; SOFT_FAULT: the fetch faults; SOFT_EXIT: code outside RAM. single:
 * a block of one instruction. */
int cache_find(struct soft_cpu *cpu, bool single, struct interp_block **ret);
/* A block that ends in a forward Jcc, behind which code has run, in one with that code, as far as
 * it goes on so: a trace, in whose middle it is left when such a Jcc is taken. It takes the block's
 * place. The block itself where there is none to be had. CS:RIP is at the block. */
struct interp_block *cache_extend(struct soft_cpu *cpu, struct interp_block *block);
/* Forgets the jump-cache entry of CS:RIP. */
void cache_jump_forget(struct soft_cpu *cpu);
/* Takes the messages of other threads. */
void cache_take_mail(struct soft_cpu *cpu);
void cache_flush(struct soft_cpu *cpu);

/* memory_code_written_fn; context: struct soft_vm. */
void cache_code_written(void *context, gpa_t gpa, uint64_t length);

/* build.c: decodes a block at CS:RIP, whose first byte is at gpa; trace: beyond forward Jcc, where
 * cache_goes_on. SOFT_OK with *ret NULL: the arena is full. SOFT_FAULT: the
 * fetch of the first instruction faults. */
int block_build(struct soft_cpu *cpu, gpa_t gpa, uint32_t key, bool trace,
                struct interp_block **ret);
/* cache.c: may a trace from gpa go on behind this operation? It is a forward Jcc, and what follows
 * has been decoded, that is, has run (not asked for when blocks are translated before they run). */
bool cache_goes_on(struct soft_cpu *cpu, gpa_t gpa, uint32_t key, const struct interp_op *op);
/* From the arena; NULL when it is full. */
void *cache_alloc(struct soft_cpu *cpu, size_t size);
/* Invariant 1, for [gpa, gpa + length) inside one page. False: not RAM (or no memory for the bits).
 */
bool cache_mark(struct soft_cpu *cpu, gpa_t gpa, unsigned length);

#endif
