/* SPDX-License-Identifier: Apache-2.0 */
/* One fixed-size message a kind, by fdpass, so that a short or a long one is an error. */
#include "oci/sync.h"

#include "base/cleanup.h"
#include "base/fdpass.h"

#include <errno.h>
#include <sys/socket.h>

struct sync_message {
    int kind;
    pid_t pid;
    struct err failure;
};

int sync_send(int socket, enum sync_kind kind, const struct err *failure, int fd)
{
    struct sync_message message = {.kind = (int)kind};

    if (failure)
        message.failure = *failure;
    return fdpass_send(socket, &message, sizeof(message), fd);
}

int sync_tell(int socket, enum sync_kind kind, pid_t pid, struct err *err)
{
    struct sync_message message = {.kind = (int)kind, .pid = pid};
    int result = fdpass_send(socket, &message, sizeof(message), -1);

    if (result == -EPIPE || result == -ECONNRESET) {
        shutdown(socket, SHUT_WR);
        return 0;
    }
    return result < 0 ? err_errno(err, result, "talk to the container's first process") : 0;
}

static int receive(int socket, enum sync_kind kind, struct sync_message *ret, int *ret_fd,
                   struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    ssize_t n = fdpass_receive(socket, ret, sizeof(*ret), &fd);

    if (n < 0 && n != -ECONNRESET)
        return err_errno(err, (int)n, "talk to the container's first process");
    if (n <= 0)
        return 1;
    if (n == (ssize_t)sizeof(*ret) && ret->kind == SYNC_FAILED) {
        ret->failure.message[ERR_MESSAGE_MAX - 1] = '\0';
        return err_set(err, ret->failure.code < 0 ? ret->failure.code : -EIO, "%s",
                       ret->failure.message);
    }
    if (n != (ssize_t)sizeof(*ret) || ret->kind != (int)kind)
        return err_set(err, -EPROTO, "the container's first process spoke out of turn");
    if (ret_fd)
        *ret_fd = TAKE_FD(fd);
    return 0;
}

int sync_wait(int socket, enum sync_kind kind, int *ret_fd, struct err *err)
{
    struct sync_message message;

    if (ret_fd)
        *ret_fd = -1;
    return receive(socket, kind, &message, ret_fd, err);
}

int sync_wait_pid(int socket, enum sync_kind kind, pid_t *ret, struct err *err)
{
    struct sync_message message;
    int result = receive(socket, kind, &message, NULL, err);

    if (result == 0)
        *ret = message.pid;
    return result;
}
