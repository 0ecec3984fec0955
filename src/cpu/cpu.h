/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a vCPU is, whichever engine executes it. Devices (machine/) and monitors (vmm/) meet a vCPU
 * only here, so both engines run the same machine and a test runs the same guest on each and
 * compares.
 *
 * How a vCPU meets the machine:
 *  - Port and memory-mapped I/O are calls on struct cpu_bus, made on the vCPU's own thread in
 * program order. An instruction with several device accesses therefore needs no replay.
 *  - Interrupt controllers outside the engine (soft) are reached through struct cpu_irqchip; an
 * engine with its own (kvm) implements cpu_engine.irq_line/msi and never calls it.
 *  - Everything asynchronous reaches a vCPU as a request bit (cpu_request), from any thread.
 * Request bits are sticky until the engine takes them: no wake-up is lost between a check and a
 * wait.
 *  - cpu_run returns only when the monitor has to act.
 *
 * Threads: cpu_run, cpu_get_state, cpu_set_state only from the vCPU's thread (or while it does not
 * run); cpu_request from any thread and from signal handlers. cpu_bus and cpu_irqchip functions are
 * called concurrently by all vCPU threads: the machine locks.
 */
#ifndef LODGE_CPU_CPU_H
#define LODGE_CPU_CPU_H

#include "base/err.h"
#include "base/idle.h"
#include "cpu/memory.h"
#include "cpu/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPU_MAX 64

struct cpu;
struct cpu_vm;
struct cpuid_policy;

enum cpu_exit_kind {
    CPU_EXIT_KICK,      /* CPU_REQUEST_KICK was taken */
    CPU_EXIT_HALT,      /* halted or waiting for SIPI: call cpu_wait, then run again */
    CPU_EXIT_SHUTDOWN,  /* triple fault */
    CPU_EXIT_HYPERCALL, /* VMCALL/VMMCALL; arguments in the registers; rax is to be set; RIP is past
                           it */
    CPU_EXIT_UNSUPPORTED, /* an instruction or state that the engine cannot execute; RIP points at
                             it */
};

#define CPU_INSN_MAX 15

struct cpu_exit {
    enum cpu_exit_kind kind;
    struct {
        gva_t linear_address; /* of the instruction */
        uint8_t bytes[CPU_INSN_MAX];
        uint8_t nr_bytes;   /* 0 when they could not be fetched */
        const char *reason; /* static text */
    } unsupported;
};

/* size is 1, 2, 4 (ports) or 1..8 (memory). A read of nothing gives all ones; a write to nothing is
 * dropped. */
struct cpu_bus {
    void *context;
    void (*io_read)(void *context, unsigned cpu, uint16_t port, void *data, unsigned size);
    void (*io_write)(void *context, unsigned cpu, uint16_t port, const void *data, unsigned size);
    void (*mmio_read)(void *context, unsigned cpu, gpa_t gpa, void *data, unsigned size);
    void (*mmio_write)(void *context, unsigned cpu, gpa_t gpa, const void *data, unsigned size);
};

struct cpu_irqchip {
    void *context;
    /* Takes the highest-priority deliverable interrupt of `cpu` (local APIC, else PIC as ExtINT):
     * its vector, or -1. Called only when the vCPU can take an interrupt now. */
    int (*acknowledge)(void *context, unsigned cpu);
    /* Would acknowledge give a vector now? Side-effect free. */
    bool (*pending)(void *context, unsigned cpu);
    uint64_t (*cr8_read)(void *context, unsigned cpu);
    void (*cr8_write)(void *context, unsigned cpu, uint64_t value);
    /* IA32_APIC_BASE, IA32_TSC_DEADLINE, x2APIC 0x800-0x8ff. 0, or -EINVAL: the guest gets #GP(0).
     */
    int (*msr_read)(void *context, unsigned cpu, uint32_t index, uint64_t *ret);
    int (*msr_write)(void *context, unsigned cpu, uint32_t index, uint64_t value);
};

/* Bits of cpu.requests. */
#define CPU_REQUEST_KICK      (1u << 0) /* return CPU_EXIT_KICK */
#define CPU_REQUEST_INTERRUPT (1u << 1) /* irqchip.acknowledge may have a vector now */
#define CPU_REQUEST_NMI       (1u << 2)
#define CPU_REQUEST_INIT      (1u << 3)
#define CPU_REQUEST_SIPI      (1u << 4) /* vector in cpu.sipi_vector */
#define CPU_REQUEST_ENGINE    (1u << 5) /* engine-private (remote TLB flush, code invalidation) */

struct cpu_vm_config {
    unsigned nr_cpus;
    struct memory *memory;             /* borrowed; outlives the VM */
    const struct cpu_bus *bus;         /* borrowed */
    const struct cpu_irqchip *irqchip; /* borrowed; not used by an engine with its own */
    const struct cpuid_policy *cpuid;  /* borrowed */
    uint64_t tsc_hz;     /* guest TSC frequency, = the host's unless the engine can scale */
    const char *options; /* engine-specific, e.g. "tier=interp"; NULL: none */
};

/* Counters, all monotonic; an engine leaves at 0 what it does not know. */
struct cpu_counters {
    uint64_t instructions;
    uint64_t blocks_decoded;
    uint64_t blocks_invalidated;
    uint64_t blocks_translated;    /* made into host code */
    uint64_t translated_exits;     /* times that host code was left */
    uint64_t translated_fills;     /* pages cached for host code */
    uint64_t translated_handbacks; /* instructions that host code left to the interpreter */
    uint64_t tlb_misses;
    uint64_t tlb_flushes;
    uint64_t exceptions;
    uint64_t interrupts;
    uint64_t io_accesses;
    uint64_t mmio_accesses;
    uint64_t halts;
};

/* One figure that is an engine's own: group and name are static text. */
typedef void cpu_figure_fn(void *context, const char *group, const char *name, uint64_t value);

/* Where a guest is: a linear address, and in which address space. */
struct cpu_position {
    uint64_t address;
    uint64_t space; /* CR3's page when the guest is in user mode, else 0 */
    bool user;
};

/* Host code at `host` that does what the guest's code at `guest` says. */
typedef void cpu_code_fn(void *context, const void *host, size_t size_bytes, gva_t guest,
                         bool user);

struct cpu_engine {
    const char *name; /* "soft", "kvm" */
    /* 0 when this engine can run here; otherwise why not. */
    int (*probe)(struct err *err);
    int (*vm_new)(const struct cpu_vm_config *config, struct cpu_vm **ret, struct err *err);
    void (*vm_free)(struct cpu_vm *vm);
    /* In reset state (cpu_state_reset). Call on the thread that will run it. */
    int (*cpu_new)(struct cpu_vm *vm, unsigned index, struct cpu **ret, struct err *err);
    void (*cpu_free)(struct cpu *cpu);
    /* 0 with *ret filled; negative only for a failure of the engine itself. */
    int (*run)(struct cpu *cpu, struct cpu_exit *ret, struct err *err);
    int (*get_state)(struct cpu *cpu, struct cpu_state *ret, struct err *err);
    int (*set_state)(struct cpu *cpu, const struct cpu_state *state, struct err *err);
    /* Makes a running cpu_run look at cpu.requests soon. Any thread; NULL: the engine polls. */
    void (*kick)(struct cpu *cpu);
    void (*counters)(struct cpu *cpu, struct cpu_counters *ret);
    /* What no other engine has: calls fn for each. Any thread, while the vCPU exists. NULL: none.
     */
    void (*figures)(struct cpu *cpu, cpu_figure_fn *fn, void *context);
    /* Async-signal-safe: what the guest is doing now, called on the vCPU's thread by a signal
     * handler with its ucontext_t. NULL: the engine cannot say. */
    bool (*position)(struct cpu *cpu, const void *context, struct cpu_position *ret);
    /* The host code that there is now, for a vCPU that does not run. NULL: none is made. */
    void (*code_map)(struct cpu *cpu, cpu_code_fn *fn, void *context);
    int (*dirty_log_changed)(struct cpu_vm *vm, struct err *err);
    /* What RDTSC would give on this vCPU now; called on its thread, from irqchip.msr_write, to turn
     * a TSC deadline into time. NULL: the host's TSC. */
    uint64_t (*guest_tsc)(struct cpu *cpu);
    /* Brings what the engine logged by itself into the slots' dirty logs; call before
     * memory_dirty_fetch. NULL: the engine writes them directly. */
    int (*dirty_log_sync)(struct cpu_vm *vm, struct err *err);

    /* Only where the interrupt controllers are the engine's own; else NULL. */
    int (*irq_line)(struct cpu_vm *vm, unsigned gsi, bool level);
    int (*msi)(struct cpu_vm *vm, uint64_t address, uint32_t data);
};

/* Head of every engine's vCPU. */
struct cpu {
    const struct cpu_engine *engine;
    struct cpu_vm *vm;
    unsigned index;       /* = local APIC id */
    uint32_t requests;    /* atomic; also the futex word of cpu_wait */
    uint32_t sipi_vector; /* written before CPU_REQUEST_SIPI is set */
    uint32_t waiting;     /* atomic: cpu_wait sleeps, or is about to */
    struct idle idle;     /* cpu_wait's */
};

/* Sets request bits, wakes a waiting vCPU and kicks a running one. */
void cpu_request(struct cpu *cpu, uint32_t bits);
/* Takes (clears and returns) those of `bits` that are set. */
static inline uint32_t cpu_take_requests(struct cpu *cpu, uint32_t bits)
{
    return __atomic_fetch_and(&cpu->requests, ~bits, __ATOMIC_ACQ_REL) & bits;
}
static inline uint32_t cpu_peek_requests(const struct cpu *cpu)
{
    return __atomic_load_n(&cpu->requests, __ATOMIC_RELAXED);
}
/* Blocks until any request bit is set. The vCPU's thread. */
void cpu_wait(struct cpu *cpu);

/* The host's TSC frequency in Hz (measured once against CLOCK_MONOTONIC_RAW where the kernel does
 * not say). */
uint64_t cpu_host_tsc_hz(void);

static inline uint64_t cpu_host_tsc(void)
{
    return __builtin_ia32_rdtsc();
}

#endif
