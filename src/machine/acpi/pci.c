/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI bus in the DSDT: its bridge with window and interrupts, a device for each slot that can
 * be ejected, and the event that says what came (Notify 1) and what is asked back (Notify 3). A
 * kernel with ACPI hot-plug of PCI needs no more (ACPI 6.4 6.3, 5.6.6).
 */
#include "machine/acpi/tables_internal.h"

#include <stdio.h>

#define REGISTERS    "\\_SB_.PCI0."
#define NOTIFY_CHECK 1
#define NOTIFY_EJECT 3
#define ANY_FUNCTION 0xffff

static void slot_name(unsigned slot, char ret[5])
{
    snprintf(ret, 5, "S%03X", slot & 0xfff);
}

static void add_routes(struct aml *aml, const unsigned *gsis)
{
    size_t all, one;

    aml_name(aml, "_PRT");
    all = aml_package_begin(aml, PCI_SLOTS_MAX);
    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++) {
        one = aml_package_begin(aml, 4);
        aml_integer(aml, (uint64_t)(i + 1) << 16 | ANY_FUNCTION);
        aml_integer(aml, 0); /* INTA */
        aml_integer(aml, 0); /* no link device: the next is a GSI */
        aml_integer(aml, gsis[i]);
        aml_end(aml, one);
    }
    aml_end(aml, all);
}

static void add_slot(struct aml *aml, unsigned slot)
{
    size_t device, method;
    char name[5];

    slot_name(slot, name);
    device = aml_device_begin(aml, name);
    aml_name_integer(aml, "_ADR", (uint64_t)(slot + 1) << 16);
    aml_name_integer(aml, "_SUN", slot + 1);
    method = aml_method_begin(aml, "_EJ0", 1);
    aml_store(aml, UINT64_C(1) << slot, REGISTERS "PEJT");
    aml_end(aml, method);
    aml_end(aml, device);
}

static void add_notice(struct aml *aml, unsigned slot, const char *reg, unsigned what)
{
    char name[5], path[24];
    size_t mark;

    slot_name(slot, name);
    snprintf(path, sizeof(path), REGISTERS "%s", name);
    mark = aml_if_begin(aml);
    aml_and(aml, reg, UINT64_C(1) << slot);
    aml_store(aml, UINT64_C(1) << slot, reg);
    aml_notify(aml, path, what);
    aml_end(aml, mark);
}

void acpi_add_pci(struct aml *aml, const unsigned *gsis)
{
    static const char *const fields[] = {"PINS", "PASK", "PEJT"};
    size_t device = aml_device_begin(aml, "PCI0"), resources;

    aml_name_eisa_id(aml, "_HID", "PNP0A03");
    aml_name_integer(aml, "_UID", 0);
    aml_name(aml, "_CRS");
    resources = aml_resources_begin(aml);
    aml_resource_bus_numbers(aml, 0, 0);
    aml_resource_io(aml, 0xcf8, 8);
    aml_resource_memory_window(aml, (uint32_t)PCI_WINDOW_BASE, (uint32_t)PCI_WINDOW_SIZE);
    aml_resources_end(aml, resources);
    aml_region_io(aml, "PREG", PCI_HOTPLUG_PORT, 12);
    aml_fields32(aml, "PREG", fields, 3);
    add_routes(aml, gsis);
    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++)
        add_slot(aml, i);
    aml_end(aml, device);
}

void acpi_add_pci_event(struct aml *aml)
{
    size_t scope = aml_scope_begin(aml, "\\_GPE"), method = aml_method_begin(aml, "_E01", 0);

    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++) {
        add_notice(aml, i, REGISTERS "PINS", NOTIFY_CHECK);
        add_notice(aml, i, REGISTERS "PASK", NOTIFY_EJECT);
    }
    aml_end(aml, method);
    aml_end(aml, scope);
}
