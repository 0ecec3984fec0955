/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87 instructions that compute, load or store: by thunk, on an image of the guest's x87 state and
 * with the guest's own control word, so that results, stack faults and the state that an unmasked
 * exception leaves behind are the host's own.
 *
 * An unmasked exception is never reported on the host: it becomes pending there, goes into the
 * guest's FSW with the image, and is cleared. The guest gets #MF at its next waiting instruction.
 *
 * Pointers (SDM 1 8.1.8): FIP, FCS and FOP follow every instruction that comes here, FDP and FDS
 * those with a memory operand.
 */
#include "soft/fpu/fpu_internal.h"

#include <string.h>

/* Bytes of the x87 part around MXCSR, which is not x87's. */
#define X87_CONTROL_SIZE offsetof(struct fpu_area, mxcsr)
#define X87_STACK_SIZE   sizeof(((struct fpu_area *)0)->st)

/* Flags of an exception that the host must not meet pending: see exception_reported. */
static unsigned set_aside_pending(struct fpu_area *image)
{
    unsigned pending = image->fsw & FPU_FSW_ES ? image->fsw & FPU_EXCEPTIONS : 0;

    if (pending)
        image->fsw &= (uint16_t) ~(FPU_EXCEPTIONS | FPU_FSW_ES | FPU_FSW_B);
    return pending;
}

/* A store is suppressed by an unmasked exception other than precision (SDM 1 8.5); its address is
 * checked all the same. */
static enum soft_result store(struct soft_cpu *cpu, const struct insn *insn,
                              const struct fpu_area *image, uint64_t offset, unsigned size)
{
    if ((image->fsw & FPU_FSW_ES) && (image->fsw & ~image->fcw & (FPU_EXCEPTIONS & ~FPU_PE)))
        return mmu_probe_store(cpu, insn->mem.segment, offset, size);
    return fpu_store_operand(cpu, insn->mem.segment, offset, cpu->fpu.thunks->mem, size);
}

static void set_pointers(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset)
{
    struct fpu_area *area = &cpu->fpu.area;

    area->fip = cpu->rip;
    area->fop = (uint16_t)((insn->opcode & 7) << 8 | insn->modrm);
    fpu_set_selectors(cpu, cpu->segment[CPU_CS].selector, cpu->fpu.fds);
    if ((insn->modrm >> 6) == 3 || (cpu->fpu.thunks->fdp_by_exception && !(area->fsw & FPU_FSW_ES)))
        return;
    area->fdp = offset;
    fpu_set_selectors(cpu, cpu->fpu.fcs, cpu->segment[insn->mem.segment].selector);
}

static void commit(struct soft_cpu *cpu, const struct insn *insn, const struct fpu_area *image)
{
    struct fpu_area *area = &cpu->fpu.area;

    area->fcw = image->fcw;
    area->fsw = image->fsw;
    area->ftw = image->ftw;
    memcpy(area->st, image->st, X87_STACK_SIZE);
    if (insn->flags_written)
        cpu->rflags = (cpu->rflags & ~CPU_FLAGS_STATUS) |
                      (cpu->fpu.thunks->io.flags & CPU_FLAGS_STATUS);
}

/* FNENI, FNDISI, FNSETPM: do nothing, not even to the pointers. */
static bool is_obsolete_nop(const struct insn *insn)
{
    return insn->id == INSN_FNOP && insn->opcode == 0xdb;
}

/* The whole state through the host. */
static enum soft_result run_whole(struct soft_cpu *cpu, const struct insn *insn,
                                  const struct thunk *thunk, const struct insn_operand *operand,
                                  uint64_t offset)
{
    struct fpu_thunks *thunks = cpu->fpu.thunks;
    struct fpu_area *image = &thunks->shadow;
    unsigned pending;

    memcpy(image, &cpu->fpu.area, X87_CONTROL_SIZE);
    memcpy(image->st, cpu->fpu.area.st, X87_STACK_SIZE);
    image->mxcsr = FPU_MXCSR_DEFAULT;
    pending = set_aside_pending(image);
    thunks->io.flags = cpu->rflags & CPU_FLAGS_STATUS;
    thunk->run(image, thunks->mem, NULL, NULL, &thunks->io);
    if (operand && (operand->access & INSN_WRITE) &&
        store(cpu, insn, image, offset, operand->size) != SOFT_OK)
        return SOFT_FAULT;
    if (pending) {
        image->fsw |= (uint16_t)pending;
        fpu_update_es(image);
    }
    commit(cpu, insn, image);
    return SOFT_OK;
}

enum soft_result fpu_run_x87(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_thunks *thunks = cpu->fpu.thunks;
    struct thunk *thunk = thunk_get(thunks, insn);
    const struct insn_operand *operand = NULL;
    enum soft_result result;
    uint64_t offset = 0;

    if (UNLIKELY(!thunk))
        return fpu_exit_unsupported(cpu, insn, "no form of this x87 instruction is known");
    if (UNLIKELY(is_obsolete_nop(insn)))
        return fpu_check_x87(cpu, insn, false);
    if (fpu_check_x87(cpu, insn, true) != SOFT_OK)
        return SOFT_FAULT;
    if ((insn->modrm >> 6) != 3) {
        operand = insn->operand;
        while (operand->kind != INSN_OPERAND_MEM)
            operand++;
        offset = fpu_address(cpu, insn);
        if (!(operand->access & INSN_WRITE) &&
            fpu_load_operand(cpu, insn->mem.segment, offset, thunks->mem, operand->size) != SOFT_OK)
            return SOFT_FAULT;
    }
    if (!lean_run(cpu, insn, thunk, operand, offset, &result))
        result = run_whole(cpu, insn, thunk, operand, offset);
    if (result == SOFT_OK)
        set_pointers(cpu, insn, offset);
    return result;
}
