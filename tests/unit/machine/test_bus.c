/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/bus.h"

#include "testing.h"

#include <errno.h>
#include <string.h>

struct echo {
    unsigned cpu, size;
    uint64_t offset, written;
};

static void echo_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct echo *echo = device;

    *echo = (struct echo){.cpu = cpu, .size = size, .offset = offset};
    memset(data, 0x5a, size);
}

static void echo_write(void *device, unsigned cpu, uint64_t offset, const void *data, unsigned size)
{
    struct echo *echo = device;

    *echo = (struct echo){.cpu = cpu, .size = size, .offset = offset};
    memcpy(&echo->written, data, size);
}

static const struct bus_ops echo_ops = {echo_read, echo_write};

START_TEST(accesses_reach_the_device_that_holds_them)
{
    struct echo low = {0}, high = {0};
    struct cpu_bus calls;
    struct bus *bus;
    uint32_t value = 0;

    ck_assert_int_eq(bus_new(&bus, NULL), 0);
    ck_assert_int_eq(bus_add(bus, BUS_IO, 0x70, 2, &echo_ops, &low, "low", NULL), 0);
    ck_assert_int_eq(bus_add(bus, BUS_MMIO, 0x70, 8, &echo_ops, &high, "high", NULL), 0);
    bus_connect(bus, &calls);
    calls.io_read(calls.context, 3, 0x71, &value, 1);
    ck_assert_uint_eq(value, 0x5a);
    ck_assert_uint_eq(low.offset, 1);
    ck_assert_uint_eq(low.cpu, 3);
    value = 0x11223344;
    calls.mmio_write(calls.context, 1, 0x74, &value, 4);
    ck_assert_uint_eq(high.written, 0x11223344);
    ck_assert_uint_eq(high.offset, 4);
    bus_free(bus);
}
END_TEST

START_TEST(nobody_answers_outside_and_across)
{
    struct echo echo = {0};
    struct cpu_bus calls;
    struct bus *bus;
    uint64_t value = 0;

    ck_assert_int_eq(bus_new(&bus, NULL), 0);
    ck_assert_int_eq(bus_add(bus, BUS_IO, 0x70, 2, &echo_ops, &echo, "a", NULL), 0);
    ck_assert_int_eq(bus_add(bus, BUS_IO, 0x72, 2, &echo_ops, &echo, "b", NULL), 0);
    bus_connect(bus, &calls);
    calls.io_read(calls.context, 0, 0x71, &value, 2);
    ck_assert_uint_eq(value, 0xffff);
    calls.io_read(calls.context, 0, 0x74, &value, 1);
    ck_assert_uint_eq(value, 0xffff);
    calls.io_write(calls.context, 0, 0x6f, &value, 2);
    calls.io_write(calls.context, 0, 0xffff, &value, 4);
    calls.mmio_read(calls.context, 0, UINT64_MAX, &value, 8);
    ck_assert_uint_eq(value, UINT64_MAX);
    ck_assert_uint_eq(echo.size, 0);
    bus_free(bus);
}
END_TEST

START_TEST(overlaps_and_nonsense_are_refused)
{
    static const struct {
        uint64_t base, length;
        int result;
    } cases[] = {
        {0x100, 0x10, 0},     {0x10f, 1, -EEXIST}, {0xf1, 0x10, -EEXIST}, {0x80, 0x100, -EEXIST},
        {0x104, 2, -EEXIST},  {0xf0, 0x10, 0},     {0x110, 1, 0},         {0x10000, 1, -EINVAL},
        {0xffff, 2, -EINVAL}, {0x200, 0, -EINVAL}, {0xffff, 1, 0},
    };
    struct bus *bus;

    ck_assert_int_eq(bus_new(&bus, NULL), 0);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_int_eq(
            bus_add(bus, BUS_IO, cases[i].base, cases[i].length, &echo_ops, NULL, "x", NULL),
            cases[i].result);
    ck_assert_int_eq(bus_add(bus, BUS_MMIO, UINT64_MAX, 2, &echo_ops, NULL, "x", NULL), -EINVAL);
    ck_assert_int_eq(bus_add(bus, BUS_MMIO, UINT64_MAX, 1, &echo_ops, NULL, "x", NULL), 0);
    bus_free(bus);
}
END_TEST

TEST_MAIN("bus", tcase_add_test(tcase, accesses_reach_the_device_that_holds_them);
          tcase_add_test(tcase, nobody_answers_outside_and_across);
          tcase_add_test(tcase, overlaps_and_nonsense_are_refused))
