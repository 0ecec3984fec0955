/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's files: of one that runs its own root directory, of one that does not its layers put
 * together in a mount that is nowhere attached and goes with its descriptor (and so with us).
 */
#include "manager/internal.h"
#include "manager/pins.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
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
    if (result < 0 || (result = set_option(fs, "upperdir", upper)) < 0 ||
        (result = set_option(fs, "workdir", work)) < 0 ||
        (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 && (result = -errno) < 0))
        return err_errno(err, result, "put the container's layers together");
    fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID);
    return fd < 0 ? err_errno(err, -errno, "put the container's layers together") : fd;
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
                         : mount_layers(lower.data, upper, work, err);
        image_done(image);
    }
    spec_done(&spec);
    return result;
}
