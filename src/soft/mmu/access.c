/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-virtual accesses: the general path behind mmu_fast.h. Segment checks, alignment check,
 * translation of every page touched before anything is written, then RAM or the device bus.
 *
 * Invariants:
 *  1. An access touches at most two pages (size <= 4096).
 *  2. RAM is written through page.host only, and followed by page_written.
 *  3. Sizes 1, 2, 4, 8 inside one page are one host access, and one bus access where there is no
 * RAM.
 * Threads: the vCPU's own.
 *
 * Source: SDM 3A 4.6, 4.7, 6.15 (#AC), 8.1.1 (atomicity), 17.2.4 (data breakpoints).
 */
#include "soft/mmu/mmu_internal.h"

/* The parts of an access, one a page. */
struct parts {
    unsigned nr;
    struct mmu_page page[2];
    unsigned length[2];
};

static enum soft_result parts_translate(struct soft_cpu *cpu, gva_t address, unsigned size,
                                        enum mmu_access access, enum mmu_class class,
                                        struct parts *ret)
{
    unsigned first = (unsigned)(GUEST_PAGE_SIZE - (address & GUEST_PAGE_MASK));
    enum soft_result result;
    gva_t second;

    ret->nr = 1;
    ret->length[0] = MIN(size, first);
    result = mmu_translate(cpu, address, access, class, &ret->page[0]);
    if (result || LIKELY(size <= first))
        return result;
    second = address + first;
    if (cpu->mode != SOFT_MODE_LONG64 && !(cpu->efer & CPU_EFER_LMA))
        second = (uint32_t)second;
    ret->nr = 2;
    ret->length[1] = size - first;
    return mmu_translate(cpu, second, access, class, &ret->page[1]);
}

static void host_copy(void *to, const void *from, unsigned size)
{
    switch (size) {
    case 1:
        *(volatile uint8_t *)to = *(const volatile uint8_t *)from;
        break;
#define COPY(bits)                                       \
    ((volatile struct mmu_unaligned##bits *)to)->value = \
        ((const volatile struct mmu_unaligned##bits *)from)->value
    case 2:
        COPY(16);
        break;
    case 4:
        COPY(32);
        break;
    case 8:
        COPY(64);
        break;
#undef COPY
    default:
        memcpy(to, from, size);
    }
}

/* Bus accesses are of 1, 2, 4 or 8 bytes; longer ones are split, low addresses first. */
static unsigned bus_piece(unsigned length)
{
    return length >= 8 ? 8 : length >= 4 ? 4 : length >= 2 ? 2 : 1;
}

/* What #AC asks for (SDM 3A table 6-7): vectors 16 bytes, x87 environments their words. */
static unsigned natural_alignment(unsigned size)
{
    return size > 10 ? MIN(size & -size, 16u) : bus_piece(size);
}

static void page_read(struct soft_cpu *cpu, const struct mmu_page *page, uint8_t *data,
                      unsigned length)
{
    const struct cpu_bus *bus = cpu->vm->config->bus;

    if (LIKELY(page->host)) {
        host_copy(data, page->host, length);
        return;
    }
    for (unsigned done = 0, piece; done < length; done += piece) {
        piece = bus_piece(length - done);
        memset(data + done, 0xff, piece);
        bus->mmio_read(bus->context, cpu->cpu.index, page->gpa + done, data + done, piece);
        cpu->counters.mmio_accesses++;
    }
}

static void page_written(struct soft_cpu *cpu, const struct mmu_page *page, unsigned length)
{
    if (page->slot->dirty_log || __atomic_load_n(page->code_byte, __ATOMIC_RELAXED))
        memory_written(cpu->vm->memory, page->gpa, length);
}

static void page_write(struct soft_cpu *cpu, const struct mmu_page *page, const uint8_t *data,
                       unsigned length)
{
    const struct cpu_bus *bus = cpu->vm->config->bus;

    if (LIKELY(page->host)) {
        if (page->slot->read_only)
            return;
        host_copy(page->host, data, length);
        page_written(cpu, page, length);
        return;
    }
    for (unsigned done = 0, piece; done < length; done += piece) {
        piece = bus_piece(length - done);
        bus->mmio_write(bus->context, cpu->cpu.index, page->gpa + done, data + done, piece);
        cpu->counters.mmio_accesses++;
    }
}

static enum soft_result load(struct soft_cpu *cpu, gva_t address, enum mmu_class class, void *data,
                             unsigned size)
{
    struct parts parts;
    enum soft_result result = parts_translate(cpu, address, size, MMU_READ, class, &parts);

    if (result)
        return result;
    page_read(cpu, &parts.page[0], data, parts.length[0]);
    if (parts.nr == 2)
        page_read(cpu, &parts.page[1], (uint8_t *)data + parts.length[0], parts.length[1]);
    return SOFT_OK;
}

static enum soft_result store(struct soft_cpu *cpu, gva_t address, enum mmu_class class,
                              const void *data, unsigned size)
{
    struct parts parts;
    enum soft_result result = parts_translate(cpu, address, size, MMU_WRITE, class, &parts);

    if (result)
        return result;
    page_write(cpu, &parts.page[0], data, parts.length[0]);
    if (parts.nr == 2)
        page_write(cpu, &parts.page[1], (const uint8_t *)data + parts.length[0], parts.length[1]);
    return SOFT_OK;
}

/* Records hits of armed data breakpoints (SDM 3B 17.2.5: ranges overlap). */
static void watch_check(struct soft_cpu *cpu, gva_t address, unsigned size, bool write)
{
    static const uint8_t lengths[4] = {1, 2, 8, 4};

    for (unsigned i = 0; i < 4; i++) {
        unsigned type = cpu->dr[7] >> (16 + 4 * i) & 3;
        unsigned length = lengths[cpu->dr[7] >> (18 + 4 * i) & 3];
        uint64_t start = cpu->dr[i] & ~(uint64_t)(length - 1);

        if (!(cpu->dr[7] >> (2 * i) & 3) || !(type == 3 || (type == 1 && write)))
            continue;
        if (address < start + length && start < address + size)
            cpu->debug_hits |= UINT64_C(1) << i;
    }
}

/* Segment checks, then #AC. */
static enum soft_result explicit_linear(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                        unsigned size, enum mmu_access access, gva_t *ret)
{
    enum soft_result result = mmu_linear(cpu, segment, offset, size, access, ret);

    if (result)
        return result;
    if (UNLIKELY(cpu->mmu.alignment_check)) {
        unsigned alignment = natural_alignment(size);

        if (*ret & (alignment - 1))
            return fault_raise_error(cpu, CPU_VECTOR_AC, 0);
    }
    return SOFT_OK;
}

enum soft_result mmu_load(struct soft_cpu *cpu, unsigned segment, uint64_t offset, void *data,
                          unsigned size)
{
    const void *host = mmu_host_read_fast(cpu, segment, offset, size);
    enum soft_result result;
    gva_t address;

    if (LIKELY(host)) {
        host_copy(data, host, size);
        return SOFT_OK;
    }
    result = explicit_linear(cpu, segment, offset, size, MMU_READ, &address);
    if (!result)
        result = load(cpu, address, cpu->mmu.current_class, data, size);
    if (!result && UNLIKELY(cpu->mmu.watch))
        watch_check(cpu, address, size, false);
    return result;
}

enum soft_result mmu_store(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                           const void *data, unsigned size)
{
    uint8_t *code_byte;
    uint8_t *host = mmu_host_write_fast(cpu, segment, offset, size, &code_byte);
    enum soft_result result;
    gva_t address;

    if (LIKELY(host)) {
        host_copy(host, data, size);
        if (UNLIKELY(__atomic_load_n(code_byte, __ATOMIC_RELAXED)))
            mmu_written_host(cpu, host, size);
        return SOFT_OK;
    }
    result = explicit_linear(cpu, segment, offset, size, MMU_WRITE, &address);
    if (!result)
        result = store(cpu, address, cpu->mmu.current_class, data, size);
    if (!result && UNLIKELY(cpu->mmu.watch))
        watch_check(cpu, address, size, true);
    return result;
}

enum soft_result mmu_probe_store(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                 unsigned size)
{
    uint8_t *code_byte;
    enum soft_result result;
    struct parts parts;
    gva_t address;

    if (LIKELY(mmu_host_write_fast(cpu, segment, offset, size, &code_byte)))
        return SOFT_OK;
    result = explicit_linear(cpu, segment, offset, size, MMU_WRITE, &address);
    if (result)
        return result;
    return parts_translate(cpu, address, size, MMU_WRITE, cpu->mmu.current_class, &parts);
}

enum soft_result mmu_probe_load(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                unsigned size)
{
    enum soft_result result;
    struct parts parts;
    gva_t address;

    if (LIKELY(mmu_host_read_fast(cpu, segment, offset, size)))
        return SOFT_OK;
    result = explicit_linear(cpu, segment, offset, size, MMU_READ, &address);
    if (result)
        return result;
    return parts_translate(cpu, address, size, MMU_READ, cpu->mmu.current_class, &parts);
}

enum soft_result mmu_rmw_begin_slow(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                    unsigned size, void **ret)
{
    struct parts parts;
    gva_t address;
    enum soft_result result = explicit_linear(cpu, segment, offset, size, MMU_WRITE, &address);

    if (!result)
        result = parts_translate(cpu, address, size, MMU_WRITE, cpu->mmu.current_class, &parts);
    if (result)
        return result;
    *ret = NULL;
    if (parts.nr == 2 || !parts.page[0].host || parts.page[0].slot->read_only ||
        parts.page[0].slot->dirty_log || cpu->mmu.watch ||
        ((uintptr_t)parts.page[0].host & 63) + size > 64)
        return SOFT_OK;
    cpu->mmu.rmw_code_byte = parts.page[0].code_byte;
    *ret = parts.page[0].host;
    return SOFT_OK;
}

void mmu_written_host(struct soft_cpu *cpu, const uint8_t *host, unsigned length)
{
    struct memory *memory = cpu->vm->memory;
    const struct memory_slot *slot = memory_slot_at(memory, host);

    if (slot)
        memory_written(memory, slot->gpa + (uint64_t)(host - slot->host), length);
}

/* Host address of [address, address + size) where the TLB has it for a class; segments, #AC and
 * watchpoints do not concern these accesses. */
static void *cached(const struct soft_cpu *cpu, gva_t address, unsigned size, enum mmu_class class,
                    bool write, uint8_t **ret_code_byte)
{
    const struct mmu_entry *entry =
        &cpu->mmu.data_table[class][(address >> GUEST_PAGE_SHIFT) & (MMU_DATA_ENTRIES - 1)];
    uint64_t tag = ((address + size - 1) & ~GUEST_PAGE_MASK) | cpu->mmu.number[address >> 63];

    if ((write ? entry->write_tag : entry->read_tag) != tag)
        return NULL;
    *ret_code_byte = entry->code_byte;
    return (void *)(entry->addend + address); /* NOLINT(performance-no-int-to-ptr) */
}

static enum soft_result load_as(struct soft_cpu *cpu, gva_t address, enum mmu_class class,
                                void *data, unsigned size)
{
    uint8_t *code_byte;
    const void *host = cached(cpu, address, size, class, false, &code_byte);

    if (UNLIKELY(!host))
        return load(cpu, address, class, data, size);
    host_copy(data, host, size);
    return SOFT_OK;
}

static enum soft_result store_as(struct soft_cpu *cpu, gva_t address, enum mmu_class class,
                                 const void *data, unsigned size)
{
    uint8_t *code_byte;
    uint8_t *host = cached(cpu, address, size, class, true, &code_byte);

    if (UNLIKELY(!host))
        return store(cpu, address, class, data, size);
    host_copy(host, data, size);
    if (UNLIKELY(__atomic_load_n(code_byte, __ATOMIC_RELAXED)))
        mmu_written_host(cpu, host, size);
    return SOFT_OK;
}

static enum soft_result probe_as(struct soft_cpu *cpu, gva_t address, enum mmu_class class,
                                 unsigned size)
{
    struct parts parts;
    uint8_t *code_byte;

    if (LIKELY(cached(cpu, address, size, class, true, &code_byte)))
        return SOFT_OK;
    return parts_translate(cpu, address, size, MMU_WRITE, class, &parts);
}

enum soft_result mmu_load_system(struct soft_cpu *cpu, gva_t address, void *data, unsigned size)
{
    return load_as(cpu, address, mmu_class_system(cpu), data, size);
}

enum soft_result mmu_store_system(struct soft_cpu *cpu, gva_t address, const void *data,
                                  unsigned size)
{
    return store_as(cpu, address, mmu_class_system(cpu), data, size);
}

enum soft_result mmu_probe_store_system(struct soft_cpu *cpu, gva_t address, unsigned size)
{
    return probe_as(cpu, address, mmu_class_system(cpu), size);
}

enum soft_result mmu_load_linear(struct soft_cpu *cpu, gva_t address, bool user, void *data,
                                 unsigned size)
{
    return load_as(cpu, address, mmu_class_of(cpu, user), data, size);
}

enum soft_result mmu_store_linear(struct soft_cpu *cpu, gva_t address, bool user, const void *data,
                                  unsigned size)
{
    return store_as(cpu, address, mmu_class_of(cpu, user), data, size);
}

enum soft_result mmu_probe_store_linear(struct soft_cpu *cpu, gva_t address, bool user,
                                        unsigned size)
{
    return probe_as(cpu, address, mmu_class_of(cpu, user), size);
}

enum soft_result mmu_host_range(struct soft_cpu *cpu, gva_t address, enum mmu_access access,
                                void **ret, unsigned *ret_length)
{
    enum mmu_class class = cpu->mmu.current_class;
    const struct mmu_entry *entry = mmu_entry_at(cpu, address);
    uint64_t tag = mmu_wanted_tag(cpu, address, 1);
    enum soft_result result;
    struct mmu_page page;

    *ret = NULL;
    *ret_length = 0;
    if (access != MMU_FETCH && (entry->read_tag == tag) &&
        (access == MMU_READ || entry->write_tag == tag)) {
        *ret = (void *)(entry->addend + address); /* NOLINT(performance-no-int-to-ptr) */
        *ret_length = (unsigned)(GUEST_PAGE_SIZE - (address & GUEST_PAGE_MASK));
        return SOFT_OK;
    }
    if (access != MMU_FETCH && (cpu->mmu.watch || cpu->mmu.alignment_check))
        return SOFT_OK;
    result = mmu_translate(cpu, address, access, class, &page);
    if (result || !page.host)
        return result;
    if (access == MMU_WRITE && (page.slot->read_only || page.slot->dirty_log))
        return SOFT_OK;
    *ret = page.host;
    *ret_length = (unsigned)(GUEST_PAGE_SIZE - (address & GUEST_PAGE_MASK));
    return SOFT_OK;
}

enum soft_result mmu_fetch(struct soft_cpu *cpu, uint64_t rip, uint8_t *bytes, unsigned most,
                           unsigned *ret_length, gpa_t *ret_gpa)
{
    const struct mmu_fetch_entry *entry;
    enum soft_result result;
    struct mmu_page page;
    gva_t address;

    result = mmu_linear(cpu, CPU_CS, rip, 1, MMU_FETCH, &address);
    if (result)
        return result;
    most = MIN(most, (unsigned)(GUEST_PAGE_SIZE - (address & GUEST_PAGE_MASK)));
    if (cpu->mode != SOFT_MODE_LONG64)
        most = (unsigned)MIN((uint64_t)most, cpu->segment[CPU_CS].limit - rip + 1);
    *ret_length = most;
    entry = mmu_fetch_fast(cpu, address);
    if (LIKELY(entry)) {
        memcpy(bytes, entry->host + (address & GUEST_PAGE_MASK), most);
        *ret_gpa = entry->gpa | (address & GUEST_PAGE_MASK);
        return SOFT_OK;
    }
    result = mmu_translate(cpu, address, MMU_FETCH, cpu->mmu.current_class, &page);
    if (result)
        return result;
    page_read(cpu, &page, bytes, most);
    *ret_gpa = page.host ? page.gpa : UINT64_MAX;
    return SOFT_OK;
}
