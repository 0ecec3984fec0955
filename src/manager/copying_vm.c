/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of a VM that does not run. Its writable layer is a file system that its guest's kernel
 * wrote, so nothing here reads it: a machine of its own mounts it as at any start (`lodge run --vm
 * --root-layer`), and in the place of the command its agent makes the archive or takes it. What the
 * file system does to that kernel it does in there.
 *
 * The session is a process group, which ends with the thread that serves the client, and so with
 * the client and with us. Volumes and networks are not part of it.
 */
#include "manager/copying.h"
#include "manager/pins.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MACHINES_MAX 4 /* at once */
#define MEMORY       "256M"
#define WORDS_MAX    24
#define BLOCK        65536

struct session {
    pid_t pid;
    int data;  /* its standard output, or its standard input */
    int words; /* its standard error, a file */
    struct copying_client *client;
};

static const char **copying_argv(const struct manager *m, const struct spec *spec,
                                 const struct copying *copying, const char *layer,
                                 const char *argv[WORDS_MAX])
{
    size_t n = 0;

    argv[n++] = m->options.lodge;
    argv[n++] = "run";
    argv[n++] = "--vm";
    argv[n++] = "--quiet";
    argv[n++] = "--agent";
    argv[n++] = "--memory";
    argv[n++] = MEMORY;
    if (spec->engine) {
        argv[n++] = "--engine";
        argv[n++] = spec->engine;
    }
    if (spec->kernel) {
        argv[n++] = "--kernel";
        argv[n++] = spec->kernel;
    }
    if (!spec->auto_remove) {
        argv[n++] = "--root-layer";
        argv[n++] = layer;
    }
    if (copying->in)
        argv[n++] = "-i";
    argv[n++] = "--";
    argv[n++] = spec->image;
    argv[n++] = copying->in ? "copy-in" : "copy-out";
    argv[n++] = copying->path;
    if (copying->in && copying->keep_owner)
        argv[n++] = "keep";
    argv[n] = NULL;
    return argv;
}

/* Ours, with a directory for the session. */
static const char **copying_environment(const char *runtime)
{
    size_t nr = 0, kept = 0;
    const char **env;

    while (environ[nr])
        nr++;
    if (!(env = calloc(nr + 2, sizeof(*env))))
        return NULL;
    for (size_t i = 0; i < nr; i++)
        if (strncmp(environ[i], "LODGE_RUNTIME=", 14) != 0)
            env[kept++] = environ[i];
    env[kept] = runtime;
    return env;
}

static _Noreturn void child(const char **argv, const char **env, bool in, int data, int words,
                            pid_t parent)
{
    int null = open("/dev/null", O_RDWR);

    child_begin(parent);
    dup2(in ? data : null, STDIN_FILENO);
    dup2(in ? null : data, STDOUT_FILENO);
    dup2(words, STDERR_FILENO);
    execve(argv[0], (char **)(uintptr_t)argv, (char **)(uintptr_t)env);
    _exit(125);
}

static int start(struct session *s, const char **argv, const char **env, bool in, struct err *err)
{
    pid_t parent = getpid();
    int ends[2];

    if ((s->words = memfd_create("words", MFD_CLOEXEC)) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return err_errno(err, -errno, "prepare the copy");
    s->data = ends[0];
    if ((s->pid = fork()) == 0)
        child(argv, env, in, ends[1], s->words, parent);
    close(ends[1]);
    if (s->pid < 0)
        return err_errno(err, -errno, "start the copy");
    setpgid(s->pid, s->pid);
    return 0;
}

/* Until data can be used so. -errno: the client is gone, or we are to end. */
static int await(const struct session *s, short events)
{
    struct pollfd fds[] = {{.fd = s->data, .events = events},
                           {.fd = s->client->fd, .events = POLLRDHUP}};

    for (;;) {
        int n = poll(fds, 2, COPYING_LOOK_MS);

        if (atomic_load(&s->client->m->stopping))
            return -ESHUTDOWN;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && fds[1].revents)
            return -ECONNRESET;
        if (n > 0 && fds[0].revents)
            return 0;
    }
}

/* The archive from the session to the client. Up to the session's end: 0. */
static int pass_out(struct session *s, char *block)
{
    for (;;) {
        int result = await(s, POLLIN);
        ssize_t n = result < 0 ? result : recv(s->data, block, BLOCK, MSG_DONTWAIT);

        if (result < 0)
            return result;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            return 0;
        if ((result = copying_write(block, (size_t)n, s->client)) < 0)
            return result;
    }
}

static int send_block(struct session *s, const char *block, size_t length)
{
    while (length) {
        ssize_t n = send(s->data, block, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        int result;

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        if (n < 0 && (result = await(s, POLLOUT)) < 0)
            return result;
        if (n > 0) {
            block += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

/* The archive from the client to the session, and then until that has ended. */
static int pass_in(struct session *s, char *block)
{
    ssize_t n;
    int result = 0;

    while (result == 0 && (n = copying_read(block, BLOCK, s->client)) != 0)
        result = n < 0 ? (int)n : send_block(s, block, (size_t)n);
    if (result == -EPIPE || result == -ENOTCONN)
        return 0; /* it says why itself */
    if (result < 0)
        return result;
    shutdown(s->data, SHUT_WR);
    return await(s, POLLIN);
}

/* The last line of what it said, without who said it. */
static void last_words(const struct session *s, char *ret, size_t size)
{
    static const char before[] = "lodge: error: ";
    char text[4096], *line;
    off_t end = lseek(s->words, 0, SEEK_END);
    off_t from = end > (off_t)sizeof(text) - 1 ? end - (off_t)sizeof(text) + 1 : 0;
    ssize_t n = end > 0 ? pread(s->words, text, sizeof(text) - 1, from) : 0;

    while (n > 0 && text[n - 1] == '\n')
        n--;
    text[n > 0 ? n : 0] = '\0';
    line = strrchr(text, '\n') ? strrchr(text, '\n') + 1 : text;
    if (!strncmp(line, before, sizeof(before) - 1))
        line += sizeof(before) - 1;
    snprintf(ret, size, "%.*s", (int)size - 1, line);
}

/* result: of the passing. */
static int end(struct session *s, int result, struct err *err)
{
    char words[400] = "";
    siginfo_t info;
    int status = 0;

    if (result < 0)
        kill(-s->pid, SIGKILL);
    while (waitid(P_PID, (id_t)s->pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        continue;
    kill(-s->pid, SIGKILL);
    while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (result < 0)
        return err_errno(err, result, "the copy was broken off");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    last_words(s, words, sizeof(words));
    return err_set(err, -EIO, "%s", *words ? words : "the machine of the copy failed");
}

static int serve(struct session *s, const struct instance *instance, const struct spec *spec,
                 const struct copying *copying, struct err *err)
{
    struct manager *m = s->client->m;
    char layer[PATH_SIZE], runtime[PATH_SIZE + 16] = "LODGE_RUNTIME=";
    const char *argv[WORDS_MAX];
    CLEANUP(freep) const char **env = NULL;
    CLEANUP(freep) char *block = malloc(BLOCK);
    int result;

    manager_path(m, layer, sizeof(layer), "instances/%s", instance->id);
    if (mkdir(layer, 0700) < 0 && errno != EEXIST) /* it may never have run */
        return err_errno(err, -errno, "make '%s'", layer);
    manager_path(m, layer, sizeof(layer), "instances/%s/root.ext4", instance->id);
    run_path(m, runtime + strlen(runtime), PATH_SIZE, "i/%s/c", instance->id);
    if (!block || !(env = copying_environment(runtime)))
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = start(s, copying_argv(m, spec, copying, layer, argv), env, copying->in, err)) < 0)
        return result;
    result = copying->in ? pass_in(s, block) : pass_out(s, block);
    return end(s, result, err);
}

int copying_vm(struct copying_client *client, const struct instance *instance,
               const struct copying *copying, struct err *err)
{
    struct session s = {.data = -1, .words = -1, .client = client};
    struct manager *m = client->m;
    struct spec spec;
    int result, others = atomic_fetch_add(&m->nr_copying, 1);

    if ((result = spec_parse_text(instance->spec, &spec, err)) < 0) {
        atomic_fetch_sub(&m->nr_copying, 1);
        return result;
    }
    pins_resolve(m, instance->id, &spec);
    if (spec.auto_remove && copying->in)
        result = err_set(err, -EINVAL,
                         "'%s' keeps nothing of what is written to it (--rm): copy while it runs",
                         instance->name);
    else if (others >= MACHINES_MAX)
        result = err_set(err, -EAGAIN,
                         "%d copies of machines that do not run are under way; try again later",
                         MACHINES_MAX);
    else
        result = serve(&s, instance, &spec, copying, err);
    atomic_fetch_sub(&m->nr_copying, 1);
    fd_closep(&s.data);
    fd_closep(&s.words);
    spec_done(&spec);
    return result;
}
