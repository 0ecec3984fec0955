/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IN, OUT, INS, OUTS: permission by IOPL and the TSS's bitmap, then the port bus.
 *
 * A repeated form gives way after a while, or when somebody wants the vCPU: registers are
 * consistent between iterations and the instruction simply runs again.
 *
 * Source: SDM 1 19.5; 2 IN, INS.
 */
#include "soft/interp/sys.h"

#define TSS_IO_MAP_BASE    102u
#define ITERATIONS_AT_ONCE 1024u

static enum soft_result port_allowed(struct soft_cpu *cpu, unsigned port, unsigned size)
{
    uint16_t base, bits;
    enum soft_result result;
    uint32_t at;

    if (cpu->mode == SOFT_MODE_REAL)
        return SOFT_OK;
    if (cpu->mode != SOFT_MODE_V86 && cpu->cpl <= (cpu->rflags & CPU_FLAG_IOPL) >> 12)
        return SOFT_OK;
    if ((cpu->tr.attributes & 0xd) != SYSTEM_TSS || cpu->tr.limit < TSS_IO_MAP_BASE + 1)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = mmu_load_system(cpu, cpu->tr.base + TSS_IO_MAP_BASE, &base, 2);
    if (result)
        return result;
    at = base + port / 8;
    if (at + 1 > cpu->tr.limit)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = mmu_load_system(cpu, cpu->tr.base + at, &bits, 2);
    if (result)
        return result;
    if (bits >> (port % 8) & ((1u << size) - 1))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    return SOFT_OK;
}

static uint32_t port_read(struct soft_cpu *cpu, unsigned port, unsigned size)
{
    const struct cpu_bus *bus = cpu->vm->config->bus;
    uint32_t value = UINT32_MAX;

    cpu->counters.io_accesses++;
    debug_check_io(cpu, port, size);
    bus->io_read(bus->context, cpu->cpu.index, (uint16_t)port, &value, size);
    return value;
}

static void port_write(struct soft_cpu *cpu, unsigned port, unsigned size, uint32_t value)
{
    const struct cpu_bus *bus = cpu->vm->config->bus;

    cpu->counters.io_accesses++;
    debug_check_io(cpu, port, size);
    bus->io_write(bus->context, cpu->cpu.index, (uint16_t)port, &value, size);
}

static unsigned port_of(const struct soft_cpu *cpu, const struct insn_operand *operand,
                        const struct insn *insn)
{
    return operand->kind == INSN_OPERAND_IMM ? insn->imm & 0xff : cpu->gpr[CPU_RDX] & 0xffff;
}

enum soft_result op_in(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand[0].size, port = port_of(cpu, &insn->operand[1], insn);
    enum soft_result result = port_allowed(cpu, port, size);

    if (result)
        return result;
    sys_reg_write(cpu, &insn->operand[0], port_read(cpu, port, size));
    cpu->end_block = true;
    return SOFT_OK;
}

enum soft_result op_out(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand[1].size, port = port_of(cpu, &insn->operand[0], insn);
    enum soft_result result = port_allowed(cpu, port, size);

    if (result)
        return result;
    port_write(cpu, port, size, (uint32_t)sys_reg_read(cpu, &insn->operand[1]));
    cpu->end_block = true;
    return SOFT_OK;
}

static uint64_t counter_mask(unsigned address_size)
{
    return address_size >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * address_size) - 1;
}

static void counter_add(struct soft_cpu *cpu, unsigned reg, unsigned address_size, int64_t delta)
{
    uint64_t mask = counter_mask(address_size), value = cpu->gpr[reg] + (uint64_t)delta;

    if (address_size == 4)
        cpu->gpr[reg] = value & mask;
    else
        cpu->gpr[reg] = (cpu->gpr[reg] & ~mask) | (value & mask);
}

static enum soft_result ins_once(struct soft_cpu *cpu, const struct insn *insn, unsigned size)
{
    uint64_t offset = cpu->gpr[CPU_RDI] & counter_mask(insn->address_size);
    enum soft_result result = mmu_probe_store(cpu, CPU_ES, offset, size);
    uint32_t value;

    if (result)
        return result;
    value = port_read(cpu, cpu->gpr[CPU_RDX] & 0xffff, size);
    return mmu_store(cpu, CPU_ES, offset, &value, size);
}

static enum soft_result outs_once(struct soft_cpu *cpu, const struct insn *insn, unsigned size)
{
    uint64_t offset = cpu->gpr[CPU_RSI] & counter_mask(insn->address_size);
    uint32_t value = 0;
    enum soft_result result = mmu_load(cpu, insn->mem.segment, offset, &value, size);

    if (!result)
        port_write(cpu, cpu->gpr[CPU_RDX] & 0xffff, size, value);
    return result;
}

static enum soft_result string_io(struct soft_cpu *cpu, const struct insn *insn, bool in,
                                  unsigned size)
{
    bool repeat = insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE);
    int64_t step = cpu->rflags & CPU_FLAG_DF ? -(int64_t)size : (int64_t)size;
    enum soft_result result = port_allowed(cpu, cpu->gpr[CPU_RDX] & 0xffff, size);

    if (result)
        return result;
    cpu->end_block = true;
    for (unsigned done = 0;; done++) {
        if (repeat && !(cpu->gpr[CPU_RCX] & counter_mask(insn->address_size)))
            return SOFT_OK;
        if (done &&
            (done == ITERATIONS_AT_ONCE || cpu->debug_active || cpu_peek_requests(&cpu->cpu)))
            return SOFT_REPEAT;
        result = in ? ins_once(cpu, insn, size) : outs_once(cpu, insn, size);
        if (result)
            return result;
        counter_add(cpu, in ? CPU_RDI : CPU_RSI, insn->address_size, step);
        if (!repeat)
            return SOFT_OK;
        counter_add(cpu, CPU_RCX, insn->address_size, -1);
    }
}

enum soft_result op_ins(struct soft_cpu *cpu, const struct insn *insn)
{
    return string_io(cpu, insn, true, insn->operand[0].size);
}

enum soft_result op_outs(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned i = insn->operand[0].kind == INSN_OPERAND_MEM ? 0 : 1;

    return string_io(cpu, insn, false, insn->operand[i].size);
}
