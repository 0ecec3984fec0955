/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the system part of the interpreter shares: descriptors, segment loads, far transfers, task
 * switches, debug exceptions, control registers. Handlers that execute in the hot set use
 * debug_update and flags_write.
 *
 * Everything here follows rule 2 of soft_cpu.h: SOFT_FAULT means that no register changed.
 */
#ifndef LODGE_SOFT_INTERP_SYS_H
#define LODGE_SOFT_INTERP_SYS_H

#include "soft/mmu/mmu.h"
#include "soft/soft_cpu.h"

/* Segment and gate types (SDM 3A 3.4.5.1, 3.5). */
#define SEGMENT_TYPE_ACCESSED    1u
#define SEGMENT_TYPE_WRITABLE    2u /* data */
#define SEGMENT_TYPE_READABLE    2u /* code */
#define SEGMENT_TYPE_EXPAND_DOWN 4u /* data */
#define SEGMENT_TYPE_CONFORMING  4u /* code */
#define SEGMENT_TYPE_CODE        8u

enum system_type {
    SYSTEM_TSS16 = 1,
    SYSTEM_LDT = 2,
    SYSTEM_TSS16_BUSY = 3,
    SYSTEM_CALL_GATE16 = 4,
    SYSTEM_TASK_GATE = 5,
    SYSTEM_INTERRUPT_GATE16 = 6,
    SYSTEM_TRAP_GATE16 = 7,
    SYSTEM_TSS = 9,
    SYSTEM_TSS_BUSY = 11,
    SYSTEM_CALL_GATE = 12,
    SYSTEM_INTERRUPT_GATE = 14,
    SYSTEM_TRAP_GATE = 15,
};

/* A descriptor as it stands in its table: low and high double words; upper: the second half of a
 * 16-byte one. */
struct descriptor {
    uint32_t low, high;
    uint32_t upper;
    gva_t address; /* where it was read */
};

static inline uint32_t descriptor_attributes(const struct descriptor *d)
{
    return (d->high >> 8) & 0xf0ff;
}

static inline unsigned descriptor_type(const struct descriptor *d)
{
    return (d->high >> 8) & 0x0f;
}

static inline bool descriptor_is_segment(const struct descriptor *d)
{
    return d->high >> 12 & 1;
}

static inline bool descriptor_is_code(const struct descriptor *d)
{
    return (d->high >> 8 & 0x18) == 0x18;
}

static inline unsigned descriptor_dpl(const struct descriptor *d)
{
    return d->high >> 13 & 3;
}

static inline bool descriptor_present(const struct descriptor *d)
{
    return d->high >> 15 & 1;
}

static inline bool descriptor_conforming(const struct descriptor *d)
{
    return descriptor_is_code(d) && (descriptor_type(d) & SEGMENT_TYPE_CONFORMING);
}

static inline bool selector_is_null(uint16_t selector)
{
    return !(selector & ~3u);
}

static inline bool address_is_canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

static inline bool cpu_long_mode(const struct soft_cpu *cpu)
{
    return cpu->efer & CPU_EFER_LMA;
}

static inline bool cpu_protected(const struct soft_cpu *cpu)
{
    return cpu->mode >= SOFT_MODE_PROTECTED;
}

/* segment.c */

/* Reads the descriptor that selector names. Out of the table's limits: `vector` with the selector
 * as error code. */
enum soft_result descriptor_read(struct soft_cpu *cpu, uint16_t selector, enum cpu_vector vector,
                                 struct descriptor *ret);
/* Adds the second half (a system descriptor of long mode). */
enum soft_result descriptor_read_upper(struct soft_cpu *cpu, uint16_t selector,
                                       enum cpu_vector vector, struct descriptor *d);
/* The hidden part that a descriptor gives. */
void descriptor_expand(const struct descriptor *d, uint16_t selector, struct cpu_segment *ret);
/* Sets the accessed bit in the table where it is clear. */
enum soft_result descriptor_set_accessed(struct soft_cpu *cpu, struct descriptor *d);
/* Replaces the type in the table (busy TSS). */
enum soft_result descriptor_set_type(struct soft_cpu *cpu, struct descriptor *d, unsigned type);

/* A data-segment register load (MOV, POP, LDS...) with all checks, in any mode. Not CS. */
enum soft_result segment_load(struct soft_cpu *cpu, unsigned segment, uint16_t selector);
/* Checks a stack segment for privilege cpl and gives its hidden part. Faults with `vector` (#TS,
 * #GP); #SS when not present. null_allowed: 64-bit mode below CPL 3. */
enum soft_result stack_segment_check(struct soft_cpu *cpu, uint16_t selector, unsigned cpl,
                                     enum cpu_vector vector, bool null_allowed,
                                     struct cpu_segment *ret);
/* What a load gives in real and virtual-8086 mode. */
void segment_set_real(struct soft_cpu *cpu, unsigned segment, uint16_t selector);
void segment_set_null(struct cpu_segment *segment, uint16_t selector, unsigned dpl);
/* After a return to a less privileged level: drops data segments that it may not have. */
void segments_drop_privileged(struct soft_cpu *cpu, unsigned cpl);
enum soft_result ldtr_load(struct soft_cpu *cpu, uint16_t selector, enum cpu_vector vector);

/* far.c, iret.c */

/* A transfer through CS whose checks are done: writes CS and next_rip. */
enum soft_result code_target_check(struct soft_cpu *cpu, const struct descriptor *d,
                                   uint16_t selector, uint64_t offset);
/* The code segment that RET or IRET goes back to, at the level of the selector or further out. */
enum soft_result code_return_check(struct soft_cpu *cpu, uint16_t selector, uint64_t offset,
                                   struct cpu_segment *ret);
/* The frame of a stack switch or a push: values[0] is pushed first. Writes them below *sp of the
 * given stack and moves *sp; the stack is `cpl`'s. Faults: #SS(error) at the limit. */
struct stack {
    struct cpu_segment segment;
    uint64_t sp;
    unsigned cpl;
    unsigned address_size; /* 2, 4, 8 */
    uint32_t error;        /* error code of #SS */
};
enum soft_result stack_push(struct soft_cpu *cpu, struct stack *stack, const uint64_t *values,
                            unsigned nr, unsigned size);
/* The current stack. */
void stack_current(const struct soft_cpu *cpu, struct stack *ret);
/* SP (or ESP, RSP) as wide as the stack's address size; the rest of RSP stays. */
void stack_pointer_write(struct soft_cpu *cpu, unsigned address_size, uint64_t value);
/* Reads value i (0: top) of `size` bytes without moving SP. */
enum soft_result stack_peek(struct soft_cpu *cpu, unsigned i, unsigned size, uint64_t *ret);
/* Privilege level's stack from the TSS (not 64-bit mode): SS:(E)SP checked. */
enum soft_result tss_stack(struct soft_cpu *cpu, unsigned cpl, struct stack *ret);
/* RSP0-2 (index 0..2) or IST1-7 (index 3 + n) of a 64-bit TSS. */
enum soft_result tss_stack_long(struct soft_cpu *cpu, unsigned index, uint64_t *ret);

/* Writes EFLAGS as POPF/IRET at this CPL and operand size would. */
void flags_write(struct soft_cpu *cpu, uint64_t value, unsigned size);

/* task.c */
enum task_source { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_INTERRUPT };
/* Switches to the TSS of selector; next_rip is saved in the old one. */
enum soft_result task_switch(struct soft_cpu *cpu, uint16_t selector, enum task_source source,
                             bool has_error, uint32_t error);
enum soft_result task_switch_gate(struct soft_cpu *cpu, const struct descriptor *gate,
                                  enum task_source source, bool has_error, uint32_t error);

/* debug.c */

#define DEBUG_DR6_BD    (UINT64_C(1) << 13)
#define DEBUG_DR6_BS    (UINT64_C(1) << 14)
#define DEBUG_DR6_BT    (UINT64_C(1) << 15)
#define DEBUG_DR6_FIXED UINT64_C(0xffff0ff0)
#define DEBUG_DR7_FIXED UINT64_C(0x400)
#define DEBUG_DR7_GD    (UINT64_C(1) << 13)

/* Recomputes cpu->debug_active: after a write to RFLAGS.TF or DR7. */
static inline void debug_update(struct soft_cpu *cpu)
{
    cpu->debug_active = (cpu->dr[7] & 0xff) || (cpu->rflags & CPU_FLAG_TF);
}
/* Enabled instruction breakpoints (DR6 bits) at this linear address; the caller has looked at RF.
 */
uint64_t debug_code_hits(const struct soft_cpu *cpu, gva_t address);
/* Records I/O breakpoints at this port. */
void debug_check_io(struct soft_cpu *cpu, unsigned port, unsigned size);
/* Records #DB with these DR6 bits (BS, B0-3 ...): DR6 and DR7.GD as the processor leaves them. */
enum soft_result debug_raise(struct soft_cpu *cpu, uint64_t dr6_bits);

/* msr.c, clock.c */
enum soft_result msr_read(struct soft_cpu *cpu, uint32_t index, uint64_t *ret);
enum soft_result msr_write(struct soft_cpu *cpu, uint32_t index, uint64_t value);
/* Guest TSC becomes value; vCPUs that are set within a second of one another stay in step. */
void tsc_write(struct soft_cpu *cpu, uint64_t value);
/* The same from outside the guest: the TSC is at least value afterwards. While the VM does not run,
 * or with a value that was just read. */
void tsc_restore(struct soft_cpu *cpu, uint64_t value);
void kvmclock_write_system_time(struct soft_cpu *cpu);
void kvmclock_write_wall_clock(struct soft_cpu *cpu);

/* cpuid_insn.c */
void cpuid_of(const struct soft_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t ret[4]);
bool cpu_is_intel(const struct soft_cpu *cpu);

/* operand.c: operands of system instructions. */
uint64_t sys_effective_address(const struct soft_cpu *cpu, const struct insn *insn);
uint64_t sys_reg_read(const struct soft_cpu *cpu, const struct insn_operand *operand);
void sys_reg_write(struct soft_cpu *cpu, const struct insn_operand *operand, uint64_t value);
/* Register or memory; size: how many bytes of it. */
enum soft_result sys_operand_read(struct soft_cpu *cpu, const struct insn *insn, unsigned i,
                                  unsigned size, uint64_t *ret);
enum soft_result sys_operand_write(struct soft_cpu *cpu, const struct insn *insn, unsigned i,
                                   uint64_t value);

/* The handlers, by file; collected in system.c. op_push_seg and op_pop_seg are for whoever owns
 * PUSH and POP. */
soft_handler_fn op_mov_seg, op_push_seg, op_pop_seg, op_load_far_pointer;
soft_handler_fn op_lgdt_lidt, op_sgdt_sidt, op_lldt, op_ltr, op_sldt, op_str;
soft_handler_fn op_lar_lsl, op_verr_verw, op_arpl;
soft_handler_fn op_call_far, op_jmp_far, op_ret_far, op_iret;
soft_handler_fn op_syscall, op_sysret, op_sysenter, op_sysexit;
soft_handler_fn op_mov_cr, op_clts, op_lmsw, op_smsw, op_invlpg, op_invpcid;
soft_handler_fn op_xsetbv, op_xgetbv, op_clac_stac, op_swapgs, op_fsgsbase, op_cache;
soft_handler_fn op_mov_dr, op_rdmsr, op_wrmsr, op_cpuid, op_monitor, op_hypercall, op_rsm;
soft_handler_fn op_in, op_out, op_ins, op_outs;

#endif
