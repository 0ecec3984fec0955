/* SPDX-License-Identifier: Apache-2.0 */
#include "image/initramfs.h"

#include "testing.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* The field at `index` of the header at `at`: eight hexadecimal digits each, after the magic. */
static unsigned long field(const struct buf *archive, size_t at, unsigned index)
{
    char digits[9] = "";

    memcpy(digits, archive->data + at + 6 + index * 8, 8);
    return strtoul(digits, NULL, 16);
}

START_TEST(entries_are_laid_out_as_newc)
{
    CLEANUP(buf_donep) struct buf archive;
    size_t second;

    buf_init(&archive, 1 << 16);
    ck_assert_int_eq(cpio_append(&archive, "init", S_IFREG | 0755, 0, "abcde", 5), 0);
    second = archive.length;
    ck_assert_int_eq(cpio_append(&archive, "dev/console", S_IFCHR | 0600, makedev(5, 1), NULL, 0),
                     0);
    ck_assert_int_eq(cpio_finish(&archive), 0);
    ck_assert_int_eq(memcmp(archive.data, "070701", 6), 0);
    ck_assert_uint_eq(field(&archive, 0, 1), S_IFREG | 0755);
    ck_assert_uint_eq(field(&archive, 0, 6), 5);
    ck_assert_uint_eq(field(&archive, 0, 11), 5);
    ck_assert_str_eq(archive.data + 110, "init");
    /* 110 + 5 padded to 116; 5 bytes padded to 8 */
    ck_assert_int_eq(memcmp(archive.data + 116, "abcde", 5), 0);
    ck_assert_uint_eq(second, 124);
    ck_assert_uint_eq(field(&archive, second, 9), 5);
    ck_assert_uint_eq(field(&archive, second, 10), 1);
    ck_assert_str_eq(archive.data + archive.length - 14, "TRAILER!!!");
    ck_assert_uint_eq(archive.length % 4, 0);
}
END_TEST

START_TEST(an_archive_past_its_cap_is_left_as_it_was)
{
    CLEANUP(buf_donep) struct buf archive;

    buf_init(&archive, 300);
    ck_assert_int_eq(cpio_append(&archive, "a", S_IFREG, 0, "x", 1), 0);
    ck_assert_uint_eq(archive.length, 116);
    ck_assert_int_eq(cpio_append(&archive, "b", S_IFREG, 0, archive.data, 116), -EFBIG);
    ck_assert_uint_eq(archive.length, 116);
}
END_TEST

TEST_MAIN("initramfs", tcase_add_test(tcase, entries_are_laid_out_as_newc);
          tcase_add_test(tcase, an_archive_past_its_cap_is_left_as_it_was))
