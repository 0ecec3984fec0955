/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O APIC logic. An edge that comes while its entry is masked is lost, as the data sheet says; a
 * level waits in `lines`. Remote IRR is set when a local APIC has taken a level interrupt and
 * holds the pin until the EOI.
 */
#include "machine/ioapic.h"

#include "machine/irqchip.h"

#define REGISTER_SELECT 0x00
#define REGISTER_WINDOW 0x10
#define REGISTER_EOI    0x40

#define INDEX_ID          0x00
#define INDEX_VERSION     0x01
#define INDEX_ARBITRATION 0x02
#define INDEX_ENTRIES     0x10

#define VERSION_VALUE (0x20u | (IOAPIC_PINS - 1) << 16)

#define ENTRY_DELIVERY_STATUS (UINT64_C(1) << 12)
#define ENTRY_READ_ONLY       (ENTRY_DELIVERY_STATUS | IOAPIC_ENTRY_REMOTE_IRR)
#define ENTRY_WRITABLE        UINT64_C(0xff0000000001efff)

void ioapic_reset_locked(struct ioapic *ioapic)
{
    ioapic->state = (struct ioapic_state){0};
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic->state.entries[pin] = IOAPIC_ENTRY_MASKED;
}

static bool entry_send(struct ioapic *ioapic, unsigned pin)
{
    uint64_t entry = ioapic->state.entries[pin];
    struct irq_message message = {
        .destination = (uint32_t)(entry >> 56),
        .logical = entry & IOAPIC_ENTRY_LOGICAL,
        .delivery = (uint8_t)(entry >> 8 & 7),
        .vector = (uint8_t)entry,
        .level = entry & IOAPIC_ENTRY_LEVEL,
    };

    return irqchip_deliver_locked(ioapic->chip, &message);
}

/* Sends a level interrupt if the pin is asserted and nothing holds it back. */
static void entry_try_level(struct ioapic *ioapic, unsigned pin)
{
    uint64_t *entry = &ioapic->state.entries[pin];

    if (!(*entry & IOAPIC_ENTRY_LEVEL) || *entry & IOAPIC_ENTRY_MASKED ||
        *entry & IOAPIC_ENTRY_REMOTE_IRR || !(ioapic->state.lines & 1u << pin))
        return;
    /* Before the message is sent: an EOI may come back while it is delivered. */
    *entry |= IOAPIC_ENTRY_REMOTE_IRR;
    if (!entry_send(ioapic, pin))
        *entry &= ~IOAPIC_ENTRY_REMOTE_IRR;
}

void ioapic_set_locked(struct ioapic *ioapic, unsigned pin, bool asserted)
{
    uint32_t bit = 1u << pin;
    bool rises = asserted && !(ioapic->state.lines & bit);
    uint64_t entry = ioapic->state.entries[pin];

    if (asserted)
        ioapic->state.lines |= bit;
    else
        ioapic->state.lines &= ~bit;
    if (entry & IOAPIC_ENTRY_LEVEL)
        entry_try_level(ioapic, pin);
    else if (rises && !(entry & IOAPIC_ENTRY_MASKED))
        entry_send(ioapic, pin);
}

void ioapic_eoi_locked(struct ioapic *ioapic, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *entry = &ioapic->state.entries[pin];

        if ((uint8_t)*entry != vector || !(*entry & IOAPIC_ENTRY_REMOTE_IRR))
            continue;
        *entry &= ~IOAPIC_ENTRY_REMOTE_IRR;
        entry_try_level(ioapic, pin);
    }
}

static uint32_t index_read(const struct ioapic *ioapic, uint32_t index)
{
    unsigned pin = (index - INDEX_ENTRIES) / 2;

    switch (index) {
    case INDEX_ID:
    case INDEX_ARBITRATION:
        return ioapic->state.id << 24;
    case INDEX_VERSION:
        return VERSION_VALUE;
    default:
        if (index < INDEX_ENTRIES || pin >= IOAPIC_PINS)
            return 0;
        return (uint32_t)(ioapic->state.entries[pin] >> (index & 1 ? 32 : 0));
    }
}

static void index_write(struct ioapic *ioapic, uint32_t index, uint32_t value)
{
    unsigned pin = (index - INDEX_ENTRIES) / 2, shift = index & 1 ? 32 : 0;
    uint64_t *entry, writable = ENTRY_WRITABLE & (UINT64_C(0xffffffff) << shift);

    if (index == INDEX_ID)
        ioapic->state.id = value >> 24 & 0xf;
    if (index < INDEX_ENTRIES || pin >= IOAPIC_PINS)
        return;
    entry = &ioapic->state.entries[pin];
    *entry = (*entry & ~writable) | ((uint64_t)value << shift & writable & ~ENTRY_READ_ONLY);
    if (!(*entry & IOAPIC_ENTRY_LEVEL))
        *entry &= ~IOAPIC_ENTRY_REMOTE_IRR;
    entry_try_level(ioapic, pin);
}

uint32_t ioapic_read_locked(struct ioapic *ioapic, uint64_t offset)
{
    switch (offset) {
    case REGISTER_SELECT:
        return ioapic->state.select;
    case REGISTER_WINDOW:
        return index_read(ioapic, ioapic->state.select);
    default:
        return 0;
    }
}

void ioapic_write_locked(struct ioapic *ioapic, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case REGISTER_SELECT:
        ioapic->state.select = value & 0xff;
        break;
    case REGISTER_WINDOW:
        index_write(ioapic, ioapic->state.select, value);
        break;
    case REGISTER_EOI:
        ioapic_eoi_locked(ioapic, (uint8_t)value);
        break;
    default:
        break;
    }
}
