/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC: 24 pins, each with a redirection entry (Intel 82093AA; version 20h, so with the EOI
 * register). Part of struct irqchip and guarded by its lock. Lines are given as asserted or not:
 * the polarity bit of an entry is kept but has no effect.
 */
#ifndef LODGE_MACHINE_IOAPIC_H
#define LODGE_MACHINE_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#define IOAPIC_BASE UINT64_C(0xfec00000)
#define IOAPIC_SIZE UINT64_C(0x1000)
#define IOAPIC_PINS 24u

#define IOAPIC_ENTRY_LOGICAL    (UINT64_C(1) << 11)
#define IOAPIC_ENTRY_REMOTE_IRR (UINT64_C(1) << 14)
#define IOAPIC_ENTRY_LEVEL      (UINT64_C(1) << 15)
#define IOAPIC_ENTRY_MASKED     (UINT64_C(1) << 16)

struct ioapic_state {
    uint32_t id;
    uint32_t select;
    uint32_t lines; /* asserted inputs, a bit a pin */
    uint32_t reserved;
    uint64_t entries[IOAPIC_PINS];
};

struct irqchip;

struct ioapic {
    struct irqchip *chip;
    struct ioapic_state state;
};

void ioapic_reset_locked(struct ioapic *ioapic);
void ioapic_set_locked(struct ioapic *ioapic, unsigned pin, bool asserted);
/* EOI message of a local APIC: level-triggered entries with this vector may fire again. */
void ioapic_eoi_locked(struct ioapic *ioapic, uint8_t vector);
uint32_t ioapic_read_locked(struct ioapic *ioapic, uint64_t offset);
void ioapic_write_locked(struct ioapic *ioapic, uint64_t offset, uint32_t value);

#endif
