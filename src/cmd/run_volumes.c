/* SPDX-License-Identifier: Apache-2.0 */
/* A source without a slash is a volume's name; "." and ".." are directories. */
#include "cmd/run_volumes.h"

#include "base/cleanup.h"
#include "base/mounts.h"
#include "volume/volume.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

struct run_volumes {
    struct volume_use uses[RUN_VOLUMES_MAX];
    char places[RUN_VOLUMES_MAX][PATH_MAX]; /* "": not mounted */
    size_t nr;
    bool own_mounts;
};

bool run_volume_is_name(const char *source)
{
    return !strchr(source, '/') && strcmp(source, ".") != 0 && strcmp(source, "..") != 0;
}

static int own_mounts(struct run_volumes *volumes, struct err *err)
{
    int r;

    if (volumes->own_mounts)
        return 0;
    if (unshare(CLONE_NEWNS))
        return err_errno(err, -errno, "a volume with a size needs root: a mount namespace");
    if ((r = mounts_set_propagation(MS_SLAVE)) < 0)
        return err_errno(err, r, "keep our mounts to ourselves");
    volumes->own_mounts = true;
    return 0;
}

static int take_one(struct run_volumes *volumes, struct run_volume *volume, bool vm,
                    const struct run_dir *dir, struct err *err)
{
    struct volume_use *use = &volumes->uses[volumes->nr];
    char name[32], *place = volumes->places[volumes->nr];
    const char *user = getenv("LODGE_ENDPOINT"); /* of an instance of the manager */
    struct volume found;
    int r;

    if ((r = volume_find(NULL, volume->source, &found, err)) < 0)
        return r;
    volume->disk = vm && found.image;
    if (found.image && !vm) {
        snprintf(name, sizeof(name), "volume%zu", volumes->nr);
        if ((r = own_mounts(volumes, err)) < 0 || (r = run_dir_path(dir, name, place, err)) < 0)
            return r;
        if (mkdir(place, 0700))
            return err_errno(err, -errno, "make '%s'", place);
    }
    if (!user)
        user = dir->id;
    r = volume->disk ? volume_take_disk(NULL, volume->source, volume->read_only, user, use, err)
                     : volume_take(NULL, volume->source, place, user, use, err);
    if (r < 0)
        return r;
    volume->source = volumes->uses[volumes->nr++].path;
    return 0;
}

int run_volumes_take(struct run_options *options, const struct run_dir *dir,
                     struct run_volumes **ret, struct err *err)
{
    struct run_volumes *volumes = calloc(1, sizeof(*volumes));
    int r = 0;

    if (!volumes)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; r == 0 && i < options->nr_volumes; i++)
        if (run_volume_is_name(options->volumes[i].source))
            r = take_one(volumes, &options->volumes[i], options->vm, dir, err);
    if (r < 0) {
        run_volumes_release(volumes);
        return r;
    }
    *ret = volumes;
    return 0;
}

void run_volumes_release(struct run_volumes *volumes)
{
    if (!volumes)
        return;
    for (size_t i = 0; i < volumes->nr; i++) {
        /* At once, unless somebody of this run still has it: then with the namespace. */
        if (volumes->places[i][0])
            umount2(volumes->places[i], MNT_DETACH);
        volume_release(&volumes->uses[i]);
    }
    free(volumes);
}
