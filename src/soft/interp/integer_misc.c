/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flag instructions, HLT, hints and fences, time stamps and random numbers, UD.
 *
 * Source: SDM 2A/2B, the pages of the instructions; SDM 3A 6.8.1 (STI shadow).
 */
#include "soft/interp/integer.h"

static enum soft_result run_flag(struct soft_cpu *cpu, const struct insn *insn)
{
    switch (insn->id) {
    case INSN_CLC:
        cpu->rflags &= ~CPU_FLAG_CF;
        break;
    case INSN_STC:
        cpu->rflags |= CPU_FLAG_CF;
        break;
    case INSN_CMC:
        cpu->rflags ^= CPU_FLAG_CF;
        break;
    case INSN_CLD:
        cpu->rflags &= ~CPU_FLAG_DF;
        break;
    default:
        cpu->rflags |= CPU_FLAG_DF;
        break;
    }
    return SOFT_OK;
}

/* IOPL rules of CLI and STI, without VME and PVI. */
static bool interrupt_flag_forbidden(const struct soft_cpu *cpu)
{
    unsigned iopl = (cpu->rflags & CPU_FLAG_IOPL) >> 12;

    return cpu->mode != SOFT_MODE_REAL && cpu->cpl > iopl;
}

static enum soft_result run_cli(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (interrupt_flag_forbidden(cpu))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    cpu->rflags &= ~CPU_FLAG_IF;
    return SOFT_OK;
}

static enum soft_result run_sti(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (interrupt_flag_forbidden(cpu))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    if (!(cpu->rflags & CPU_FLAG_IF)) {
        cpu->rflags |= CPU_FLAG_IF;
        cpu->interrupt_shadow = true;
        cpu->end_block = true;
    }
    return SOFT_OK;
}

static enum soft_result run_lahf(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    cpu->gpr[CPU_RAX] = (cpu->gpr[CPU_RAX] & ~UINT64_C(0xff00)) | (cpu->rflags & 0xd5) << 8 | 0x200;
    return SOFT_OK;
}

static enum soft_result run_sahf(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    cpu->rflags = (cpu->rflags & ~UINT64_C(0xd5)) | ((cpu->gpr[CPU_RAX] >> 8) & 0xd5);
    return SOFT_OK;
}

static enum soft_result run_salc(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    integer_gpr_write(cpu, CPU_RAX, 1, cpu->rflags & CPU_FLAG_CF ? 0xff : 0);
    return SOFT_OK;
}

static enum soft_result run_hlt(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (cpu->cpl != 0)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    cpu->activity = CPU_ACTIVITY_HALTED;
    cpu->end_block = true;
    return SOFT_OK;
}

static enum soft_result run_nothing(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)cpu, (void)insn;
    return SOFT_OK;
}

static enum soft_result run_pause(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)cpu, (void)insn;
    __builtin_ia32_pause();
    return SOFT_OK;
}

static enum soft_result run_fence(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)cpu, (void)insn;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return SOFT_OK;
}

/* CLFLUSH, CLFLUSHOPT, CLWB: nothing to flush, but the address is checked as a byte read. */
static enum soft_result run_cache_line(struct soft_cpu *cpu, const struct insn *insn)
{
    return mmu_probe_load(cpu, insn->mem.segment, integer_address(cpu, insn), 1);
}

static enum soft_result run_rdtsc(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t tsc;

    if ((cpu->cr4 & CPU_CR4_TSD) && cpu->cpl > 0)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    tsc = soft_tsc(cpu);
    cpu->gpr[CPU_RAX] = (uint32_t)tsc;
    cpu->gpr[CPU_RDX] = tsc >> 32;
    if (insn->id == INSN_RDTSCP)
        cpu->gpr[CPU_RCX] = (uint32_t)cpu->tsc_aux;
    return SOFT_OK;
}

/* No performance counters. */
static enum soft_result run_rdpmc(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
}

static enum soft_result run_rdpid(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->gpr[insn->operand[0].reg] = (uint32_t)cpu->tsc_aux;
    return SOFT_OK;
}

/* RDRAND, RDSEED by the host's. A failure (CF = 0, result 0) is the guest's to retry. */
static enum soft_result run_random(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value;
    bool carry;

    if (insn->id == INSN_RDRAND)
        __asm__ volatile("rdrand %0" : "=r"(value), "=@ccc"(carry));
    else
        __asm__ volatile("rdseed %0" : "=r"(value), "=@ccc"(carry));
    integer_register_write(cpu, &insn->operand[0], carry ? value : 0);
    cpu->rflags = (cpu->rflags & ~CPU_FLAGS_STATUS) | (carry ? CPU_FLAG_CF : 0);
    return SOFT_OK;
}

static enum soft_result run_undefined(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    return fault_raise(cpu, CPU_VECTOR_UD);
}

const struct soft_handler integer_handlers_misc[] = {
    {INSN_CLC, run_flag},
    {INSN_STC, run_flag},
    {INSN_CMC, run_flag},
    {INSN_CLD, run_flag},
    {INSN_STD, run_flag},
    {INSN_CLI, run_cli},
    {INSN_STI, run_sti},
    {INSN_LAHF, run_lahf},
    {INSN_SAHF, run_sahf},
    {INSN_SALC, run_salc},
    {INSN_HLT, run_hlt},
    {INSN_NOP, run_nothing},
    {INSN_PAUSE, run_pause},
    {INSN_PREFETCHNTA, run_nothing},
    {INSN_PREFETCHT0, run_nothing},
    {INSN_PREFETCHT1, run_nothing},
    {INSN_PREFETCHT2, run_nothing},
    {INSN_PREFETCH, run_nothing},
    {INSN_PREFETCHW, run_nothing},
    {INSN_LFENCE, run_fence},
    {INSN_MFENCE, run_fence},
    {INSN_SFENCE, run_fence},
    {INSN_CLFLUSH, run_cache_line},
    {INSN_CLFLUSHOPT, run_cache_line},
    {INSN_CLWB, run_cache_line},
    {INSN_RDTSC, run_rdtsc},
    {INSN_RDTSCP, run_rdtsc},
    {INSN_RDPMC, run_rdpmc},
    {INSN_RDPID, run_rdpid},
    {INSN_RDRAND, run_random},
    {INSN_RDSEED, run_random},
    {INSN_UD0, run_undefined},
    {INSN_UD1, run_undefined},
    {INSN_UD2, run_undefined},
    {INSN_NONE, NULL},
};
