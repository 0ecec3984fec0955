/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/system_paths.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "oci/inroot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

struct system_paths {
    int root_fd; /* borrowed */
    int proc_fd,
        sys_fd;  /* the mounts; -1 where the configuration mounts something else or nothing */
    int here;    /* which of them is the working directory; -1: neither */
    int null_fd; /* the host's null device; -1: not needed yet */
    struct {     /* the first empty directory that was laid over something */
        int base;
        const char *name; /* NULL: none yet */
        int fd;           /* -1: not needed yet */
    } empty;
};

static const struct oci_mount *mount_at(const struct oci_spec *spec, const char *destination)
{
    for (size_t i = spec->nr_mounts; i; i--)
        if (strcmp(spec->mounts[i - 1].destination, destination) == 0)
            return &spec->mounts[i - 1];
    return NULL;
}

/* The mount of `type` at `destination`, or -1 in *ret_fd where the configuration has none. */
static int open_mount(const struct oci_spec *spec, int root_fd, const char *destination,
                      const char *type, long magic, int *ret_fd, struct err *err)
{
    const struct oci_mount *mount = mount_at(spec, destination);
    CLEANUP(fd_closep) int fd = -1;
    struct statfs fs;

    *ret_fd = -1;
    if (!mount || !mount->type || strcmp(mount->type, type) != 0)
        return 0;
    if ((fd = inroot_open_plain(root_fd, destination, O_PATH | O_DIRECTORY)) < 0)
        return err_errno(err, fd, "%s of the container", destination);
    if (fstatfs(fd, &fs) < 0 || (long)fs.f_type != magic)
        return err_set(err, -EPERM, "%s of the container is not the %s that was mounted there",
                       destination, type);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Where path is to be looked up, and as what. */
static int base_of(const struct system_paths *paths, const char *path, const char **ret_rest)
{
    *ret_rest = path;
    if (paths->proc_fd >= 0 && strncmp(path, "/proc/", 6) == 0) {
        *ret_rest = path + 6;
        return paths->proc_fd;
    }
    if (paths->sys_fd >= 0 && strncmp(path, "/sys/", 5) == 0) {
        *ret_rest = path + 5;
        return paths->sys_fd;
    }
    return paths->root_fd;
}

/* Below the mounts that are known nobody but the kernel can put anything: a single name there is
 * used as it is, from the working directory. */
static bool is_plain_name(const struct system_paths *paths, int base, const char *name)
{
    return base != paths->root_fd && name[0] && name[0] != '.' && !strchr(name, '/');
}

static int go_to(struct system_paths *paths, int base)
{
    if (paths->here != base && fchdir(base) < 0)
        return -errno;
    paths->here = base;
    return 0;
}

/* What a path says, found. */
struct place {
    int fd;
    mode_t mode;
};

static void place_done(struct place *place)
{
    fd_closep(&place->fd);
}

/* 1: found; 0: there is nothing; -errno. */
static int find(int base, const char *name, struct place *ret)
{
    struct stat st;
    int result = ret->fd = inroot_open(base, name, O_PATH);

    if (result == -ENOENT || result == -ENOTDIR)
        return 0;
    if (result < 0)
        return result;
    if (fstat(ret->fd, &st) < 0)
        return -errno;
    ret->mode = st.st_mode;
    return 1;
}

/* "net.ipv4.ip_forward" below the container's /proc/sys, through nothing that was mounted over
 * it. */
static int set_sysctl(const struct system_paths *paths, const struct oci_sysctl *sysctl,
                      struct err *err)
{
    CLEANUP(freep) char *path = NULL;
    CLEANUP(fd_closep) int fd = -1;
    struct statfs fs;

    if (asprintf(&path, "%ssys/%s", paths->proc_fd >= 0 ? "" : "/proc/", sysctl->name) < 0) {
        path = NULL;
        return err_set(err, -ENOMEM, "sysctl: out of memory");
    }
    for (char *c = path + strlen(path) - strlen(sysctl->name); *c; c++)
        if (*c == '.')
            *c = '/';
    fd = paths->proc_fd >= 0 ? inroot_open_here(paths->proc_fd, path, O_WRONLY)
                             : inroot_open_plain(paths->root_fd, path, O_WRONLY);
    if (fd < 0)
        return err_errno(err, fd, "sysctl %s", sysctl->name);
    if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
        return err_set(err, -EPERM, "sysctl %s: /proc/sys is not procfs", sysctl->name);
    if (write(fd, sysctl->value, strlen(sysctl->value)) < 0)
        return err_errno(err, -errno, "sysctl %s = '%s'", sysctl->name, sysctl->value);
    return 0;
}

/* Takes tree. */
static int cover(const struct place *place, int tree)
{
    CLEANUP(fd_closep) int fd = tree;

    return fd < 0 || move_mount(fd, "", place->fd, "",
                                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
               ? -errno
               : 0;
}

/* Bound onto itself, read-only. -ENOENT: there is nothing. */
static int make_name_read_only(struct system_paths *paths, int base, const char *name)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    int result = go_to(paths, base);

    if (result < 0)
        return result;
    return mount(name, name, NULL, MS_BIND | MS_REC, NULL) < 0 ||
                   mount_setattr(AT_FDCWD, name, AT_RECURSIVE, &attributes, sizeof(attributes)) < 0
               ? -errno
               : 0;
}

static int make_found_read_only(int base, const char *name)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    CLEANUP(place_done) struct place place = {-1, 0};
    CLEANUP(fd_closep) int tree = -1;
    int result = find(base, name, &place);

    if (result <= 0)
        return result;
    tree = open_tree(place.fd, "",
                     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
    if (tree < 0 ||
        mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof(attributes)) < 0)
        return -errno;
    return cover(&place, TAKE_FD(tree));
}

static int make_read_only(struct system_paths *paths, const char *path, struct err *err)
{
    const char *name;
    int base = base_of(paths, path, &name);
    int result = is_plain_name(paths, base, name) ? make_name_read_only(paths, base, name)
                                                  : make_found_read_only(base, name);

    return result < 0 && result != -ENOENT ? err_errno(err, result, "read-only path '%s'", path)
                                           : 0;
}

/* The host's own null device, checked: a file of that name in the image proves nothing. */
static int open_null(struct system_paths *paths, const char *path, struct err *err)
{
    CLEANUP(fd_closep) int null = open("/dev/null", O_PATH | O_CLOEXEC);
    struct stat st;

    if (null < 0 || fstat(null, &st) < 0)
        return err_errno(err, -errno, "masked path '%s': /dev/null", path);
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
        return err_set(err, -ENODEV,
                       "masked path '%s': the host's /dev/null is not the null device", path);
    paths->null_fd = TAKE_FD(null);
    return 0;
}

/* Something of ours that is open, over a name in the working directory. */
static int bind_over(int fd, const char *name)
{
    char source[32];

    /* The host's /proc still stands here. */
    snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
    return mount(source, name, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

/* An empty tmpfs over a directory, which nobody can write to: one for all of them. */
static int mask_directory(struct system_paths *paths, const char *name)
{
    if (!paths->empty.name) {
        if (mount("tmpfs", name, "tmpfs", MS_RDONLY, "mode=755") < 0)
            return -errno;
        paths->empty.base = paths->here;
        paths->empty.name = name;
        return 0;
    }
    if (paths->empty.fd < 0)
        paths->empty.fd = openat(paths->empty.base, paths->empty.name,
                                 O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return paths->empty.fd < 0 ? -errno : bind_over(paths->empty.fd, name);
}

/* -ENOENT: there is nothing. What it is shows in whether a file can be laid over it. */
static int mask_name(struct system_paths *paths, int base, const char *name)
{
    int result = go_to(paths, base);

    if (result == 0)
        result = bind_over(paths->null_fd, name);
    return result == -ENOTDIR ? mask_directory(paths, name) : result;
}

/* An empty tmpfs, which nobody can write to. */
static int make_empty(void)
{
    CLEANUP(fd_closep) int context = fsopen("tmpfs", FSOPEN_CLOEXEC);

    if (context < 0 || fsconfig(context, FSCONFIG_SET_STRING, "source", "tmpfs", 0) < 0 ||
        fsconfig(context, FSCONFIG_SET_STRING, "mode", "755", 0) < 0 ||
        fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -1;
    return fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
}

static int mask_found(const struct system_paths *paths, int base, const char *name)
{
    CLEANUP(place_done) struct place place = {-1, 0};
    int result = find(base, name, &place);

    if (result <= 0)
        return result;
    return cover(&place, S_ISDIR(place.mode)
                             ? make_empty()
                             : open_tree(paths->null_fd, "",
                                         OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
}

static int mask(struct system_paths *paths, const char *path, struct err *err)
{
    const char *name;
    int base = base_of(paths, path, &name), result;

    if (paths->null_fd < 0 && (result = open_null(paths, path, err)) < 0)
        return result;
    result = is_plain_name(paths, base, name) ? mask_name(paths, base, name)
                                              : mask_found(paths, base, name);
    return result < 0 && result != -ENOENT ? err_errno(err, result, "masked path '%s'", path) : 0;
}

int system_paths_set_up(const struct oci_spec *spec, int root_fd, struct err *err)
{
    /* Nothing is closed: the process does that for all it has at once (init.c). */
    struct system_paths paths = {.root_fd = root_fd,
                                 .proc_fd = -1,
                                 .sys_fd = -1,
                                 .here = -1,
                                 .null_fd = -1,
                                 .empty = {-1, NULL, -1}};
    int result;

    if ((result = open_mount(spec, root_fd, "/proc", "proc", PROC_SUPER_MAGIC, &paths.proc_fd,
                             err)) < 0 ||
        (result = open_mount(spec, root_fd, "/sys", "sysfs", SYSFS_MAGIC, &paths.sys_fd, err)) < 0)
        return result;
    for (size_t i = 0; result == 0 && i < spec->nr_sysctls; i++)
        result = set_sysctl(&paths, &spec->sysctls[i], err);
    for (size_t i = 0; result == 0 && i < spec->read_only_paths.length; i++)
        result = make_read_only(&paths, spec->read_only_paths.items[i], err);
    for (size_t i = 0; result == 0 && i < spec->masked_paths.length; i++)
        result = mask(&paths, spec->masked_paths.items[i], err);
    return result;
}
