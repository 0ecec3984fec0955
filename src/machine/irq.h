/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interrupt line as a device sees it: a level that it raises and lowers. Where it leads (our I/O
 * APIC and PIC, or the kernel's) is the business of whoever built the machine. GSI numbers as in
 * ACPI: 0..15 also reach the PIC (GSI 2 = PIT by override).
 */
#ifndef LODGE_MACHINE_IRQ_H
#define LODGE_MACHINE_IRQ_H

#include <stdbool.h>
#include <stdint.h>

struct irq_sink {
    void *context;
    void (*set)(void *context, unsigned gsi, bool level);        /* any thread */
    void (*msi)(void *context, uint64_t address, uint32_t data); /* any thread */
};

struct irq_line {
    const struct irq_sink *sink;
    unsigned gsi;
};

static inline void irq_line_set(const struct irq_line *line, bool level)
{
    line->sink->set(line->sink->context, line->gsi, level);
}

/* For edge-triggered inputs. */
static inline void irq_line_pulse(const struct irq_line *line)
{
    irq_line_set(line, true);
    irq_line_set(line, false);
}

#endif
