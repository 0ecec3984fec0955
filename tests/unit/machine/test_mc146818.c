/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/mc146818.h"

#include "base/clock.h"
#include "ports.h"

static struct ports p;
static struct mc146818 *rtc;

/* 2024-02-29 23:59:58 UTC and a half, at clock 0. */
#define EPOCH_NS (UINT64_C(1709251198) * NS_PER_S + NS_PER_S / 2)

static uint64_t realtime(void)
{
    return EPOCH_NS + timers_now_ns(p.timers);
}

static void setup(void)
{
    ports_make(&p);
    ck_assert_int_eq(mc146818_new(p.timers, &p.irq, realtime, &rtc, NULL), 0);
    ck_assert_int_eq(mc146818_add_to_bus(rtc, p.bus, NULL), 0);
}

static void teardown(void)
{
    mc146818_free(rtc);
    ports_free(&p);
}

static uint8_t get(uint8_t index)
{
    out(&p, 0x70, index);
    return in(&p, 0x71);
}

static void put(uint8_t index, uint8_t value)
{
    out(&p, 0x70, index);
    out(&p, 0x71, value);
}

static void check_time(uint8_t h, uint8_t m, uint8_t s, uint8_t day, uint8_t month, uint8_t year)
{
    ck_assert_uint_eq(get(4), h);
    ck_assert_uint_eq(get(2), m);
    ck_assert_uint_eq(get(0), s);
    ck_assert_uint_eq(get(7), day);
    ck_assert_uint_eq(get(8), month);
    ck_assert_uint_eq(get(9), year);
}

START_TEST(tells_the_time_in_all_formats)
{
    setup();
    check_time(0x23, 0x59, 0x58, 0x29, 0x02, 0x24);
    ck_assert_uint_eq(get(0x32), 0x20);
    ck_assert_uint_eq(get(6), 5); /* Thursday */
    put(0x0b, 0x06);              /* binary */
    check_time(23, 59, 58, 29, 2, 24);
    put(0x0b, 0x00); /* BCD, 12 hours */
    ck_assert_uint_eq(get(4), 0x91);
    put(0x0b, 0x02);
    timers_advance(p.timers, 2 * NS_PER_S);
    check_time(0x00, 0x00, 0x00, 0x01, 0x03, 0x24);
    ck_assert_uint_eq(get(0x0d), 0x80);
    teardown();
}
END_TEST

START_TEST(can_be_set_and_goes_on_from_there)
{
    setup();
    put(0x0b, 0x82);
    put(4, 0x12), put(2, 0x34), put(0, 0x56), put(7, 0x15), put(8, 0x07), put(9, 0x30);
    timers_advance(p.timers, 5 * NS_PER_S);
    check_time(0x12, 0x34, 0x56, 0x15, 0x07, 0x30); /* held */
    put(0x0b, 0x02);
    timers_advance(p.timers, 10 * NS_PER_S);
    check_time(0x12, 0x35, 0x01, 0x15, 0x07, 0x30);
    put(0x0f, 0x5a); /* RAM */
    ck_assert_uint_eq(get(0x0f), 0x5a);
    teardown();
}
END_TEST

START_TEST(update_and_alarm_interrupt)
{
    setup();
    put(0x0b, 0x12); /* update ended */
    timers_advance(p.timers, NS_PER_S / 2 - 100 * NS_PER_US);
    ck_assert(get(0x0a) & 0x80); /* update in progress */
    ck_assert(!p.level);
    timers_advance(p.timers, NS_PER_S / 2);
    ck_assert(p.level);
    ck_assert(!(get(0x0a) & 0x80));
    ck_assert_uint_eq(get(0x0c) & 0x90, 0x90);
    ck_assert(!p.level);
    ck_assert_uint_eq(get(0x0c), 0);

    put(0x0b, 0x22);                          /* alarm */
    put(5, 0xc0), put(3, 0xc0), put(1, 0x05); /* at any :05 */
    timers_advance(p.timers, 6 * NS_PER_S + NS_PER_S / 4);
    ck_assert(!p.level);
    timers_advance(p.timers, 6 * NS_PER_S + NS_PER_S / 2);
    ck_assert(p.level);
    ck_assert_uint_eq(get(0x0c) & 0xa0, 0xa0);
    teardown();
}
END_TEST

START_TEST(periodic_interrupt_and_polled_flag)
{
    unsigned nr = 0;

    setup();
    put(0x0a, 0x26); /* 1024 Hz */
    timers_advance(p.timers, NS_PER_MS);
    ck_assert_uint_eq(get(0x0c) & 0xc0, 0x40); /* flag without interrupt */
    put(0x0b, 0x42);
    for (unsigned i = 1; i <= 100; i++) {
        timers_advance(p.timers, (10 + i) * NS_PER_MS);
        if (p.level) {
            nr++;
            get(0x0c);
        }
    }
    ck_assert_uint_ge(nr, 97);
    teardown();
}
END_TEST

TEST_MAIN("mc146818", tcase_add_test(tcase, tells_the_time_in_all_formats);
          tcase_add_test(tcase, can_be_set_and_goes_on_from_there);
          tcase_add_test(tcase, update_and_alarm_interrupt);
          tcase_add_test(tcase, periodic_interrupt_and_polled_flag))
