/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting the guest: its pipes or its terminal, and the runtime's process.
 *
 * A runtime that detaches gets the guest's own ends of the pipes and hands them on; a foreground
 * one (a VM's session) keeps them, and gets its terminal from us.
 */
#include "shim/shim.h"

#include "base/fdpass.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* The calling process, which has one thread. One that is not there any more limits nothing. */
static void enter_cgroups(const struct shim *shim)
{
    for (char **path = shim->config.enter; path && *path; path++)
        file_write_string(AT_FDCWD, *path, "0");
}

static _Noreturn void child_main(const struct shim *shim, char *const argv[], const int files[3],
                                 int pass, bool own_terminal)
{
    sigset_t none;

    setsid();
    enter_cgroups(shim);
    for (int i = 0; i < 3; i++) {
        int fd = files[i] >= 0 ? files[i] : open("/dev/null", O_RDWR);

        if (fd != i)
            dup2(fd, i);
        else
            fcntl(fd, F_SETFD, 0);
    }
    if (own_terminal)
        ioctl(STDIN_FILENO, TIOCSCTTY, 0);
    if (pass >= 0 && pass != 3)
        dup2(pass, 3);
    else if (pass == 3)
        fcntl(3, F_SETFD, 0);
    close_range(pass >= 0 ? 4 : 3, ~0u, 0);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(argv[0], argv, shim->config.env);
    dprintf(STDERR_FILENO, "lodge-shim: cannot run '%s': %s\n", argv[0], strerror(errno));
    _exit(125);
}

pid_t shim_spawn(const struct shim *shim, char *const argv[], const int files[3], int pass,
                 bool own_terminal)
{
    pid_t pid = fork();

    if (pid == 0)
        child_main(shim, argv, files, pass, own_terminal);
    return pid < 0 ? -errno : pid;
}

pid_t shim_read_pid(const char *path)
{
    CLEANUP(buf_donep) struct buf text;

    buf_init(&text, 64);
    if (file_load(AT_FDCWD, path, &text, NULL) < 0)
        return 0;
    return (pid_t)strtol(buf_string(&text) ?: "", NULL, 10);
}

int shim_exit_code(int wait_status, int *ret_signal)
{
    *ret_signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
    return *ret_signal ? 128 + *ret_signal : WEXITSTATUS(wait_status);
}

int shim_console_listen(struct shim *shim, const char *path, loop_fd_fn *fn, void *context,
                        int *ret_fd, struct loop_fd **ret_watch, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result;

    if (fd < 0)
        return err_errno(err, -errno, "socket");
    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
        (int)sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "the socket path '%s' is too long", path);
    unlink(path);
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
        return err_errno(err, -errno, "listen at '%s'", path);
    if ((result = loop_fd_add(shim->loop, fd, EPOLLIN, fn, context, ret_watch, err)) < 0)
        return result;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int shim_console_accept(int listen_fd)
{
    CLEANUP(fd_closep) int connection = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    char name[64];
    int master = -1;

    if (connection >= 0)
        fdpass_receive(connection, name, sizeof(name), &master);
    return master;
}

static void on_console(void *context, uint32_t events)
{
    struct shim *shim = context;
    int master = shim_console_accept(shim->console_listen);

    (void)events;
    if (master >= 0 && shim->io.output[0] < 0)
        guest_io_open_terminal(&shim->io, master, NULL);
    else if (master >= 0)
        close(master);
}

static void close_all(int *fds, size_t nr)
{
    for (size_t i = 0; i < nr; i++)
        fd_closep(&fds[i]);
}

/* ours: what guest_io_open takes. */
static int make_pipes(const struct shim *shim, int theirs[3], int ours[3], struct err *err)
{
    for (int i = 0; i < 3; i++) {
        int ends[2];

        if (i == 0 && !shim->config.stdin_open)
            continue;
        if (pipe2(ends, O_CLOEXEC) < 0)
            return err_errno(err, -errno, "pipe");
        theirs[i] = ends[i == 0 ? 0 : 1];
        ours[i] = ends[i == 0 ? 1 : 0];
    }
    return 0;
}

static int make_terminal(struct shim *shim, int theirs[3], struct err *err)
{
    int master, slave;

    if (openpty(&master, &slave, NULL, NULL, NULL) < 0)
        return err_errno(err, -errno, "open a terminal");
    fcntl(master, F_SETFD, FD_CLOEXEC);
    fcntl(slave, F_SETFD, FD_CLOEXEC);
    for (int i = 0; i < 3; i++)
        theirs[i] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
    close(slave);
    return guest_io_open_terminal(&shim->io, master, err);
}

int shim_launch(struct shim *shim, struct err *err)
{
    const struct shim_config *config = &shim->config;
    int theirs[3] = {-1, -1, -1}, ours[3] = {-1, -1, -1}, ready[2] = {-1, -1}, result = 0;
    bool own_terminal = config->tty && config->foreground;

    if (own_terminal)
        result = make_terminal(shim, theirs, err);
    else if (config->tty)
        result = shim_console_listen(shim, config->console_socket, on_console, shim,
                                     &shim->console_listen, &shim->console_watch, err);
    else if ((result = make_pipes(shim, theirs, ours, err)) == 0)
        result = guest_io_open(&shim->io, ours[0], ours[1], ours[2], err);
    if (result == 0 && config->foreground && pipe2(ready, O_CLOEXEC | O_NONBLOCK) < 0)
        result = err_errno(err, -errno, "pipe");
    if (result == 0) {
        shim->runtime = shim_spawn(shim, config->runtime, theirs, ready[1], own_terminal);
        if (shim->runtime < 0)
            result = err_errno(err, shim->runtime, "start '%s'", config->runtime[0]);
        else if (config->foreground)
            shim->guest = shim->runtime;
    }
    close_all(theirs, 3);
    fd_closep(&ready[1]);
    shim->ready_fd = ready[0];
    return result;
}
