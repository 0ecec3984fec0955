/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/pid_file.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* An unnamed file in path's directory. -EOPNOTSUPP where its file system has none. */
static int open_unnamed(const char *path)
{
    const char *slash = strrchr(path, '/');
    CLEANUP(freep) char *directory = NULL;
    int fd;

    directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!directory)
        return -ENOMEM;
    fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
    /* An old kernel takes it for the opening of a directory. */
    return fd >= 0 ? fd : errno == EISDIR ? -EOPNOTSUPP : -errno;
}

static int name(int fd, const char *path)
{
    char self[32];

    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    /* One of an earlier process is replaced. */
    if (errno != EEXIST || unlink(path) < 0)
        return -errno;
    return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int pid_file_write(const char *path, pid_t pid, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    char text[16];
    int result, length = snprintf(text, sizeof(text), "%d", (int)pid);

    if (!path)
        return 0;
    if ((fd = open_unnamed(path)) == -EOPNOTSUPP)
        return file_replace_unsynced(AT_FDCWD, path, text, (size_t)length, 0644, err);
    if (fd < 0)
        return err_errno(err, fd, "pid file '%s'", path);
    if ((result = file_write_full(fd, text, (size_t)length)) < 0 || (result = name(fd, path)) < 0)
        return err_errno(err, result, "pid file '%s'", path);
    return 0;
}
