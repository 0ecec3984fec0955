/* SPDX-License-Identifier: Apache-2.0 */
/* Pumps between pipes and socket pairs, with the frames cut at every place. */
#include "guest/pump.h"

#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct rig {
    struct pump pump;
    int peer; /* the host's end of the connection */
    int file; /* the command's end of the pipe */
};

static void rig_open(struct rig *rig, bool input)
{
    int sockets[2], pipes[2];

    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets), 0);
    ck_assert_int_eq(pipe2(pipes, O_NONBLOCK), 0);
    rig->peer = sockets[1];
    rig->file = pipes[input ? 0 : 1];
    ck_assert_int_eq(pump_init(&rig->pump, input, false, pipes[input ? 1 : 0], sockets[0]), 0);
}

static void rig_close(struct rig *rig)
{
    pump_done(&rig->pump);
    if (rig->peer >= 0)
        close(rig->peer);
    if (rig->file >= 0)
        close(rig->file);
}

START_TEST(input_frames_cut_anywhere)
{
    uint8_t wire[64], got[64];

    agent_header_encode(wire, AGENT_DATA, 5);
    memcpy(wire + 8, "hello", 5);
    agent_header_encode(wire + 13, AGENT_DATA, 0);
    agent_header_encode(wire + 21, AGENT_DATA, 1);
    wire[29] = '!';
    agent_header_encode(wire + 30, AGENT_END, 0);
    for (size_t cut = 0; cut <= 38; cut++) {
        struct rig rig;

        rig_open(&rig, true);
        ck_assert_int_eq(write(rig.peer, wire, cut), (ssize_t)cut);
        pump_work(&rig.pump);
        if (cut < 38)
            ck_assert_int_eq(write(rig.peer, wire + cut, 38 - cut), (ssize_t)(38 - cut));
        for (int i = 0; i < 4; i++)
            pump_work(&rig.pump);
        ck_assert(!rig.pump.active);
        ck_assert_int_eq(read(rig.file, got, sizeof(got)), 6);
        ck_assert_int_eq(memcmp(got, "hello!", 6), 0);
        ck_assert_int_eq(read(rig.file, got, sizeof(got)), 0);
        rig_close(&rig);
    }
}
END_TEST

/* All frames are in the buffer at once: the loop that polls must come back for those it has not got
 * to, as nothing more arrives. */
START_TEST(input_that_is_read_already_is_not_waited_for)
{
    for (unsigned nr_frames = 0; nr_frames < 40; nr_frames++) {
        struct rig rig;
        uint8_t frame[AGENT_HEADER_SIZE + 1];
        unsigned turns = 0;

        rig_open(&rig, true);
        /* An empty frame takes one step, any other two: both parities. */
        agent_header_encode(frame, AGENT_DATA, 0);
        if (nr_frames % 2)
            ck_assert_int_eq(write(rig.peer, frame, AGENT_HEADER_SIZE), AGENT_HEADER_SIZE);
        agent_header_encode(frame, AGENT_DATA, 1);
        frame[AGENT_HEADER_SIZE] = 'x';
        for (unsigned i = 0; i < nr_frames; i++)
            ck_assert_int_eq(write(rig.peer, frame, sizeof(frame)), (ssize_t)sizeof(frame));
        agent_header_encode(frame, AGENT_END, 0);
        ck_assert_int_eq(write(rig.peer, frame, AGENT_HEADER_SIZE), AGENT_HEADER_SIZE);
        while (rig.pump.active && turns++ < 100) {
            struct pollfd fds[PUMP_POLL_MAX];
            unsigned nr = pump_poll(&rig.pump, fds);

            ck_assert_msg(poll(fds, nr, 0) > 0, "%u frames: waits for what it has", nr_frames);
            pump_work(&rig.pump);
        }
        ck_assert(!rig.pump.active);
        rig_close(&rig);
    }
}
END_TEST

START_TEST(input_that_is_no_frame_ends_the_stream)
{
    struct rig rig;

    rig_open(&rig, true);
    ck_assert_int_eq(write(rig.peer, "GET / HTTP/1.1\r\n", 16), 16);
    pump_work(&rig.pump);
    ck_assert(!rig.pump.active);
    rig_close(&rig);
}
END_TEST

START_TEST(input_nobody_reads_is_stopped)
{
    struct rig rig;
    uint8_t wire[9], got[16];
    struct agent_frame frame;

    rig_open(&rig, true);
    close(rig.file);
    rig.file = -1;
    agent_header_encode(wire, AGENT_DATA, 1);
    wire[8] = 'x';
    ck_assert_int_eq(write(rig.peer, wire, sizeof(wire)), sizeof(wire));
    pump_work(&rig.pump);
    ck_assert(!rig.pump.active);
    ck_assert_int_eq(read(rig.peer, got, sizeof(got)), 8);
    ck_assert_int_eq(agent_frame_parse(got, 8, &frame), 1);
    ck_assert_uint_eq(frame.type, AGENT_STOP);
    rig_close(&rig);
}
END_TEST

START_TEST(output_is_framed_and_ended)
{
    struct rig rig;
    struct agent_frame frame;
    uint8_t got[64];
    ssize_t n;

    rig_open(&rig, false);
    ck_assert_int_eq(write(rig.file, "abc", 3), 3);
    pump_work(&rig.pump);
    close(rig.file);
    rig.file = -1;
    pump_work(&rig.pump);
    ck_assert(!rig.pump.active);
    n = read(rig.peer, got, sizeof(got));
    ck_assert_int_eq(n, 8 + 3 + 8);
    ck_assert_int_eq(agent_frame_parse(got, (size_t)n, &frame), 1);
    ck_assert_uint_eq(frame.type, AGENT_DATA);
    ck_assert_int_eq(memcmp(frame.payload, "abc", 3), 0);
    ck_assert_int_eq(agent_frame_parse(got + 11, 8, &frame), 1);
    ck_assert_uint_eq(frame.type, AGENT_END);
    rig_close(&rig);
}
END_TEST

START_TEST(output_stopped_by_the_host_breaks_the_pipe)
{
    struct rig rig;
    uint8_t stop[8];

    rig_open(&rig, false);
    agent_header_encode(stop, AGENT_STOP, 0);
    ck_assert_int_eq(write(rig.peer, stop, sizeof(stop)), sizeof(stop));
    pump_work(&rig.pump);
    ck_assert(!rig.pump.active);
    ck_assert_int_eq(write(rig.file, "x", 1), -1);
    ck_assert_int_eq(errno, EPIPE);
    rig_close(&rig);
}
END_TEST

/* The host reads nothing: the pump holds one buffer, the pipe fills, and nothing is lost. */
START_TEST(output_that_nobody_takes_stalls_and_goes_on)
{
    static uint8_t block[4096], got[1 << 16];
    struct rig rig;
    size_t written = 0, received = 0;
    ssize_t n;

    rig_open(&rig, false);
    for (int quiet = 0; quiet < 3;) {
        n = write(rig.file, block, sizeof(block));
        if (n > 0) {
            written += (size_t)n;
            quiet = 0;
        } else {
            quiet++;
        }
        pump_work(&rig.pump);
    }
    close(rig.file);
    rig.file = -1;
    while (rig.pump.active || received < written) {
        n = read(rig.peer, got, sizeof(got));
        if (n > 0)
            received += (size_t)n;
        else if (n == 0)
            break;
        if (rig.pump.active)
            pump_work(&rig.pump);
    }
    /* With the headers of its frames. */
    ck_assert_uint_gt(written, 100000);
    ck_assert_uint_gt(received, written);
    ck_assert_uint_lt(received, written + 8 * (written / 4096 + 8));
    rig_close(&rig);
}
END_TEST

TEST_MAIN("pump", tcase_add_test(tcase, input_frames_cut_anywhere);
          tcase_add_test(tcase, input_that_is_read_already_is_not_waited_for);
          tcase_add_test(tcase, input_that_is_no_frame_ends_the_stream);
          tcase_add_test(tcase, input_nobody_reads_is_stopped);
          tcase_add_test(tcase, output_is_framed_and_ended);
          tcase_add_test(tcase, output_stopped_by_the_host_breaks_the_pipe);
          tcase_add_test(tcase, output_that_nobody_takes_stalls_and_goes_on))
