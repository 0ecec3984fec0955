/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that fails: preloaded (LD_PRELOAD) into a program under test, in the place of the C
 * library's calls that write. While the file LODGE_IO_FAIL names is there, writing to, cutting,
 * syncing and making files below the directory LODGE_IO_DIR fails with the error number that is
 * its text. What is open elsewhere is never touched. Any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* Under these two names each, since programs with large files call the second. */
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at);
int ftruncate64(int fd, off64_t length);
int openat64(int dir, const char *path, int flags, ...);
int open64(const char *path, int flags, ...);

static int is_below(const char *path)
{
    const char *dir = getenv("LODGE_IO_DIR");

    return dir && !strncmp(path, dir, strlen(dir));
}

/* 0, or the error that is to be had now. Read by the kernel's own calls, which nobody replaces. */
static int trouble(void)
{
    const char *control = getenv("LODGE_IO_FAIL");
    char text[16] = "";
    long fd = control ? syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n;

    if (fd < 0)
        return 0;
    n = read((int)fd, text, sizeof(text) - 1);
    close((int)fd);
    return n > 0 ? atoi(text) : 0;
}

static int fails(int fd)
{
    char link[64], path[PATH_MAX];
    int before = errno, number;
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    if (n > 0)
        path[n] = '\0';
    number = n > 0 && is_below(path) ? trouble() : 0;
    errno = number ?: before;
    return number != 0;
}

ssize_t write(int fd, const void *data, size_t length)
{
    return fails(fd) ? -1 : syscall(SYS_write, fd, data, length);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
    return fails(fd) ? -1 : syscall(SYS_pwrite64, fd, data, length, at);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at)
{
    return fails(fd) ? -1 : syscall(SYS_pwrite64, fd, data, length, at);
}

int fsync(int fd)
{
    return fails(fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return fails(fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t length)
{
    return fails(fd) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    return fails(fd) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

static int make(int dir, const char *path, int flags, mode_t mode)
{
    int number = flags & O_CREAT && is_below(path) ? trouble() : 0;

    if (number) {
        errno = number;
        return -1;
    }
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

#define OPEN(flags, path, dir)                               \
    do {                                                     \
        va_list args_;                                       \
        mode_t mode_;                                        \
                                                             \
        va_start(args_, flags);                              \
        mode_ = (flags)&O_CREAT ? va_arg(args_, mode_t) : 0; \
        va_end(args_);                                       \
        return make(dir, path, flags, mode_);                \
    } while (0)

int open(const char *path, int flags, ...)
{
    OPEN(flags, path, AT_FDCWD);
}

int open64(const char *path, int flags, ...)
{
    OPEN(flags, path, AT_FDCWD);
}

int openat(int dir, const char *path, int flags, ...)
{
    OPEN(flags, path, dir);
}

int openat64(int dir, const char *path, int flags, ...)
{
    OPEN(flags, path, dir);
}

int mkdir(const char *path, mode_t mode)
{
    int number = is_below(path) ? trouble() : 0;

    if (number) {
        errno = number;
        return -1;
    }
    return (int)syscall(SYS_mkdir, path, mode);
}
