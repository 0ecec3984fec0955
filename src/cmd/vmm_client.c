/* SPDX-License-Identifier: Apache-2.0 */
/* One line out, one line in. */
#include "cmd/vmm_client.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "vmm_control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define LIMIT_S 5

int vmm_client_connect(const char *path, int *ret_fd, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = LIMIT_S};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return err_errno(err, -errno, "socket");
    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "the socket path '%s' is too long", path);
    strcpy(address.sun_path, path);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, -errno, "connect to '%s'", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int line_send(int fd, json_t *request, struct err *err)
{
    CLEANUP(freep) char *text = json_text(request, JSON_COMPACT);
    size_t length = text ? strlen(text) : 0;

    json_decref(request);
    if (!text)
        return err_set(err, -ENOMEM, "out of memory");
    text[length++] = '\n'; /* in the place of the terminator */
    for (size_t at = 0; at < length;) {
        ssize_t sent = send(fd, text + at, length - at, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return err_errno(err, -errno, "ask the monitor");
        at += (size_t)sent;
    }
    return 0;
}

static int line_receive(int fd, char *line, size_t size, size_t *ret_length, struct err *err)
{
    size_t length = 0;

    for (;;) {
        const char *end = length ? memchr(line, '\n', length) : NULL;
        ssize_t received;

        if (end) {
            *ret_length = (size_t)(end - line);
            return 0;
        }
        if (length == size)
            return err_set(err, -EMSGSIZE, "the monitor's answer has no end");
        received = recv(fd, line + length, size - length, 0);
        if (received < 0 && errno == EINTR)
            continue;
        if (received < 0)
            return err_errno(err, errno == EAGAIN ? -ETIMEDOUT : -errno, "the monitor's answer");
        if (received == 0)
            return err_set(err, -EPIPE, "the monitor has ended");
        length += (size_t)received;
    }
}

int vmm_client_ask(int fd, json_t *request, json_t **ret, struct err *err)
{
    CLEANUP(freep) char *line = malloc(VMM_CONTROL_LINE_MAX);
    size_t length = 0;
    json_t *reply;
    int r = line_send(fd, request, err);

    if (r == 0 && !line)
        r = err_set(err, -ENOMEM, "out of memory");
    if (r == 0)
        r = line_receive(fd, line, VMM_CONTROL_LINE_MAX, &length, err);
    if (r < 0)
        return r;
    reply = json_loadb(line, length, 0, NULL);
    if (!json_is_true(json_object_get(reply, "ok"))) {
        const char *why = json_string_value(json_object_get(reply, "error"));

        r = err_set(err, -EREMOTEIO, "the monitor refused: %s", why ? why : "no reason given");
    } else {
        *ret = json_incref(json_object_get(reply, "result"));
    }
    json_decref(reply);
    return r;
}
