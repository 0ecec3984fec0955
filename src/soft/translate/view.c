/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What generated code sees of guest memory: which pages its loads and stores may touch, for each
 * class of accesses.
 *
 *   flat tables   addend by the low bits of the address: what the code asks first. Sparse; guard.c
 *                 says why the upper bits need no compare
 *   exact tables  1024 entries with tags, for what the flat tables do not tell: accesses near the
 * end of a page, pages without guard, locked operations
 *
 * view_fill is the only writer of entries that lead anywhere, and writes both. When mmu.epoch of a
 * half of the address space has moved, view_sync forgets that half of the class before generated
 * code is entered. When a page becomes code, every vCPU forgets its stores
 * (translate_stores_revoke_*). What the guest can make the flat tables cost is bounded: at
 * FLAT_TOUCHED_MAX pages of them all are dropped.
 *
 * Threads: the vCPU's own; translate_stores_revoke_* any, under soft_vm.code_lock.
 */
#include "soft/translate/translate_internal.h"

#include "base/cleanup.h"
#include "base/sanitizer.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

/* Index of a linear address: bits 12..20, and which half it is in. */
#define INDEX_MASK UINT64_C(0x8000001ff000)
/* Bytes of a table of loads, or of stores; and of the map of what was touched of it. */
#define FLAT_TOUCHED_SIZE ((FLAT_SIZE >> 12) / 8)
#define FLAT_TOUCHED_MAX  2048u
#define PLACES_TRIED      128u
#define PLACES_START      (UINT64_C(1) << 45)
#define PLACES_STEP       (UINT64_C(1) << 36)

static unsigned page_index(uint64_t address)
{
    return (unsigned)((address >> 12 & 511) | (address >> 47 & 1) << 9); /* INDEX_MASK */
}

/* Of a class's memory: aligned, with flat tables around it. */
static size_t class_size(const struct translate *translate)
{
    size_t tables = translate->flat ? WINDOW_TABLE_SIZE + 2 * FLAT_SIZE : 0;

    return tables + sizeof(struct translate_class) + LARGE_PAGE;
}

/* Where no program expects its own memory, if that is free: window.c. */
static void *class_place(size_t size)
{
    /* ThreadSanitizer has most addresses for itself. */
    for (unsigned i = SANITIZER_THREAD ? PLACES_TRIED : 0; i < PLACES_TRIED; i++) {
        void *at = (void *)(uintptr_t)(PLACES_START + i * PLACES_STEP); /* NOLINT */
        void *map = mmap(at, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

        if (map == at)
            return map;
        if (map != MAP_FAILED)
            munmap(map, size);
    }
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0);
}

/* The three classes, their first pages one; with flat tables around each, if there is room. */
static int class_map(struct translate *translate, unsigned number, int fd)
{
    size_t size = class_size(translate);
    uint8_t *map = class_place(size);

    if (map == MAP_FAILED)
        return -errno;
    translate->class_map[number] = map;
    madvise(map, size, MADV_NOHUGEPAGE);
    madvise(map, size, MADV_DONTDUMP);
    map += translate->flat ? WINDOW_TABLE_SIZE + FLAT_SIZE : 0;
    map = (uint8_t *)align_up((uintptr_t)map, LARGE_PAGE); /* NOLINT */
    translate->region[number] = (void *)map;
    /* Kernels with SMAP are seldom without it: a few of that table's pages are used. */
    if (number != MMU_CLASS_SUPERVISOR)
        madvise(translate->region[number]->jump_tag, LARGE_PAGE, MADV_HUGEPAGE);
    if (mmap(&translate->region[number]->hot, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             fd, 0) == MAP_FAILED)
        return -errno;
    if (!translate->flat)
        return 0;
    map = mmap(NULL, FLAT_TOUCHED_SIZE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -errno;
    translate->flat_touched[number] = (void *)map;
    return 0;
}

static void classes_unmap(struct translate *translate)
{
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        if (translate->flat_touched[i])
            munmap(translate->flat_touched[i], FLAT_TOUCHED_SIZE);
        translate->flat_touched[i] = NULL;
        if (translate->class_map[i])
            munmap(translate->class_map[i], class_size(translate));
        translate->class_map[i] = NULL;
        translate->region[i] = NULL;
    }
}

static int classes_map(struct translate *translate, bool flat)
{
    CLEANUP(fd_closep) int fd = memfd_create("lodge-vcpu", MFD_CLOEXEC);
    int error = 0;

    if (fd < 0 || ftruncate(fd, 4096) < 0)
        return -errno;
    translate->flat = flat;
    for (unsigned i = 0; i < MMU_NR_CLASSES && !error; i++)
        error = class_map(translate, i, fd);
    if (error)
        classes_unmap(translate);
    else
        translate->hot = &translate->region[0]->hot;
    return error;
}

/* The granule before a page leads there, too (seams.c). */
static void flat_stores_clear(struct translate *translate, unsigned number, uint64_t page)
{
    uint64_t before = page - GUEST_PAGE_SIZE;

    memset(flat_stores(translate, number, page), 0, FLAT_PAGE * sizeof(uint64_t));
    if (flat_is_touched(translate, number, before))
        flat_stores(translate, number, before)[FLAT_PAGE - 1] = 0;
}

static void flat_clear(struct translate *translate, unsigned number, uint64_t page)
{
    uint64_t before = page - GUEST_PAGE_SIZE;

    memset(flat_loads(translate, number, page), 0, FLAT_PAGE * sizeof(uint64_t));
    if (flat_is_touched(translate, number, before))
        flat_loads(translate, number, before)[FLAT_PAGE - 1] = 0;
    flat_stores_clear(translate, number, page);
}

/* All pages of a half, with those before them. */
static void flat_flush(struct translate *translate, unsigned number, unsigned half)
{
    for (uint32_t i = 0; i < translate->nr_flat_log[number][half]; i++) {
        uint64_t page = translate->flat_log[number][half][i];

        memset(flat_loads(translate, number, page), 0, FLAT_PAGE * sizeof(uint64_t));
        memset(flat_stores(translate, number, page), 0, FLAT_PAGE * sizeof(uint64_t));
    }
    translate->nr_flat_log[number][half] = 0;
}

static void class_flush(struct translate *translate, unsigned number, unsigned half)
{
    struct translate_class *region = translate->region[number];
    unsigned first = half * (TRANSLATE_INDEX / 2);
    size_t size = sizeof(region->read_tag) / 2;

    memcpy(region->read_tag + first, translate->no_tag + first, size);
    memcpy(region->write_tag + first, translate->no_tag + first, size);
    flat_flush(translate, number, half);
}

/* New memory in the place of the old: what MADV_DONTNEED leaves are the host's page tables, which
 * would come to as much as 1/512 of these terabytes. */
static void map_anew(uint8_t *at, size_t size)
{
    void *map = mmap(at, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

    if (map == MAP_FAILED) { /* as it was */
        madvise(at, size, MADV_DONTNEED);
        return;
    }
    madvise(at, size, MADV_NOHUGEPAGE);
    madvise(at, size, MADV_DONTDUMP);
}

/* Gives the memory of the flat tables back. */
static void flat_drop(struct translate *translate)
{
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        uint8_t *class = (uint8_t *)translate->region[i];

        translate->nr_flat_log[i][0] = translate->nr_flat_log[i][1] = 0;
        class_flush(translate, i, 0);
        class_flush(translate, i, 1);
        map_anew(class - FLAT_SIZE, FLAT_SIZE);
        map_anew(class + FLAT_LOAD, FLAT_SIZE);
        madvise(translate->flat_touched[i], FLAT_TOUCHED_SIZE, MADV_DONTNEED);
    }
    translate->nr_flat_touched = 0;
}

/* Generated code has looked for this page in the flat tables. */
static void flat_touch(struct translate *translate, unsigned number, uint64_t page)
{
    uint64_t bit = flat_granule(number, page) >> (FLAT_TOUCHED_SHIFT - FLAT_SHIFT);

    if (!translate->flat || flat_is_touched(translate, number, page))
        return;
    if (translate->nr_flat_touched == FLAT_TOUCHED_MAX)
        flat_drop(translate);
    translate->nr_flat_touched++;
    translate->flat_touched[number][bit / 64] |= UINT64_C(1) << (bit % 64);
}

static uint32_t host_hash(uint64_t host)
{
    return (uint32_t)(host >> GUEST_PAGE_SHIFT);
}

static void flat_fill(struct soft_cpu *cpu, unsigned number, uint64_t page, uint64_t addend,
                      bool write)
{
    struct translate *translate = cpu->translate;
    uint64_t *loads = flat_loads(translate, number, page);
    uint64_t *stores = flat_stores(translate, number, page);
    unsigned half = page >> 63;

    if (loads[0] != addend) {
        if (translate->nr_flat_log[number][half] == FLAT_LOG)
            class_flush(translate, number, half);
        translate->flat_host[number][half][translate->nr_flat_log[number][half]] =
            host_hash(addend + page);
        translate->flat_log[number][half][translate->nr_flat_log[number][half]++] = page;
    }
    flat_clear(translate, number, page);
    for (unsigned i = 0; i < FLAT_PAGE - 1; i++) {
        loads[i] = addend;
        stores[i] = write ? addend : 0;
    }
    seam_keep(cpu, number, page);
    seam_keep(cpu, number, page - GUEST_PAGE_SIZE);
}

int view_init(struct soft_vm *vm, struct translate *translate)
{
    int error;

    guards_reserve(vm);
    error = classes_map(translate, true);
    if (error)
        error = classes_map(translate, false);
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
    translate->hot->flat_mask = FLAT_KERNEL_MASK;
    translate->hot->flat_user_mask = FLAT_USER_MASK;
    translate->hot->window_mask = WINDOW_MASK;
    for (unsigned i = 0; i < ARRAY_LEN(translate->hot->check_mask); i++)
        translate->hot->check_mask[i] = ~GUEST_PAGE_MASK | ((UINT64_C(1) << i) - 1);
    return 0;
}

void view_done(struct translate *translate)
{
    classes_unmap(translate);
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
        if (number == MMU_CLASS_USER && !half)
            window_changed(cpu);
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
        if (translate->flat && flat_is_touched(translate, i, address))
            flat_clear(translate, i, address & ~GUEST_PAGE_MASK);
    }
    window_page_gone(translate, address);
}

void translate_page_flushed(struct soft_cpu *cpu, gva_t address)
{
    struct translate *translate = cpu->translate;

    translate_data_flushed(cpu, address);
    jumps_page_flush(translate, address);
    returns_half_forget(translate, address >> 63);
    links_page_cut(translate, address);
}

#define REVOKE_ALL UINT64_MAX

static void stores_flush(struct translate *translate)
{
    window_clear(translate);
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        memcpy(translate->region[i]->write_tag, translate->no_tag, sizeof(translate->no_tag));
        for (unsigned half = 0; half < 2; half++)
            for (uint32_t j = 0; j < translate->nr_flat_log[i][half]; j++)
                memset(flat_stores(translate, i, translate->flat_log[i][half][j]), 0,
                       FLAT_PAGE * sizeof(uint64_t));
    }
}

/* The same for the page that lies at `host`. */
static void stores_page_flush(struct translate *translate, uint64_t host)
{
    uint32_t hash = host_hash(host);

    window_host_revoke(translate, host);
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        struct translate_class *region = translate->region[i];

        for (unsigned j = 0; j < TRANSLATE_INDEX; j++)
            if (region->addend[j] - region->write_tag[j] == host)
                region->write_tag[j] = translate->no_tag[j];
        for (unsigned half = 0; half < 2; half++)
            for (uint32_t j = 0; j < translate->nr_flat_log[i][half]; j++)
                if (translate->flat_host[i][half][j] == hash)
                    flat_stores_clear(translate, i, translate->flat_log[i][half][j]);
    }
}

void view_obey(struct translate *translate)
{
    uint64_t revoke = __atomic_load_n(&translate->revoke, __ATOMIC_RELAXED);

    while (UNLIKELY(revoke)) {
        if (revoke == REVOKE_ALL)
            stores_flush(translate);
        else
            stores_page_flush(translate, revoke);
        /* A second page may have come. */
        if (__atomic_compare_exchange_n(&translate->revoke, &revoke, 0, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            break;
    }
}

void translate_stores_revoke_begin(struct soft_vm *vm, const void *host)
{
    uint64_t page = (uintptr_t)host & ~GUEST_PAGE_MASK;

    for (unsigned i = 0; i < vm->config->nr_cpus; i++) {
        struct soft_cpu *cpu = __atomic_load_n(&vm->cpus[i], __ATOMIC_ACQUIRE);
        uint64_t none = 0;

        if (!cpu || !cpu->translate)
            continue;
        if (!__atomic_compare_exchange_n(&cpu->translate->revoke, &none, page, false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            __atomic_store_n(&cpu->translate->revoke, REVOKE_ALL, __ATOMIC_SEQ_CST);
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

/* A store to this page follows. */
static void page_touched(struct soft_cpu *cpu, const uint8_t *host)
{
    struct memory_slot *slot = memory_slot_at(cpu->vm->memory, host);

    if (slot)
        memory_touch(cpu->vm->memory, slot, (uint64_t)(host - slot->host));
}

bool view_fill(struct soft_cpu *cpu, bool write, bool *ret_fault)
{
    struct translate *translate = cpu->translate;
    uint64_t address = translate->hot->address, page = address & ~GUEST_PAGE_MASK;
    unsigned number = cpu->mmu.current_class, index = page_index(address);
    struct translate_class *region = translate->region[number];
    const struct mmu_entry *entry;
    unsigned length;
    void *host;
    uint64_t tag;

    *ret_fault = false;
    flat_touch(translate, number, address);
    if ((int64_t)(address << 16) >> 16 != (int64_t)address)
        return false;
    *ret_fault = mmu_host_range(cpu, address, write ? MMU_WRITE : MMU_READ, &host, &length) ==
                 SOFT_FAULT;
    if (*ret_fault)
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
    if (write)
        page_touched(cpu, host);
    if (translate->flat && guard_covers(cpu->vm, (uint8_t *)(uintptr_t)(entry->addend + page)))
        flat_fill(cpu, number, page, entry->addend, region->write_tag[index] == -page);
    return !write || region->write_tag[index] == -page;
}

/* Has this page been passed a while ago? From now on it has. */
static bool passed_before(struct translate *translate, unsigned number, uint64_t address)
{
    uint64_t hash = ((address >> GUEST_PAGE_SHIFT) * MMU_NR_CLASSES + number) *
                    UINT64_C(0x9e3779b97f4a7c15);
    uint32_t *mark = &translate->passed[hash >> 32 & (TRANSLATE_PASSED - 1)];
    bool before = *mark == (uint32_t)hash;

    *mark = (uint32_t)hash;
    return before;
}

/* Where pages are copied or cleared, tables for single accesses would fill with what nobody looks
 * for again. */
bool view_pass(struct soft_cpu *cpu, bool write, bool *ret_fault)
{
    uint64_t address = cpu->translate->hot->address;
    const struct mmu_entry *entry = mmu_entry_at(cpu, address);
    unsigned length;
    void *host;

    if (passed_before(cpu->translate, cpu->mmu.current_class, address))
        return view_fill(cpu, write, ret_fault);
    *ret_fault = false;
    if ((int64_t)(address << 16) >> 16 != (int64_t)address)
        return false;
    *ret_fault = mmu_host_range(cpu, address, write ? MMU_WRITE : MMU_READ, &host, &length) ==
                 SOFT_FAULT;
    cpu->counters.translated_fills++;
    if (write && host)
        page_touched(cpu, host);
    return !*ret_fault &&
           (write ? entry->write_tag : entry->read_tag) == mmu_wanted_tag(cpu, address, 1) &&
           !(write && __atomic_load_n(entry->code_byte, __ATOMIC_SEQ_CST));
}
