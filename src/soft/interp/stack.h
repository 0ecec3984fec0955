/* SPDX-License-Identifier: Apache-2.0 */
/* Pushes and pops of integer handlers, in the current stack's address size. */
#ifndef LODGE_SOFT_INTERP_STACK_H
#define LODGE_SOFT_INTERP_STACK_H

#include "soft/interp/integer.h"

static inline uint64_t integer_stack_pointer(const struct soft_cpu *cpu)
{
    return cpu->gpr[CPU_RSP] & integer_mask(cpu->stack_size);
}

static inline void integer_stack_pointer_write(struct soft_cpu *cpu, uint64_t value)
{
    integer_gpr_write(cpu, CPU_RSP, cpu->stack_size, value);
}

/* Below *sp, above *sp; *sp moves when it worked, rSP does not. */
enum soft_result integer_push_at(struct soft_cpu *cpu, uint64_t *sp, unsigned size, uint64_t value);
enum soft_result integer_pop_at(struct soft_cpu *cpu, uint64_t *sp, unsigned size, uint64_t *ret);

#endif
