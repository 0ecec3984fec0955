/* SPDX-License-Identifier: Apache-2.0 */
/* What a file is, beside its contents and its place: attributes, extended ones, link text. */
#include "share/internal.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

/* What the guest's kernel may believe without asking, in seconds: the host may change files too. */
#define VALID_S 1

void share_attr_fill(struct fuse_attr *ret, const struct statx *st)
{
    *ret = (struct fuse_attr){
        .ino = st->stx_ino,
        .size = st->stx_size,
        .blocks = st->stx_blocks,
        .atime = (uint64_t)st->stx_atime.tv_sec,
        .mtime = (uint64_t)st->stx_mtime.tv_sec,
        .ctime = (uint64_t)st->stx_ctime.tv_sec,
        .atimensec = st->stx_atime.tv_nsec,
        .mtimensec = st->stx_mtime.tv_nsec,
        .ctimensec = st->stx_ctime.tv_nsec,
        .mode = st->stx_mode,
        .nlink = st->stx_nlink,
        .uid = st->stx_uid,
        .gid = st->stx_gid,
        /* new_encode_dev of the guest's kernel: 12 bits major, 20 bits minor */
        .rdev = (st->stx_rdev_minor & 0xff) | (st->stx_rdev_major << 8) |
                ((st->stx_rdev_minor & ~0xffu) << 12),
        .blksize = st->stx_blksize,
    };
}

void share_entry_fill(struct share *share, struct fuse_entry_out *ret,
                      const struct share_node *node, const struct statx *st)
{
    *ret = (struct fuse_entry_out){
        .nodeid = share_node_id(share, node), .entry_valid = VALID_S, .attr_valid = VALID_S};
    share_attr_fill(&ret->attr, st);
}

int share_node_stat(struct share *share, struct share_node *node, struct statx *ret)
{
    int fd;

    if (share_node_virtual(share, node)) {
        *ret = (struct statx){.stx_mode = S_IFDIR | 0755, .stx_nlink = 2, .stx_ino = 1};
        ret->stx_blksize = 4096;
        return 0;
    }
    if ((fd = share_node_fd(share, node)) < 0)
        return fd;
    return statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, ret) ? -errno : 0;
}

static int reply_attr(struct share *share, const struct statx *st)
{
    struct fuse_attr_out *out = (struct fuse_attr_out *)(void *)share->reply;

    *out = (struct fuse_attr_out){.attr_valid = VALID_S};
    share_attr_fill(&out->attr, st);
    return sizeof(*out);
}

int share_op_getattr(struct share *share, struct share_node *node)
{
    const struct fuse_getattr_in *in = share_arguments(share, sizeof(*in));
    struct share_handle *handle = NULL;
    struct statx st;
    int r;

    if (in && (in->getattr_flags & FUSE_GETATTR_FH))
        handle = share_handle_find(share, in->fh, false);
    if (handle)
        r = statx(handle->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) ? -errno : 0;
    else
        r = share_node_stat(share, node, &st);
    return r < 0 ? r : reply_attr(share, &st);
}

static int set_size(struct share *share, struct share_node *node, const struct fuse_setattr_in *in)
{
    struct share_handle *handle = in->valid & FATTR_FH ? share_handle_find(share, in->fh, false)
                                                       : NULL;
    int fd, r;

    if (in->size > INT64_MAX)
        return -EINVAL;
    if (handle && handle->writable)
        return ftruncate(handle->fd, (off_t)in->size) ? -errno : 0;
    if ((fd = share_file_open(share, node, O_WRONLY)) < 0)
        return fd;
    r = ftruncate(fd, (off_t)in->size) ? -errno : 0;
    close(fd);
    return r;
}

static struct timespec time_of(const struct fuse_setattr_in *in, uint32_t set, uint32_t now,
                               uint64_t seconds, uint32_t ns)
{
    if (in->valid & now)
        return (struct timespec){.tv_nsec = UTIME_NOW};
    if (in->valid & set)
        return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)ns % 1000000000};
    return (struct timespec){.tv_nsec = UTIME_OMIT};
}

static int set_times(int fd, bool link, const struct fuse_setattr_in *in)
{
    struct timespec times[] = {time_of(in, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
                               time_of(in, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec)};

    if (link)
        return utimensat(fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) ? -errno : 0;
    return utimensat(AT_FDCWD, share_path(fd).text, times, 0) ? -errno : 0;
}

int share_op_setattr(struct share *share, struct share_node *node)
{
    const struct fuse_setattr_in *in = share_arguments(share, sizeof(*in));
    bool link = node->type == S_IFLNK;
    struct statx st;
    int fd, r = 0;

    if (!in)
        return -EINVAL;
    if ((fd = share_node_fd(share, node)) < 0)
        return fd;
    if (in->valid & (FATTR_UID | FATTR_GID)) {
        uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
        gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;

        r = fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) ? -errno : 0;
    }
    /* After the owner: a change of owner takes away set-user-ID bits. */
    if (r == 0 && (in->valid & FATTR_MODE))
        r = link                                                           ? -EOPNOTSUPP
            : fchmodat(AT_FDCWD, share_path(fd).text, in->mode & 07777, 0) ? -errno
                                                                           : 0;
    if (r == 0 && (in->valid & FATTR_SIZE))
        r = set_size(share, node, in);
    if (r == 0 && (in->valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW)))
        r = set_times(fd, link, in);
    if (r == 0)
        r = share_node_stat(share, node, &st);
    return r < 0 ? r : reply_attr(share, &st);
}

int share_op_statfs(struct share *share, struct share_node *node)
{
    struct fuse_statfs_out *out = (struct fuse_statfs_out *)(void *)share->reply;
    bool made_up = share_node_virtual(share, node);
    int fd = made_up ? share->members[0].fd : share_node_fd(share, node);
    struct statfs st;

    if (fd < 0)
        return fd;
    if (fstatfs(fd, &st))
        return -errno;
    *out = (struct fuse_statfs_out){.st = {.blocks = st.f_blocks,
                                           .bfree = st.f_bfree,
                                           .bavail = st.f_bavail,
                                           .files = st.f_files,
                                           .ffree = st.f_ffree,
                                           .bsize = (uint32_t)st.f_bsize,
                                           .namelen = (uint32_t)st.f_namelen,
                                           .frsize = (uint32_t)st.f_frsize}};
    return sizeof(*out);
}

int share_op_readlink(struct share *share, struct share_node *node)
{
    int fd = share_node_fd(share, node);
    ssize_t n;

    if (fd < 0)
        return fd;
    if (node->type != S_IFLNK)
        return -EINVAL;
    n = readlinkat(fd, "", (char *)share->reply, MIN(share->reply_room, (uint32_t)PATH_MAX));
    return n < 0 ? -errno : (int)n;
}

/* Of the guest's making: users', and a program's capabilities. Everything else belongs to the
 * host (security labels, trusted.*, access control lists, which the guest does not interpret). */
static bool name_allowed(const char *name)
{
    return name && strlen(name) <= XATTR_NAME_MAX &&
           (!strncmp(name, "user.", 5) || !strcmp(name, "security.capability"));
}

static int xattr_fd(struct share *share, struct share_node *node)
{
    return share_node_virtual(share, node) ? -EOPNOTSUPP : share_node_fd(share, node);
}

/* Where an attribute of this name is to be had; NULL: the request was too short for one. */
static int named_fd(struct share *share, struct share_node *node, const char *name)
{
    int fd = xattr_fd(share, node);

    if (fd < 0)
        return fd;
    if (!name)
        return -EINVAL;
    return name_allowed(name) ? fd : -EOPNOTSUPP;
}

int share_op_getxattr(struct share *share, struct share_node *node)
{
    const struct fuse_getxattr_in *in = share_arguments(share, sizeof(*in));
    const char *name = in ? share_string_at(share, sizeof(*in), 0) : NULL;
    struct fuse_getxattr_out *out = (struct fuse_getxattr_out *)(void *)share->reply;
    int fd = named_fd(share, node, name);
    ssize_t n;

    if (fd < 0)
        return fd;
    n = getxattr(share_path(fd).text, name, in->size ? share->reply : NULL,
                 in->size ? MIN(in->size, share->reply_room) : 0);
    if (n < 0)
        return -errno;
    if (in->size)
        return (int)n;
    *out = (struct fuse_getxattr_out){.size = (uint32_t)n};
    return sizeof(*out);
}

/* Only what getxattr would give. */
static size_t list_filter(char *list, size_t length)
{
    size_t kept = 0;

    for (size_t at = 0; at < length;) {
        size_t size = strnlen(list + at, length - at) + 1;

        size = MIN(size, length - at);
        if (name_allowed(list + at)) {
            memmove(list + kept, list + at, size);
            kept += size;
        }
        at += size;
    }
    return kept;
}

int share_op_listxattr(struct share *share, struct share_node *node)
{
    const struct fuse_getxattr_in *in = share_arguments(share, sizeof(*in));
    struct fuse_getxattr_out *out = (struct fuse_getxattr_out *)(void *)share->reply;
    int fd = xattr_fd(share, node);
    ssize_t n;
    size_t kept;

    if (fd < 0)
        return fd == -EOPNOTSUPP ? 0 : fd;
    if (!in)
        return -EINVAL;
    n = listxattr(share_path(fd).text, (char *)share->reply, XATTR_LIST_MAX);
    if (n < 0)
        return -errno;
    kept = list_filter((char *)share->reply, (size_t)n);
    if (in->size)
        return kept > in->size ? -ERANGE : (int)kept;
    *out = (struct fuse_getxattr_out){.size = (uint32_t)kept};
    return sizeof(*out);
}

int share_op_setxattr(struct share *share, struct share_node *node)
{
    /* The short form: FUSE_SETXATTR_EXT is not negotiated. */
    const struct fuse_setxattr_in *in = share_arguments(share, FUSE_COMPAT_SETXATTR_IN_SIZE);
    const char *name = in ? share_string_at(share, FUSE_COMPAT_SETXATTR_IN_SIZE, 0) : NULL;
    size_t before;
    int fd = named_fd(share, node, name);

    if (fd < 0)
        return fd;
    before = FUSE_COMPAT_SETXATTR_IN_SIZE + strlen(name) + 1;
    if (in->size > share->arguments_length - before)
        return -EINVAL;
    return setxattr(share_path(fd).text, name, share->arguments + before, in->size,
                    (int)(in->flags & (XATTR_CREATE | XATTR_REPLACE)))
               ? -errno
               : 0;
}

int share_op_removexattr(struct share *share, struct share_node *node)
{
    const char *name = share_string_at(share, 0, 0);
    int fd = named_fd(share, node, name);

    if (fd < 0)
        return fd;
    return removexattr(share_path(fd).text, name) ? -errno : 0;
}
