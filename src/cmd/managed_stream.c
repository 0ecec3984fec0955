/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our standard streams at one end, a stream of frames at the other. Standard input is read only
 * when the connection takes more; standard output is written to its end before more is read.
 */
#include "cmd/managed.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/terminal.h"
#include "stream_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK         32768
#define CONSOLE_LEAVE 0x1d /* Ctrl-] */

struct serving {
    int fd, signal_fd;
    bool stdin_open, raw, over;
    bool left;    /* Ctrl-]; what was typed before it is still sent */
    bool console; /* of a machine: it is left, not ended */
    struct buf in, out;
    int status;
    char error[1024];
};

static void put(struct serving *s, enum stream_type type, const void *data, size_t length)
{
    uint8_t header[STREAM_HEADER_SIZE];

    stream_header_encode(header, type, (uint32_t)length);
    buf_append(&s->out, header, sizeof(header));
    buf_append(&s->out, data, length);
}

static void put_size(struct serving *s)
{
    uint16_t rows, cols;

    if (terminal_size(&rows, &cols)) {
        const uint8_t size[4] = {(uint8_t)(rows >> 8), (uint8_t)rows, (uint8_t)(cols >> 8),
                                 (uint8_t)cols};

        put(s, STREAM_RESIZE, size, sizeof(size));
    }
}

static void read_input(struct serving *s)
{
    char data[BLOCK];
    const char *leave;
    ssize_t n = read(STDIN_FILENO, data, sizeof(data));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0 && s->console && (leave = memchr(data, CONSOLE_LEAVE, (size_t)n))) {
        n = leave - data;
        s->left = true;
    }
    if (n > 0)
        put(s, STREAM_STDIN, data, (size_t)n);
    if (n > 0 || s->left)
        return;
    if (!s->console)
        put(s, STREAM_STDIN_END, "", 0);
    s->stdin_open = false;
}

static void read_signal(struct serving *s)
{
    struct signalfd_siginfo info;
    uint8_t number;

    if (read(s->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    number = (uint8_t)info.ssi_signo;
    if (s->console && number != SIGWINCH) {
        s->status = 128 + number;
        s->over = true;
    } else if (number == SIGWINCH && s->raw)
        put_size(s);
    else if (number != SIGWINCH)
        put(s, STREAM_SIGNAL, &number, 1);
}

static void take_frame(struct serving *s, enum stream_type type, const char *data, size_t length)
{
    CLEANUP(freep) char *text = NULL;
    json_t *document;

    switch (type) {
    case STREAM_STDOUT:
    case STREAM_STDERR:
        /* Whoever read this may have gone; the program is not ended by that. */
        file_write_full(type == STREAM_STDOUT ? STDOUT_FILENO : STDERR_FILENO, data, length);
        break;
    case STREAM_ERROR:
        snprintf(s->error, sizeof(s->error), "%.*s", (int)MIN(length, (size_t)1000), data);
        break;
    case STREAM_EXIT:
        document = json_loadb(data, length, 0, NULL);
        s->status = (int)json_integer_value(json_object_get(document, "exit_code"));
        json_decref(document);
        s->over = true;
        break;
    default:
        break;
    }
}

static int read_frames(struct serving *s, struct err *err)
{
    ssize_t n;

    if (buf_reserve(&s->in, BLOCK) < 0)
        return err_set(err, -ENOMEM, "out of memory");
    n = recv(s->fd, s->in.data + s->in.length, BLOCK, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return err_set(err, -ECONNRESET, "the connection to the instance was broken");
    s->in.length += (size_t)n;
    while (s->in.length >= STREAM_HEADER_SIZE && !s->over) {
        enum stream_type type;
        uint32_t length;

        if (!stream_header_decode((const uint8_t *)s->in.data, &type, &length))
            return err_set(err, -EPROTO, "the instance sent what is not in the protocol");
        if (s->in.length < STREAM_HEADER_SIZE + length)
            break;
        take_frame(s, type, s->in.data + STREAM_HEADER_SIZE, length);
        buf_consume(&s->in, STREAM_HEADER_SIZE + length);
    }
    return 0;
}

static void send_out(struct serving *s)
{
    ssize_t n;

    if (!s->out.length)
        return;
    n = send(s->fd, s->out.data, s->out.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0)
        buf_consume(&s->out, (size_t)n);
}

static int turn(struct serving *s, struct err *err)
{
    bool read_more = s->stdin_open && s->out.length < BLOCK;
    struct pollfd fds[] = {{.fd = s->fd, .events = (short)(POLLIN | (s->out.length ? POLLOUT : 0))},
                           {.fd = s->signal_fd, .events = POLLIN},
                           {.fd = read_more ? STDIN_FILENO : -1, .events = POLLIN}};

    if (poll(fds, 3, -1) < 0)
        return errno == EINTR ? 0 : err_errno(err, -errno, "poll");
    if (fds[1].revents)
        read_signal(s);
    if (fds[2].revents)
        read_input(s);
    send_out(s);
    if (s->left && !s->out.length) {
        s->status = 0;
        s->over = true;
        return 0;
    }
    return fds[0].revents & ~POLLOUT ? read_frames(s, err) : 0;
}

static int open_signals(void)
{
    static const int forwarded[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
                                    SIGUSR2, SIGALRM, SIGCONT, SIGWINCH};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(forwarded); i++)
        sigaddset(&set, forwarded[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int serve(int fd, bool stdin_open, bool raw, bool console, int *ret_status, struct err *err)
{
    struct serving s = {.fd = fd,
                        .signal_fd = open_signals(),
                        .stdin_open = stdin_open,
                        .raw = raw,
                        .console = console,
                        .status = 125};
    struct terminal terminal = {.fd = -1};
    int result = s.signal_fd < 0 ? err_errno(err, -errno, "signalfd") : 0;

    buf_init(&s.in, 4 * STREAM_DATA_MAX);
    buf_init(&s.out, 4 * STREAM_DATA_MAX);
    if (raw) {
        terminal_make_raw(&terminal);
        put_size(&s);
    }
    while (result == 0 && !s.over)
        result = turn(&s, err);
    terminal_restore(&terminal);
    if (result == 0 && *s.error)
        log_error("%s", s.error);
    if (result == 0)
        *ret_status = s.status;
    buf_done(&s.in);
    buf_done(&s.out);
    fd_closep(&s.signal_fd);
    close(fd);
    return result;
}

int managed_serve(int fd, bool stdin_open, bool raw, int *ret_status, struct err *err)
{
    return serve(fd, stdin_open, raw, false, ret_status, err);
}

int managed_console(int fd, int *ret_status, struct err *err)
{
    return serve(fd, true, isatty(STDIN_FILENO), true, ret_status, err);
}
