/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes are made with mknod, which a user namespace forbids: there the host's are bound instead.
 * What the image brings along stays where it is right, except a ptmx that would open the host's
 * terminals.
 */
#include "oci/device.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "oci/inroot.h"
#include "oci/left_open.h"
#include "oci/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static const struct oci_device default_devices[] = {
    {"/dev/null", 'c', 1, 3, 0666, 0, 0},    {"/dev/zero", 'c', 1, 5, 0666, 0, 0},
    {"/dev/full", 'c', 1, 7, 0666, 0, 0},    {"/dev/random", 'c', 1, 8, 0666, 0, 0},
    {"/dev/urandom", 'c', 1, 9, 0666, 0, 0}, {"/dev/tty", 'c', 5, 0, 0666, 0, 0},
};

const struct oci_device *device_default(size_t index)
{
    return index < ARRAY_LEN(default_devices) ? &default_devices[index] : NULL;
}

static const struct {
    const char *path, *target;
} default_links[] = {
    {"/dev/fd", "/proc/self/fd"},       {"/dev/stdin", "/proc/self/fd/0"},
    {"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"},
    {"/dev/ptmx", "pts/ptmx"},
};

static mode_t type_of(const struct oci_device *device)
{
    return device->type == 'c' ? S_IFCHR : device->type == 'b' ? S_IFBLK : S_IFIFO;
}

static bool is_wanted(const struct stat *st, const struct oci_device *device)
{
    return (st->st_mode & S_IFMT) == type_of(device) &&
           (device->type == 'p' || st->st_rdev == makedev(device->major, device->minor));
}

/* /dev is looked up once: almost everything goes there. */
struct places {
    int root_fd;
    int dev_fd;
    int other_fd; /* of the last path elsewhere */
};

static void places_done(struct places *places)
{
    left_openp(&places->dev_fd);
    fd_closep(&places->other_fd);
}

/* The directory for path's last component, which is *ret_name. Borrowed; -errno. */
static int place_for(struct places *places, const char *path, const char **ret_name)
{
    if (strncmp(path, "/dev/", 5) == 0 && path[5] && path[5] != '.' && !strchr(path + 5, '/')) {
        if (places->dev_fd < 0)
            places->dev_fd = inroot_make_directory_plain(places->root_fd, "/dev");
        *ret_name = path + 5;
        return places->dev_fd;
    }
    fd_closep(&places->other_fd);
    return places->other_fd = inroot_make_parent(places->root_fd, path, ret_name);
}

/* By descriptor: another container may share the directory and put something else there. */
static int set_owner(int parent, const char *name, const struct oci_device *device)
{
    CLEANUP(fd_closep) int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!is_wanted(&st, device))
        return -EEXIST;
    return fchownat(fd, "", device->uid, device->gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* The umask is 0 here (init.c), so that the node is born with its mode: a chmod by name might by
 * then follow a symlink. */
static int make_node(const struct oci_device *device, struct places *places, struct err *err)
{
    const char *name;
    int result, parent = place_for(places, device->path, &name);

    if (parent < 0)
        return err_errno(err, parent, "device '%s'", device->path);
    if (mknodat(parent, name, type_of(device) | device->mode,
                makedev(device->major, device->minor)) < 0) {
        int failed = -errno;
        struct stat st;

        if (failed == -EEXIST && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            is_wanted(&st, device))
            return 0;
        return err_errno(err, failed, "make device '%s'", device->path);
    }
    if ((device->uid || device->gid) && (result = set_owner(parent, name, device)) < 0)
        return err_errno(err, result, "device '%s': owner", device->path);
    return 0;
}

static int bind_node(const struct oci_device *device, int root_fd, struct err *err)
{
    CLEANUP(fd_closep) int source = open(device->path, O_PATH | O_CLOEXEC);

    if (source < 0)
        return err_errno(err, -errno, "device '%s' of the host", device->path);
    return mount_bind_fd(source, root_fd, device->path, err);
}

static int make_link(const char *path, const char *target, struct places *places, struct err *err)
{
    const char *name;
    struct stat st;
    int parent = place_for(places, path, &name);

    if (parent < 0)
        return err_errno(err, parent, "link '%s'", path);
    if (symlinkat(target, parent, name) == 0)
        return 0;
    if (errno == EEXIST && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        /* A plain /dev (no tmpfs over it) may bring its own; a ptmx node would open the host's
         * terminals. */
        if (strcmp(path, "/dev/ptmx") != 0 || S_ISLNK(st.st_mode))
            return 0;
        if (unlinkat(parent, name, 0) == 0 && symlinkat(target, parent, name) == 0)
            return 0;
    }
    return err_errno(err, -errno, "make link '%s'", path);
}

int device_make_all(const struct oci_spec *spec, int root_fd, struct err *err)
{
    CLEANUP(places_done) struct places places = {root_fd, -1, -1};
    bool user_namespace = oci_spec_namespace(spec, CLONE_NEWUSER) != NULL;
    int result = 0;

    for (size_t i = 0; result == 0 && i < ARRAY_LEN(default_devices); i++)
        result = user_namespace ? bind_node(&default_devices[i], root_fd, err)
                                : make_node(&default_devices[i], &places, err);
    for (size_t i = 0; result == 0 && i < spec->nr_devices; i++)
        result = user_namespace ? bind_node(&spec->devices[i], root_fd, err)
                                : make_node(&spec->devices[i], &places, err);
    for (size_t i = 0; result == 0 && i < ARRAY_LEN(default_links); i++)
        result = make_link(default_links[i].path, default_links[i].target, &places, err);
    return result;
}
