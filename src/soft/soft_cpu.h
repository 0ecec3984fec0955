/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One software vCPU, as the parts of src/soft see it, and the rules by which they work together.
 *
 * Rules:
 *  1. An instruction handler gets cpu->rip at its own instruction and cpu->next_rip behind it. A
 * branch writes next_rip. The run loop moves rip to next_rip when the handler returns SOFT_OK.
 *  2. A handler that faults calls fault_raise (or gets SOFT_FAULT from a memory access) and returns
 * SOFT_FAULT with no guest state changed: every check and every access that can fault comes before
 * the first write to a register, flag or memory. (Exceptions, as in the architecture: string
 * instructions between iterations, accessed and dirty bits.)
 *  3. Exactly one place delivers exceptions and interrupts: the run loop, through
 * interrupt_deliver.
 *  4. Derived state (mode, cpl, mmu context) is recomputed by soft_cpu_update_mode after any write
 * to CR0, CR3, CR4, EFER, RFLAGS.VM or CS/SS, and nowhere else.
 *  5. RFLAGS is always materialised in cpu->rflags with bit 1 set.
 *  6. The run loop rechecks `requests`, interrupts and single step at block ends; a handler that
 * may change what they depend on (IF, TF, shadow, CR8, mode, code bytes) sets cpu->end_block.
 *
 * Threads: everything here belongs to the vCPU's own thread, except cpu.requests and what a comment
 * says.
 */
#ifndef LODGE_SOFT_SOFT_CPU_H
#define LODGE_SOFT_SOFT_CPU_H

#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "soft/decode/insn.h"
#include "soft/fpu/fpu_state.h"
#include "soft/interp/interp_state.h"
#include "soft/mmu/mmu_state.h"
#include "soft/tier.h"

#include <stdbool.h>
#include <stdint.h>

enum soft_result {
    SOFT_OK = 0,
    SOFT_FAULT = 1,  /* cpu->fault says which exception */
    SOFT_EXIT = 2,   /* cpu->exit is filled: leave cpu_run (rip as the exit kind documents) */
    SOFT_REPEAT = 3, /* a REP string instruction gave way between iterations: state is consistent,
                        run it again */
    SOFT_INTERRUPT = 4, /* INT n, INT3, INTO: interp.event_* is to be delivered; rip is at the
                           instruction, next_rip behind it */
};

enum soft_mode {
    SOFT_MODE_REAL,
    SOFT_MODE_V86,
    SOFT_MODE_PROTECTED, /* 16- or 32-bit by CS.D */
    SOFT_MODE_COMPAT,    /* long mode, CS.L = 0 */
    SOFT_MODE_LONG64,
};

/* The exception that the current instruction raised. */
struct soft_fault {
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t cr2; /* for #PF: written to CR2 at delivery */
};

struct soft_cpu;

/* A handler outside the hot set of the interpreter. */
typedef enum soft_result soft_handler_fn(struct soft_cpu *cpu, const struct insn *insn);

struct translate_guards;

struct soft_vm {
    const struct cpu_vm_config *config; /* own copy */
    struct cpu_vm_config config_copy;
    struct memory *memory;
    struct soft_cpu *cpus[CPU_MAX];     /* set as they are made, read by other vCPUs atomically */
    uint8_t features[INSN_NR_FEATURES]; /* 1: exposed by the CPUID policy */
    uint64_t physical_address_mask;
    int translate_runs;      /* interpreted runs of a block before it is translated; -1: never is */
    size_t translate_memory; /* of all vCPUs: translated code and its tables */
    enum soft_window translate_window;
    struct translate_guards *guards; /* translate/guard.c */
    /* Serialises LOCKed accesses that cannot be done as one host atomic (page-crossing, MMIO). */
    int bus_lock;
    /* Decoded code (interp/cache.h): one bit per 64 bytes of guest memory that some vCPU may hold
     * decoded, one word a page, per slot. */
    pthread_mutex_t code_lock;
    uint64_t *code_granules[MEMORY_SLOTS_MAX];
    soft_handler_fn *handlers[INSN_NR_IDS]; /* interp/dispatch.c */
    /* The TSC offset that vCPUs share (interp/clock.c), under tsc_lock. */
    int tsc_lock;
    bool tsc_offset_valid;
    uint64_t tsc_offset;
};

struct translate;

struct soft_cpu {
    struct cpu cpu; /* first */
    struct soft_vm *vm;
    struct translate *translate; /* NULL: this vCPU only interprets */
    uint32_t user_key;           /* of the key of blocks at CPL 3: interp/cache.h */

    uint64_t gpr[CPU_NR_GPRS];
    uint64_t rip, next_rip;
    uint64_t rflags;
    uint64_t zero; /* always 0: what an absent base or index register reads as (interp/op.h) */
    /* Inside a block of the interpreter the status flags live here, not in rflags, as LAHF and SETO
     * leave them in AX. Handlers of the groups below never see that state. */
    uint64_t host_flags;
    struct cpu_segment segment[CPU_NR_SEGMENTS];
    struct cpu_segment tr, ldtr;
    struct cpu_table_register gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4;
    uint64_t xcr0;
    uint64_t dr[8];
    uint64_t efer;
    uint64_t star, lstar, cstar, sfmask;
    uint64_t kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat;
    uint64_t tsc_offset; /* guest TSC = host TSC + tsc_offset */
    uint64_t tsc_adjust, tsc_aux;
    uint64_t misc_enable;
    uint64_t spec_ctrl;
    uint64_t debugctl;
    struct cpu_mtrr mtrr;
    uint64_t kvm_wall_clock_msr, kvm_system_time_msr;

    /* Derived (rule 4). */
    uint8_t mode;      /* enum soft_mode */
    uint8_t code_mode; /* enum insn_mode: how CS:RIP decodes */
    uint8_t cpl;
    uint8_t stack_size; /* 2, 4, 8: the stack-address size */
    /* All of ES, CS, SS, DS have base 0 and cover the whole address space: linear = offset. True in
     * long mode. */
    bool flat_segments;

    uint8_t activity;      /* enum cpu_activity */
    bool interrupt_shadow; /* cleared by the run loop after the next instruction */
    bool nmi_pending, nmi_blocked;
    bool interrupt_possible; /* CPU_REQUEST_INTERRUPT was taken and acknowledge has not yet said -1
                              */
    bool end_block;          /* rule 6 */
    bool debug_active; /* DR7 enables a breakpoint, or RFLAGS.TF: the run loop goes one instruction
                          at a time */
    uint64_t debug_hits; /* DR6 bits to report as a trap after this instruction */

    struct soft_fault fault;
    struct cpu_exit exit;
    struct cpu_counters counters;

    struct soft_mmu mmu;
    struct soft_fpu fpu;
    struct soft_interp interp;
};

/* A group of handlers: terminated by {INSN_NONE, NULL}. Registered by interp/dispatch.c; one id has
 * one handler. */
struct soft_handler {
    enum insn_id id;
    soft_handler_fn *run;
};

extern const struct soft_handler
    soft_handlers_system[]; /* interp/system*.c, far transfers, IRET, MSRs, I/O ports */

/* Records the exception and returns SOFT_FAULT. (soft/interp/fault.c) */
enum soft_result fault_raise(struct soft_cpu *cpu, enum cpu_vector vector);
enum soft_result fault_raise_error(struct soft_cpu *cpu, enum cpu_vector vector, uint32_t error);
enum soft_result fault_raise_page(struct soft_cpu *cpu, gva_t address, uint32_t error);

enum soft_event {
    SOFT_EVENT_EXCEPTION,          /* fault or trap raised by the processor */
    SOFT_EVENT_SOFTWARE_INTERRUPT, /* INT n, INT3, INTO: DPL checked */
    SOFT_EVENT_EXTERNAL,           /* hardware interrupt, NMI */
};

/*
 * Delivers an event through IVT, IDT or task gate, in any mode (SDM 3A 6.12, 6.14, 20.1). cpu->rip
 * is what is pushed (already past the instruction for traps); for SOFT_EVENT_SOFTWARE_INTERRUPT it
 * is next_rip, and rip is at the instruction for the faults that delivery may meet. CR2 of a #PF
 * comes from cpu->fault. On SOFT_OK rip, CS, stack and flags
 * are the handler's. Double and triple faults are resolved inside: a triple fault gives SOFT_EXIT
 * with CPU_EXIT_SHUTDOWN.
 */
enum soft_result interrupt_deliver(struct soft_cpu *cpu, uint8_t vector, enum soft_event event,
                                   bool has_error, uint32_t error);

/* Rule 4. (soft/interp/mode.c) */
void soft_cpu_update_mode(struct soft_cpu *cpu);

/* cpu_engine.get_state and set_state. (soft/interp/state.c) */
int soft_get_state(struct cpu *cpu, struct cpu_state *ret, struct err *err);
int soft_set_state(struct cpu *cpu, const struct cpu_state *state, struct err *err);

static inline uint64_t soft_tsc(const struct soft_cpu *cpu)
{
    return cpu_host_tsc() + cpu->tsc_offset;
}

#endif
