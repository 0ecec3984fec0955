/* SPDX-License-Identifier: Apache-2.0 */
#include "agent_protocol.h"

#include "base/util.h"
#include "testing.h"

#include <errno.h>

static struct agent_frame frame_of(const struct buf *buf)
{
    struct agent_frame frame = {0};

    ck_assert_int_eq(agent_frame_parse(buf->data, buf->length, &frame), 1);
    ck_assert_uint_eq(frame.length + AGENT_HEADER_SIZE, buf->length);
    return frame;
}

static char *test_argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                            (char *)(uintptr_t) "echo \"\xc3\xa9\"", NULL};
static char *test_env[] = {(char *)(uintptr_t) "A=1", NULL};

static void run_encode(struct buf *buf)
{
    struct agent_run run = {.flags = AGENT_RUN_TTY | AGENT_RUN_STDIN | AGENT_RUN_BUILTIN,
                            .rows = 24,
                            .cols = 80,
                            .cwd = "/tmp",
                            .user = "nobody:tty",
                            .hostname = "box",
                            .resolv_conf = "nameserver 192.0.2.1\n",
                            .argv = test_argv,
                            .env = test_env};

    ck_assert_int_eq(agent_run_encode(buf, &run), 0);
}

START_TEST(run_comes_back_whole)
{
    CLEANUP(buf_donep) struct buf buf;
    struct agent_frame frame;
    struct agent_run run;

    buf_init(&buf, 4096);
    run_encode(&buf);
    frame = frame_of(&buf);
    ck_assert_uint_eq(frame.type, AGENT_RUN);
    ck_assert_int_eq(agent_run_decode(&frame, &run), 0);
    ck_assert_uint_eq(run.flags, AGENT_RUN_TTY | AGENT_RUN_STDIN | AGENT_RUN_BUILTIN);
    ck_assert_uint_eq(run.rows, 24);
    ck_assert_uint_eq(run.cols, 80);
    ck_assert_str_eq(run.cwd, "/tmp");
    ck_assert_str_eq(run.user, "nobody:tty");
    ck_assert_str_eq(run.hostname, "box");
    ck_assert_str_eq(run.resolv_conf, "nameserver 192.0.2.1\n");
    ck_assert_str_eq(run.argv[2], test_argv[2]);
    ck_assert_ptr_null(run.argv[3]);
    ck_assert_str_eq(run.env[0], "A=1");
    ck_assert_ptr_null(run.env[1]);
    agent_run_done(&run);
}
END_TEST

/* Every prefix of the payload, under a header that calls it whole, is refused. */
START_TEST(run_cut_short_is_refused)
{
    CLEANUP(buf_donep) struct buf buf;
    struct agent_frame frame;
    struct agent_run run;

    buf_init(&buf, 4096);
    run_encode(&buf);
    frame = frame_of(&buf);
    for (uint32_t length = 0; length < frame.length; length++) {
        uint8_t *copy = malloc(length + 1);
        struct agent_frame cut = {.type = AGENT_RUN, .length = length, .payload = copy};

        memcpy(copy, frame.payload, length);
        ck_assert_int_eq(agent_run_decode(&cut, &run), -EPROTO);
        free(copy);
    }
}
END_TEST

START_TEST(trailing_bytes_are_refused)
{
    static const uint8_t payload[5] = {15, 0, 0, 0, 0};
    struct agent_frame frame = {.type = AGENT_SIGNAL, .length = 5, .payload = payload};
    uint32_t number;

    ck_assert_int_eq(agent_signal_decode(&frame, &number), -EPROTO);
    frame.length = 4;
    ck_assert_int_eq(agent_signal_decode(&frame, &number), 0);
    ck_assert_uint_eq(number, 15);
}
END_TEST

/* type, length as in the header, bytes at hand: expected result of the parse */
static const struct {
    uint8_t header[8];
    size_t have;
    int result;
} headers[] = {
    {{0, 0, 0, 0, AGENT_END, 0, 0, 0}, 8, 1},
    {{0, 0, 0, 0, AGENT_END, 0, 0, 0}, 7, 0},
    {{0, 0, 0, 0, AGENT_END, 0, 0, 0}, 0, 0},
    {{1, 0, 0, 0, AGENT_DATA, 0, 0, 0}, 8, 0},
    {{0, 0, 16, 0, AGENT_DATA, 0, 0, 0}, 8, 0},
    {{1, 0, 16, 0, AGENT_DATA, 0, 0, 0}, 8, -EPROTO},
    {{0, 0, 0, 0, 0, 0, 0, 0}, 8, -EPROTO},
    {{0, 0, 0, 0, 11, 0, 0, 0}, 8, -EPROTO},
    {{0, 0, 0, 0, 20, 0, 0, 0}, 8, -EPROTO},
    {{0, 0, 0, 0, AGENT_END, 1, 0, 0}, 8, -EPROTO},
    {{0, 0, 0, 0, AGENT_END, 0, 0, 1}, 8, -EPROTO},
    {{0xff, 0xff, 0xff, 0xff, AGENT_DATA, 0, 0, 0}, 8, -EPROTO},
};

START_TEST(headers_are_judged)
{
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        struct agent_frame frame;

        ck_assert_msg(agent_frame_parse(headers[i].header, headers[i].have, &frame) ==
                          headers[i].result,
                      "header %zu", i);
    }
}
END_TEST

START_TEST(strings_without_their_nul_are_refused)
{
    /* exit status 127, then a message of 3 bytes: without NUL, with an inner NUL, right */
    uint8_t payload[11] = {127, 0, 0, 0, 3, 0, 0, 0, 'a', 'b', 'c'};
    struct agent_frame frame = {.type = AGENT_ERROR, .length = 11, .payload = payload};
    struct agent_error error;

    ck_assert_int_eq(agent_error_decode(&frame, &error), -EPROTO);
    payload[10] = 0;
    ck_assert_int_eq(agent_error_decode(&frame, &error), 0);
    ck_assert_str_eq(error.message, "ab");
    payload[9] = 0;
    ck_assert_int_eq(agent_error_decode(&frame, &error), -EPROTO);
}
END_TEST

START_TEST(list_counts_beyond_the_frame_are_refused)
{
    CLEANUP(buf_donep) struct buf buf;
    struct agent_frame frame;
    struct agent_run run;
    uint8_t *at;

    buf_init(&buf, 4096);
    run_encode(&buf);
    frame = frame_of(&buf);
    /* argv's count follows flags, rows, cols and four strings of 5, 11, 4 and 22 bytes. */
    at = (uint8_t *)buf.data + AGENT_HEADER_SIZE + 8 + 4 * 4 + 5 + 11 + 4 + 22;
    ck_assert_uint_eq(load_le32(at), 3);
    store_le32(at, 0);
    ck_assert_int_eq(agent_run_decode(&frame, &run), -EPROTO);
    store_le32(at, 0x40000000);
    ck_assert_int_eq(agent_run_decode(&frame, &run), -EPROTO);
    store_le32(at, 4);
    ck_assert_int_eq(agent_run_decode(&frame, &run), -EPROTO);
}
END_TEST

START_TEST(small_messages_come_back)
{
    CLEANUP(buf_donep) struct buf buf;
    struct agent_frame frame;
    struct agent_info info = {
        .sysname = "Linux", .release = "6.1", .version = "#1", .machine = "x"};
    struct agent_info info_back;
    struct agent_exited exited = {.signal = 9, .run_ns = 5}, exited_back;
    struct agent_hello hello = {.version = 1, .role = AGENT_ROLE_STDERR}, hello_back;
    uint16_t rows, cols;

    buf_init(&buf, 4096);
    info.ready_ns = UINT64_MAX;
    info.nr_cpus = 2;
    ck_assert_int_eq(agent_info_encode(&buf, &info), 0);
    frame = frame_of(&buf);
    ck_assert_int_eq(agent_info_decode(&frame, &info_back), 0);
    ck_assert_uint_eq(info_back.ready_ns, UINT64_MAX);
    ck_assert_uint_eq(info_back.nr_cpus, 2);
    ck_assert_str_eq(info_back.machine, "x");
    buf.length = 0;
    ck_assert_int_eq(agent_exited_encode(&buf, &exited), 0);
    frame = frame_of(&buf);
    ck_assert_int_eq(agent_exited_decode(&frame, &exited_back), 0);
    ck_assert_uint_eq(exited_back.signal, 9);
    buf.length = 0;
    ck_assert_int_eq(agent_hello_encode(&buf, &hello), 0);
    frame = frame_of(&buf);
    ck_assert_int_eq(agent_hello_decode(&frame, &hello_back), 0);
    ck_assert_uint_eq(hello_back.role, AGENT_ROLE_STDERR);
    ((uint8_t *)buf.data)[AGENT_HEADER_SIZE] ^= 1;
    ck_assert_int_eq(agent_hello_decode(&frame, &hello_back), -EPROTO);
    buf.length = 0;
    ck_assert_int_eq(agent_resize_encode(&buf, 50, 132), 0);
    frame = frame_of(&buf);
    ck_assert_int_eq(agent_resize_decode(&frame, &rows, &cols), 0);
    ck_assert_uint_eq(rows * 1000u + cols, 50132);
}
END_TEST

START_TEST(what_is_too_long_leaves_the_buffer_alone)
{
    CLEANUP(buf_donep) struct buf buf;
    CLEANUP(freep) char *text = malloc(AGENT_FRAME_MAX + 1);
    struct agent_error error = {.exit_status = 125, .message = text};

    memset(text, 'x', AGENT_FRAME_MAX);
    text[AGENT_FRAME_MAX] = '\0';
    buf_init(&buf, 4u << 20);
    ck_assert_int_eq(agent_empty_encode(&buf, AGENT_END), 0);
    ck_assert_int_eq(agent_error_encode(&buf, &error), -E2BIG);
    ck_assert_uint_eq(buf.length, AGENT_HEADER_SIZE);
}
END_TEST

TEST_MAIN("agent_codec", tcase_add_test(tcase, run_comes_back_whole);
          tcase_add_test(tcase, run_cut_short_is_refused);
          tcase_add_test(tcase, trailing_bytes_are_refused);
          tcase_add_test(tcase, headers_are_judged);
          tcase_add_test(tcase, strings_without_their_nul_are_refused);
          tcase_add_test(tcase, list_counts_beyond_the_frame_are_refused);
          tcase_add_test(tcase, small_messages_come_back);
          tcase_add_test(tcase, what_is_too_long_leaves_the_buffer_alone))
