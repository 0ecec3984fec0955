/* SPDX-License-Identifier: Apache-2.0 */
/* A word to a VM's monitor, over its control socket: include/vmm_control.h. */
#include "manager/internal.h"

#include "vmm_control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_S 10

int vm_command(struct manager *m, const char *id, const char *command, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = ANSWER_S};
    char line[1024];
    json_t *reply = NULL;
    size_t have = 0;
    int n, result;

    if (fd < 0)
        return err_errno(err, -errno, "socket");
    run_path(m, address.sun_path, sizeof(address.sun_path), "i/%s/v/vm/control", id);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, -errno, "reach the virtual machine's monitor");
    n = snprintf(line, sizeof(line), "{\"command\": \"%s\"}\n", command);
    if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)
        return err_errno(err, -errno, "ask the virtual machine's monitor");
    while (have < sizeof(line) && !memchr(line, '\n', have)) {
        ssize_t got = recv(fd, line + have, sizeof(line) - have, 0);

        if (got <= 0)
            return err_set(err, -ETIMEDOUT, "the virtual machine's monitor does not answer");
        have += (size_t)got;
    }
    if ((result = json_parse(line, have, "monitor", &reply, err)) < 0)
        return result;
    if (!json_is_true(json_object_get(reply, "ok")))
        result = err_set(err, -EREMOTEIO, "%s",
                         json_string_value(json_object_get(reply, "error")) ?: "refused");
    json_decref(reply);
    return result;
}
