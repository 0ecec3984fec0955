/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One poll loop: signals passed on, terminal proxied both ways, the container's process awaited by
 * its pidfd.
 */
#include "oci/foreground.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "oci/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_OUTPUT_MS 500

struct foreground {
    int pid_fd, signal_fd, master;
    struct notify_proxy *notify; /* or NULL */
    bool input_open;
    /* Input that the terminal has not taken yet: it is non-blocking, so a program that reads
     * nothing cannot stop its own output. */
    char pending[4096];
    size_t nr_pending;
};

static void forward_signal(struct foreground *f)
{
    struct signalfd_siginfo info;

    if (read(f->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if ((int)info.ssi_signo == FOREGROUND_PARENT_DIED)
        syscall(SYS_pidfd_send_signal, f->pid_fd, SIGKILL, NULL, 0);
    else if (info.ssi_signo == SIGWINCH && f->master >= 0)
        console_copy_size(f->master);
    else if (info.ssi_signo != SIGCHLD && info.ssi_signo != SIGPIPE)
        syscall(SYS_pidfd_send_signal, f->pid_fd, (int)info.ssi_signo, NULL, 0);
}

/* false at the end of the terminal. */
static bool copy_output(struct foreground *f)
{
    char data[16384];
    ssize_t n = read(f->master, data, sizeof(data));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false; /* EIO: the last slave is closed */
    return file_write_full(STDOUT_FILENO, data, (size_t)n) == 0;
}

static void copy_input(struct foreground *f, short input_events)
{
    ssize_t n;

    if (f->nr_pending == 0 && input_events) {
        n = read(STDIN_FILENO, f->pending, sizeof(f->pending));
        if (n > 0)
            f->nr_pending = (size_t)n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            f->input_open = false;
    }
    if (f->nr_pending == 0)
        return;
    n = write(f->master, f->pending, f->nr_pending);
    if (n > 0) {
        f->nr_pending -= (size_t)n;
        memmove(f->pending, f->pending + n, f->nr_pending);
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        f->nr_pending = 0;
    }
}

/* One round of poll; true when the first process has ended. */
static bool serve(struct foreground *f)
{
    bool terminal = f->master >= 0;
    struct pollfd fds[] = {
        {.fd = f->pid_fd, .events = POLLIN},
        {.fd = f->signal_fd, .events = POLLIN},
        {.fd = f->master, .events = (short)(POLLIN | (f->nr_pending ? POLLOUT : 0))},
        {.fd = terminal && f->input_open && !f->nr_pending ? STDIN_FILENO : -1, .events = POLLIN},
        {.fd = f->notify ? f->notify->fd : -1, .events = POLLIN},
    };

    if (poll(fds, ARRAY_LEN(fds), -1) < 0)
        return false;
    if (fds[4].revents)
        notify_pass(f->notify);
    if (fds[1].revents)
        forward_signal(f);
    if (terminal) {
        if (fds[3].revents || (fds[2].revents & POLLOUT))
            copy_input(f, fds[3].revents);
        if ((fds[2].revents & (POLLIN | POLLHUP | POLLERR)) && !copy_output(f))
            f->master = -1;
    }
    return fds[0].revents != 0;
}

int foreground_exit_with_parent(pid_t parent)
{
    sigset_t signals;

    /* Blocked until foreground_wait reads it: before that it must not end us with the container
     * half made. */
    sigemptyset(&signals);
    sigaddset(&signals, FOREGROUND_PARENT_DIED);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if (prctl(PR_SET_PDEATHSIG, FOREGROUND_PARENT_DIED, 0, 0, 0) < 0)
        return -errno;
    return getppid() == parent ? 0 : -ESRCH;
}

void foreground_hold_signals(sigset_t *ret_before)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, ret_before);
}

int foreground_wait(pid_t pid, int pid_fd, int master, struct notify_proxy *notify, int *ret_status,
                    struct err *err)
{
    struct foreground f = {
        .pid_fd = pid_fd, .signal_fd = -1, .master = master, .notify = notify, .input_open = true};
    CLEANUP(fd_closep) int signal_fd = -1;
    struct console_raw raw = {0};
    sigset_t all;
    int status = 0;

    sigfillset(&all);
    signal_fd = f.signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    if (master >= 0) {
        fcntl(master, F_SETFL, O_NONBLOCK);
        console_raw_enter(&raw);
    }
    while (!serve(&f))
        ;
    /* What the program wrote last is still on its way through the terminal, whose end comes after
     * it. The wait is for a terminal that somebody outside the container keeps open: that one has
     * no end. */
    while (f.master >= 0) {
        struct pollfd last = {.fd = f.master, .events = POLLIN};

        if (poll(&last, 1, LAST_OUTPUT_MS) <= 0 || !copy_output(&f))
            break;
    }
    console_raw_restore(&raw);
    if (waitpid(pid, &status, 0) < 0)
        return err_errno(err, -errno, "wait for the container");
    *ret_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return 0;
}
