/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delivery of exceptions and interrupts in every mode, and what happens when delivery itself
 * faults.
 *
 *   deliver ──▶ real: deliver_real        IVT entry
 *           ├─▶ 32-bit: deliver_protected gate ──▶ task_switch_gate | same level | inner level |
 * from v86 └─▶ long: deliver_long        gate, IST or RSPn fault in delivery ──▶ compose ──▶ the
 * second exception | #DF | shutdown
 *
 * Nothing of the vCPU changes before every check of the frame has passed and the frame is written.
 *
 * Source: SDM 3A 6.11-6.15, table 6-5 (double fault), 20.1.4, 20.3; AMD APM 2 8.7-8.9.
 */
#include "soft/interp/sys.h"

#define ERROR_EXT 1u
#define ERROR_IDT 2u

struct event {
    uint8_t vector;
    enum soft_event kind;
    bool has_error;
    uint32_t error;
};

struct gate {
    unsigned type;
    unsigned dpl;
    bool present;
    unsigned ist;
    uint16_t selector;
    uint64_t offset;
    struct descriptor descriptor;
};

static uint32_t idt_error(const struct event *event)
{
    return (uint32_t)event->vector * 8 + ERROR_IDT;
}

/* What is saved: an INT instruction returns behind itself, a trap or fault is already placed. */
static uint64_t saved_rip(const struct soft_cpu *cpu, const struct event *event)
{
    return event->kind == SOFT_EVENT_SOFTWARE_INTERRUPT ? cpu->next_rip : cpu->rip;
}

/* RF is set in the image of faults, so that an instruction breakpoint does not hit again. #DB is
 * a trap, or a fault on such a breakpoint whose handler sets RF itself. */
static uint64_t saved_flags(const struct soft_cpu *cpu, const struct event *event)
{
    bool fault = event->kind == SOFT_EVENT_EXCEPTION && event->vector != CPU_VECTOR_DB &&
                 event->vector != CPU_VECTOR_BP && event->vector != CPU_VECTOR_OF &&
                 event->vector != CPU_VECTOR_DF && event->vector != CPU_VECTOR_MC;

    return cpu->rflags | (fault ? CPU_FLAG_RF : 0);
}

static enum soft_result deliver_real(struct soft_cpu *cpu, const struct event *event)
{
    uint64_t frame[3] = {saved_flags(cpu, event) & 0xffff, cpu->segment[CPU_CS].selector,
                         saved_rip(cpu, event) & 0xffff};
    enum soft_result result;
    struct stack stack;
    uint16_t entry[2];

    if (event->vector * 4u + 3 > cpu->idtr.limit)
        return fault_raise_error(cpu, CPU_VECTOR_GP, idt_error(event));
    result = mmu_load_system(cpu, (uint32_t)(cpu->idtr.base + event->vector * 4u), entry, 4);
    if (result)
        return result;
    stack_current(cpu, &stack);
    result = stack_push(cpu, &stack, frame, 3, 2);
    if (result)
        return result;
    stack_pointer_write(cpu, stack.address_size, stack.sp);
    segment_set_real(cpu, CPU_CS, entry[1]);
    cpu->rip = entry[0];
    cpu->rflags &= ~(CPU_FLAG_IF | CPU_FLAG_TF | CPU_FLAG_AC | CPU_FLAG_RF);
    return SOFT_OK;
}

static enum soft_result gate_read(struct soft_cpu *cpu, const struct event *event, struct gate *ret)
{
    unsigned size = cpu_long_mode(cpu) ? 16 : 8;
    uint32_t raw[4] = {0};
    enum soft_result result;

    if (event->vector * size + size - 1 > cpu->idtr.limit)
        return fault_raise_error(cpu, CPU_VECTOR_GP, idt_error(event));
    result = mmu_load_system(cpu, cpu->idtr.base + event->vector * size, raw, size);
    if (result)
        return result;
    ret->descriptor = (struct descriptor){.low = raw[0], .high = raw[1]};
    ret->type = raw[1] >> 8 & 0x1f;
    ret->dpl = raw[1] >> 13 & 3;
    ret->present = raw[1] >> 15 & 1;
    ret->ist = size == 16 ? raw[1] & 7 : 0;
    ret->selector = (uint16_t)(raw[0] >> 16);
    ret->offset = (raw[0] & 0xffff) | (raw[1] & 0xffff0000) | (uint64_t)raw[2] << 32;
    return SOFT_OK;
}

static enum soft_result gate_check(struct soft_cpu *cpu, const struct event *event,
                                   struct gate *gate)
{
    bool wide = gate->type == SYSTEM_INTERRUPT_GATE || gate->type == SYSTEM_TRAP_GATE;
    bool legacy = gate->type == SYSTEM_INTERRUPT_GATE16 || gate->type == SYSTEM_TRAP_GATE16 ||
                  gate->type == SYSTEM_TASK_GATE;

    if (!wide && !(legacy && !cpu_long_mode(cpu)))
        return fault_raise_error(cpu, CPU_VECTOR_GP, idt_error(event));
    if (event->kind == SOFT_EVENT_SOFTWARE_INTERRUPT && gate->dpl < cpu->cpl)
        return fault_raise_error(cpu, CPU_VECTOR_GP, idt_error(event));
    if (!gate->present)
        return fault_raise_error(cpu, CPU_VECTOR_NP, idt_error(event));
    if (!wide && gate->type != SYSTEM_TASK_GATE)
        gate->offset &= 0xffff;
    return SOFT_OK;
}

/* The handler's code segment, and the privilege it runs at. */
static enum soft_result gate_target(struct soft_cpu *cpu, const struct gate *gate,
                                    struct cpu_segment *ret_cs, unsigned *ret_cpl)
{
    uint32_t error = gate->selector & 0xfffc;
    struct descriptor d;
    enum soft_result result;

    if (selector_is_null(gate->selector))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = descriptor_read(cpu, gate->selector, CPU_VECTOR_GP, &d);
    if (result)
        return result;
    if (!descriptor_is_code(&d) || descriptor_dpl(&d) > cpu->cpl)
        return fault_raise_error(cpu, CPU_VECTOR_GP, error);
    if (cpu_long_mode(cpu) &&
        (descriptor_attributes(&d) & (CPU_SEGMENT_L | CPU_SEGMENT_DB)) != CPU_SEGMENT_L)
        return fault_raise_error(cpu, CPU_VECTOR_GP, error);
    if (!descriptor_present(&d))
        return fault_raise_error(cpu, CPU_VECTOR_NP, error);
    *ret_cpl = descriptor_conforming(&d) ? cpu->cpl : descriptor_dpl(&d);
    if (cpu->mode == SOFT_MODE_V86 && *ret_cpl != 0)
        return fault_raise_error(cpu, CPU_VECTOR_GP, error);
    result = descriptor_set_accessed(cpu, &d);
    if (result)
        return result;
    descriptor_expand(&d, (uint16_t)((gate->selector & ~3u) | *ret_cpl), ret_cs);
    return SOFT_OK;
}

/* Last step, common to protected and long mode. */
static void enter_handler(struct soft_cpu *cpu, const struct gate *gate,
                          const struct cpu_segment *cs, uint64_t rip)
{
    cpu->segment[CPU_CS] = *cs;
    cpu->rip = rip;
    cpu->rflags &= ~(CPU_FLAG_TF | CPU_FLAG_NT | CPU_FLAG_RF | CPU_FLAG_VM);
    if (!(gate->type & 1)) /* interrupt gate */
        cpu->rflags &= ~CPU_FLAG_IF;
}

static enum soft_result deliver_long(struct soft_cpu *cpu, const struct event *event)
{
    uint64_t frame[6] = {cpu->segment[CPU_SS].selector, cpu->gpr[CPU_RSP],
                         saved_flags(cpu, event),       cpu->segment[CPU_CS].selector,
                         saved_rip(cpu, event),         event->error};
    struct stack stack = {.address_size = 8};
    struct cpu_segment cs;
    enum soft_result result;
    struct gate gate;
    unsigned cpl;

    result = gate_read(cpu, event, &gate);
    if (!result)
        result = gate_check(cpu, event, &gate);
    if (!result)
        result = gate_target(cpu, &gate, &cs, &cpl);
    if (result)
        return result;
    stack.sp = cpu->gpr[CPU_RSP];
    if (gate.ist)
        result = tss_stack_long(cpu, 2 + gate.ist, &stack.sp);
    else if (cpl != cpu->cpl)
        result = tss_stack_long(cpu, cpl, &stack.sp);
    if (result)
        return result;
    stack.sp &= ~UINT64_C(15);
    stack.cpl = cpl;
    if (!address_is_canonical(gate.offset))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = stack_push(cpu, &stack, frame, event->has_error ? 6 : 5, 8);
    if (result)
        return result;
    if (cpl != cpu->cpl)
        segment_set_null(&cpu->segment[CPU_SS], (uint16_t)cpl, cpl);
    cpu->gpr[CPU_RSP] = stack.sp;
    enter_handler(cpu, &gate, &cs, gate.offset);
    return SOFT_OK;
}

static enum soft_result deliver_protected(struct soft_cpu *cpu, const struct event *event)
{
    bool v86 = cpu->mode == SOFT_MODE_V86;
    uint64_t frame[10];
    struct cpu_segment cs;
    enum soft_result result;
    struct stack stack;
    struct gate gate;
    unsigned cpl, size, nr = 0;

    result = gate_read(cpu, event, &gate);
    if (!result)
        result = gate_check(cpu, event, &gate);
    if (!result && gate.type == SYSTEM_TASK_GATE)
        return task_switch_gate(cpu, &gate.descriptor, TASK_INTERRUPT, event->has_error,
                                event->error);
    if (!result)
        result = gate_target(cpu, &gate, &cs, &cpl);
    if (result)
        return result;
    stack_current(cpu, &stack);
    if (cpl != cpu->cpl)
        result = tss_stack(cpu, cpl, &stack);
    if (result)
        return result;
    size = gate.type & 8 ? 4 : 2;
    if (v86) {
        frame[nr++] = cpu->segment[CPU_GS].selector;
        frame[nr++] = cpu->segment[CPU_FS].selector;
        frame[nr++] = cpu->segment[CPU_DS].selector;
        frame[nr++] = cpu->segment[CPU_ES].selector;
    }
    if (cpl != cpu->cpl) {
        frame[nr++] = cpu->segment[CPU_SS].selector;
        frame[nr++] = cpu->gpr[CPU_RSP];
    }
    frame[nr++] = saved_flags(cpu, event);
    frame[nr++] = cpu->segment[CPU_CS].selector;
    frame[nr++] = saved_rip(cpu, event);
    if (event->has_error)
        frame[nr++] = event->error;
    if (gate.offset > cs.limit)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = stack_push(cpu, &stack, frame, nr, size);
    if (result)
        return result;
    if (v86)
        for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
            if (i != CPU_CS && i != CPU_SS)
                segment_set_null(&cpu->segment[i], 0, 0);
    cpu->segment[CPU_SS] = stack.segment;
    stack_pointer_write(cpu, stack.address_size, stack.sp);
    enter_handler(cpu, &gate, &cs, gate.offset);
    return SOFT_OK;
}

static bool contributory(unsigned vector)
{
    return vector == CPU_VECTOR_DE || (vector >= CPU_VECTOR_TS && vector <= CPU_VECTOR_GP);
}

/* The fault that delivery met, with EXT set where the processor itself was the cause. */
static struct event second_event(struct soft_cpu *cpu, const struct event *first)
{
    struct event second = {
        .vector = cpu->fault.vector,
        .kind = SOFT_EVENT_EXCEPTION,
        .has_error = cpu->fault.has_error,
        .error = cpu->fault.error,
    };

    if (first->kind != SOFT_EVENT_SOFTWARE_INTERRUPT && second.vector >= CPU_VECTOR_TS &&
        second.vector <= CPU_VECTOR_GP)
        second.error |= ERROR_EXT;
    return second;
}

/* SDM 3A table 6-5. false: triple fault. */
static bool compose(struct soft_cpu *cpu, struct event *event)
{
    struct event second = second_event(cpu, event);
    bool exception = event->kind == SOFT_EVENT_EXCEPTION;
    bool first_page = exception && event->vector == CPU_VECTOR_PF;
    bool first_contributory = exception && contributory(event->vector);

    if (exception && event->vector == CPU_VECTOR_DF)
        return false;
    if ((first_contributory && contributory(second.vector)) ||
        (first_page && (contributory(second.vector) || second.vector == CPU_VECTOR_PF))) {
        if (second.vector == CPU_VECTOR_PF)
            cpu->cr2 = cpu->fault.cr2;
        second = (struct event){
            .vector = CPU_VECTOR_DF, .kind = SOFT_EVENT_EXCEPTION, .has_error = true};
    }
    *event = second;
    return true;
}

static enum soft_result deliver_once(struct soft_cpu *cpu, const struct event *event)
{
    if (event->kind == SOFT_EVENT_EXCEPTION && event->vector == CPU_VECTOR_PF)
        cpu->cr2 = cpu->fault.cr2;
    if (cpu->mode == SOFT_MODE_REAL)
        return deliver_real(cpu, event);
    if (cpu_long_mode(cpu))
        return deliver_long(cpu, event);
    return deliver_protected(cpu, event);
}

enum soft_result interrupt_deliver(struct soft_cpu *cpu, uint8_t vector, enum soft_event kind,
                                   bool has_error, uint32_t error)
{
    struct event event = {.vector = vector, .kind = kind, .has_error = has_error, .error = error};
    enum soft_result result;

    if (kind == SOFT_EVENT_EXTERNAL)
        cpu->counters.interrupts++;
    else
        cpu->counters.exceptions++;
    cpu->debug_hits = 0;
    while ((result = deliver_once(cpu, &event)) == SOFT_FAULT) {
        if (!compose(cpu, &event)) {
            cpu->activity = CPU_ACTIVITY_SHUTDOWN;
            cpu->exit.kind = CPU_EXIT_SHUTDOWN;
            return SOFT_EXIT;
        }
        cpu->counters.exceptions++;
    }
    if (result)
        return result;
    if (kind == SOFT_EVENT_EXTERNAL && vector == CPU_VECTOR_NMI)
        cpu->nmi_blocked = true;
    cpu->next_rip = cpu->rip;
    cpu->interrupt_shadow = false;
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}
