/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software MMU's part of a vCPU: its translation lookaside buffers.
 *
 * Data accesses: one direct-mapped table per access class (user; supervisor; supervisor under
 * SMAP), so a change of CPL or EFLAGS.AC switches a pointer and flushes nothing. Instruction
 * fetches: one smaller table per privilege.
 *
 * A tag is the page's linear address with a 12-bit address-space number in its low bits. Numbers
 * come from a counter; changing the number in mmu.tag[] forgets everything at once, and a PCID that
 * comes back finds its entries again. There are two current numbers, by bit 63 of the address: the
 * upper half keeps its number across CR3 loads as long as only global pages were cached in it.
 *
 * Invariants:
 *  1. Number 0 is never current (zeroed entries match nothing); MMU_TAG_NEVER is never in an entry.
 *  2. Only RAM is cached; an entry gives host memory of one slot's page.
 *  3. write_tag is set only where the guest's dirty bit is set, the slot is writable and no dirty
 * log runs.
 * Threads: the vCPU's own.
 */
#ifndef LODGE_SOFT_MMU_STATE_H
#define LODGE_SOFT_MMU_STATE_H

#include <stdbool.h>
#include <stdint.h>

#define MMU_DATA_ENTRIES  1024u
#define MMU_FETCH_ENTRIES 256u
#define MMU_TAG_NEVER     0xfffu
#define MMU_PCID_SLOTS    16u
#define MMU_LARGE_FILTER  64u /* words */
#define MMU_PRIVATE_MAX   32u

/* enum order matters: fetch tables are indexed by (class == MMU_CLASS_USER) */
enum mmu_class {
    MMU_CLASS_SUPERVISOR,      /* CPL < 3; SMAP off or EFLAGS.AC set */
    MMU_CLASS_SUPERVISOR_SMAP, /* CPL < 3 without access to user pages; also implicit accesses */
    MMU_CLASS_USER,
    MMU_NR_CLASSES,
};

struct mmu_entry {
    uint64_t read_tag;
    uint64_t write_tag;
    uintptr_t addend;   /* host address = addend + linear address */
    uint8_t *code_byte; /* memory_slot.code_map of this page */
};

struct mmu_fetch_entry {
    uint64_t tag;
    uint64_t gpa;  /* of the page */
    uint8_t *host; /* of the page */
    uint8_t *code_byte;
};

struct soft_mmu {
    struct mmu_entry *data;        /* table of the current class: entry[0..MMU_DATA_ENTRIES) */
    struct mmu_fetch_entry *fetch; /* table of the current privilege */
    uint64_t tag[2]; /* what the fast path compares with; MMU_TAG_NEVER: everything goes slow */
    uint8_t *rmw_code_byte; /* from mmu_rmw_begin to mmu_rmw_done */

    uint16_t number[2]; /* the current address-space numbers, also while tag[] says never */
    uint16_t next_number;
    /* Non-global pages of the upper half that were cached under number[1], for data; or: too many,
     * or code. */
    uint64_t private_page[MMU_PRIVATE_MAX];
    unsigned nr_private;
    bool upper_private;
    bool alignment_check; /* CPL 3 with CR0.AM and EFLAGS.AC */
    bool watch;           /* DR7 enables a data breakpoint */
    uint8_t current_class;
    /* By bit 63 of the address: changes whenever everything cached there is forgotten (single
     * pages: translate_page_flushed). */
    uint32_t epoch[2];
    uint32_t flushes; /* changes whenever a cached translation of an instruction may have died */

    struct {
        uint16_t pcid;
        uint16_t number; /* 0: free */
    } pcid_slot[MMU_PCID_SLOTS];
    unsigned next_pcid_slot;
    /* Which regions of 2 MiB (hashed; huge: of 1 GiB) hold entries cut from larger pages: INVLPG
     * there has to forget more than one entry. By bit 63 of the address: a kernel's large pages are
     * no reason to forget all when a process unmaps something. */
    uint64_t large_filter[2][MMU_LARGE_FILTER];
    uint64_t huge_filter[2];

    struct mmu_entry data_table[MMU_NR_CLASSES][MMU_DATA_ENTRIES];
    struct mmu_fetch_entry fetch_table[2][MMU_FETCH_ENTRIES];
};

#endif
