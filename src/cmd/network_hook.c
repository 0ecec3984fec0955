/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `lodge network serve user[,hostfwd=...]`: the hook (OCI runtime specification, createRuntime)
 * that gives a container a user-mode network. It reads the container's state, leaves a process
 * behind that serves until the container ends, and returns when the interface is there.
 */
#include "cmd/network_hook.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "cmd/cli.h"
#include "cmd/run_network.h"
#include "net/net.h"
#include "network/network.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATE_MAX (1u << 20)

static int read_pid(pid_t *ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    json_t *document = NULL;
    char data[4096];
    ssize_t n;
    int r;

    buf_init(&text, STATE_MAX);
    while ((n = read(STDIN_FILENO, data, sizeof(data))) > 0)
        if (buf_append(&text, data, (size_t)n) < 0)
            return err_set(err, -E2BIG, "the container's state is too long");
    if ((r = json_parse(text.data ?: "", text.length, "state", &document, err)) < 0)
        return r;
    *ret = (pid_t)json_integer_value(json_object_get(document, "pid"));
    json_decref(document);
    return *ret > 1 ? 0 : err_set(err, -EINVAL, "the container's state names no process");
}

/* Apart from the runtime, whose pipes must not stay open. */
static _Noreturn void serve(pid_t pid, const struct net_user_options *options, int ready)
{
    struct err err = ERR_INIT;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    setsid();
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    /* The error of the start is still told; after it, nobody listens. */
    if (ready != 3) {
        dup2(ready, 3);
        close(ready);
    }
    fcntl(3, F_SETFD, FD_CLOEXEC);
    dup2(null, STDERR_FILENO);
    close_range(4, ~0u, 0);
    if (chdir("/") < 0)
        _exit(1);
    if (network_user_serve(pid, options, 3, &err) < 0)
        (void)!write(3, err.message, strlen(err.message));
    _exit(0);
}

int network_hook(const char *text)
{
    struct net_forward forwards[NET_FORWARDS_MAX];
    struct net_user_options options;
    struct err err = ERR_INIT;
    char answer[512];
    int ready[2] = {-1, -1};
    ssize_t n = -1;
    pid_t pid = 0, child;

    if (run_network_user_options(text, forwards, &options, &err) == 0 &&
        read_pid(&pid, &err) == 0) {
        if (pipe2(ready, O_CLOEXEC) < 0 || (child = fork()) < 0) {
            err_errno(&err, -errno, "start the user-mode network");
        } else if (child == 0) {
            close(ready[0]);
            serve(pid, &options, ready[1]);
        } else {
            close(ready[1]);
            n = read(ready[0], answer, sizeof(answer) - 1);
            if (n == 1 && !answer[0])
                return 0;
            answer[n > 0 ? n : 0] = '\0';
            err_set(&err, -EIO, "%s", n > 0 ? answer : "the user-mode network did not start");
        }
    }
    log_error("%s", err.message);
    return CLI_EXIT_FAILURE;
}
