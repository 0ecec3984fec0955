/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/i8254.h"

#include "base/clock.h"
#include "ports.h"

static struct ports p;
static struct i8254 *pit;
static uint64_t start_ns;

static void setup(void)
{
    ports_make(&p);
    ck_assert_int_eq(i8254_new(p.timers, &p.irq, &pit, NULL), 0);
    ck_assert_int_eq(i8254_add_to_bus(pit, p.bus, NULL), 0);
}

static void teardown(void)
{
    i8254_free(pit);
    ports_free(&p);
}

static void program(unsigned channel, unsigned mode, uint16_t count)
{
    start_ns = timers_now_ns(p.timers);
    out(&p, 0x43, (uint8_t)(channel << 6 | 3 << 4 | mode << 1));
    out(&p, (uint16_t)(0x40 + channel), (uint8_t)count);
    out(&p, (uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

/* To the middle of tick `ticks` after program(). */
static void to_tick(uint64_t ticks)
{
    timers_advance(p.timers, start_ns + (2 * ticks + 1) * NS_PER_S / (2 * I8254_HZ));
}

static uint16_t count(unsigned channel)
{
    uint16_t low;

    out(&p, 0x43, (uint8_t)(channel << 6)); /* latch */
    low = in(&p, (uint16_t)(0x40 + channel));
    return (uint16_t)(low | in(&p, (uint16_t)(0x40 + channel)) << 8);
}

static bool output(unsigned channel)
{
    out(&p, 0x43, (uint8_t)(0xe0 | 2u << channel)); /* read back the status alone */
    return in(&p, (uint16_t)(0x40 + channel)) & 0x80;
}

START_TEST(counts_and_outputs_by_mode)
{
    static const struct {
        uint8_t mode;
        uint16_t n;
        uint64_t tick;
        uint16_t count;
        bool out;
    } cases[] = {
        {0, 1000, 0, 1000, false},    {0, 1000, 999, 1, false},     {0, 1000, 1000, 0, true},
        {0, 1000, 1010, 65526, true}, {2, 1000, 0, 1000, true},     {2, 1000, 998, 2, true},
        {2, 1000, 999, 1, false},     {2, 1000, 1000, 1000, true},  {2, 1000, 2500, 500, true},
        {3, 1000, 0, 1000, true},     {3, 1000, 100, 800, true},    {3, 1000, 499, 2, true},
        {3, 1000, 500, 1000, false},  {3, 1000, 999, 2, false},     {3, 1000, 1000, 1000, true},
        {3, 1001, 500, 0, true},      {3, 1001, 501, 1000, false},  {4, 1000, 999, 1, true},
        {4, 1000, 1000, 0, false},    {4, 1000, 1001, 65535, true}, {0, 0, 1, 65535, false},
        {0, 0, 65536, 0, true},
    };

    setup();
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        program(0, cases[i].mode, cases[i].n);
        to_tick(cases[i].tick);
        ck_assert_msg(output(0) == cases[i].out, "case %u: output", i);
        if (!(cases[i].mode == 3 && cases[i].n & 1))
            ck_assert_msg(count(0) == cases[i].count, "case %u: count %u", i, count(0));
    }
    teardown();
}
END_TEST

START_TEST(channel_zero_interrupts)
{
    setup();
    program(0, 2, 11932); /* 100 Hz */
    timers_advance(p.timers, start_ns + NS_PER_S + NS_PER_MS);
    ck_assert_uint_eq(p.nr_rises, 101); /* the output is high from the start, then 100 periods */
    program(0, 0, 1193);
    ck_assert(!p.level);
    to_tick(1192);
    ck_assert(!p.level);
    to_tick(1194);
    ck_assert(p.level);
    timers_advance(p.timers, start_ns + NS_PER_S);
    ck_assert_uint_eq(p.nr_rises, 102);
    program(0, 3, 2); /* 600 kHz: held to one in 20 us */
    timers_advance(p.timers, start_ns + NS_PER_MS);
    ck_assert_uint_le(p.nr_rises, 102 + 52);
    teardown();
}
END_TEST

START_TEST(channel_two_follows_its_gate)
{
    setup();
    out(&p, 0x61, 0);
    program(2, 0, 1000);
    to_tick(5000);
    ck_assert(!(in(&p, 0x61) & 0x20));
    start_ns = timers_now_ns(p.timers);
    out(&p, 0x61, 1);
    to_tick(998);
    ck_assert(!(in(&p, 0x61) & 0x20));
    to_tick(1001);
    ck_assert_uint_eq(in(&p, 0x61) & 0x21, 0x21);
    /* Mode 1: one shot, from the rise of the gate. */
    out(&p, 0x61, 0);
    program(2, 1, 500);
    ck_assert(in(&p, 0x61) & 0x20);
    start_ns = timers_now_ns(p.timers);
    out(&p, 0x61, 1);
    to_tick(1);
    ck_assert(!(in(&p, 0x61) & 0x20));
    to_tick(501);
    ck_assert(in(&p, 0x61) & 0x20);
    teardown();
}
END_TEST

START_TEST(latches_bcd_and_single_bytes)
{
    setup();
    program(0, 2, 0x1234);
    to_tick(0x34);
    out(&p, 0x43, 0); /* latch */
    to_tick(0x100);
    ck_assert_uint_eq(in(&p, 0x40), 0x00);
    ck_assert_uint_eq(in(&p, 0x40), 0x12);
    out(&p, 0x43, 0x31); /* mode 0, BCD */
    start_ns = timers_now_ns(p.timers);
    out(&p, 0x40, 0x00), out(&p, 0x40, 0x10); /* 1000 */
    to_tick(1);
    ck_assert_uint_eq(count(0), 0x0999);
    out(&p, 0x43, 0x24); /* high byte only, mode 2 */
    start_ns = timers_now_ns(p.timers);
    out(&p, 0x40, 0x20);
    to_tick(0x100);
    ck_assert_uint_eq(in(&p, 0x40), 0x1f);
    out(&p, 0x43, 0xe2); /* status */
    ck_assert_uint_eq(in(&p, 0x40), 0xa4);
    teardown();
}
END_TEST

TEST_MAIN("i8254", tcase_add_test(tcase, counts_and_outputs_by_mode);
          tcase_add_test(tcase, channel_zero_interrupts);
          tcase_add_test(tcase, channel_two_follows_its_gate);
          tcase_add_test(tcase, latches_bcd_and_single_bytes))
