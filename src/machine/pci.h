/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One PCI bus (PCI Local Bus 3.0) whose slots are filled and emptied while the guest runs:
 * configuration mechanism #1, devices with one memory BAR, INTA and MSI-X, and the registers by
 * which the DSDT's methods learn what came and say what may go (ACPI 6.4 5.6: a general-purpose
 * event).
 *
 *   empty ──pci_plug──▶ plugged ──pci_ask_back──▶ asked ──guest: eject──▶ functions.ejected
 *     ▲                    │                        │                          │
 *     └────pci_unplug──────┴────────────────────────┴──────────────────────────┘
 *
 * Registers, 32 bits each, a bit a slot: what came or went (INSERTED) and what is asked back
 * (ASKED), both cleared by writing ones; EJECT, written by _EJ0. The event's status and enable
 * bytes are the GPE block.
 *
 * Invariants: 1. a device is called only while it is plugged: pci_unplug waits for accesses under
 * way.  2. an access outside every device reads all ones.
 *
 * Threads: the bus functions on vCPU threads; the others on any thread that no access waits for,
 * so not the devices' loop. The functions are called on a vCPU's thread, without locks.
 */
#ifndef LODGE_MACHINE_PCI_H
#define LODGE_MACHINE_PCI_H

#include "base/err.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/msix.h"

#include <stdbool.h>
#include <stdint.h>

#define PCI_SLOTS_MAX    6 /* device numbers 1 to 6; 0 is the host bridge */
#define PCI_CONFIG_BYTES 256
#define PCI_WINDOW_BASE  UINT64_C(0xd8000000)
#define PCI_WINDOW_SIZE  UINT64_C(0x00800000)

#define PCI_GPE_PORT         0x60c /* status, enable: a byte each */
#define PCI_HOTPLUG_PORT     0x610
#define PCI_HOTPLUG_INSERTED 0
#define PCI_HOTPLUG_ASKED    4
#define PCI_HOTPLUG_EJECT    8
#define PCI_GPE_BIT          1 /* \_GPE._E01 */

/* Offsets of the type 0 header (6.1). */
#define PCI_VENDOR     0x00
#define PCI_COMMAND    0x04
#define PCI_STATUS     0x06
#define PCI_REVISION   0x08
#define PCI_CLASS      0x09
#define PCI_BAR0       0x10
#define PCI_SUBSYSTEM  0x2c
#define PCI_CAPABILITY 0x34
#define PCI_LINE       0x3c
#define PCI_PIN        0x3d

struct pci_device {
    uint8_t
        config[PCI_CONFIG_BYTES]; /* as it is after a reset; read-only but for the header's own */
    uint32_t bar_bytes;           /* a power of two */
    const struct bus_ops *ops;    /* accesses to BAR 0 */
    void *context;
    void (*reset)(void *context); /* to the power-on state; may be NULL */
    /* The bus master bit has changed; it was off. Off: no access to memory when this returns (the
     * bus holds messages back itself). May be NULL. No other access is under way. */
    void (*master)(void *context, bool on);
    struct msix *msix; /* borrowed; NULL: none */
    unsigned msix_at;  /* its capability's offset in config */
};

struct pci_functions {
    void *context;
    void (*ejected)(void *context, unsigned slot);
    void (*reset)(void *context); /* port 0xcf9, which lies among the address port's */
};

struct pci;

/* gsis: of the slots' INTA. sci: raised with an enabled event, besides the power management's own
 * (the line is shared: see acpi_pm_set_gpe). */
int pci_new(const struct irq_sink *sink, const unsigned gsis[PCI_SLOTS_MAX],
            void (*gpe)(void *context, bool raised), void *gpe_context,
            const struct pci_functions *functions, struct pci **ret, struct err *err);
void pci_free(struct pci *pci);
int pci_add_to_bus(struct pci *pci, struct bus *bus, struct err *err);
/* The slot's INTA, for the device: it follows what the guest says of it in the command register,
 * and is silent while the device sends messages. */
struct irq_line pci_line(const struct pci *pci, unsigned slot);
/* *device is copied; the slot is empty. announce: the guest is told (it runs already). */
void pci_plug(struct pci *pci, unsigned slot, const struct pci_device *device, bool announce);
void pci_ask_back(struct pci *pci, unsigned slot);
/* The guest is not told: it has ejected it, or there is none any more. */
void pci_unplug(struct pci *pci, unsigned slot);
/* Power-on state, of the devices too; they stay plugged. No vCPU runs. */
void pci_reset(struct pci *pci);

#endif
