/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Further programs in a guest on the manager's own account (health checks, top, figures of a VM),
 * and what a program in a VM is to the shim: shim/session.h. The guest is not trusted: its output
 * has a cap, its time a limit, and it is ended when that is over.
 */
#include "manager/internal.h"

#include "base/clock.h"
#include "base/util.h"
#include "stream_protocol.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static json_t *strings(char *const *list)
{
    json_t *array = json_array();

    for (size_t i = 0; list[i]; i++)
        json_array_append_new(array, json_string(list[i]) ?: json_string(""));
    return array;
}

int guest_vm_process(struct manager *m, const struct spec *spec, uint16_t rows, uint16_t cols,
                     json_t **ret, struct err *err)
{
    struct launch_request request = prepare_request(spec);
    CLEANUP(freep) struct image *image = calloc(1, sizeof(*image));
    struct launch_command command;
    int result;

    if (!image)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = image_open(m->options.images, spec->image, image, err)) < 0)
        return result;
    if ((result = launch_command_build(&request, image, &command, err)) == 0) {
        *ret = json_pack("{s:o, s:o, s:s, s:s, s:b, s:i, s:i}", "args", strings(command.argv),
                         "env", strings(command.env), "cwd", command.cwd, "user", command.user,
                         "terminal", spec->tty, "rows", (int)rows, "cols", (int)cols);
        launch_command_done(&command);
        if (!*ret)
            result = err_set(err, -EINVAL, "an argument is not UTF-8");
    }
    image_done(image);
    return result;
}

json_t *guest_program(const char *const *words)
{
    json_t *args = json_array();

    for (; *words; words++)
        json_array_append_new(args, json_string(*words));
    return json_pack("{s:o, s:[], s:s, s:s, s:b, s:b}", "args", args, "env", "cwd", "/", "user", "",
                     "terminal", 0, "builtin", 1);
}

json_t *guest_builtin(const char *name, const char *argument)
{
    const char *words[] = {name, argument, NULL};

    return guest_program(words);
}

/* One frame: 1 and its status when it was the last. */
static int take_frame(const struct buf *in, enum stream_type type, uint32_t length,
                      struct buf *output, int *ret_status, struct err *err)
{
    const char *payload = in->data + STREAM_HEADER_SIZE;
    json_t *end;

    if (type == STREAM_STDOUT && output && buf_append(output, payload, length) < 0)
        return err_set(err, -E2BIG, "the guest's answer has no end");
    if ((type == STREAM_ERROR || type == STREAM_STDERR) && err && length)
        err_set(err, 0, "%.*s", (int)MIN(length, 400u), payload);
    if (type != STREAM_EXIT)
        return 0;
    end = json_loadb(payload, length, 0, NULL);
    *ret_status = (int)json_integer_value(json_object_get(end, "exit_code"));
    json_decref(end);
    return 1;
}

static int read_to_exit(int fd, uint64_t deadline_ns, struct buf *output, int *ret_status,
                        struct err *err)
{
    CLEANUP(buf_donep) struct buf in;

    buf_init(&in, 2 * (STREAM_DATA_MAX + STREAM_HEADER_SIZE));
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        uint64_t now_ns = clock_monotonic_ns();
        enum stream_type type;
        uint32_t length;
        ssize_t n;
        int result;

        if (now_ns >= deadline_ns ||
            poll(&poll_fd, 1, (int)((deadline_ns - now_ns) / NS_PER_MS) + 1) == 0)
            return err_set(err, -ETIMEDOUT, "the guest does not answer");
        if (buf_reserve(&in, 4096) < 0 || (n = read(fd, in.data + in.length, 4096)) <= 0)
            return err_set(err, -ECONNRESET, "the instance's shim went away");
        in.length += (size_t)n;
        while (in.length >= STREAM_HEADER_SIZE) {
            if (!stream_header_decode((const uint8_t *)in.data, &type, &length))
                return err_set(err, -EPROTO, "the shim sent what is not in the protocol");
            if (in.length < STREAM_HEADER_SIZE + length)
                break;
            if ((result = take_frame(&in, type, length, output, ret_status, err)) != 0)
                return result < 0 ? result : 0;
            buf_consume(&in, STREAM_HEADER_SIZE + length);
        }
    }
}

int guest_run(struct manager *m, const char *id, json_t *process, uint64_t timeout_ms,
              struct buf *output, int *ret_status, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
    const uint8_t kill_it[STREAM_HEADER_SIZE + 1] = {STREAM_SIGNAL, 0, 0, 0, 0, 0, 0, 1, 9};
    CLEANUP(fd_closep) int link = -1;
    int ends[2], result;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        json_decref(process);
        return err_errno(err, -errno, "socket");
    }
    result = shim_hand_over(
        m, id, json_pack("{s:s, s:o, s:b}", "command", "exec", "process", process, "stdin", 0),
        ends[1], &link, err);
    close(ends[1]);
    if (result == 0 &&
        (result = read_to_exit(ends[0], deadline_ns, output, ret_status, err)) == -ETIMEDOUT)
        (void)!send(ends[0], kill_it, sizeof(kill_it), MSG_NOSIGNAL);
    close(ends[0]);
    return result;
}

int guest_ask(struct manager *m, const char *id, const char *builtin, struct buf *output,
              uint64_t timeout_ms, struct err *err)
{
    struct err said = ERR_INIT;
    int status = 125, result;

    result = guest_run(m, id, guest_builtin(builtin, NULL), timeout_ms, output, &status, &said);
    if (result < 0)
        return err_set(err, result, "%s", said.message);
    if (status != 0)
        return err_set(err, -EREMOTEIO, "the guest's agent: %s",
                       *said.message ? said.message : "it failed");
    return 0;
}
