/* SPDX-License-Identifier: Apache-2.0 */
#include "chips.h"

#define PIC_EOI 0x20

START_TEST(priorities_nest_until_the_eoi)
{
    struct chips c;

    chips_make(&c);
    pic_setup(&c, 0x01);
    ck_assert(!pending(&c, 0));
    line(&c, 4, true);
    ck_assert(pending(&c, 0));
    ck_assert(c.cpus[0].requests & CPU_REQUEST_INTERRUPT);
    ck_assert_int_eq(acknowledge(&c, 0), 0x24);
    line(&c, 5, true); /* lower: waits */
    ck_assert(!pending(&c, 0));
    line(&c, 1, true); /* higher: nests */
    ck_assert_int_eq(acknowledge(&c, 0), 0x21);
    ck_assert(!pending(&c, 0));
    out8(&c, 0x20, PIC_EOI); /* ends 1 */
    ck_assert(!pending(&c, 0));
    out8(&c, 0x20, PIC_EOI); /* ends 4 */
    ck_assert_int_eq(acknowledge(&c, 0), 0x25);
    out8(&c, 0x20, PIC_EOI);
    line(&c, 4, true); /* still high: no edge */
    ck_assert_int_eq(acknowledge(&c, 0), -1);
    chips_free(&c);
}
END_TEST

START_TEST(second_chip_comes_through_input_two)
{
    struct chips c;

    chips_make(&c);
    pic_setup(&c, 0x01);
    line(&c, 12, true);
    ck_assert_int_eq(acknowledge(&c, 0), 0x2c);
    out8(&c, 0x20, 0x0b), out8(&c, 0xa0, 0x0b); /* read ISR */
    ck_assert_uint_eq(in8(&c, 0x20), 0x04);
    ck_assert_uint_eq(in8(&c, 0xa0), 0x10);
    line(&c, 9, true); /* higher in the second chip, but input 2 of the first is in service */
    ck_assert(!pending(&c, 0));
    out8(&c, 0xa0, PIC_EOI), out8(&c, 0x20, PIC_EOI);
    ck_assert_int_eq(acknowledge(&c, 0), 0x29);
    chips_free(&c);
}
END_TEST

START_TEST(masks_levels_and_spurious)
{
    struct chips c;

    chips_make(&c);
    pic_setup(&c, 0x01);
    out8(&c, 0x21, 0x20);
    line(&c, 5, true);
    ck_assert(!pending(&c, 0));
    out8(&c, 0x21, 0); /* an edge waits behind its mask */
    ck_assert_int_eq(acknowledge(&c, 0), 0x25);
    out8(&c, 0x20, 0x60 | 5); /* specific EOI */
    ck_assert(!pending(&c, 0));
    line(&c, 5, false);

    out8(&c, 0x4d0, 0x20); /* input 5: level */
    ck_assert_uint_eq(in8(&c, 0x4d0), 0x20);
    out8(&c, 0x4d0, 0x27); /* 0, 1, 2 cannot be */
    ck_assert_uint_eq(in8(&c, 0x4d0), 0x20);
    line(&c, 5, true);
    ck_assert_int_eq(acknowledge(&c, 0), 0x25);
    out8(&c, 0x20, PIC_EOI);
    ck_assert_int_eq(acknowledge(&c, 0), 0x25); /* still asserted */
    out8(&c, 0x20, PIC_EOI);
    line(&c, 5, false);
    ck_assert(!pending(&c, 0));
    /* Gone before the acknowledge: spurious 7, not in service. */
    pthread_mutex_lock(&c.chip->lock);
    ck_assert_uint_eq(i8259_acknowledge_locked(&c.chip->pic), 0x27);
    pthread_mutex_unlock(&c.chip->lock);
    out8(&c, 0x20, 0x0b);
    ck_assert_uint_eq(in8(&c, 0x20), 0);
    chips_free(&c);
}
END_TEST

START_TEST(automatic_eoi_rotation_special_mask_and_poll)
{
    struct chips c;

    chips_make(&c);
    pic_setup(&c, 0x03);
    line(&c, 3, true);
    ck_assert_int_eq(acknowledge(&c, 0), 0x23);
    line(&c, 6, true); /* 3 has ended by itself */
    ck_assert_int_eq(acknowledge(&c, 0), 0x26);

    pic_setup(&c, 0x01);
    line(&c, 3, false), line(&c, 6, false);
    out8(&c, 0x20, 0xc0 | 3); /* lowest is 3: 4 is highest */
    line(&c, 0, true), line(&c, 4, true);
    ck_assert_int_eq(acknowledge(&c, 0), 0x24);
    out8(&c, 0x20, 0xa0); /* rotate on EOI: 4 becomes lowest */
    line(&c, 4, false), line(&c, 4, true);
    ck_assert_int_eq(acknowledge(&c, 0), 0x20);
    out8(&c, 0x20, PIC_EOI);
    ck_assert_int_eq(acknowledge(&c, 0), 0x24);

    /* 4 in service and masked, special mask mode: lower inputs come through. */
    out8(&c, 0x21, 0x10), out8(&c, 0x20, 0x68);
    out8(&c, 0x20, 0xc0 | 7);
    line(&c, 7, true);
    ck_assert_int_eq(acknowledge(&c, 0), 0x27);
    out8(&c, 0x20, 0x48), out8(&c, 0x20, 0x60 | 7), out8(&c, 0x20, 0x60 | 4), out8(&c, 0x21, 0);

    line(&c, 1, true);
    out8(&c, 0x20, 0x0c); /* poll */
    ck_assert_uint_eq(in8(&c, 0x20), 0x81);
    out8(&c, 0x20, PIC_EOI);
    out8(&c, 0x20, 0x0c);
    ck_assert_uint_eq(in8(&c, 0x20), 0);
    chips_free(&c);
}
END_TEST

TEST_MAIN("i8259", tcase_add_test(tcase, priorities_nest_until_the_eoi);
          tcase_add_test(tcase, second_chip_comes_through_input_two);
          tcase_add_test(tcase, masks_levels_and_spurious);
          tcase_add_test(tcase, automatic_eoi_rotation_special_mask_and_poll))
