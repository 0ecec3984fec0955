/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A further program in a running guest; one client has its streams. In a container lodge-oci exec
 * --detach makes it and its first process becomes our child; for one in a VM a child of ours stands
 * (session.h), which speaks with the guest's agent.
 */
#include "shim/shim.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static void remove_files(const struct shim_exec *exec)
{
    static const char *const ends[] = {"json", "pid", "tty", "log"};
    char path[PATH_MAX + 8];

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        snprintf(path, sizeof(path), "%s.%s", exec->files, ends[i]);
        unlink(path);
    }
}

static void exec_done(struct shim_exec *exec)
{
    guest_io_done(&exec->io);
    loop_fd_remove(exec->console_watch);
    fd_closep(&exec->console_listen);
    remove_files(exec);
    exec->shim = NULL;
}

/* The runtime's word for why it did not run the program; NULL when it left none. */
static json_t *failure(const struct shim_exec *exec)
{
    CLEANUP(buf_donep) struct buf log;
    char path[PATH_MAX + 8], *text;
    json_t *entry = NULL;

    buf_init(&log, 64 << 10);
    snprintf(path, sizeof(path), "%s.log", exec->files);
    if (file_load(AT_FDCWD, path, &log, NULL) < 0 || !log.length || !(text = buf_string(&log)) ||
        !strchr(text, '\n'))
        return NULL;
    *strchr(text, '\n') = '\0';
    json_parse(text, strlen(text), "log", &entry, NULL);
    return entry;
}

/* The runtime's exit status says only that it failed (as runc's does), so its words have to. */
static int failure_code(const struct shim_exec *exec)
{
    json_t *entry = failure(exec);
    const char *words = json_string_value(json_object_get(entry, "msg")) ?: "";
    int code = strstr(words, "not found") || strstr(words, "No such file") ? 127
               : strstr(words, "ermission denied")                         ? 126
                                                                           : 125;

    json_decref(entry);
    return code;
}

/* Freed when the program has ended, its output is read, and its client has it all. */
static void exec_settle(struct shim_exec *exec)
{
    bool lost = guest_io_flushed(&exec->io); /* the client went away */

    if (exec->over && (guest_io_ended(&exec->io) || lost) && exec->exit_code >= 0) {
        int code = exec->exit_code;
        json_t *entry = exec->pid == 0 ? failure(exec) : NULL;

        exec->exit_code = -1;
        /* Without a terminal the runtime has printed it to the client. */
        guest_io_finish(
            &exec->io, code,
            exec->console_listen < 0 ? NULL : json_string_value(json_object_get(entry, "msg")));
        json_decref(entry);
    }
    if (exec->over && exec->exit_code < 0 && guest_io_flushed(&exec->io))
        exec_done(exec);
}

static void on_end(void *context)
{
    exec_settle(context);
}

static void on_signal(int number, void *context)
{
    struct shim_exec *exec = context;

    const union sigval value = {.sival_int = number};

    if (exec->pid <= 0 || exec->over)
        return;
    if (exec->vm)
        sigqueue(exec->pid, SIGRTMAX, value);
    else
        kill(exec->pid, number);
}

/* A guest that does not answer must not keep what stands for its program here. */
static void on_lost(void *context)
{
    const struct shim_exec *exec = context;

    if (exec->vm && exec->pid > 0 && !exec->over)
        kill(exec->pid, SIGTERM);
}

static void on_console(void *context, uint32_t events)
{
    struct shim_exec *exec = context;
    int master = shim_console_accept(exec->console_listen);

    (void)events;
    if (master >= 0 && exec->io.output[0] < 0)
        guest_io_open_terminal(&exec->io, master, NULL);
    else if (master >= 0)
        close(master);
}

/* The guest's own terminal does the work: this one only passes bytes and the size. */
static int open_raw_terminal(struct shim_exec *exec, int theirs[3], struct err *err)
{
    struct termios raw;
    int master, slave;

    if (openpty(&master, &slave, NULL, NULL, NULL) < 0)
        return err_errno(err, -errno, "open a terminal");
    fcntl(master, F_SETFD, FD_CLOEXEC);
    if (tcgetattr(slave, &raw) == 0) {
        cfmakeraw(&raw);
        tcsetattr(slave, TCSANOW, &raw);
    }
    for (int i = 0; i < 3; i++)
        theirs[i] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
    close(slave);
    return guest_io_open_terminal(&exec->io, master, err);
}

static int open_streams(struct shim_exec *exec, bool tty, bool stdin_open, int theirs[3],
                        struct err *err)
{
    int ours[3] = {-1, -1, -1};

    if (tty && exec->vm)
        return open_raw_terminal(exec, theirs, err);
    if (tty) {
        char path[PATH_MAX + 8];

        snprintf(path, sizeof(path), "%s.tty", exec->files);
        return shim_console_listen(exec->shim, path, on_console, exec, &exec->console_listen,
                                   &exec->console_watch, err);
    }
    for (int i = 0; i < 3; i++) {
        int ends[2];

        if (i == 0 && !stdin_open)
            continue;
        if (pipe2(ends, O_CLOEXEC) < 0)
            return err_errno(err, -errno, "pipe");
        theirs[i] = ends[i == 0 ? 0 : 1];
        ours[i] = ends[i == 0 ? 1 : 0];
    }
    return guest_io_open(&exec->io, ours[0], ours[1], ours[2], err);
}

static int start_runtime(struct shim_exec *exec, const json_t *process, const int theirs[3],
                         struct err *err)
{
    const struct shim_config *config = &exec->shim->config;
    CLEANUP(freep) char *text = json_text(process, 0);
    char json[PATH_MAX + 8], pid[PATH_MAX + 8], tty[PATH_MAX + 8], log[PATH_MAX + 8];
    const char *argv[] = {config->program,
                          "--root",
                          config->root,
                          "--log",
                          log,
                          "--log-format",
                          "json",
                          "exec",
                          "--detach",
                          "--pid-file",
                          pid,
                          "--process",
                          json,
                          "--console-socket",
                          tty,
                          config->id,
                          NULL};
    int result;

    snprintf(json, sizeof(json), "%s.json", exec->files);
    snprintf(pid, sizeof(pid), "%s.pid", exec->files);
    snprintf(tty, sizeof(tty), "%s.tty", exec->files);
    snprintf(log, sizeof(log), "%s.log", exec->files);
    if (!json_is_true(json_object_get(process, "terminal"))) {
        argv[13] = config->id;
        argv[14] = NULL;
    }
    if (!text)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = file_replace_unsynced(AT_FDCWD, json, text, strlen(text), 0600, err)) < 0)
        return result;
    exec->runtime = shim_spawn(exec->shim, (char *const *)(uintptr_t)argv, theirs, -1, false);
    return exec->runtime < 0 ? err_errno(err, exec->runtime, "start '%s'", argv[0]) : 0;
}

static int start_session(struct shim_exec *exec, const json_t *process, bool stdin_open,
                         const int theirs[3], struct err *err)
{
    char json[PATH_MAX + 8];
    const char *argv[] = {"/proc/self/exe", "--session", exec->shim->config.agent_socket, json,
                          NULL};
    json_t *request = json_copy((json_t *)(uintptr_t)process);
    CLEANUP(freep) char *text = NULL;
    int result;

    json_object_set_new(request, "stdin", json_boolean(stdin_open));
    text = json_text(request, 0);
    json_decref(request);
    snprintf(json, sizeof(json), "%s.json", exec->files);
    if (!text)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = file_replace_unsynced(AT_FDCWD, json, text, strlen(text), 0600, err)) < 0)
        return result;
    exec->pid = shim_spawn(exec->shim, (char *const *)(uintptr_t)argv, theirs, -1,
                           json_is_true(json_object_get(process, "terminal")));
    if (exec->pid > 0)
        return 0;
    result = exec->pid;
    exec->pid = 0;
    return err_errno(err, result, "start '%s'", argv[0]);
}

int shim_exec_start(struct shim *shim, const json_t *process, bool stdin_open, int client,
                    struct err *err)
{
    struct shim_exec *exec = NULL;
    bool vm = *shim->config.agent_socket;
    int theirs[3] = {-1, -1, -1}, result;

    for (size_t i = 0; i < SHIM_EXECS_MAX && !exec; i++)
        if (!shim->execs[i].shim)
            exec = &shim->execs[i];
    if (!exec || !json_is_object(process) || (!vm && !*shim->config.program)) {
        close(client);
        if (exec)
            return err_set(err, -EOPNOTSUPP, "programs cannot be added to this instance");
        return err_set(err, -EMFILE, "%d programs were added to it already; end one of them",
                       SHIM_EXECS_MAX);
    }
    *exec = (struct shim_exec){.shim = shim, .vm = vm, .console_listen = -1};
    snprintf(exec->files, sizeof(exec->files), "%s.x%zu", shim->config.pid_file,
             (size_t)(exec - shim->execs));
    remove_files(exec);
    guest_io_init(&exec->io, shim->loop, NULL);
    exec->io.on_end = on_end;
    exec->io.on_signal = on_signal;
    exec->io.on_lost = on_lost;
    exec->io.context = exec;
    if ((result = guest_io_attach(&exec->io, client, err)) == 0 &&
        (result = open_streams(exec, json_is_true(json_object_get(process, "terminal")), stdin_open,
                               theirs, err)) == 0)
        result = vm ? start_session(exec, process, stdin_open, theirs, err)
                    : start_runtime(exec, process, theirs, err);
    for (int i = 0; i < 3; i++)
        fd_closep(&theirs[i]);
    if (result < 0)
        exec_done(exec);
    return result;
}

static void program_ended(struct shim_exec *exec, int status)
{
    int number;

    exec->exit_code = shim_exit_code(status, &number);
    exec->over = true;
}

bool shim_exec_reap(struct shim *shim, pid_t pid, int status)
{
    for (size_t i = 0; i < SHIM_EXECS_MAX; i++) {
        struct shim_exec *exec = &shim->execs[i];
        char path[PATH_MAX + 8];
        int code, program_status;

        if (!exec->shim || exec->over || (pid != exec->runtime && pid != exec->pid))
            continue;
        if (pid == exec->pid) {
            program_ended(exec, status);
        } else {
            int number;

            code = shim_exit_code(status, &number);
            exec->runtime = -1;
            snprintf(path, sizeof(path), "%s.pid", exec->files);
            if (code == 0 && (exec->pid = shim_read_pid(path)) > 0) {
                if (shim_take_reaped(shim, exec->pid, &program_status))
                    program_ended(exec, program_status);
            } else {
                exec->exit_code = failure_code(exec);
                exec->over = true;
            }
        }
        exec_settle(exec);
        return true;
    }
    return false;
}

void shim_exec_done_all(struct shim *shim)
{
    for (size_t i = 0; i < SHIM_EXECS_MAX; i++)
        if (shim->execs[i].shim)
            exec_done(&shim->execs[i]);
}
