/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making, moving and removing names. New files belong to the guest's user and group: made with this
 * thread's file system identity set to theirs, so that the host's rules (set-group-ID directories,
 * quotas) apply; whether the user may was decided by the guest's kernel, so the right to override
 * permissions is taken back at once.
 */
#include "share/internal.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

static int capabilities_raise(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data))
        return -errno;
    data[0].effective = data[0].permitted;
    data[1].effective = data[1].permitted;
    return syscall(SYS_capset, &header, data) ? -errno : 0;
}

static void owner_leave(struct share *share)
{
    if (!share->owners || (!share->header.uid && !share->header.gid))
        return;
    syscall(SYS_setfsuid, 0);
    syscall(SYS_setfsgid, 0);
}

/* Of this thread alone (raw calls); undone by owner_leave. */
static int owner_enter(struct share *share)
{
    uint32_t uid = share->header.uid, gid = share->header.gid;
    int r;

    if (!share->owners || (!uid && !gid))
        return 0;
    if (uid == UINT32_MAX || gid == UINT32_MAX)
        return -EINVAL;
    syscall(SYS_setfsgid, gid);
    syscall(SYS_setfsuid, uid);
    if ((r = uid ? capabilities_raise() : 0) < 0)
        owner_leave(share);
    return r;
}

/* The directory's descriptor; -errno also when nothing may be made in it. */
static int directory_fd(struct share *share, struct share_node *node)
{
    if (share_node_read_only(share, node))
        return -EROFS;
    return node->type == S_IFDIR ? share_node_fd(share, node) : -ENOTDIR;
}

/* The reply for a file that has just been made. */
static int reply_entry(struct share *share, struct share_node *directory, const char *name,
                       struct share_node **ret)
{
    struct fuse_entry_out *out = (struct fuse_entry_out *)(void *)share->reply;
    struct share_node *node;
    struct statx st;
    int r = share_node_lookup(share, directory, name, &node, &st);

    if (r < 0)
        return r;
    share_entry_fill(share, out, node, &st);
    if (ret)
        *ret = node;
    return sizeof(*out);
}

int share_op_mkdir(struct share *share, struct share_node *node)
{
    const struct fuse_mkdir_in *in = share_arguments(share, sizeof(*in));
    const char *name = in ? share_name_at(share, sizeof(*in), 0) : NULL;
    int fd = directory_fd(share, node), r;

    if (fd < 0 || !name)
        return fd < 0 ? fd : -EINVAL;
    if ((r = owner_enter(share)) < 0)
        return r;
    r = mkdirat(fd, name, in->mode & 07777) ? -errno : 0;
    owner_leave(share);
    return r < 0 ? r : reply_entry(share, node, name, NULL);
}

int share_op_mknod(struct share *share, struct share_node *node)
{
    const struct fuse_mknod_in *in = share_arguments(share, sizeof(*in));
    const char *name = in ? share_name_at(share, sizeof(*in), 0) : NULL;
    uint32_t type = in ? in->mode & S_IFMT : 0;
    int fd = directory_fd(share, node), r;

    if (fd < 0 || !name)
        return fd < 0 ? fd : -EINVAL;
    /* A device node on the host would be a way around everything. */
    if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && type != 0)
        return -EPERM;
    if ((r = owner_enter(share)) < 0)
        return r;
    r = mknodat(fd, name, in->mode, 0) ? -errno : 0;
    owner_leave(share);
    return r < 0 ? r : reply_entry(share, node, name, NULL);
}

int share_op_symlink(struct share *share, struct share_node *node)
{
    const char *name = share_name_at(share, 0, 0), *text = share_string_at(share, 0, 1);
    int fd = directory_fd(share, node), r;

    if (fd < 0 || !name || !text)
        return fd < 0 ? fd : -EINVAL;
    if ((r = owner_enter(share)) < 0)
        return r;
    r = symlinkat(text, fd, name) ? -errno : 0;
    owner_leave(share);
    return r < 0 ? r : reply_entry(share, node, name, NULL);
}

int share_op_link(struct share *share, struct share_node *node)
{
    const struct fuse_link_in *in = share_arguments(share, sizeof(*in));
    const char *name = in ? share_name_at(share, sizeof(*in), 0) : NULL;
    struct share_node *old = in ? share_node_find(share, in->oldnodeid) : NULL;
    int fd, old_fd;

    if (!name || !old)
        return name ? -ESTALE : -EINVAL;
    if (old->member != node->member || share_node_virtual(share, old))
        return -EXDEV;
    if ((old_fd = share_node_fd(share, old)) < 0)
        return old_fd;
    old->pins++; /* its descriptor stays while the directory's is found */
    fd = directory_fd(share, node);
    old->pins--;
    if (fd < 0)
        return fd;
    if (linkat(AT_FDCWD, share_path(old_fd).text, fd, name, AT_SYMLINK_FOLLOW))
        return -errno;
    return reply_entry(share, node, name, NULL);
}

static int remove_name(struct share *share, struct share_node *node, int flags)
{
    const char *name = share_name_at(share, 0, 0);
    int fd = directory_fd(share, node);

    if (fd < 0 || !name)
        return fd < 0 ? fd : -EINVAL;
    return unlinkat(fd, name, flags) ? -errno : 0;
}

int share_op_unlink(struct share *share, struct share_node *node)
{
    return remove_name(share, node, 0);
}

int share_op_rmdir(struct share *share, struct share_node *node)
{
    return remove_name(share, node, AT_REMOVEDIR);
}

static int rename_names(struct share *share, struct share_node *from, uint64_t to_id, size_t size,
                        unsigned flags)
{
    const char *old = share_name_at(share, size, 0), *new = share_name_at(share, size, 1);
    struct share_node *to = share_node_find(share, to_id);
    int from_fd, to_fd;

    if (!old || !new || (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)))
        return -EINVAL;
    if (!to)
        return -ESTALE;
    if (to->member != from->member)
        return -EXDEV;
    if ((from_fd = directory_fd(share, from)) < 0)
        return from_fd;
    from->pins++;
    to_fd = directory_fd(share, to);
    from->pins--;
    if (to_fd < 0)
        return to_fd;
    if (renameat2(from_fd, old, to_fd, new, flags))
        return -errno;
    share_node_moved(share, to, new);
    if (flags & RENAME_EXCHANGE)
        share_node_moved(share, from, old);
    return 0;
}

int share_op_rename(struct share *share, struct share_node *node)
{
    const struct fuse_rename_in *in = share_arguments(share, sizeof(*in));

    return in ? rename_names(share, node, in->newdir, sizeof(*in), 0) : -EINVAL;
}

int share_op_rename2(struct share *share, struct share_node *node)
{
    const struct fuse_rename2_in *in = share_arguments(share, sizeof(*in));

    return in ? rename_names(share, node, in->newdir, sizeof(*in), in->flags) : -EINVAL;
}

/* A file that was not there, with the guest's owner; open, since its mode may forbid to open it
 * again. */
static int create_new(struct share *share, int directory, const char *name,
                      const struct fuse_create_in *in)
{
    struct open_how how = {
        .flags = (in->flags & (O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC)) | O_CREAT | O_EXCL |
                 O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK,
        .mode = in->mode & 07777,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    int fd, r = owner_enter(share);

    if (r < 0)
        return r;
    fd = (int)syscall(SYS_openat2, directory, name, &how, sizeof(how));
    r = fd < 0 ? -errno : fd;
    owner_leave(share);
    return r;
}

int share_op_create(struct share *share, struct share_node *node)
{
    const struct fuse_create_in *in = share_arguments(share, sizeof(*in));
    const char *name = in ? share_name_at(share, sizeof(*in), 0) : NULL;
    struct fuse_open_out *out =
        (struct fuse_open_out *)(void *)(share->reply + sizeof(struct fuse_entry_out));
    int directory = directory_fd(share, node), fd, r;
    struct share_node *made;

    if (directory < 0 || !name)
        return directory < 0 ? directory : -EINVAL;
    fd = create_new(share, directory, name, in);
    if (fd < 0 && (fd != -EEXIST || (in->flags & O_EXCL)))
        return fd;
    if ((r = reply_entry(share, node, name, &made)) < 0) {
        fd_closep(&fd);
        return r;
    }
    *out = (struct fuse_open_out){0};
    if (fd < 0) /* it was there: by its node, where its type is looked at */
        fd = share_file_open(share, made, in->flags);
    if (fd >= 0)
        fd = share_handle_new(share, fd, made, false, (in->flags & O_ACCMODE) != O_RDONLY,
                              &out->fh);
    if (fd < 0) {
        share_node_forget(share, share_node_id(share, made), 1);
        return fd;
    }
    return (int)(sizeof(struct fuse_entry_out) + sizeof(*out));
}
