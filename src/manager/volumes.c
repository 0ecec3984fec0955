/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named volumes of managed containers. They are held by locks that the shim inherits, so that they
 * are in use exactly as long as it lives. One with a size is mounted by the manager:
 *
 *      RUN/i/ID/vN      the Nth volume of the specification, where it has a size
 *
 * A VM's session holds its volumes itself.
 */
#include "manager/internal.h"

#include "volume/volume.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static void unmount_one(struct manager *m, const struct instance *instance, size_t at)
{
    char place[PATH_SIZE];

    run_path(m, place, sizeof(place), "i/%s/v%zu", instance->id, at);
    umount2(place, MNT_DETACH | UMOUNT_NOFOLLOW);
    rmdir(place);
}

static int take_one(struct manager *m, const struct instance *instance, struct spec *spec,
                    size_t at, struct volume_holds *holds, struct err *err)
{
    CLEANUP(freep) struct volume_use *use = calloc(1, sizeof(*use));
    char place[PATH_SIZE];
    int result;

    if (!use)
        return err_set(err, -ENOMEM, "out of memory");
    run_path(m, place, sizeof(place), "i/%s/v%zu", instance->id, at);
    unmount_one(m, instance, at);
    if (mkdir(place, 0700) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "make '%s'", place);
    result = volume_take(NULL, spec->volumes[at].source, place, instance->name, use, err);
    if (result < 0)
        return result;
    if (strlen(use->path) >= sizeof(holds->places[at])) {
        volume_release(use);
        return err_set(err, -ENAMETOOLONG, "the path '%s' is too long", use->path);
    }
    strcpy(holds->places[at], use->path);
    spec->volumes[at].source = holds->places[at];
    holds->fds[holds->nr++] = use->lock_fd;
    holds->fds[holds->nr++] = use->user_fd;
    return 0;
}

int volumes_take(struct manager *m, const struct instance *instance, struct spec *spec,
                 struct volume_holds *holds, struct err *err)
{
    int result = 0;

    for (size_t i = 0; result == 0 && i < spec->nr_volumes; i++)
        if (spec->volumes[i].source[0] != '/')
            result = take_one(m, instance, spec, i, holds, err);
    return result;
}

void volume_holds_done(struct volume_holds *holds)
{
    for (size_t i = 0; i < holds->nr; i++)
        fd_closep(&holds->fds[i]);
    holds->nr = 0;
}

void volumes_leave(struct manager *m, const struct instance *instance)
{
    for (size_t i = 0; i < SPEC_VOLUMES_MAX; i++)
        unmount_one(m, instance, i);
}
