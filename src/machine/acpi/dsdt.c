/* SPDX-License-Identifier: Apache-2.0 */
/* The DSDT: what cannot be found by probing, as objects under \_SB, and the S5 sleep type. */
#include "base/util.h"
#include "machine/acpi/aml.h"
#include "machine/acpi/tables.h"
#include "machine/acpi/tables_internal.h"
#include "machine/acpi_pm.h"

#include <errno.h>
#include <stdio.h>

static void add_cpus(struct aml *aml, unsigned nr_cpus)
{
    for (unsigned i = 0; i < nr_cpus; i++) {
        char name[5];
        size_t device;

        snprintf(name, sizeof(name), "C%03X", i & 0xfff);
        device = aml_device_begin(aml, name);
        aml_name_string(aml, "_HID", "ACPI0007");
        aml_name_integer(aml, "_UID", i);
        aml_end(aml, device);
    }
}

static void add_com1(struct aml *aml)
{
    size_t device = aml_device_begin(aml, "COM1"), resources;

    aml_name_eisa_id(aml, "_HID", "PNP0501");
    aml_name_integer(aml, "_UID", 1);
    aml_name(aml, "_CRS");
    resources = aml_resources_begin(aml);
    aml_resource_io(aml, 0x3f8, 8);
    aml_resource_irq(aml, 4);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

static void add_rtc(struct aml *aml)
{
    size_t device = aml_device_begin(aml, "RTC_"), resources;

    aml_name_eisa_id(aml, "_HID", "PNP0B00");
    aml_name(aml, "_CRS");
    resources = aml_resources_begin(aml);
    aml_resource_io(aml, 0x70, 2);
    aml_resource_irq(aml, 8);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

static void add_virtio(struct aml *aml, const struct acpi_virtio *virtio, unsigned index)
{
    size_t device, resources;
    char name[5];

    snprintf(name, sizeof(name), "V%03X", index & 0xfff);
    device = aml_device_begin(aml, name);
    aml_name_string(aml, "_HID", "LNRO0005");
    aml_name_integer(aml, "_UID", index);
    aml_name_integer(aml, "_CCA", 1);
    aml_name(aml, "_CRS");
    resources = aml_resources_begin(aml);
    aml_resource_memory32(aml, (uint32_t)virtio->gpa, virtio->size_bytes);
    aml_resource_interrupt(aml, virtio->gsi);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

static void add_s5(struct aml *aml)
{
    size_t package;

    aml_name(aml, "_S5_");
    package = aml_package_begin(aml, 4);
    aml_integer(aml, ACPI_S5_TYPE);
    aml_integer(aml, ACPI_S5_TYPE);
    aml_integer(aml, 0);
    aml_integer(aml, 0);
    aml_end(aml, package);
}

int acpi_dsdt(const struct acpi_config *config, struct buf *ret, struct err *err)
{
    struct aml aml;
    size_t scope;
    int result;

    aml_init(&aml, ACPI_AREA_SIZE);
    scope = aml_scope_begin(&aml, "\\_SB_");
    add_cpus(&aml, config->nr_cpus);
    if (config->serial)
        add_com1(&aml);
    add_rtc(&aml);
    for (unsigned i = 0; i < config->nr_virtio; i++)
        add_virtio(&aml, &config->virtio[i], i);
    if (config->pci)
        acpi_add_pci(&aml, config->pci_gsis);
    aml_end(&aml, scope);
    if (config->pci)
        acpi_add_pci_event(&aml);
    add_s5(&aml);
    result = aml.error;
    if (!result)
        result = acpi_add_table(ret, "DSDT", 2, aml.out.data, aml.out.length);
    aml_done(&aml);
    return result ? err_set(err, result, "the ACPI DSDT does not fit") : 0;
}
