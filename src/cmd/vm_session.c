/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One poll loop over the control connection, signals, the monitor's end, streams that end, and
 * connections that have not said yet what they are.
 */
#include "cmd/vm_session.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/util.h"
#include "cmd/terminal.h"
#include "cmd/vm_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#define PENDING_MAX     8
#define HELLO_SIZE      16u /* a HELLO frame, whole */
#define CONTROL_IN_MAX  (AGENT_FRAME_MAX + AGENT_HEADER_SIZE)
#define CONTROL_OUT_MAX (4u << 20)
/* How long after its agent a machine may live. */
#define LOST_LIMIT_S 10
/* So many times the user asks a command to end before its machine is ended. */
#define PATIENCE 3

/* A connection that has not said yet what it is for. */
struct pending {
    int fd;
    uint8_t hello[HELLO_SIZE];
    size_t have;
};

struct session {
    const struct vm_session_options *options;
    struct vmm_process *vmm;
    int control, notify;
    struct buf in, out;
    struct pending pending[PENDING_MAX];
    struct vm_stream *streams; /* AGENT_NR_ROLES */
    struct terminal terminal;
    uint64_t deadline_ns;
    bool greeted, run_sent, ended;
    bool lost;         /* the agent hung up before the command's end */
    unsigned nr_asked; /* SIGINT, SIGTERM and SIGQUIT forwarded */
    int status;
};

static void close_pending(struct pending *pending)
{
    if (pending->fd >= 0)
        close(pending->fd);
    pending->fd = -1;
    pending->have = 0;
}

static void accept_connection(struct session *s)
{
    int fd = accept4(s->options->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    for (size_t i = 0; fd >= 0 && i < PENDING_MAX; i++)
        if (s->pending[i].fd < 0) {
            s->pending[i].fd = fd;
            s->pending[i].have = 0;
            return;
        }
    if (fd >= 0)
        close(fd);
}

static int start_stream(struct session *s, enum agent_role role, int fd, struct err *err)
{
    struct vm_stream *stream = &s->streams[role];
    int flags = fcntl(fd, F_GETFL);

    if (!s->run_sent || stream->started) {
        close(fd);
        return 0;
    }
    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    return vm_stream_start(stream, role, fd, s->notify, err);
}

static int greet(struct session *s, int fd, const struct agent_hello *hello, struct err *err)
{
    struct agent_hello ours = {.version = AGENT_VERSION, .role = AGENT_ROLE_CONTROL};

    if (s->control >= 0) {
        close(fd);
        return 0;
    }
    s->control = fd;
    s->greeted = true;
    if (hello->version > AGENT_VERSION)
        ours.version = AGENT_VERSION;
    if (agent_hello_encode(&s->out, &ours) < 0)
        return err_set(err, -ENOMEM, "out of memory");
    return 0;
}

/* Reads no further than the HELLO: what follows on a data connection is for its thread. */
static int identify(struct session *s, struct pending *pending, struct err *err)
{
    struct agent_frame frame;
    struct agent_hello hello;
    ssize_t n = read(pending->fd, pending->hello + pending->have, HELLO_SIZE - pending->have);
    int fd;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        close_pending(pending);
        return 0;
    }
    pending->have += (size_t)n;
    if (pending->have < HELLO_SIZE)
        return 0;
    if (agent_frame_parse(pending->hello, pending->have, &frame) != 1 ||
        frame.type != AGENT_HELLO || agent_hello_decode(&frame, &hello) < 0) {
        close_pending(pending);
        return err_set(err, -EPROTO,
                       "the guest's agent speaks another protocol: was the initramfs "
                       "made by another version?");
    }
    fd = TAKE_FD(pending->fd);
    if (hello.role == AGENT_ROLE_CONTROL)
        return greet(s, fd, &hello, err);
    return start_stream(s, (enum agent_role)hello.role, fd, err);
}

static int start_run(struct session *s, const struct agent_frame *frame, struct err *err)
{
    struct agent_info info;
    int result = agent_info_decode(frame, &info);

    if (result < 0)
        return result;
    if (s->run_sent)
        return 0;
    if (s->options->on_ready)
        s->options->on_ready(&info, s->options->context);
    if ((result = agent_run_encode(&s->out, s->options->run)) < 0)
        return err_set(err, result,
                       "the command line and environment are too large (1 MiB is the "
                       "most)");
    s->run_sent = true;
    if (s->options->raw_terminal)
        terminal_make_raw(&s->terminal);
    return 0;
}

static int handle_error(struct session *s, const struct agent_frame *frame, struct err *err)
{
    struct agent_error error;
    int result = agent_error_decode(frame, &error);

    if (result < 0)
        return result;
    s->status = (int)error.exit_status;
    return err_set(err, -ECANCELED, "%s", error.message);
}

static int handle_exited(struct session *s, const struct agent_frame *frame)
{
    struct agent_exited exited;
    int result = agent_exited_decode(frame, &exited);

    if (result < 0)
        return result;
    s->status = exited.signal ? 128 + (int)exited.signal : (int)exited.status;
    s->ended = true;
    return 0;
}

static int handle_frame(struct session *s, const struct agent_frame *frame, struct err *err)
{
    switch (frame->type) {
    case AGENT_INFO:
        return start_run(s, frame, err);
    case AGENT_STARTED:
        if (s->options->on_started)
            s->options->on_started(s->options->context);
        return 0;
    case AGENT_EXITED:
        return handle_exited(s, frame);
    case AGENT_ERROR:
        return handle_error(s, frame, err);
    default:
        return -EPROTO;
    }
}

static int control_read(struct session *s, struct err *err)
{
    struct agent_frame frame;
    ssize_t n;
    int result = buf_reserve(&s->in, MIN((size_t)65536, s->in.cap - s->in.length));

    if (result < 0)
        return err_errno(err, result, "receive from the guest's agent");
    n = read(s->control, s->in.data + s->in.length, s->in.capacity - s->in.length);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        /* The monitor's end, if it is that, is told by its pidfd a moment later. */
        close(s->control);
        s->control = -1;
        s->lost = !s->ended;
        s->deadline_ns = clock_monotonic_ns() + LOST_LIMIT_S * NS_PER_S;
        return 0;
    }
    s->in.length += (size_t)n;
    while ((result = agent_frame_parse(s->in.data, s->in.length, &frame)) == 1) {
        if ((result = handle_frame(s, &frame, err)) < 0)
            break;
        buf_consume(&s->in, AGENT_HEADER_SIZE + (size_t)frame.length);
    }
    if (result == -EPROTO)
        return err_set(err, -EPROTO, "the guest's agent sent what is not in the protocol");
    return result;
}

static void control_write(struct session *s)
{
    ssize_t n;

    if (s->control < 0 || s->out.length == 0)
        return;
    n = send(s->control, s->out.data, s->out.length, MSG_NOSIGNAL);
    if (n > 0)
        buf_consume(&s->out, (size_t)n);
}

static int handle_signal(struct session *s, struct err *err)
{
    struct signalfd_siginfo info;
    uint16_t rows, cols;
    int number;

    if (read(s->options->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return 0;
    number = (int)info.ssi_signo;
    if (number == SIGWINCH) {
        if (s->run_sent && s->options->raw_terminal && terminal_size(&rows, &cols))
            agent_resize_encode(&s->out, rows, cols);
        return 0;
    }
    if (number == SIGCHLD)
        return 0;
    if (number == SIGINT || number == SIGTERM || number == SIGQUIT)
        s->nr_asked++;
    if ((!s->run_sent && number != SIGUSR1 && number != SIGUSR2) || s->nr_asked >= PATIENCE) {
        s->status = 128 + number;
        return err_set(err, -EINTR, "%s by signal %d (%s)",
                       s->run_sent ? "the virtual machine was ended" : "the start was broken off",
                       number, strsignal(number));
    }
    if (s->run_sent)
        agent_signal_encode(&s->out, (uint32_t)number);
    return 0;
}

/* Are the command's outputs with the user? */
static bool outputs_done(const struct session *s)
{
    bool tty = s->options->run->flags & AGENT_RUN_TTY;

    for (int role = AGENT_ROLE_STDOUT; role <= AGENT_ROLE_STDERR; role++)
        if (!(tty && role == AGENT_ROLE_STDERR) && !atomic_load(&s->streams[role].done))
            return false;
    return true;
}

/* The entries of one round; negative fds are passed over by poll. */
enum slot {
    SLOT_LISTEN,
    SLOT_SIGNALS,
    SLOT_MONITOR,
    SLOT_CONSOLE,
    SLOT_LOG,
    SLOT_NOTIFY,
    SLOT_CONTROL,
    SLOT_PENDING,
    NR_SLOTS = SLOT_PENDING + PENDING_MAX,
};

static void fill_slots(const struct session *s, struct pollfd fds[NR_SLOTS])
{
    const int fixed[] = {s->options->listen_fd,
                         s->options->signal_fd,
                         s->vmm->pid_fd,
                         s->vmm->console_fd,
                         s->vmm->log_fd,
                         s->notify,
                         s->control};

    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        fds[i] = (struct pollfd){.fd = fixed[i], .events = POLLIN};
    /* Its end is no news once the command's is known: then only the outputs are waited for. */
    if (s->ended)
        fds[SLOT_MONITOR].fd = -1;
    if (s->out.length)
        fds[SLOT_CONTROL].events |= POLLOUT;
    for (size_t i = 0; i < PENDING_MAX; i++)
        fds[SLOT_PENDING + i] = (struct pollfd){.fd = s->pending[i].fd, .events = POLLIN};
}

static int monitor_ended(struct session *s, struct err *err)
{
    int status;

    /* What the guest said last may still be on its way. */
    if (s->control >= 0 && control_read(s, err) < 0)
        return -ECANCELED;
    if (s->ended)
        return 0;
    status = vmm_process_stop(s->vmm);
    s->status = 125;
    vmm_process_describe_end(s->vmm, status, err);
    return -EIO;
}

static int boot_wait_ms(const struct session *s)
{
    uint64_t now_ns = clock_monotonic_ns();

    if (s->run_sent && !s->lost)
        return -1;
    return now_ns >= s->deadline_ns ? 0 : (int)((s->deadline_ns - now_ns) / NS_PER_MS) + 1;
}

static int too_slow(struct session *s, struct err *err)
{
    char console[400];

    tail_last_lines(&s->vmm->console, 5, "  ", console, sizeof(console));
    s->status = 125;
    if (s->lost)
        return err_set(err, -ECONNRESET, "the guest's agent went away before the command ended%s%s",
                       *console ? "; the console's last lines:\n" : "", console);
    return err_set(err, -ETIMEDOUT, "the guest did not come up within %u s%s%s",
                   s->options->boot_limit_s, *console ? "; its console's last lines:\n" : "",
                   console);
}

static int session_turn(struct session *s, struct err *err)
{
    struct pollfd fds[NR_SLOTS];
    uint64_t count;
    int result = 0;

    fill_slots(s, fds);
    if (poll(fds, NR_SLOTS, boot_wait_ms(s)) < 0)
        return errno == EINTR ? 0 : err_errno(err, -errno, "poll");
    if (fds[SLOT_LISTEN].revents)
        accept_connection(s);
    if (fds[SLOT_SIGNALS].revents)
        result = handle_signal(s, err);
    for (size_t i = 0; i < PENDING_MAX && result == 0; i++)
        if (fds[SLOT_PENDING + i].revents)
            result = identify(s, &s->pending[i], err);
    if (result == 0 && (fds[SLOT_CONTROL].revents & ~POLLOUT))
        result = control_read(s, err);
    if (fds[SLOT_CONSOLE].revents || fds[SLOT_LOG].revents)
        vmm_process_drain(s->vmm);
    if (fds[SLOT_NOTIFY].revents)
        (void)!read(s->notify, &count, sizeof(count));
    control_write(s);
    if (result == 0 && fds[SLOT_MONITOR].revents && !s->ended)
        result = monitor_ended(s, err);
    if (result == 0 && (!s->run_sent || s->lost) && clock_monotonic_ns() >= s->deadline_ns)
        result = too_slow(s, err);
    return result;
}

/* A reader that went away is the reader's affair; a full disk is the user's. */
static int check_outputs(const struct session *s, struct err *err)
{
    for (int role = AGENT_ROLE_STDOUT; role <= AGENT_ROLE_STDERR; role++) {
        int code = atomic_load(&s->streams[role].write_error);

        if (code && code != EPIPE)
            return err_errno(err, -code, "write the command's output to standard %s",
                             role == AGENT_ROLE_STDERR ? "error" : "output");
        if (atomic_load(&s->streams[role].broken))
            return err_set(err, -EIO, "the command's output was cut off");
    }
    return 0;
}

static int session_init(struct session *s, const struct vm_session_options *options,
                        struct vmm_process *vmm, struct err *err)
{
    *s = (struct session){.options = options, .vmm = vmm, .control = -1, .terminal = {.fd = -1}};
    s->deadline_ns = clock_monotonic_ns() + options->boot_limit_s * NS_PER_S;
    s->status = 125;
    for (size_t i = 0; i < PENDING_MAX; i++)
        s->pending[i].fd = -1;
    buf_init(&s->in, CONTROL_IN_MAX);
    buf_init(&s->out, CONTROL_OUT_MAX);
    s->streams = calloc(AGENT_NR_ROLES, sizeof(*s->streams));
    s->notify = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!s->streams || s->notify < 0)
        return err_set(err, -ENOMEM, "out of memory or descriptors");
    return 0;
}

/* What a stuck thread uses stays, until the process ends. */
static void streams_done(struct session *s)
{
    bool stopped = true;

    for (size_t i = 0; s->streams && i < AGENT_NR_ROLES; i++)
        stopped = vm_stream_stop(&s->streams[i]) && stopped;
    if (!stopped)
        return;
    free(s->streams);
    fd_closep(&s->notify);
}

int vm_session_serve(const struct vm_session_options *options, struct vmm_process *vmm,
                     int *ret_status, struct err *err)
{
    struct session s;
    int result = session_init(&s, options, vmm, err);

    while (result == 0 && !(s.ended && outputs_done(&s)))
        result = session_turn(&s, err);
    terminal_restore(&s.terminal);
    if (result == 0 && (result = check_outputs(&s, err)) < 0)
        s.status = 125;
    for (size_t i = 0; i < PENDING_MAX; i++)
        close_pending(&s.pending[i]);
    fd_closep(&s.control);
    buf_done(&s.in);
    buf_done(&s.out);
    streams_done(&s);
    *ret_status = s.status;
    return result;
}
