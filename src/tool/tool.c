/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/internal.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 64
#define SAID_MAX  4096

const char tool_file[] = "FILE", tool_tree[] = "TREE";

_Noreturn void tool_give_up(const char *what)
{
    dprintf(STDERR_FILENO, "%s: %s\n", what, strerror(errno));
    _exit(125);
}

static void streams(int output)
{
    int null = open("/dev/null", O_RDWR);

    dup2(null, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
}

/* The image as its only descriptor beside these and the program's. None of the numbers is taken by
 * another before it has moved. */
static void keep_two(int file, int program)
{
    int high = fcntl(program, F_DUPFD_CLOEXEC, TOOL_PROGRAM_FD + 1);

    if (high < 0 || dup2(file, 3) < 0 || fcntl(3, F_SETFD, 0) < 0 ||
        dup3(high, TOOL_PROGRAM_FD, O_CLOEXEC) < 0 ||
        syscall(SYS_close_range, 4u, TOOL_PROGRAM_FD - 1u, 0u) < 0 ||
        syscall(SYS_close_range, TOOL_PROGRAM_FD + 1u, ~0u, 0u) < 0)
        tool_give_up("close what is open");
}

static void set_paths(const struct tool *tool, bool own_root, const char **argv)
{
    size_t i = 0;

    for (; tool->argv[i] && i + 1 < WORDS_MAX; i++) {
        argv[i] = tool->argv[i];
        if (argv[i] == tool_file)
            argv[i] = own_root ? TOOL_FILE_PLACE : "/proc/self/fd/3";
        else if (argv[i] == tool_tree)
            argv[i] = own_root ? TOOL_TREE_PLACE : tool->tree;
    }
    argv[i] = NULL;
}

static _Noreturn void child(const struct tool *tool, const struct tool_filter *filter, int program,
                            int output, pid_t parent)
{
    static const char *const env[] = {"PATH=/usr/sbin:/sbin:/usr/bin:/bin",
                                      "MKE2FS_CONFIG=/dev/null", "E2FSCK_CONFIG=/dev/null",
                                      "LC_ALL=C", NULL};
    const struct sock_fprog code = {filter->length, filter->code};
    struct tool own = *tool;
    const char *argv[WORDS_MAX];
    bool own_root;
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(125);
    streams(output);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    keep_two(tool->file, program);
    own.file = 3;
    if (!(own_root = tool_root_enter(&own)))
        tool_landlock_enter(&own);
    set_paths(&own, own_root, argv);
    if (tool_limits_set(&own) < 0)
        tool_give_up("limit it");
    if (tool_rights_drop(&own) < 0)
        tool_give_up("take its rights");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &code, 0, 0) < 0)
        tool_give_up("filter its system calls");
    syscall(SYS_execveat, TOOL_PROGRAM_FD, "", argv, env, AT_EMPTY_PATH);
    tool_give_up("run it");
}

static int open_program(const char *name, struct err *err)
{
    static const char *const places[] = {"/usr/sbin", "/sbin", "/usr/bin", "/bin"};
    char path[300];
    int fd = strchr(name, '/') ? open(name, O_PATH | O_CLOEXEC) : -1;

    for (size_t i = 0; fd < 0 && !strchr(name, '/') && i < ARRAY_LEN(places); i++) {
        snprintf(path, sizeof(path), "%s/%.200s", places[i], name);
        fd = open(path, O_PATH | O_CLOEXEC);
    }
    return fd < 0 ? err_set(err, -ENOENT, "%s cannot be run: install e2fsprogs", name) : fd;
}

/* The last of what it says, until it is silent for good or its time is over: false. */
static bool listen_to(int fd, uint64_t deadline_ns, char said[SAID_MAX])
{
    size_t have = 0;

    for (;;) {
        uint64_t now = clock_monotonic_ns();
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (now >= deadline_ns)
            break;
        n = poll(&wait, 1, (int)MIN((deadline_ns - now) / NS_PER_MS + 1, UINT64_C(60000)));
        if (n <= 0)
            continue;
        if (have > SAID_MAX / 2) {
            memmove(said, said + have - SAID_MAX / 4, SAID_MAX / 4);
            have = SAID_MAX / 4;
        }
        n = read(fd, said + have, SAID_MAX - 1 - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            said[have] = '\0';
            return true;
        }
        have += (size_t)n;
    }
    said[have] = '\0';
    return false;
}

/* One line that a terminal can be shown. */
static void make_plain(char *said, char *words, size_t size)
{
    size_t length = strlen(said), from;

    while (length && strchr(" \n", said[length - 1]))
        said[--length] = '\0';
    for (char *c = said; *c; c++)
        if ((unsigned char)*c < 32 || (unsigned char)*c > 126)
            *c = ' ';
    from = length >= size ? length - size + 1 : 0;
    snprintf(words, size, "%.*s", (int)size - 1, said + from);
}

static int run(const struct tool *tool, const struct tool_filter *filter, int program, char *words,
               size_t size, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + tool->limit_s * NS_PER_S;
    pid_t pid, parent = getpid();
    char said[SAID_MAX];
    int fds[2], status = 0;
    bool over;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(err, -errno, "pipe");
    if ((pid = fork()) == 0)
        child(tool, filter, program, fds[1], parent);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return err_errno(err, -errno, "start %s", tool->argv[0]);
    }
    over = listen_to(fds[0], deadline_ns, said);
    close(fds[0]);
    if (!over)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    make_plain(said, words, size);
    if (!over || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU))
        return err_set(err, -ETIME, "%s did not end within %u s", tool->argv[0], tool->limit_s);
    if (WIFSIGNALED(status))
        return err_set(err, -EIO, "%s was ended by signal %d", tool->argv[0], WTERMSIG(status));
    return WEXITSTATUS(status);
}

int tool_run(const struct tool *tool, char *words, size_t size, struct err *err)
{
    CLEANUP(fd_closep) int program = open_program(tool->argv[0], err);
    struct tool_filter filter = {0};
    int result;

    *words = '\0';
    if (program < 0)
        return program;
    if ((result = tool_filter_make(&filter, err)) == 0)
        result = run(tool, &filter, program, words, size, err);
    tool_filter_free(&filter);
    return result;
}
