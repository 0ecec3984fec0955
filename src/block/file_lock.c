/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and locking an image's file: see file_lock.h. */
#include "block/file_lock.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static int open_file(const char *path, bool read_only, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    struct stat st;

    /* O_NONBLOCK: a FIFO must not hang us. It goes away again, or io_uring would give EAGAIN. */
    fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, -errno, "open disk image '%s'%s", path,
                         read_only ? "" : " for writing");
    if (fstat(fd, &st) < 0)
        return err_errno(err, -errno, "open disk image '%s'", path);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return err_set(err, -EINVAL,
                       "open disk image '%s': it is neither a regular file nor a block device",
                       path);
    if (fcntl(fd, F_SETFL, 0) < 0)
        return err_errno(err, -errno, "open disk image '%s'", path);
    return TAKE_FD(fd);
}

static int lock_file(int fd, const char *path, bool read_only, struct err *err)
{
    struct flock lock = {.l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return err_set(err, -EBUSY,
                       read_only ? "disk image '%s' is being written by another process"
                                 : "disk image '%s' is in use by another process "
                                   "(open it read-only to share it)",
                       path);
    return err_errno(err, -errno, "lock disk image '%s'", path);
}

int block_file_open(const char *path, bool read_only, int *ret_fd, struct err *err)
{
    CLEANUP(fd_closep) int fd = open_file(path, read_only, err);
    int r = fd < 0 ? fd : lock_file(fd, path, read_only, err);

    if (r == 0)
        *ret_fd = TAKE_FD(fd);
    return r;
}
