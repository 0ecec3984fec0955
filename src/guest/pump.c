/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two directions as small state machines over one buffer: what is in the buffer goes out before
 * anything more is read.
 */
#include "guest/pump.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <termios.h>

#define BUFFER_SIZE (AGENT_HEADER_SIZE + AGENT_DATA_SIZE)
/* How often one call goes round before other streams get their turn. */
#define WORK_ROUNDS 8

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int pump_init(struct pump *pump, bool input, bool tty, int file, int conn)
{
    *pump = (struct pump){.input = input, .tty = tty, .active = true, .file = file, .conn = conn};
    if (!(pump->buffer = malloc(BUFFER_SIZE))) {
        pump_done(pump);
        return -ENOMEM;
    }
    return 0;
}

void pump_done(struct pump *pump)
{
    close_fd(&pump->file);
    close_fd(&pump->conn);
    free(pump->buffer);
    *pump = (struct pump){.file = -1, .conn = -1};
}

static void finish(struct pump *pump)
{
    close_fd(&pump->file);
    close_fd(&pump->conn);
    pump->active = false;
}

void pump_abandon(struct pump *pump)
{
    if (pump->active && pump->input)
        finish(pump);
}

unsigned pump_poll(const struct pump *pump, struct pollfd *ret)
{
    bool writing = pump->at < pump->end;
    int from = pump->input ? pump->conn : pump->file;
    int to = pump->input ? pump->file : pump->conn;
    unsigned nr = 0;

    if (!pump->active)
        return 0;
    if (pump->input) {
        /* A frame header alone in the buffer cannot be written: more must be read. */
        writing = writing && pump->left > 0;
        if (writing)
            ret[nr++] = (struct pollfd){.fd = to, .events = POLLOUT};
        else
            ret[nr++] = (struct pollfd){.fd = from, .events = POLLIN};
        return nr;
    }
    ret[nr++] = (struct pollfd){.fd = to, .events = (short)(POLLIN | (writing ? POLLOUT : 0))};
    if (!writing)
        ret[nr++] = (struct pollfd){.fd = from, .events = POLLIN};
    return nr;
}

/* 1: something was done; 0: nothing to do now; negative: the connection is of no more use. */
static int output_write(struct pump *pump)
{
    ssize_t n = write(pump->conn, pump->buffer + pump->at, pump->end - pump->at);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    pump->at += (size_t)n;
    if (pump->at == pump->end && pump->ending)
        return -ESHUTDOWN;
    return 1;
}

static int output_read(struct pump *pump)
{
    ssize_t n = read(pump->file, pump->buffer + AGENT_HEADER_SIZE, AGENT_DATA_SIZE);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    /* A terminal whose last user has gone reads as EIO. */
    if (n <= 0) {
        agent_header_encode(pump->buffer, AGENT_END, 0);
        pump->ending = true;
        n = 0;
    } else {
        agent_header_encode(pump->buffer, AGENT_DATA, (uint32_t)n);
    }
    pump->at = 0;
    pump->end = AGENT_HEADER_SIZE + (size_t)n;
    return 1;
}

/* The host says nothing on an output but STOP, once: then the command's writes must fail as they
 * would on a closed pipe. */
static int output_listen(struct pump *pump)
{
    uint8_t header[AGENT_HEADER_SIZE];
    ssize_t n = read(pump->conn, header, sizeof(header));

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    return -EPIPE;
}

static int input_write(struct pump *pump)
{
    size_t length = MIN(pump->end - pump->at, (size_t)pump->left);
    ssize_t n = write(pump->file, pump->buffer + pump->at, length);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    pump->at += (size_t)n;
    pump->left -= (uint32_t)n;
    return 1;
}

static int input_end(struct pump *pump)
{
    struct termios settings;
    uint8_t eof = 4;

    /* A terminal has no end of file but its character. */
    if (pump->tty) {
        if (tcgetattr(pump->file, &settings) == 0)
            eof = settings.c_cc[VEOF];
        (void)!write(pump->file, &eof, 1);
    }
    return -ESHUTDOWN;
}

/* Takes the next frame's header out of the buffer, reading on when it is not whole. */
static int input_read(struct pump *pump)
{
    size_t have = pump->end - pump->at;
    ssize_t n;
    uint8_t type;

    if (have >= AGENT_HEADER_SIZE) {
        if (agent_header_decode(pump->buffer + pump->at, &type, &pump->left) < 0)
            return -EPROTO;
        pump->at += AGENT_HEADER_SIZE;
        if (type == AGENT_END)
            return input_end(pump);
        return type == AGENT_DATA ? 1 : -EPROTO;
    }
    memmove(pump->buffer, pump->buffer + pump->at, have);
    pump->at = 0;
    pump->end = have;
    n = read(pump->conn, pump->buffer + have, BUFFER_SIZE - have);
    if (n == 0)
        return -ECONNRESET;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    pump->end += (size_t)n;
    return 1;
}

static int input_step(struct pump *pump)
{
    if (pump->left == 0)
        return input_read(pump);
    if (pump->at < pump->end)
        return input_write(pump);
    pump->at = pump->end = 0;
    {
        ssize_t n = read(pump->conn, pump->buffer, BUFFER_SIZE);

        if (n == 0)
            return -ECONNRESET;
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        pump->end = (size_t)n;
    }
    return 1;
}

/* A header that has been read and not looked at: poll would not tell of it, as it has left the
 * connection. */
static bool has_header(const struct pump *pump)
{
    return pump->input && pump->left == 0 && pump->end - pump->at >= AGENT_HEADER_SIZE;
}

void pump_work(struct pump *pump)
{
    for (int i = 0; pump->active && (i < WORK_ROUNDS || has_header(pump)); i++) {
        int result;

        if (pump->input)
            result = input_step(pump);
        else if ((result = output_listen(pump)) == 0)
            result = pump->at < pump->end ? output_write(pump) : output_read(pump);
        if (result == 0)
            return;
        if (result < 0) {
            if (pump->input && result == -EPIPE) {
                uint8_t stop[AGENT_HEADER_SIZE];

                agent_header_encode(stop, AGENT_STOP, 0);
                (void)!write(pump->conn, stop, sizeof(stop));
            }
            finish(pump);
        }
    }
}
