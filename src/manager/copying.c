/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in and out of an instance, for one client on an upgraded connection: a tar archive in the
 * frames of include/stream_protocol.h, STDOUT from the instance, STDIN to it. A container's are at
 * hand here; a VM that does not run is begun for the copy's sake (copying_vm.c). (In a VM that runs
 * the guest's agent does it; the connection is handed to the shim as that of any program.) It works
 * on a thread of the client's connection and leaves nothing when it is killed but files half
 * written.
 */
#include "manager/copying.h"

#include "base/clock.h"
#include "base/util.h"
#include "copy/copy.h"
#include "stream_protocol.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define END_LIMIT_NS (10 * NS_PER_S)

/* Until the connection can be used so; -errno. */
static int await(const struct copying_client *client, short events)
{
    struct pollfd fd = {.fd = client->fd, .events = events};

    for (;;) {
        int n = poll(&fd, 1, COPYING_LOOK_MS);

        if (atomic_load(&client->m->stopping))
            return -ESHUTDOWN;
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

static int send_all(const struct copying_client *client, const void *data, size_t length)
{
    const char *at = data;

    while (length) {
        ssize_t n = send(client->fd, at, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        int result;

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        if (n < 0 && (result = await(client, POLLOUT)) < 0)
            return result;
        if (n > 0) {
            at += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

static int send_frame(const struct copying_client *client, enum stream_type type, const void *data,
                      size_t length)
{
    uint8_t header[STREAM_HEADER_SIZE];
    int result;

    stream_header_encode(header, type, (uint32_t)length);
    if ((result = send_all(client, header, sizeof(header))) < 0)
        return result;
    return send_all(client, data, length);
}

int copying_write(const void *data, size_t length, void *context)
{
    const char *at = data;
    int result = 0;

    while (length && result == 0) {
        size_t part = MIN(length, (size_t)STREAM_DATA_MAX);

        result = send_frame(context, STREAM_STDOUT, at, part);
        at += part;
        length -= part;
    }
    return result;
}

static ssize_t receive(const struct copying_client *client, void *data, size_t most)
{
    for (;;) {
        ssize_t n = recv(client->fd, data, most, MSG_DONTWAIT);
        int result;

        if (n > 0)
            return n;
        if (n == 0)
            return -ECONNRESET;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        if ((result = await(client, POLLIN)) < 0)
            return result;
    }
}

static int receive_all(const struct copying_client *client, void *data, size_t length)
{
    for (size_t have = 0; have < length;) {
        ssize_t n = receive(client, (char *)data + have, length - have);

        if (n < 0)
            return (int)n;
        have += (size_t)n;
    }
    return 0;
}

/* The next frame with something in it; what is no input is passed over. */
static int next_frame(struct copying_client *client)
{
    uint8_t header[STREAM_HEADER_SIZE];
    enum stream_type type;
    char data[256];
    uint32_t length;
    int result;

    while (!client->left && !client->ended) {
        if ((result = receive_all(client, header, sizeof(header))) < 0)
            return result;
        if (!stream_header_decode(header, &type, &length) ||
            (type != STREAM_STDIN && length > sizeof(data)))
            return -EPROTO;
        if (type == STREAM_STDIN)
            client->left = length;
        else if ((result = receive_all(client, data, length)) < 0)
            return result;
        client->ended = type == STREAM_STDIN_END;
    }
    return 0;
}

ssize_t copying_read(void *data, size_t most, void *context)
{
    struct copying_client *client = context;
    int result = next_frame(client);
    ssize_t n;

    if (result < 0 || client->ended)
        return result;
    if ((n = receive(client, data, MIN(most, (size_t)client->left))) > 0)
        client->left -= (uint32_t)n;
    return n;
}

static int copy_at(struct copying_client *client, const struct copying *copying, int root,
                   struct err *err)
{
    const struct copy_in_options options = {.keep_owner = copying->keep_owner};

    return copying->in ? copy_in(root, copying->path, &options, copying_read, client, NULL, err)
                       : copy_out(root, copying->path, copying_write, client, NULL, err);
}

/* Nothing may start it while its layers are put together here as well. */
static int copy_stopped(struct copying_client *client, struct instance *instance,
                        const struct copying *copying, struct err *err)
{
    struct manager *m = client->m;
    CLEANUP(fd_closep) int lock = -1;
    CLEANUP(fd_closep) int root = -1;

    if ((lock = shim_lock(m, instance->id, 5000, err)) < 0)
        return lock;
    if (instance->brief->vm)
        return copying_vm(client, instance, copying, err);
    if ((root = root_of_stopped(m, instance, err)) < 0)
        return root;
    return copy_at(client, copying, root, err);
}

/* A container's root directory while it runs; -ESRCH: it does not. One that has just ended may not
 * be known to have. */
static int open_running(struct manager *m, struct instance *instance, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + END_LIMIT_NS;

    for (;;) {
        bool running;
        int root;

        pthread_mutex_lock(&m->lock);
        running = instance->row.state == INSTANCE_RUNNING || instance->row.state == INSTANCE_PAUSED;
        pthread_mutex_unlock(&m->lock);
        root = running ? root_of_running(m, instance, err) : -ESRCH;
        if (!running || root != -ESRCH || clock_monotonic_ns() >= deadline_ns)
            return root;
        usleep(5000);
    }
}

static int copy_resting(struct copying_client *client, struct instance *instance,
                        const struct copying *copying, struct err *err)
{
    struct manager *m = client->m;
    int result = instance_acquire(m, instance, err);

    if (result < 0)
        return result;
    if (life_is_active(instance->row.state))
        result = err_set(err, -EBUSY, "'%s' was started meanwhile; try again", instance->name);
    else
        result = copy_stopped(client, instance, copying, err);
    instance_release(m, instance);
    return result;
}

int copying_serve(struct manager *m, struct instance *instance, const struct copying *copying,
                  int fd, struct err *err)
{
    static const char good[] = "{\"exit_code\": 0}";
    struct copying_client client = {.m = m, .fd = fd};
    CLEANUP(fd_closep) int root = instance->brief->vm ? -ESRCH : open_running(m, instance, err);
    int result = root;

    if (root >= 0)
        result = copy_at(&client, copying, root, err);
    else if (root == -ESRCH)
        result = copy_resting(&client, instance, copying, err);
    if (result < 0)
        return result;
    send_frame(&client, STREAM_EXIT, good, sizeof(good) - 1);
    return 0;
}
