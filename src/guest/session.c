/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session's loop:
 *
 *      waiting ──RUN: session_start──▶ running ──reaped, outputs ended: session_finish──▶ telling
 *         └──cannot be run: ERROR──────────────────────────────────────────────────────────▲ │ sent
 *      any ──the host hangs up, or speaks nonsense──▶ over ◀───────────────────────────────────┘
 *
 * Invariants: 1. nothing is read from the program's outputs while HELD bytes wait for the host, and
 * nothing from the host while HELD bytes wait for the program: nothing grows.  2. EXITED and ERROR
 * are last. One process, one thread.
 */
#include "guest/session.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/util.h"
#include "guest/spawn.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>

#define HELD      (256u << 10)
#define READ_SIZE (64u << 10)
#define IN_MAX    (AGENT_FRAME_MAX + AGENT_HEADER_SIZE)

struct session {
    int conn, signals, terminal;
    int input, output[2]; /* of the program; -1: none, or ended */
    bool tty, asked, reaped, telling, over, input_ended;
    pid_t pid;
    int status;
    uint64_t started_ns;
    struct buf in, out, held; /* from the host, to it, for the program */
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void put(struct session *s, enum agent_frame_type type, const void *data, size_t length)
{
    uint8_t header[AGENT_HEADER_SIZE];

    agent_header_encode(header, type, (uint32_t)length);
    if (buf_reserve(&s->out, sizeof(header) + length) < 0) {
        s->over = true;
        return;
    }
    buf_append(&s->out, header, sizeof(header));
    buf_append(&s->out, data, length);
}

static void say_error(struct session *s, uint32_t exit_status, const char *message)
{
    struct agent_error error = {.exit_status = exit_status, .message = message};

    s->telling = true;
    if (agent_error_encode(&s->out, &error) < 0)
        s->over = true;
}

static void session_start(struct session *s, const struct agent_run *run)
{
    struct agent_started started = {.uptime_ns = clock_read_ns(CLOCK_BOOTTIME)};
    struct err err = ERR_INIT;
    struct spawned spawned;
    uint32_t exit_status = 125;

    s->asked = true;
    s->tty = run->flags & AGENT_RUN_TTY;
    if (spawn_command(run, &spawned, &exit_status, &err) < 0) {
        say_error(s, exit_status, err.message);
        return;
    }
    s->pid = spawned.pid;
    s->started_ns = started.uptime_ns;
    s->terminal = TAKE_FD(spawned.terminal);
    s->input = TAKE_FD(spawned.files[AGENT_ROLE_STDIN]);
    s->output[0] = TAKE_FD(spawned.files[AGENT_ROLE_STDOUT]);
    s->output[1] = TAKE_FD(spawned.files[AGENT_ROLE_STDERR]);
    spawned_close(&spawned);
    started.pid = (uint32_t)s->pid;
    if (agent_started_encode(&s->out, &started) < 0)
        s->over = true;
}

static int handle_frame(struct session *s, const struct agent_frame *frame)
{
    struct agent_run run;
    uint16_t rows, cols;
    uint32_t number;
    int result;

    if (!s->asked) {
        if (frame->type != AGENT_RUN)
            return -EPROTO;
        if ((result = agent_run_decode(frame, &run)) < 0)
            return result;
        session_start(s, &run);
        agent_run_done(&run);
        return 0;
    }
    switch (frame->type) {
    case AGENT_DATA:
        return s->input >= 0 && !s->input_ended
                   ? buf_append(&s->held, frame->payload, frame->length)
                   : 0;
    case AGENT_END:
        s->input_ended = true;
        return 0;
    case AGENT_RESIZE:
        if ((result = agent_resize_decode(frame, &rows, &cols)) == 0)
            spawn_resize(s->terminal, rows, cols);
        return result;
    case AGENT_SIGNAL:
        if ((result = agent_signal_decode(frame, &number)) == 0 && s->pid > 0 && !s->reaped)
            kill(-s->pid, (int)number);
        return result;
    default:
        return -EPROTO;
    }
}

/* Whole frames out of what was received, as long as the program takes what they bring. */
static void take_frames(struct session *s)
{
    struct agent_frame frame;
    int result = 0;

    while (!s->over && s->held.length < HELD &&
           (result = agent_frame_parse(s->in.data, s->in.length, &frame)) == 1) {
        if ((result = handle_frame(s, &frame)) < 0)
            break;
        buf_consume(&s->in, AGENT_HEADER_SIZE + (size_t)frame.length);
    }
    if (result < 0)
        s->over = true;
}

static void conn_read(struct session *s)
{
    ssize_t n;

    if (buf_reserve(&s->in, MIN(READ_SIZE, s->in.cap - s->in.length)) < 0) {
        s->over = true;
        return;
    }
    n = read(s->conn, s->in.data + s->in.length, s->in.capacity - s->in.length);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        s->over = true;
    else
        s->in.length += (size_t)n;
}

static void conn_write(struct session *s)
{
    while (s->out.length) {
        ssize_t n = write(s->conn, s->out.data, s->out.length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            s->over = true;
            return;
        }
        buf_consume(&s->out, (size_t)n);
    }
}

static void input_end(struct session *s)
{
    struct termios settings;
    uint8_t eof = 4;

    /* A terminal has no end of file but its character. */
    if (s->tty) {
        if (tcgetattr(s->input, &settings) == 0)
            eof = settings.c_cc[VEOF];
        (void)!write(s->input, &eof, 1);
    }
    close_fd(&s->input);
}

static void input_write(struct session *s)
{
    while (s->input >= 0 && s->held.length) {
        ssize_t n = write(s->input, s->held.data, s->held.length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) /* it reads no more; what comes is thrown away */
            close_fd(&s->input);
        else
            buf_consume(&s->held, (size_t)n);
    }
    if (s->input < 0)
        buf_consume(&s->held, s->held.length);
    else if (s->input_ended)
        input_end(s);
}

static void output_read(struct session *s, unsigned i)
{
    char data[READ_SIZE];
    ssize_t n = read(s->output[i], data, sizeof(data));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) /* a terminal whose last user is gone gives EIO */
        close_fd(&s->output[i]);
    else
        put(s, i ? AGENT_DATA_ERR : AGENT_DATA, data, (size_t)n);
}

static void reap(struct session *s)
{
    struct signalfd_siginfo info;

    (void)!read(s->signals, &info, sizeof(info));
    if (s->pid > 0 && !s->reaped && waitpid(s->pid, &s->status, WNOHANG) == s->pid)
        s->reaped = true;
}

static void session_finish(struct session *s)
{
    struct agent_exited exited = {.run_ns = clock_read_ns(CLOCK_BOOTTIME) - s->started_ns};

    if (!s->reaped || s->telling || s->output[0] >= 0 || s->output[1] >= 0)
        return;
    s->telling = true;
    if (WIFSIGNALED(s->status))
        exited.signal = (uint32_t)WTERMSIG(s->status);
    else
        exited.status = (uint32_t)WEXITSTATUS(s->status);
    if (agent_exited_encode(&s->out, &exited) < 0)
        s->over = true;
}

static void session_turn(struct session *s)
{
    bool room = s->out.length < HELD, listens = s->held.length < HELD && s->in.length < s->in.cap;
    struct pollfd fds[] = {
        {.fd = s->conn, .events = (short)((listens ? POLLIN : 0) | (s->out.length ? POLLOUT : 0))},
        {.fd = s->signals, .events = POLLIN},
        {.fd = room ? s->output[0] : -1, .events = POLLIN},
        {.fd = room ? s->output[1] : -1, .events = POLLIN},
        {.fd = s->held.length ? s->input : -1, .events = POLLOUT}};

    if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR) {
        s->over = true;
        return;
    }
    if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
        conn_read(s);
    if (fds[1].revents)
        reap(s);
    for (unsigned i = 0; i < 2; i++)
        if (fds[2 + i].revents && s->output[i] >= 0)
            output_read(s, i);
    take_frames(s);
    input_write(s);
    take_frames(s); /* what stood back while the program was behind: poll does not tell of it */
    session_finish(s);
    conn_write(s);
    if (s->telling && !s->out.length)
        s->over = true;
}

int session_serve(int conn)
{
    struct session s = {.conn = conn, .input = -1, .output = {-1, -1}, .terminal = -1};
    sigset_t children;

    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    buf_init(&s.in, IN_MAX);
    buf_init(&s.out, HELD + 4 * READ_SIZE);
    buf_init(&s.held, HELD + AGENT_FRAME_MAX);
    s.signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    while (s.signals >= 0 && !s.over)
        session_turn(&s);
    if (s.pid > 0 && !s.reaped) {
        kill(-s.pid, SIGHUP);
        kill(-s.pid, SIGCONT);
    }
    close_fd(&s.input);
    close_fd(&s.output[0]);
    close_fd(&s.output[1]);
    close_fd(&s.terminal);
    close_fd(&s.signals);
    close_fd(&s.conn);
    buf_done(&s.in);
    buf_done(&s.out);
    buf_done(&s.held);
    return 0;
}
