/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openat2 for looking up; for making, one component after the other, each opened in the root before
 * the next is made below it.
 */
#include "oci/inroot.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdint.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define IN_ROOT (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)

static int open_resolved(int root_fd, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .resolve = resolve,
    };
    long fd;

    do
        fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    while (fd < 0 && (errno == EINTR || errno == EAGAIN)); /* EAGAIN: raced with a rename */
    return fd < 0 ? -errno : (int)fd;
}

int inroot_open(int root_fd, const char *path, int flags)
{
    return open_resolved(root_fd, path, flags, IN_ROOT);
}

int inroot_open_plain(int root_fd, const char *path, int flags)
{
    return open_resolved(root_fd, path, flags, IN_ROOT | RESOLVE_NO_SYMLINKS);
}

int inroot_open_here(int root_fd, const char *path, int flags)
{
    return open_resolved(root_fd, path, flags, IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

int inroot_open_inside(const char *path, int flags)
{
    return open_resolved(AT_FDCWD, path, flags, RESOLVE_NO_MAGICLINKS);
}

/* Where the last component of path[0..length) begins; trailing slashes do not count. */
static size_t last_component(const char *path, size_t *length)
{
    size_t start;

    while (*length && path[*length - 1] == '/')
        --*length;
    for (start = *length; start && path[start - 1] != '/'; start--)
        ;
    return start;
}

/* path[0..length) as a directory, made from the first component that is missing. One that is a
 * dangling symlink is refused (-EEXIST). The recursion is as deep as components are missing, and
 * the kernel takes no path that is longer than PATH_MAX. */
static int make_prefix(int root_fd, const char *path, size_t length, uint64_t resolve)
{
    CLEANUP(freep) char *prefix = strndup(path, length);
    CLEANUP(fd_closep) int parent = -1;
    size_t start;
    int fd;

    if (!prefix)
        return -ENOMEM;
    fd = open_resolved(root_fd, length ? prefix : ".", O_PATH | O_DIRECTORY, resolve);
    if (fd != -ENOENT)
        return fd;
    start = last_component(prefix, &length);
    prefix[length] = '\0';
    if (start == length || strcmp(prefix + start, "..") == 0)
        return -EINVAL;
    if ((parent = make_prefix(root_fd, prefix, start, resolve)) < 0)
        return parent;
    /* Somebody else may have made it meanwhile; what a symlink would lead to is not made. */
    if (mkdirat(parent, prefix + start, 0755) < 0 && errno != EEXIST)
        return -errno;
    fd = open_resolved(root_fd, prefix, O_PATH | O_DIRECTORY, resolve);
    return fd == -ENOENT ? -EEXIST : fd;
}

int inroot_make_directory(int root_fd, const char *path)
{
    return make_prefix(root_fd, path, strlen(path), IN_ROOT);
}

int inroot_make_directory_plain(int root_fd, const char *path)
{
    return make_prefix(root_fd, path, strlen(path), IN_ROOT | RESOLVE_NO_SYMLINKS);
}

int inroot_make_parent(int root_fd, const char *path, const char **ret_name)
{
    size_t length = strlen(path);
    size_t start = last_component(path, &length);
    int fd;

    if (start == length || path[length] != '\0' || strcmp(path + start, "..") == 0 ||
        strcmp(path + start, ".") == 0)
        return -EINVAL;
    fd = make_prefix(root_fd, path, start, IN_ROOT);
    if (fd >= 0)
        *ret_name = path + start;
    return fd;
}

/* O_EXCL: a dangling symlink is not followed, so nothing is made elsewhere. */
static int make_file(int parent, const char *name)
{
    int fd = openat(parent, name, O_CREAT | O_EXCL | O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0644);

    return fd < 0 ? -errno : fd;
}

int inroot_make_file(int root_fd, const char *path)
{
    CLEANUP(fd_closep) int parent = -1;
    const char *name;
    int fd = inroot_open(root_fd, path, O_PATH);

    if (fd != -ENOENT)
        return fd;
    if ((parent = inroot_make_parent(root_fd, path, &name)) < 0)
        return parent;
    if ((fd = make_file(parent, name)) != -EEXIST)
        return fd;
    fd = inroot_open(root_fd, path, O_PATH);
    return fd == -ENOENT ? -EEXIST : fd;
}

int inroot_make_file_plain(int root_fd, const char *path)
{
    CLEANUP(fd_closep) int fd = -1;
    CLEANUP(fd_closep) int parent = -1;
    const char *name;
    struct stat st;

    if ((parent = inroot_make_parent(root_fd, path, &name)) < 0)
        return parent;
    fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return make_file(parent, name);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    return S_ISLNK(st.st_mode) ? -ELOOP : TAKE_FD(fd);
}
