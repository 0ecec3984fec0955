/* SPDX-License-Identifier: Apache-2.0 */
/* The shim's life: children that end, and what follows from it. */
#include "shim/shim.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/util.h"
#include "shim_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long outputs may stay open behind the guest's end, children may live, and clients may leave
 * unread what there is. */
#define DRAIN_NS     (2 * NS_PER_S)
#define CHILDREN_NS  (10 * NS_PER_S)
#define LEAVE_NS     (5 * NS_PER_S)
#define DISK_FULL_NS NS_PER_S

bool shim_take_reaped(struct shim *shim, pid_t pid, int *ret_status)
{
    for (size_t i = 0; i < shim->nr_reaped; i++)
        if (shim->reaped[i].pid == pid) {
            *ret_status = shim->reaped[i].status;
            shim->reaped[i] = shim->reaped[--shim->nr_reaped];
            return true;
        }
    return false;
}

int shim_kill(struct shim *shim, int number)
{
    /* It is our child and not reaped: the pid is its own. */
    if (shim->guest <= 0 || shim->guest_ended)
        return -ESRCH;
    return kill(shim->guest, number) < 0 ? -errno : 0;
}

#define OWN_HOOK "/lodge' failed: exit status 125: lodge: error: "

/* The last line of what the runtime logged, or of what it printed. */
static void runtime_error(struct shim *shim)
{
    CLEANUP(buf_donep) struct buf text;
    json_t *entry = NULL;
    char *line, *end;
    const char *words, *own;

    buf_init(&text, 256 << 10);
    if (!*shim->config.runtime_log ||
        file_load(AT_FDCWD, shim->config.runtime_log, &text, NULL) < 0 ||
        !(line = buf_string(&text)))
        return;
    for (end = line + strlen(line); end > line && end[-1] == '\n';)
        *--end = '\0';
    if ((end = strrchr(line, '\n')))
        line = end + 1;
    if (json_parse(line, strlen(line), "log", &entry, NULL) == 0 &&
        (words = json_string_value(json_object_get(entry, "msg")))) {
        /* What a hook of ours says needs no word of the runtime's about hooks. */
        own = strstr(words, OWN_HOOK);
        snprintf(shim->error, sizeof(shim->error), "%s", own ? own + strlen(OWN_HOOK) : words);
    }
    json_decref(entry);
}

static bool counted_oom(const char *path)
{
    CLEANUP(buf_donep) struct buf text;
    const char *at;

    buf_init(&text, 4096);
    if (file_load(AT_FDCWD, path, &text, NULL) < 0 || !buf_string(&text))
        return false;
    at = strstr(text.data, "oom_kill ");
    return at && strtoul(at + strlen("oom_kill "), NULL, 10) > 0;
}

static bool ended_by_oom(const struct shim *shim)
{
    char path[PATH_MAX];

    if (!*shim->config.cgroup || shim->exit_code != 128 + SIGKILL)
        return false;
    snprintf(path, sizeof(path), "/sys/fs/cgroup/memory%s/memory.oom_control", shim->config.cgroup);
    if (counted_oom(path))
        return true;
    snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.events", shim->config.cgroup);
    return counted_oom(path);
}

static void write_exit(struct shim *shim)
{
    json_t *event = shim_exited_event(shim);
    CLEANUP(freep) char *text = json_text(event, JSON_COMPACT);

    json_decref(event);
    if (text && file_replace(AT_FDCWD, shim->config.exit_file, text, strlen(text), 0600, NULL) == 0)
        shim->exit_written = true;
    else
        loop_timer_arm(shim->timer, clock_monotonic_ns() + DISK_FULL_NS);
}

/* The runtime's state and cgroup go away; what is left of them the manager removes later. */
static void start_delete(struct shim *shim)
{
    char *argv[] = {(char *)(uintptr_t)shim->config.program,
                    (char *)(uintptr_t) "--root",
                    (char *)(uintptr_t)shim->config.root,
                    (char *)(uintptr_t) "delete",
                    (char *)(uintptr_t) "--force",
                    (char *)(uintptr_t)shim->config.id,
                    NULL};
    const int none[3] = {-1, -1, -1};

    if (!*shim->config.program)
        return;
    shim->deleter = shim_spawn(shim, argv, none, -1, false);
}

/* From here on the exit is known and only has to be told. */
static void say_exit(struct shim *shim)
{
    shim->phase = SHIM_LEAVING;
    shim->finished_ns = (int64_t)clock_realtime_ns();
    shim->leave_by_ns = clock_monotonic_ns() + LEAVE_NS;
    shim->oom = ended_by_oom(shim);
    log_file_close(&shim->log);
    /* What a runtime says it also prints: a container's to a terminal that no client has. */
    guest_io_finish(&shim->io, shim->exit_code, shim->error_is_printed ? NULL : shim->error);
    start_delete(shim);
    write_exit(shim);
    shim_control_say(shim, shim_exited_event(shim));
    if (shim->exit_written)
        loop_timer_arm(shim->timer, shim->leave_by_ns);
}

/* The guest ended, or its runtime failed: what they printed is still read. */
static bool is_ending(const struct shim *shim)
{
    return shim->phase == SHIM_DRAINING || (shim->phase == SHIM_STARTING && shim->runtime_failed);
}

/* Over are its outputs, and who served it, such as the carrier of a user-mode network: whose ports
 * are then free for the next run. */
static bool is_drained(const struct shim *shim)
{
    uint64_t now = clock_monotonic_ns();

    return (guest_io_ended(&shim->io) || now >= shim->leave_by_ns) &&
           (shim->childless || now >= shim->ended_ns + CHILDREN_NS);
}

void shim_settle(struct shim *shim)
{
    bool late = clock_monotonic_ns() >= shim->leave_by_ns;

    if (is_ending(shim) && is_drained(shim))
        say_exit(shim);
    if (shim->phase == SHIM_LEAVING && shim->exit_written && shim->deleter <= 0 &&
        (guest_io_flushed(&shim->io) || late))
        loop_stop(shim->loop);
}

static void on_timer(void *context)
{
    struct shim *shim = context;

    if (shim->phase == SHIM_LEAVING && !shim->exit_written)
        write_exit(shim);
    shim_settle(shim);
    if (is_ending(shim) || (shim->phase == SHIM_LEAVING && shim->exit_written))
        loop_timer_arm(shim->timer, clock_monotonic_ns() + NS_PER_S);
}

static void drain(struct shim *shim)
{
    shim->ended_ns = clock_monotonic_ns();
    shim->leave_by_ns = shim->ended_ns + DRAIN_NS;
    loop_timer_arm(shim->timer, shim->leave_by_ns);
}

static void guest_ended(struct shim *shim, int status)
{
    shim->guest_ended = true;
    shim->exit_code = shim_exit_code(status, &shim->exit_signal);
    shim->phase = SHIM_DRAINING;
    drain(shim);
}

static void set_running(struct shim *shim)
{
    shim->phase = SHIM_RUNNING;
    shim->started_ns = (int64_t)clock_realtime_ns();
    shim_control_say(shim, shim_running_event(shim));
}

/* lodge-oci run --detach is done: the guest runs, or never will. */
static void runtime_ended(struct shim *shim, int status)
{
    int signal_number, code = shim_exit_code(status, &signal_number), guest_status;

    shim->runtime = 0;
    if (code == 0 && (shim->guest = shim_read_pid(shim->config.pid_file)) > 0) {
        set_running(shim);
        if (shim_take_reaped(shim, shim->guest, &guest_status))
            guest_ended(shim, guest_status);
        return;
    }
    shim->runtime_failed = true;
    shim->error_is_printed = !shim->config.tty;
    runtime_error(shim);
    if (!*shim->error)
        snprintf(shim->error, sizeof(shim->error), "the runtime ended with status %d", code);
    shim->exit_code = code == 126 || code == 127 ? code : 125;
    drain(shim);
}

/* A foreground runtime says by one byte that the guest's command runs; or "0" and why it never
 * will, which it has printed as well. */
static void on_ready(void *context, uint32_t events)
{
    struct shim *shim = context;
    char word[sizeof(shim->error)];
    ssize_t n = shim->ready_fd < 0 ? -1 : read(shim->ready_fd, word, sizeof(word) - 1);

    (void)events;
    if (shim->ready_fd < 0 || (n < 0 && errno == EAGAIN))
        return;
    word[n > 0 ? n : 0] = '\0';
    if (n > 0 && *word != '0' && shim->phase == SHIM_STARTING)
        set_running(shim);
    if (n > 1 && *word == '0' && shim->phase == SHIM_STARTING) {
        snprintf(shim->error, sizeof(shim->error), "%s", word + 1);
        shim->error_is_printed = true;
    }
    loop_fd_remove(shim->ready_watch);
    shim->ready_watch = NULL;
    fd_closep(&shim->ready_fd);
    shim->ready_fd = -1;
}

static void handle_child(struct shim *shim, pid_t pid, int status)
{
    if (pid == shim->guest && !shim->guest_ended) {
        on_ready(shim, 0); /* what it said is older than its end */
        guest_ended(shim, status);
    } else if (pid == shim->runtime && !shim->config.foreground) {
        runtime_ended(shim, status);
    } else if (pid == shim->deleter) {
        shim->deleter = 0;
    } else if (!shim_exec_reap(shim, pid, status) && shim->nr_reaped < SHIM_REAPED_MAX) {
        shim->reaped[shim->nr_reaped++] = (struct shim_reaped){pid, status};
    }
}

static void on_signals(void *context, uint32_t events)
{
    struct shim *shim = context;
    struct signalfd_siginfo info;
    int status;
    pid_t pid;

    (void)events;
    while (read(shim->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        continue;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        handle_child(shim, pid, status);
    shim->childless = pid < 0 && errno == ECHILD;
    shim_settle(shim);
}

static void on_outputs_end(void *context)
{
    shim_settle(context);
}

static void on_client_signal(int number, void *context)
{
    shim_kill(context, number);
}

static int open_signals(struct shim *shim, struct err *err)
{
    sigset_t set;

    sigfillset(&set);
    sigdelset(&set, SIGSEGV);
    sigdelset(&set, SIGBUS);
    sigdelset(&set, SIGABRT);
    sigdelset(&set, SIGILL);
    sigdelset(&set, SIGFPE);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if ((shim->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return err_errno(err, -errno, "signalfd");
    return loop_fd_add(shim->loop, shim->signal_fd, EPOLLIN, on_signals, shim, &shim->signal_watch,
                       err);
}

static int start(struct shim *shim, struct err *err)
{
    int result;

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if ((result = loop_new(&shim->loop, err)) < 0 ||
        (result = loop_timer_new(shim->loop, on_timer, shim, &shim->timer, err)) < 0 ||
        (result = open_signals(shim, err)) < 0)
        return result;
    guest_io_init(&shim->io, shim->loop, &shim->log);
    shim->io.on_end = on_outputs_end;
    shim->io.on_signal = on_client_signal;
    shim->io.context = shim;
    shim_control_add(shim, SHIM_FD_MANAGER, true);
    if (shim->config.client)
        guest_io_attach(&shim->io, SHIM_FD_CLIENT, NULL);
    if ((result = shim_control_listen(shim, err)) < 0 ||
        (result = log_file_open(&shim->log, shim->config.log_file, shim->config.log_max, err)) <
            0 ||
        (result = shim_launch(shim, err)) < 0)
        return result;
    if (shim->ready_fd >= 0)
        return loop_fd_add(shim->loop, shim->ready_fd, EPOLLIN, on_ready, shim, &shim->ready_watch,
                           err);
    return 0;
}

int shim_run(const char *config_path, struct err *err)
{
    CLEANUP(freep) struct shim *shim = calloc(1, sizeof(*shim));
    int result;

    if (!shim)
        return err_set(err, -ENOMEM, "out of memory");
    shim->listen_fd = shim->signal_fd = shim->ready_fd = shim->console_listen = -1;
    shim->log.fd = -1;
    if ((result = shim_config_load(config_path, &shim->config, err)) < 0)
        return result;
    if ((result = start(shim, err)) < 0 && shim->loop && shim->timer) {
        /* Said as an exit, so that there is one way to learn of a failure. */
        snprintf(shim->error, sizeof(shim->error), "%s", err->message);
        shim->exit_code = 125;
        say_exit(shim);
        result = 0;
        shim_settle(shim);
    }
    if (result == 0)
        result = loop_run(shim->loop);
    unlink(shim->config.socket);
    shim_exec_done_all(shim);
    guest_io_done(&shim->io);
    shim_control_done(shim);
    loop_fd_remove(shim->signal_watch);
    loop_fd_remove(shim->console_watch);
    loop_fd_remove(shim->ready_watch);
    loop_timer_free(shim->timer);
    loop_free(shim->loop);
    fd_closep(&shim->signal_fd);
    fd_closep(&shim->console_listen);
    fd_closep(&shim->ready_fd);
    shim_config_done(&shim->config);
    return result;
}
