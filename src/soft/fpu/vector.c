/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMX, SSE and AVX instructions by thunk: checks, operands in, the host executes, results out.
 *
 * SIMD floating-point exceptions (SDM 1 11.5, SDM 1 E.4): the host always runs with all of them
 * masked. While the guest masks all of them too, its flags are what the host raised. Otherwise the
 * instruction runs on a copy of its destination; the flags it raised are held against the guest's
 * masks, and the copy is kept only when none is unmasked. Two things differ from a masked run:
 * underflow is reported for a tiny result even when it is exact, and flush-to-zero does not apply.
 * Known to be inexact: with OE or UE unmasked and raised, PE says whether the masked result was
 * rounded, not the unbounded one; DPPS and DPPD report all their steps at once.
 */
#include "soft/fpu/fpu_internal.h"

#include <immintrin.h>
#include <string.h>

static void *role_pointer(struct soft_cpu *cpu, struct fpu_area *area, const struct thunk *thunk,
                          enum thunk_role role, unsigned number)
{
    switch (thunk->kind[role]) {
    case THUNK_KIND_VECTOR:
        return area->xmm[number];
    case THUNK_KIND_MMX:
        return &fpu_mmx(area, number & 7)->mantissa;
    case THUNK_KIND_MEM:
        return cpu->fpu.thunks->mem;
    default:
        return NULL;
    }
}

static void call_thunk(struct soft_cpu *cpu, struct fpu_area *area, struct fpu_area *target,
                       const struct insn *insn, const struct thunk *thunk)
{
    unsigned number[THUNK_NR_ROLES] = {
        [THUNK_A] = insn_reg_number(insn),
        [THUNK_B] = insn->vex_vvvv & 15,
        [THUNK_C] = insn_rm_number(insn),
        [THUNK_D] =
            thunk->flags & THUNK_IS4 ? (insn->imm >> 4 & (insn->mode == INSN_MODE_64 ? 15 : 7)) : 0,
    };
    void *pointer[THUNK_NR_ROLES];

    for (unsigned role = 0; role < THUNK_NR_ROLES; role++)
        pointer[role] = role_pointer(cpu, role == thunk->destination ? target : area, thunk,
                                     (enum thunk_role)role, number[role]);
    thunk->run(pointer[THUNK_A], pointer[THUNK_C], pointer[THUNK_B], pointer[THUNK_D],
               &cpu->fpu.thunks->io);
}

/* General registers in, beside the vector operands. */
static void io_load(struct soft_cpu *cpu, const struct insn *insn, const struct thunk *thunk)
{
    struct thunk_io *io = &cpu->fpu.thunks->io;

    if (thunk->kind[THUNK_A] == THUNK_KIND_GPR)
        io->gpr = cpu->gpr[insn_reg_number(insn)];
    else if (thunk->kind[THUNK_C] == THUNK_KIND_GPR)
        io->gpr = cpu->gpr[insn_rm_number(insn)];
    if (thunk->flags & THUNK_RAX_RDX_IN) {
        io->rax = cpu->gpr[CPU_RAX];
        io->rdx = cpu->gpr[CPU_RDX];
    }
}

static void io_commit(struct soft_cpu *cpu, const struct insn *insn, const struct thunk *thunk)
{
    struct thunk_io *io = &cpu->fpu.thunks->io;

    if (thunk->flags & THUNK_GPR_OUT) {
        if (thunk->kind[THUNK_A] == THUNK_KIND_GPR)
            cpu->gpr[insn_reg_number(insn)] = io->gpr;
        else
            cpu->gpr[insn_rm_number(insn)] = io->gpr;
    }
    if (thunk->flags & THUNK_RCX_OUT)
        cpu->gpr[CPU_RCX] = (uint32_t)io->rcx;
    if (thunk->flags & THUNK_FLAGS_OUT)
        cpu->rflags = (cpu->rflags & ~CPU_FLAGS_STATUS) | (io->flags & CPU_FLAGS_STATUS);
}

/* Runs with the guest's rounding, DAZ and FTZ; returns the exception flags that were raised. */
static unsigned call_fp(struct soft_cpu *cpu, struct fpu_area *target, const struct insn *insn,
                        const struct thunk *thunk, unsigned settings)
{
    unsigned wanted = (settings & ~(FPU_EXCEPTIONS | FPU_MXCSR_MASKS)) | FPU_MXCSR_MASKS;
    unsigned after;

    /* Always: our own code may have left a flag of its own there. */
    _mm_setcsr(wanted);
    call_thunk(cpu, &cpu->fpu.area, target, insn, thunk);
    after = _mm_getcsr();
    if (after != FPU_MXCSR_DEFAULT)
        _mm_setcsr(FPU_MXCSR_DEFAULT);
    return after & FPU_EXCEPTIONS;
}

static bool has_denormal32(const uint8_t *data, unsigned size)
{
    for (unsigned i = 0; i < size; i += 4)
        if (!(load_le32(data + i) & 0x7f800000) && (load_le32(data + i) & 0x007fffff))
            return true;
    return false;
}

static bool has_denormal64(const uint8_t *data, unsigned size)
{
    for (unsigned i = 0; i < size; i += 8)
        if (!(load_le64(data + i) & UINT64_C(0x7ff0000000000000)) &&
            (load_le64(data + i) & UINT64_C(0x000fffffffffffff)))
            return true;
    return false;
}

static bool has_denormal16(const uint8_t *data, unsigned size)
{
    for (unsigned i = 0; i < size; i += 2)
        if (!(load_le16(data + i) & 0x7c00) && (load_le16(data + i) & 0x03ff))
            return true;
    return false;
}

enum result_format { RESULT_NONE, RESULT_F16, RESULT_F32, RESULT_F64 };

/* The format of a result that can underflow, and how many bytes of the destination hold it. */
static enum result_format result_format(const struct insn *insn, unsigned *ret_size)
{
    bool scalar = insn->mandatory == 0xf2 || insn->mandatory == 0xf3;
    bool f64 = insn->mandatory == 0xf2 || insn->mandatory == 0x66;

    *ret_size = insn->vex_l ? 32 : 16;
    if (insn->map == 3 && insn->opcode == 0x1d) { /* VCVTPS2PH */
        *ret_size /= 2;
        return RESULT_F16;
    }
    if (insn->map == 3 && (insn->opcode & 0xfe) == 0x40) /* DPPS, DPPD */
        return insn->opcode == 0x40 ? RESULT_F32 : RESULT_F64;
    if (insn->map == 2 && insn->opcode >= 0x96 && insn->opcode <= 0xbf) { /* FMA */
        if (insn->opcode & 1 && (insn->opcode & 15) > 8)
            *ret_size = insn->vex_w ? 8 : 4;
        return insn->vex_w ? RESULT_F64 : RESULT_F32;
    }
    if (insn->map != 1)
        return RESULT_NONE;
    switch (insn->opcode) {
    case 0x58: /* ADD */
    case 0x59: /* MUL */
    case 0x5c: /* SUB */
    case 0x5e: /* DIV */
        if (scalar)
            *ret_size = f64 ? 8 : 4;
        return f64 ? RESULT_F64 : RESULT_F32;
    case 0x7c: /* HADD */
    case 0x7d: /* HSUB */
    case 0xd0: /* ADDSUB */
        return insn->mandatory == 0x66 ? RESULT_F64 : RESULT_F32;
    case 0x5a: /* to single precision: CVTPD2PS, CVTSD2SS */
        if (insn->mandatory == 0x66)
            return RESULT_F32;
        *ret_size = 4;
        return insn->mandatory == 0xf2 ? RESULT_F32 : RESULT_NONE;
    default:
        return RESULT_NONE;
    }
}

/* Did the masked run give a denormal result? */
static bool tiny_result(const struct soft_cpu *cpu, const struct insn *insn,
                        const struct thunk *thunk)
{
    const struct fpu_thunks *thunks = cpu->fpu.thunks;
    uint8_t result[32];
    unsigned size, n;
    enum result_format format = result_format(insn, &size);

    if (format == RESULT_NONE)
        return false;
    if (thunk->flags & THUNK_STORES) {
        memcpy(result, thunks->mem, sizeof(result));
    } else {
        n = thunk->destination == THUNK_A ? insn_reg_number(insn) : insn_rm_number(insn);
        memcpy(result, thunks->shadow.xmm[n], 16);
        memcpy(result + 16, thunks->shadow.ymm_high[n], 16);
    }
    if (format == RESULT_F16)
        return has_denormal16(result, size);
    return format == RESULT_F32 ? has_denormal32(result, size) : has_denormal64(result, size);
}

/* The guest unmasks an exception: run on a copy, decide, then commit. */
static enum soft_result run_unmasked(struct soft_cpu *cpu, const struct insn *insn,
                                     const struct thunk *thunk, unsigned *ret_raised)
{
    struct fpu_area *area = &cpu->fpu.area;
    struct fpu_area *shadow = &cpu->fpu.thunks->shadow;
    unsigned unmasked = ~(area->mxcsr >> 7) & FPU_EXCEPTIONS;
    unsigned settings = area->mxcsr;
    unsigned raised;

    if (unmasked & FPU_UE)
        settings &= ~FPU_MXCSR_FTZ;
    memcpy(shadow, area, sizeof(*shadow));
    raised = call_fp(cpu, shadow, insn, thunk, settings);
    if (raised & unmasked & (FPU_IE | FPU_DE | FPU_ZE))
        raised &= FPU_IE | FPU_DE | FPU_ZE;
    else if ((unmasked & FPU_UE) && tiny_result(cpu, insn, thunk))
        raised |= FPU_UE;
    if (raised & unmasked) {
        area->mxcsr |= raised;
        if (thunk->flags & THUNK_USES_MMX) /* the transition has already happened */
            fpu_mmx_enter(area);
        return fault_raise(cpu, cpu->cr4 & CPU_CR4_OSXMMEXCPT ? CPU_VECTOR_XM : CPU_VECTOR_UD);
    }
    shadow->mxcsr = area->mxcsr;
    memcpy(area, shadow, sizeof(*area));
    *ret_raised = raised;
    return SOFT_OK;
}

static enum soft_result check(struct soft_cpu *cpu, const struct insn *insn,
                              const struct thunk *thunk)
{
    if (thunk->flags & THUNK_USES_XMM && fpu_check_vector(cpu, insn) != SOFT_OK)
        return SOFT_FAULT;
    if (UNLIKELY(thunk->flags & THUNK_USES_MMX))
        return fpu_check_mmx(cpu, insn);
    return SOFT_OK;
}

static void finish_mmx(struct soft_cpu *cpu, const struct insn *insn, const struct thunk *thunk)
{
    unsigned n = thunk->destination == THUNK_A ? insn->modrm >> 3 & 7 : insn->modrm & 7;

    fpu_mmx_enter(&cpu->fpu.area);
    if (thunk->destination != THUNK_NO_ROLE && thunk->kind[thunk->destination] == THUNK_KIND_MMX)
        fpu_mmx(&cpu->fpu.area, n)->exponent = 0xffff;
}

enum soft_result fpu_run_vector(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_thunks *thunks = cpu->fpu.thunks;
    struct thunk *thunk = thunk_get(thunks, insn);
    struct fpu_area *area = &cpu->fpu.area;
    unsigned raised = 0;
    uint64_t offset = 0;

    if (UNLIKELY(!thunk))
        return fpu_exit_unsupported(cpu, insn, "no form of this vector instruction is known");
    if (check(cpu, insn, thunk) != SOFT_OK)
        return SOFT_FAULT;
    if (thunk->flags & (THUNK_LOADS | THUNK_STORES)) {
        enum mmu_access access = thunk->flags & THUNK_STORES ? MMU_WRITE : MMU_READ;

        offset = fpu_address(cpu, insn);
        if (!(insn->feature == INSN_FEATURE_SHA && thunks->host_is_amd) &&
            fpu_check_aligned(cpu, insn, offset, thunk->mem_size) != SOFT_OK)
            return SOFT_FAULT;
        if (access == MMU_WRITE && UNLIKELY(thunk->flags & THUNK_FP) &&
            mmu_probe_store(cpu, insn->mem.segment, offset, thunk->mem_size) != SOFT_OK)
            return SOFT_FAULT; /* #PF comes before #XM */
        if (access == MMU_READ && fpu_load_operand(cpu, insn->mem.segment, offset, thunks->mem,
                                                   thunk->mem_size) != SOFT_OK)
            return SOFT_FAULT;
    }
    io_load(cpu, insn, thunk);
    if (!(thunk->flags & THUNK_FP))
        call_thunk(cpu, area, area, insn, thunk);
    else if (LIKELY((area->mxcsr & FPU_MXCSR_MASKS) == FPU_MXCSR_MASKS))
        raised = call_fp(cpu, area, insn, thunk, area->mxcsr);
    else if (run_unmasked(cpu, insn, thunk, &raised) != SOFT_OK)
        return SOFT_FAULT;
    if (thunk->flags & THUNK_STORES &&
        fpu_store_operand(cpu, insn->mem.segment, offset, thunks->mem, thunk->mem_size) != SOFT_OK)
        return SOFT_FAULT;
    area->mxcsr |= raised;
    io_commit(cpu, insn, thunk);
    if (UNLIKELY(thunk->flags & THUNK_USES_MMX))
        finish_mmx(cpu, insn, thunk);
    return SOFT_OK;
}
