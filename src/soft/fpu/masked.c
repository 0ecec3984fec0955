/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector instructions with a memory access per element: VGATHER*, VPGATHER*, VMASKMOV*, VPMASKMOV*,
 * MASKMOVQ, MASKMOVDQU. No element whose mask bit is clear is accessed, so it cannot fault.
 *
 * Gathers go from the lowest element up and keep what is done: an element that was loaded is in the
 * destination and its mask is cleared when a later one faults (SDM 2C VGATHER). Masked loads and
 * stores check everything first.
 */
#include "soft/fpu/fpu_internal.h"

#include <string.h>

struct vector {
    uint8_t bytes[32];
};

static struct vector get(const struct fpu_area *area, unsigned n)
{
    struct vector v;

    memcpy(v.bytes, area->xmm[n], 16);
    memcpy(v.bytes + 16, area->ymm_high[n], 16);
    return v;
}

static void set(struct fpu_area *area, unsigned n, const struct vector *v)
{
    memcpy(area->xmm[n], v->bytes, 16);
    memcpy(area->ymm_high[n], v->bytes + 16, 16);
}

static bool mask_bit(const struct vector *mask, unsigned element, unsigned size)
{
    return mask->bytes[(element + 1) * size - 1] & 0x80;
}

static uint64_t gather_offset(const struct soft_cpu *cpu, const struct insn *insn,
                              const struct vector *index, unsigned element, unsigned index_size)
{
    const struct insn_mem *mem = &insn->mem;
    uint64_t address = (uint64_t)mem->displacement;
    int64_t value;

    if (mem->base != INSN_NO_REG)
        address += cpu->gpr[mem->base];
    if (index_size == 4)
        value = (int32_t)load_le32(index->bytes + element * 4u);
    else
        value = (int64_t)load_le64(index->bytes + element * 8u);
    address += (uint64_t)value * mem->scale;
    if (insn->address_size != 8)
        address &= insn->address_size == 4 ? UINT32_MAX : UINT16_MAX;
    return address;
}

static enum soft_result gather(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    unsigned destination = insn_reg_number(insn), mask_reg = insn->vex_vvvv & 15;
    unsigned size = insn->vex_w ? 8 : 4;
    unsigned index_size = insn->opcode & 1 ? 8 : 4;
    unsigned count = (insn->vex_l ? 32u : 16u) / MAX(size, index_size);
    struct vector index, mask, data;

    if (fpu_check_vector(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    if (destination == mask_reg || destination == insn->mem.index || mask_reg == insn->mem.index)
        return fault_raise(cpu, CPU_VECTOR_UD);
    index = get(area, insn->mem.index & 15);
    mask = get(area, mask_reg);
    data = get(area, destination);
    for (unsigned i = 0; i < count; i++) {
        uint64_t offset;

        if (!mask_bit(&mask, i, size)) {
            memset(mask.bytes + i * size, 0, size);
            continue;
        }
        offset = gather_offset(cpu, insn, &index, i, index_size);
        if (mmu_load(cpu, insn->mem.segment, offset, data.bytes + i * size, size) != SOFT_OK) {
            set(area, destination, &data);
            set(area, mask_reg, &mask);
            return SOFT_FAULT;
        }
        memset(mask.bytes + i * size, 0, size);
    }
    memset(mask.bytes, 0, sizeof(mask.bytes));
    memset(data.bytes + count * size, 0, sizeof(data.bytes) - count * size);
    set(area, destination, &data);
    set(area, mask_reg, &mask);
    return SOFT_OK;
}

/* Accesses by element are never checked for alignment. */
static enum soft_result unaligned(struct soft_cpu *cpu, const struct insn *insn,
                                  soft_handler_fn *run)
{
    bool check = cpu->mmu.alignment_check;
    enum soft_result result;

    cpu->mmu.alignment_check = false;
    result = run(cpu, insn);
    cpu->mmu.alignment_check = check;
    return result;
}

enum soft_result fpu_run_gather(struct soft_cpu *cpu, const struct insn *insn)
{
    return unaligned(cpu, insn, gather);
}

static enum soft_result maskmov_store(struct soft_cpu *cpu, const struct insn *insn,
                                      const struct vector *mask, unsigned size, unsigned total)
{
    struct vector data = get(&cpu->fpu.area, insn_reg_number(insn));
    uint64_t offset = fpu_address(cpu, insn);

    for (unsigned i = 0; i * size < total; i++)
        if (mask_bit(mask, i, size) &&
            mmu_probe_store(cpu, insn->mem.segment, fpu_address_add(insn, offset, i * size),
                            size) != SOFT_OK)
            return SOFT_FAULT;
    for (unsigned i = 0; i * size < total; i++)
        if (mask_bit(mask, i, size) &&
            mmu_store(cpu, insn->mem.segment, fpu_address_add(insn, offset, i * size),
                      data.bytes + i * size, size) != SOFT_OK)
            return SOFT_FAULT;
    return SOFT_OK;
}

static enum soft_result maskmov_vex(struct soft_cpu *cpu, const struct insn *insn)
{
    bool integer = insn->opcode >= 0x8c;
    bool store = integer ? insn->opcode == 0x8e : insn->opcode >= 0x2e;
    unsigned size = integer ? (insn->vex_w ? 8 : 4) : (insn->opcode & 1 ? 8 : 4);
    unsigned total = insn->vex_l ? 32 : 16;
    struct vector mask, data = {{0}};
    uint64_t offset = fpu_address(cpu, insn);

    if (fpu_check_vector(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    mask = get(&cpu->fpu.area, insn->vex_vvvv & 15);
    if (store)
        return maskmov_store(cpu, insn, &mask, size, total);
    for (unsigned i = 0; i * size < total; i++)
        if (mask_bit(&mask, i, size) &&
            mmu_load(cpu, insn->mem.segment, fpu_address_add(insn, offset, i * size),
                     data.bytes + i * size, size) != SOFT_OK)
            return SOFT_FAULT;
    set(&cpu->fpu.area, insn_reg_number(insn), &data);
    return SOFT_OK;
}

enum soft_result fpu_run_maskmov_vex(struct soft_cpu *cpu, const struct insn *insn)
{
    return unaligned(cpu, insn, maskmov_vex);
}

/* MASKMOVQ, MASKMOVDQU: bytes at DS:rDI (the segment may be overridden). */
enum soft_result fpu_run_maskmov_bytes(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    bool mmx = insn->id == INSN_MASKMOVQ;
    unsigned total = mmx ? 8 : 16;
    uint8_t data[16], mask[16];
    uint64_t offset = fpu_address_add(insn, cpu->gpr[CPU_RDI], 0);

    if ((mmx ? fpu_check_mmx(cpu, insn) : fpu_check_vector(cpu, insn)) != SOFT_OK)
        return SOFT_FAULT;
    if (mmx) {
        memcpy(data, &fpu_mmx(area, insn->modrm >> 3 & 7)->mantissa, 8);
        memcpy(mask, &fpu_mmx(area, insn->modrm & 7)->mantissa, 8);
    } else {
        memcpy(data, area->xmm[insn_reg_number(insn)], 16);
        memcpy(mask, area->xmm[insn_rm_number(insn)], 16);
    }
    if (cpu->fpu.thunks->host_is_amd) {
        if (mmx)
            fpu_mmx_enter(area);
        for (unsigned i = 0; i < total; i += 8)
            if (mmu_probe_store(cpu, insn->mem.segment, fpu_address_add(insn, offset, i), 8) !=
                SOFT_OK)
                return SOFT_FAULT;
    }
    for (unsigned i = 0; i < total; i++)
        if ((mask[i] & 0x80) &&
            mmu_probe_store(cpu, insn->mem.segment, fpu_address_add(insn, offset, i), 1) != SOFT_OK)
            return SOFT_FAULT;
    for (unsigned i = 0; i < total; i++)
        if ((mask[i] & 0x80) && mmu_store(cpu, insn->mem.segment, fpu_address_add(insn, offset, i),
                                          data + i, 1) != SOFT_OK)
            return SOFT_FAULT;
    if (mmx)
        fpu_mmx_enter(area);
    return SOFT_OK;
}
