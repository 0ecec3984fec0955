/* SPDX-License-Identifier: Apache-2.0 */
/* A word to a VM's monitor, over its control socket: include/vmm_control.h. */
#include "manager/internal.h"

#include "vmm_control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_S 10

int vm_ask(struct manager *m, const char *id, json_t *request, json_t **ret, struct err *err)
{
    CLEANUP(freep) char *text = json_text(request, JSON_COMPACT);
    CLEANUP(freep) char *line = malloc(VMM_CONTROL_LINE_MAX);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = ANSWER_S};
    json_t *reply = NULL;
    size_t have = 0, length;
    int result;

    json_decref(request);
    if (!text || !line)
        return err_set(err, -ENOMEM, "out of memory");
    length = strlen(text) + 1;
    if (fd < 0)
        return err_errno(err, -errno, "socket");
    run_path(m, address.sun_path, sizeof(address.sun_path), "i/%s/v/vm/control", id);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, -errno, "reach the virtual machine's monitor");
    text[length - 1] = '\n'; /* in the place of the terminator */
    if (send(fd, text, length, MSG_NOSIGNAL) != (ssize_t)length)
        return err_errno(err, -errno, "ask the virtual machine's monitor");
    while (have < VMM_CONTROL_LINE_MAX && !memchr(line, '\n', have)) {
        ssize_t got = recv(fd, line + have, VMM_CONTROL_LINE_MAX - have, 0);

        if (got <= 0)
            return err_set(err, -ETIMEDOUT, "the virtual machine's monitor does not answer");
        have += (size_t)got;
    }
    if ((result = json_parse(line, have, "monitor", &reply, err)) < 0)
        return result;
    if (!json_is_true(json_object_get(reply, "ok")))
        result = err_set(err, -EREMOTEIO, "%s",
                         json_string_value(json_object_get(reply, "error")) ?: "refused");
    else if (ret)
        *ret = json_incref(json_object_get(reply, "result"));
    json_decref(reply);
    return result;
}

int vm_command(struct manager *m, const char *id, const char *command, struct err *err)
{
    return vm_ask(m, id, json_pack("{s:s}", "command", command), NULL, err);
}
