/* SPDX-License-Identifier: Apache-2.0 */
/* The wire format against bytes written by hand, and against what is cut off or wrong. */
#include "oci/protobuf.h"

#include "testing.h"

#include <errno.h>
#include <string.h>

static struct protobuf_reader reader_of(const void *data, size_t length)
{
    return (struct protobuf_reader){data, (const unsigned char *)data + length};
}

START_TEST(fields_are_written_as_the_format_has_them)
{
    static const unsigned char wanted[] = {0x08, 0x96, 0x01, 0x12, 0x02,
                                           'h',  'i',  0xa0, 0x02, 0x00};
    CLEANUP(buf_donep) struct buf buf;

    buf_init(&buf, 4096);
    ck_assert_int_eq(protobuf_put_uint(&buf, 1, 150), 0);
    ck_assert_int_eq(protobuf_put_string(&buf, 2, "hi"), 0);
    ck_assert_int_eq(protobuf_put_uint(&buf, 36, 0), 0);
    ck_assert_uint_eq(buf.length, sizeof(wanted));
    ck_assert_int_eq(memcmp(buf.data, wanted, sizeof(wanted)), 0);
}
END_TEST

START_TEST(what_was_written_is_read)
{
    CLEANUP(buf_donep) struct buf buf;
    struct protobuf_reader reader;
    struct protobuf_field field;

    buf_init(&buf, 4096);
    ck_assert_int_eq(protobuf_put_int(&buf, 5, -1), 0);
    ck_assert_int_eq(protobuf_put_bytes(&buf, 7, "abc", 3), 0);
    reader = reader_of(buf.data, buf.length);
    ck_assert_int_eq(protobuf_next(&reader, &field), 1);
    ck_assert(field.number == 5 && !field.is_bytes && field.value == UINT64_MAX);
    ck_assert_int_eq(protobuf_next(&reader, &field), 1);
    ck_assert(field.number == 7 && field.is_bytes && field.length == 3);
    ck_assert_int_eq(memcmp(field.data, "abc", 3), 0);
    ck_assert_int_eq(protobuf_next(&reader, &field), 0);
}
END_TEST

START_TEST(fixed_sizes_are_skipped)
{
    static const unsigned char data[] = {0x0d, 1, 2, 3, 4, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x18, 9};
    struct protobuf_reader reader = reader_of(data, sizeof(data));
    struct protobuf_field field;

    ck_assert_int_eq(protobuf_next(&reader, &field), 1);
    ck_assert(field.number == 3 && field.value == 9);
}
END_TEST

START_TEST(wrong_messages_are_refused)
{
    static const struct {
        unsigned char data[16];
        size_t length;
    } wrong[] = {
        {{0x08}, 1},             /* no value */
        {{0x08, 0x80}, 2},       /* a value without end */
        {{0x12, 0x05, 'a'}, 3},  /* shorter than it says */
        {{0x0d, 1, 2}, 3},       /* four bytes that are two */
        {{0x0b}, 1},             /* a group */
        {{0x80, 0x80, 0x80}, 3}, /* a key without end */
        {{0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 11},
        {{0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, 13},
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct protobuf_reader reader = reader_of(wrong[i].data, wrong[i].length);
        struct protobuf_field field;

        ck_assert_msg(protobuf_next(&reader, &field) == -EBADMSG, "message %zu", i);
    }
}
END_TEST

/* Under the sanitizers this reads nothing outside. */
START_TEST(any_bytes_come_to_an_end)
{
    unsigned state = 12345;

    for (int round = 0; round < 20000; round++) {
        unsigned char data[32];
        struct protobuf_reader reader;
        struct protobuf_field field;
        unsigned steps = 0;

        for (size_t i = 0; i < sizeof(data); i++)
            data[i] = (unsigned char)((state = state * 1103515245 + 12345) >> 16);
        reader = reader_of(data, (size_t)round % (sizeof(data) + 1));
        while (protobuf_next(&reader, &field) > 0)
            ck_assert_uint_le(++steps, sizeof(data));
    }
}
END_TEST

TEST_MAIN("protobuf", tcase_add_test(tcase, fields_are_written_as_the_format_has_them);
          tcase_add_test(tcase, what_was_written_is_read);
          tcase_add_test(tcase, fixed_sizes_are_skipped);
          tcase_add_test(tcase, wrong_messages_are_refused);
          tcase_add_test(tcase, any_bytes_come_to_an_end))
