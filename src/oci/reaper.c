/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first process forks the program and stays, with nothing of the host's open: signals come by a
 * descriptor, orphans by waitpid.
 */
#include "oci/reaper.h"

#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

bool reaper_is_wanted(const struct oci_spec *spec)
{
    const char *value = oci_spec_annotation(spec, "io.lodge.init");

    return value && strcmp(value, "true") == 0;
}

/* Reaps all that has died; exits when the program is among them. */
static void reap(pid_t program)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);

        if (pid <= 0)
            return;
        if (pid != program)
            continue;
        _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    }
}

__attribute__((noreturn)) static void wait_only(pid_t program)
{
    int status;

    for (;;) {
        pid_t pid = waitpid(-1, &status, 0);

        if (pid == program)
            _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
        if (pid < 0 && errno != EINTR)
            _exit(1);
    }
}

__attribute__((noreturn)) static void watch(pid_t program, const sigset_t *all, bool own_user)
{
    int signals = signalfd(-1, all, SFD_CLOEXEC);

    /* A system call filter may forbid it. */
    if (signals < 0)
        wait_only(program);
    /* Nothing of the host's is open or readable through us: /proc/1 belongs to the container. Where
     * that is the ordinary user who started it, and nobody else, hiding would only keep that user
     * from coming in later (exec). */
    prctl(PR_SET_DUMPABLE, own_user, 0, 0, 0);
    /* A descriptor, not sigwaitinfo: signals then look blocked from outside, which is how others
     * see that they are dealt with. */
    for (;;) {
        struct signalfd_siginfo info;

        if (read(signals, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
            if (errno != EINTR)
                wait_only(program);
            continue;
        }
        if (info.ssi_signo == SIGCHLD)
            reap(program);
        else
            kill(program, (int)info.ssi_signo);
    }
}

/*
 * What others see as process 1: this, not the runtime's command line, which names places of the
 * host. The arguments stand one behind the other, and the environment behind them.
 */
static void take_name(void)
{
    static const char name[] = "lodge-init";
    char *start = program_invocation_name, *end = environ ? environ[0] : NULL;

    if (end > start && (size_t)(end - start) >= sizeof(name)) {
        memset(start, 0, (size_t)(end - start));
        memcpy(start, name, sizeof(name));
    }
    prctl(PR_SET_NAME, name, 0, 0, 0);
}

int reaper_fork(bool terminal, bool own_user, int socket, struct err *err)
{
    sigset_t all, none;
    pid_t program;

    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &all, NULL);
    take_name();
    program = fork();
    if (program < 0)
        return err_errno(err, -errno, "start the program's process");
    if (program == 0) {
        setpgid(0, 0);
        /* SIGTTOU is blocked here, so taking the foreground from behind works. */
        if (terminal)
            tcsetpgrp(STDIN_FILENO, getpid());
        sigprocmask(SIG_SETMASK, &none, NULL);
        return 0;
    }
    setpgid(program, program);
    close(socket);
    close_range(3, ~0u, 0);
    watch(program, &all, own_user);
}
