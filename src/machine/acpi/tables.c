/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fixed tables. Layout in the area: RSDP, then FACS (64-byte aligned), DSDT, FADT, MADT, XSDT. A
 * classic FADT, not a hardware-reduced one: kernels then take the PIT, the RTC and the PM timer as
 * they know them, power off through PM1 control and reset through the reset register.
 */
#include "machine/acpi/tables.h"

#include "base/util.h"
#include "machine/acpi/tables_internal.h"
#include "machine/acpi_pm.h"
#include "machine/debug_ports.h"
#include "machine/ioapic.h"
#include "machine/lapic.h"

#include <errno.h>
#include <string.h>

#define OEM_ID       "LODGE "
#define OEM_TABLE_ID "LODGEVM "
#define CREATOR_ID   "LODG"

#define HEADER_SIZE 36
#define RSDP_SIZE   36
#define FACS_SIZE   64
#define FADT_SIZE   276

#define SPACE_IO 1 /* generic address structure: system I/O */

#define FADT_WBINVD        (1u << 0)
#define FADT_PROC_C1       (1u << 2)
#define FADT_SLEEP_BUTTON  (1u << 5) /* set: it is no fixed feature, and there is none */
#define FADT_RTC_NOT_FIXED (1u << 6)
#define FADT_TIMER_32      (1u << 8)
#define FADT_RESET         (1u << 10)
#define FADT_BOOT_LEGACY   (1u << 0)
#define FADT_BOOT_NO_VGA   (1u << 2)
#define FADT_BOOT_NO_ASPM  (1u << 4)
#define FADT_RTC_CENTURY   0x32
#define LATENCY_NEVER_C2   0x0fff
#define LATENCY_NEVER_C3   0x0fff

#define MADT_PCAT_COMPAT 1u
#define MADT_LAPIC       0
#define MADT_IOAPIC      1
#define MADT_OVERRIDE    2
#define MADT_LAPIC_NMI   4
#define MADT_X2APIC      9
#define MADT_X2APIC_NMI  10
#define MADT_ENABLED     1u
#define MADT_LEVEL_HIGH  0x000d
#define MADT_CONFORMS    0x0000
#define XAPIC_ID_MAX     254

static uint8_t checksum(const void *data, size_t length)
{
    const uint8_t *bytes = data;
    uint8_t sum = 0;

    for (size_t i = 0; i < length; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return (uint8_t)-sum;
}

int acpi_add_table(struct buf *out, const char *signature, uint8_t revision, const void *body,
                   size_t length)
{
    uint8_t header[HEADER_SIZE] = {0};
    size_t start = out->length;
    int result;

    memcpy(header, signature, 4);
    store_le32(header + 4, (uint32_t)(HEADER_SIZE + length));
    header[8] = revision;
    memcpy(header + 10, OEM_ID, 6);
    memcpy(header + 16, OEM_TABLE_ID, 8);
    store_le32(header + 24, 1);
    memcpy(header + 28, CREATOR_ID, 4);
    store_le32(header + 32, 1);
    if ((result = buf_append(out, header, sizeof(header))) < 0 ||
        (result = buf_append(out, body, length)) < 0)
        return result;
    out->data[start + 9] = (char)checksum(out->data + start, out->length - start);
    return 0;
}

static int align_to(struct buf *out, size_t alignment)
{
    static const char zeros[64];

    return buf_append(out, zeros, align_up(out->length, alignment) - out->length);
}

static void put_address(uint8_t *at, uint8_t bits, uint8_t access, uint64_t address)
{
    at[0] = SPACE_IO;
    at[1] = bits;
    at[2] = 0;
    at[3] = access;
    store_le64(at + 4, address);
}

static int add_facs(struct buf *out)
{
    uint8_t facs[FACS_SIZE] = {'F', 'A', 'C', 'S', FACS_SIZE};

    facs[32] = 2; /* version */
    return buf_append(out, facs, sizeof(facs));
}

/* Offsets as in ACPI 6.4 table 5.9, from the table's start. */
static int add_fadt(struct buf *out, gpa_t facs, gpa_t dsdt, bool gpe)
{
    uint8_t fadt[FADT_SIZE] = {0};

    store_le32(fadt + 36, (uint32_t)facs);
    store_le32(fadt + 40, (uint32_t)dsdt);
    store_le16(fadt + 46, ACPI_SCI_GSI);
    store_le32(fadt + 56, ACPI_PM1_EVENT_PORT);
    store_le32(fadt + 64, ACPI_PM1_CONTROL_PORT);
    store_le32(fadt + 76, ACPI_PM_TIMER_PORT);
    fadt[88] = 4; /* PM1 event length */
    fadt[89] = 2; /* PM1 control length */
    fadt[91] = 4; /* PM timer length */
    store_le16(fadt + 96, LATENCY_NEVER_C2);
    store_le16(fadt + 98, LATENCY_NEVER_C3);
    fadt[108] = FADT_RTC_CENTURY;
    store_le16(fadt + 109, FADT_BOOT_LEGACY | FADT_BOOT_NO_VGA | FADT_BOOT_NO_ASPM);
    store_le32(fadt + 112, FADT_WBINVD | FADT_PROC_C1 | FADT_SLEEP_BUTTON | FADT_RTC_NOT_FIXED |
                               FADT_TIMER_32 | FADT_RESET);
    put_address(fadt + 116, 8, 1, RESET_PORT);
    fadt[128] = RESET_PORT_VALUE;
    fadt[131] = 4; /* minor version: 6.4 */
    store_le64(fadt + 140, dsdt);
    put_address(fadt + 148, 32, 2, ACPI_PM1_EVENT_PORT);
    put_address(fadt + 172, 16, 2, ACPI_PM1_CONTROL_PORT);
    put_address(fadt + 208, 32, 3, ACPI_PM_TIMER_PORT);
    if (gpe) {
        store_le32(fadt + 80, PCI_GPE_PORT);
        fadt[92] = 2; /* GPE0 length: status and enable */
        put_address(fadt + 220, 16, 1, PCI_GPE_PORT);
    }
    memcpy(fadt + 268, "LODGE   ", 8); /* hypervisor vendor */
    return acpi_add_table(out, "FACP", 6, fadt + HEADER_SIZE, sizeof(fadt) - HEADER_SIZE);
}

static int add_processor(struct buf *out, unsigned id)
{
    uint8_t narrow[8] = {MADT_LAPIC, sizeof(narrow), (uint8_t)id, (uint8_t)id, MADT_ENABLED};
    uint8_t wide[16] = {MADT_X2APIC, sizeof(wide)};

    if (id <= XAPIC_ID_MAX)
        return buf_append(out, narrow, sizeof(narrow));
    store_le32(wide + 4, id);
    store_le32(wide + 8, MADT_ENABLED);
    store_le32(wide + 12, id);
    return buf_append(out, wide, sizeof(wide));
}

static int add_override(struct buf *out, uint8_t irq, uint32_t gsi, uint16_t flags)
{
    uint8_t entry[10] = {MADT_OVERRIDE, sizeof(entry), 0, irq};

    store_le32(entry + 4, gsi);
    store_le16(entry + 8, flags);
    return buf_append(out, entry, sizeof(entry));
}

static int add_madt_entries(struct buf *out, unsigned nr_cpus)
{
    uint8_t head[8] = {0}, ioapic[12] = {MADT_IOAPIC, sizeof(ioapic)};
    uint8_t nmi[6] = {MADT_LAPIC_NMI, sizeof(nmi), 0xff, 0, 0, 1}; /* all: LINT1 */
    uint8_t wide_nmi[12] = {MADT_X2APIC_NMI, sizeof(wide_nmi), 0, 0, 0xff, 0xff, 0xff, 0xff, 1};
    int result;

    store_le32(head, (uint32_t)LAPIC_BASE);
    store_le32(head + 4, MADT_PCAT_COMPAT);
    if ((result = buf_append(out, head, sizeof(head))) < 0)
        return result;
    for (unsigned i = 0; i < nr_cpus; i++)
        if ((result = add_processor(out, i)) < 0)
            return result;
    store_le32(ioapic + 4, (uint32_t)IOAPIC_BASE);
    if ((result = buf_append(out, ioapic, sizeof(ioapic))) < 0 ||
        (result = add_override(out, 0, 2, MADT_CONFORMS)) < 0 ||
        (result = add_override(out, ACPI_SCI_GSI, ACPI_SCI_GSI, MADT_LEVEL_HIGH)) < 0 ||
        (result = buf_append(out, nmi, sizeof(nmi))) < 0)
        return result;
    return nr_cpus > XAPIC_ID_MAX + 1 ? buf_append(out, wide_nmi, sizeof(wide_nmi)) : 0;
}

static int add_madt(struct buf *out, unsigned nr_cpus)
{
    CLEANUP(buf_donep) struct buf body;
    int result;

    buf_init(&body, ACPI_AREA_SIZE);
    if ((result = add_madt_entries(&body, nr_cpus)) < 0)
        return result;
    return acpi_add_table(out, "APIC", 5, body.data, body.length);
}

static void fill_rsdp(uint8_t *rsdp, gpa_t xsdt)
{
    memset(rsdp, 0, RSDP_SIZE);
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, OEM_ID, 6);
    rsdp[15] = 2; /* revision: with XSDT */
    store_le32(rsdp + 20, RSDP_SIZE);
    store_le64(rsdp + 24, xsdt);
    rsdp[8] = checksum(rsdp, 20);
    rsdp[32] = checksum(rsdp, RSDP_SIZE);
}

/* Everything behind the RSDP. Gives the XSDT's address. */
static int add_tables(const struct acpi_config *config, gpa_t base, struct buf *out,
                      gpa_t *ret_xsdt, struct err *err)
{
    gpa_t facs, dsdt;
    uint8_t pointers[16];
    int result;

    if ((result = align_to(out, 64)) < 0)
        return err_set(err, result, "ACPI tables");
    facs = base + out->length;
    if ((result = add_facs(out)) < 0)
        return err_set(err, result, "ACPI tables");
    dsdt = base + out->length;
    if ((result = acpi_dsdt(config, out, err)) < 0)
        return result;
    if ((result = align_to(out, 16)) < 0)
        return err_set(err, result, "ACPI tables");
    store_le64(pointers, base + out->length);
    if ((result = add_fadt(out, facs, dsdt, config->pci)) < 0 || (result = align_to(out, 16)) < 0)
        return err_set(err, result, "ACPI tables");
    store_le64(pointers + 8, base + out->length);
    if ((result = add_madt(out, config->nr_cpus)) < 0 || (result = align_to(out, 16)) < 0)
        return err_set(err, result, "ACPI tables");
    *ret_xsdt = base + out->length;
    if ((result = acpi_add_table(out, "XSDT", 1, pointers, sizeof(pointers))) < 0)
        return err_set(err, result, "ACPI tables");
    return 0;
}

int acpi_tables(const struct acpi_config *config, gpa_t base, struct buf *ret, struct err *err)
{
    uint8_t rsdp[RSDP_SIZE] = {0};
    gpa_t xsdt = 0;
    int result;

    if ((result = buf_append(ret, rsdp, sizeof(rsdp))) < 0)
        return err_set(err, result, "ACPI tables");
    if ((result = add_tables(config, base, ret, &xsdt, err)) < 0)
        return result;
    fill_rsdp((uint8_t *)ret->data, xsdt);
    return 0;
}

int acpi_install(const struct acpi_config *config, struct memory *memory, gpa_t *ret_rsdp,
                 struct err *err)
{
    CLEANUP(buf_donep) struct buf tables;
    int result;

    buf_init(&tables, ACPI_AREA_SIZE);
    if ((result = acpi_tables(config, ACPI_AREA_START, &tables, err)) < 0)
        return result;
    if ((result = memory_write(memory, ACPI_AREA_START, tables.data, tables.length)) < 0)
        return err_errno(err, result, "write the ACPI tables into guest memory");
    *ret_rsdp = ACPI_AREA_START;
    return 0;
}
