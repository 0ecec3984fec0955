/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loops around read(2), write(2) and their positioned forms; atomic replacement by a temporary file
 * in the same directory, fsync and rename.
 */
#include "base/file.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

/* offset -1: from where it stands. */
static ssize_t read_full(int fd, void *data, size_t length, off_t offset)
{
    size_t done = 0;

    while (done < length) {
        char *to = (char *)data + done;
        ssize_t n = offset < 0 ? read(fd, to, length - done)
                               : pread(fd, to, length - done, offset + (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

ssize_t file_read_full(int fd, void *data, size_t length)
{
    return read_full(fd, data, length, -1);
}

ssize_t file_pread_full(int fd, void *data, size_t length, off_t offset)
{
    return offset < 0 ? -EINVAL : read_full(fd, data, length, offset);
}

/* offset -1: to where it stands. */
static int write_full(int fd, const void *data, size_t length, off_t offset)
{
    size_t done = 0;

    while (done < length) {
        const char *from = (const char *)data + done;
        ssize_t n = offset < 0 ? write(fd, from, length - done)
                               : pwrite(fd, from, length - done, offset + (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return 0;
}

int file_write_full(int fd, const void *data, size_t length)
{
    return write_full(fd, data, length, -1);
}

int file_pwrite_full(int fd, const void *data, size_t length, off_t offset)
{
    return offset < 0 ? -EINVAL : write_full(fd, data, length, offset);
}

int file_load(int dirfd, const char *path, struct buf *ret, struct err *err)
{
    CLEANUP(fd_closep) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    size_t before = ret->length;
    struct stat st;

    if (fd < 0)
        return err_errno(err, -errno, "open '%s'", path);
    if (fstat(fd, &st) < 0)
        return err_errno(err, -errno, "stat '%s'", path);
    if (S_ISDIR(st.st_mode))
        return err_set(err, -EISDIR, "'%s' is a directory, a file is needed", path);
    if (S_ISREG(st.st_mode) && st.st_size > 0)
        buf_reserve(ret, (size_t)st.st_size + 1);
    for (;;) {
        ssize_t n;
        int result;

        if (ret->length == ret->capacity && (result = buf_reserve(ret, 4096)) < 0 &&
            (result != -EFBIG || (result = buf_reserve(ret, 1)) < 0)) {
            if (result == -EFBIG)
                return err_set(err, result, "'%s' is larger than %zu bytes, the most that is read",
                               path, ret->cap);
            return err_errno(err, result, "read '%s'", path);
        }
        n = read(fd, ret->data + ret->length, ret->capacity - ret->length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, -errno, "read '%s'", path);
        if (n == 0)
            return 0;
        ret->length += (size_t)n;
        /* There was room for more: that was all. */
        if (S_ISREG(st.st_mode) && ret->length < ret->capacity &&
            ret->length - before == (size_t)st.st_size)
            return 0;
    }
}

int file_next_entry(DIR *dir, struct dirent **ret)
{
    errno = 0;
    *ret = readdir(dir);
    return *ret ? 1 : -errno;
}

void file_close_all(const int *fds, size_t length)
{
    size_t first = 0;

    for (size_t i = 1; i <= length; i++) {
        if (i < length && fds[first] >= 0 && fds[i] == fds[i - 1] + 1)
            continue;
        if (fds[first] >= 0)
            close_range((unsigned)fds[first], (unsigned)fds[i - 1], 0);
        first = i;
    }
}

int file_write_string(int dirfd, const char *path, const char *string)
{
    CLEANUP(fd_closep) int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
    size_t length = strlen(string);
    ssize_t n;

    if (fd < 0)
        return -errno;
    do
        n = write(fd, string, length);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return (size_t)n == length ? 0 : -EIO;
}

static int replace(int dirfd, const char *path, const void *data, size_t length, mode_t mode,
                   bool sync, struct err *err)
{
    CLEANUP(freep) char *temporary = NULL;
    CLEANUP(fd_closep) int fd = -1;
    int result;

    if (asprintf(&temporary, "%s.%d.tmp", path, (int)getpid()) < 0) {
        temporary = NULL;
        return err_errno(err, -ENOMEM, "write '%s'", path);
    }
    fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_errno(err, -errno, "create '%s'", temporary);
    result = file_write_full(fd, data, length);
    if (result == 0 && sync && fsync(fd) < 0)
        result = -errno;
    if (result == 0 && renameat(dirfd, temporary, dirfd, path) < 0)
        result = -errno;
    if (result < 0) {
        unlinkat(dirfd, temporary, 0);
        return err_errno(err, result, "write '%s'", path);
    }
    return 0;
}

int file_replace(int dirfd, const char *path, const void *data, size_t length, mode_t mode,
                 struct err *err)
{
    return replace(dirfd, path, data, length, mode, true, err);
}

int file_replace_unsynced(int dirfd, const char *path, const void *data, size_t length, mode_t mode,
                          struct err *err)
{
    return replace(dirfd, path, data, length, mode, false, err);
}

void file_open_standard(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}
