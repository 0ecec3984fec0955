/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the handlers of this folder share: the checks that come before any vector instruction, the
 * operands, and the groups of handlers. Not for other folders.
 */
#ifndef LODGE_SOFT_FPU_INTERNAL_H
#define LODGE_SOFT_FPU_INTERNAL_H

#include "soft/fpu/thunk.h"
#include "soft/mmu/mmu.h"
#include "soft/soft_cpu.h"

/* FSW, and the exception flags that FSW and MXCSR share (bits 5:0). */
#define FPU_IE         (1u << 0)
#define FPU_DE         (1u << 1)
#define FPU_ZE         (1u << 2)
#define FPU_OE         (1u << 3)
#define FPU_UE         (1u << 4)
#define FPU_PE         (1u << 5)
#define FPU_EXCEPTIONS 0x3fu
#define FPU_FSW_SF     (1u << 6)
#define FPU_FSW_ES     (1u << 7)
#define FPU_FSW_B      (1u << 15)
#define FPU_FSW_TOP    (7u << 11)
#define FPU_FSW_C1     (1u << 9)
#define FPU_FSW_C023   (1u << 8 | 1u << 10 | 1u << 14)

#define FPU_MXCSR_DAZ   (1u << 6)
#define FPU_MXCSR_MASKS (FPU_EXCEPTIONS << 7)
#define FPU_MXCSR_FTZ   (1u << 15)

soft_handler_fn fpu_run_vector; /* by thunk */
soft_handler_fn fpu_run_x87;    /* by thunk */
/* Mnemonics with another handler than the two above; ends with INSN_NONE. */
extern const struct soft_handler fpu_handlers_special[];

/* moves.c */
soft_handler_fn fpu_run_move, fpu_run_movd, fpu_run_movss, fpu_run_move_half, fpu_run_logic;
soft_handler_fn fpu_run_vzero, fpu_run_emms, fpu_run_nop, fpu_run_mxcsr;

/* masked.c */
soft_handler_fn fpu_run_gather, fpu_run_maskmov_vex, fpu_run_maskmov_bytes;

/* x87_lean.c: runs an instruction the short way if the state allows; false: nothing was done. */
bool lean_run(struct soft_cpu *cpu, const struct insn *insn, const struct thunk *thunk,
              const struct insn_operand *operand, uint64_t offset, enum soft_result *ret);

/* x87_control.c */
soft_handler_fn fpu_run_fninit, fpu_run_fnclex, fpu_run_fnstcw, fpu_run_fldcw, fpu_run_fnstsw;
soft_handler_fn fpu_run_fnstenv, fpu_run_fldenv, fpu_run_fnsave, fpu_run_frstor, fpu_run_fwait;

/* xsave.c */
soft_handler_fn fpu_run_fxsave, fpu_run_fxrstor, fpu_run_xsave, fpu_run_xrstor;

/* SSE: CR0.EM, CR4.OSFXSR, CR0.TS. VEX: CR4.OSXSAVE, XCR0, CR0.TS. (SDM 3A 2.5, SDM 2A 2.4) */
enum soft_result fpu_check_vector_slow(struct soft_cpu *cpu, const struct insn *insn);
/* MMX registers: CR0.EM, CR0.TS, pending x87 exception. */
enum soft_result fpu_check_mmx(struct soft_cpu *cpu, const struct insn *insn);
/* x87: CR0.EM or TS, and for a waiting instruction the pending exception. */
enum soft_result fpu_check_x87(struct soft_cpu *cpu, const struct insn *insn, bool waiting);

static inline enum soft_result fpu_check_vector(struct soft_cpu *cpu, const struct insn *insn)
{
    if (LIKELY(!(insn->prefixes & INSN_PREFIX_VEX) && !(cpu->cr0 & (CPU_CR0_EM | CPU_CR0_TS)) &&
               (cpu->cr4 & CPU_CR4_OSFXSR) && cpu->vm->features[insn->feature]))
        return SOFT_OK;
    return fpu_check_vector_slow(cpu, insn);
}

/* The offset that insn.mem names, in its address size. */
static inline uint64_t fpu_address(const struct soft_cpu *cpu, const struct insn *insn)
{
    const struct insn_mem *mem = &insn->mem;
    uint64_t address = (uint64_t)mem->displacement;

    if (mem->base != INSN_NO_REG)
        address += cpu->gpr[mem->base];
    else if (mem->rip_relative)
        address += cpu->next_rip;
    if (mem->index != INSN_NO_REG)
        address += cpu->gpr[mem->index] * mem->scale;
    if (UNLIKELY(insn->address_size != 8))
        address &= insn->address_size == 4 ? UINT32_MAX : UINT16_MAX;
    return address;
}

/* offset + delta, wrapped as the address size says. */
static inline uint64_t fpu_address_add(const struct insn *insn, uint64_t offset, uint64_t delta)
{
    uint64_t address = offset + delta;

    return insn->address_size == 8   ? address
           : insn->address_size == 4 ? (uint32_t)address
                                     : (uint16_t)address;
}

/* #GP(0) when a legacy SSE operand that must be aligned is not; before the segment checks, so that
 * it is never #SS. */
static inline enum soft_result fpu_check_aligned(struct soft_cpu *cpu, const struct insn *insn,
                                                 uint64_t offset, unsigned size)
{
    if (!(insn->traits & INSN_TRAIT_ALIGNED) ||
        LIKELY(!((offset + cpu->segment[insn->mem.segment].base) & (size - 1))))
        return SOFT_OK;
    return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
}

/* Sizes up to 16 are one host access: what is atomic for the guest's processor is so here. */
static inline void fpu_copy_operand(void *to, const void *from, unsigned size)
{
    switch (size) {
    case 4:
        memcpy(to, from, 4);
        break;
    case 8:
        memcpy(to, from, 8);
        break;
    case 16:
        memcpy(to, from, 16);
        break;
    case 32:
        memcpy(to, from, 32);
        break;
    default:
        memcpy(to, from, size);
        break;
    }
}

/* One memory operand of at most 64 bytes: the MMU's inline path, else its functions. */
static inline enum soft_result fpu_load_operand(struct soft_cpu *cpu, unsigned segment,
                                                uint64_t offset, void *data, unsigned size)
{
    const void *host = mmu_host_read_fast(cpu, segment, offset, size);

    if (UNLIKELY(!host))
        return mmu_load(cpu, segment, offset, data, size);
    fpu_copy_operand(data, host, size);
    return SOFT_OK;
}

static inline enum soft_result fpu_store_operand(struct soft_cpu *cpu, unsigned segment,
                                                 uint64_t offset, const void *data, unsigned size)
{
    uint8_t *code_byte;
    void *host = mmu_host_write_fast(cpu, segment, offset, size, &code_byte);

    if (UNLIKELY(!host))
        return mmu_store(cpu, segment, offset, data, size);
    fpu_copy_operand(host, data, size);
    if (UNLIKELY(__atomic_load_n(code_byte, __ATOMIC_RELAXED)))
        mmu_written_host(cpu, host, size);
    return SOFT_OK;
}

/* More than mmu_load and mmu_store take at once; a store faults before it writes anything. */
enum soft_result fpu_load(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset,
                          void *data, unsigned size);
enum soft_result fpu_store(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset,
                           const void *data, unsigned size);
enum soft_result fpu_probe_store(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset,
                                 unsigned size);

/* A thunk cannot be made, or the host lacks what the policy exposes. */
enum soft_result fpu_exit_unsupported(struct soft_cpu *cpu, const struct insn *insn,
                                      const char *reason);

/* TOP becomes 0 and all registers valid, as any MMX instruction but EMMS does (SDM 3A 12.2). */
void fpu_mmx_enter(struct fpu_area *area);

static inline unsigned fpu_top(const struct fpu_area *area)
{
    return area->fsw >> 11 & 7;
}

/* MMX register n, wherever TOP has it. */
static inline struct fpu_st *fpu_mmx(struct fpu_area *area, unsigned n)
{
    return &area->st[(n - fpu_top(area)) & 7];
}

/* The register numbers that the encoding names. */
static inline unsigned insn_reg_number(const struct insn *insn)
{
    return (insn->modrm >> 3 & 7) | (insn->rex & 4) << 1;
}

static inline unsigned insn_rm_number(const struct insn *insn)
{
    return (insn->modrm & 7) | (insn->rex & 1) << 3;
}

/* Writes a vector register whole: legacy forms keep the upper half, VEX forms clear it. */
static inline void fpu_set_xmm(struct fpu_area *area, const struct insn *insn, unsigned n,
                               const void *low)
{
    memcpy(area->xmm[n], low, 16);
    if (insn->prefixes & INSN_PREFIX_VEX)
        memset(area->ymm_high[n], 0, 16);
}

static inline void fpu_set_selectors(struct soft_cpu *cpu, uint16_t fcs, uint16_t fds)
{
    bool zero = cpu->fpu.thunks->zero_selectors;

    cpu->fpu.fcs = zero ? 0 : fcs;
    cpu->fpu.fds = zero ? 0 : fds;
}

/* FSW.ES and FSW.B from the flags and masks. */
static inline void fpu_update_es(struct fpu_area *area)
{
    area->fsw &= (uint16_t) ~(FPU_FSW_ES | FPU_FSW_B);
    if (area->fsw & ~area->fcw & FPU_EXCEPTIONS)
        area->fsw |= FPU_FSW_ES | FPU_FSW_B;
}

#endif
