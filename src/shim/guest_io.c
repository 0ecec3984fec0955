/* SPDX-License-Identifier: Apache-2.0 */
/* Copying between the guest's streams and its clients, by readiness. */
#include "shim/guest_io.h"

#include "base/util.h"
#include "stream_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENT_BEHIND (256 * KIB)
#define INPUT_HELD    (256 * KIB)
#define CLIENT_IN_MAX (STREAM_HEADER_SIZE + STREAM_DATA_MAX)

static void update_outputs(struct guest_io *io);
static void update_input(struct guest_io *io);

void guest_io_init(struct guest_io *io, struct loop *loop, struct log_file *log)
{
    *io = (struct guest_io){.loop = loop, .log = log, .input = -1, .output = {-1, -1}};
    buf_init(&io->held, 2 * INPUT_HELD);
}

static void client_remove(struct guest_client *client)
{
    loop_fd_remove(client->watch);
    /* Not only our copy of it: the manager holds another. */
    shutdown(client->fd, SHUT_RDWR);
    close(client->fd);
    buf_done(&client->in);
    buf_done(&client->out);
    client->io = NULL;
}

/* It went away, or is sent away. */
static void client_lose(struct guest_client *client)
{
    struct guest_io *io = client->io;

    client_remove(client);
    if (io->on_lost && guest_io_flushed(io))
        io->on_lost(io->context);
}

static bool input_full(const struct guest_io *io)
{
    return io->held.length >= INPUT_HELD;
}

static void client_update(struct guest_client *client)
{
    uint32_t events = input_full(client->io) ? 0 : EPOLLIN | EPOLLRDHUP;

    if (client->out.length)
        events |= EPOLLOUT;
    loop_fd_set_events(client->watch, events);
}

/* False: it is gone. */
static bool client_send(struct guest_client *client)
{
    while (client->out.length) {
        ssize_t n = send(client->fd, client->out.data, client->out.length,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            client_lose(client);
            return false;
        }
        buf_consume(&client->out, (size_t)n);
    }
    if (client->finished && !client->out.length) {
        client_remove(client);
        return false;
    }
    client_update(client);
    return true;
}

static void client_put(struct guest_client *client, enum stream_type type, const void *data,
                       size_t length)
{
    uint8_t header[STREAM_HEADER_SIZE];

    stream_header_encode(header, type, (uint32_t)length);
    if (buf_reserve(&client->out, sizeof(header) + length) < 0) {
        client_remove(client);
        return;
    }
    buf_append(&client->out, header, sizeof(header));
    buf_append(&client->out, data, length);
}

static void handle_resize(struct guest_io *io, const uint8_t *payload, size_t length)
{
    if (length == 4)
        guest_io_resize(io, (uint16_t)(payload[0] << 8 | payload[1]),
                        (uint16_t)(payload[2] << 8 | payload[3]));
}

static void handle_frame(struct guest_io *io, enum stream_type type, const uint8_t *payload,
                         size_t length)
{
    switch (type) {
    case STREAM_STDIN:
        if (io->input >= 0 && !io->input_ended)
            buf_append(&io->held, payload, length);
        break;
    case STREAM_STDIN_END:
        io->input_ended = true;
        break;
    case STREAM_RESIZE:
        handle_resize(io, payload, length);
        break;
    case STREAM_SIGNAL:
        if (length == 1 && io->on_signal)
            io->on_signal(payload[0], io->context);
        break;
    default:
        break;
    }
}

/* False: the client is gone, or speaks nonsense and was sent away. */
static bool client_read(struct guest_client *client)
{
    struct guest_io *io = client->io;
    ssize_t n;

    if (buf_reserve(&client->in, CLIENT_IN_MAX - client->in.length) < 0)
        return client_lose(client), false;
    n = read(client->fd, client->in.data + client->in.length, CLIENT_IN_MAX - client->in.length);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return client_lose(client), false;
    client->in.length += (size_t)n;
    while (client->in.length >= STREAM_HEADER_SIZE) {
        enum stream_type type;
        uint32_t length;

        if (!stream_header_decode((const uint8_t *)client->in.data, &type, &length))
            return client_lose(client), false;
        if (client->in.length < STREAM_HEADER_SIZE + length)
            break;
        handle_frame(io, type, (const uint8_t *)client->in.data + STREAM_HEADER_SIZE, length);
        buf_consume(&client->in, STREAM_HEADER_SIZE + length);
    }
    update_input(io);
    return true;
}

static void on_client(void *context, uint32_t events)
{
    struct guest_client *client = context;
    struct guest_io *io = client->io;
    bool alive = true;

    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        alive = client_read(client);
    if (alive && (events & EPOLLOUT))
        client_send(client);
    update_outputs(io);
}

static bool clients_behind(const struct guest_io *io)
{
    for (size_t i = 0; i < GUEST_IO_CLIENTS_MAX; i++)
        if (io->clients[i].io && io->clients[i].out.length > CLIENT_BEHIND)
            return true;
    return false;
}

static void update_outputs(struct guest_io *io)
{
    uint32_t events = clients_behind(io) ? 0 : EPOLLIN;

    for (unsigned i = 0; i < 2; i++)
        if (io->output_watch[i])
            loop_fd_set_events(io->output_watch[i], events);
}

static void output_end(struct guest_io *io, unsigned i)
{
    loop_fd_remove(io->output_watch[i]);
    io->output_watch[i] = NULL;
    close(io->output[i]);
    io->output[i] = -1;
    if (guest_io_ended(io) && io->on_end)
        io->on_end(io->context);
}

static void output_read(struct guest_io *io, unsigned i)
{
    char data[STREAM_DATA_MAX];
    ssize_t n = read(io->output[i], data, sizeof(data));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* a terminal whose last user is gone gives EIO */
        output_end(io, i);
        return;
    }
    if (io->log)
        log_file_write(io->log, i, data, (size_t)n);
    for (size_t c = 0; c < GUEST_IO_CLIENTS_MAX; c++) {
        struct guest_client *client = &io->clients[c];

        if (!client->io || client->finished)
            continue;
        client_put(client, i ? STREAM_STDERR : STREAM_STDOUT, data, (size_t)n);
        if (client->io)
            client_send(client);
    }
    update_outputs(io);
}

static void on_stdout(void *context, uint32_t events)
{
    (void)events;
    output_read(context, 0);
}

static void on_stderr(void *context, uint32_t events)
{
    (void)events;
    output_read(context, 1);
}

static void input_close(struct guest_io *io)
{
    loop_fd_remove(io->input_watch);
    io->input_watch = NULL;
    if (io->input >= 0)
        close(io->input);
    io->input = -1;
    buf_consume(&io->held, io->held.length);
}

static void update_input(struct guest_io *io)
{
    bool was_full = input_full(io);

    while (io->input >= 0 && io->held.length) {
        ssize_t n = write(io->input, io->held.data, io->held.length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            input_close(io); /* the guest closed its end */
            return;
        }
        buf_consume(&io->held, (size_t)n);
    }
    if (io->input >= 0 && io->input_ended && !io->held.length) {
        char end = 4; /* of input, to a terminal in its usual mode */

        if (io->tty)
            (void)!write(io->input, &end, 1);
        input_close(io);
    }
    if (io->input_watch)
        loop_fd_set_events(io->input_watch, io->held.length ? EPOLLOUT : 0);
    if (was_full != input_full(io) || was_full)
        for (size_t i = 0; i < GUEST_IO_CLIENTS_MAX; i++)
            if (io->clients[i].io)
                client_update(&io->clients[i]);
}

static void on_input(void *context, uint32_t events)
{
    struct guest_io *io = context;

    if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLOUT))
        input_close(io);
    else
        update_input(io);
}

static void set_nonblocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int guest_io_open(struct guest_io *io, int input, int output, int error, struct err *err)
{
    const int ends[2] = {output, error};
    int result = 0;

    io->input = input;
    if (input >= 0) {
        set_nonblocking(input);
        result = loop_fd_add(io->loop, input, 0, on_input, io, &io->input_watch, err);
    }
    for (unsigned i = 0; i < 2 && result == 0; i++) {
        io->output[i] = ends[i];
        if (ends[i] < 0)
            continue;
        set_nonblocking(ends[i]);
        result = loop_fd_add(io->loop, ends[i], EPOLLIN, i ? on_stderr : on_stdout, io,
                             &io->output_watch[i], err);
    }
    update_input(io);
    return result;
}

int guest_io_open_terminal(struct guest_io *io, int master, struct err *err)
{
    int input = fcntl(master, F_DUPFD_CLOEXEC, 3);

    io->tty = true;
    if (input < 0) {
        close(master);
        return err_errno(err, -errno, "duplicate the terminal");
    }
    if (io->rows)
        guest_io_resize(io, io->rows, io->cols);
    return guest_io_open(io, input, master, -1, err);
}

int guest_io_attach(struct guest_io *io, int fd, struct err *err)
{
    struct guest_client *client = NULL;
    int result;

    for (size_t i = 0; i < GUEST_IO_CLIENTS_MAX && !client; i++)
        if (!io->clients[i].io)
            client = &io->clients[i];
    if (!client) {
        close(fd);
        return err_set(err, -EMFILE, "%d clients are attached already", GUEST_IO_CLIENTS_MAX);
    }
    *client = (struct guest_client){.fd = fd};
    buf_init(&client->in, CLIENT_IN_MAX);
    buf_init(&client->out, CLIENT_BEHIND + 4 * CLIENT_IN_MAX);
    set_nonblocking(fd);
    result = loop_fd_add(io->loop, fd, EPOLLIN | EPOLLRDHUP, on_client, client, &client->watch,
                         err);
    if (result < 0) {
        close(fd);
        return result;
    }
    client->io = io;
    return 0;
}

void guest_io_resize(struct guest_io *io, uint16_t rows, uint16_t cols)
{
    struct winsize size = {.ws_row = rows, .ws_col = cols};

    io->rows = rows;
    io->cols = cols;
    if (io->tty && io->output[0] >= 0)
        ioctl(io->output[0], TIOCSWINSZ, &size);
}

bool guest_io_ended(const struct guest_io *io)
{
    return io->output[0] < 0 && io->output[1] < 0;
}

void guest_io_finish(struct guest_io *io, int exit_code, const char *error)
{
    char text[64];
    int length = snprintf(text, sizeof(text), "{\"exit_code\": %d}", exit_code);

    for (size_t i = 0; i < GUEST_IO_CLIENTS_MAX; i++) {
        struct guest_client *client = &io->clients[i];

        if (client->io && error && *error)
            client_put(client, STREAM_ERROR, error, MIN(strlen(error), (size_t)STREAM_DATA_MAX));
        if (client->io)
            client_put(client, STREAM_EXIT, text, (size_t)length);
        if (!client->io)
            continue;
        client->finished = true;
        client_send(client);
    }
}

bool guest_io_flushed(const struct guest_io *io)
{
    for (size_t i = 0; i < GUEST_IO_CLIENTS_MAX; i++)
        if (io->clients[i].io)
            return false;
    return true;
}

void guest_io_done(struct guest_io *io)
{
    for (size_t i = 0; i < GUEST_IO_CLIENTS_MAX; i++)
        if (io->clients[i].io)
            client_remove(&io->clients[i]);
    input_close(io);
    for (unsigned i = 0; i < 2; i++) {
        loop_fd_remove(io->output_watch[i]);
        io->output_watch[i] = NULL;
        if (io->output[i] >= 0)
            close(io->output[i]);
        io->output[i] = -1;
    }
    buf_done(&io->held);
}
