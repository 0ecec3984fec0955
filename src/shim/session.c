/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a session (include/agent_protocol.h).
 *
 *      connecting ──"OK"──▶ asked ──STARTED──▶ running ──EXITED: its status──▶ over
 *         │ nothing within ANSWER_NS, or nonsense: 125        │ ERROR, hang-up
 *         └────────────────────────────────────────────────────┴──────────────▶ over
 *
 * Invariants: 1. nothing is read from the guest while an output of ours is behind, nor from our
 * input while the guest is: buffers have an end.  2. what the guest says is believed only as bytes
 * for our outputs and as a status below 256. One process, one thread.
 */
#include "shim/session.h"

#include "agent_protocol.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_NS (60 * NS_PER_S)
#define READ_SIZE (64u << 10)
#define HELD      (256u << 10)

struct session {
    int conn, signals;
    bool tty, connected, started, input_open, over;
    int status;
    struct buf in, out;   /* from the guest, to it */
    struct buf output[2]; /* for our standard output, standard error */
    uint64_t deadline_ns;
    char message[ERR_MESSAGE_MAX];
};

static void end_with(struct session *s, int status, const char *message)
{
    s->over = true;
    s->status = status;
    snprintf(s->message, sizeof(s->message), "%s", message);
}

static int connect_to(const char *path, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return err_errno(err, -errno, "socket");
    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
        (int)sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "the socket path '%s' is too long", path);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, -errno, "reach the virtual machine's monitor");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return TAKE_FD(fd);
}

static int string_list(const json_t *document, const char *name, char ***ret)
{
    const json_t *list = json_object_get(document, name);
    size_t nr = json_array_size(list);

    if (!(*ret = calloc(nr + 1, sizeof(char *))))
        return -ENOMEM;
    for (size_t i = 0; i < nr; i++)
        (*ret)[i] = (char *)(uintptr_t)(json_string_value(json_array_get(list, i)) ?: "");
    return 0;
}

static const char *string_of(const json_t *document, const char *name)
{
    return json_string_value(json_object_get(document, name)) ?: "";
}

/* The monitor's line and the request, which waits in the socket for the guest's consent. */
static int put_request(struct session *s, const json_t *document, struct err *err)
{
    struct agent_run run = {.cwd = string_of(document, "cwd"),
                            .user = string_of(document, "user"),
                            .hostname = "",
                            .resolv_conf = ""};
    int result;

    s->tty = json_is_true(json_object_get(document, "terminal"));
    s->input_open = json_is_true(json_object_get(document, "stdin"));
    run.flags = (s->tty ? AGENT_RUN_TTY : 0) | (s->input_open ? AGENT_RUN_STDIN : 0) |
                (json_is_true(json_object_get(document, "builtin")) ? AGENT_RUN_BUILTIN : 0);
    run.rows = (uint16_t)json_integer_value(json_object_get(document, "rows"));
    run.cols = (uint16_t)json_integer_value(json_object_get(document, "cols"));
    if ((result = string_list(document, "args", &run.argv)) == 0 &&
        (result = string_list(document, "env", &run.env)) == 0)
        result = agent_run_encode(&s->out, &run);
    agent_run_done(&run);
    return result < 0 ? err_set(err, result, "the program's arguments are too large (1 MiB)") : 0;
}

static int load_request(struct session *s, const char *file, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    json_t *document = NULL;
    int result;

    buf_init(&text, 4u << 20);
    if ((result = file_load(AT_FDCWD, file, &text, err)) < 0 ||
        (result = json_parse(text.data ?: "", text.length, file, &document, err)) < 0)
        return result;
    result = put_request(s, document, err);
    json_decref(document);
    return result;
}

static void handle_exited(struct session *s, const struct agent_frame *frame)
{
    struct agent_exited exited;

    if (agent_exited_decode(frame, &exited) < 0 || exited.signal > 64 || exited.status > 255) {
        end_with(s, 125, "the guest's agent sent what is not in the protocol");
        return;
    }
    s->over = true;
    s->status = exited.signal ? 128 + (int)exited.signal : (int)exited.status;
}

static void handle_error(struct session *s, const struct agent_frame *frame)
{
    struct agent_error error;
    char plain[ERR_MESSAGE_MAX];

    if (agent_error_decode(frame, &error) < 0) {
        end_with(s, 125, "the guest's agent sent what is not in the protocol");
        return;
    }
    snprintf(plain, sizeof(plain), "%s", error.message);
    for (char *c = plain; *c; c++) /* not for the terminal of who reads it */
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
    end_with(s, error.exit_status >= 125 && error.exit_status <= 127 ? (int)error.exit_status : 125,
             plain);
}

static void handle_frame(struct session *s, const struct agent_frame *frame)
{
    struct agent_started started;
    int result = 0;

    if (frame->type == AGENT_STARTED && !s->started)
        result = agent_started_decode(frame, &started);
    else if ((frame->type == AGENT_DATA || frame->type == AGENT_DATA_ERR) && s->started)
        result = buf_append(&s->output[frame->type == AGENT_DATA_ERR], frame->payload,
                            frame->length);
    else if (frame->type == AGENT_EXITED && s->started)
        handle_exited(s, frame);
    else if (frame->type == AGENT_ERROR)
        handle_error(s, frame);
    else
        result = -EPROTO;
    if (result < 0)
        end_with(s, 125, "the guest's agent sent what is not in the protocol");
    s->started = true;
}

static bool outputs_behind(const struct session *s)
{
    return s->output[0].length >= HELD || s->output[1].length >= HELD;
}

/* "OK PORT\n", then frames. */
static void take_received(struct session *s)
{
    struct agent_frame frame;
    int result;

    if (!s->connected) {
        char *end = s->in.length ? memchr(s->in.data, '\n', s->in.length) : NULL;

        if (!end && s->in.length < 64)
            return;
        if (!end || strncmp(s->in.data, "OK ", 3) != 0) {
            end_with(s, 125, "the virtual machine's monitor sent what is not in the protocol");
            return;
        }
        s->connected = true;
        buf_consume(&s->in, (size_t)(end + 1 - s->in.data));
    }
    while (!s->over && !outputs_behind(s) &&
           (result = agent_frame_parse(s->in.data, s->in.length, &frame)) != 0) {
        if (result < 0) {
            end_with(s, 125, "the guest's agent sent what is not in the protocol");
            return;
        }
        handle_frame(s, &frame);
        buf_consume(&s->in, AGENT_HEADER_SIZE + (size_t)frame.length);
    }
}

static void conn_read(struct session *s)
{
    ssize_t n;

    if (buf_reserve(&s->in, MIN((size_t)READ_SIZE, s->in.cap - s->in.length)) < 0) {
        end_with(s, 125, "out of memory");
        return;
    }
    n = read(s->conn, s->in.data + s->in.length, s->in.capacity - s->in.length);
    if (n > 0)
        s->in.length += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        end_with(s, 125,
                 s->connected ? "the virtual machine ended, or its agent hung up"
                              : "the guest takes no further programs: its agent does not listen");
}

static void conn_write(struct session *s)
{
    ssize_t n = s->out.length ? send(s->conn, s->out.data, s->out.length, MSG_NOSIGNAL) : 0;

    if (n > 0)
        buf_consume(&s->out, (size_t)n);
}

static void input_read(struct session *s)
{
    uint8_t header[AGENT_HEADER_SIZE];
    char data[READ_SIZE];
    ssize_t n = read(STDIN_FILENO, data, sizeof(data));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        agent_empty_encode(&s->out, AGENT_END);
        s->input_open = false;
        return;
    }
    agent_header_encode(header, AGENT_DATA, (uint32_t)n);
    buf_append(&s->out, header, sizeof(header));
    buf_append(&s->out, data, (size_t)n);
}

static void output_write(struct session *s, unsigned i)
{
    struct buf *output = &s->output[i];

    while (output->length) {
        ssize_t n = write(i ? STDERR_FILENO : STDOUT_FILENO, output->data, output->length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) { /* the reader went away; so do we, and the program with us */
            buf_consume(output, output->length);
            end_with(s, 125, "");
            return;
        }
        buf_consume(output, (size_t)n);
    }
}

static void handle_signal(struct session *s)
{
    struct signalfd_siginfo info;
    struct winsize size;

    if (read(s->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo != SIGWINCH)
        agent_signal_encode(&s->out, (uint32_t)info.ssi_int);
    else if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        agent_resize_encode(&s->out, size.ws_row, size.ws_col);
}

static int turn(struct session *s)
{
    bool reads = s->input_open && s->started && s->out.length < HELD;
    struct pollfd fds[] = {
        {.fd = s->conn,
         .events = (short)((outputs_behind(s) ? 0 : POLLIN) | (s->out.length ? POLLOUT : 0))},
        {.fd = s->signals, .events = POLLIN},
        {.fd = reads ? STDIN_FILENO : -1, .events = POLLIN},
        {.fd = s->output[0].length ? STDOUT_FILENO : -1, .events = POLLOUT},
        {.fd = s->output[1].length ? STDERR_FILENO : -1, .events = POLLOUT}};
    uint64_t now_ns = clock_monotonic_ns();
    int wait_ms = s->started                 ? -1
                  : now_ns >= s->deadline_ns ? 0
                                             : (int)((s->deadline_ns - now_ns) / NS_PER_MS) + 1;

    if (poll(fds, ARRAY_LEN(fds), wait_ms) < 0)
        return errno == EINTR ? 0 : -errno;
    if (!s->started && clock_monotonic_ns() >= s->deadline_ns)
        end_with(s, 125, "the guest's agent does not answer");
    if (fds[1].revents)
        handle_signal(s);
    if (fds[2].revents)
        input_read(s);
    conn_write(s);
    if (fds[0].revents & (POLLIN | POLLHUP | POLLERR) && !outputs_behind(s) && !s->over)
        conn_read(s);
    take_received(s);
    for (unsigned i = 0; i < 2; i++)
        output_write(s, i);
    if (!s->over)
        take_received(s); /* what stood back while an output was behind */
    return 0;
}

/* What came before the end still goes out, if somebody reads it. */
static void flush_outputs(struct session *s)
{
    for (unsigned i = 0; i < 2; i++) {
        int fd = i ? STDERR_FILENO : STDOUT_FILENO;

        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
        file_write_full(fd, s->output[i].data ?: "", s->output[i].length);
    }
    if (*s->message)
        dprintf(STDERR_FILENO, "lodge: %s%s\n", s->message, s->tty ? "\r" : "");
}

static int prepare(struct session *s, const char *socket_path, const char *file, struct err *err)
{
    sigset_t set;
    int result;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMAX);
    sigaddset(&set, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, NULL);
    buf_printf(&s->out, "CONNECT %u\n", AGENT_SESSION_PORT);
    if ((s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return err_errno(err, -errno, "signalfd");
    if ((result = load_request(s, file, err)) < 0 ||
        (result = s->conn = connect_to(socket_path, err)) < 0)
        return result;
    for (int fd = 0; fd < 3; fd++)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    s->deadline_ns = clock_monotonic_ns() + ANSWER_NS;
    return 0;
}

int session_main(const char *socket_path, const char *file)
{
    struct session s = {.conn = -1, .signals = -1, .status = 125};
    struct err err = ERR_INIT;
    int result;

    buf_init(&s.in, AGENT_FRAME_MAX + AGENT_HEADER_SIZE);
    buf_init(&s.out, 2 * AGENT_FRAME_MAX);
    for (unsigned i = 0; i < 2; i++)
        buf_init(&s.output[i], HELD + AGENT_FRAME_MAX);
    result = prepare(&s, socket_path, file, &err);
    while (result == 0 && !s.over)
        result = turn(&s);
    if (result < 0)
        end_with(&s, 125, err.code ? err.message : "the connection to the guest failed");
    flush_outputs(&s);
    fd_closep(&s.conn);
    fd_closep(&s.signals);
    buf_done(&s.in);
    buf_done(&s.out);
    buf_done(&s.output[0]);
    buf_done(&s.output[1]);
    return s.status;
}
