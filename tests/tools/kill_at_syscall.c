/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill_at_syscall N PROGRAM [ARG...]: runs a program under ptrace and kills the process that makes
 * the Nth system call, counted over the program and all it forks, at that call's entry. With the
 * first argument `pN` only the program's own calls count, with `cN` only its children's. `fN`,
 * `fpN`, `fcN`: nobody is killed, that one call fails with ENOMEM.
 *
 * Exit status: 0 killed, or the call failed and the program has ended by itself (128 + n: by signal
 * n); 10 it ended before its Nth call; 2 wrong usage; 1 failure. Processes that are left behind
 * when the program ends are let go, not killed: they are what the test looks for.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define SYSCALL_STOP (SIGTRAP | 0x80)
#define TRACED_MAX   64

struct traced {
    pid_t pid;
    bool inside; /* between a call's entry and its exit */
    bool fails;  /* this call was refused */
};

static struct traced *find(struct traced *all, pid_t pid)
{
    for (int i = 0; i < TRACED_MAX; i++)
        if (all[i].pid == pid)
            return &all[i];
    for (int i = 0; i < TRACED_MAX; i++)
        if (all[i].pid == 0) {
            all[i] = (struct traced){.pid = pid};
            return &all[i];
        }
    return NULL;
}

static bool is_new_child(int status)
{
    int event = status >> 16;

    return event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE;
}

static void set_register(pid_t pid, size_t offset, long value)
{
    ptrace(PTRACE_POKEUSER, pid, (void *)offset, (void *)value);
}

/* The kernel is given a number that it does not know; the exit then gets its error. Not for the end
 * of a process, not where the C library itself gives up before a program has begun, and not for
 * calls that never fail or that, like close, act even so. */
static bool refuse(pid_t pid)
{
    static const long never[] = {SYS_exit,    SYS_exit_group,     SYS_arch_prctl, SYS_brk,
                                 SYS_close,   SYS_getuid,         SYS_geteuid,    SYS_getgid,
                                 SYS_getegid, SYS_getpid,         SYS_getppid,    SYS_gettid,
                                 SYS_umask,   SYS_set_tid_address};
    size_t place = offsetof(struct user_regs_struct, orig_rax);
    long number = ptrace(PTRACE_PEEKUSER, pid, (void *)place, NULL);

    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        if (number == never[i])
            return false;
    set_register(pid, place, -1);
    return true;
}

static bool is_crash(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGABRT || number == SIGILL ||
           number == SIGFPE;
}

/* Ends with the status for main. */
static int follow(pid_t program, char whose, long number, bool fails)
{
    struct traced all[TRACED_MAX] = {0};
    bool refused = false;
    long count = 0;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        struct traced *traced = find(all, pid);
        int pass = 0;

        if (!traced)
            return 1;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (fails && WIFSIGNALED(status) && is_crash(WTERMSIG(status)))
                return 128 + WTERMSIG(status);
            if (pid == program)
                return fails && count >= number ? 0 : 10;
            traced->pid = 0;
            continue;
        }
        if (WSTOPSIG(status) == SYSCALL_STOP) {
            bool counts = whose == 0 || (whose == 'p') == (pid == program);

            traced->inside = !traced->inside;
            if (traced->inside && counts && ++count == number) {
                if (!fails) {
                    kill(pid, SIGKILL);
                    return 0;
                }
                traced->fails = refuse(pid);
                refused = true;
            } else if (!traced->inside && traced->fails) {
                set_register(pid, offsetof(struct user_regs_struct, rax), -ENOMEM);
                traced->fails = false;
            }
        } else if (status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP &&
                   WSTOPSIG(status) != SIGSTOP) {
            pass = WSTOPSIG(status);
        } else if (is_new_child(status)) {
            /* It stops by itself and is found then. */
            traced->inside = true;
        }
        /* Once the call has failed, only the end is of interest. */
        ptrace(refused && !traced->fails ? PTRACE_CONT : PTRACE_SYSCALL, pid, NULL,
               (void *)(long)pass);
    }
    return 10;
}

int main(int argc, char **argv)
{
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                   PTRACE_O_TRACECLONE;
    const char *at = argc > 2 ? argv[1] : "";
    bool fails = *at == 'f' && at++;
    char whose = *at == 'p' || *at == 'c' ? *at++ : 0;
    long number = strtol(at, NULL, 10);
    int status, result;
    pid_t program;

    if (number < 1) {
        fprintf(stderr, "usage: kill_at_syscall [f][p|c]N PROGRAM [ARG...]\n");
        return 2;
    }
    program = fork();
    if (program == 0) {
        raise(SIGSTOP);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    if (program < 0 || waitpid(program, &status, WUNTRACED) != program)
        return 1;
    if (ptrace(PTRACE_SEIZE, program, NULL, (void *)options) < 0) {
        fprintf(stderr, "kill_at_syscall: ptrace: %s\n", strerror(errno));
        return 1;
    }
    kill(program, SIGCONT);
    ptrace(PTRACE_SYSCALL, program, NULL, NULL);
    result = follow(program, whose, number, fails);
    if (result == 0 && !fails) {
        /* Whoever was killed is reaped; the program itself may go on when it was a child of its. */
        for (int i = 0; i < 2000 && waitpid(program, &status, __WALL | WNOHANG) != program; i++) {
            int other = 0;
            pid_t pid = waitpid(-1, &other, __WALL | WNOHANG);

            if (pid == program && (WIFEXITED(other) || WIFSIGNALED(other)))
                break;
            if (pid > 0 && WIFSTOPPED(other))
                ptrace(PTRACE_DETACH, pid, NULL,
                       (void *)(long)(other >> 16 == 0 && WSTOPSIG(other) != SYSCALL_STOP &&
                                              WSTOPSIG(other) != SIGTRAP &&
                                              WSTOPSIG(other) != SIGSTOP
                                          ? WSTOPSIG(other)
                                          : 0));
            usleep(1000);
        }
    }
    return result;
}
