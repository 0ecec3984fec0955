/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run loop.
 *
 *   run ──▶ attention ──▶ execute: blocks, until a request, a fault, end_block or an exit
 *    ▲          │     └─▶ step:    one instruction (interrupt shadow, RF, TF, armed breakpoints)
 *    └── settle ◀── fault, INT n, #DB: the only place that delivers them
 *
 * Order at an instruction boundary (SDM 3A 6.9): requests (kick, code messages, INIT, SIPI), traps
 * of the last instruction, NMI, external interrupt, instruction breakpoint, fetch, execution.
 *
 * Invariants:
 *  1. Outside execute and step's inner call RFLAGS is whole in cpu->rflags.
 *  2. cpu->end_block is raised by whoever changes what attention looks at; attention clears it.
 *
 * Threads: the vCPU's own; requests come from any.
 */
#include "soft/interp/cache.h"
#include "soft/interp/run.h"
#include "soft/interp/sys.h"
#include "soft/translate/translate.h"

static uint64_t code_linear(const struct soft_cpu *cpu)
{
    uint64_t linear = cpu->rip + cpu->segment[CPU_CS].base;

    return LIKELY(cpu->code_mode == INSN_MODE_64) ? cpu->rip : (uint32_t)linear;
}

/* Does cached code lie beyond the CS limit? The fetch then has to raise #GP. */
static bool beyond_limit(const struct soft_cpu *cpu)
{
    return UNLIKELY(cpu->code_mode != INSN_MODE_64) && cpu->rip > cpu->segment[CPU_CS].limit;
}

static inline bool attention_due(const struct soft_cpu *cpu)
{
    return cpu->end_block || cpu_peek_requests(&cpu->cpu);
}

/* Blocks, until something else has to be looked at. */
static int execute(struct soft_cpu *cpu)
{
    uint64_t instructions = 0;
    int result;

    interp_flags_load(cpu);
    do {
        uint64_t linear = code_linear(cpu);
        const struct interp_jump *jump = cache_jump(cpu, linear);
        struct interp_block *block = jump->block;

        if (UNLIKELY(jump->linear != linear || jump->context != cache_context(cpu)) ||
            beyond_limit(cpu)) {
            result = cache_find(cpu, false, &block);
            if (result)
                break;
        }
        instructions += block->nr_instructions;
        result = block->ops[0].run(cpu, &block->ops[0]);
        if (UNLIKELY(result)) {
            instructions += (uint64_t)cpu->interp.executed - block->nr_instructions;
            if (result != INTERP_LEFT)
                break;
            result = SOFT_OK;
        }
    } while (LIKELY(!attention_due(cpu)));
    interp_flags_store(cpu);
    cpu->counters.instructions += instructions;
    return result;
}

/* One instruction, with what an armed breakpoint, TF, RF or an interrupt shadow ask for. */
static int step(struct soft_cpu *cpu)
{
    uint64_t resume = cpu->rflags & CPU_FLAG_RF;
    bool trap = cpu->rflags & CPU_FLAG_TF;
    struct interp_block *block;
    uint64_t hits;
    int result;

    if (cpu->debug_active && !resume) {
        hits = debug_code_hits(cpu, code_linear(cpu));
        if (hits)
            return (int)debug_raise(cpu, hits);
    }
    result = cache_find(cpu, true, &block);
    if (result)
        return result;
    cpu->interrupt_shadow = false;
    cpu->rflags &= ~CPU_FLAG_RF;
    interp_flags_load(cpu);
    result = block->ops[0].run(cpu, &block->ops[0]);
    interp_flags_store(cpu);
    cpu->end_block = true;
    if (result == INTERP_LEFT)
        result = SOFT_OK;
    if (result == SOFT_FAULT || result == SOFT_REPEAT)
        cpu->rflags |= resume;
    if (result == SOFT_OK)
        cpu->counters.instructions++;
    if (result != SOFT_OK && result != SOFT_REPEAT)
        return result;
    if (trap)
        cpu->debug_hits |= DEBUG_DR6_BS;
    if (cpu->debug_hits)
        return (int)debug_raise(cpu, cpu->debug_hits);
    return result;
}

/* Delivers what the last instruction raised. SOFT_OK, or SOFT_EXIT. */
static int settle(struct soft_cpu *cpu, int result)
{
    switch (result) {
    case SOFT_FAULT:
        cpu->activity = CPU_ACTIVITY_RUNNING; /* the trap of a single-stepped HLT */
        return (int)interrupt_deliver(cpu, cpu->fault.vector, SOFT_EVENT_EXCEPTION,
                                      cpu->fault.has_error, cpu->fault.error);
    case SOFT_INTERRUPT:
        return (int)interrupt_deliver(cpu, cpu->interp.event_vector,
                                      (enum soft_event)cpu->interp.event_kind, false, 0);
    case SOFT_EXIT:
        return SOFT_EXIT;
    default:
        return SOFT_OK;
    }
}

static int leave(struct soft_cpu *cpu, enum cpu_exit_kind kind)
{
    cpu->exit.kind = kind;
    return SOFT_EXIT;
}

/* Takes the request bits that only change state. */
static void take_requests(struct soft_cpu *cpu)
{
    uint32_t bits = cpu_take_requests(&cpu->cpu, CPU_REQUEST_ENGINE | CPU_REQUEST_INIT |
                                                     CPU_REQUEST_NMI | CPU_REQUEST_INTERRUPT);

    if (bits & CPU_REQUEST_ENGINE)
        cache_take_mail(cpu);
    if (bits & CPU_REQUEST_INIT)
        run_init(cpu);
    if (bits & CPU_REQUEST_NMI)
        cpu->nmi_pending = true;
    if (bits & CPU_REQUEST_INTERRUPT)
        cpu->interrupt_possible = true;
    /* A SIPI counts only in the wait for it (SDM 3A 8.4.3). */
    if (cpu_take_requests(&cpu->cpu, CPU_REQUEST_SIPI) &&
        cpu->activity == CPU_ACTIVITY_WAIT_FOR_SIPI)
        run_sipi(cpu);
}

/* The vector of an external interrupt that is to be delivered now, or -1. */
static int interrupt_take(struct soft_cpu *cpu)
{
    const struct cpu_irqchip *irqchip = cpu->vm->config->irqchip;
    int vector;

    if (!cpu->interrupt_possible || !(cpu->rflags & CPU_FLAG_IF) || cpu->interrupt_shadow)
        return -1;
    vector = irqchip ? irqchip->acknowledge(irqchip->context, cpu->cpu.index) : -1;
    if (vector < 0)
        cpu->interrupt_possible = false;
    return vector;
}

/* What is due at an instruction boundary. SOFT_OK: go on executing. */
static int attention(struct soft_cpu *cpu)
{
    int vector;

    cpu->end_block = false;
    if (cpu_peek_requests(&cpu->cpu))
        take_requests(cpu);
    if (cpu_take_requests(&cpu->cpu, CPU_REQUEST_KICK))
        return leave(cpu, CPU_EXIT_KICK);
    if (cpu->activity == CPU_ACTIVITY_SHUTDOWN)
        return leave(cpu, CPU_EXIT_SHUTDOWN);
    if (cpu->activity == CPU_ACTIVITY_WAIT_FOR_SIPI)
        return leave(cpu, CPU_EXIT_HALT);
    if (cpu->nmi_pending && !cpu->nmi_blocked && !cpu->interrupt_shadow) {
        cpu->nmi_pending = false;
        cpu->activity = CPU_ACTIVITY_RUNNING;
        return (int)interrupt_deliver(cpu, CPU_VECTOR_NMI, SOFT_EVENT_EXTERNAL, false, 0);
    }
    vector = interrupt_take(cpu);
    if (vector >= 0) {
        cpu->activity = CPU_ACTIVITY_RUNNING;
        return (int)interrupt_deliver(cpu, (uint8_t)vector, SOFT_EVENT_EXTERNAL, false, 0);
    }
    if (cpu->activity == CPU_ACTIVITY_HALTED) {
        cpu->counters.halts++;
        return leave(cpu, CPU_EXIT_HALT);
    }
    return SOFT_OK;
}

/* RF only keeps instruction breakpoints quiet; where none is armed, it is as well cleared before
 * the next instruction as after it (a fault sets it in the image that it pushes). */
static bool step_needed(struct soft_cpu *cpu)
{
    if (!cpu->debug_active)
        cpu->rflags &= ~CPU_FLAG_RF;
    return cpu->debug_active || cpu->interrupt_shadow || (cpu->rflags & CPU_FLAG_RF);
}

void run_until_exit(struct soft_cpu *cpu)
{
    int result;

    cpu->interp.thread = pthread_self();
    __atomic_store_n(&cpu->interp.in_run, true, __ATOMIC_RELEASE);
    cpu->end_block = true;
    if (cpu->translate)
        translate_begin(cpu);
    do {
        result = attention(cpu);
        if (result == SOFT_OK && step_needed(cpu))
            result = settle(cpu, step(cpu));
        else if (result == SOFT_OK)
            result = settle(cpu, cpu->translate ? translate_execute(cpu) : execute(cpu));
    } while (result != SOFT_EXIT);
    __atomic_store_n(&cpu->interp.in_run, false, __ATOMIC_RELEASE);
}
