/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt messages: who takes them (SDM 3A 11.6.2) and what they do there. From a local APIC's
 * ICR, an I/O APIC entry or a device's MSI.
 */
#include "machine/irqchip.h"

#define ICR_LOGICAL       (1u << 11)
#define ICR_STATUS        (1u << 12)
#define ICR_ASSERT        (1u << 14)
#define ICR_LEVEL         (1u << 15)
#define ICR_SHORTHAND(v)  ((v) >> 18 & 3)
#define SHORTHAND_NONE    0
#define SHORTHAND_SELF    1
#define SHORTHAND_ALL     2
#define SHORTHAND_OTHERS  3
#define BROADCAST_NARROW  0xffu
#define BROADCAST_WIDE    0xffffffffu
#define DFR_FLAT          0xfu
#define CLUSTER_BROADCAST 0xfu

static bool takes_logical(const struct lapic *lapic, const struct irq_message *message)
{
    uint32_t ldr = lapic_ldr_locked(lapic), destination = message->destination;
    uint32_t narrow = ldr >> 24;

    if (lapic_is_x2apic(lapic))
        return destination >> 16 == ldr >> 16 && destination & ldr & 0xffff;
    if (lapic->state.registers[LAPIC_DFR] >> 28 == DFR_FLAT)
        return destination & narrow & 0xff;
    return ((destination >> 4 & 0xf) == narrow >> 4 ||
            (destination >> 4 & 0xf) == CLUSTER_BROADCAST) &&
           destination & narrow & 0xf;
}

static bool takes(const struct lapic *lapic, const struct irq_message *message)
{
    uint32_t broadcast = message->wide ? BROADCAST_WIDE : BROADCAST_NARROW;

    if (!lapic_enabled(lapic))
        return false;
    if (message->destination == broadcast)
        return true;
    return message->logical ? takes_logical(lapic, message) : message->destination == lapic->index;
}

/* The message's effect on one local APIC. False when it cannot take it. */
static bool deliver_one(struct lapic *lapic, const struct irq_message *message)
{
    switch (message->delivery) {
    case IRQ_DELIVERY_FIXED:
    case IRQ_DELIVERY_LOWEST:
        if (!lapic_software_enabled(lapic))
            return false;
        lapic_accept_locked(lapic, message->vector, message->level);
        return true;
    case IRQ_DELIVERY_NMI:
        if (lapic->cpu)
            cpu_request(lapic->cpu, CPU_REQUEST_NMI);
        return true;
    case IRQ_DELIVERY_INIT:
        lapic_reset_locked(lapic, LAPIC_RESET_INIT);
        if (lapic->cpu)
            cpu_request(lapic->cpu, CPU_REQUEST_INIT);
        return true;
    case IRQ_DELIVERY_SIPI:
        if (lapic->cpu) {
            __atomic_store_n(&lapic->cpu->sipi_vector, message->vector, __ATOMIC_RELEASE);
            cpu_request(lapic->cpu, CPU_REQUEST_SIPI);
        }
        return true;
    default: /* SMI: there is no SMM; ExtINT through an I/O APIC is not wired */
        return false;
    }
}

/* The taker with the least priority, the search starting after the last one chosen. */
static struct lapic *arbitrate(struct irqchip *chip, const struct irq_message *message)
{
    struct lapic *chosen = NULL;
    unsigned nr = chip->config.nr_cpus;

    for (unsigned i = 0; i < nr; i++) {
        struct lapic *lapic = &chip->lapics[(chip->lowest_priority_next + i) % nr];

        if (!takes(lapic, message) || !lapic_software_enabled(lapic))
            continue;
        if (!chosen || lapic_ppr_locked(lapic) < lapic_ppr_locked(chosen))
            chosen = lapic;
    }
    if (chosen)
        chip->lowest_priority_next = (chosen->index + 1) % nr;
    return chosen;
}

bool irqchip_deliver_locked(struct irqchip *chip, const struct irq_message *message)
{
    bool taken = false;

    if (message->delivery == IRQ_DELIVERY_LOWEST) {
        struct lapic *lapic = arbitrate(chip, message);

        return lapic && deliver_one(lapic, message);
    }
    for (unsigned i = 0; i < chip->config.nr_cpus; i++)
        if (takes(&chip->lapics[i], message))
            taken |= deliver_one(&chip->lapics[i], message);
    return taken;
}

static void send_shorthand(struct lapic *sender, const struct irq_message *message,
                           unsigned shorthand)
{
    struct irqchip *chip = sender->chip;

    if (shorthand == SHORTHAND_SELF) {
        deliver_one(sender, message);
        return;
    }
    for (unsigned i = 0; i < chip->config.nr_cpus; i++) {
        struct lapic *lapic = &chip->lapics[i];

        if (lapic_enabled(lapic) && (lapic != sender || shorthand == SHORTHAND_ALL))
            deliver_one(lapic, message);
    }
}

void lapic_send_ipi_locked(struct lapic *lapic, uint64_t icr)
{
    uint32_t low = (uint32_t)icr & ~ICR_STATUS;
    unsigned shorthand = ICR_SHORTHAND(low);
    struct irq_message message = {
        .destination = (uint32_t)(icr >> (lapic_is_x2apic(lapic) ? 32 : 56)),
        .logical = low & ICR_LOGICAL,
        .wide = lapic_is_x2apic(lapic),
        .delivery = (uint8_t)(low >> 8 & 7),
        .vector = (uint8_t)low,
    };

    lapic->state.registers[LAPIC_ICR_LOW] = low;
    if (!lapic_enabled(lapic))
        return;
    /* INIT level de-assert has no effect since the Pentium 4 (SDM 3A 11.6.1). */
    if (message.delivery == IRQ_DELIVERY_INIT && low & ICR_LEVEL && !(low & ICR_ASSERT))
        return;
    if (message.vector < 16 &&
        (message.delivery == IRQ_DELIVERY_FIXED || message.delivery == IRQ_DELIVERY_LOWEST)) {
        lapic_error_locked(lapic, LAPIC_ERROR_SEND_VECTOR);
        return;
    }
    if (shorthand == SHORTHAND_NONE)
        irqchip_deliver_locked(lapic->chip, &message);
    else
        send_shorthand(lapic, &message, shorthand);
}
