/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/ns16550.h"

#include "ports.h"

#include <string.h>

#define COM 0x3f8

static struct ports p;
static struct ns16550 *uart;
static char sent[64];
static size_t nr_sent;
static unsigned nr_ready;

static void output(void *context, const void *data, size_t length)
{
    (void)context;
    memcpy(sent + nr_sent, data, length);
    nr_sent += length;
}

static void input_ready(void *context)
{
    (void)context;
    nr_ready++;
}

static void setup(void)
{
    struct ns16550_functions functions = {.output = output, .input_ready = input_ready};

    ports_make(&p);
    ck_assert_int_eq(ns16550_new(&p.irq, &functions, &uart, NULL), 0);
    ck_assert_int_eq(ns16550_add_to_bus(uart, p.bus, COM, NULL), 0);
}

static void teardown(void)
{
    ns16550_free(uart);
    ports_free(&p);
}

START_TEST(transmits_and_tells_when_empty)
{
    setup();
    out(&p, COM + 3, 0x83); /* DLAB */
    out(&p, COM, 1), out(&p, COM + 1, 0);
    ck_assert_uint_eq(in(&p, COM), 1);
    out(&p, COM + 3, 0x03);
    ck_assert_uint_eq(in(&p, COM + 5), 0x60);
    out(&p, COM, 'h'), out(&p, COM, 'i');
    ck_assert_mem_eq(sent, "hi", 2);
    ck_assert_uint_eq(nr_sent, 2);
    out(&p, COM + 1, 0x02);
    ck_assert(!p.level); /* OUT2 is off */
    out(&p, COM + 4, 0x0b);
    ck_assert(p.level);
    ck_assert_uint_eq(in(&p, COM + 2), 0x02);
    ck_assert(!p.level); /* reading IIR takes it back */
    ck_assert_uint_eq(in(&p, COM + 2), 0x01);
    out(&p, COM, '!');
    ck_assert(p.level);
    teardown();
}
END_TEST

START_TEST(receives_by_trigger_level_and_timeout)
{
    setup();
    out(&p, COM + 4, 0x0b);
    out(&p, COM + 2, 0x81); /* FIFOs, trigger 8 */
    out(&p, COM + 1, 0x01);
    ck_assert_uint_eq(ns16550_input(uart, "abcdefgh", 8), 8);
    ck_assert(p.level);
    ck_assert_uint_eq(in(&p, COM + 2), 0xc4);
    ck_assert_uint_eq(in(&p, COM), 'a');
    ck_assert_uint_eq(in(&p, COM + 2), 0xcc); /* below the level: timeout */
    for (const char *c = "bcdefgh"; *c; c++)
        ck_assert_uint_eq(in(&p, COM), (unsigned char)*c);
    ck_assert(!p.level);
    ck_assert_uint_eq(in(&p, COM + 5), 0x60);
    teardown();
}
END_TEST

START_TEST(input_waits_for_the_guest_and_presses_back)
{
    static char many[NS16550_QUEUE + 100];

    setup();
    out(&p, COM + 4, 0x01); /* DTR without RTS */
    ck_assert_uint_eq(ns16550_input(uart, many, sizeof(many)), NS16550_QUEUE);
    ck_assert_uint_eq(ns16550_input(uart, many, 1), 0);
    ck_assert_uint_eq(in(&p, COM + 5) & 1, 0);
    out(&p, COM + 2, 0x07); /* clearing FIFOs loses nothing */
    out(&p, COM + 4, 0x0b);
    for (unsigned i = 0; i < NS16550_QUEUE; i++) {
        ck_assert_uint_eq(in(&p, COM + 5) & 1, 1);
        in(&p, COM);
        ck_assert_uint_eq(nr_ready, i + 1 >= NS16550_QUEUE / 2);
    }
    ck_assert_uint_eq(in(&p, COM + 5) & 1, 0);
    teardown();
}
END_TEST

START_TEST(loopback_and_modem_status)
{
    setup();
    ck_assert_uint_eq(in(&p, COM + 6), 0xb0);
    out(&p, COM + 2, 0x01);
    out(&p, COM + 4, 0x10 | 0x0a);            /* loopback, RTS, OUT2 */
    ck_assert_uint_eq(in(&p, COM + 6), 0x92); /* DSR went: delta */
    ck_assert_uint_eq(in(&p, COM + 6), 0x90);
    out(&p, COM + 4, 0x10 | 0x0f);
    ck_assert_uint_eq(in(&p, COM + 6) & 0xf0, 0xf0);
    out(&p, COM, 'x');
    ck_assert_uint_eq(nr_sent, 0);
    ck_assert_uint_eq(in(&p, COM), 'x');
    for (unsigned i = 0; i < NS16550_FIFO + 1; i++)
        out(&p, COM, 'y');
    ck_assert_uint_eq(in(&p, COM + 5) & 0x03, 0x03); /* data and overrun */
    ck_assert_uint_eq(in(&p, COM + 5) & 0x03, 0x01);
    out(&p, COM + 7, 0xa5);
    ck_assert_uint_eq(in(&p, COM + 7), 0xa5);
    teardown();
}
END_TEST

TEST_MAIN("ns16550", tcase_add_test(tcase, transmits_and_tells_when_empty);
          tcase_add_test(tcase, receives_by_trigger_level_and_timeout);
          tcase_add_test(tcase, input_waits_for_the_guest_and_presses_back);
          tcase_add_test(tcase, loopback_and_modem_status))
