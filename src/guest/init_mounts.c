/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's directories and files (-v): one virtio-fs file system of tag "lodge" holds them by
 * name, each is bound to its place in the image. Afterwards the file system itself is out of sight.
 */
#include "guest/init.h"

#include "base/cleanup.h"
#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define PLACE "/run/.volumes"

/* "%41" is "A"; the host writes what is no plain character so. */
static int decode(const char *from, char *to, size_t size)
{
    size_t length = 0;

    for (; *from; from++) {
        unsigned value = (unsigned char)*from;

        if (value == '%') {
            if (sscanf(from + 1, "%2x", &value) != 1 || !value || !from[1] || !from[2])
                return -EINVAL;
            from += 2;
        }
        if (length + 1 >= size)
            return -ENAMETOOLONG;
        to[length++] = (char)value;
    }
    to[length] = '\0';
    return 0;
}

/* Directories on the way; then what is bound over: a directory or an empty file. */
static int make_target(char *target, bool directory)
{
    int fd;

    for (char *c = strchr(target + 1, '/'); c; c = strchr(c + 1, '/')) {
        *c = '\0';
        if (mkdir(target, 0755) < 0 && errno != EEXIST)
            return -errno;
        *c = '/';
    }
    if (directory)
        return mkdir(target, 0755) < 0 && errno != EEXIST ? -errno : 0;
    fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno == EROFS ? 0 : -errno;
    close(fd);
    return 0;
}

/* "NAME,TARGET[,ro]" */
static int bind_one(char *text, struct err *err)
{
    char *name = text, *target = strchr(text, ','), *mode;
    char source[128], path[INIT_PARAM_MAX];
    struct stat st;
    int r;

    if (!target)
        return err_set(err, -EINVAL, "lodge.mount=%s: NAME,TARGET is needed", text);
    *target++ = '\0';
    if ((mode = strchr(target, ',')))
        *mode++ = '\0';
    if (strchr(name, '/') || decode(target, path, sizeof(path)) < 0 || path[0] != '/')
        return err_set(err, -EINVAL, "lodge.mount=%s,%s is malformed", name, target);
    snprintf(source, sizeof(source), PLACE "/%s", name);
    if (stat(source, &st) < 0)
        return err_errno(err, -errno, "volume for '%s'", path);
    if ((r = make_target(path, S_ISDIR(st.st_mode))) < 0)
        return err_errno(err, r, "make '%s' for a volume", path);
    if (mount(source, path, NULL, MS_BIND, NULL) < 0)
        return err_errno(err, -errno, "mount a volume at '%s'", path);
    if (mode && !strcmp(mode, "ro") &&
        mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
        return err_errno(err, -errno, "make the volume at '%s' read-only", path);
    return 0;
}

int init_mount_volumes(const struct init_params *params, struct err *err)
{
    char *text = NULL, *rest;
    CLEANUP(freep) char *copy = strdup(params->mounts);
    int r = 0;

    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    if (!*copy)
        return 0;
    if (mkdir(PLACE, 0700) < 0 || mount("lodge", PLACE, "virtiofs", MS_NOSUID | MS_NODEV, NULL) < 0)
        return err_errno(err, -errno, "mount the host's directories (virtiofs)");
    for (text = strtok_r(copy, " ", &rest); r == 0 && text; text = strtok_r(NULL, " ", &rest))
        r = bind_one(text, err);
    umount2(PLACE, MNT_DETACH);
    rmdir(PLACE);
    return r;
}
