/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupt chips with two vCPUs that only note their requests, on a clock moved by hand. */
#ifndef LODGE_TESTS_MACHINE_CHIPS_H
#define LODGE_TESTS_MACHINE_CHIPS_H

#include "machine/irqchip.h"

#include "testing.h"

#define CHIPS_TSC_HZ   UINT64_C(1000000000)
#define CHIPS_TIMER_HZ UINT64_C(1000000000)

struct chips {
    struct timers *timers;
    struct irqchip *chip;
    struct bus *bus;
    struct cpu_bus calls;
    struct cpu_irqchip functions;
    struct irq_sink sink;
    struct cpu cpus[2];
};

static inline void chips_make(struct chips *c)
{
    struct irqchip_config config = {
        .nr_cpus = 2, .tsc_hz = CHIPS_TSC_HZ, .timer_hz = CHIPS_TIMER_HZ};

    *c = (struct chips){0};
    ck_assert_int_eq(timers_new_manual(&c->timers, NULL), 0);
    config.timers = c->timers;
    ck_assert_int_eq(irqchip_new(&config, &c->chip, NULL), 0);
    ck_assert_int_eq(bus_new(&c->bus, NULL), 0);
    ck_assert_int_eq(irqchip_add_to_bus(c->chip, c->bus, NULL), 0);
    bus_connect(c->bus, &c->calls);
    irqchip_cpu_functions(c->chip, &c->functions);
    irqchip_sink(c->chip, &c->sink);
    for (unsigned i = 0; i < 2; i++) {
        c->cpus[i].index = i;
        irqchip_attach_cpu(c->chip, i, &c->cpus[i]);
    }
}

static inline void chips_free(struct chips *c)
{
    irqchip_free(c->chip);
    bus_free(c->bus);
    timers_free(c->timers);
}

static inline void out8(struct chips *c, uint16_t port, uint8_t value)
{
    c->calls.io_write(c->calls.context, 0, port, &value, 1);
}

static inline uint8_t in8(struct chips *c, uint16_t port)
{
    uint8_t value;

    c->calls.io_read(c->calls.context, 0, port, &value, 1);
    return value;
}

static inline void lapic_out(struct chips *c, unsigned cpu, unsigned index, uint32_t value)
{
    c->calls.mmio_write(c->calls.context, cpu, LAPIC_BASE + index * UINT64_C(16), &value, 4);
}

static inline uint32_t lapic_in(struct chips *c, unsigned cpu, unsigned index)
{
    uint32_t value;

    c->calls.mmio_read(c->calls.context, cpu, LAPIC_BASE + index * UINT64_C(16), &value, 4);
    return value;
}

static inline void ioapic_out(struct chips *c, uint32_t index, uint32_t value)
{
    c->calls.mmio_write(c->calls.context, 0, IOAPIC_BASE, &index, 4);
    c->calls.mmio_write(c->calls.context, 0, IOAPIC_BASE + 0x10, &value, 4);
}

static inline uint32_t ioapic_in(struct chips *c, uint32_t index)
{
    uint32_t value;

    c->calls.mmio_write(c->calls.context, 0, IOAPIC_BASE, &index, 4);
    c->calls.mmio_read(c->calls.context, 0, IOAPIC_BASE + 0x10, &value, 4);
    return value;
}

/* Both local APICs on, flat model, logical ids 1 and 2; the PIC cut off. */
static inline void lapics_enable(struct chips *c)
{
    for (unsigned i = 0; i < 2; i++) {
        lapic_out(c, i, LAPIC_SVR, LAPIC_SVR_ENABLE | 0xff);
        lapic_out(c, i, LAPIC_LDR, 1u << (24 + i));
        lapic_out(c, i, LAPIC_LVT_LINT0, LAPIC_LVT_MASKED);
    }
}

static inline int acknowledge(struct chips *c, unsigned cpu)
{
    return c->functions.acknowledge(c->functions.context, cpu);
}

static inline bool pending(struct chips *c, unsigned cpu)
{
    return c->functions.pending(c->functions.context, cpu);
}

static inline void line(struct chips *c, unsigned gsi, bool level)
{
    c->sink.set(c->sink.context, gsi, level);
}

/* ICW1..4: vectors 0x20 and 0x28, cascade, no automatic EOI; everything unmasked. */
static inline void pic_setup(struct chips *c, uint8_t icw4)
{
    out8(c, 0x20, 0x11), out8(c, 0x21, 0x20), out8(c, 0x21, 0x04), out8(c, 0x21, icw4);
    out8(c, 0xa0, 0x11), out8(c, 0xa1, 0x28), out8(c, 0xa1, 0x02), out8(c, 0xa1, icw4);
    out8(c, 0x21, 0), out8(c, 0xa1, 0);
}

#endif
