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

static const struct {
    const char *path, *target;
} default_links[] = {
    {"/dev/fd", "/proc/self/fd"},       {"/dev/stdin", "/proc/self/fd/0"},
    {"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"},
    {"/dev/ptmx", "pts/ptmx"},
};

/* Is what stands at parent/name already the device that is wanted? */
static bool is_device(int parent, const char *name, const struct oci_device *device)
{
    mode_t type = device->type == 'c' ? S_IFCHR : device->type == 'b' ? S_IFBLK : S_IFIFO;
    struct stat st;

    return fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == type &&
           (type == S_IFIFO || st.st_rdev == makedev(device->major, device->minor));
}

static int make_node(const struct oci_device *device, int root_fd, struct err *err)
{
    mode_t type = device->type == 'c' ? S_IFCHR : device->type == 'b' ? S_IFBLK : S_IFIFO;
    CLEANUP(fd_closep) int parent = -1;
    const char *name;

    parent = inroot_make_parent(root_fd, device->path, &name);
    if (parent < 0)
        return err_errno(err, parent, "device '%s'", device->path);
    if (mknodat(parent, name, type | device->mode, makedev(device->major, device->minor)) < 0) {
        if (errno == EEXIST && is_device(parent, name, device))
            return 0;
        return err_errno(err, -errno, "make device '%s'", device->path);
    }
    /* mknod obeys the umask. */
    if (fchmodat(parent, name, device->mode, 0) < 0 ||
        fchownat(parent, name, device->uid, device->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, -errno, "device '%s': mode and owner", device->path);
    return 0;
}

static int bind_node(const struct oci_device *device, int root_fd, struct err *err)
{
    CLEANUP(fd_closep) int source = open(device->path, O_PATH | O_CLOEXEC);

    if (source < 0)
        return err_errno(err, -errno, "device '%s' of the host", device->path);
    return mount_bind_fd(source, root_fd, device->path, err);
}

static int make_link(const char *path, const char *target, int root_fd, struct err *err)
{
    CLEANUP(fd_closep) int parent = -1;
    const char *name;
    struct stat st;

    parent = inroot_make_parent(root_fd, path, &name);
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
    bool user_namespace = oci_spec_namespace(spec, CLONE_NEWUSER) != NULL;
    int result = 0;

    for (size_t i = 0; result == 0 && i < ARRAY_LEN(default_devices); i++)
        result = user_namespace ? bind_node(&default_devices[i], root_fd, err)
                                : make_node(&default_devices[i], root_fd, err);
    for (size_t i = 0; result == 0 && i < spec->nr_devices; i++)
        result = user_namespace ? bind_node(&spec->devices[i], root_fd, err)
                                : make_node(&spec->devices[i], root_fd, err);
    for (size_t i = 0; result == 0 && i < ARRAY_LEN(default_links); i++)
        result = make_link(default_links[i].path, default_links[i].target, root_fd, err);
    return result;
}
