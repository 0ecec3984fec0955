/* SPDX-License-Identifier: Apache-2.0 */
/* Standard input and output as the guest's terminal: see console.h. */
#include "vmm/console.h"

#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define OUTPUT_BUFFER (64 * KIB)
#define INPUT_BUFFER  4096
#define ESCAPE        0x01 /* Ctrl-A */

struct console {
    struct loop *loop;
    struct console_functions functions;
    bool with_input;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* something to write, room, or the end */
    pthread_t writer;
    bool writer_runs;
    bool abandoned, ending, writing, broken;
    size_t head, used; /* of the output ring */
    char output[OUTPUT_BUFFER];

    /* The loop's thread only. */
    struct loop_fd *watch;
    struct loop_call pump;
    bool always_readable; /* a regular file or /dev/null: epoll does not take it */
    bool input_ended, escaped, raw;
    size_t input_start, input_end;
    char input[INPUT_BUFFER];
    struct termios saved;
};

static void *writer_main(void *context)
{
    struct console *c = context;

    pthread_mutex_lock(&c->lock);
    while (!c->ending) {
        size_t length = MIN(c->used, OUTPUT_BUFFER - c->head);
        ssize_t written;

        if (!length) {
            pthread_cond_wait(&c->changed, &c->lock);
            continue;
        }
        c->writing = true;
        pthread_mutex_unlock(&c->lock);
        do
            written = write(STDOUT_FILENO, c->output + c->head, length);
        while (written < 0 && (errno == EINTR || errno == EAGAIN));
        pthread_mutex_lock(&c->lock);
        c->writing = false;
        if (written < 0) { /* nobody reads any more: the guest need not care */
            c->broken = true;
            written = (ssize_t)length;
        }
        c->head = (c->head + (size_t)written) % OUTPUT_BUFFER;
        c->used -= (size_t)written;
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

void console_output(struct console *c, const void *data, size_t length)
{
    const char *from = data;

    pthread_mutex_lock(&c->lock);
    while (length && !c->broken) {
        size_t tail = (c->head + c->used) % OUTPUT_BUFFER;
        size_t part = MIN(length, MIN(OUTPUT_BUFFER - c->used, OUTPUT_BUFFER - tail));

        if (!part) {
            if (c->abandoned)
                break;
            pthread_cond_wait(&c->changed, &c->lock);
            continue;
        }
        memcpy(c->output + tail, from, part);
        if (c->used == 0)
            pthread_cond_broadcast(&c->changed);
        c->used += part;
        from += part;
        length -= part;
    }
    pthread_mutex_unlock(&c->lock);
}

void console_abandon(struct console *c)
{
    pthread_mutex_lock(&c->lock);
    c->abandoned = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

void console_flush(struct console *c, int timeout_ms)
{
    uint64_t end = clock_realtime_ns() + (uint64_t)timeout_ms * NS_PER_MS;
    struct timespec deadline = {.tv_sec = (time_t)(end / NS_PER_S),
                                .tv_nsec = (long)(end % NS_PER_S)};
    int r = 0;

    pthread_mutex_lock(&c->lock);
    while ((c->used || c->writing) && r == 0) {
        if (timeout_ms < 0)
            pthread_cond_wait(&c->changed, &c->lock);
        else
            r = pthread_cond_timedwait(&c->changed, &c->lock, &deadline);
    }
    pthread_mutex_unlock(&c->lock);
}

/* Takes the escape sequences out of what was read, in place; returns what is left. */
static size_t input_filter(struct console *c, char *data, size_t length)
{
    size_t kept = 0;

    if (!c->raw)
        return length;
    for (size_t i = 0; i < length; i++) {
        char byte = data[i];

        if (c->escaped) {
            c->escaped = false;
            if (byte == 'x' || byte == 'X')
                c->functions.quit(c->functions.context);
            else if (byte == ESCAPE)
                data[kept++] = byte;
        } else if (byte == ESCAPE) {
            c->escaped = true;
        } else {
            data[kept++] = byte;
        }
    }
    return kept;
}

static void input_stop(struct console *c)
{
    loop_fd_remove(c->watch);
    c->watch = NULL;
    c->always_readable = false;
    c->input_ended = true;
}

/* Offers what is held; true when nothing is left. */
static bool input_offer(struct console *c)
{
    if (c->input_start < c->input_end)
        c->input_start += c->functions.input(c->functions.context, c->input + c->input_start,
                                             c->input_end - c->input_start);
    return c->input_start == c->input_end;
}

static void input_read(struct console *c)
{
    ssize_t length = read(STDIN_FILENO, c->input, sizeof(c->input));

    if (length < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (length <= 0) {
        input_stop(c);
        return;
    }
    c->input_start = 0;
    c->input_end = input_filter(c, c->input, (size_t)length);
}

static void input_pump(void *context)
{
    struct console *c = context;

    while (input_offer(c) && c->always_readable)
        input_read(c);
    if (c->watch)
        loop_fd_set_events(c->watch, c->input_start == c->input_end ? EPOLLIN : 0);
}

static void input_event(void *context, uint32_t events)
{
    struct console *c = context;

    (void)events;
    /* With input held back only a hang-up comes here, again and again: read it when there is room.
     */
    if (c->input_start < c->input_end) {
        loop_fd_remove(c->watch);
        c->watch = NULL;
        c->always_readable = true;
        return;
    }
    input_read(c);
    input_pump(c);
}

void console_input_ready(struct console *c)
{
    loop_post(c->loop, &c->pump);
}

static void terminal_raw(struct console *c)
{
    struct termios raw;

    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &c->saved))
        return;
    raw = c->saved;
    cfmakeraw(&raw);
    raw.c_oflag |= OPOST; /* messages of our own on the same terminal keep their line ends */
    c->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

int console_new(struct loop *loop, const struct console_functions *functions, bool with_input,
                struct console **ret, struct err *err)
{
    struct console *c = calloc(1, sizeof(*c));
    sigset_t all, old;
    int r;

    if (!c)
        return err_set(err, -ENOMEM, "out of memory");
    c->loop = loop;
    c->functions = *functions;
    c->with_input = with_input;
    c->pump = (struct loop_call){.fn = input_pump, .context = c};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    sigfillset(&all);
    sigdelset(&all, SIGSYS); /* a system call filter reports through it */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&c->writer, NULL, writer_main, c);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r) {
        console_free(c);
        return err_errno(err, -r, "start the console's thread");
    }
    c->writer_runs = true;
    pthread_setname_np(c->writer, "console");
    *ret = c;
    return 0;
}

int console_start(struct console *c, struct err *err)
{
    int r;

    if (!c->with_input)
        return 0;
    terminal_raw(c);
    r = loop_fd_add(c->loop, STDIN_FILENO, EPOLLIN, input_event, c, &c->watch, err);
    if (r == -EPERM) {
        c->always_readable = true;
        console_input_ready(c);
        return 0;
    }
    if (r == -EBADF) /* standard input is closed */
        return 0;
    return r;
}

void console_input_stop(struct console *c)
{
    input_stop(c);
    loop_cancel(c->loop, &c->pump);
    if (c->raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &c->saved);
    c->raw = false;
}

void console_free(struct console *c)
{
    if (!c)
        return;
    console_input_stop(c);
    if (c->writer_runs) {
        pthread_mutex_lock(&c->lock);
        c->ending = c->abandoned = true;
        pthread_cond_broadcast(&c->changed);
        /* A writer that is stuck in write(2) cannot be joined; the process ends anyway. */
        if (c->writing) {
            pthread_mutex_unlock(&c->lock);
            return;
        }
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->writer, NULL);
    }
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
