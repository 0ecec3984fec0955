/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge cp: files between here and an instance, as a tar archive over an upgraded connection. What
 * comes from an instance is not trusted: it is put below the place that was named and nowhere else.
 */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/managed.h"
#include "cmd/progress.h"
#include "cmd/send_all.h"
#include "copy/copy.h"
#include "stream_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_MAX 1024

struct transfer {
    int fd;
    uint32_t left; /* bytes of the current STDOUT frame */
    bool ended;    /* EXIT came */
    int status;
    char message[MESSAGE_MAX]; /* what the other end said about a failure */
    struct progress progress;
    uint64_t bytes;
};

static int receive_all(int fd, void *data, size_t length)
{
    for (size_t have = 0; have < length;) {
        ssize_t n = recv(fd, (char *)data + have, length - have, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ECONNRESET;
        have += (size_t)n;
    }
    return 0;
}

static int take_words(struct transfer *t, enum stream_type type, uint32_t length)
{
    CLEANUP(freep) char *data = malloc((size_t)length + 1);
    size_t used = strlen(t->message);
    json_t *end;
    int result;

    if (!data)
        return -ENOMEM;
    if ((result = receive_all(t->fd, data, length)) < 0)
        return result;
    data[length] = '\0';
    if (type == STREAM_EXIT) {
        end = json_loadb(data, length, 0, NULL);
        t->status = (int)json_integer_value(json_object_get(end, "exit_code"));
        json_decref(end);
        t->ended = true;
    } else if (type == STREAM_ERROR || type == STREAM_STDERR) {
        for (char *c = data; *c; c++) /* a guest's words, perhaps: none for our terminal */
            if ((unsigned char)*c < 32 || *c == 127)
                *c = ' ';
        snprintf(t->message + used, sizeof(t->message) - used, "%s", data);
    }
    return 0;
}

/* Up to the next bytes of the archive, or the end. */
static int next_frame(struct transfer *t)
{
    uint8_t header[STREAM_HEADER_SIZE];
    enum stream_type type;
    uint32_t length;
    int result;

    while (!t->left && !t->ended) {
        if ((result = receive_all(t->fd, header, sizeof(header))) < 0)
            return result;
        if (!stream_header_decode(header, &type, &length))
            return -EPROTO;
        if (type == STREAM_STDOUT)
            t->left = length;
        else if ((result = take_words(t, type, length)) < 0)
            return result;
    }
    return 0;
}

static ssize_t archive_read(void *data, size_t most, void *context)
{
    struct transfer *t = context;
    int result = next_frame(t);
    size_t part = MIN(most, (size_t)t->left);

    if (result < 0 || t->ended)
        return result;
    if ((result = receive_all(t->fd, data, part)) < 0)
        return result;
    t->left -= (uint32_t)part;
    progress_show(&t->progress, "received", t->bytes += part, 0);
    return (ssize_t)part;
}

static int send_frame(const struct transfer *t, enum stream_type type, const void *data,
                      size_t length)
{
    uint8_t frame[STREAM_HEADER_SIZE + 32768];

    stream_header_encode(frame, type, (uint32_t)length);
    memcpy(frame + STREAM_HEADER_SIZE, data, length);
    length += STREAM_HEADER_SIZE;
    return send_all(t->fd, frame, length, NULL);
}

static int archive_write(const void *data, size_t length, void *context)
{
    struct transfer *t = context;
    const char *at = data;
    int result = 0;

    while (length && result == 0) {
        size_t part = MIN(length, (size_t)32768);

        result = send_frame(t, STREAM_STDIN, at, part);
        at += part;
        length -= part;
        progress_show(&t->progress, "sent", t->bytes += part, 0);
    }
    return result;
}

/* The file system's root, and the path from it, so that it is resolved as any other. */
static int open_here(const char *path, char ret_path[PATH_MAX], struct err *err)
{
    char here[PATH_MAX] = "";
    int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || (*path != '/' && !getcwd(here, sizeof(here)))) {
        fd_closep(&fd);
        return err_errno(err, -errno, "the working directory");
    }
    if (snprintf(ret_path, PATH_MAX, "%s%s%s", here, *path == '/' ? "" : "/", path) >= PATH_MAX) {
        close(fd);
        return err_errno(err, -ENAMETOOLONG, "'%.200s'", path);
    }
    return fd;
}

/* The other end's word about what went wrong, which explains ours. */
static int finish(struct transfer *t, int result, struct err *err)
{
    int heard = 0;

    while (!t->ended && (heard = next_frame(t)) == 0) {
        char waste[4096];
        size_t part = MIN((size_t)t->left, sizeof(waste));

        if (t->ended || (heard = receive_all(t->fd, waste, part)) < 0)
            break;
        t->left -= (uint32_t)part;
    }
    if (t->ended && t->status != 0)
        return err_set(err, -EREMOTEIO, "%s", *t->message ? t->message : "the copy failed there");
    if (result == 0 && !t->ended)
        return err_errno(err, heard < 0 ? heard : -ECONNRESET, "the connection to the instance");
    return result;
}

static int copy_from(struct transfer *t, const char *to, bool keep, struct err *err)
{
    const struct copy_in_options options = {.keep_owner = keep};
    char path[PATH_MAX];
    CLEANUP(fd_closep) int root = open_here(to, path, err);
    int result = root < 0 ? root : copy_in(root, path, &options, archive_read, t, NULL, err);

    /* Ours may be the cause, so the other end's story is waited for only if it can come. */
    if (result < 0 && !t->ended && !*t->message)
        shutdown(t->fd, SHUT_RDWR);
    return finish(t, result, err);
}

static int copy_to(struct transfer *t, const char *from, struct err *err)
{
    char path[PATH_MAX];
    CLEANUP(fd_closep) int root = open_here(from, path, err);
    int result = root < 0 ? root : copy_out(root, path, archive_write, t, NULL, err);

    if (result == 0)
        send_frame(t, STREAM_STDIN_END, "", 0);
    else if (result != -EPIPE && result != -ECONNRESET)
        shutdown(t->fd, SHUT_RDWR); /* what is there is no whole archive, and is not to be one */
    return finish(t, result, err);
}

/* INSTANCE:PATH; a path with a '/' before its ':' is one of ours. NULL: no instance. */
static char *split(const char *text, const char **ret_path)
{
    const char *colon = strchr(text, ':'), *slash = strchr(text, '/');

    if (!colon || colon == text || (slash && slash < colon) || *text == '.')
        return NULL;
    *ret_path = colon[1] ? colon + 1 : "/";
    return strndup(text, (size_t)(colon - text));
}

static int run(int argc, char **argv)
{
    bool keep = false, quiet = false;
    const struct managed_option options[] = {{"--archive", 'a', &keep, NULL},
                                             {"--quiet", 'q', &quiet, NULL}};
    int nr = managed_parse(&verb_cp, options, ARRAY_LEN(options), argc, argv), result;
    const char *there = NULL, *ignored;
    CLEANUP(freep) char *from = NULL;
    CLEANUP(freep) char *to = NULL;
    struct transfer t = {.fd = -1, .status = 125};
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr != 2)
        return cli_usage_error(&verb_cp, "a source and a destination are needed");
    from = split(argv[1], &there);
    to = split(argv[2], from ? &ignored : &there);
    if (!from == !to)
        return cli_usage_error(&verb_cp, from ? "one of both has to be here"
                                              : "one of both has to be INSTANCE:PATH");
    signal(SIGPIPE, SIG_IGN);
    managed_path(path, from ? from : to, "/copy");
    result = api_upgrade(path,
                         json_pack("{s:s, s:s, s:b}", "path", there, "direction",
                                   from ? "out" : "in", "keep_owner", keep),
                         &t.fd, &err);
    if (result < 0)
        return managed_fail(&err);
    progress_init(&t.progress, quiet);
    result = from ? copy_from(&t, argv[2], keep, &err) : copy_to(&t, argv[1], &err);
    progress_end(&t.progress);
    close(t.fd);
    return result < 0 ? managed_fail(&err) : 0;
}

const struct cli_verb verb_cp = {
    .name = "cp",
    .summary = "Copies files and trees between here and an instance",
    .usage = "cp [--archive] INSTANCE:PATH DESTINATION\n"
             "       lodge cp [--archive] SOURCE INSTANCE:PATH",
    .help = "Into a directory that is there, else as what is named. SOURCE/. is what a directory\n"
            "holds, without itself. The instance need not run; a virtual machine that does not is\n"
            "begun for the copy's sake, without its command (one of parts, `lodge vm create`, has\n"
            "no agent of ours: there it cannot be done).\n"
            "  -a, --archive  owners, too, and set-id bits; without it, what is copied belongs to\n"
            "                 who copies (root in an instance)\n"
            "  -q, --quiet    no progress\n",
    .run = run,
};
