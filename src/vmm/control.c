/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: connections, lines, replies. A connection that sends a line without end, or
 * does not read its replies, is closed; so is one more than VMM_CONTROL_CONNECTIONS_MAX. At the end
 * of the VM whoever is connected, accepted or not, has the replies that were made and then an end
 * of file, never a reset.
 */
#include "vmm/control.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/json.h"
#include "base/util.h"
#include "vmm_control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define OUTPUT_MAX (4 * VMM_CONTROL_LINE_MAX)

struct connection {
    struct control *control; /* NULL: free */
    int fd;
    struct loop_fd *watch;
    struct buf input, output;
};

struct control {
    struct loop *loop;
    control_fn *fn;
    void *context;
    int fd;
    struct loop_fd *watch;
    char *path;    /* set once it is ours to remove */
    int passed_fd; /* came along with what is being handled; -1: none */
    struct connection connections[VMM_CONTROL_CONNECTIONS_MAX];
};

static void connection_close(struct connection *c)
{
    loop_fd_remove(c->watch);
    close(c->fd);
    buf_done(&c->input);
    buf_done(&c->output);
    *c = (struct connection){.fd = -1};
}

/* False when the peer is gone. */
static bool output_send(struct connection *c)
{
    while (c->output.length) {
        ssize_t sent = send(c->fd, c->output.data, c->output.length, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN;
        buf_consume(&c->output, (size_t)sent);
    }
    return true;
}

static int reply_add(struct connection *c, json_t *reply)
{
    CLEANUP(freep) char *text = json_text(reply, JSON_COMPACT);
    int r = text ? buf_append_string(&c->output, text) : -ENOMEM;

    if (reply)
        json_decref(reply);
    return r < 0 ? r : buf_append(&c->output, "\n", 1);
}

static int request_handle(struct connection *c, const char *line, size_t length)
{
    json_t *request = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
    const char *command = json_string_value(json_object_get(request, "command"));
    json_t *id = json_object_get(request, "id");
    json_t *result = NULL, *reply;
    struct err err = ERR_INIT;
    int r;

    if (!json_is_object(request))
        r = err_set(&err, -EINVAL, "not a JSON object");
    else if (!command)
        r = err_set(&err, -EINVAL, "command: a string is needed");
    else
        r = c->control->fn(c->control->context, command, request, &result, &err);
    if (r == 0)
        reply = json_pack("{s:O?, s:b, s:o}", "id", id, "ok", 1, "result",
                          result ? result : json_object());
    else
        reply = json_pack("{s:O?, s:b, s:s}", "id", id, "ok", 0, "error", err.message);
    r = reply_add(c, reply);
    json_decref(request);
    return r;
}

static int input_handle(struct connection *c)
{
    for (;;) {
        char *end = c->input.length ? memchr(c->input.data, '\n', c->input.length) : NULL;
        size_t length;
        int r;

        if (!end)
            return 0;
        length = (size_t)(end - c->input.data);
        r = request_handle(c, c->input.data, length);
        if (r < 0)
            return r;
        buf_consume(&c->input, length + 1);
    }
}

static void connection_event(void *context, uint32_t events)
{
    struct connection *c = context;
    CLEANUP(fd_closep) int fd = -1;
    char part[4096];
    ssize_t length = 0;

    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        length = fdpass_receive(c->fd, part, sizeof(part), &fd);
        if (length == 0 || (length < 0 && length != -EAGAIN && length != -EINTR)) {
            connection_close(c);
            return;
        }
    }
    if (length > 0) {
        int r = buf_append(&c->input, part, (size_t)length);

        c->control->passed_fd = TAKE_FD(fd);
        if (r == 0)
            r = input_handle(c);
        fd_closep(&c->control->passed_fd);
        c->control->passed_fd = -1;
        if (r < 0) {
            connection_close(c);
            return;
        }
    }
    if (!output_send(c)) {
        connection_close(c);
        return;
    }
    loop_fd_set_events(c->watch, c->output.length ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static struct connection *connection_slot(struct control *control)
{
    for (size_t i = 0; i < ARRAY_LEN(control->connections); i++)
        if (!control->connections[i].control)
            return &control->connections[i];
    return NULL;
}

static void accept_event(void *context, uint32_t events)
{
    struct control *control = context;
    int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct connection *c;

    (void)events;
    if (fd < 0)
        return;
    c = connection_slot(control);
    if (!c) {
        close(fd);
        return;
    }
    c->control = control;
    c->fd = fd;
    buf_init(&c->input, VMM_CONTROL_LINE_MAX);
    buf_init(&c->output, OUTPUT_MAX);
    if (loop_fd_add(control->loop, fd, EPOLLIN, connection_event, c, &c->watch, NULL) < 0)
        connection_close(c);
}

/* A socket that is closed with input unread resets its peer, which may lose replies by that. */
static void input_discard(int fd)
{
    char part[4096];

    shutdown(fd, SHUT_RD);
    while (recv(fd, part, sizeof(part), MSG_DONTWAIT) > 0)
        continue;
}

static void waiting_dismiss(int listener)
{
    int fd;

    shutdown(listener, SHUT_RD); /* no more of them */
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        input_discard(fd);
        close(fd);
    }
}

/* Removes the socket of a process that is gone. */
static int stale_remove(const struct sockaddr_un *address, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    struct stat st;

    if (lstat(address->sun_path, &st))
        return errno == ENOENT ? 0 : err_errno(err, -errno, "look at '%s'", address->sun_path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, -EEXIST, "'%s' exists and is not a socket", address->sun_path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, -errno, "make a socket");
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        return err_set(err, -EADDRINUSE, "another process listens at '%s'", address->sun_path);
    if (unlink(address->sun_path) && errno != ENOENT)
        return err_errno(err, -errno, "remove the old socket '%s'", address->sun_path);
    return 0;
}

static int control_listen(struct control *control, const char *path, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;
    int r;

    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "socket path '%s' is longer than %zu bytes", path,
                       sizeof(address.sun_path) - 1);
    strcpy(address.sun_path, path);
    r = stale_remove(&address, err);
    if (r < 0)
        return r;
    control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control->fd < 0)
        return err_errno(err, -errno, "make a socket");
    mask = umask(0177); /* only its owner may command the VM */
    r = bind(control->fd, (const struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
    umask(mask);
    if (r < 0)
        return err_errno(err, r, "make the socket '%s'", path);
    control->path = strdup(path);
    if (!control->path)
        return err_set(err, -ENOMEM, "out of memory");
    if (listen(control->fd, VMM_CONTROL_CONNECTIONS_MAX))
        return err_errno(err, -errno, "listen at '%s'", path);
    return loop_fd_add(control->loop, control->fd, EPOLLIN, accept_event, control, &control->watch,
                       err);
}

int control_new(struct loop *loop, const char *path, control_fn *fn, void *context,
                struct control **ret, struct err *err)
{
    struct control *control = calloc(1, sizeof(*control));
    int r;

    if (!control)
        return err_set(err, -ENOMEM, "out of memory");
    control->loop = loop;
    control->fn = fn;
    control->context = context;
    control->fd = control->passed_fd = -1;
    for (size_t i = 0; i < ARRAY_LEN(control->connections); i++)
        control->connections[i].fd = -1;
    r = control_listen(control, path, err);
    if (r < 0) {
        err_wrap(err, "control socket");
        control_free(control);
        return r;
    }
    *ret = control;
    return 0;
}

int control_take_fd(struct control *control)
{
    return TAKE_FD(control->passed_fd);
}

void control_free(struct control *control)
{
    if (!control)
        return;
    for (size_t i = 0; i < ARRAY_LEN(control->connections); i++)
        if (control->connections[i].control) {
            output_send(&control->connections[i]);
            input_discard(control->connections[i].fd);
            connection_close(&control->connections[i]);
        }
    loop_fd_remove(control->watch);
    if (control->fd >= 0) {
        waiting_dismiss(control->fd);
        close(control->fd);
    }
    if (control->path)
        unlink(control->path);
    free(control->path);
    free(control);
}
