/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hook gets its standard input and output from anonymous files, not pipes: one that neither reads
 * nor ends its output cannot hold the runtime up for longer than its timeout. It has no descriptor
 * of ours but these, and no signal blocked.
 */
#include "oci/hooks.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "oci/spec_read.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct hook {
    const char *path;
    struct oci_strings args, env;
    int64_t timeout_s; /* 0: none */
};

static void hook_done(struct hook *hook)
{
    free(hook->args.items);
    free(hook->env.items);
}

static int hook_read(const struct json_at *at, struct hook *ret, struct err *err)
{
    int result;

    *ret = (struct hook){0};
    if ((result = json_get_string(at, "path", &ret->path, err)) < 0 ||
        (result = spec_read_strings(at, "args", &ret->args, err)) < 0 ||
        (result = spec_read_strings(at, "env", &ret->env, err)) < 0 ||
        (result = json_opt_int(at, "timeout", &ret->timeout_s, err)) < 0)
        return result;
    if (ret->path[0] != '/')
        return err_set(err, -EINVAL, "%s.path: '%s' is not an absolute path", at->path, ret->path);
    if (json_object_get(at->value, "timeout") &&
        (ret->timeout_s <= 0 || ret->timeout_s > INT_MAX / 1000))
        return err_set(err, -ERANGE, "%s.timeout: %lld seconds is not a time to wait", at->path,
                       (long long)ret->timeout_s);
    return 0;
}

int hooks_check(const struct json_at *root, struct err *err)
{
    static const char *const kinds[] = {HOOKS_PRESTART,         HOOKS_CREATE_RUNTIME,
                                        HOOKS_CREATE_CONTAINER, HOOKS_START_CONTAINER,
                                        HOOKS_POSTSTART,        HOOKS_POSTSTOP};
    struct json_at hooks, array, item;
    size_t length;
    int result = json_at_member(root, "hooks", &hooks, err);

    if (result < 0 || !hooks.value)
        return result;
    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        if ((result = spec_read_array(&hooks, kinds[kind], &array, &length, err)) < 0)
            return result;
        for (size_t i = 0; i < length; i++) {
            CLEANUP(hook_done) struct hook hook = {0};

            if ((result = json_at_index(&array, i, &item, err)) < 0 ||
                (result = hook_read(&item, &hook, err)) < 0)
                return result;
        }
    }
    return 0;
}

bool hooks_present(const json_t *hooks, const char *kind)
{
    return json_array_size(json_object_get(hooks, kind)) > 0;
}

char *hooks_state_text(const json_t *base, const char *status, pid_t pid)
{
    json_t *json = json_copy((json_t *)(uintptr_t)base);
    char *text = NULL;

    if (json && json_object_set_new(json, "status", json_string(status)) == 0 &&
        (pid == 0 || json_object_set_new(json, "pid", json_integer(pid)) == 0))
        text = json_text(json, JSON_COMPACT);
    json_decref(json);
    return text;
}

__attribute__((noreturn)) static void execute(const struct hook *hook, int input, int output)
{
    char *const no_environment[] = {NULL};
    char *const short_argv[] = {(char *)(uintptr_t)hook->path, NULL};
    sigset_t none;

    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0)
        _exit(126);
    close_range(3, ~0u, 0);
    execve(hook->path, hook->args.length ? (char *const *)(uintptr_t)hook->args.items : short_argv,
           hook->env.length ? (char *const *)(uintptr_t)hook->env.items : no_environment);
    dprintf(STDERR_FILENO, "%s", strerror(errno));
    _exit(127);
}

/* Waits for the end; 1 when the time was over first (and the hook was killed). */
static int await(pid_t pid, int pid_fd, int64_t timeout_s, int *ret_status)
{
    struct pollfd end = {.fd = pid_fd, .events = POLLIN};
    int ready, late = 0;

    do
        ready = timeout_s && pid_fd >= 0 ? poll(&end, 1, (int)(timeout_s * 1000)) : 1;
    while (ready < 0 && errno == EINTR);
    if (ready == 0) {
        kill(pid, SIGKILL);
        late = 1;
    }
    while (waitpid(pid, ret_status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return late;
}

/* The last line of what the hook said, without what could disturb a log. */
static void last_words(int output, char *ret, size_t size)
{
    off_t length = lseek(output, 0, SEEK_END);
    off_t start = length > (off_t)size - 1 ? length - (off_t)size + 1 : 0;
    ssize_t n = file_pread_full(output, ret, size - 1, start);
    char *newline;

    ret[n > 0 ? n : 0] = '\0';
    for (size_t i = strlen(ret); i && ret[i - 1] == '\n'; i--)
        ret[i - 1] = '\0';
    if ((newline = strrchr(ret, '\n')))
        memmove(ret, newline + 1, strlen(newline + 1) + 1);
    for (char *c = ret; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
}

static int hook_run(const struct hook *hook, const char *state, struct err *err)
{
    CLEANUP(fd_closep) int input = memfd_create("state", MFD_CLOEXEC);
    CLEANUP(fd_closep) int output = memfd_create("output", MFD_CLOEXEC);
    CLEANUP(fd_closep) int pid_fd = -1;
    char words[256];
    int status = 0, result;
    pid_t pid;

    if (input < 0 || output < 0)
        return err_errno(err, -errno, "hook '%s'", hook->path);
    if ((result = file_write_full(input, state, strlen(state))) < 0)
        return err_errno(err, result, "hook '%s': state", hook->path);
    lseek(input, 0, SEEK_SET);
    pid = fork();
    if (pid < 0)
        return err_errno(err, -errno, "hook '%s'", hook->path);
    if (pid == 0)
        execute(hook, input, output);
    pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if ((result = await(pid, pid_fd, hook->timeout_s, &status)) < 0)
        return err_errno(err, result, "hook '%s'", hook->path);
    if (result > 0)
        return err_set(err, -ETIMEDOUT, "hook '%s' did not end within %lld s", hook->path,
                       (long long)hook->timeout_s);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    last_words(output, words, sizeof(words));
    return err_set(err, -ECANCELED, "hook '%s' failed: %s %d%s%s", hook->path,
                   WIFSIGNALED(status) ? "signal" : "exit status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                   words[0] ? ": " : "", words);
}

static int run(const json_t *hooks, const char *kind, const char *state, bool keep_going,
               struct err *err)
{
    struct json_at at, item;
    int first = 0;

    snprintf(at.path, sizeof(at.path), "hooks.%s", kind);
    at.value = json_object_get(hooks, kind);
    for (size_t i = 0; i < json_array_size(at.value); i++) {
        CLEANUP(hook_done) struct hook hook = {0};
        int result = json_at_index(&at, i, &item, err);

        if (result == 0)
            result = hook_read(&item, &hook, err);
        if (result == 0)
            result = hook_run(&hook, state, first < 0 ? NULL : err);
        if (result < 0 && first == 0) {
            first = result;
            err_wrap(err, "%s", item.path);
        }
        if (first < 0 && !keep_going)
            break;
    }
    return first;
}

int hooks_run(const json_t *hooks, const char *kind, const char *state, struct err *err)
{
    return run(hooks, kind, state, false, err);
}

int hooks_run_all(const json_t *hooks, const char *kind, const char *state, struct err *err)
{
    return run(hooks, kind, state, true, err);
}
