/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's loop: control messages, the command's end, the pumps of its streams, and who comes
 * for a session (session.c), in one poll(2). States of a session and what moves them:
 *
 *      idle ──RUN: run_start──▶ running ──SIGCHLD: reap──▶ draining ──pumps ended: run_finish──▶
 * idle any  ──POWEROFF, control connection closed──▶ over
 *
 * Output is drained to its end before EXITED is sent, so that EXITED is the last word about a run.
 */
#include "guest/agent.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/util.h"
#include "guest/init.h"
#include "guest/pump.h"
#include "guest/session.h"
#include "guest/spawn.h"
#include "guest/transport.h"

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define CONTROL_IN_MAX  (AGENT_FRAME_MAX + AGENT_HEADER_SIZE)
#define CONTROL_OUT_MAX (64u << 10)
#define READ_SIZE       (64u << 10)
#define SESSIONS_MAX    64

struct agent {
    const char *spec;
    bool init;
    int control, signals;
    int sessions; /* the listener; -1: none */
    pid_t session_pids[SESSIONS_MAX];
    struct buf in, out;
    uint64_t ready_ns;
    bool greeted; /* HELLO of the host seen */
    bool over;
    /* The run: pid > 0 while the command lives, exited until EXITED is sent. */
    pid_t pid;
    bool exited;
    int status;
    uint64_t started_ns;
    int terminal;
    struct pump pumps[3];
};

static void send_error(struct agent *agent, uint32_t exit_status, const char *message)
{
    struct agent_error error = {.exit_status = exit_status, .message = message};

    if (agent_error_encode(&agent->out, &error) < 0)
        agent->over = true;
}

static void send_info(struct agent *agent)
{
    struct sysinfo memory = {0};
    struct utsname names = {0};
    struct agent_info info;

    uname(&names);
    sysinfo(&memory);
    info = (struct agent_info){.sysname = names.sysname,
                               .release = names.release,
                               .version = names.version,
                               .machine = names.machine,
                               .nr_cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
                               .memory_bytes = (uint64_t)memory.totalram * memory.mem_unit,
                               .uptime_ns = clock_read_ns(CLOCK_BOOTTIME),
                               .ready_ns = agent->ready_ns};
    if (agent_info_encode(&agent->out, &info) < 0)
        agent->over = true;
}

/* Opens the data connection of a role and says which it is. */
static int data_connect(struct agent *agent, enum agent_role role, int *ret, struct err *err)
{
    struct agent_hello hello = {.version = AGENT_VERSION, .role = (uint16_t)role};
    CLEANUP(fd_closep) int fd = -1;
    CLEANUP(buf_donep) struct buf frame;
    int result;

    buf_init(&frame, 256);
    if ((result = transport_connect(agent->spec, role, &fd, err)) < 0)
        return result;
    if ((result = agent_hello_encode(&frame, &hello)) == 0)
        result = file_write_full(fd, frame.data, frame.length);
    if (result < 0)
        return err_errno(err, result, "open a data connection");
    *ret = TAKE_FD(fd);
    return 0;
}

static int pumps_start(struct agent *agent, struct spawned *spawned, bool tty, struct err *err)
{
    for (int role = AGENT_ROLE_STDIN; role <= AGENT_ROLE_STDERR; role++) {
        int conn = -1, result;

        if (spawned->files[role] < 0)
            continue;
        if ((result = data_connect(agent, (enum agent_role)role, &conn, err)) < 0)
            return result;
        result = pump_init(&agent->pumps[role - 1], role == AGENT_ROLE_STDIN, tty,
                           TAKE_FD(spawned->files[role]), conn);
        if (result < 0)
            return err_set(err, result, "out of memory for a stream's buffer");
    }
    return 0;
}

static void run_start(struct agent *agent, const struct agent_run *run)
{
    struct spawned spawned;
    struct agent_started started = {0};
    struct err err = ERR_INIT;
    uint32_t exit_status = 125;

    if (agent->pid > 0 || agent->exited) {
        send_error(agent, 125, "a command is running already");
        return;
    }
    if (agent->init)
        init_identify(run->hostname, run->resolv_conf);
    if (spawn_command(run, &spawned, &exit_status, &err) < 0) {
        send_error(agent, exit_status, err.message);
        return;
    }
    agent->started_ns = clock_read_ns(CLOCK_BOOTTIME);
    agent->pid = spawned.pid;
    agent->terminal = TAKE_FD(spawned.terminal);
    started.pid = (uint32_t)spawned.pid;
    started.uptime_ns = agent->started_ns;
    if (pumps_start(agent, &spawned, run->flags & AGENT_RUN_TTY, &err) < 0) {
        send_error(agent, 125, err.message);
        kill(-agent->pid, SIGKILL);
    } else if (agent_started_encode(&agent->out, &started) < 0) {
        agent->over = true;
    }
    spawned_close(&spawned);
}

static void run_finish(struct agent *agent)
{
    struct agent_exited exited = {.run_ns = clock_read_ns(CLOCK_BOOTTIME) - agent->started_ns};

    for (size_t i = 0; i < ARRAY_LEN(agent->pumps); i++)
        if (agent->pumps[i].active)
            return;
    for (size_t i = 0; i < ARRAY_LEN(agent->pumps); i++)
        pump_done(&agent->pumps[i]);
    fd_closep(&agent->terminal);
    agent->terminal = -1;
    /* The host ends the machine when it hears of the end. */
    if (agent->init)
        sync();
    if (WIFSIGNALED(agent->status))
        exited.signal = (uint32_t)WTERMSIG(agent->status);
    else
        exited.status = (uint32_t)WEXITSTATUS(agent->status);
    if (agent_exited_encode(&agent->out, &exited) < 0)
        agent->over = true;
    agent->exited = false;
}

/* A process for each; it keeps nothing of ours open but the console. */
static void session_accept(struct agent *agent)
{
    CLEANUP(fd_closep)
    int conn = accept4(agent->sessions, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    pid_t *place = NULL, parent = getpid(), pid;

    for (size_t i = 0; i < SESSIONS_MAX && !place; i++)
        if (!agent->session_pids[i])
            place = &agent->session_pids[i];
    if (conn < 0 || !place || (pid = fork()) < 0)
        return;
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        if (conn > 3)
            close_range(3, (unsigned)conn - 1, 0);
        close_range((unsigned)conn + 1, ~0u, 0);
        _exit(session_serve(TAKE_FD(conn)));
    }
    *place = pid;
}

static void session_reaped(struct agent *agent, pid_t pid)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        if (agent->session_pids[i] == pid)
            agent->session_pids[i] = 0;
}

static void reap(struct agent *agent)
{
    struct signalfd_siginfo info;
    pid_t pid;
    int status;

    (void)!read(agent->signals, &info, sizeof(info));
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != agent->pid) {
            session_reaped(agent, pid);
            continue;
        }
        agent->pid = 0;
        agent->exited = true;
        agent->status = status;
        /* The command is what the machine was for: what it left behind ends with it, which also
         * brings its pipes to their end. */
        if (agent->init)
            kill(-1, SIGKILL);
        for (size_t i = 0; i < ARRAY_LEN(agent->pumps); i++)
            pump_abandon(&agent->pumps[i]);
    }
}

static int handle_hello(struct agent *agent, const struct agent_frame *frame)
{
    struct agent_hello hello;
    int result = agent_hello_decode(frame, &hello);

    if (result < 0 || hello.role != AGENT_ROLE_CONTROL)
        return -EPROTO;
    agent->greeted = true;
    send_info(agent);
    return 0;
}

static int handle_frame(struct agent *agent, const struct agent_frame *frame)
{
    struct agent_run run;
    uint16_t rows, cols;
    uint32_t number;
    int result;

    if (!agent->greeted)
        return frame->type == AGENT_HELLO ? handle_hello(agent, frame) : -EPROTO;
    switch (frame->type) {
    case AGENT_RUN:
        if ((result = agent_run_decode(frame, &run)) < 0)
            return result;
        run_start(agent, &run);
        agent_run_done(&run);
        return 0;
    case AGENT_RESIZE:
        if ((result = agent_resize_decode(frame, &rows, &cols)) == 0)
            spawn_resize(agent->terminal, rows, cols);
        return result;
    case AGENT_SIGNAL:
        /* To the whole foreground job, as a terminal would do it. */
        if ((result = agent_signal_decode(frame, &number)) == 0 && agent->pid > 0)
            kill(-agent->pid, (int)number);
        return result;
    case AGENT_QUERY:
        send_info(agent);
        return 0;
    case AGENT_POWEROFF:
        agent->over = true;
        return 0;
    default:
        return -EPROTO;
    }
}

static int control_read(struct agent *agent, struct err *err)
{
    struct agent_frame frame;
    ssize_t n;
    int result = buf_reserve(&agent->in, MIN(READ_SIZE, agent->in.cap - agent->in.length));

    if (result < 0)
        return err_set(err, result, "out of memory for control messages");
    n = read(agent->control, agent->in.data + agent->in.length,
             agent->in.capacity - agent->in.length);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        agent->over = true;
        return 0;
    }
    agent->in.length += (size_t)n;
    while ((result = agent_frame_parse(agent->in.data, agent->in.length, &frame)) == 1) {
        if ((result = handle_frame(agent, &frame)) < 0)
            break;
        buf_consume(&agent->in, AGENT_HEADER_SIZE + (size_t)frame.length);
    }
    if (result < 0)
        return err_set(err, result, "the host sent a malformed control message");
    return 0;
}

static void control_write(struct agent *agent)
{
    ssize_t n;

    if (agent->out.length == 0)
        return;
    n = write(agent->control, agent->out.data, agent->out.length);
    if (n > 0)
        buf_consume(&agent->out, (size_t)n);
    else if (errno != EAGAIN && errno != EINTR)
        agent->over = true;
}

static int agent_turn(struct agent *agent, struct err *err)
{
    struct pollfd fds[3 + 3 * PUMP_POLL_MAX];
    unsigned nr = 3;
    int result = 0;

    fds[0] = (struct pollfd){.fd = agent->control,
                             .events = (short)(POLLIN | (agent->out.length ? POLLOUT : 0))};
    fds[1] = (struct pollfd){.fd = agent->signals, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = agent->sessions, .events = POLLIN};
    for (size_t i = 0; i < ARRAY_LEN(agent->pumps); i++)
        nr += pump_poll(&agent->pumps[i], fds + nr);
    if (poll(fds, nr, -1) < 0 && errno != EINTR)
        return err_errno(err, -errno, "poll");
    if (fds[0].revents & ~POLLOUT)
        result = control_read(agent, err);
    if (fds[1].revents)
        reap(agent);
    if (fds[2].revents)
        session_accept(agent);
    for (size_t i = 0; i < ARRAY_LEN(agent->pumps); i++)
        if (agent->pumps[i].active)
            pump_work(&agent->pumps[i]);
    if (agent->exited)
        run_finish(agent);
    control_write(agent);
    return result;
}

static int agent_open(struct agent *agent, struct err *err)
{
    struct agent_hello hello = {.version = AGENT_VERSION, .role = AGENT_ROLE_CONTROL};
    sigset_t children;
    int result;

    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    if ((agent->signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return err_errno(err, -errno, "signalfd");
    if ((result = transport_connect(agent->spec, AGENT_ROLE_CONTROL, &agent->control, err)) < 0)
        return result;
    if ((result = agent_hello_encode(&agent->out, &hello)) < 0)
        return err_set(err, result, "out of memory");
    control_write(agent);
    return 0;
}

static void agent_init(struct agent *agent, const char *spec, bool init)
{
    *agent = (struct agent){
        .spec = spec, .init = init, .control = -1, .signals = -1, .sessions = -1, .terminal = -1};
    for (size_t i = 0; i < ARRAY_LEN(agent->pumps); i++)
        agent->pumps[i] = (struct pump){.file = -1, .conn = -1};
    buf_init(&agent->in, CONTROL_IN_MAX);
    buf_init(&agent->out, CONTROL_OUT_MAX);
    agent->ready_ns = clock_read_ns(CLOCK_BOOTTIME);
}

static void agent_done(struct agent *agent)
{
    for (size_t i = 0; i < ARRAY_LEN(agent->pumps); i++)
        pump_done(&agent->pumps[i]);
    fd_closep(&agent->control);
    fd_closep(&agent->signals);
    fd_closep(&agent->sessions);
    fd_closep(&agent->terminal);
    buf_done(&agent->in);
    buf_done(&agent->out);
}

int agent_serve(const char *spec, bool init, struct err *err)
{
    struct agent agent;
    int result;

    agent_init(&agent, spec, init);
    signal(SIGPIPE, SIG_IGN);
    /* A monitor without them serves the command all the same. */
    transport_listen(spec, &agent.sessions, NULL);
    result = agent_open(&agent, err);
    while (result == 0 && !agent.over)
        result = agent_turn(&agent, err);
    if (agent.pid > 0)
        kill(-agent.pid, SIGKILL);
    agent_done(&agent);
    return result;
}

void agent_report_failure(const char *spec, const struct err *failure)
{
    struct agent agent;
    struct err ignored = ERR_INIT;

    agent_init(&agent, spec, false);
    if (agent_open(&agent, &ignored) == 0) {
        send_error(&agent, 125, failure->message);
        control_write(&agent);
        /* The host hangs up when it has read it. */
        while (!agent.over && control_read(&agent, &ignored) == 0) {
            struct pollfd fd = {.fd = agent.control, .events = POLLIN};

            if (poll(&fd, 1, 5000) <= 0)
                break;
        }
    }
    agent_done(&agent);
}
