/* SPDX-License-Identifier: Apache-2.0 */
#include "chips.h"

#define ENTRY(pin) (0x10u + 2 * (pin))
#define LEVEL      (1u << 15)
#define MASKED     (1u << 16)
#define REMOTE_IRR (1u << 14)
#define LOGICAL    (1u << 11)

START_TEST(registers_read_as_the_data_sheet_says)
{
    struct chips c;

    chips_make(&c);
    ck_assert_uint_eq(ioapic_in(&c, 1), 0x00170020);
    ioapic_out(&c, 0, 0x05000000);
    ck_assert_uint_eq(ioapic_in(&c, 0), 0x05000000);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ck_assert_uint_eq(ioapic_in(&c, ENTRY(pin)), MASKED);
    ioapic_out(&c, ENTRY(3) + 1, 0xffffffff);
    ioapic_out(&c, ENTRY(3), 0xffffffff & ~(1u << 16));
    ck_assert_uint_eq(ioapic_in(&c, ENTRY(3) + 1), 0xff000000);
    ck_assert_uint_eq(ioapic_in(&c, ENTRY(3)), 0x0000afff);
    ck_assert_uint_eq(ioapic_in(&c, 0x40), 0);
    chips_free(&c);
}
END_TEST

START_TEST(an_edge_interrupts_once)
{
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    line(&c, 4, true); /* masked: lost */
    ioapic_out(&c, ENTRY(4), 0x44);
    ck_assert(!pending(&c, 0));
    line(&c, 4, false);
    line(&c, 4, true);
    ck_assert_int_eq(acknowledge(&c, 0), 0x44);
    lapic_out(&c, 0, LAPIC_EOI, 0);
    ck_assert_int_eq(acknowledge(&c, 0), -1);
    /* The PIT's line comes on pin 2. */
    ioapic_out(&c, ENTRY(2), 0x42);
    line(&c, 0, true);
    ck_assert_int_eq(acknowledge(&c, 0), 0x42);
    chips_free(&c);
}
END_TEST

START_TEST(a_level_comes_again_after_the_eoi_while_it_is_up)
{
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    ioapic_out(&c, ENTRY(16) + 1, 1u << 24); /* to vCPU 1 */
    ioapic_out(&c, ENTRY(16), LEVEL | MASKED | 0x60);
    line(&c, 16, true);
    ck_assert(!pending(&c, 1));
    ioapic_out(&c, ENTRY(16), LEVEL | 0x60); /* unmasking shows it */
    ck_assert(c.cpus[1].requests & CPU_REQUEST_INTERRUPT);
    ck_assert_int_eq(acknowledge(&c, 1), 0x60);
    ck_assert_uint_eq(ioapic_in(&c, ENTRY(16)) & REMOTE_IRR, REMOTE_IRR);
    line(&c, 16, false);
    line(&c, 16, true); /* remote IRR holds it */
    ck_assert_int_eq(acknowledge(&c, 1), -1);
    lapic_out(&c, 1, LAPIC_EOI, 0);
    ck_assert_int_eq(acknowledge(&c, 1), 0x60);
    line(&c, 16, false);
    lapic_out(&c, 1, LAPIC_EOI, 0);
    ck_assert_int_eq(acknowledge(&c, 1), -1);
    ck_assert_uint_eq(ioapic_in(&c, ENTRY(16)) & REMOTE_IRR, 0);
    chips_free(&c);
}
END_TEST

START_TEST(directed_eoi_replaces_the_broadcast)
{
    struct chips c;
    uint32_t vector = 0x60;

    chips_make(&c);
    lapics_enable(&c);
    lapic_out(&c, 0, LAPIC_SVR, LAPIC_SVR_ENABLE | LAPIC_SVR_NO_EOI_CAST | 0xff);
    ioapic_out(&c, ENTRY(17), LEVEL | 0x60);
    line(&c, 17, true);
    ck_assert_int_eq(acknowledge(&c, 0), 0x60);
    lapic_out(&c, 0, LAPIC_EOI, 0);
    ck_assert_int_eq(acknowledge(&c, 0), -1);
    c.calls.mmio_write(c.calls.context, 0, IOAPIC_BASE + 0x40, &vector, 4);
    ck_assert_int_eq(acknowledge(&c, 0), 0x60);
    /* Made edge, an entry forgets its remote IRR. */
    ioapic_out(&c, ENTRY(17), MASKED | 0x60);
    ck_assert_uint_eq(ioapic_in(&c, ENTRY(17)) & REMOTE_IRR, 0);
    chips_free(&c);
}
END_TEST

START_TEST(destinations_logical_and_lowest_priority)
{
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    ioapic_out(&c, ENTRY(18) + 1, 3u << 24);
    ioapic_out(&c, ENTRY(18), LOGICAL | 0x71); /* fixed, both */
    line(&c, 18, true);
    ck_assert_int_eq(acknowledge(&c, 0), 0x71);
    ck_assert_int_eq(acknowledge(&c, 1), 0x71);
    lapic_out(&c, 1, LAPIC_EOI, 0);
    ioapic_out(&c, ENTRY(19) + 1, 3u << 24);
    ioapic_out(&c, ENTRY(19), LOGICAL | 1u << 8 | 0x82); /* 0 still serves 0x71 */
    line(&c, 19, true);
    ck_assert_int_eq(acknowledge(&c, 0), -1);
    ck_assert_int_eq(acknowledge(&c, 1), 0x82);
    chips_free(&c);
}
END_TEST

START_TEST(messages_are_decoded)
{
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    c.sink.msi(c.sink.context, 0xfee01000, 0x55); /* physical, vCPU 1 */
    ck_assert_int_eq(acknowledge(&c, 1), 0x55);
    c.sink.msi(c.sink.context, 0xfee01004, 0x56); /* logical 1: vCPU 0 */
    ck_assert_int_eq(acknowledge(&c, 0), 0x56);
    c.sink.msi(c.sink.context, 0xfee01000, 0x400); /* NMI */
    ck_assert(c.cpus[1].requests & CPU_REQUEST_NMI);
    c.sink.msi(c.sink.context, 0xfed00000, 0x57); /* no message address */
    ck_assert_int_eq(acknowledge(&c, 0), -1);
    chips_free(&c);
}
END_TEST

TEST_MAIN("ioapic", tcase_add_test(tcase, registers_read_as_the_data_sheet_says);
          tcase_add_test(tcase, an_edge_interrupts_once);
          tcase_add_test(tcase, a_level_comes_again_after_the_eoi_while_it_is_up);
          tcase_add_test(tcase, directed_eoi_replaces_the_broadcast);
          tcase_add_test(tcase, destinations_logical_and_lowest_priority);
          tcase_add_test(tcase, messages_are_decoded))
