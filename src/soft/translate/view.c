/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What generated code sees of guest memory: the tables of pages that its loads and stores may
 * touch, one set a class.
 *
 * view_fill is the only writer of entries that lead anywhere. When mmu.epoch of a half of the
 * address space has moved, view_sync forgets that half of the class before generated code is
 * entered. When a page becomes code, every vCPU forgets its stores (translate_stores_revoke_*).
 *
 * Threads: the vCPU's own; translate_stores_revoke_* any, under soft_vm.code_lock.
 */
#include "soft/translate/translate_internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

/* Index of a linear address: bits 12..20, and which half it is in. */
#define INDEX_MASK UINT64_C(0x8000001ff000)

static unsigned page_index(uint64_t address)
{
    return (unsigned)((address >> 12 & 511) | (address >> 47 & 1) << 9); /* INDEX_MASK */
}

/* The three classes, their first pages one. */
static int classes_map(struct translate *translate)
{
    CLEANUP(fd_closep) int fd = memfd_create("lodge-vcpu", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, 4096) < 0)
        return -errno;
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        void *map = mmap(NULL, sizeof(struct translate_class), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (map == MAP_FAILED)
            return -errno;
        translate->region[i] = map;
        if (mmap(map, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
            return -errno;
    }
    translate->hot = &translate->region[0]->hot;
    return 0;
}

static void class_flush(struct translate *translate, unsigned number, unsigned half)
{
    struct translate_class *region = translate->region[number];
    unsigned first = half * (TRANSLATE_INDEX / 2);
    size_t size = sizeof(region->read_tag) / 2;

    memcpy(region->read_tag + first, translate->no_tag + first, size);
    memcpy(region->write_tag + first, translate->no_tag + first, size);
}

int view_init(struct translate *translate)
{
    int error = classes_map(translate);

    if (error)
        return error;
    /* Of a page two away from any with this index: the distance has page bits even when the last
     * byte of an access is in the next page. */
    for (uint64_t i = 0; i < TRANSLATE_INDEX; i++)
        translate->no_tag[i] = -(((i ^ 2) & 511) << 12);
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        class_flush(translate, i, 0);
        class_flush(translate, i, 1);
    }
    translate->hot->index_mask = INDEX_MASK;
    for (unsigned i = 0; i < ARRAY_LEN(translate->hot->check_mask); i++)
        translate->hot->check_mask[i] = ~GUEST_PAGE_MASK | ((UINT64_C(1) << i) - 1);
    return 0;
}

void view_done(struct translate *translate)
{
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++)
        if (translate->region[i])
            munmap(translate->region[i], sizeof(struct translate_class));
}

void view_sync(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    unsigned number = cpu->mmu.current_class;

    for (unsigned half = 0; half < 2; half++) {
        if (LIKELY(translate->hot->seen_epoch[number][half] == cpu->mmu.epoch[half]))
            continue;
        translate->hot->seen_epoch[number][half] = cpu->mmu.epoch[half];
        class_flush(translate, number, half);
        jumps_half_flush(translate, number, half);
        returns_half_forget(translate, half);
        links_half_cut(translate, half);
    }
}

void translate_data_flushed(struct soft_cpu *cpu, gva_t address)
{
    struct translate *translate = cpu->translate;
    unsigned index = page_index(address);

    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        struct translate_class *region = translate->region[i];

        region->read_tag[index] = translate->no_tag[index];
        region->write_tag[index] = translate->no_tag[index];
    }
}

void translate_page_flushed(struct soft_cpu *cpu, gva_t address)
{
    struct translate *translate = cpu->translate;

    translate_data_flushed(cpu, address);
    jumps_page_flush(translate, address);
    returns_half_forget(translate, address >> 63);
    links_page_cut(translate, address);
}

static void stores_flush(struct translate *translate)
{
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++)
        memcpy(translate->region[i]->write_tag, translate->no_tag, sizeof(translate->no_tag));
}

void view_obey(struct translate *translate)
{
    if (LIKELY(!__atomic_load_n(&translate->revoke, __ATOMIC_RELAXED)))
        return;
    stores_flush(translate);
    __atomic_store_n(&translate->revoke, 0, __ATOMIC_RELEASE);
}

void translate_stores_revoke_begin(struct soft_vm *vm)
{
    for (unsigned i = 0; i < vm->config->nr_cpus; i++) {
        struct soft_cpu *cpu = __atomic_load_n(&vm->cpus[i], __ATOMIC_ACQUIRE);

        if (!cpu || !cpu->translate)
            continue;
        __atomic_store_n(&cpu->translate->revoke, 1, __ATOMIC_SEQ_CST);
        translate_kick(cpu);
    }
}

void translate_stores_revoke_wait(struct soft_vm *vm)
{
    for (unsigned i = 0; i < vm->config->nr_cpus; i++) {
        struct soft_cpu *cpu = __atomic_load_n(&vm->cpus[i], __ATOMIC_ACQUIRE);

        if (!cpu || !cpu->translate)
            continue;
        while (__atomic_load_n(&cpu->translate->inside, __ATOMIC_ACQUIRE) &&
               __atomic_load_n(&cpu->translate->revoke, __ATOMIC_ACQUIRE)) {
            translate_kick(cpu);
            sched_yield();
        }
    }
}

bool view_fill(struct soft_cpu *cpu, bool write)
{
    struct translate *translate = cpu->translate;
    uint64_t address = translate->hot->address, page = address & ~GUEST_PAGE_MASK;
    struct translate_class *region = translate->region[cpu->mmu.current_class];
    unsigned index = page_index(address);
    const struct mmu_entry *entry;
    unsigned length;
    void *host;
    uint64_t tag;

    if ((int64_t)(address << 16) >> 16 != (int64_t)address ||
        mmu_host_range(cpu, address, write ? MMU_WRITE : MMU_READ, &host, &length))
        return false;
    entry = mmu_entry_at(cpu, address);
    tag = page | cpu->mmu.tag[address >> 63];
    if (entry->read_tag != tag)
        return false;
    if (region->read_tag[index] == -page && (!write || region->write_tag[index] == -page))
        return false; /* it is there: something else is the matter */
    cpu->counters.translated_fills++;
    region->addend[index] = entry->addend;
    region->read_tag[index] = -page;
    region->write_tag[index] = translate->no_tag[index];
    if (entry->write_tag == tag && !__atomic_load_n(entry->code_byte, __ATOMIC_SEQ_CST))
        region->write_tag[index] = -page;
    return !write || region->write_tag[index] == -page;
}
