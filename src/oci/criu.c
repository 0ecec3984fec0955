/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message is one packet of the SOCK_SEQPACKET pair. criu_req: 1 type, 2 opts, 3 notify_success.
 * criu_resp: 1 type, 2 success, 4 restore { 1 pid }, 5 notify { 1 script, 2 pid }, 7 errno,
 * 9 message.
 */
#include "oci/criu.h"

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/util.h"
#include "oci/protobuf.h"
#include "oci/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGE_SIZE_MAX 65536
#define REQUEST_NOTIFY   6

struct answer {
    uint64_t type, code;
    bool success;
    pid_t pid; /* of the restored process or the notification */
    char script[64];
    char message[256];
    int fd;
};

static void copy_text(char *to, size_t size, const struct protobuf_field *field)
{
    snprintf(to, size, "%.*s", (int)MIN(field->length, size - 1), (const char *)field->data);
}

static int keep_open(int fd)
{
    int flags = fcntl(fd, F_GETFD);

    return flags < 0 || fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) < 0 ? -errno : 0;
}

/* CRIU looks descriptors up in the process that made the socket pair: that has to be its own, whose
 * mount namespace `prepare` may have changed. Returns CRIU's end. */
static int make_socket(int report, struct err *err)
{
    int pair[2], result;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, -errno, "make a socket pair");
    if ((result = sync_send(report, SYNC_READY, NULL, pair[0])) < 0 ||
        (result = keep_open(pair[1])) < 0)
        return err_errno(err, result, "talk to CRIU");
    close(pair[0]);
    return pair[1];
}

__attribute__((noreturn)) static void become_criu(const struct criu_start *start, int report)
{
    struct err err = ERR_INIT;
    sigset_t none;
    char number[16];
    int result = 0, socket;

    for (size_t i = 0; i < start->nr_fds && result == 0; i++)
        if (start->fds[i] >= 0)
            result = keep_open(start->fds[i]);
    if (result < 0)
        err_errno(&err, result, "descriptors for CRIU");
    if (result == 0 && start->prepare)
        result = start->prepare(start->opaque, &err);
    if (result == 0 && (socket = make_socket(report, &err)) >= 0) {
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        snprintf(number, sizeof(number), "%d", socket);
        execlp(start->program, start->program, "swrk", number, (char *)NULL);
        err_errno(&err, -errno, "execute '%s' (CRIU)", start->program);
    }
    sync_send(report, SYNC_FAILED, &err, -1);
    _exit(127);
}

int criu_start(const struct criu_start *start, struct criu *ret, struct err *err)
{
    CLEANUP(fd_closep) int reports = -1;
    int report[2], result;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0)
        return err_errno(err, -errno, "make a socket pair");
    reports = report[0];
    ret->pid = fork();
    if (ret->pid == 0) {
        close(report[0]);
        become_criu(start, report[1]);
    }
    close(report[1]);
    if (ret->pid < 0) {
        ret->pid = 0;
        return err_errno(err, -errno, "start CRIU");
    }
    if ((result = sync_wait(reports, SYNC_READY, &ret->socket, err)) != 0)
        return result < 0 ? result : err_set(err, -ECHILD, "CRIU died before it was executed");
    /* End of file: it was executed. */
    result = sync_wait(reports, SYNC_READY, NULL, err);
    return result > 0 ? 0 : result < 0 ? result : err_set(err, -EPROTO, "start CRIU");
}

void criu_stop(struct criu *criu)
{
    fd_closep(&criu->socket);
    criu->socket = -1;
    if (criu->pid > 0)
        waitpid(criu->pid, NULL, 0);
    criu->pid = 0;
}

static int parse_part(const struct protobuf_field *part, struct answer *ret)
{
    struct protobuf_reader reader = {part->data, part->data + part->length};
    bool notify = part->number == 5;
    struct protobuf_field field;
    int result;

    while ((result = protobuf_next(&reader, &field)) > 0) {
        if (notify && field.number == 1 && field.is_bytes)
            copy_text(ret->script, sizeof(ret->script), &field);
        else if (!field.is_bytes && field.number == (notify ? 2u : 1u))
            ret->pid = (pid_t)field.value;
    }
    return result;
}

static int parse_answer(const char *data, size_t length, struct answer *ret)
{
    struct protobuf_reader reader = {(const unsigned char *)data,
                                     (const unsigned char *)data + length};
    struct protobuf_field field;
    int result;

    while ((result = protobuf_next(&reader, &field)) > 0) {
        if (field.number == 1 && !field.is_bytes)
            ret->type = field.value;
        else if (field.number == 2 && !field.is_bytes)
            ret->success = field.value != 0;
        else if (field.number == 7 && !field.is_bytes)
            ret->code = field.value;
        else if (field.number == 9 && field.is_bytes)
            copy_text(ret->message, sizeof(ret->message), &field);
        else if ((field.number == 4 || field.number == 5) && field.is_bytes &&
                 (result = parse_part(&field, ret)) < 0)
            return result;
    }
    return result;
}

static int receive(struct criu *criu, struct answer *ret, struct err *err)
{
    CLEANUP(freep) char *data = malloc(MESSAGE_SIZE_MAX);
    ssize_t n;

    if (!data)
        return err_set(err, -ENOMEM, "CRIU: out of memory");
    *ret = (struct answer){.fd = -1};
    n = fdpass_receive(criu->socket, data, MESSAGE_SIZE_MAX, &ret->fd);
    if (n == 0 || n == -ECONNRESET)
        return err_set(err, -EPIPE, "CRIU ended without an answer");
    if (n < 0)
        return err_errno(err, (int)n, "CRIU's answer");
    if (parse_answer(data, (size_t)n, ret) < 0)
        return err_set(err, -EBADMSG, "CRIU's answer cannot be understood");
    return 0;
}

static int send_request(struct criu *criu, int type, const struct buf *options, bool success,
                        struct err *err)
{
    CLEANUP(buf_donep) struct buf message;
    int result;

    buf_init(&message, MESSAGE_SIZE_MAX);
    if ((result = protobuf_put_uint(&message, 1, (uint64_t)type)) < 0 ||
        (options && (result = protobuf_put_message(&message, 2, options)) < 0) ||
        (!options && (result = protobuf_put_uint(&message, 3, success)) < 0))
        return err_errno(err, result, "request to CRIU");
    if (send(criu->socket, message.data, message.length, MSG_NOSIGNAL) < 0)
        return err_errno(err, -errno, "request to CRIU");
    return 0;
}

int criu_request(struct criu *criu, int type, const struct buf *options, criu_notify_fn *notify,
                 void *opaque, pid_t *ret_pid, struct err *err)
{
    struct answer answer;
    int result = send_request(criu, type, options, true, err);

    while (result == 0) {
        if ((result = receive(criu, &answer, err)) < 0)
            break;
        if (answer.type != REQUEST_NOTIFY) {
            fd_closep(&answer.fd);
            break;
        }
        if (notify)
            result = notify(opaque, answer.script, answer.pid, &answer.fd, err);
        fd_closep(&answer.fd);
        /* After a refusal CRIU cleans up and answers once more; what matters is why we refused. */
        if (result < 0) {
            send_request(criu, REQUEST_NOTIFY, NULL, false, NULL);
            while (receive(criu, &answer, NULL) == 0 && answer.type == REQUEST_NOTIFY)
                send_request(criu, REQUEST_NOTIFY, NULL, false, NULL);
            break;
        }
        result = send_request(criu, REQUEST_NOTIFY, NULL, true, err);
    }
    if (result < 0)
        return result;
    if (!answer.success)
        return err_set(err, answer.code ? -(int)MIN(answer.code, 4095u) : -EIO, "%s",
                       answer.message[0] ? answer.message : "CRIU reports a failure");
    if (ret_pid)
        *ret_pid = answer.pid;
    return 0;
}
