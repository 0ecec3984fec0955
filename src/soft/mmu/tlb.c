/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translation lookaside buffers: fill, address-space numbers, invalidation. mmu_state.h says
 * how tags work.
 *
 * Forgetting too much is always allowed (SDM 3A 4.10.4), too little never is: whole address spaces
 * are forgotten by drawing a new number; single pages by clearing the entry in every table. Entries
 * cut from a large page lie at up to 512 indexes (more for 1 GiB): a filter says whether any exist
 * near the address, and only then everything is forgotten.
 */
#include "soft/mmu/mmu_internal.h"
#include "soft/translate/translate.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint16_t number_draw(struct soft_mmu *mmu)
{
    if (mmu->next_number == MMU_TAG_NEVER) {
        memset(mmu->data_table, 0, sizeof(mmu->data_table));
        memset(mmu->fetch_table, 0, sizeof(mmu->fetch_table));
        memset(mmu->pcid_slot, 0, sizeof(mmu->pcid_slot));
        mmu->next_number = 1;
    }
    return mmu->next_number++;
}

static unsigned current_pcid(const struct soft_cpu *cpu)
{
    return cpu->cr4 & CPU_CR4_PCIDE ? cpu->cr3 & 0xfff : 0;
}

/* What the fast path compares with, from the numbers and whether it may be used at all. */
static void tags_set(struct soft_cpu *cpu)
{
    struct soft_mmu *mmu = &cpu->mmu;
    bool slow = mmu->alignment_check || mmu->watch;

    mmu->tag[0] = slow ? MMU_TAG_NEVER : mmu->number[0];
    mmu->tag[1] = slow ? MMU_TAG_NEVER : mmu->number[1];
}

/* Draws both numbers; a wrap in between would leave the first one behind, so retry. */
static void numbers_renew(struct soft_mmu *mmu)
{
    if (mmu->next_number >= MMU_TAG_NEVER - 1)
        mmu->next_number = MMU_TAG_NEVER;
    mmu->number[0] = number_draw(mmu);
    mmu->number[1] = number_draw(mmu);
    mmu->upper_private = false;
    mmu->nr_private = 0;
    mmu->epoch[0]++;
    mmu->epoch[1]++;
}

static bool tag_is_page(uint64_t tag, gva_t address)
{
    return !((tag ^ address) & ~GUEST_PAGE_MASK);
}

static void data_forget(struct soft_mmu *mmu, gva_t address)
{
    unsigned index = (address >> GUEST_PAGE_SHIFT) & (MMU_DATA_ENTRIES - 1);

    for (unsigned class = 0; class < MMU_NR_CLASSES; class ++) {
        struct mmu_entry *entry = &mmu->data_table[class][index];

        if (tag_is_page(entry->read_tag, address))
            entry->read_tag = 0;
        if (tag_is_page(entry->write_tag, address))
            entry->write_tag = 0;
    }
}

static void private_add(struct soft_mmu *mmu, gva_t address, bool data)
{
    gva_t page = address & ~GUEST_PAGE_MASK;

    if (!data)
        mmu->upper_private = true;
    for (unsigned i = 0; i < mmu->nr_private; i++)
        if (mmu->private_page[i] == page)
            return;
    if (mmu->nr_private == MMU_PRIVATE_MAX)
        mmu->upper_private = true;
    else
        mmu->private_page[mmu->nr_private++] = page;
}

/* Forgets the upper half's non-global pages one by one; false: that cannot be. */
static bool private_forget(struct soft_cpu *cpu)
{
    struct soft_mmu *mmu = &cpu->mmu;

    if (mmu->upper_private)
        return false;
    for (unsigned i = 0; i < mmu->nr_private; i++) {
        data_forget(mmu, mmu->private_page[i]);
        if (cpu->translate)
            translate_data_flushed(cpu, mmu->private_page[i]);
    }
    mmu->nr_private = 0;
    return true;
}

static void lower_renew(struct soft_cpu *cpu)
{
    struct soft_mmu *mmu = &cpu->mmu;
    unsigned slot;

    if (mmu->next_number >= MMU_TAG_NEVER - 1 || !private_forget(cpu)) {
        numbers_renew(mmu);
    } else {
        mmu->number[0] = number_draw(mmu);
        mmu->epoch[0]++;
    }
    for (slot = 0; slot < MMU_PCID_SLOTS; slot++)
        if (mmu->pcid_slot[slot].number && mmu->pcid_slot[slot].pcid == current_pcid(cpu))
            break;
    if (slot == MMU_PCID_SLOTS)
        slot = mmu->next_pcid_slot++ % MMU_PCID_SLOTS;
    mmu->pcid_slot[slot].pcid = (uint16_t)current_pcid(cpu);
    mmu->pcid_slot[slot].number = mmu->number[0];
}

static void flushed(struct soft_cpu *cpu)
{
    cpu->mmu.flushes++;
    cpu->counters.tlb_flushes++;
    tags_set(cpu);
}

void mmu_flush_all(struct soft_cpu *cpu)
{
    struct soft_mmu *mmu = &cpu->mmu;

    memset(mmu->pcid_slot, 0, sizeof(mmu->pcid_slot));
    memset(mmu->large_filter, 0, sizeof(mmu->large_filter));
    memset(mmu->huge_filter, 0, sizeof(mmu->huge_filter));
    numbers_renew(mmu);
    mmu->pcid_slot[0].pcid = (uint16_t)current_pcid(cpu);
    mmu->pcid_slot[0].number = mmu->number[0];
    mmu->next_pcid_slot = 1;
    flushed(cpu);
}

void mmu_flush_non_global(struct soft_cpu *cpu)
{
    memset(cpu->mmu.pcid_slot, 0, sizeof(cpu->mmu.pcid_slot));
    lower_renew(cpu);
    flushed(cpu);
}

void mmu_flush_pcid(struct soft_cpu *cpu, unsigned pcid)
{
    struct soft_mmu *mmu = &cpu->mmu;

    for (unsigned i = 0; i < MMU_PCID_SLOTS; i++)
        if (mmu->pcid_slot[i].number && mmu->pcid_slot[i].pcid == pcid)
            mmu->pcid_slot[i].number = 0;
    /* Upper-half entries of other PCIDs are never kept, see mmu_cr3_loaded. */
    if (pcid == current_pcid(cpu))
        lower_renew(cpu);
    flushed(cpu);
}

void mmu_cr3_loaded(struct soft_cpu *cpu, bool keep)
{
    struct soft_mmu *mmu = &cpu->mmu;
    unsigned pcid = current_pcid(cpu);

    if (keep) {
        for (unsigned i = 0; i < MMU_PCID_SLOTS; i++) {
            if (!mmu->pcid_slot[i].number || mmu->pcid_slot[i].pcid != pcid)
                continue;
            if (mmu->upper_private && mmu->next_number < MMU_TAG_NEVER - 1) {
                mmu->number[1] = number_draw(mmu);
                mmu->upper_private = false;
                mmu->nr_private = 0;
                mmu->epoch[1]++;
            }
            if (private_forget(cpu)) {
                mmu->number[0] = mmu->pcid_slot[i].number;
                mmu->epoch[0]++;
                mmu->flushes++;
                tags_set(cpu);
                return;
            }
        }
    }
    lower_renew(cpu);
    flushed(cpu);
}

static bool large_filter_has(const struct soft_mmu *mmu, gva_t address)
{
    uint64_t region = address >> 21;

    return (mmu->large_filter[address >> 63][(region / 64) % MMU_LARGE_FILTER] >> (region % 64) &
            1) ||
           (mmu->huge_filter[address >> 63] >> ((address >> 30) % 64) & 1);
}

static void large_filter_add(struct soft_mmu *mmu, gva_t address, unsigned shift)
{
    uint64_t region = address >> 21;

    if (shift == 30)
        mmu->huge_filter[address >> 63] |= UINT64_C(1) << ((address >> 30) % 64);
    else if (shift == 22)
        mmu->large_filter[address >> 63][(region / 64) % MMU_LARGE_FILTER] |=
            UINT64_C(3) << (region % 64 & ~1ull);
    else if (shift > GUEST_PAGE_SHIFT)
        mmu->large_filter[address >> 63][(region / 64) % MMU_LARGE_FILTER] |= UINT64_C(1)
                                                                              << (region % 64);
}

void mmu_flush_page(struct soft_cpu *cpu, gva_t address)
{
    struct soft_mmu *mmu = &cpu->mmu;
    unsigned index = (address >> GUEST_PAGE_SHIFT) & (MMU_FETCH_ENTRIES - 1);

    if (large_filter_has(mmu, address)) {
        mmu_flush_all(cpu);
        return;
    }
    data_forget(mmu, address);
    for (unsigned user = 0; user < 2; user++)
        if (tag_is_page(mmu->fetch_table[user][index].tag, address))
            mmu->fetch_table[user][index].tag = 0;
    if (cpu->translate)
        translate_page_flushed(cpu, address);
    mmu->flushes++;
}

void mmu_context_changed(struct soft_cpu *cpu)
{
    struct soft_mmu *mmu = &cpu->mmu;
    bool user = cpu->cpl == 3;
    enum mmu_class class = mmu_class_of(cpu, user);

    mmu->current_class = class;
    mmu->data = mmu->data_table[class];
    mmu->fetch = mmu->fetch_table[user];
    mmu->alignment_check = user && (cpu->cr0 & CPU_CR0_AM) && (cpu->rflags & CPU_FLAG_AC);
    mmu->watch = false;
    for (unsigned i = 0; i < 4; i++)
        if ((cpu->dr[7] >> (2 * i) & 3) && (cpu->dr[7] >> (16 + 4 * i) & 1))
            mmu->watch = true;
    tags_set(cpu);
}

void mmu_init(struct soft_cpu *cpu)
{
    memset(&cpu->mmu, 0, sizeof(cpu->mmu));
    cpu->mmu.next_number = 1;
    mmu_flush_all(cpu);
    mmu_context_changed(cpu);
}

void mmu_done(struct soft_cpu *cpu)
{
    (void)cpu; /* the tables are part of the vCPU */
}

static void fill_data(struct soft_cpu *cpu, gva_t address, enum mmu_class class,
                      const struct mmu_walk *walk, const struct mmu_page *page)
{
    struct mmu_entry *entry =
        &cpu->mmu.data_table[class][(address >> GUEST_PAGE_SHIFT) & (MMU_DATA_ENTRIES - 1)];
    uint64_t tag = (address & ~GUEST_PAGE_MASK) | cpu->mmu.number[address >> 63];
    bool writable = walk->writable || (class != MMU_CLASS_USER && !(cpu->cr0 & CPU_CR0_WP));

    entry->read_tag = tag;
    entry->write_tag = writable && walk->dirty && !page->slot->read_only && !page->slot->dirty_log
                           ? tag
                           : 0;
    entry->addend = (uintptr_t)page->host - address;
    entry->code_byte = page->code_byte;
}

static void fill_fetch(struct soft_cpu *cpu, gva_t address, enum mmu_class class,
                       const struct mmu_page *page)
{
    struct mmu_fetch_entry *entry =
        &cpu->mmu.fetch_table[class == MMU_CLASS_USER]
                             [(address >> GUEST_PAGE_SHIFT) & (MMU_FETCH_ENTRIES - 1)];

    entry->tag = (address & ~GUEST_PAGE_MASK) | cpu->mmu.number[address >> 63];
    entry->gpa = page->gpa & ~GUEST_PAGE_MASK;
    entry->host = page->host - (page->gpa & GUEST_PAGE_MASK);
    entry->code_byte = page->code_byte;
}

enum soft_result mmu_translate(struct soft_cpu *cpu, gva_t address, enum mmu_access access,
                               enum mmu_class class, struct mmu_page *ret)
{
    struct mmu_walk walk;
    uint64_t page;

    cpu->counters.tlb_misses++;
    if (!mmu_walk(cpu, address, access, class, true, &walk))
        return fault_raise_page(cpu, address, walk.error);
    ret->gpa = walk.gpa;
    ret->host = NULL;
    ret->code_byte = NULL;
    ret->slot = memory_slot_find(cpu->vm->memory, walk.gpa);
    if (!ret->slot)
        return SOFT_OK;
    page = (walk.gpa - ret->slot->gpa) >> GUEST_PAGE_SHIFT;
    ret->host = ret->slot->host + (walk.gpa - ret->slot->gpa);
    ret->code_byte = &ret->slot->code_map[page];
    large_filter_add(&cpu->mmu, address, walk.shift);
    if ((address >> 63) && !walk.global)
        private_add(&cpu->mmu, address, access != MMU_FETCH);
    if (access == MMU_FETCH)
        fill_fetch(cpu, address, class, ret);
    else
        fill_data(cpu, address, class, &walk, ret);
    return SOFT_OK;
}

bool mmu_code_page_mark(struct soft_vm *vm, gpa_t gpa)
{
    struct memory_slot *slot = memory_slot_find(vm->memory, gpa);
    uint8_t *byte;

    if (!slot)
        return false;
    byte = &slot->code_map[(gpa - slot->gpa) >> GUEST_PAGE_SHIFT];
    if (__atomic_load_n(byte, __ATOMIC_ACQUIRE) == 1)
        return true;
    __atomic_store_n(byte, 2, __ATOMIC_SEQ_CST);
    /* Registering again is free of effect; without it the barrier is refused. */
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) &&
        (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) ||
         syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0)))
        syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0, 0);
    __atomic_store_n(byte, 1, __ATOMIC_RELEASE);
    return true;
}
