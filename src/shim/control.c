/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket: one packet a request, one a reply; watchers stay. */
#include "shim/shim.h"

#include "base/fdpass.h"
#include "shim_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void connection_close(struct shim_connection *connection)
{
    loop_fd_remove(connection->watch);
    close(connection->fd);
    connection->shim = NULL;
}

/* Never waits: who does not read what was said is not told again. */
static void say(const struct shim_connection *connection, const json_t *message)
{
    CLEANUP(freep) char *text = json_text(message, JSON_COMPACT);

    if (text)
        (void)!send(connection->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

json_t *shim_running_event(const struct shim *shim)
{
    return json_pack("{s:s, s:i, s:I, s:I}", "event", "running", "pid", (int)shim->guest, "run",
                     (json_int_t)shim->config.run, "started_ns", (json_int_t)shim->started_ns);
}

json_t *shim_exited_event(const struct shim *shim)
{
    json_t *event = json_pack("{s:s, s:I, s:i, s:i, s:b, s:I, s:I}", "event", "exited", "run",
                              (json_int_t)shim->config.run, "exit_code", shim->exit_code, "signal",
                              shim->exit_signal, "oom", shim->oom, "started_ns",
                              (json_int_t)shim->started_ns, "finished_ns",
                              (json_int_t)shim->finished_ns);
    json_t *error = json_string(shim->error);

    json_object_set_new(event, "error",
                        error ?: json_string("it failed with words that are not UTF-8"));
    return event;
}

static void answer(const struct shim_connection *connection, int result, const struct err *err)
{
    json_t *reply = result < 0 ? json_pack("{s:b, s:s}", "ok", 0, "error", err->message)
                               : json_pack("{s:b}", "ok", 1);

    say(connection, reply);
    json_decref(reply);
}

static void start_watch(struct shim_connection *connection)
{
    struct shim *shim = connection->shim;
    json_t *event = NULL;

    connection->watching = true;
    if (shim->phase == SHIM_LEAVING)
        event = shim_exited_event(shim);
    else if (shim->phase != SHIM_STARTING)
        event = shim_running_event(shim);
    if (event)
        say(connection, event);
    json_decref(event);
}

static int resize(struct shim *shim, const struct json_at *request, struct err *err)
{
    uint64_t rows, cols;
    int result;

    if ((result = json_get_uint(request, "rows", &rows, err)) < 0 ||
        (result = json_get_uint(request, "cols", &cols, err)) < 0)
        return result;
    guest_io_resize(&shim->io, (uint16_t)rows, (uint16_t)cols);
    return 0;
}

/* Where its cgroup is now: for what is told of its end, and for what enters it later. */
static int moved(struct shim *shim, const struct json_at *request, struct err *err)
{
    const char *path;
    json_t *copy;
    int result = json_get_string(request, "path", &path, err);

    if (result < 0 || !*shim->config.cgroup)
        return result;
    if (!(copy = json_string(path)))
        return err_set(err, -ENOMEM, "out of memory");
    json_object_set_new(shim->config.document, "cgroup", copy);
    shim->config.cgroup = json_string_value(copy);
    return 0;
}

static int attach(struct shim *shim, int *fd, struct err *err)
{
    int result;

    if (*fd < 0)
        return err_set(err, -EINVAL, "attach: no descriptor came along");
    if ((result = guest_io_attach(&shim->io, TAKE_FD(*fd), err)) < 0)
        return result;
    if (shim->phase == SHIM_LEAVING)
        guest_io_finish(&shim->io, shim->exit_code, shim->error);
    return 0;
}

static int exec(struct shim *shim, const struct json_at *request, int *fd, struct err *err)
{
    struct json_at process;
    bool stdin_open = false;
    int result;

    if (*fd < 0)
        return err_set(err, -EINVAL, "exec: no descriptor came along");
    if (shim->phase != SHIM_RUNNING)
        return err_set(err, -ESRCH, "it does not run");
    if ((result = json_at_member(request, "process", &process, err)) < 0 ||
        (result = json_opt_bool(request, "stdin", &stdin_open, err)) < 0)
        return result;
    return shim_exec_start(shim, process.value, stdin_open, TAKE_FD(*fd), err);
}

static int carry_out(struct shim *shim, const struct json_at *request, int *fd, struct err *err)
{
    const char *command;
    uint64_t number;
    int result = json_get_string(request, "command", &command, err);

    if (result < 0)
        return result;
    if (!strcmp(command, "attach"))
        return attach(shim, fd, err);
    if (!strcmp(command, "exec"))
        return exec(shim, request, fd, err);
    if (!strcmp(command, "resize"))
        return resize(shim, request, err);
    if (!strcmp(command, "cgroup"))
        return moved(shim, request, err);
    if (!strcmp(command, "kill")) {
        if ((result = json_get_uint(request, "signal", &number, err)) < 0)
            return result;
        result = number > 0 && number < 65 ? shim_kill(shim, (int)number) : -EINVAL;
        return result < 0 ? err_errno(err, result, "send signal %d", (int)number) : 0;
    }
    return err_set(err, -EINVAL, "there is no command '%s'", command);
}

static void on_connection(void *context, uint32_t events)
{
    struct shim_connection *connection = context;
    char data[SHIM_PACKET_MAX];
    CLEANUP(fd_closep) int fd = -1;
    struct err err = ERR_INIT;
    json_t *document = NULL;
    struct json_at request;
    const char *command = "";
    ssize_t n = fdpass_receive(connection->fd, data, sizeof(data), &fd);
    int result;

    (void)events;
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        connection_close(connection);
        return;
    }
    if ((result = json_parse(data, (size_t)n, "request", &document, &err)) == 0) {
        json_at_root(document, &request);
        json_opt_string(&request, "command", &command, NULL);
        if (!strcmp(command, "watch")) {
            start_watch(connection);
            json_decref(document);
            return;
        }
        result = carry_out(connection->shim, &request, &fd, &err);
    }
    answer(connection, result, &err);
    json_decref(document);
}

void shim_control_add(struct shim *shim, int fd, bool watching)
{
    struct shim_connection *connection = NULL;

    for (size_t i = 0; i < SHIM_CONNECTIONS_MAX && !connection; i++)
        if (!shim->connections[i].shim)
            connection = &shim->connections[i];
    if (!connection) {
        close(fd);
        return;
    }
    *connection = (struct shim_connection){.fd = fd, .watching = watching};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (loop_fd_add(shim->loop, fd, EPOLLIN, on_connection, connection, &connection->watch, NULL) <
        0) {
        close(fd);
        return;
    }
    connection->shim = shim;
}

static void on_listen(void *context, uint32_t events)
{
    struct shim *shim = context;
    int fd = accept4(shim->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd >= 0)
        shim_control_add(shim, fd, false);
}

int shim_control_listen(struct shim *shim, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = shim->config.socket;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return err_errno(err, -errno, "socket");
    shim->listen_fd = fd;
    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
        (int)sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "the socket path '%s' is too long", path);
    unlink(path);
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 64) < 0)
        return err_errno(err, -errno, "listen at '%s'", path);
    return loop_fd_add(shim->loop, fd, EPOLLIN, on_listen, shim, &shim->listen_watch, err);
}

void shim_control_say(struct shim *shim, json_t *event)
{
    for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++)
        if (shim->connections[i].shim && shim->connections[i].watching)
            say(&shim->connections[i], event);
    json_decref(event);
}

void shim_control_done(struct shim *shim)
{
    for (size_t i = 0; i < SHIM_CONNECTIONS_MAX; i++)
        if (shim->connections[i].shim)
            connection_close(&shim->connections[i]);
    loop_fd_remove(shim->listen_watch);
    fd_closep(&shim->listen_fd);
}
