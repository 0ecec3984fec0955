/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records the exception of the current instruction in cpu->fault. Delivery is interrupt.c's,
 * called by the run loop alone.
 */
#include "soft/soft_cpu.h"

enum soft_result fault_raise(struct soft_cpu *cpu, enum cpu_vector vector)
{
    cpu->fault = (struct soft_fault){.vector = (uint8_t)vector};
    return SOFT_FAULT;
}

enum soft_result fault_raise_error(struct soft_cpu *cpu, enum cpu_vector vector, uint32_t error)
{
    cpu->fault = (struct soft_fault){
        .vector = (uint8_t)vector,
        .has_error = true,
        .error = error,
    };
    return SOFT_FAULT;
}

enum soft_result fault_raise_page(struct soft_cpu *cpu, gva_t address, uint32_t error)
{
    cpu->fault = (struct soft_fault){
        .vector = CPU_VECTOR_PF,
        .has_error = true,
        .error = error,
        .cr2 = address,
    };
    return SOFT_FAULT;
}
