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

int inroot_open(int root_fd, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    long fd;

    do
        fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    while (fd < 0 && (errno == EINTR || errno == EAGAIN)); /* EAGAIN: raced with a rename */
    return fd < 0 ? -errno : (int)fd;
}

/* path[0..length) as a directory, made component by component. A component that is a dangling
 * symlink is refused (-EEXIST). */
static int make_prefix(int root_fd, const char *path, size_t length)
{
    CLEANUP(freep) char *prefix = strndup(path, length);
    CLEANUP(fd_closep) int fd = inroot_open(root_fd, ".", O_PATH | O_DIRECTORY);
    size_t end = 0;

    if (!prefix)
        return -ENOMEM;
    if (fd < 0)
        return fd;
    while (end < length) {
        size_t start = end + strspn(prefix + end, "/");
        char saved;
        int next;

        end = start + strcspn(prefix + start, "/");
        if (end == start)
            break;
        saved = prefix[end];
        prefix[end] = '\0';
        next = inroot_open(root_fd, prefix, O_PATH | O_DIRECTORY);
        if (next == -ENOENT) {
            if (strcmp(prefix + start, "..") == 0)
                return -EINVAL;
            if (mkdirat(fd, prefix + start, 0755) < 0)
                return -errno;
            next = inroot_open(root_fd, prefix, O_PATH | O_DIRECTORY);
        }
        prefix[end] = saved;
        if (next < 0)
            return next;
        close(fd);
        fd = next;
    }
    return TAKE_FD(fd);
}

int inroot_make_directory(int root_fd, const char *path)
{
    return make_prefix(root_fd, path, strlen(path));
}

int inroot_make_parent(int root_fd, const char *path, const char **ret_name)
{
    size_t length = strlen(path);
    size_t end;
    int fd;

    while (length && path[length - 1] == '/')
        length--;
    end = length;
    while (end && path[end - 1] != '/')
        end--;
    if (end == length || strcmp(path + end, "..") == 0 || strcmp(path + end, ".") == 0)
        return -EINVAL;
    fd = make_prefix(root_fd, path, end);
    if (fd >= 0)
        *ret_name = path + end;
    return fd;
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
    /* O_EXCL: a dangling symlink is not followed, so nothing is made elsewhere. */
    fd = openat(parent, name, O_CREAT | O_EXCL | O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    close(fd);
    return inroot_open(root_fd, path, O_PATH);
}
