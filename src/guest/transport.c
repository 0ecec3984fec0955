/* SPDX-License-Identifier: Apache-2.0 */
/* One connection attempt for each of the three kinds; a serial port is found by its name in sysfs.
 */
#include "guest/transport.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <linux/vm_sockets.h>

#define SERIAL_WAIT_NS   (10 * NS_PER_S)
#define SERIAL_PORTS_MAX 16

static int socket_connect(int family, const struct sockaddr *address, socklen_t length,
                          const char *spec, int *ret_fd, struct err *err)
{
    CLEANUP(fd_closep) int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int flags;

    if (fd < 0)
        return err_errno(err, -errno, "socket for %s", spec);
    if (connect(fd, address, length) < 0)
        return err_errno(err, -errno, "connect to %s", spec);
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return err_errno(err, -errno, "connect to %s", spec);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int vsock_connect(const char *spec, const char *port, int *ret_fd, struct err *err)
{
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST};
    uint64_t number;
    int result = number_parse(port, "lodge.agent port", 1, UINT32_MAX - 1, &number, err);

    if (result < 0)
        return result;
    address.svm_port = (unsigned)number;
    return socket_connect(AF_VSOCK, (const struct sockaddr *)&address, sizeof(address), spec,
                          ret_fd, err);
}

static int unix_connect(const char *spec, const char *path, int *ret_fd, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "the socket path of %s is too long", spec);
    strcpy(address.sun_path, path);
    return socket_connect(AF_UNIX, (const struct sockaddr *)&address, sizeof(address), spec, ret_fd,
                          err);
}

/* The device of the virtio serial port of that name, once the driver has announced it. */
static int serial_find(const char *name, char *ret_path, size_t size)
{
    for (unsigned i = 0; i < SERIAL_PORTS_MAX; i++) {
        char path[80], found[32] = "";
        ssize_t length;

        snprintf(path, sizeof(path), "/sys/class/virtio-ports/vport0p%u/name", i);
        CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0 || (length = file_read_full(fd, found, sizeof(found) - 1)) <= 0)
            continue;
        found[strcspn(found, "\n")] = '\0';
        if (!strcmp(found, name)) {
            snprintf(ret_path, size, "/dev/vport0p%u", i);
            return 0;
        }
    }
    return -ENOENT;
}

static int serial_connect(enum agent_role role, int *ret_fd, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + SERIAL_WAIT_NS;
    struct timespec pause = {.tv_nsec = 2 * NS_PER_MS};
    char name[16], path[32];
    int fd;

    snprintf(name, sizeof(name), "lodge.%d", (int)role);
    while (serial_find(name, path, sizeof(path)) < 0) {
        if (clock_monotonic_ns() > deadline_ns)
            return err_set(err, -ENODEV, "this machine has no virtio serial port '%s'", name);
        nanosleep(&pause, NULL);
    }
    if ((fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)) < 0)
        return err_errno(err, -errno, "open %s", path);
    *ret_fd = fd;
    return 0;
}

int transport_connect(const char *spec, enum agent_role role, int *ret_fd, struct err *err)
{
    if (!strncmp(spec, "vsock:", 6))
        return vsock_connect(spec, spec + 6, ret_fd, err);
    if (!strncmp(spec, "unix:", 5))
        return unix_connect(spec, spec + 5, ret_fd, err);
    if (!strcmp(spec, "serial"))
        return serial_connect(role, ret_fd, err);
    return err_set(err, -EINVAL, "lodge.agent=%s: vsock:PORT, serial or unix:PATH is needed", spec);
}

static int listen_at(int family, const struct sockaddr *address, socklen_t length, const char *spec,
                     int *ret_fd, struct err *err)
{
    CLEANUP(fd_closep) int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return err_errno(err, -errno, "socket for %s", spec);
    if (bind(fd, address, length) < 0 || listen(fd, 16) < 0)
        return err_errno(err, -errno, "listen for sessions (%s)", spec);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int transport_listen(const char *spec, int *ret_fd, struct err *err)
{
    struct sockaddr_vm vm = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = AGENT_SESSION_PORT};
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    if (!strncmp(spec, "vsock:", 6))
        return listen_at(AF_VSOCK, (const struct sockaddr *)&vm, sizeof(vm), spec, ret_fd, err);
    if (strncmp(spec, "unix:", 5) != 0)
        return err_set(err, -EOPNOTSUPP, "no sessions over %s", spec);
    if (snprintf(un.sun_path, sizeof(un.sun_path), "%s.sessions", spec + 5) >=
        (int)sizeof(un.sun_path))
        return err_set(err, -ENAMETOOLONG, "the socket path of %s is too long", spec);
    unlink(un.sun_path);
    return listen_at(AF_UNIX, (const struct sockaddr *)&un, sizeof(un), spec, ret_fd, err);
}
