/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/notify_socket.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/size.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME "notify.sock"
#define LISTEN_MAX  1024

static const char *manager(void)
{
    const char *path = getenv("NOTIFY_SOCKET");

    return path && (path[0] == '/' || path[0] == '@') && path[1] ? path : NULL;
}

static int change_configuration(json_t *config, const char *source)
{
    json_t *process = json_object_get(config, "process");
    json_t *env = json_object_get(process, "env");
    json_t *mounts = json_object_get(config, "mounts");
    json_t *mount = json_pack("{s:s, s:s, s:s, s:[sssss]}", "destination", NOTIFY_DIRECTORY, "type",
                              "bind", "source", source, "options", "bind", "nosuid", "noexec",
                              "nodev", "ro");

    if (!mounts && json_object_set_new(config, "mounts", mounts = json_array()) < 0)
        return -ENOMEM;
    if (!env && json_object_set_new(process, "env", env = json_array()) < 0)
        return -ENOMEM;
    if (!mount || json_array_append_new(mounts, mount) < 0)
        return -ENOMEM;
    /* The first of a name counts. */
    return json_array_insert_new(env, 0,
                                 json_string("NOTIFY_SOCKET=" NOTIFY_DIRECTORY "/" SOCKET_NAME)) < 0
               ? -ENOMEM
               : 0;
}

bool notify_is_wanted(void)
{
    return manager() != NULL;
}

int notify_prepare(struct making *m, struct err *err)
{
    CLEANUP(json_decrefp) json_t *config = NULL;
    char link[64], source[PATH_MAX];
    ssize_t n;

    if (!manager())
        return 0;
    if (mkdirat(m->state_fd, NOTIFY_STATE, 0755) < 0 ||
        fchmodat(m->state_fd, NOTIFY_STATE, 0755, 0) < 0)
        return err_errno(err, -errno, "notify socket's directory");
    snprintf(link, sizeof(link), "/proc/self/fd/%d", m->state_fd);
    n = readlink(link, source, sizeof(source) - sizeof("/" NOTIFY_STATE));
    if (n < 0)
        return err_errno(err, -errno, "notify socket's directory");
    memcpy(source + n, "/" NOTIFY_STATE, sizeof("/" NOTIFY_STATE));
    config = json_incref(m->spec->document);
    if (change_configuration(config, source) < 0)
        return err_set(err, -ENOMEM, "notify socket: out of memory");
    oci_spec_free(m->spec);
    m->spec = NULL;
    return oci_spec_from_json(config, "config.json", &m->spec, err);
}

int notify_bind(int state_fd, struct notify_proxy *ret, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = -1;
    struct stat st;

    ret->host = manager();
    if (!ret->host || fstatat(state_fd, NOTIFY_STATE, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    snprintf(address.sun_path, sizeof(address.sun_path),
             "/proc/self/fd/%d/" NOTIFY_STATE "/" SOCKET_NAME, state_fd);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(address.sun_path, 0777) < 0)
        return err_errno(err, -errno, "notify socket");
    ret->fd = TAKE_FD(fd);
    return 0;
}

static void tell_manager(const struct notify_proxy *proxy, const char *text)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(proxy->host);
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || length >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, proxy->host, length);
    if (proxy->host[0] == '@')
        address.sun_path[0] = '\0';
    if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0)
        log_warning("notify socket '%s': %s", proxy->host, strerror(errno));
}

bool notify_pass(struct notify_proxy *proxy)
{
    static const char *const passed[] = {"READY=1", "RELOADING=1", "STOPPING=1",     "WATCHDOG=1",
                                         "STATUS=", "ERRNO=",      "MONOTONIC_USEC="};
    char text[4096], line_out[4096 + 32];
    ssize_t n = recv(proxy->fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    bool ready = false;
    char *save = NULL;

    if (n <= 0)
        return false;
    text[n] = '\0';
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        for (size_t i = 0; i < ARRAY_LEN(passed); i++) {
            if (strncmp(line, passed[i], strlen(passed[i])) != 0)
                continue;
            ready = ready || i == 0;
            if (i == 0)
                snprintf(line_out, sizeof(line_out), "READY=1\nMAINPID=%d", (int)proxy->pid);
            tell_manager(proxy, i == 0 ? line_out : line);
            break;
        }
    return ready;
}

void notify_wait_ready(struct notify_proxy *proxy, int pid_fd)
{
    struct pollfd fds[] = {{.fd = proxy->fd, .events = POLLIN}, {.fd = pid_fd, .events = POLLIN}};

    while (proxy->fd >= 0) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return;
        if ((fds[0].revents && notify_pass(proxy)) || fds[1].revents)
            return;
    }
}

unsigned notify_listen_fds(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    uint64_t number, own;

    if (!pid || !count || number_parse(pid, "LISTEN_PID", 0, INT32_MAX, &own, NULL) < 0 ||
        (pid_t)own != getpid() ||
        number_parse(count, "LISTEN_FDS", 0, LISTEN_MAX, &number, NULL) < 0)
        return 0;
    return (unsigned)number;
}
