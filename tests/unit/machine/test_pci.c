/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/pci.h"

#include "base/util.h"
#include "testing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define ADDRESS 0xcf8
#define DATA    0xcfc

static const unsigned gsis[PCI_SLOTS_MAX] = {23, 5, 10, 11, 7, 6};

static struct bus *bus;
static struct cpu_bus cpu_bus;
static struct pci *pci;
static bool raised;
static unsigned ejected, nr_ejected, nr_resets;
static uint8_t memory[0x4000];

static void on_gpe(void *context, bool now)
{
    (void)context;
    raised = now;
}

static void on_ejected(void *context, unsigned slot)
{
    (void)context;
    ejected = slot;
    nr_ejected++;
}

static void on_reset(void *context)
{
    (void)context;
    nr_resets++;
}

static void bar_read(void *context, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    (void)cpu;
    memcpy(data, (uint8_t *)context + offset, size);
}

static void bar_write(void *context, unsigned cpu, uint64_t offset, const void *data, unsigned size)
{
    (void)cpu;
    memcpy((uint8_t *)context + offset, data, size);
}

static void setup(void)
{
    static const struct pci_functions functions = {NULL, on_ejected, on_reset};
    static const struct irq_sink sink;

    raised = false;
    nr_ejected = nr_resets = 0;
    memset(memory, 0, sizeof(memory));
    ck_assert_int_eq(bus_new(&bus, NULL), 0);
    ck_assert_int_eq(pci_new(&sink, gsis, on_gpe, NULL, &functions, &pci, NULL), 0);
    ck_assert_int_eq(pci_add_to_bus(pci, bus, NULL), 0);
    bus_connect(bus, &cpu_bus);
}

static void teardown(void)
{
    pci_free(pci);
    bus_free(bus);
}

static uint32_t in(uint16_t port, unsigned size)
{
    uint32_t value = 0;

    cpu_bus.io_read(cpu_bus.context, 0, port, &value, size);
    return value;
}

static void out(uint16_t port, uint32_t value, unsigned size)
{
    cpu_bus.io_write(cpu_bus.context, 0, port, &value, size);
}

static uint32_t config_in(unsigned device, unsigned reg, unsigned size)
{
    out(ADDRESS, 0x80000000u | device << 11 | (reg & 0xfc), 4);
    return in((uint16_t)(DATA + (reg & 3)), size);
}

static void config_out(unsigned device, unsigned reg, uint32_t value, unsigned size)
{
    out(ADDRESS, 0x80000000u | device << 11 | (reg & 0xfc), 4);
    out((uint16_t)(DATA + (reg & 3)), value, size);
}

static void plug(unsigned slot, bool announce)
{
    static const struct bus_ops ops = {bar_read, bar_write};
    struct pci_device device = {.bar_bytes = sizeof(memory), .ops = &ops, .context = memory};

    store_le32(device.config, 0x10421af4);
    pci_plug(pci, slot, &device, announce);
}

static uint32_t window_in(uint64_t gpa)
{
    uint32_t value = 0;

    cpu_bus.mmio_read(cpu_bus.context, 0, gpa, &value, 4);
    return value;
}

START_TEST(an_empty_bus_has_a_bridge_alone)
{
    ck_assert_uint_eq(config_in(0, PCI_CLASS + 1, 2), 0x0600);
    for (unsigned device = 1; device < 32; device++)
        ck_assert_uint_eq(config_in(device, PCI_VENDOR, 4), 0xffffffff);
    out(ADDRESS, 0x80010000, 4); /* bus 1 */
    ck_assert_uint_eq(in(DATA, 4), 0xffffffff);
    out(ADDRESS, 0x00000000, 4); /* not enabled */
    ck_assert_uint_eq(in(DATA, 4), 0xffffffff);
    ck_assert_uint_eq(window_in(PCI_WINDOW_BASE), 0xffffffff);
}
END_TEST

START_TEST(a_bar_is_sized_placed_and_decoded)
{
    plug(0, false);
    ck_assert(!raised);
    ck_assert_uint_eq(config_in(1, PCI_VENDOR, 4), 0x10421af4);
    ck_assert_uint_eq(config_in(1, PCI_LINE, 2), 0x0100 | gsis[0]);
    config_out(1, PCI_VENDOR, 0, 4); /* read-only */
    ck_assert_uint_eq(config_in(1, PCI_VENDOR, 4), 0x10421af4);
    config_out(1, PCI_BAR0, 0xffffffff, 4);
    ck_assert_uint_eq(config_in(1, PCI_BAR0, 4), 0xffffc000);
    config_out(1, PCI_BAR0, (uint32_t)PCI_WINDOW_BASE + 0x8000, 4);
    store_le32(memory + 0x3ffc, 0x12345678);
    ck_assert_uint_eq(window_in(PCI_WINDOW_BASE + 0xbffc), 0xffffffff); /* not decoded yet */
    config_out(1, PCI_COMMAND, 0x0002, 2);
    ck_assert_uint_eq(window_in(PCI_WINDOW_BASE + 0xbffc), 0x12345678);
    ck_assert_uint_eq(window_in(PCI_WINDOW_BASE + 0xc000), 0xffffffff);
    ck_assert_uint_eq(window_in(PCI_WINDOW_BASE + 0xbffe), 0xffffffff); /* across its end */
    ck_assert_uint_eq(window_in(PCI_WINDOW_BASE + 0x7ffc), 0xffffffff);
    pci_reset(pci);
    ck_assert_uint_eq(config_in(1, PCI_BAR0, 4), 0);
    ck_assert_uint_eq(config_in(1, PCI_COMMAND, 2), 0);
    ck_assert_uint_eq(config_in(1, PCI_VENDOR, 4), 0x10421af4);
    pci_unplug(pci, 0);
    ck_assert_uint_eq(config_in(1, PCI_VENDOR, 4), 0xffffffff);
}
END_TEST

START_TEST(the_guest_is_told_and_answers)
{
    plug(3, true);
    ck_assert(!raised); /* not enabled */
    out(PCI_GPE_PORT + 1, 1u << PCI_GPE_BIT, 1);
    ck_assert(raised);
    ck_assert_uint_eq(in(PCI_HOTPLUG_PORT + PCI_HOTPLUG_INSERTED, 4), 1u << 3);
    ck_assert_uint_eq(in(PCI_HOTPLUG_PORT + PCI_HOTPLUG_ASKED, 4), 0);
    out(PCI_HOTPLUG_PORT + PCI_HOTPLUG_INSERTED, 1u << 3, 4);
    ck_assert_uint_eq(in(PCI_HOTPLUG_PORT + PCI_HOTPLUG_INSERTED, 4), 0);
    out(PCI_GPE_PORT, 1u << PCI_GPE_BIT, 1);
    ck_assert(!raised);
    pci_ask_back(pci, 3);
    ck_assert(raised);
    ck_assert_uint_eq(in(PCI_HOTPLUG_PORT + PCI_HOTPLUG_ASKED, 4), 1u << 3);
    out(PCI_HOTPLUG_PORT + PCI_HOTPLUG_EJECT, 1u << 3, 4);
    ck_assert_uint_eq(nr_ejected, 1);
    ck_assert_uint_eq(ejected, 3);
    out(PCI_HOTPLUG_PORT + PCI_HOTPLUG_EJECT, 0xffffffc0u, 4); /* no such slots */
    out(PCI_HOTPLUG_PORT + PCI_HOTPLUG_EJECT, 0xff, 1);
    ck_assert_uint_eq(nr_ejected, 1);
}
END_TEST

START_TEST(the_reset_port_is_passed_on)
{
    out(0xcf9, 6, 1);
    ck_assert_uint_eq(nr_resets, 1);
    out(ADDRESS, 0x80000600, 4); /* an address whose second byte looks like it */
    ck_assert_uint_eq(nr_resets, 1);
    ck_assert_uint_eq(in(ADDRESS, 4), 0x80000600);
}
END_TEST

static atomic_bool stop;

static void *accesses(void *context)
{
    (void)context;
    while (!atomic_load(&stop)) {
        uint32_t value = 7;

        cpu_bus.mmio_read(cpu_bus.context, 1, PCI_WINDOW_BASE, &value, 4);
        if (value != 0xffffffff && value != 0)
            return &stop;
    }
    return NULL;
}

/* Accesses without a pause between them, from several processors. */
START_TEST(unplugged_under_accesses)
{
    pthread_t threads[4];
    void *wrong;

    atomic_store(&stop, false);
    for (unsigned i = 0; i < ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, accesses, NULL), 0);
    for (unsigned i = 0; i < 500; i++) {
        plug(1, true);
        config_out(2, PCI_BAR0, (uint32_t)PCI_WINDOW_BASE, 4);
        config_out(2, PCI_COMMAND, 2, 2);
        pci_unplug(pci, 1);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
}
END_TEST

TEST_MAIN("pci", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_test(tcase, an_empty_bus_has_a_bridge_alone);
          tcase_add_test(tcase, a_bar_is_sized_placed_and_decoded);
          tcase_add_test(tcase, the_guest_is_told_and_answers);
          tcase_add_test(tcase, the_reset_port_is_passed_on);
          tcase_add_test(tcase, unplugged_under_accesses))
