/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's files: of one that runs its own root directory, of one that does not its layers put
 * together in a mount that is nowhere attached and goes with its descriptor (and so with us).
 */
#include "manager/internal.h"
#include "manager/pins.h"

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first process is reaped only after its end is known here, so its pid was its own if that is
 * not known yet afterwards. */
int root_of_running(struct manager *m, struct instance *instance, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    char path[64];
    bool ended;

    pthread_mutex_lock(&m->lock);
    snprintf(path, sizeof(path), "/proc/%d/root", (int)instance->pid);
    ended = instance->pid <= 0;
    pthread_mutex_unlock(&m->lock);
    if (!ended)
        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    pthread_mutex_lock(&m->lock);
    ended = ended || instance->ended;
    pthread_mutex_unlock(&m->lock);
    if (fd < 0 || ended)
        return err_set(err, -ESRCH, "it has ended meanwhile");
    return TAKE_FD(fd);
}

static int set_option(int fs, const char *key, const char *value)
{
    return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

/* lower: as prepare_layers gives it. */
static int mount_layers(char *lower, const char *upper, const char *work, struct err *err)
{
    CLEANUP(fd_closep) int fs = fsopen("overlay", FSOPEN_CLOEXEC);
    const char *key = strchr(lower, ':') ? "lowerdir+" : "lowerdir";
    char *layer, *rest;
    int result = fs < 0 ? -errno : 0, fd;

    for (layer = strtok_r(lower, ":", &rest); layer && result == 0;
         layer = strtok_r(NULL, ":", &rest))
        result = set_option(fs, key, layer);
    if (result == 0 && geteuid() != 0 && fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0)
        result = -errno;
    if (result < 0 || (result = set_option(fs, "upperdir", upper)) < 0 ||
        (result = set_option(fs, "workdir", work)) < 0 ||
        (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 && (result = -errno) < 0))
        return err_errno(err, result, "put the container's layers together");
    fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID);
    return fd < 0 ? err_errno(err, -errno, "put the container's layers together") : fd;
}

static void write_map(const char *path, const char *text)
{
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        errno = 0; /* then the mount is refused, which is said */
}

/* In a user namespace in which we are root, as the container was. */
static _Noreturn void mount_child(int socket, char *lower, const char *upper, const char *work)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    struct err err = ERR_INIT;
    char map[64];
    int fd;

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
        fd = err_errno(&err, -errno, "user namespace");
    } else {
        write_map("/proc/self/setgroups", "deny");
        snprintf(map, sizeof(map), "0 %u 1", uid);
        write_map("/proc/self/uid_map", map);
        snprintf(map, sizeof(map), "0 %u 1", gid);
        write_map("/proc/self/gid_map", map);
        fd = mount_layers(lower, upper, work, &err);
    }
    fdpass_send(socket, &err, sizeof(err), fd < 0 ? -1 : fd);
    _exit(0);
}

/* An ordinary user may not mount, but in a namespace of their own; the mount's descriptor is good
 * here, too. */
static int mount_as_user(char *lower, const char *upper, const char *work, struct err *err)
{
    struct err said = ERR_INIT;
    int ends[2], fd = -1, status;
    ssize_t n;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_errno(err, -errno, "socket");
    if ((pid = fork()) == 0)
        mount_child(ends[1], lower, upper, work);
    close(ends[1]);
    n = pid < 0 ? -errno : fdpass_receive(ends[0], &said, sizeof(said), &fd);
    close(ends[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (n == (ssize_t)sizeof(said) && fd >= 0)
        return fd;
    fd_closep(&fd);
    said.message[sizeof(said.message) - 1] = '\0';
    return err_set(err, n == (ssize_t)sizeof(said) && said.code < 0 ? said.code : -EIO, "%s",
                   n == (ssize_t)sizeof(said) ? said.message
                                              : "the container's layers were not put together");
}

int root_of_stopped(struct manager *m, const struct instance *instance, struct err *err)
{
    char upper[PATH_SIZE], work[PATH_SIZE], users[PATH_MAX];
    CLEANUP(freep) struct image *image = calloc(1, sizeof(*image));
    CLEANUP(buf_donep) struct buf lower;
    struct spec spec;
    int result;

    buf_init(&lower, 1 << 20);
    result = image ? spec_parse_text(instance->spec, &spec, err) : -ENOMEM;

    if (result < 0)
        return image ? result : err_set(err, -ENOMEM, "out of memory");
    pins_resolve(m, instance->id, &spec);
    manager_path(m, upper, sizeof(upper), "instances/%s/upper", instance->id);
    manager_path(m, work, sizeof(work), "instances/%s/work", instance->id);
    if ((result = image_open(m->options.images, spec.image, image, err)) == 0) {
        if ((result = prepare_layer(m, instance->id, image->rootfs, err)) == 0)
            result = prepare_layers(image, &lower, users) < 0
                         ? err_set(err, -ENOMEM, "out of memory")
                     : geteuid() == 0 ? mount_layers(lower.data, upper, work, err)
                                      : mount_as_user(lower.data, upper, work, err);
        image_done(image);
    }
    spec_done(&spec);
    return result;
}
