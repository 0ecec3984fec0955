/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The listening unix socket of the socket device and the line "CONNECT <port>\n" that a host
 * program sends first. The line is looked at with MSG_PEEK and consumed exactly, so what follows it
 * belongs to the stream. A client has VSOCK_TIMEOUT_NS to say it.
 */
#include "virtio/vsock.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define CONNECT_LINE_MAX 32
#define FIRST_HOST_PORT  0x40000000u

struct vsock_client {
    struct vsock *vsock;
    LIST_ENTRY(vsock_client) next;
    int fd;
    struct loop_fd *watch;
    uint64_t deadline_ns;
};

static void client_free(struct vsock_client *client)
{
    loop_fd_remove(client->watch);
    if (client->fd >= 0)
        close(client->fd);
    LIST_REMOVE(client, next);
    client->vsock->nr_clients--;
    free(client);
}

static uint32_t choose_host_port(struct vsock *vsock, uint32_t guest_port)
{
    uint32_t port;

    do {
        port = FIRST_HOST_PORT + vsock->next_host_port++ % FIRST_HOST_PORT;
    } while (vsock_conn_find(vsock, port, guest_port));
    return port;
}

/* "CONNECT <decimal>\n" with nothing else; -1 when it is not. */
static int64_t parse_line(const char *line, size_t length)
{
    static const char word[] = "CONNECT ";
    uint64_t port = 0;
    size_t at = sizeof(word) - 1;

    if (length <= at + 1 || memcmp(line, word, at) != 0 || line[length - 1] != '\n')
        return -1;
    for (; at < length - 1; at++) {
        if (line[at] < '0' || line[at] > '9')
            return -1;
        port = port * 10 + (uint64_t)(line[at] - '0');
        if (port > UINT32_MAX)
            return -1;
    }
    return (int64_t)port;
}

static void on_client(void *context, uint32_t events)
{
    struct vsock_client *client = context;
    struct vsock *vsock = client->vsock;
    char line[CONNECT_LINE_MAX];
    ssize_t n = recv(client->fd, line, sizeof(line), MSG_PEEK | MSG_DONTWAIT);
    const char *end = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;
    size_t length = end ? (size_t)(end - line) + 1 : 0;
    int64_t port;

    if (!end) {
        bool may_come = n < 0 ? errno == EAGAIN || errno == EINTR
                              : n > 0 && n < CONNECT_LINE_MAX && !(events & EPOLLRDHUP);

        if (!may_come)
            client_free(client);
        return;
    }
    port = parse_line(line, length);
    if (port >= 0 && vsock->device.active &&
        recv(client->fd, line, length, MSG_DONTWAIT) == (ssize_t)length) {
        loop_fd_remove(client->watch);
        client->watch = NULL;
        if (vsock_conn_new(vsock, client->fd, choose_host_port(vsock, (uint32_t)port),
                           (uint32_t)port, VSOCK_CONNECTING))
            client->fd = -1;
    }
    client_free(client);
}

static void add_client(struct vsock *vsock, int fd)
{
    struct vsock_client *client = NULL;

    if (vsock->nr_clients + vsock->nr_connections < vsock->connections_max)
        client = calloc(1, sizeof(*client));
    if (!client) {
        close(fd);
        return;
    }
    client->vsock = vsock;
    client->fd = fd;
    client->deadline_ns = clock_monotonic_ns() + VSOCK_TIMEOUT_NS;
    LIST_INSERT_HEAD(&vsock->clients, client, next);
    vsock->nr_clients++;
    if (loop_fd_add(vsock->device.loop, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, on_client, client,
                    &client->watch, NULL) < 0)
        client_free(client);
    else
        vsock_arm_timer(vsock);
}

static void on_listen(void *context, uint32_t events)
{
    struct vsock *vsock = context;

    (void)events;
    for (;;) {
        int fd = accept4(vsock->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            add_client(vsock, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN) { /* out of descriptors or memory: later */
            vsock->accept_paused = true;
            loop_fd_set_events(vsock->listen_watch, 0);
            vsock_arm_timer(vsock);
        }
        return;
    }
}

void vsock_clients_expire(struct vsock *vsock, uint64_t now_ns, bool *ret_waiting)
{
    struct vsock_client *client = LIST_FIRST(&vsock->clients);

    while (client) {
        struct vsock_client *next = LIST_NEXT(client, next);

        if (now_ns >= client->deadline_ns)
            client_free(client);
        else
            *ret_waiting = true;
        client = next;
    }
    if (vsock->accept_paused) {
        vsock->accept_paused = false;
        loop_fd_set_events(vsock->listen_watch, EPOLLIN);
    }
}

/* A socket file that nobody listens on was left by a process that was killed. */
static bool is_stale(const struct sockaddr_un *address)
{
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
           errno == ECONNREFUSED;
}

int vsock_listen(struct vsock *vsock, const char *path, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int r;

    /* Room for "_4294967295" behind it. */
    if (strlen(path) + 12 > sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "vsock socket '%s': path of more than %zu bytes", path,
                       sizeof(address.sun_path) - 12);
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || fchmod(fd, 0600) < 0)
        return err_errno(err, -errno, "vsock socket '%s'", path);
    r = bind(fd, (struct sockaddr *)&address, sizeof(address));
    if (r < 0 && errno == EADDRINUSE && is_stale(&address)) {
        unlink(path);
        r = bind(fd, (struct sockaddr *)&address, sizeof(address));
    }
    if (r < 0)
        return err_errno(err, -errno, "vsock socket '%s'", path);
    vsock->address = address;
    vsock->listen_fd = TAKE_FD(fd);
    if (listen(vsock->listen_fd, 128) < 0)
        return err_errno(err, -errno, "vsock socket '%s'", path);
    return loop_fd_add(vsock->device.loop, vsock->listen_fd, EPOLLIN, on_listen, vsock,
                       &vsock->listen_watch, err);
}

void vsock_listen_done(struct vsock *vsock)
{
    for (struct vsock_client *client = LIST_FIRST(&vsock->clients), *next; client; client = next) {
        next = LIST_NEXT(client, next);
        client_free(client);
    }
    if (vsock->listen_fd < 0)
        return;
    loop_fd_remove(vsock->listen_watch);
    close(vsock->listen_fd);
    unlink(vsock->address.sun_path);
}
