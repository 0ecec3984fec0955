/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/acpi/tables.h"

#include "base/file.h"
#include "base/util.h"
#include "testing.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define BASE UINT64_C(0xe0000)

static struct buf tables;

static void make(unsigned nr_cpus, unsigned nr_virtio, bool pci)
{
    static const struct acpi_virtio virtio[2] = {{0xd0000000, 0x1000, 16}, {0xd0001000, 0x1000, 5}};
    struct acpi_config config = {.nr_cpus = nr_cpus,
                                 .serial = true,
                                 .virtio = virtio,
                                 .nr_virtio = nr_virtio,
                                 .pci = pci,
                                 .pci_gsis = {23, 5, 10, 11, 7, 6}};

    buf_init(&tables, ACPI_AREA_SIZE);
    ck_assert_int_eq(acpi_tables(&config, BASE, &tables, NULL), 0);
}

static const uint8_t *at(uint64_t gpa)
{
    ck_assert_uint_ge(gpa, BASE);
    ck_assert_uint_lt(gpa - BASE, tables.length);
    return (uint8_t *)tables.data + (gpa - BASE);
}

static uint8_t sum(const uint8_t *data, size_t length)
{
    uint8_t value = 0;

    for (size_t i = 0; i < length; i++)
        value = (uint8_t)(value + data[i]);
    return value;
}

/* The table with this signature, found by the pointers as a kernel does. */
static const uint8_t *find(const char *signature)
{
    const uint8_t *rsdp = at(BASE), *xsdt = at(load_le64(rsdp + 24));

    ck_assert_mem_eq(rsdp, "RSD PTR ", 8);
    ck_assert_uint_eq(sum(rsdp, 20), 0);
    ck_assert_uint_eq(sum(rsdp, 36), 0);
    if (!strcmp(signature, "XSDT"))
        return xsdt;
    for (uint32_t i = 36; i < load_le32(xsdt + 4); i += 8) {
        const uint8_t *table = at(load_le64(xsdt + i));

        if (!memcmp(table, signature, 4))
            return table;
        if (!strcmp(signature, "DSDT") && !memcmp(table, "FACP", 4))
            return at(load_le64(table + 140));
    }
    ck_abort_msg("no %s", signature);
    return NULL;
}

static const char *const signatures[] = {"XSDT", "FACP", "APIC", "DSDT"};

START_TEST(tables_are_linked_and_summed)
{
    make(64, 2, false);
    for (unsigned i = 0; i < ARRAY_LEN(signatures); i++) {
        const uint8_t *table = find(signatures[i]);

        ck_assert_mem_eq(table, signatures[i], 4);
        ck_assert_uint_eq(sum(table, load_le32(table + 4)), 0);
    }
    ck_assert_uint_eq(load_le32(find("APIC") + 4), 44 + 64 * 8 + 12 + 2 * 10 + 6);
    buf_done(&tables);
}
END_TEST

/* iasl disassembles each table and compiles it again without a complaint. */
START_TEST(the_reference_compiler_has_no_complaint)
{
    char directory[] = "/tmp/lodge-acpi-XXXXXX", command[256];

    TEST_NEEDS(system("command -v iasl >/dev/null 2>&1") == 0, "no iasl (acpica-tools)");
    make(3, 2, _i);
    ck_assert_ptr_nonnull(mkdtemp(directory));
    for (unsigned i = 0; i < ARRAY_LEN(signatures); i++) {
        const uint8_t *table = find(signatures[i]);
        char path[64];
        int fd;

        snprintf(path, sizeof(path), "%s/%s.aml", directory, signatures[i]);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        ck_assert_int_eq(file_write_full(fd, table, load_le32(table + 4)), 0);
        close(fd);
        snprintf(command, sizeof(command),
                 "cd %s && iasl -d %s.aml >log 2>&1 && iasl -tc %s.dsl >>log 2>&1 && "
                 "grep -q '0 Errors, 0 Warnings, 0 Remarks' log",
                 directory, signatures[i], signatures[i]);
        ck_assert_msg(system(command) == 0, "%s: see %s/log", signatures[i], directory);
    }
    snprintf(command, sizeof(command), "rm -r %s", directory);
    ck_assert_int_eq(system(command), 0);
    buf_done(&tables);
}
END_TEST

TEST_MAIN("acpi", tcase_add_test(tcase, tables_are_linked_and_summed);
          tcase_add_loop_test(tcase, the_reference_compiler_has_no_complaint, 0, 2))
