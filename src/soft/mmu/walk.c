/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page walk: 32-bit (with 4 MiB pages, PSE-36), PAE and 4-level paging, and no paging at all.
 *
 * Invariants:
 *  1. An entry is read once (atomically) and judged from that copy: other vCPUs may write it at any
 * time.
 *  2. Tables are read and written only inside memory slots; an entry elsewhere reads as not
 * present.
 *  3. Accessed and dirty bits are set by compare-and-exchange against the copy that was judged, and
 * only when the access is allowed; if an entry changed meanwhile, the walk starts again.
 *
 * PAE page-directory pointers are read from memory on each walk, as AMD processors do; the check at
 * the load of CR3 is mode switching's.
 *
 * Source: SDM 3A 4.3-4.8; AMD APM 2 5.2-5.6.
 */
#include "soft/mmu/mmu_internal.h"

#include <errno.h>

#define ENTRY_PRESENT  (UINT64_C(1) << 0)
#define ENTRY_WRITE    (UINT64_C(1) << 1)
#define ENTRY_USER     (UINT64_C(1) << 2)
#define ENTRY_ACCESSED (UINT64_C(1) << 5)
#define ENTRY_DIRTY    (UINT64_C(1) << 6)
#define ENTRY_LARGE    (UINT64_C(1) << 7)
#define ENTRY_GLOBAL   (UINT64_C(1) << 8)
#define ENTRY_XD       (UINT64_C(1) << 63)
#define ENTRY_ADDRESS  UINT64_C(0x000ffffffffff000)

#define LEVELS_MAX 4
/* A table that other vCPUs keep changing under us: give up setting A/D bits after this many
 * restarts. */
#define RESTARTS_MAX 64

enum paging_mode { PAGING_32, PAGING_PAE, PAGING_4LEVEL };

struct table_entry {
    struct memory_slot *slot; /* NULL: not RAM */
    gpa_t gpa;
    uint64_t value;
};

struct walk {
    enum paging_mode mode;
    unsigned nr_entries;
    struct table_entry entry[LEVELS_MAX];
    uint64_t reserved_bits; /* in every entry of this mode */
};

static void *entry_host(const struct table_entry *entry)
{
    return entry->slot->host + (entry->gpa - entry->slot->gpa);
}

static void entry_read(struct soft_cpu *cpu, enum paging_mode mode, gpa_t gpa,
                       struct table_entry *ret)
{
    ret->gpa = gpa;
    ret->value = 0;
    ret->slot = memory_slot_find(cpu->vm->memory, gpa);
    if (!ret->slot)
        return;
    if (mode == PAGING_32)
        ret->value = __atomic_load_n((const uint32_t *)entry_host(ret), __ATOMIC_RELAXED);
    else
        ret->value = __atomic_load_n((const uint64_t *)entry_host(ret), __ATOMIC_RELAXED);
}

/* Sets bits in the entry if it still is what was judged. */
static bool entry_set_bits(struct soft_cpu *cpu, enum paging_mode mode, struct table_entry *entry,
                           uint64_t bits)
{
    struct memory_slot *slot = entry->slot;
    uint64_t page = (entry->gpa - slot->gpa) >> GUEST_PAGE_SHIFT;
    bool done;

    if ((entry->value & bits) == bits || slot->read_only)
        return true;
    if (mode == PAGING_32) {
        uint32_t expected = (uint32_t)entry->value;

        done = __atomic_compare_exchange_n((uint32_t *)entry_host(entry), &expected,
                                           expected | (uint32_t)bits, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    } else {
        uint64_t expected = entry->value;

        done = __atomic_compare_exchange_n((uint64_t *)entry_host(entry), &expected,
                                           expected | bits, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    }
    if (!done)
        return false;
    entry->value |= bits;
    memory_slot_mark_dirty(slot, page);
    if (__atomic_load_n(&slot->code_map[page], __ATOMIC_RELAXED))
        memory_written(cpu->vm->memory, entry->gpa, mode == PAGING_32 ? 4 : 8);
    return true;
}

static uint64_t reserved_bits(const struct soft_cpu *cpu, enum paging_mode mode)
{
    uint64_t bits = ENTRY_ADDRESS & ~cpu->vm->physical_address_mask;

    if (mode == PAGING_32)
        return 0;
    if (mode == PAGING_PAE)
        bits |= UINT64_C(0x7ff) << 52;
    if (!(cpu->efer & CPU_EFER_NXE))
        bits |= ENTRY_XD;
    return bits;
}

/* Bits that must be clear in this entry beyond walk->reserved_bits. shift: of the region that it
 * maps. */
static uint64_t entry_reserved(const struct soft_cpu *cpu, const struct walk *walk, unsigned shift,
                               uint64_t value)
{
    if (walk->mode == PAGING_32) {
        /* PSE-36: bits 20:13 are address bits 39:32, as far as there are such. */
        uint64_t high = (cpu->vm->physical_address_mask >> 32) & 0xff;

        return shift == 22 && (value & ENTRY_LARGE) && (cpu->cr4 & CPU_CR4_PSE)
                   ? (UINT64_C(1) << 21) | ((~high & 0xff) << 13)
                   : 0;
    }
    if (walk->mode == PAGING_PAE && shift == 30)
        return UINT64_C(0x1e6) | ENTRY_XD;
    if (shift == 39)
        return ENTRY_LARGE;
    if (shift > 12 && (value & ENTRY_LARGE))
        return ((UINT64_C(1) << shift) - 1) & ~UINT64_C(0x1fff);
    return 0;
}

static bool entry_is_leaf(const struct soft_cpu *cpu, const struct walk *walk, unsigned shift,
                          uint64_t value)
{
    if (shift == 12)
        return true;
    if (!(value & ENTRY_LARGE))
        return false;
    if (walk->mode == PAGING_32)
        return cpu->cr4 & CPU_CR4_PSE;
    return !(walk->mode == PAGING_PAE && shift == 30);
}

static gpa_t leaf_gpa(const struct walk *walk, unsigned shift, uint64_t value, gva_t address)
{
    uint64_t mask = (UINT64_C(1) << shift) - 1;

    if (walk->mode == PAGING_32 && shift == 22)
        return (value & 0xffc00000) | ((value >> 13) & 0xff) << 32 | (address & mask);
    if (walk->mode == PAGING_32)
        return (value & 0xfffff000) | (address & mask);
    return (value & ENTRY_ADDRESS & ~mask) | (address & mask);
}

/* Reads entries down to the leaf. false: ret->error holds P and RSVD. */
static bool descend(struct soft_cpu *cpu, struct walk *walk, gva_t address, struct mmu_walk *ret)
{
    unsigned index_bits = walk->mode == PAGING_32 ? 10 : 9;
    unsigned entry_size = walk->mode == PAGING_32 ? 4 : 8;
    unsigned shift = walk->mode == PAGING_32 ? 22 : walk->mode == PAGING_PAE ? 30 : 39;
    gpa_t table = walk->mode == PAGING_32 ? cpu->cr3 & 0xfffff000
                  : walk->mode == PAGING_PAE
                      ? cpu->cr3 & 0xffffffe0
                      : cpu->cr3 & cpu->vm->physical_address_mask & ENTRY_ADDRESS;

    ret->user = ret->writable = ret->accessed = true;
    ret->no_execute = false;
    for (walk->nr_entries = 0;; shift -= index_bits) {
        bool pdpte = walk->mode == PAGING_PAE && shift == 30;
        uint64_t index = (address >> shift) & (pdpte ? 3 : (UINT64_C(1) << index_bits) - 1);
        struct table_entry *entry = &walk->entry[walk->nr_entries++];

        entry_read(cpu, walk->mode, table + index * entry_size, entry);
        if (!(entry->value & ENTRY_PRESENT)) {
            ret->error = 0;
            return false;
        }
        if (entry->value & (walk->reserved_bits | entry_reserved(cpu, walk, shift, entry->value))) {
            ret->error = PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED;
            return false;
        }
        if (!pdpte) {
            ret->user &= (entry->value & ENTRY_USER) != 0;
            ret->writable &= (entry->value & ENTRY_WRITE) != 0;
            ret->accessed &= (entry->value & ENTRY_ACCESSED) != 0;
            ret->no_execute |= walk->mode != PAGING_32 && (entry->value & ENTRY_XD);
        }
        if (entry_is_leaf(cpu, walk, shift, entry->value)) {
            ret->gpa = leaf_gpa(walk, shift, entry->value, address);
            ret->global = (cpu->cr4 & CPU_CR4_PGE) && (entry->value & ENTRY_GLOBAL);
            ret->shift = (uint8_t)shift;
            ret->dirty = entry->value & ENTRY_DIRTY;
            return true;
        }
        table = entry->value & (walk->mode == PAGING_32 ? 0xfffff000 : ENTRY_ADDRESS);
    }
}

static bool allowed(const struct soft_cpu *cpu, enum mmu_access access, enum mmu_class class,
                    const struct mmu_walk *walk)
{
    if (class == MMU_CLASS_USER) {
        if (!walk->user)
            return false;
        return access == MMU_READ ? true : access == MMU_WRITE ? walk->writable : !walk->no_execute;
    }
    if (access == MMU_FETCH)
        return !walk->no_execute && !(walk->user && (cpu->cr4 & CPU_CR4_SMEP));
    if (class == MMU_CLASS_SUPERVISOR_SMAP && walk->user)
        return false;
    return access == MMU_READ || walk->writable || !(cpu->cr0 & CPU_CR0_WP);
}

/* false: an entry changed under us. */
static bool set_accessed_dirty(struct soft_cpu *cpu, struct walk *walk, bool dirty)
{
    for (unsigned i = 0; i < walk->nr_entries; i++) {
        bool leaf = i == walk->nr_entries - 1;

        if (walk->mode == PAGING_PAE && i == 0)
            continue;
        if (!entry_set_bits(cpu, walk->mode, &walk->entry[i],
                            ENTRY_ACCESSED | (leaf && dirty ? ENTRY_DIRTY : 0)))
            return false;
    }
    return true;
}

static bool unpaged(const struct soft_cpu *cpu, gva_t address, struct mmu_walk *ret)
{
    *ret = (struct mmu_walk){
        .gpa = address & cpu->vm->physical_address_mask,
        .user = true,
        .writable = true,
        .accessed = true,
        .dirty = true,
        .shift = GUEST_PAGE_SHIFT,
    };
    return true;
}

bool mmu_walk(struct soft_cpu *cpu, gva_t address, enum mmu_access access, enum mmu_class class,
              bool side_effects, struct mmu_walk *ret)
{
    struct walk walk;
    uint32_t error = 0;

    if (!(cpu->cr0 & CPU_CR0_PG))
        return unpaged(cpu, address, ret);
    walk.mode = !(cpu->cr4 & CPU_CR4_PAE)    ? PAGING_32
                : (cpu->efer & CPU_EFER_LMA) ? PAGING_4LEVEL
                                             : PAGING_PAE;
    walk.reserved_bits = reserved_bits(cpu, walk.mode);
    if (access == MMU_WRITE)
        error |= PAGE_FAULT_WRITE;
    if (class == MMU_CLASS_USER)
        error |= PAGE_FAULT_USER;
    if (access == MMU_FETCH &&
        ((cpu->cr4 & CPU_CR4_SMEP) || ((cpu->cr4 & CPU_CR4_PAE) && (cpu->efer & CPU_EFER_NXE))))
        error |= PAGE_FAULT_FETCH;

    for (unsigned restarts = 0;; restarts++) {
        if (!descend(cpu, &walk, address, ret)) {
            ret->error |= error;
            return false;
        }
        if (!allowed(cpu, access, class, ret)) {
            ret->error = error | PAGE_FAULT_PRESENT;
            return false;
        }
        if (!side_effects || set_accessed_dirty(cpu, &walk, access == MMU_WRITE) ||
            restarts == RESTARTS_MAX)
            break;
    }
    ret->dirty |= side_effects && access == MMU_WRITE;
    return true;
}

bool mmu_user_known(struct soft_cpu *cpu, gva_t address, struct mmu_known *ret)
{
    struct mmu_walk walk;

    if (!mmu_walk(cpu, address, MMU_READ, MMU_CLASS_USER, false, &walk) || !walk.accessed)
        return false;
    *ret = (struct mmu_known){
        .gpa = walk.gpa, .shift = walk.shift, .write = walk.writable && walk.dirty};
    return true;
}

int mmu_translate_debug(struct soft_cpu *cpu, gva_t address, gpa_t *ret)
{
    struct mmu_walk walk;

    if (!mmu_walk(cpu, address, MMU_READ, MMU_CLASS_SUPERVISOR, false, &walk))
        return -EFAULT;
    *ret = walk.gpa;
    return 0;
}
