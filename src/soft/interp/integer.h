/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operands of the integer handlers that are not hot, in any size and mode, and read-modify-write
 * of registers, memory and LOCKed memory by one function.
 */
#ifndef LODGE_SOFT_INTERP_INTEGER_H
#define LODGE_SOFT_INTERP_INTEGER_H

#include "base/util.h"
#include "soft/interp/op.h"
#include "soft/mmu/mmu.h"
#include "soft/soft_cpu.h"

static inline uint64_t integer_mask(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}

static inline int64_t integer_sign_extend(uint64_t value, unsigned size)
{
    unsigned shift = 64 - 8 * size;

    return (int64_t)(value << shift) >> shift;
}

/* Offset of the memory operand in its segment. */
static inline uint64_t integer_address(const struct soft_cpu *cpu, const struct insn *insn)
{
    const struct insn_mem *mem = &insn->mem;
    uint64_t address = (uint64_t)mem->displacement;

    if (mem->rip_relative)
        address += cpu->rip + insn->length;
    if (mem->base != INSN_NO_REG)
        address += cpu->gpr[mem->base];
    if (mem->index != INSN_NO_REG)
        address += cpu->gpr[mem->index] * mem->scale;
    return address & integer_mask(insn->address_size);
}

/* A general register in `size` bytes. */
static inline uint64_t integer_gpr(const struct soft_cpu *cpu, unsigned reg, unsigned size)
{
    return cpu->gpr[reg] & integer_mask(size);
}

static inline void integer_gpr_write(struct soft_cpu *cpu, unsigned reg, unsigned size,
                                     uint64_t value)
{
    uint64_t mask = integer_mask(size);

    cpu->gpr[reg] = size >= 4 ? value & mask : (cpu->gpr[reg] & ~mask) | (value & mask);
}

/* Condition of Jcc, SETcc, CMOVcc on rflags. */
static inline bool integer_condition(const struct soft_cpu *cpu, unsigned condition)
{
    return interp_condition(interp_flags_to_host(cpu->rflags), condition);
}

/* The status flags after a host computation. */
static inline void integer_set_flags(struct soft_cpu *cpu, uint64_t host)
{
    cpu->rflags = (cpu->rflags & ~CPU_FLAGS_STATUS) | interp_flags_from_host(host);
}

/* Operand i, zero-extended; a register never faults. */
uint64_t integer_register(const struct soft_cpu *cpu, const struct insn_operand *operand);
void integer_register_write(struct soft_cpu *cpu, const struct insn_operand *operand,
                            uint64_t value);
enum soft_result integer_read(struct soft_cpu *cpu, const struct insn *insn, unsigned i,
                              uint64_t *ret);
enum soft_result integer_write(struct soft_cpu *cpu, const struct insn *insn, unsigned i,
                               uint64_t value);

/* New value of a destination: from its old one, a second operand and the flags (host layout). */
typedef uint64_t integer_compute_fn(unsigned size, uint64_t a, uint64_t b, uint64_t *flags);

/*
 * operand[0] = compute(operand[0], b), with LOCK as one host atomic where memory allows it and
 * under the VM's bus lock elsewhere. ret_old may be NULL. Flags are committed at the end.
 */
enum soft_result integer_modify(struct soft_cpu *cpu, const struct insn *insn,
                                integer_compute_fn *compute, uint64_t b, uint64_t *ret_old);
/* The same at segment:offset with a size; atomic: as if LOCKed. *flags in host layout. */
enum soft_result integer_modify_memory(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                       unsigned size, bool atomic, integer_compute_fn *compute,
                                       uint64_t b, uint64_t *flags, uint64_t *ret_old);

void integer_bus_lock(struct soft_vm *vm);
void integer_bus_unlock(struct soft_vm *vm);

/* The handler groups, collected by dispatch.c. */
extern const struct soft_handler integer_handlers_arithmetic[], integer_handlers_multiply[],
    integer_handlers_bits[], integer_handlers_move[], integer_handlers_stack[],
    integer_handlers_branch[], integer_handlers_string[], integer_handlers_misc[];

#endif
