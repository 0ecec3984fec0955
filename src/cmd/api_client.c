/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of HTTP: requests with Content-Length, answers with that or in chunks. */
#include "cmd/api_client.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "cmd/manager_paths.h"
#include "cmd/programs.h"
#include "cmd/remote.h"
#include "cmd/send_all.h"
#include "stream_protocol.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEAD_MAX  65536
#define REPLY_MAX (256u << 20)

#define START_LIMIT_NS (60 * NS_PER_S)
/* One that serves answers at once, and one that has died hangs up: this is for a host under load.
 */
#define ANSWER_MS 10000
/* A killed manager's socket takes connections until the kernel has put the process away. */
#define REPEATS   10
#define REPEAT_MS 50

struct answer {
    int fd, note_fd;       /* note_fd: of a manager on another host (cmd/remote.h), else -1 */
    struct buf in;         /* received and not used yet */
    int status, exit_code; /* exit_code: of a refusal that has one, else 0 */
    bool chunked;
    uint64_t length; /* of the body, unless chunked; UINT64_MAX: to the end */
};

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
        (int)sizeof(address.sun_path))
        return -ENAMETOOLONG;
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* Of those that are started at once all but one give up: whichever serves will do. *ret_fd: a
 * connection to it. */
static int start_manager(const struct manager_paths *paths, int *ret_fd, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + START_LIMIT_NS;
    CLEANUP(freep) struct store *store = calloc(1, sizeof(*store));
    char program[PATH_MAX], log[MANAGER_PATHS_MAX + 16];
    int result, status = -1;
    pid_t pid;

    if (!store)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = store_open(store, err)) < 0 ||
        (result = program_find(store, "lodged", "LODGED", program, err)) < 0 ||
        (result = manager_paths_make(paths, err)) < 0)
        return result;
    snprintf(log, sizeof(log), "%s/lodged.log", paths->state);
    if ((pid = fork()) == 0) {
        /* Whoever reads what we print waits for us alone. */
        for (int fd = 0, null = open("/dev/null", O_RDWR | O_CLOEXEC); fd < 3 && null >= 0; fd++)
            dup2(null, fd);
        execl(program, program, "--detach", "--log", log, (char *)NULL);
        _exit(127);
    }
    if (pid < 0)
        return err_errno(err, -errno, "start '%s'", program);
    /* Another may be starting as well, and ours end because that one serves. */
    while (*ret_fd < 0 && (*ret_fd = connect_to(paths->socket)) < 0) {
        if (waitpid(pid, &status, WNOHANG) == pid && status != 0 &&
            (*ret_fd = connect_to(paths->socket)) < 0)
            return err_set(err, -EIO, "the manager did not start; its log is '%s'", log);
        if (clock_monotonic_ns() >= deadline_ns)
            return err_set(err, -ETIMEDOUT, "the manager does not come up; its log is '%s'", log);
        usleep(5000);
    }
    return 0;
}

static int connect_here(int *ret, struct err *err)
{
    struct manager_paths paths;
    int fd, result = manager_paths_find(&paths, err);

    if (result < 0)
        return result;
    fd = connect_to(paths.socket);
    if (fd == -ENOENT || fd == -ECONNREFUSED) {
        if (getenv("LODGE_SOCKET"))
            return err_errno(err, fd, "reach the manager at '%s' (LODGE_SOCKET)", paths.socket);
        if ((result = start_manager(&paths, &fd, err)) < 0)
            return result;
    }
    if (fd < 0)
        return err_errno(err, fd, "reach the manager at '%s'", paths.socket);
    *ret = fd;
    return 0;
}

/* To be ended with disconnect, in failure too. */
static int api_connect(struct answer *answer, struct err *err)
{
    answer->note_fd = answer->fd = -1;
    buf_init(&answer->in, REPLY_MAX);
    return remote_is_set() ? remote_connect(&answer->fd, &answer->note_fd, err)
                           : connect_here(&answer->fd, err);
}

/* result: how it went; a connection that was lost is explained, where that is known. */
static bool went_away(int result)
{
    return result == -ECONNRESET || result == -EPIPE;
}

static void disconnect(struct answer *answer, int result, struct err *err)
{
    buf_done(&answer->in);
    fd_closep(&answer->fd);
    if (went_away(result) && answer->note_fd >= 0)
        remote_explain(TAKE_FD(answer->note_fd), err);
    fd_closep(&answer->note_fd);
}

bool api_is_there(void)
{
    struct manager_paths paths;

    return !remote_is_set() && manager_paths_find(&paths, NULL) == 0 &&
           manager_answers(paths.socket, ANSWER_MS);
}

void api_escape(struct buf *to, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (isalnum(c) || strchr("-_.~", c))
            buf_append(to, text, 1);
        else
            buf_printf(to, "%%%02X", c);
    }
}

static int send_request(int fd, const char *method, const char *path, json_t *body, bool upgrade,
                        struct err *err)
{
    CLEANUP(freep) char *text = json_text(body, JSON_COMPACT);
    CLEANUP(buf_donep) struct buf out;
    int result;

    buf_init(&out, 8u << 20);
    if (body && !text) {
        json_decref(body);
        return err_set(err, -EINVAL, "an argument is not UTF-8");
    }
    json_decref(body);
    buf_printf(&out, "%s %s HTTP/1.1\r\nHost: lodge\r\n", method, path);
    if (upgrade)
        buf_append_string(&out, "Connection: Upgrade\r\nUpgrade: " STREAM_UPGRADE "\r\n");
    else
        buf_append_string(&out, "Connection: close\r\n");
    if (text)
        buf_printf(&out, "Content-Type: application/json\r\n");
    if (text || strcmp(method, "GET") != 0)
        buf_printf(&out, "Content-Length: %zu\r\n", text ? strlen(text) : (size_t)0);
    buf_append_string(&out, "\r\n");
    if (text)
        buf_append_string(&out, text);
    result = send_all(fd, out.data, out.length, NULL);
    return result < 0 ? err_errno(err, result, "ask the manager") : 0;
}

/* More bytes into in; 0 at the end. */
static ssize_t receive(struct answer *answer)
{
    ssize_t n;

    if (buf_reserve(&answer->in, 65536) < 0)
        return -ENOMEM;
    do
        n = recv(answer->fd, answer->in.data + answer->in.length, 65536, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        answer->in.length += (size_t)n;
    return n < 0 ? -errno : n;
}

static void parse_header(struct answer *answer, const char *line)
{
    if (!strncasecmp(line, "Content-Length:", 15))
        answer->length = strtoull(line + 15, NULL, 10);
    else if (!strncasecmp(line, "Transfer-Encoding:", 18) && strstr(line, "chunked"))
        answer->chunked = true;
}

static int read_head(struct answer *answer, struct err *err)
{
    char *end, *line, *rest;

    while (!answer->in.length ||
           !(end = memmem(answer->in.data, answer->in.length, "\r\n\r\n", 4))) {
        if (answer->in.length > HEAD_MAX || receive(answer) <= 0)
            return err_set(err, -ECONNRESET,
                           "the manager went away before it answered; ask again (it starts anew)");
    }
    *end = '\0';
    answer->length = UINT64_MAX;
    line = strtok_r(answer->in.data, "\r\n", &rest);
    if (!line || sscanf(line, "HTTP/1.%*d %d", &answer->status) != 1)
        return err_set(err, -EPROTO, "what answers at the manager's socket is no manager");
    while ((line = strtok_r(NULL, "\r\n", &rest)))
        parse_header(answer, line);
    buf_consume(&answer->in, (size_t)(end + 4 - answer->in.data));
    return 0;
}

typedef int piece_fn(const char *data, size_t length, void *context);

/* Hands on `length` bytes; fewer when the connection ends. */
static int pass_on(struct answer *answer, uint64_t length, piece_fn *fn, void *context)
{
    while (length) {
        size_t part = (size_t)MIN(length, (uint64_t)answer->in.length);
        int result;

        if (part && (result = fn(answer->in.data, part, context)) != 0)
            return result;
        buf_consume(&answer->in, part);
        length -= part;
        if (length && !answer->in.length && receive(answer) <= 0)
            return -ECONNRESET;
    }
    return 0;
}

static int read_chunks(struct answer *answer, piece_fn *fn, void *context)
{
    for (;;) {
        char *end;
        uint64_t length;
        int result;

        while (!answer->in.length || !(end = memmem(answer->in.data, answer->in.length, "\r\n", 2)))
            if (answer->in.length > 1024 || receive(answer) <= 0)
                return -ECONNRESET;
        *end = '\0';
        length = strtoull(answer->in.data, NULL, 16);
        buf_consume(&answer->in, (size_t)(end + 2 - answer->in.data));
        if (length == 0)
            return 0;
        if ((result = pass_on(answer, length, fn, context)) != 0)
            return result;
        while (answer->in.length < 2)
            if (receive(answer) <= 0)
                return -ECONNRESET;
        buf_consume(&answer->in, 2);
    }
}

static int read_body(struct answer *answer, piece_fn *fn, void *context)
{
    int result;

    if (answer->chunked)
        return read_chunks(answer, fn, context);
    result = pass_on(answer, answer->length, fn, context);
    return result == -ECONNRESET && answer->length == UINT64_MAX ? 0 : result;
}

static int collect(const char *data, size_t length, void *context)
{
    return buf_append(context, data, length);
}

/* What the manager says about a refusal. */
static int refusal(struct answer *answer, struct err *err)
{
    CLEANUP(buf_donep) struct buf body;
    json_t *document;
    const char *message;

    buf_init(&body, 1 << 20);
    read_body(answer, collect, &body);
    document = json_loadb(body.data ?: "", body.length, 0, NULL);
    message = json_string_value(json_object_get(json_object_get(document, "error"), "message"));
    answer->exit_code =
        (int)json_integer_value(json_object_get(json_object_get(document, "error"), "exit_code"));
    err_set(err, -EREMOTEIO, "%s", message ?: "the manager refused without a word");
    json_decref(document);
    return -EREMOTEIO;
}

static int ask_once(const char *method, const char *path, json_t *body, struct answer *answer,
                    json_t **ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    int result = api_connect(answer, err);

    buf_init(&text, REPLY_MAX);
    if (result < 0) {
        json_decref(body);
        disconnect(answer, result, err);
        return result;
    }
    if ((result = send_request(answer->fd, method, path, body, false, err)) == 0 &&
        (result = read_head(answer, err)) == 0) {
        if (answer->status >= 400)
            result = refusal(answer, err);
        else if ((result = read_body(answer, collect, &text)) < 0)
            err_errno(err, result, "the manager's answer was cut off");
        else if (ret && !(*ret = json_loadb(text.data ?: "", text.length, 0, NULL)))
            result = err_set(err, -EPROTO, "the manager's answer is not JSON");
    }
    disconnect(answer, result, err);
    return result;
}

/* After a while, what only reads is asked again of the next manager when this one was killed. */
static bool is_asked_again(const char *method, int result, int times)
{
    if (!went_away(result) || times >= REPEATS || remote_is_set() || strcmp(method, "GET") != 0)
        return false;
    (void)poll(NULL, 0, REPEAT_MS);
    return true;
}

/* Takes body. */
static int ask(const char *method, const char *path, json_t *body, struct answer *answer,
               json_t **ret, struct err *err)
{
    int result = ask_once(method, path, body, answer, ret, err);

    for (int i = 0; is_asked_again(method, result, i); i++) {
        *answer = (struct answer){.fd = -1};
        result = ask_once(method, path, NULL, answer, ret, err);
    }
    return result;
}

int api_ask(const char *method, const char *path, json_t *body, json_t **ret, int *ret_status,
            struct err *err)
{
    struct answer answer = {.fd = -1};
    int result = ask(method, path, body, &answer, ret, err);

    if (ret_status && answer.status)
        *ret_status = answer.status;
    return result;
}

int api_ask_life(const char *method, const char *path, json_t *body, int *ret_exit_code,
                 struct err *err)
{
    struct answer answer = {.fd = -1};
    int result = ask(method, path, body, &answer, NULL, err);

    if (answer.exit_code)
        *ret_exit_code = answer.exit_code;
    return result;
}

struct api_put {
    int fd;
    bool chunked;
    const volatile sig_atomic_t *stop;
};

int api_put_write(struct api_put *put, const void *data, size_t length)
{
    char head[24];
    int result = 0, n = snprintf(head, sizeof(head), "%zx\r\n", length);

    if (!length)
        return 0; /* as a chunk it would be the end */
    if (put->chunked)
        result = send_all(put->fd, head, (size_t)n, put->stop);
    if (result == 0)
        result = send_all(put->fd, data, length, put->stop);
    if (result == 0 && put->chunked)
        result = send_all(put->fd, "\r\n", 2, put->stop);
    return result;
}

static int put_head(struct api_put *put, const char *path, uint64_t length)
{
    char head[512], framing[48] = "Transfer-Encoding: chunked";
    int n;

    if (!put->chunked)
        snprintf(framing, sizeof(framing), "Content-Length: %llu", (unsigned long long)length);
    n = snprintf(head, sizeof(head),
                 "PUT %.200s HTTP/1.1\r\nHost: lodge\r\nConnection: close\r\n"
                 "Content-Type: application/octet-stream\r\n%s\r\n\r\n",
                 path, framing);
    return send_all(put->fd, head, (size_t)n, put->stop);
}

int api_put(const char *path, uint64_t length, const volatile sig_atomic_t *stop,
            int (*produce)(struct api_put *put, void *context, struct err *err), void *context,
            struct err *err)
{
    struct answer answer = {.fd = -1};
    struct api_put put = {.chunked = length == UINT64_MAX, .stop = stop};
    int result = api_connect(&answer, err);

    put.fd = answer.fd;
    if (result == 0 && (result = put_head(&put, path, length)) < 0)
        err_errno(err, result, "ask the manager");
    if (result == 0 && (result = produce(&put, context, err)) == 0 && put.chunked &&
        (result = send_all(put.fd, "0\r\n\r\n", 5, stop)) < 0)
        err_errno(err, result, "ask the manager");
    /* Who wants no more may have said why. */
    if ((result == 0 || result == -EPIPE) && read_head(&answer, err) == 0)
        result = answer.status >= 400 ? refusal(&answer, err) : 0;
    else if (result == 0)
        result = -ECONNRESET;
    disconnect(&answer, result, err);
    return result;
}

/* Until the answer begins. */
static int begin_stream(struct answer *answer, const char *path, struct err *err)
{
    int result = api_connect(answer, err);

    if (result == 0 && (result = send_request(answer->fd, "GET", path, NULL, false, err)) == 0)
        result = read_head(answer, err);
    return result;
}

int api_stream(const char *path, piece_fn *fn, void *context, struct err *err)
{
    struct answer answer = {.fd = -1};
    int result = begin_stream(&answer, path, err);

    for (int i = 0; is_asked_again("GET", result, i); i++) {
        disconnect(&answer, result, err);
        answer = (struct answer){.fd = -1};
        result = begin_stream(&answer, path, err);
    }
    if (result == 0 && answer.status >= 400)
        result = refusal(&answer, err);
    else if (result == 0 && (result = read_body(&answer, fn, context)) == -ECONNRESET)
        err_set(err, result, "the manager went away");
    disconnect(&answer, result, err);
    return result;
}

int api_upgrade(const char *path, json_t *body, int *ret_fd, struct err *err)
{
    struct answer answer = {.fd = -1};
    int result = api_connect(&answer, err);
    char byte;

    if (result < 0) {
        json_decref(body);
        disconnect(&answer, result, err);
        return result;
    }
    result = send_request(answer.fd, "POST", path, body, true, err);
    /* Nothing of the stream may be taken with the head: byte by byte. */
    while (
        result == 0 && answer.in.length < HEAD_MAX &&
        !(answer.in.length >= 4 && !memcmp(answer.in.data + answer.in.length - 4, "\r\n\r\n", 4))) {
        ssize_t n = recv(answer.fd, &byte, 1, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            result = err_set(err, -ECONNRESET, "the manager went away before it answered");
        else
            buf_append(&answer.in, &byte, 1);
    }
    if (result == 0 && (result = read_head(&answer, err)) == 0 && answer.status != 101)
        result = refusal(&answer, err);
    if (result == 0)
        *ret_fd = TAKE_FD(answer.fd);
    disconnect(&answer, result, err);
    return result;
}
