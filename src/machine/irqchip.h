/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt chips of a PC for an engine that has none: a local APIC a vCPU (xAPIC and x2APIC),
 * one I/O APIC with 24 pins, and the pair of 8259 PICs. Devices drive lines and messages through
 * irqchip_sink; vCPUs take vectors through irqchip_cpu_functions and are woken by cpu_request.
 *
 * Routing: GSI n is pin n of the I/O APIC and, below 16, pin n of the PICs; except that GSI 0 (the
 * PIT) is I/O APIC pin 2, which the ACPI tables tell, and that GSI 2 goes nowhere.
 *
 * Invariants: 1. One lock (irqchip.lock) guards all chips; no device is called with it held, and of
 * other locks only the timers' is taken under it. 2. lapic.deliverable always tells whether
 * acknowledge would give a vector: it is recomputed at the end of every change, and a vCPU whose
 * flag is set at that moment is requested.
 *
 * Threads: everything from any thread.
 * Specifications: SDM 3A chapter 11 (APIC); Intel 82093AA; Intel 8259A.
 */
#ifndef LODGE_MACHINE_IRQCHIP_H
#define LODGE_MACHINE_IRQCHIP_H

#include "base/err.h"
#include "cpu/cpu.h"
#include "machine/bus.h"
#include "machine/i8259.h"
#include "machine/ioapic.h"
#include "machine/irq.h"
#include "machine/lapic.h"
#include "machine/timers.h"

#include <pthread.h>
#include <stdint.h>

struct irqchip_config {
    unsigned nr_cpus;
    struct timers *timers; /* borrowed */
    uint64_t tsc_hz;       /* of the guests' TSC deadlines */
    uint64_t timer_hz;     /* of the local APIC timers, before their divider: CPUID 15h's crystal */
};

struct irqchip {
    pthread_mutex_t lock;
    struct irqchip_config config;
    struct lapic lapics[CPU_MAX];
    unsigned lowest_priority_next; /* where arbitration among equals starts */
    struct ioapic ioapic;
    struct i8259 pic;
};

/* All state that a snapshot needs, in the guest's terms; fixed layout. */
struct irqchip_state {
    uint32_t nr_cpus;
    uint32_t reserved;
    struct lapic_state lapics[CPU_MAX];
    struct ioapic_state ioapic;
    struct i8259_state pic;
};

int irqchip_new(const struct irqchip_config *config, struct irqchip **ret, struct err *err);
void irqchip_free(struct irqchip *chip);
void irqchip_reset(struct irqchip *chip);
/* Registers the memory windows and ports of all chips. */
int irqchip_add_to_bus(struct irqchip *chip, struct bus *bus, struct err *err);
void irqchip_attach_cpu(struct irqchip *chip, unsigned index, struct cpu *cpu);

void irqchip_sink(struct irqchip *chip, struct irq_sink *ret);
void irqchip_cpu_functions(struct irqchip *chip, struct cpu_irqchip *ret);

void irqchip_save(struct irqchip *chip, struct irqchip_state *ret);
/* -EINVAL when the state is not of a machine like this one. */
int irqchip_load(struct irqchip *chip, const struct irqchip_state *state, struct err *err);

/* --- among the chips; the lock is held --- */

enum irq_delivery { /* SDM 3A 11.6.1, figure 11-12 */
                    IRQ_DELIVERY_FIXED = 0,
                    IRQ_DELIVERY_LOWEST = 1,
                    IRQ_DELIVERY_SMI = 2,
                    IRQ_DELIVERY_NMI = 4,
                    IRQ_DELIVERY_INIT = 5,
                    IRQ_DELIVERY_SIPI = 6,
                    IRQ_DELIVERY_EXTINT = 7,
};

struct irq_message {
    uint32_t destination;
    bool logical;
    bool wide; /* a 32-bit destination from an x2APIC's ICR: broadcast is all ones */
    uint8_t delivery;
    uint8_t vector;
    bool level;
};

/* False when no local APIC takes it. */
bool irqchip_deliver_locked(struct irqchip *chip, const struct irq_message *message);
void irqchip_end_of_interrupt_locked(struct irqchip *chip, uint8_t vector);
void irqchip_pic_changed_locked(struct irqchip *chip);

#endif
