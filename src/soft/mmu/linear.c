/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segment checks: from segment:offset to a linear address.
 *
 * Source: SDM 3A 5.3 (limits), 5.4 (types), 3.3.7.1 (canonical addresses); 20.1 (real mode).
 */
#include "soft/mmu/mmu_internal.h"

#define TYPE_WRITE_OR_READ 2u /* data: writable; code: readable */
#define TYPE_EXPAND_DOWN   4u
#define TYPE_CODE          8u

static enum soft_result segment_fault(struct soft_cpu *cpu, unsigned segment)
{
    return fault_raise_error(cpu, segment == CPU_SS ? CPU_VECTOR_SS : CPU_VECTOR_GP, 0);
}

static bool canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

static bool limit_allows(const struct cpu_segment *segment, uint64_t offset, unsigned size)
{
    uint64_t last = offset + size - 1;
    bool expand_down = (segment->attributes & (TYPE_CODE | TYPE_EXPAND_DOWN)) == TYPE_EXPAND_DOWN;

    if (expand_down)
        return offset > segment->limit &&
               last <= (segment->attributes & CPU_SEGMENT_DB ? 0xffffffff : 0xffff);
    return last <= segment->limit;
}

static bool type_allows(const struct cpu_segment *segment, enum mmu_access access)
{
    bool code = segment->attributes & TYPE_CODE;

    switch (access) {
    case MMU_READ:
        return !code || (segment->attributes & TYPE_WRITE_OR_READ);
    case MMU_WRITE:
        return !code && (segment->attributes & TYPE_WRITE_OR_READ);
    case MMU_FETCH:
        return true;
    }
    return false;
}

static enum soft_result linear_long(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                    unsigned size, gva_t *ret)
{
    gva_t address = offset;

    if (segment >= CPU_FS)
        address += cpu->segment[segment].base;
    if (UNLIKELY(!canonical(address) || !canonical(address + size - 1)))
        return segment_fault(cpu, segment);
    *ret = address;
    return SOFT_OK;
}

enum soft_result mmu_linear(struct soft_cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
                            enum mmu_access access, gva_t *ret)
{
    const struct cpu_segment *s = &cpu->segment[segment];

    if (cpu->mode == SOFT_MODE_LONG64)
        return linear_long(cpu, segment, offset, size, ret);
    if (cpu->mode >= SOFT_MODE_PROTECTED &&
        ((s->attributes & CPU_SEGMENT_UNUSABLE) || !type_allows(s, access)))
        return segment_fault(cpu, segment);
    if (offset > 0xffffffff || !limit_allows(s, offset, size)) {
        /* A flat segment wraps: its limit is never exceeded. */
        if (offset > 0xffffffff || s->limit != 0xffffffff ||
            (s->attributes & (TYPE_CODE | TYPE_EXPAND_DOWN)) == TYPE_EXPAND_DOWN)
            return segment_fault(cpu, segment);
    }
    *ret = (uint32_t)(s->base + offset);
    return SOFT_OK;
}
