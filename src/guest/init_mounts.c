/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's directories and files (-v): one virtio-fs file system of tag "lodge" holds them by
 * name, each is bound to its place in the image. Afterwards the file system itself is out of sight.
 * Volumes with a size are disks of their own, named by their device.
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
#define DISKS "/dev/"

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

/* One member of the shared file system. */
static int bind_share(const char *name, char *path, bool read_only, struct err *err)
{
    char source[128];
    struct stat st;
    int r;

    snprintf(source, sizeof(source), PLACE "/%s", name);
    if (stat(source, &st) < 0)
        return err_errno(err, -errno, "volume for '%s'", path);
    if ((r = make_target(path, S_ISDIR(st.st_mode))) < 0)
        return err_errno(err, r, "make '%s' for a volume", path);
    if (mount(source, path, NULL, MS_BIND, NULL) < 0)
        return err_errno(err, -errno, "mount a volume at '%s'", path);
    if (read_only && mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
        return err_errno(err, -errno, "make the volume at '%s' read-only", path);
    return 0;
}

/* One of our own disks; what is deleted there is given back to the host. */
static int mount_disk(const char *disk, char *path, bool read_only, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    int r = init_disk_open(disk, &fd, err);

    if (r < 0)
        return err_wrap(err, "volume for '%s'", path);
    if ((r = make_target(path, true)) < 0)
        return err_errno(err, r, "make '%s' for a volume", path);
    if (mount(disk, path, "ext4", MS_NOSUID | MS_NODEV | (read_only ? MS_RDONLY : 0),
              read_only ? NULL : "noinit_itable,discard") < 0)
        return err_errno(err, -errno, "mount the volume's disk %s at '%s'", disk, path);
    fd_closep(&fd);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* As a volume without a size has none; one that holds something stays. */
    if (fd >= 0 && !read_only)
        (void)!unlinkat(fd, "lost+found", AT_REMOVEDIR);
    return 0;
}

static bool is_disk(const char *text)
{
    return !strncmp(text, DISKS, strlen(DISKS));
}

/* "NAME,TARGET[,ro]" */
static int mount_one(char *text, struct err *err)
{
    char *name = text, *target = strchr(text, ','), *mode;
    char path[INIT_PARAM_MAX];
    bool read_only;

    if (!target)
        return err_set(err, -EINVAL, "lodge.mount=%s: NAME,TARGET is needed", text);
    *target++ = '\0';
    if ((mode = strchr(target, ',')))
        *mode++ = '\0';
    if (strchr(is_disk(name) ? name + strlen(DISKS) : name, '/') ||
        decode(target, path, sizeof(path)) < 0 || path[0] != '/')
        return err_set(err, -EINVAL, "lodge.mount=%s,%s is malformed", name, target);
    read_only = mode && !strcmp(mode, "ro");
    return is_disk(name) ? mount_disk(name, path, read_only, err)
                         : bind_share(name, path, read_only, err);
}

/* Is any of them a share? Before they are taken apart. */
static bool any_share(const char *mounts)
{
    for (const char *at = mounts; *at; at += strspn(at, " ")) {
        if (!is_disk(at))
            return true;
        at += strcspn(at, " ");
    }
    return false;
}

int init_mount_volumes(const struct init_params *params, struct err *err)
{
    char *text = NULL, *rest;
    CLEANUP(freep) char *copy = strdup(params->mounts);
    bool shares = any_share(params->mounts);
    int r = 0;

    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    if (shares && (mkdir(PLACE, 0700) < 0 ||
                   mount("lodge", PLACE, "virtiofs", MS_NOSUID | MS_NODEV, NULL) < 0))
        return err_errno(err, -errno, "mount the host's directories (virtiofs)");
    for (text = strtok_r(copy, " ", &rest); r == 0 && text; text = strtok_r(NULL, " ", &rest))
        r = mount_one(text, err);
    if (shares) {
        umount2(PLACE, MNT_DETACH);
        rmdir(PLACE);
    }
    return r;
}
