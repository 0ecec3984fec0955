/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local APIC: register access in both modes, acceptance and priority. The timer is in
 * lapic_timer.c, sending of interprocessor interrupts in lapic_ipi.c.
 *
 * State transitions of APIC_BASE (SDM 3A 11.12.5), all others are #GP:
 *   disabled -> xAPIC -> x2APIC -> disabled,  xAPIC -> disabled
 */
#include "machine/lapic.h"

#include "base/util.h"
#include "machine/irqchip.h"

#include <errno.h>
#include <string.h>

#define SVR_RESET    0xffu
#define SVR_WRITABLE (0xffu | LAPIC_SVR_ENABLE | LAPIC_SVR_NO_EOI_CAST)

#define LVT_DELIVERY_STATUS (1u << 12)
#define LVT_LINT_WRITABLE   (0xffu | 7u << 8 | 1u << 13 | LAPIC_LVT_LEVEL | LAPIC_LVT_MASKED)
#define LVT_EVENT_WRITABLE  (0xffu | 7u << 8 | LAPIC_LVT_MASKED)
#define LVT_ERROR_WRITABLE  (0xffu | LAPIC_LVT_MASKED)
#define LVT_EXTINT_RESET    ((uint32_t)IRQ_DELIVERY_EXTINT << 8)

#define BASE_WRITABLE (LAPIC_BASE_X2APIC | LAPIC_BASE_ENABLE)

static const uint8_t lvts[] = {LAPIC_LVT_TIMER, LAPIC_LVT_THERMAL, LAPIC_LVT_PERFORMANCE,
                               LAPIC_LVT_LINT0, LAPIC_LVT_LINT1,   LAPIC_LVT_ERROR};

static bool vector_test(const uint32_t *bits, uint8_t vector)
{
    return bits[vector / 32] & 1u << vector % 32;
}

static void vector_set(uint32_t *bits, uint8_t vector, bool on)
{
    if (on)
        bits[vector / 32] |= 1u << vector % 32;
    else
        bits[vector / 32] &= ~(1u << vector % 32);
}

/* The highest vector, or -1. */
static int vector_highest(const uint32_t *bits)
{
    for (int i = 7; i >= 0; i--)
        if (bits[i])
            return i * 32 + 31 - __builtin_clz(bits[i]);
    return -1;
}

uint8_t lapic_ppr_locked(const struct lapic *lapic)
{
    uint8_t tpr = (uint8_t)lapic->state.registers[LAPIC_TPR];
    int isr = vector_highest(&lapic->state.registers[LAPIC_ISR]);
    uint8_t isrv = isr < 0 ? 0 : (uint8_t)isr;

    return tpr >> 4 >= isrv >> 4 ? tpr : isrv & 0xf0;
}

/* The vector that would be delivered now, or -1. */
static int lapic_best(const struct lapic *lapic)
{
    int irr = vector_highest(&lapic->state.registers[LAPIC_IRR]);

    if (irr < 0 || !lapic_software_enabled(lapic))
        return -1;
    return irr >> 4 > lapic_ppr_locked(lapic) >> 4 ? irr : -1;
}

bool lapic_wants_pic_locked(const struct lapic *lapic)
{
    uint32_t lint0 = lapic->state.registers[LAPIC_LVT_LINT0];

    if (!lapic_enabled(lapic))
        return lapic->index == 0; /* INTR goes straight to the processor */
    return !(lint0 & LAPIC_LVT_MASKED) && (lint0 >> 8 & 7) == IRQ_DELIVERY_EXTINT;
}

void lapic_update_locked(struct lapic *lapic)
{
    bool deliverable = lapic_best(lapic) >= 0 ||
                       (lapic_wants_pic_locked(lapic) && i8259_output_locked(&lapic->chip->pic));

    __atomic_store_n(&lapic->deliverable, deliverable, __ATOMIC_RELEASE);
    if (deliverable && lapic->cpu)
        cpu_request(lapic->cpu, CPU_REQUEST_INTERRUPT);
}

void lapic_accept_locked(struct lapic *lapic, uint8_t vector, bool level)
{
    if (vector < 16) {
        lapic_error_locked(lapic, LAPIC_ERROR_RECEIVE_VECTOR);
        return;
    }
    vector_set(&lapic->state.registers[LAPIC_TMR], vector, level);
    vector_set(&lapic->state.registers[LAPIC_IRR], vector, true);
    lapic_update_locked(lapic);
}

int lapic_take_locked(struct lapic *lapic)
{
    int vector = lapic_best(lapic);

    if (vector >= 0) {
        vector_set(&lapic->state.registers[LAPIC_IRR], (uint8_t)vector, false);
        vector_set(&lapic->state.registers[LAPIC_ISR], (uint8_t)vector, true);
    }
    return vector;
}

void lapic_eoi_locked(struct lapic *lapic)
{
    int vector = vector_highest(&lapic->state.registers[LAPIC_ISR]);

    if (vector < 0)
        return;
    vector_set(&lapic->state.registers[LAPIC_ISR], (uint8_t)vector, false);
    if (vector_test(&lapic->state.registers[LAPIC_TMR], (uint8_t)vector) &&
        !(lapic->state.registers[LAPIC_SVR] & LAPIC_SVR_NO_EOI_CAST))
        irqchip_end_of_interrupt_locked(lapic->chip, (uint8_t)vector);
    lapic_update_locked(lapic);
}

void lapic_local_event_locked(struct lapic *lapic, unsigned lvt)
{
    uint32_t value = lapic->state.registers[lvt];
    unsigned delivery = lvt == LAPIC_LVT_ERROR ? IRQ_DELIVERY_FIXED : value >> 8 & 7;

    if (value & LAPIC_LVT_MASKED || !lapic_enabled(lapic))
        return;
    if (delivery == IRQ_DELIVERY_NMI) {
        if (lapic->cpu)
            cpu_request(lapic->cpu, CPU_REQUEST_NMI);
    } else if (delivery == IRQ_DELIVERY_FIXED) {
        lapic_accept_locked(lapic, (uint8_t)value, false);
    }
}

void lapic_error_locked(struct lapic *lapic, uint32_t bits)
{
    bool news = bits & ~lapic->state.error_pending;

    lapic->state.error_pending |= bits;
    /* An error vector that is itself illegal must not recurse. */
    if (news && (uint8_t)lapic->state.registers[LAPIC_LVT_ERROR] >= 16)
        lapic_local_event_locked(lapic, LAPIC_LVT_ERROR);
}

uint32_t lapic_ldr_locked(const struct lapic *lapic)
{
    if (lapic_is_x2apic(lapic))
        return (lapic->index >> 4) << 16 | 1u << (lapic->index & 15);
    return lapic->state.registers[LAPIC_LDR];
}

static void registers_reset(struct lapic *lapic)
{
    uint32_t *registers = lapic->state.registers;

    memset(registers, 0, sizeof(lapic->state.registers));
    registers[LAPIC_ID] = lapic_is_x2apic(lapic) ? lapic->index : lapic->index << 24;
    registers[LAPIC_VERSION] = LAPIC_VERSION_VALUE;
    registers[LAPIC_DFR] = 0xffffffffu;
    registers[LAPIC_SVR] = SVR_RESET;
    for (unsigned i = 0; i < ARRAY_LEN(lvts); i++)
        registers[lvts[i]] = LAPIC_LVT_MASKED;
    lapic->state.error_pending = 0;
    lapic->state.tsc_deadline = 0;
}

void lapic_reset_locked(struct lapic *lapic, enum lapic_reset kind)
{
    lapic_timer_stop_locked(lapic);
    if (kind == LAPIC_RESET_POWER_ON)
        lapic->state.apic_base = LAPIC_BASE | LAPIC_BASE_ENABLE |
                                 (lapic->index ? 0 : LAPIC_BASE_BSP);
    registers_reset(lapic);
    /* As firmware leaves it: the PICs reach the first processor through LINT0. There is none here,
     * and a kernel that knows no APIC expects its PIC to work. */
    if (kind == LAPIC_RESET_POWER_ON && lapic->index == 0)
        lapic->state.registers[LAPIC_LVT_LINT0] = LVT_EXTINT_RESET;
    lapic_update_locked(lapic);
}

int lapic_init(struct lapic *lapic, struct irqchip *chip, unsigned index, struct err *err)
{
    lapic->chip = chip;
    lapic->index = index;
    return lapic_timer_init(lapic, err);
}

void lapic_done(struct lapic *lapic)
{
    timer_free(lapic->timer);
    lapic->timer = NULL;
}

uint32_t lapic_read_locked(struct lapic *lapic, unsigned index)
{
    switch (index) {
    case LAPIC_PPR:
        return lapic_ppr_locked(lapic);
    case LAPIC_LDR:
        return lapic_ldr_locked(lapic);
    case LAPIC_TIMER_CURRENT:
        return lapic_timer_current_locked(lapic);
    case LAPIC_ID:
    case LAPIC_VERSION:
    case LAPIC_TPR:
    case LAPIC_DFR:
    case LAPIC_SVR:
    case LAPIC_ISR ... LAPIC_ESR:
    case LAPIC_ICR_LOW ... LAPIC_TIMER_INITIAL:
    case LAPIC_TIMER_DIVIDE:
        return lapic->state.registers[index];
    case LAPIC_APR:
    case LAPIC_RRD:
    case LAPIC_EOI:
        return 0;
    default:
        lapic_error_locked(lapic, LAPIC_ERROR_REGISTER);
        return 0;
    }
}

static void lvt_write(struct lapic *lapic, unsigned index, uint32_t value, uint32_t writable)
{
    value &= writable;
    if (!lapic_software_enabled(lapic))
        value |= LAPIC_LVT_MASKED;
    lapic->state.registers[index] = value;
    lapic_update_locked(lapic); /* LINT0 may have begun to take the PIC's output */
}

static void svr_write(struct lapic *lapic, uint32_t value)
{
    lapic->state.registers[LAPIC_SVR] = value & SVR_WRITABLE;
    if (!(value & LAPIC_SVR_ENABLE))
        for (unsigned i = 0; i < ARRAY_LEN(lvts); i++)
            lapic->state.registers[lvts[i]] |= LAPIC_LVT_MASKED;
    lapic_update_locked(lapic);
}

static void esr_write(struct lapic *lapic)
{
    lapic->state.registers[LAPIC_ESR] = lapic->state.error_pending;
    lapic->state.error_pending = 0;
}

void lapic_write_locked(struct lapic *lapic, unsigned index, uint32_t value)
{
    uint32_t *registers = lapic->state.registers;

    switch (index) {
    case LAPIC_TPR:
        registers[LAPIC_TPR] = value & 0xff;
        lapic_update_locked(lapic);
        break;
    case LAPIC_EOI:
        lapic_eoi_locked(lapic);
        break;
    case LAPIC_LDR:
        registers[LAPIC_LDR] = value & 0xff000000u;
        break;
    case LAPIC_DFR:
        registers[LAPIC_DFR] = value | 0x0fffffffu;
        break;
    case LAPIC_SVR:
        svr_write(lapic, value);
        break;
    case LAPIC_ESR:
        esr_write(lapic);
        break;
    case LAPIC_ICR_HIGH:
        registers[LAPIC_ICR_HIGH] = value & 0xff000000u;
        break;
    case LAPIC_ICR_LOW:
        lapic_send_ipi_locked(lapic, (uint64_t)registers[LAPIC_ICR_HIGH] << 32 | value);
        break;
    case LAPIC_LVT_TIMER:
        lapic_timer_set_lvt_locked(lapic, value);
        break;
    case LAPIC_LVT_THERMAL:
    case LAPIC_LVT_PERFORMANCE:
        lvt_write(lapic, index, value, LVT_EVENT_WRITABLE);
        break;
    case LAPIC_LVT_LINT0:
    case LAPIC_LVT_LINT1:
        lvt_write(lapic, index, value, LVT_LINT_WRITABLE);
        break;
    case LAPIC_LVT_ERROR:
        lvt_write(lapic, index, value, LVT_ERROR_WRITABLE);
        break;
    case LAPIC_TIMER_INITIAL:
        lapic_timer_set_initial_locked(lapic, value);
        break;
    case LAPIC_TIMER_DIVIDE:
        lapic_timer_set_divide_locked(lapic, value);
        break;
    case LAPIC_ID: /* fixed: it is what CPUID and the ACPI tables say */
    case LAPIC_VERSION:
    case LAPIC_PPR:
    case LAPIC_ISR ... LAPIC_IRR + 7:
    case LAPIC_TIMER_CURRENT:
        break;
    default:
        lapic_error_locked(lapic, LAPIC_ERROR_REGISTER);
        break;
    }
}

/* Bits that may be set in a write by MSR; 0 for registers that cannot be written (SDM 3A table
 * 11-6). */
static uint64_t x2apic_writable(unsigned index)
{
    switch (index) {
    case LAPIC_TPR:
    case LAPIC_SELF_IPI:
        return 0xff;
    case LAPIC_SVR:
        return SVR_WRITABLE;
    case LAPIC_ICR_LOW:
        return UINT64_C(0xffffffff00000000) | 0xcdfff;
    case LAPIC_LVT_TIMER:
        return 0xffu | LAPIC_LVT_MASKED | LAPIC_LVT_TIMER_MODE | LVT_DELIVERY_STATUS;
    case LAPIC_LVT_THERMAL:
    case LAPIC_LVT_PERFORMANCE:
        return LVT_EVENT_WRITABLE | LVT_DELIVERY_STATUS;
    case LAPIC_LVT_LINT0:
    case LAPIC_LVT_LINT1:
        return LVT_LINT_WRITABLE | LVT_DELIVERY_STATUS | 1u << 14;
    case LAPIC_LVT_ERROR:
        return LVT_ERROR_WRITABLE | LVT_DELIVERY_STATUS;
    case LAPIC_TIMER_INITIAL:
        return 0xffffffffu;
    case LAPIC_TIMER_DIVIDE:
        return 0xb;
    default:
        return 0;
    }
}

static bool x2apic_readable(unsigned index)
{
    switch (index) {
    case LAPIC_ID:
    case LAPIC_VERSION:
    case LAPIC_TPR:
    case LAPIC_PPR:
    case LAPIC_LDR:
    case LAPIC_SVR:
    case LAPIC_ISR ... LAPIC_ESR:
    case LAPIC_ICR_LOW:
    case LAPIC_LVT_TIMER ... LAPIC_TIMER_CURRENT:
    case LAPIC_TIMER_DIVIDE:
        return true;
    default:
        return false;
    }
}

static int apic_base_write(struct lapic *lapic, uint64_t value)
{
    uint64_t mode = value & (LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC);
    uint64_t before = lapic->state.apic_base & (LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC);
    uint64_t fixed = LAPIC_BASE | (lapic->state.apic_base & LAPIC_BASE_BSP);

    /* The window stays where the bus has it: a move is refused rather than ignored. */
    if ((value & ~BASE_WRITABLE & ~LAPIC_BASE_BSP) != LAPIC_BASE || mode == LAPIC_BASE_X2APIC)
        return -EINVAL;
    if (before & LAPIC_BASE_X2APIC && mode == LAPIC_BASE_ENABLE)
        return -EINVAL;
    if (!before && mode & LAPIC_BASE_X2APIC)
        return -EINVAL;
    if (mode == before)
        return 0;
    lapic->state.apic_base = fixed | mode;
    if (!mode) {
        lapic_reset_locked(lapic, LAPIC_RESET_DISABLE);
    } else if (mode & LAPIC_BASE_X2APIC) {
        lapic->state.registers[LAPIC_ID] = lapic->index;
        lapic->state.registers[LAPIC_ICR_HIGH] = 0;
    } else {
        lapic->state.registers[LAPIC_ID] = lapic->index << 24;
    }
    lapic_update_locked(lapic);
    return 0;
}

int lapic_msr_read_locked(struct lapic *lapic, uint32_t msr, uint64_t *ret)
{
    unsigned index = msr - LAPIC_MSR_X2APIC;

    if (msr == LAPIC_MSR_APIC_BASE) {
        *ret = lapic->state.apic_base;
        return 0;
    }
    if (msr == LAPIC_MSR_TSC_DEADLINE) {
        *ret = lapic_timer_deadline_locked(lapic);
        return 0;
    }
    if (!lapic_is_x2apic(lapic) || index >= LAPIC_REGISTERS || !x2apic_readable(index))
        return -EINVAL;
    *ret = lapic_read_locked(lapic, index);
    if (index == LAPIC_ICR_LOW)
        *ret |= (uint64_t)lapic->state.registers[LAPIC_ICR_HIGH] << 32;
    return 0;
}

int lapic_msr_write_locked(struct lapic *lapic, uint32_t msr, uint64_t value)
{
    unsigned index = msr - LAPIC_MSR_X2APIC;

    if (msr == LAPIC_MSR_APIC_BASE)
        return apic_base_write(lapic, value);
    if (msr == LAPIC_MSR_TSC_DEADLINE) {
        lapic_timer_set_deadline_locked(lapic, value);
        return 0;
    }
    if (!lapic_is_x2apic(lapic) || index >= LAPIC_REGISTERS)
        return -EINVAL;
    if (index == LAPIC_EOI || index == LAPIC_ESR) {
        if (value)
            return -EINVAL;
    } else if (!x2apic_writable(index) || value & ~x2apic_writable(index)) {
        return -EINVAL;
    }
    if (index == LAPIC_ICR_LOW) {
        lapic->state.registers[LAPIC_ICR_HIGH] = (uint32_t)(value >> 32);
        lapic_send_ipi_locked(lapic, value);
    } else if (index == LAPIC_SELF_IPI) {
        if (lapic_software_enabled(lapic))
            lapic_accept_locked(lapic, (uint8_t)value, false);
    } else {
        lapic_write_locked(lapic, index, (uint32_t)value);
    }
    return 0;
}
