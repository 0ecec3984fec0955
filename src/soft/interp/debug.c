/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debug registers and the composition of #DB. Data breakpoints are seen by mmu/access.c, the
 * single-step flag and instruction breakpoints by the run loop.
 *
 * Source: SDM 3B 17.2, 17.3.
 */
#include "soft/interp/sys.h"

#define BREAK_EXECUTE 0u
#define BREAK_IO      2u

static bool breakpoint_enabled(const struct soft_cpu *cpu, unsigned i)
{
    return cpu->dr[7] >> (2 * i) & 3;
}

static unsigned breakpoint_type(const struct soft_cpu *cpu, unsigned i)
{
    return cpu->dr[7] >> (16 + 4 * i) & 3;
}

uint64_t debug_code_hits(const struct soft_cpu *cpu, gva_t address)
{
    uint64_t hits = 0;

    for (unsigned i = 0; i < 4; i++)
        if (breakpoint_enabled(cpu, i) && breakpoint_type(cpu, i) == BREAK_EXECUTE &&
            cpu->dr[i] == address)
            hits |= UINT64_C(1) << i;
    return hits;
}

void debug_check_io(struct soft_cpu *cpu, unsigned port, unsigned size)
{
    static const uint8_t lengths[4] = {1, 2, 8, 4};

    if (LIKELY(!(cpu->dr[7] & 0xff)) || !(cpu->cr4 & CPU_CR4_DE))
        return;
    for (unsigned i = 0; i < 4; i++) {
        unsigned length = lengths[cpu->dr[7] >> (18 + 4 * i) & 3];
        uint64_t start = cpu->dr[i] & ~(uint64_t)(length - 1);

        if (breakpoint_enabled(cpu, i) && breakpoint_type(cpu, i) == BREAK_IO &&
            port < start + length && start < port + size)
            cpu->debug_hits |= UINT64_C(1) << i;
    }
}

enum soft_result debug_raise(struct soft_cpu *cpu, uint64_t dr6_bits)
{
    /* The processor sets the causes and leaves BS, BD, BT of earlier exceptions; B0-3 are
     * cleared. */
    cpu->dr[6] = (cpu->dr[6] & ~UINT64_C(0xf)) | DEBUG_DR6_FIXED | dr6_bits;
    cpu->dr[7] &= ~DEBUG_DR7_GD;
    cpu->debug_hits = 0;
    mmu_context_changed(cpu);
    return fault_raise(cpu, CPU_VECTOR_DB);
}

enum soft_result op_mov_dr(struct soft_cpu *cpu, const struct insn *insn)
{
    bool write = insn->operand[0].reg_class == INSN_REG_DR;
    const struct insn_operand *reg = &insn->operand[write ? 1 : 0];
    unsigned n = insn->operand[write ? 0 : 1].reg;
    uint64_t value;

    if (n > 7 || ((n == 4 || n == 5) && (cpu->cr4 & CPU_CR4_DE)))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (cpu->cpl != 0)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    if (cpu->dr[7] & DEBUG_DR7_GD)
        return debug_raise(cpu, DEBUG_DR6_BD);
    if (n == 4 || n == 5)
        n += 2;
    if (!write) {
        sys_reg_write(cpu, reg, cpu->dr[n]);
        return SOFT_OK;
    }
    value = sys_reg_read(cpu, reg);
    if (n >= 6 && value >> 32)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    if (n == 6)
        value = (value & UINT64_C(0xe00f)) | DEBUG_DR6_FIXED;
    if (n == 7)
        value = (value & UINT64_C(0xffff23ff)) | DEBUG_DR7_FIXED;
    cpu->dr[n] = value;
    debug_update(cpu);
    mmu_context_changed(cpu);
    cpu->end_block = true;
    return SOFT_OK;
}
