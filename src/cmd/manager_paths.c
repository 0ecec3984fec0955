/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and making the manager's directories. */
#include "cmd/manager_paths.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int put(char *to, const char *a, const char *b, struct err *err)
{
    if (snprintf(to, MANAGER_PATHS_MAX, "%s%s", a, b) >= 80)
        return err_set(err, -ENAMETOOLONG, "'%s%s' is too long a path for sockets below it", a, b);
    return 0;
}

static int find_user(struct manager_paths *paths, struct err *err)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR"), *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    char own[64];

    snprintf(own, sizeof(own), "/tmp/lodged-%u", (unsigned)geteuid());
    if (data && *data == '/')
        snprintf(paths->state, sizeof(paths->state), "%s/lodge/manager", data);
    else if (home && *home == '/')
        snprintf(paths->state, sizeof(paths->state), "%s/.local/share/lodge/manager", home);
    else
        return err_set(err, -ENOENT, "HOME is not set; LODGE_MANAGER names a directory instead");
    return xdg && *xdg == '/' ? put(paths->runtime, xdg, "/lodged", err)
                              : put(paths->runtime, own, "", err);
}

int manager_paths_find(struct manager_paths *ret, struct err *err)
{
    const char *dir = getenv("LODGE_MANAGER"), *socket = getenv("LODGE_SOCKET");
    struct manager_paths paths = {0};
    int result;

    if (dir && *dir == '/') {
        snprintf(paths.state, sizeof(paths.state), "%s/state", dir);
        result = put(paths.runtime, dir, "/run", err);
    } else if (dir && *dir) {
        return err_set(err, -EINVAL, "LODGE_MANAGER is '%s': it must be an absolute path", dir);
    } else if (geteuid() == 0) {
        snprintf(paths.state, sizeof(paths.state), "/var/lib/lodge/manager");
        result = put(paths.runtime, "/run/lodged", "", err);
    } else {
        result = find_user(&paths, err);
    }
    if (result < 0)
        return result;
    if (socket && *socket)
        snprintf(paths.socket, sizeof(paths.socket), "%s", socket);
    else
        snprintf(paths.socket, sizeof(paths.socket), "%s/lodged.sock", paths.runtime);
    *ret = paths;
    return 0;
}

static int make_dirs(const char *path, struct err *err)
{
    char part[MANAGER_PATHS_MAX];
    struct stat st;

    snprintf(part, sizeof(part), "%s", path);
    for (char *at = strchr(part + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(part, 0755);
        *at = '/';
    }
    if (mkdir(part, 0700) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "make the manager's directory '%s'", path);
    if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return err_set(err, -EPERM, "'%s' is not a directory of ours", path);
    if ((st.st_mode & 0077) && chmod(path, 0700) < 0)
        return err_errno(err, -errno, "keep '%s' to ourselves", path);
    return 0;
}

int manager_paths_make(const struct manager_paths *paths, struct err *err)
{
    int result = make_dirs(paths->state, err);

    return result < 0 ? result : make_dirs(paths->runtime, err);
}

bool manager_answers(const char *socket_path, unsigned limit_ms)
{
    static const char request[] = "GET /v1/info HTTP/1.1\r\nHost: lodge\r\n\r\n";
    const struct timeval limit = {limit_ms / 1000, (suseconds_t)(limit_ms % 1000) * 1000};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char byte;

    return fd >= 0 &&
           snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path) <
               (int)sizeof(address.sun_path) &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
           connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
           send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0 && recv(fd, &byte, 1, 0) == 1;
}
