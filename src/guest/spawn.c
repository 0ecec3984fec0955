/* SPDX-License-Identifier: Apache-2.0 */
/* The child reports through a close-on-exec pipe: its end without a word means that exec succeeded.
 */
#include "guest/spawn.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "base/users.h"
#include "guest/builtin.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
/* A pipe as large as an unprivileged process may have: fewer turns per megabyte. */
#define PIPE_SIZE (1 << 20)

/* Sent through the close-on-exec pipe by a child that could not become the command. */
struct child_failure {
    int32_t code; /* negative errno */
    uint32_t exit_status;
    char message[ERR_MESSAGE_MAX];
};

/* What the child needs; child ends in 0, 1, 2. */
struct child_plan {
    const struct agent_run *run;
    struct user user;
    int stdio[3];
    int failure_fd;
    bool tty;
    const char *home;
};

void spawned_close(struct spawned *spawned)
{
    for (int i = 0; i < AGENT_NR_ROLES; i++) {
        fd_closep(&spawned->files[i]);
        spawned->files[i] = -1;
    }
    fd_closep(&spawned->terminal);
    spawned->terminal = -1;
}

void spawn_resize(int terminal, uint16_t rows, uint16_t cols)
{
    struct winsize size = {.ws_row = rows, .ws_col = cols};

    if (terminal >= 0 && (rows || cols))
        ioctl(terminal, TIOCSWINSZ, &size);
}

static const char *env_find(char *const *env, const char *name)
{
    size_t length = strlen(name);

    for (; *env; env++)
        if (!strncmp(*env, name, length) && (*env)[length] == '=')
            return *env + length + 1;
    return NULL;
}

/* Reports a failed exec in words that name the likely cause. */
static int exec_error(int code, const char *path, struct err *err)
{
    struct stat st;

    if (code == -ENOENT && stat(path, &st) == 0)
        return err_set(err, -EACCES,
                       "cannot run '%s': its interpreter or dynamic loader is not in the image",
                       path);
    if (code == -ENOEXEC)
        return err_set(err, code, "cannot run '%s': not a program for this machine", path);
    if (code == -EACCES && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return err_set(err, code, "cannot run '%s': it is a directory", path);
    return err_errno(err, code, "cannot run '%s'", path);
}

/* Returns only in failure. */
static int exec_search(char *const *argv, char *const *env, struct err *err)
{
    const char *path = env_find(env, "PATH"), *name = argv[0];
    char candidate[4096], denied[4096] = "";

    if (!*name)
        return err_set(err, -ENOENT, "the command is empty");
    if (strchr(name, '/')) {
        execve(name, argv, env);
        return exec_error(-errno, name, err);
    }
    for (path = path && *path ? path : DEFAULT_PATH; *path;) {
        size_t length = strcspn(path, ":");
        int n = snprintf(candidate, sizeof(candidate), "%.*s/%s", length ? (int)length : 1,
                         length ? path : ".", name);

        path += length + (path[length] == ':');
        if (n < 0 || n >= (int)sizeof(candidate))
            continue;
        execve(candidate, argv, env);
        if (errno == EACCES)
            snprintf(denied, sizeof(denied), "%s", candidate);
        else if (errno != ENOENT && errno != ENOTDIR)
            return exec_error(-errno, candidate, err);
        else if (access(candidate, F_OK) == 0)
            return exec_error(-ENOENT, candidate, err);
    }
    if (*denied)
        return exec_error(-EACCES, denied, err);
    return err_set(err, -ENOENT, "command '%s' not found in the image's PATH", name);
}

static int become_user(const struct user *user, struct err *err)
{
    if (geteuid() != 0 && user->uid == geteuid())
        return 0;
    if (setgroups(user->nr_groups, user->groups) < 0 ||
        setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        return err_errno(err, -errno, "become user %u, group %u", user->uid, user->gid);
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The environment with HOME and PATH where the caller gave none. */
static char **complete_env(const struct child_plan *plan, char *home, size_t home_size)
{
    static char default_path[] = "PATH=" DEFAULT_PATH;
    size_t nr = 0;
    char **env;

    while (plan->run->env[nr])
        nr++;
    if (!(env = calloc(nr + 3, sizeof(*env))))
        return plan->run->env;
    memcpy(env, plan->run->env, nr * sizeof(*env));
    if (!env_find(plan->run->env, "PATH"))
        env[nr++] = default_path;
    if (!env_find(plan->run->env, "HOME")) {
        snprintf(home, home_size, "HOME=%s", plan->user.home);
        env[nr++] = home;
    }
    return env;
}

static int child_prepare(const struct child_plan *plan, uint32_t *ret_status, struct err *err)
{
    char home[300];
    const char *cwd = *plan->run->cwd ? plan->run->cwd : "/";
    int result;

    *ret_status = 125;
    if (setsid() < 0)
        return err_errno(err, -errno, "start a session");
    if (plan->tty && ioctl(plan->stdio[0], TIOCSCTTY, 0) < 0)
        return err_errno(err, -errno, "take the terminal");
    if (plan->tty && fchown(plan->stdio[0], plan->user.uid, (gid_t)-1) < 0)
        return err_errno(err, -errno, "own the terminal");
    for (int i = 0; i < 3; i++)
        if (dup2(plan->stdio[i], i) < 0)
            return err_errno(err, -errno, "set up the standard streams");
    reset_signals();
    if (plan->run->flags & AGENT_RUN_BUILTIN) {
        close_range(3, ~0u, 0); /* nothing can fail any more, and nothing is to be held open */
        _exit(builtin_main(plan->run->argv));
    }
    *ret_status = 126;
    if ((result = become_user(&plan->user, err)) < 0)
        return result;
    if (chdir(cwd) < 0)
        return err_errno(err, -errno, "working directory '%s'", cwd);
    result = exec_search(plan->run->argv, complete_env(plan, home, sizeof(home)), err);
    if (result == -ENOENT)
        *ret_status = 127;
    return result;
}

static _Noreturn void child_main(const struct child_plan *plan)
{
    struct child_failure failure = {0};
    struct err err = ERR_INIT;

    failure.code = child_prepare(plan, &failure.exit_status, &err);
    memcpy(failure.message, err.message, sizeof(failure.message));
    (void)!file_write_full(plan->failure_fd, &failure, sizeof(failure));
    _exit(125);
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* theirs[] gets the child's 0, 1, 2; spawned->files our ends. */
static int open_pipes(const struct agent_run *run, struct spawned *spawned, int theirs[3])
{
    for (int i = 0; i < 3; i++) {
        int ends[2], ours;

        if (i == 0 && !(run->flags & AGENT_RUN_STDIN)) {
            if ((theirs[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
                return -errno;
            continue;
        }
        if (pipe2(ends, O_CLOEXEC) < 0)
            return -errno;
        ours = i == 0 ? ends[1] : ends[0];
        theirs[i] = i == 0 ? ends[0] : ends[1];
        spawned->files[AGENT_ROLE_STDIN + i] = ours;
        fcntl(ours, F_SETPIPE_SZ, PIPE_SIZE);
        if (set_nonblocking(ours) < 0)
            return -errno;
    }
    return 0;
}

static int open_terminal(const struct agent_run *run, struct spawned *spawned, int theirs[3])
{
    CLEANUP(fd_closep) int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    int slave, zero = 0;

    if (master < 0 || ioctl(master, TIOCSPTLCK, &zero) < 0)
        return -errno;
    /* By ioctl, not by name: /dev/pts of the image may be anything. */
    if ((slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        return -errno;
    spawn_resize(master, run->rows, run->cols);
    theirs[0] = slave;
    theirs[1] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
    theirs[2] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
    spawned->files[AGENT_ROLE_STDOUT] = fcntl(master, F_DUPFD_CLOEXEC, 3);
    if (run->flags & AGENT_RUN_STDIN)
        spawned->files[AGENT_ROLE_STDIN] = fcntl(master, F_DUPFD_CLOEXEC, 3);
    if (theirs[1] < 0 || theirs[2] < 0 || spawned->files[AGENT_ROLE_STDOUT] < 0)
        return -EMFILE;
    spawned->terminal = TAKE_FD(master);
    return 0;
}

/* Waits until the child has become the command (0) or said why not. */
static int await_exec(int fd, uint32_t *ret_status, struct err *err)
{
    struct child_failure failure;
    ssize_t n = file_read_full(fd, &failure, sizeof(failure));

    if (n == 0)
        return 0;
    if (n != (ssize_t)sizeof(failure)) {
        *ret_status = 125;
        return err_set(err, -EIO, "the command's process ended before it became the command");
    }
    failure.message[sizeof(failure.message) - 1] = '\0';
    *ret_status = failure.exit_status;
    return err_set(err, failure.code < 0 ? failure.code : -EIO, "%s", failure.message);
}

int spawn_command(const struct agent_run *run, struct spawned *ret, uint32_t *ret_exit_status,
                  struct err *err)
{
    struct child_plan plan = {.run = run, .tty = run->flags & AGENT_RUN_TTY};
    struct spawned spawned = {.files = {-1, -1, -1, -1}, .terminal = -1};
    int failure[2], result;

    *ret_exit_status = 126;
    if ((result = user_find(AT_FDCWD, run->user, &plan.user, err)) < 0)
        return result;
    *ret_exit_status = 125;
    for (int i = 0; i < 3; i++)
        plan.stdio[i] = -1;
    result = plan.tty ? open_terminal(run, &spawned, plan.stdio)
                      : open_pipes(run, &spawned, plan.stdio);
    if (result == 0 && pipe2(failure, O_CLOEXEC) < 0)
        result = -errno;
    if (result < 0) {
        err_errno(err, result, "open the command's standard streams");
    } else {
        plan.failure_fd = failure[1];
        if ((spawned.pid = fork()) == 0)
            child_main(&plan);
        if (spawned.pid < 0)
            result = err_errno(err, -errno, "start a process");
        close(failure[1]);
        if (result == 0)
            result = await_exec(failure[0], ret_exit_status, err);
        close(failure[0]);
    }
    for (int i = 0; i < 3; i++)
        fd_closep(&plan.stdio[i]);
    if (result < 0) {
        spawned_close(&spawned);
        return result;
    }
    *ret = spawned;
    return 0;
}
