/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of mmu/ share. Nobody else includes this. */
#ifndef LODGE_SOFT_MMU_INTERNAL_H
#define LODGE_SOFT_MMU_INTERNAL_H

#include "soft/mmu/mmu.h"

#define PAGE_FAULT_PRESENT  (1u << 0)
#define PAGE_FAULT_WRITE    (1u << 1)
#define PAGE_FAULT_USER     (1u << 2)
#define PAGE_FAULT_RESERVED (1u << 3)
#define PAGE_FAULT_FETCH    (1u << 4)

/* What a walk found. */
struct mmu_walk {
    gpa_t gpa;       /* of the byte asked for */
    bool user;       /* U/S set at every level */
    bool writable;   /* R/W set at every level */
    bool no_execute; /* XD set at some level */
    bool global;
    bool accessed;  /* the bit is set at every level */
    bool dirty;     /* a cached write needs no further walk */
    uint8_t shift;  /* of the page size: 12, 21, 22, 30 */
    uint32_t error; /* of the page fault, when the walk fails */
};

/* A translated byte. */
struct mmu_page {
    gpa_t gpa;
    uint8_t *host;      /* of the byte; NULL: not RAM */
    uint8_t *code_byte; /* NULL with host */
    struct memory_slot *slot;
};

/* Walks the guest's tables. side_effects: set accessed and dirty bits. false: ret->error. */
bool mmu_walk(struct soft_cpu *cpu, gva_t address, enum mmu_access access, enum mmu_class class,
              bool side_effects, struct mmu_walk *ret);

/* TLB or walk; fills the TLB; SOFT_FAULT with #PF recorded. */
enum soft_result mmu_translate(struct soft_cpu *cpu, gva_t address, enum mmu_access access,
                               enum mmu_class class, struct mmu_page *ret);

static inline enum mmu_class mmu_class_of(const struct soft_cpu *cpu, bool user)
{
    if (user)
        return MMU_CLASS_USER;
    return (cpu->cr4 & CPU_CR4_SMAP) && !(cpu->rflags & CPU_FLAG_AC) ? MMU_CLASS_SUPERVISOR_SMAP
                                                                     : MMU_CLASS_SUPERVISOR;
}

static inline enum mmu_class mmu_class_system(const struct soft_cpu *cpu)
{
    return cpu->cr4 & CPU_CR4_SMAP ? MMU_CLASS_SUPERVISOR_SMAP : MMU_CLASS_SUPERVISOR;
}

#endif
