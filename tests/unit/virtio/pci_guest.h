/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's side of a PCI bus for tests: the ports of configuration mechanism #1, the hot-plug
 * registers and the memory window, through struct cpu_bus as an engine calls it. What is where in
 * a device is read from its capabilities; their numbers are the kernel's (linux/virtio_pci.h).
 */
#ifndef LODGE_TESTS_PCI_GUEST_H
#define LODGE_TESTS_PCI_GUEST_H

#include "machine/pci.h"

#include <linux/virtio_pci.h>

#define PCI_GUEST_CAPABILITIES 6 /* by type, VIRTIO_PCI_CAP_* */

struct pci_guest {
    struct bus *bus;
    struct cpu_bus cpu_bus;
};

/* Where the structures of one device lie, in guest-physical memory. */
struct pci_guest_device {
    unsigned number; /* on the bus: its slot + 1 */
    uint64_t bar, bar_bytes;
    uint64_t at[PCI_GUEST_CAPABILITIES];
    uint32_t bytes[PCI_GUEST_CAPABILITIES];
    uint32_t notify_multiplier;
    unsigned msix; /* offset of the capability; 0: none */
};

uint32_t pci_guest_in(struct pci_guest *guest, uint16_t port, unsigned size);
void pci_guest_out(struct pci_guest *guest, uint16_t port, uint32_t value, unsigned size);
uint32_t pci_guest_config_in(struct pci_guest *guest, unsigned number, unsigned at, unsigned size);
void pci_guest_config_out(struct pci_guest *guest, unsigned number, unsigned at, uint32_t value,
                          unsigned size);
uint64_t pci_guest_read(struct pci_guest *guest, uint64_t gpa, unsigned size);
void pci_guest_write(struct pci_guest *guest, uint64_t gpa, uint64_t value, unsigned size);

/* Places the BAR, switches memory on, reads the capabilities (which are checked). */
void pci_guest_probe(struct pci_guest *guest, unsigned number, uint64_t bar,
                     struct pci_guest_device *ret);

#endif
