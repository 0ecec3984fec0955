/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and locking an image's file: see file_lock.h. */
#include "block/file_lock.h"

#include "base/cleanup.h"
#include "block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Which bytes of an image stand for what, by QEMU's convention: docs/design/virtio.md. */
#define BYTE_HELD     100
#define BYTE_EXCLUDED 200
#define NR_PERMITS    4

#define PERMIT_READ            1u /* what is read is consistent */
#define PERMIT_WRITE           2u
#define PERMIT_WRITE_UNCHANGED 4u /* what is there already: preallocation, discarding copies */
#define PERMIT_RESIZE          8u

static int open_file(const char *path, bool read_only, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    struct stat st;

    /* O_NONBLOCK: a FIFO must not hang us. It goes away again, or io_uring would give EAGAIN. */
    if (!strncmp(path, BLOCK_PATH_FD, strlen(BLOCK_PATH_FD)))
        fd = fcntl(atoi(path + strlen(BLOCK_PATH_FD)), F_DUPFD_CLOEXEC, 3);
    else
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

static int shared_byte(int fd, off_t offset)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* Does somebody else have a lock on this byte? */
static int byte_is_taken(int fd, off_t offset)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1};

    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type == F_UNLCK ? 0 : -EAGAIN;
}

/* First said, then looked: of two at once at least one sees the other. */
static int lock_bytes(int fd, unsigned held, unsigned excluded)
{
    int r = 0;

    for (unsigned i = 0; i < NR_PERMITS && r == 0; i++) {
        if (held & 1u << i)
            r = shared_byte(fd, BYTE_HELD + (off_t)i);
        if (r == 0 && excluded & 1u << i)
            r = shared_byte(fd, BYTE_EXCLUDED + (off_t)i);
    }
    for (unsigned i = 0; i < NR_PERMITS && r == 0; i++) {
        if (held & 1u << i)
            r = byte_is_taken(fd, BYTE_EXCLUDED + (off_t)i);
        if (r == 0 && excluded & 1u << i)
            r = byte_is_taken(fd, BYTE_HELD + (off_t)i);
    }
    return r;
}

int block_file_lock(int fd, const char *path, bool read_only, struct err *err)
{
    const unsigned all = PERMIT_READ | PERMIT_WRITE | PERMIT_WRITE_UNCHANGED | PERMIT_RESIZE;
    int r = read_only ? lock_bytes(fd, PERMIT_READ, PERMIT_WRITE | PERMIT_RESIZE)
                      : lock_bytes(fd, PERMIT_READ | PERMIT_WRITE | PERMIT_RESIZE, all);

    if (r == 0)
        return 0;
    if (r == -EAGAIN || r == -EACCES)
        return err_set(err, -EBUSY,
                       read_only ? "disk image '%s' is being written by another process"
                                 : "disk image '%s' is in use by another process "
                                   "(open it read-only to share it)",
                       path);
    return err_errno(err, r, "lock disk image '%s'", path);
}

int block_file_open(const char *path, bool read_only, int *ret_fd, struct err *err)
{
    CLEANUP(fd_closep) int fd = open_file(path, read_only, err);
    int r = fd < 0 ? fd : block_file_lock(fd, path, read_only, err);

    if (r == 0)
        *ret_fd = TAKE_FD(fd);
    return r;
}
