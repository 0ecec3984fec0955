/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a shim, finding one again, asking it.
 *
 * The instance's lock (flock on RUN/i/ID/lock) is taken here and handed to the shim, which holds it
 * as long as it lives: at no moment is there a shim, or one about to be, with the lock free. So
 * whoever gets the lock knows that nothing runs, whatever the manager that started it came to.
 */
#include "manager/internal.h"

#include "base/clock.h"
#include "base/fdpass.h"
#include "base/file.h"
#include "base/log.h"
#include "base/util.h"
#include "shim_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MS 10000

extern char **environ;

int shim_lock(struct manager *m, const char *id, unsigned wait_ms, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + wait_ms * NS_PER_MS;
    CLEANUP(fd_closep) int fd = -1;
    char path[PATH_SIZE];

    run_path(m, path, sizeof(path), "i/%s", id);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "make '%s'", path);
    run_path(m, path, sizeof(path), "i/%s/lock", id);
    if ((fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        return err_errno(err, -errno, "open '%s'", path);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_errno(err, -errno, "lock '%s'", path);
        if (clock_monotonic_ns() >= deadline_ns)
            return err_set(err, -EWOULDBLOCK, "its earlier run is not over yet");
        usleep(1000);
    }
    return TAKE_FD(fd);
}

static int set_actions(posix_spawn_file_actions_t *actions, const int *fds, size_t nr)
{
    int result = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDWR, 0);

    if (result == 0)
        result = posix_spawn_file_actions_adddup2(actions, 0, 1);
    for (size_t i = 0; i < nr && result == 0; i++)
        if (fds[i] >= 0)
            result = posix_spawn_file_actions_adddup2(actions, fds[i], (int)i + 3);
    return -result;
}

/* fds become 3, 4, ...; they must be above that. */
static int spawn(char *const argv[], const int *fds, size_t nr, pid_t *ret)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int result;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    if ((result = set_actions(&actions, fds, nr)) == 0)
        result = -posix_spawn(ret, argv[0], &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return result;
}

/* A copy above the numbers that spawn gives away. */
static int high_copy(int fd)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3 + 3 + 2 * SPEC_VOLUMES_MAX);
}

int shim_start(struct manager *m, struct instance *instance, int lock_fd, int client_fd,
               const struct volume_holds *holds, struct err *err)
{
    CLEANUP(fd_closep) int lock = lock_fd;
    char config[PATH_SIZE];
    char *argv[] = {m->options.shim, config, NULL};
    int ends[2], fds[3 + 2 * SPEC_VOLUMES_MAX], result;
    size_t nr = 3;
    pid_t pid = 0;

    run_path(m, config, sizeof(config), "i/%s/shim.json", instance->id);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_errno(err, -errno, "socket");
    fds[0] = high_copy(lock);
    fds[1] = high_copy(ends[1]);
    fds[2] = high_copy(client_fd);
    for (size_t i = 0; holds && i < holds->nr; i++)
        fds[nr++] = high_copy(holds->fds[i]);
    pthread_mutex_lock(&m->lock);
    instance->said_running = instance->ended = false;
    instance->pid = 0;
    pthread_mutex_unlock(&m->lock);
    if (fds[0] < 0 || fds[1] < 0 || (client_fd >= 0 && fds[2] < 0))
        result = -EMFILE;
    else
        result = spawn(argv, fds, nr, &pid);
    for (size_t i = 0; i < nr; i++)
        fd_closep(&fds[i]);
    close(ends[1]);
    if (result < 0) {
        close(ends[0]);
        return err_errno(err, result, "start '%s'", argv[0]);
    }
    watch_add(m, instance, ends[0], pid);
    return 0;
}

static int connect_shim(struct manager *m, const char *id)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = ANSWER_MS / 1000};

    if (fd < 0)
        return -errno;
    run_path(m, address.sun_path, sizeof(address.sun_path), "i/%s/sock", id);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static int send_request(int socket, json_t *request, int fd)
{
    CLEANUP(freep) char *text = json_text(request, JSON_COMPACT);

    json_decref(request);
    if (!text)
        return -ENOMEM;
    if (strlen(text) >= SHIM_PACKET_MAX)
        return -E2BIG;
    return fdpass_send(socket, text, strlen(text), fd);
}

int shim_link(struct manager *m, const char *id)
{
    return connect_shim(m, id);
}

int shim_hand_over(struct manager *m, const char *id, json_t *request, int fd, int *ret_link,
                   struct err *err)
{
    CLEANUP(fd_closep) int connection = connect_shim(m, id);
    char data[4096];
    json_t *reply = NULL;
    int result = connection, passed = -1;
    ssize_t n;

    if (result < 0) {
        json_decref(request);
        return err_set(err, result == -ENOENT || result == -ECONNREFUSED ? -ESRCH : result,
                       "it does not run");
    }
    if ((result = send_request(connection, request, fd)) < 0)
        return err_errno(err, result, "ask the instance's shim");
    n = fdpass_receive(connection, data, sizeof(data), &passed);
    fd_closep(&passed);
    if (n <= 0)
        return err_set(err, n == -EAGAIN ? -ETIMEDOUT : -ESRCH,
                       n == -EAGAIN ? "the instance's shim does not answer" : "it does not run");
    if ((result = json_parse(data, (size_t)n, "shim", &reply, err)) < 0)
        return result;
    if (!json_is_true(json_object_get(reply, "ok")))
        result = err_set(err, -ECANCELED, "%s",
                         json_string_value(json_object_get(reply, "error")) ?: "refused");
    json_decref(reply);
    if (result == 0)
        *ret_link = TAKE_FD(connection);
    return result;
}

int shim_ask(struct manager *m, const char *id, json_t *request, int fd, struct err *err)
{
    CLEANUP(fd_closep) int link = -1;

    return shim_hand_over(m, id, request, fd, &link, err);
}

/* A shim that is about to be has no socket yet: patience, while the lock is held. */
int shim_adopt(struct manager *m, struct instance *instance, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + 20 * NS_PER_S;

    for (;;) {
        int fd = connect_shim(m, instance->id), lock;
        json_t *request = json_pack("{s:s}", "command", "watch");
        struct timeval none = {0};

        if (fd >= 0 && send_request(fd, request, -1) == 0) {
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
            watch_add(m, instance, fd, 0);
            return 0;
        }
        if (fd >= 0)
            close(fd);
        else
            json_decref(request);
        if ((lock = shim_lock(m, instance->id, 0, err)) >= 0) {
            close(lock);
            return err_set(err, -ESRCH, "it does not run");
        }
        if (lock != -EWOULDBLOCK)
            return lock;
        if (clock_monotonic_ns() >= deadline_ns)
            return err_set(err, -ETIMEDOUT, "its shim does not answer");
        usleep(2000);
    }
}

bool shim_read_exit(struct manager *m, const struct instance *instance, uint64_t run,
                    struct instance_end *ret)
{
    CLEANUP(buf_donep) struct buf text;
    char path[PATH_SIZE];
    json_t *document = NULL;
    bool found;

    buf_init(&text, 16384);
    manager_path(m, path, sizeof(path), "instances/%s/exit", instance->id);
    if (file_load(AT_FDCWD, path, &text, NULL) < 0 ||
        json_parse(text.data ?: "", text.length, path, &document, NULL) < 0)
        return false;
    found = (uint64_t)json_integer_value(json_object_get(document, "run")) == run;
    if (found) {
        *ret = (struct instance_end){
            .exit_code = (int)json_integer_value(json_object_get(document, "exit_code")),
            .oom = json_is_true(json_object_get(document, "oom")),
            .started_ns = json_integer_value(json_object_get(document, "started_ns")),
            .finished_ns = json_integer_value(json_object_get(document, "finished_ns"))};
        error_copy(ret->error, json_string_value(json_object_get(document, "error")) ?: "");
    }
    json_decref(document);
    return found;
}

struct streams {
    int in[2], out[2], err[2];
};

static void streams_close(struct streams *s)
{
    for (int i = 0; i < 2; i++) {
        fd_closep(&s->in[i]);
        fd_closep(&s->out[i]);
        fd_closep(&s->err[i]);
    }
}

static int spawn_with(char *const argv[], const struct streams *s, pid_t *ret)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int result;

    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attributes, &none);
    if (s->in[0] >= 0)
        posix_spawn_file_actions_adddup2(&actions, s->in[0], 0);
    else
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, s->out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, s->err[1], 2);
    result = -posix_spawn(ret, argv[0], &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return result;
}

/* Both to their ends; of the errors the first part, of the output what fits. */
static void read_both(struct streams *s, struct buf *output, char *error, size_t size)
{
    size_t have = 0;

    while (s->out[0] >= 0 || s->err[0] >= 0) {
        struct pollfd fds[] = {{.fd = s->out[0], .events = POLLIN},
                               {.fd = s->err[0], .events = POLLIN}};
        char data[4096];
        ssize_t n;

        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents) {
            if ((n = read(s->out[0], data, sizeof(data))) > 0 && output)
                buf_append(output, data, (size_t)n);
            else if (n <= 0) {
                close(s->out[0]);
                s->out[0] = -1;
            }
        }
        if (fds[1].revents) {
            if ((n = read(s->err[0], data, sizeof(data))) > 0) {
                size_t part = (size_t)n < size - 1 - have ? (size_t)n : size - 1 - have;

                memcpy(error + have, data, part);
                have += part;
            } else {
                close(s->err[0]);
                s->err[0] = -1;
            }
        }
    }
    while (have && error[have - 1] == '\n')
        have--;
    error[have] = '\0';
}

/* With the program's standard error as the message of a failure. */
static int program_run(char *const argv[], const char *input, struct buf *output, struct err *err)
{
    struct streams s = {{-1, -1}, {-1, -1}, {-1, -1}};
    char error[512] = "";
    int status = -1, result;
    pid_t pid;

    if (pipe2(s.out, O_CLOEXEC) < 0 || pipe2(s.err, O_CLOEXEC) < 0 ||
        (input && pipe2(s.in, O_CLOEXEC) < 0)) {
        result = -errno;
        streams_close(&s);
        return err_errno(err, result, "pipe");
    }
    if ((result = spawn_with(argv, &s, &pid)) < 0) {
        streams_close(&s);
        return err_errno(err, result, "start '%s'", argv[0]);
    }
    close(s.out[1]);
    close(s.err[1]);
    s.out[1] = s.err[1] = -1;
    fd_closep(&s.in[0]);
    s.in[0] = -1;
    /* Far less than a pipe holds. */
    if (input)
        file_write_full(s.in[1], input, strlen(input));
    fd_closep(&s.in[1]);
    s.in[1] = -1;
    read_both(&s, output, error, sizeof(error));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    streams_close(&s);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(err, -EIO, "%s", *error ? error : "the runtime failed");
    return 0;
}

int runtime_run(const struct manager *m, const char *const *words, const char *input,
                struct buf *output, struct err *err)
{
    const char *argv[3 + RUNTIME_WORDS_MAX + 1] = {m->options.oci, "--root"};
    char root[PATH_SIZE];
    size_t nr = 3;

    run_path(m, root, sizeof(root), "oci");
    argv[2] = root;
    while (*words && nr < ARRAY_LEN(argv) - 1)
        argv[nr++] = *words++;
    return program_run((char *const *)(uintptr_t)argv, input, output, err);
}
