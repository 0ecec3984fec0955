/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inline path of data accesses: a compare, an add and the host's own load or store. Included by
 * mmu.h. Everything that is not an access inside one cached page of RAM through a flat segment goes
 * to the functions of mmu.h: other pages, page-crossing (the tag compare sees the last byte's
 * page), armed data breakpoints and #AC (the current tag then matches nothing), MMIO, read-only
 * slots, dirty logging.
 *
 * Code pages. A page becomes code when a vCPU sets its code_map byte, executes a barrier on every
 * thread of the process (membarrier, in mmu_code_page_mark) and only then reads the bytes that it
 * decodes. A store writes first and looks at the code_map byte afterwards, without a fence. So
 * either the decoder saw the new bytes, or the store sees the byte set and calls mmu_written, which
 * leads to the engine's code_written: the fence of the usual store-then-look pair is paid by the
 * rare side alone. No vCPU has to drop its write entries, nobody waits for anybody.
 */
#ifndef LODGE_SOFT_MMU_MMU_FAST_H
#define LODGE_SOFT_MMU_MMU_FAST_H

#include "base/sanitizer.h"
#include "base/util.h"
#include "soft/soft_cpu.h"

/* Segments that cpu->flat_segments covers for reading and writing (CS is not writable outside
 * 64-bit mode). */
#define MMU_FLAT_SEGMENTS ((1u << CPU_ES) | (1u << CPU_SS) | (1u << CPU_DS))

/* Linear address of an access that needs no segment checks; false: take the slow path. */
static inline bool mmu_linear_fast(const struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                   uint64_t *ret)
{
    if (UNLIKELY(!cpu->flat_segments))
        return false;
    *ret = offset;
    if (LIKELY((MMU_FLAT_SEGMENTS >> segment) & 1u))
        return true;
    if (cpu->mode != SOFT_MODE_LONG64)
        return false;
    if (segment >= CPU_FS)
        *ret = offset + cpu->segment[segment].base;
    return true;
}

static inline struct mmu_entry *mmu_entry_at(const struct soft_cpu *cpu, uint64_t linear)
{
    return &cpu->mmu.data[(linear >> GUEST_PAGE_SHIFT) & (MMU_DATA_ENTRIES - 1)];
}

/* The tag that an entry must have to serve [linear, linear + size), size <= 4096: that of the last
 * byte's page. An access that crosses looks it up at the first page's index, where it cannot be. */
static inline uint64_t mmu_wanted_tag(const struct soft_cpu *cpu, uint64_t linear, unsigned size)
{
    return ((linear + size - 1) & ~GUEST_PAGE_MASK) | cpu->mmu.tag[linear >> 63];
}

/* Host address of a cached readable (writable) range, or NULL. */
static inline void *mmu_host_read_fast(const struct soft_cpu *cpu, unsigned segment,
                                       uint64_t offset, unsigned size)
{
    const struct mmu_entry *entry;
    uint64_t linear;

    if (UNLIKELY(!mmu_linear_fast(cpu, segment, offset, &linear)))
        return NULL;
    entry = mmu_entry_at(cpu, linear);
    if (UNLIKELY(entry->read_tag != mmu_wanted_tag(cpu, linear, size)))
        return NULL;
    return (void *)(entry->addend + linear); /* NOLINT(performance-no-int-to-ptr) */
}

static inline void *mmu_host_write_fast(const struct soft_cpu *cpu, unsigned segment,
                                        uint64_t offset, unsigned size, uint8_t **ret_code_byte)
{
    const struct mmu_entry *entry;
    uint64_t linear;

    if (UNLIKELY(!mmu_linear_fast(cpu, segment, offset, &linear)))
        return NULL;
    entry = mmu_entry_at(cpu, linear);
    if (UNLIKELY(entry->write_tag != mmu_wanted_tag(cpu, linear, size)))
        return NULL;
    *ret_code_byte = entry->code_byte;
    return (void *)(entry->addend + linear); /* NOLINT(performance-no-int-to-ptr) */
}

/* One host access each, aligned or not (the host's own rules of atomicity are the guest's). */
#define MMU_DEFINE_ACCESS(bits)                                                                    \
    struct mmu_unaligned##bits {                                                                   \
        uint##bits##_t value;                                                                      \
    } __attribute__((packed, may_alias));                                                          \
    RACES_BY_DESIGN static inline enum soft_result mmu_load##bits(                                 \
        struct soft_cpu *cpu, unsigned segment, uint64_t offset, uint##bits##_t *ret)              \
    {                                                                                              \
        const volatile struct mmu_unaligned##bits *host = mmu_host_read_fast(cpu, segment, offset, \
                                                                             (bits) / 8);          \
                                                                                                   \
        if (UNLIKELY(!host))                                                                       \
            return mmu_load(cpu, segment, offset, ret, (bits) / 8);                                \
        *ret = host->value;                                                                        \
        return SOFT_OK;                                                                            \
    }                                                                                              \
    RACES_BY_DESIGN static inline enum soft_result mmu_store##bits(                                \
        struct soft_cpu *cpu, unsigned segment, uint64_t offset, uint##bits##_t value)             \
    {                                                                                              \
        uint8_t *code_byte;                                                                        \
        volatile struct mmu_unaligned##bits *host = mmu_host_write_fast(cpu, segment, offset,      \
                                                                        (bits) / 8, &code_byte);   \
                                                                                                   \
        if (UNLIKELY(!host))                                                                       \
            return mmu_store(cpu, segment, offset, &value, (bits) / 8);                            \
        host->value = value;                                                                       \
        if (UNLIKELY(__atomic_load_n(code_byte, __ATOMIC_RELAXED)))                                \
            mmu_written_host(cpu, (uint8_t *)(uintptr_t)host, (bits) / 8);                         \
        return SOFT_OK;                                                                            \
    }
MMU_DEFINE_ACCESS(8)
MMU_DEFINE_ACCESS(16)
MMU_DEFINE_ACCESS(32)
MMU_DEFINE_ACCESS(64)
#undef MMU_DEFINE_ACCESS

/*
 * A host pointer for a read-modify-write (one host atomic, or a plain one without LOCK) at
 * segment:offset, checked for writing; the caller's operation is followed by mmu_rmw_done. *ret is
 * NULL when no single host access can do it (it crosses a cache line or a page; MMIO; a watched
 * address; dirty log): a LOCKed operation then holds vm->bus_lock and uses mmu_probe_store,
 * mmu_load and mmu_store.
 */
static inline enum soft_result mmu_rmw_begin(struct soft_cpu *cpu, unsigned segment,
                                             uint64_t offset, unsigned size, void **ret)
{
    void *host = mmu_host_write_fast(cpu, segment, offset, size, &cpu->mmu.rmw_code_byte);

    if (LIKELY(host) && LIKELY(((uintptr_t)host & 63) + size <= 64)) {
        *ret = host;
        return SOFT_OK;
    }
    return mmu_rmw_begin_slow(cpu, segment, offset, size, ret);
}

/* host: what mmu_rmw_begin gave, not NULL. */
static inline void mmu_rmw_done(struct soft_cpu *cpu, void *host, unsigned size)
{
    if (UNLIKELY(__atomic_load_n(cpu->mmu.rmw_code_byte, __ATOMIC_RELAXED)))
        mmu_written_host(cpu, host, size);
}

/* Guest-physical address (and host address) of the page that holds instruction bytes at `linear`,
 * when it is cached. A caller that keeps what it decoded under the physical address asks this at
 * every entry of a page. */
static inline const struct mmu_fetch_entry *mmu_fetch_fast(const struct soft_cpu *cpu,
                                                           uint64_t linear)
{
    const struct mmu_fetch_entry *entry =
        &cpu->mmu.fetch[(linear >> GUEST_PAGE_SHIFT) & (MMU_FETCH_ENTRIES - 1)];
    uint64_t tag = (linear & ~GUEST_PAGE_MASK) | cpu->mmu.number[linear >> 63];

    return LIKELY(entry->tag == tag) ? entry : NULL;
}

#endif
