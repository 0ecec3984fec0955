/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables of the machine (ACPI 6.4 chapter 5): RSDP, XSDT, FADT, FACS, MADT and a DSDT
 * that describes processors, COM1, RTC and virtio-mmio devices. Written once into guest memory,
 * before it boots.
 */
#ifndef LODGE_MACHINE_ACPI_TABLES_H
#define LODGE_MACHINE_ACPI_TABLES_H

#include "base/buf.h"
#include "base/err.h"
#include "cpu/memory.h"
#include "machine/pci.h"

#include <stdbool.h>
#include <stdint.h>

#define ACPI_AREA_START UINT64_C(0xe0000) /* where a kernel without a pointer looks, too */
#define ACPI_AREA_SIZE  UINT64_C(0x20000)

struct acpi_virtio {
    gpa_t gpa;
    uint32_t size_bytes;
    unsigned gsi;
};

struct acpi_config {
    unsigned nr_cpus;
    bool serial;
    const struct acpi_virtio *virtio;
    unsigned nr_virtio;
    bool pci; /* with slots for hot-plug */
    unsigned pci_gsis[PCI_SLOTS_MAX];
};

/* Appends the DSDT, header and checksum included. */
int acpi_dsdt(const struct acpi_config *config, struct buf *ret, struct err *err);
/* All tables as they lie at `base`: the RSDP comes first. */
int acpi_tables(const struct acpi_config *config, gpa_t base, struct buf *ret, struct err *err);
/* Writes them at ACPI_AREA_START and gives the RSDP's address. */
int acpi_install(const struct acpi_config *config, struct memory *memory, gpa_t *ret_rsdp,
                 struct err *err);

#endif
