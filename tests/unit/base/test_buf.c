/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "testing.h"

#include <errno.h>
#include <string.h>

START_TEST(appends_grow_and_keep_contents)
{
    struct buf buf;

    buf_init(&buf, 1 << 20);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(buf_printf(&buf, "%04d", i), 0);
    ck_assert_uint_eq(buf.length, 4000);
    ck_assert_int_eq(memcmp(buf.data + 4 * 999, "0999", 4), 0);
    buf_consume(&buf, 4 * 998);
    ck_assert_str_eq(buf_string(&buf), "09980999");
    buf_done(&buf);
}
END_TEST

START_TEST(growth_past_the_cap_fails_and_changes_nothing)
{
    struct buf buf;

    buf_init(&buf, 10);
    ck_assert_int_eq(buf_append(&buf, "12345678", 8), 0);
    ck_assert_int_eq(buf_append(&buf, "abc", 3), -EFBIG);
    ck_assert_uint_eq(buf.length, 8);
    ck_assert_int_eq(buf_append(&buf, "ab", 2), 0);
    ck_assert_ptr_null(buf_string(&buf));
    buf_done(&buf);
}
END_TEST

TEST_MAIN("buf", tcase_add_test(tcase, appends_grow_and_keep_contents);
          tcase_add_test(tcase, growth_past_the_cap_fails_and_changes_nothing))
