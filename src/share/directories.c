/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking names up and listing directories. A listing's offsets are the host file system's own;
 * in the made-up root they count members.
 */
#include "share/internal.h"

#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#define LISTING_BYTES (32u << 10)

int share_op_lookup(struct share *share, struct share_node *node)
{
    struct fuse_entry_out *out = (struct fuse_entry_out *)(void *)share->reply;
    const char *name = share_name_at(share, 0, 0);
    struct share_node *found;
    struct statx st;
    int r;

    if (!name)
        return strlen((const char *)share->arguments) > NAME_MAX ? -ENAMETOOLONG : -EINVAL;
    if (node->type != S_IFDIR)
        return -ENOTDIR;
    if ((r = share_node_lookup(share, node, name, &found, &st)) < 0)
        return r;
    share_entry_fill(share, out, found, &st);
    return sizeof(*out);
}

int share_op_opendir(struct share *share, struct share_node *node)
{
    struct fuse_open_out *out = (struct fuse_open_out *)(void *)share->reply;
    bool made_up = share_node_virtual(share, node);
    int fd = made_up ? share->members[0].fd : share_node_fd(share, node), r;

    if (fd < 0)
        return fd;
    if (node->type != S_IFDIR)
        return -ENOTDIR;
    *out = (struct fuse_open_out){0};
    fd = made_up ? fcntl(fd, F_DUPFD_CLOEXEC, 0)
                 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    r = share_handle_new(share, fd, node, true, false, &out->fh);
    return r < 0 ? r : (int)sizeof(*out);
}

int share_op_releasedir(struct share *share, struct share_node *node)
{
    const struct fuse_release_in *in = share_arguments(share, sizeof(*in));

    (void)node;
    if (!in)
        return -EINVAL;
    share_handle_close(share, in->fh, true);
    return 0;
}

int share_op_fsyncdir(struct share *share, struct share_node *node)
{
    const struct fuse_fsync_in *in = share_arguments(share, sizeof(*in));
    struct share_handle *handle = in ? share_handle_find(share, in->fh, true) : NULL;

    if (!handle)
        return -EBADF;
    if (share_node_virtual(share, node))
        return 0;
    return fsync(handle->fd) ? -errno : 0;
}

struct listing {
    struct share *share;
    struct share_node *directory;
    bool plus;
    uint32_t room, length;
};

static bool is_dots(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Adds an entry; false: there is no more room. With `plus` its node has gained a lookup. */
static bool listing_add(struct listing *l, const char *name, uint64_t ino, uint32_t type,
                        uint64_t next)
{
    size_t length = strlen(name), head = l->plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
    size_t size = FUSE_DIRENT_ALIGN(head + length);
    uint8_t *at = l->share->reply + l->length;
    struct fuse_entry_out entry = {0};
    struct fuse_dirent dirent = {
        .ino = ino, .off = next, .namelen = (uint32_t)length, .type = type};
    struct share_node *node;
    struct statx st;

    if (size > l->room - l->length)
        return false;
    memset(at, 0, size);
    if (l->plus) {
        /* Without an entry (it may be gone, or the table full) the guest looks it up itself. */
        if (!is_dots(name) && share_node_lookup(l->share, l->directory, name, &node, &st) == 0)
            share_entry_fill(l->share, &entry, node, &st);
        memcpy(at, &entry, sizeof(entry));
        memcpy(at + sizeof(entry), &dirent, FUSE_NAME_OFFSET);
    } else {
        memcpy(at, &dirent, FUSE_NAME_OFFSET);
    }
    memcpy(at + head, name, length);
    l->length += (uint32_t)size;
    return true;
}

static int list_members(struct listing *l, uint64_t offset)
{
    if (offset < 1 && !listing_add(l, ".", 1, DT_DIR, 1))
        return 0;
    if (offset < 2 && !listing_add(l, "..", 1, DT_DIR, 2))
        return (int)l->length;
    for (uint64_t i = offset < 2 ? 0 : offset - 2; i < l->share->nr_members; i++)
        if (!listing_add(l, l->share->members[i].name, i + 2, DT_UNKNOWN, i + 3))
            break;
    return (int)l->length;
}

struct host_dirent {
    uint64_t ino;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
};

static int list_host(struct listing *l, struct share_handle *handle, uint64_t offset)
{
    uint8_t buffer[LISTING_BYTES] __attribute__((aligned(8)));
    uint64_t position = offset;
    long n;

    if (handle->position != offset && lseek(handle->fd, (off_t)offset, SEEK_SET) < 0)
        return -errno;
    handle->position = UINT64_MAX;
    /* Not more than fits soon: names of the host take about as much room as in the reply. */
    n = syscall(SYS_getdents64, handle->fd, buffer,
                MIN(sizeof(buffer), MAX((size_t)l->room, (size_t)1024)));
    if (n < 0)
        return -errno;
    for (long at = 0; at < n;) {
        const struct host_dirent *entry = (const void *)(buffer + at);

        if (!listing_add(l, entry->name, entry->ino, entry->type, (uint64_t)entry->next))
            return (int)l->length;
        position = (uint64_t)entry->next;
        at += entry->size;
    }
    handle->position = position;
    return (int)l->length;
}

static int list(struct share *share, struct share_node *node, bool plus)
{
    const struct fuse_read_in *in = share_arguments(share, sizeof(*in));
    struct share_handle *handle = in ? share_handle_find(share, in->fh, true) : NULL;
    struct listing l = {.share = share, .directory = node, .plus = plus};

    if (!handle || node->type != S_IFDIR)
        return -EBADF;
    if (in->offset > INT64_MAX)
        return -EINVAL;
    l.room = MIN(in->size, share->reply_room);
    if (share_node_virtual(share, node))
        return list_members(&l, in->offset);
    return list_host(&l, handle, in->offset);
}

int share_op_readdir(struct share *share, struct share_node *node)
{
    return list(share, node, false);
}

int share_op_readdirplus(struct share *share, struct share_node *node)
{
    return list(share, node, true);
}
