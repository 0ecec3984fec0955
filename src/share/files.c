/* SPDX-License-Identifier: Apache-2.0 */
/* Open files: data goes between them and the guest's memory by preadv and pwritev. */
#include "share/internal.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/uio.h>

#define SEGMENTS_MAX   256
#define COPY_BYTES_MAX (16u << 20) /* of one request: others wait behind it */

static uint64_t bytes_left(uint64_t offset)
{
    return (uint64_t)INT64_MAX - offset;
}

int share_file_open(struct share *share, struct share_node *node, uint32_t flags)
{
    int fd = share_node_fd(share, node);

    if (fd < 0)
        return fd;
    /* FIFOs, sockets and devices are the guest's own affair: its kernel does not ask for them. */
    if (node->type != S_IFREG)
        return node->type == S_IFDIR ? -EISDIR : node->type == S_IFLNK ? -ELOOP : -ENXIO;
    if ((flags & O_ACCMODE) != O_RDONLY && share_node_read_only(share, node))
        return -EROFS;
    flags &= O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC;
    fd = open(share_path(fd).text, (int)flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return fd < 0 ? -errno : fd;
}

int share_op_open(struct share *share, struct share_node *node)
{
    const struct fuse_open_in *in = share_arguments(share, sizeof(*in));
    struct fuse_open_out *out = (struct fuse_open_out *)(void *)share->reply;
    int r;

    if (!in)
        return -EINVAL;
    if ((r = share_file_open(share, node, in->flags)) < 0)
        return r;
    *out = (struct fuse_open_out){0};
    r = share_handle_new(share, r, node, false, (in->flags & O_ACCMODE) != O_RDONLY, &out->fh);
    return r < 0 ? r : (int)sizeof(*out);
}

int share_op_release(struct share *share, struct share_node *node)
{
    const struct fuse_release_in *in = share_arguments(share, sizeof(*in));

    (void)node;
    if (!in)
        return -EINVAL;
    share_handle_close(share, in->fh, false);
    return 0;
}

int share_op_read(struct share *share, struct share_node *node)
{
    const struct fuse_read_in *in = share_arguments(share, sizeof(*in));
    struct share_handle *handle = in ? share_handle_find(share, in->fh, false) : NULL;
    struct share_request *request = share->request;
    struct iovec segments[SEGMENTS_MAX];
    unsigned nr;
    ssize_t n;

    (void)node;
    if (!handle)
        return -EBADF;
    if (in->offset > INT64_MAX)
        return -EINVAL;
    nr = share_slice(
        request->in, request->nr_in, sizeof(struct fuse_out_header),
        (uint32_t)MIN((uint64_t)MIN(in->size, SHARE_WRITE_PAGES * 4096u), bytes_left(in->offset)),
        segments, SEGMENTS_MAX);
    /* A read that fails half-way may have left bytes behind. */
    request->touched = UINT32_MAX;
    n = preadv(handle->fd, segments, (int)nr, (off_t)in->offset);
    if (n < 0)
        return -errno;
    share->data_length = (uint32_t)n;
    request->touched = (uint32_t)sizeof(struct fuse_out_header) + (uint32_t)n;
    return 0;
}

int share_op_write(struct share *share, struct share_node *node)
{
    const struct fuse_write_in *in = share_arguments(share, sizeof(*in));
    struct share_handle *handle = in ? share_handle_find(share, in->fh, false) : NULL;
    struct fuse_write_out *out = (struct fuse_write_out *)(void *)share->reply;
    struct iovec segments[SEGMENTS_MAX];
    unsigned nr;
    ssize_t n;

    (void)node;
    if (!handle || !handle->writable)
        return -EBADF;
    if (in->offset > INT64_MAX)
        return -EINVAL;
    nr = share_slice(
        share->request->out, share->request->nr_out,
        (uint32_t)(sizeof(share->header) + sizeof(*in)),
        (uint32_t)MIN((uint64_t)MIN(in->size, SHARE_WRITE_PAGES * 4096u), bytes_left(in->offset)),
        segments, SEGMENTS_MAX);
    n = pwritev(handle->fd, segments, (int)nr, (off_t)in->offset);
    if (n < 0)
        return -errno;
    *out = (struct fuse_write_out){.size = (uint32_t)n};
    return sizeof(*out);
}

int share_op_fsync(struct share *share, struct share_node *node)
{
    const struct fuse_fsync_in *in = share_arguments(share, sizeof(*in));
    struct share_handle *handle = in ? share_handle_find(share, in->fh, false) : NULL;

    (void)node;
    if (!handle)
        return -EBADF;
    return (in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(handle->fd) : fsync(handle->fd))
               ? -errno
               : 0;
}

int share_op_fallocate(struct share *share, struct share_node *node)
{
    const uint32_t modes = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE |
                           FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE;
    const struct fuse_fallocate_in *in = share_arguments(share, sizeof(*in));
    struct share_handle *handle = in ? share_handle_find(share, in->fh, false) : NULL;

    (void)node;
    if (!handle || !handle->writable)
        return -EBADF;
    if (in->mode & ~modes)
        return -EOPNOTSUPP;
    if (in->offset > INT64_MAX || in->length > bytes_left(in->offset))
        return -EFBIG;
    return fallocate(handle->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) ? -errno : 0;
}

int share_op_lseek(struct share *share, struct share_node *node)
{
    const struct fuse_lseek_in *in = share_arguments(share, sizeof(*in));
    struct share_handle *handle = in ? share_handle_find(share, in->fh, false) : NULL;
    struct fuse_lseek_out *out = (struct fuse_lseek_out *)(void *)share->reply;
    off_t at;

    (void)node;
    if (!handle)
        return -EBADF;
    if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)
        return -EINVAL;
    at = lseek(handle->fd, (off_t)MIN(in->offset, (uint64_t)INT64_MAX), (int)in->whence);
    if (at < 0)
        return -errno;
    *out = (struct fuse_lseek_out){.offset = (uint64_t)at};
    return sizeof(*out);
}

int share_op_copy_file_range(struct share *share, struct share_node *node)
{
    const struct fuse_copy_file_range_in *in = share_arguments(share, sizeof(*in));
    struct share_handle *from = in ? share_handle_find(share, in->fh_in, false) : NULL;
    struct share_handle *to = in ? share_handle_find(share, in->fh_out, false) : NULL;
    struct fuse_write_out *out = (struct fuse_write_out *)(void *)share->reply;
    loff_t at_from, at_to;
    ssize_t n;

    (void)node;
    if (!from || !to || !to->writable)
        return -EBADF;
    if (in->off_in > INT64_MAX || in->off_out > INT64_MAX || in->flags)
        return -EINVAL;
    at_from = (loff_t)in->off_in;
    at_to = (loff_t)in->off_out;
    n = copy_file_range(from->fd, &at_from, to->fd, &at_to,
                        (size_t)MIN(in->len, (uint64_t)COPY_BYTES_MAX), 0);
    if (n < 0)
        return errno == EXDEV || errno == EINVAL ? -EOPNOTSUPP : -errno;
    *out = (struct fuse_write_out){.size = (uint32_t)n};
    return sizeof(*out);
}

int share_op_syncfs(struct share *share, struct share_node *node)
{
    int fd = share_node_fd(share, node), r;

    if (share_node_virtual(share, node))
        return 0;
    if (fd < 0)
        return fd;
    /* Not by the O_PATH descriptor: it must be an open file. */
    fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = syncfs(fd) ? -errno : 0;
    close(fd);
    return r;
}
