/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each direction's copy loop. Blocking calls on purpose: the thread has nothing else to do, and
 * vm_stream_stop shuts the connection down to wake it.
 */
#include "cmd/vm_stream.h"

#include "base/file.h"
#include "base/util.h"
#include "cmd/send_all.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A thread that writes to a reader who does not read cannot be woken. */
#define STOP_LIMIT_S 1

/* A monitor may drop what it has not passed on yet when it sees us hang up: the guest's end closes
 * first. */
static void await_close(int conn)
{
    struct pollfd fd = {.fd = conn, .events = POLLIN};

    while (poll(&fd, 1, -1) < 0 && errno == EINTR)
        continue;
}

/* Our standard input into DATA frames; ends at its end, or when the command takes no more. */
static void copy_input(struct vm_stream *stream, uint8_t *buffer)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = stream->conn, .events = POLLIN}};
        ssize_t n;

        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return;
        /* Whatever comes back on an input is STOP or the end. */
        if (fds[1].revents)
            return;
        if (!fds[0].revents)
            continue;
        n = read(STDIN_FILENO, buffer + AGENT_HEADER_SIZE, AGENT_DATA_SIZE);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0) {
            agent_header_encode(buffer, AGENT_END, 0);
            if (send_all(stream->conn, buffer, AGENT_HEADER_SIZE, NULL) == 0)
                await_close(stream->conn);
            return;
        }
        agent_header_encode(buffer, AGENT_DATA, (uint32_t)n);
        if (send_all(stream->conn, buffer, AGENT_HEADER_SIZE + (size_t)n, NULL) < 0)
            return;
    }
}

static void refuse_more(struct vm_stream *stream)
{
    uint8_t stop[AGENT_HEADER_SIZE];

    agent_header_encode(stop, AGENT_STOP, 0);
    (void)!send_all(stream->conn, stop, sizeof(stop), NULL);
}

/* Frames out of the buffer to our file. Returns the bytes consumed; *left is what the current frame
 * still has to come. 0 consumed with nothing left: more bytes are needed. Negative: the end. */
static ssize_t take_frames(struct vm_stream *stream, int file, const uint8_t *data, size_t length,
                           uint32_t *left)
{
    size_t at = 0;
    uint8_t type;

    for (;;) {
        size_t chunk = MIN((size_t)*left, length - at);
        int result = chunk ? file_write_full(file, data + at, chunk) : 0;

        if (result < 0) {
            atomic_store(&stream->write_error, -result);
            refuse_more(stream);
            return -EPIPE;
        }
        at += chunk;
        *left -= (uint32_t)chunk;
        if (*left > 0 || length - at < AGENT_HEADER_SIZE)
            return (ssize_t)at;
        if (agent_header_decode(data + at, &type, left) < 0 ||
            (type != AGENT_DATA && type != AGENT_END)) {
            atomic_store(&stream->broken, true);
            return -EPROTO;
        }
        at += AGENT_HEADER_SIZE;
        if (type == AGENT_END)
            return -ESHUTDOWN;
    }
}

static void copy_output(struct vm_stream *stream, uint8_t *buffer, size_t size)
{
    int file = stream->role == AGENT_ROLE_STDERR ? STDERR_FILENO : STDOUT_FILENO;
    size_t have = 0;
    uint32_t left = 0;

    for (;;) {
        ssize_t n = read(stream->conn, buffer + have, size - have), taken;

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            atomic_store(&stream->broken, true);
            return;
        }
        have += (size_t)n;
        if ((taken = take_frames(stream, file, buffer, have, &left)) < 0)
            return;
        have -= (size_t)taken;
        memmove(buffer, buffer + taken, have);
    }
}

static void *stream_main(void *context)
{
    struct vm_stream *stream = context;
    size_t size = AGENT_HEADER_SIZE + AGENT_DATA_SIZE;
    uint8_t *buffer = malloc(size);
    uint64_t one = 1;

    if (!buffer)
        atomic_store(&stream->broken, true);
    else if (stream->role == AGENT_ROLE_STDIN)
        copy_input(stream, buffer);
    else
        copy_output(stream, buffer, size);
    free(buffer);
    shutdown(stream->conn, SHUT_RDWR);
    atomic_store(&stream->done, true);
    (void)!write(stream->notify_fd, &one, sizeof(one));
    return NULL;
}

int vm_stream_start(struct vm_stream *stream, enum agent_role role, int conn, int notify_fd,
                    struct err *err)
{
    int result;

    stream->role = role;
    stream->conn = conn;
    stream->notify_fd = notify_fd;
    if ((result = pthread_create(&stream->thread, NULL, stream_main, stream)) != 0) {
        close(conn);
        stream->conn = -1;
        return err_errno(err, -result, "start a stream's thread");
    }
    stream->started = true;
    return 0;
}

bool vm_stream_stop(struct vm_stream *stream)
{
    struct timespec limit;

    if (!stream->started)
        return true;
    shutdown(stream->conn, SHUT_RDWR);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += STOP_LIMIT_S;
    if (pthread_timedjoin_np(stream->thread, NULL, &limit) != 0)
        return false;
    close(stream->conn);
    stream->started = false;
    return true;
}
