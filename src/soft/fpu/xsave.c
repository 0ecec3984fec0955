/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FXSAVE, FXRSTOR (SDM 1 10.5) and the XSAVE family (SDM 1 13): standard and compacted format, init
 * optimisation, no modified optimisation, IA32_XSS = 0.
 *
 * Only x87, SSE and AVX exist, in the same places in both formats: AVX is at 576 wherever it is
 * present, because nothing compactable precedes it.
 *
 * FIP, FDP and FOP are saved as this host's FXSAVE saves them: always, or (AMD) only while an
 * exception is pending and as zeros else. Loading always takes them.
 */
#include "soft/fpu/fpu.h"
#include "soft/fpu/fpu_internal.h"

#include <string.h>

#define FXSAVE_SIZE 512u
#define COMPACTED   (UINT64_C(1) << 63)

/* A part of an area that goes to memory. */
struct piece {
    unsigned offset, size;
};

#define PIECES_MAX 6

struct pieces {
    struct piece piece[PIECES_MAX];
    unsigned count;
};

static void add_piece(struct pieces *pieces, unsigned offset, unsigned size)
{
    pieces->piece[pieces->count++] = (struct piece){offset, size};
}

static enum soft_result store_pieces(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset,
                                     const struct fpu_area *area, const struct pieces *pieces)
{
    for (unsigned i = 0; i < pieces->count; i++)
        if (fpu_probe_store(cpu, insn, fpu_address_add(insn, offset, pieces->piece[i].offset),
                            pieces->piece[i].size) != SOFT_OK)
            return SOFT_FAULT;
    for (unsigned i = 0; i < pieces->count; i++)
        if (fpu_store(cpu, insn, fpu_address_add(insn, offset, pieces->piece[i].offset),
                      (const uint8_t *)area + pieces->piece[i].offset,
                      pieces->piece[i].size) != SOFT_OK)
            return SOFT_FAULT;
    return SOFT_OK;
}

static bool wide_pointers(const struct insn *insn)
{
    return insn->mode == INSN_MODE_64 && (insn->rex & 8);
}

static unsigned nr_registers(const struct insn *insn)
{
    return insn->mode == INSN_MODE_64 ? 16 : 8;
}

/* The state as it goes to memory. */
static void build(const struct soft_cpu *cpu, const struct insn *insn, struct fpu_area *ret)
{
    *ret = cpu->fpu.area;
    ret->mxcsr_mask = FPU_MXCSR_MASK;
    if (!(ret->fsw & FPU_FSW_ES) && !cpu->fpu.thunks->host_saves_pointers) {
        ret->fop = 0;
        ret->fip = 0;
        ret->fdp = 0;
    } else if (!wide_pointers(insn)) {
        ret->fip = (uint32_t)ret->fip | (uint64_t)cpu->fpu.fcs << 32;
        ret->fdp = (uint32_t)ret->fdp | (uint64_t)cpu->fpu.fds << 32;
    }
}

static void load_x87(struct soft_cpu *cpu, const struct insn *insn, const struct fpu_area *from)
{
    struct fpu_area *area = &cpu->fpu.area;

    area->fcw = (from->fcw & 0x1f3f) | 0x40;
    area->fsw = from->fsw;
    area->ftw = from->ftw;
    area->fop = from->fop & 0x7ff;
    area->fip = from->fip;
    area->fdp = from->fdp;
    cpu->fpu.fcs = 0;
    cpu->fpu.fds = 0;
    if (!wide_pointers(insn)) {
        area->fip = (uint32_t)from->fip;
        area->fdp = (uint32_t)from->fdp;
        fpu_set_selectors(cpu, (uint16_t)(from->fip >> 32), (uint16_t)(from->fdp >> 32));
    }
    for (unsigned i = 0; i < 8; i++) {
        area->st[i].mantissa = from->st[i].mantissa;
        area->st[i].exponent = from->st[i].exponent;
    }
    fpu_update_es(area);
}

static void init_x87(struct soft_cpu *cpu)
{
    struct fpu_area *area = &cpu->fpu.area;

    memset(area, 0, offsetof(struct fpu_area, mxcsr));
    memset(area->st, 0, sizeof(area->st));
    area->fcw = FPU_FCW_DEFAULT;
    cpu->fpu.fcs = 0;
    cpu->fpu.fds = 0;
}

/* size: a multiple of 16. */
static bool is_zero(const void *data, size_t size)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < size; i += 16)
        if (load_le64(bytes + i) | load_le64(bytes + i + 8))
            return false;
    return true;
}

uint64_t fpu_in_use(const struct soft_cpu *cpu)
{
    const struct fpu_area *area = &cpu->fpu.area;
    uint64_t in_use = 0;

    if (area->fcw != FPU_FCW_DEFAULT || area->fsw || area->ftw || area->fop || area->fip ||
        area->fdp || !is_zero(area->st, sizeof(area->st)))
        in_use |= CPU_XCR0_X87;
    if (!is_zero(area->xmm, sizeof(area->xmm)))
        in_use |= CPU_XCR0_SSE;
    if (!is_zero(area->ymm_high, sizeof(area->ymm_high)))
        in_use |= CPU_XCR0_AVX;
    return in_use;
}

static enum soft_result check_fxsave(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset,
                                     enum mmu_access access)
{
    gva_t linear;

    if (fpu_check_x87(cpu, insn, false) != SOFT_OK ||
        mmu_linear(cpu, insn->mem.segment, offset, 1, access, &linear) != SOFT_OK)
        return SOFT_FAULT;
    return linear & 15 ? fault_raise_error(cpu, CPU_VECTOR_GP, 0) : SOFT_OK;
}

enum soft_result fpu_run_fxsave(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = fpu_address(cpu, insn);
    struct fpu_area image;
    unsigned size = (unsigned)offsetof(struct fpu_area, xmm) + 16 * nr_registers(insn);

    if (check_fxsave(cpu, insn, offset, MMU_WRITE) != SOFT_OK ||
        fpu_probe_store(cpu, insn, offset, FXSAVE_SIZE) != SOFT_OK)
        return SOFT_FAULT;
    build(cpu, insn, &image);
    return fpu_store(cpu, insn, offset, &image, size);
}

enum soft_result fpu_run_fxrstor(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = fpu_address(cpu, insn);
    struct fpu_area image;

    if (check_fxsave(cpu, insn, offset, MMU_READ) != SOFT_OK ||
        fpu_load(cpu, insn, offset, &image, FXSAVE_SIZE) != SOFT_OK)
        return SOFT_FAULT;
    if (image.mxcsr & ~FPU_MXCSR_MASK)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    load_x87(cpu, insn, &image);
    cpu->fpu.area.mxcsr = image.mxcsr;
    memcpy(cpu->fpu.area.xmm, image.xmm, 16u * nr_registers(insn));
    return SOFT_OK;
}

/* What all of the XSAVE family check first. */
static enum soft_result check_xsave(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset,
                                    enum mmu_access access)
{
    gva_t linear;

    if (!cpu->vm->features[insn->feature] || !(cpu->cr4 & CPU_CR4_OSXSAVE))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (cpu->cr0 & CPU_CR0_TS)
        return fault_raise(cpu, CPU_VECTOR_NM);
    if ((insn->id == INSN_XSAVES || insn->id == INSN_XRSTORS) && cpu->cpl)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    if (mmu_linear(cpu, insn->mem.segment, offset, 1, access, &linear) != SOFT_OK)
        return SOFT_FAULT;
    return linear & 63 ? fault_raise_error(cpu, CPU_VECTOR_GP, 0) : SOFT_OK;
}

/* The requested-feature bitmap: IA32_XSS being 0, the same for all. */
static uint64_t requested(const struct soft_cpu *cpu)
{
    return cpu->xcr0 & ((uint64_t)(uint32_t)cpu->gpr[CPU_RDX] << 32 | (uint32_t)cpu->gpr[CPU_RAX]);
}

static void add_components(struct pieces *pieces, const struct insn *insn, uint64_t components,
                           bool mxcsr)
{
    unsigned bytes = 16 * nr_registers(insn);

    if (components & CPU_XCR0_X87) {
        add_piece(pieces, 0, offsetof(struct fpu_area, mxcsr));
        add_piece(pieces, offsetof(struct fpu_area, st), sizeof(((struct fpu_area *)0)->st));
    }
    if (mxcsr)
        add_piece(pieces, offsetof(struct fpu_area, mxcsr), 8);
    if (components & CPU_XCR0_SSE)
        add_piece(pieces, offsetof(struct fpu_area, xmm), bytes);
    if (components & CPU_XCR0_AVX)
        add_piece(pieces, offsetof(struct fpu_area, ymm_high), bytes);
}

enum soft_result fpu_run_xsave(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = fpu_address(cpu, insn);
    uint64_t rfbm = requested(cpu), in_use = fpu_in_use(cpu);
    unsigned header = offsetof(struct fpu_area, xstate_bv);
    struct pieces pieces = {.count = 0};
    struct fpu_area image;

    if (check_xsave(cpu, insn, offset, MMU_WRITE) != SOFT_OK)
        return SOFT_FAULT;
    build(cpu, insn, &image);
    if (insn->id == INSN_XSAVE || insn->id == INSN_XSAVEOPT) {
        uint64_t old;

        if (mmu_load(cpu, insn->mem.segment, fpu_address_add(insn, offset, header), &old, 8) !=
            SOFT_OK)
            return SOFT_FAULT;
        image.xstate_bv = (old & ~rfbm) | (rfbm & in_use);
        add_piece(&pieces, header, 8);
        add_components(&pieces, insn, insn->id == INSN_XSAVE ? rfbm : rfbm & in_use,
                       rfbm & (CPU_XCR0_SSE | CPU_XCR0_AVX));
    } else {
        if (cpu->fpu.area.mxcsr != FPU_MXCSR_DEFAULT)
            in_use |= CPU_XCR0_SSE;
        image.xstate_bv = rfbm & in_use;
        image.xcomp_bv = rfbm | COMPACTED;
        add_piece(&pieces, header, 16);
        add_components(&pieces, insn, rfbm & in_use, rfbm & in_use & CPU_XCR0_SSE);
    }
    return store_pieces(cpu, insn, offset, &image, &pieces);
}

/* SDM 1 13.8.1, 13.8.2, 13.12: is this header one that the instruction takes? */
static bool header_valid(const struct soft_cpu *cpu, const struct insn *insn,
                         const struct fpu_area *image)
{
    if (!(image->xcomp_bv & COMPACTED))
        return insn->id == INSN_XRSTOR && !image->xcomp_bv && !image->reserved_528[0] &&
               !(image->xstate_bv & ~cpu->xcr0);
    if (insn->id == INSN_XRSTOR && !cpu->vm->features[INSN_FEATURE_XSAVEC])
        return false;
    return !(image->xcomp_bv & ~COMPACTED & ~cpu->xcr0) && !(image->xstate_bv & ~image->xcomp_bv) &&
           !(image->xstate_bv & COMPACTED) &&
           is_zero(image->reserved_528, sizeof(image->reserved_528));
}

static void restore(struct soft_cpu *cpu, const struct insn *insn, const struct fpu_area *image,
                    uint64_t rfbm)
{
    struct fpu_area *area = &cpu->fpu.area;
    size_t bytes = 16u * nr_registers(insn);

    if (rfbm & CPU_XCR0_X87) {
        if (image->xstate_bv & CPU_XCR0_X87)
            load_x87(cpu, insn, image);
        else
            init_x87(cpu);
    }
    if (!(image->xcomp_bv & COMPACTED)) {
        if (rfbm & (CPU_XCR0_SSE | CPU_XCR0_AVX))
            area->mxcsr = image->mxcsr;
    } else if (rfbm & CPU_XCR0_SSE) {
        area->mxcsr = image->xstate_bv & CPU_XCR0_SSE ? image->mxcsr : FPU_MXCSR_DEFAULT;
    }
    if (rfbm & image->xstate_bv & CPU_XCR0_SSE)
        memcpy(area->xmm, image->xmm, bytes);
    else if (rfbm & CPU_XCR0_SSE)
        memset(area->xmm, 0, bytes);
    if (rfbm & image->xstate_bv & CPU_XCR0_AVX)
        memcpy(area->ymm_high, image->ymm_high, bytes);
    else if (rfbm & CPU_XCR0_AVX)
        memset(area->ymm_high, 0, bytes);
}

enum soft_result fpu_run_xrstor(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = fpu_address(cpu, insn);
    uint64_t rfbm = requested(cpu);
    unsigned header_end = offsetof(struct fpu_area, ymm_high);
    struct fpu_area image;
    bool loads_mxcsr;

    if (check_xsave(cpu, insn, offset, MMU_READ) != SOFT_OK ||
        fpu_load(cpu, insn, offset, &image, header_end) != SOFT_OK)
        return SOFT_FAULT;
    if (!header_valid(cpu, insn, &image))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    if ((rfbm & image.xstate_bv & CPU_XCR0_AVX) &&
        fpu_load(cpu, insn, fpu_address_add(insn, offset, header_end), image.ymm_high,
                 16 * nr_registers(insn)) != SOFT_OK)
        return SOFT_FAULT;
    loads_mxcsr = image.xcomp_bv & COMPACTED ? rfbm & image.xstate_bv & CPU_XCR0_SSE
                                             : rfbm & (CPU_XCR0_SSE | CPU_XCR0_AVX);
    if (loads_mxcsr && (image.mxcsr & ~FPU_MXCSR_MASK))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    restore(cpu, insn, &image, rfbm);
    return SOFT_OK;
}
