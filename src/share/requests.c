/* SPDX-License-Identifier: Apache-2.0 */
/* From the bytes of a request to its operation, and back: see share.h. */
#include "share/internal.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MINOR_LEAST 31u
#define FDS_LEAST   16u

static uint32_t total(const struct iovec *iov, unsigned nr)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < nr; i++)
        bytes += iov[i].iov_len;
    return (uint32_t)MIN(bytes, (uint64_t)UINT32_MAX);
}

/* Copies [offset, offset + length) of the segments; returns bytes copied. */
static uint32_t gather(const struct iovec *iov, unsigned nr, uint32_t offset, void *to,
                       uint32_t length)
{
    uint32_t done = 0;

    for (unsigned i = 0; i < nr && done < length; i++) {
        size_t here = iov[i].iov_len, n;

        if (offset >= here) {
            offset -= (uint32_t)here;
            continue;
        }
        n = MIN((size_t)(length - done), here - offset);
        memcpy((char *)to + done, (const char *)iov[i].iov_base + offset, n);
        done += (uint32_t)n;
        offset = 0;
    }
    /* The copy is checked; the guest's may change. */
    __asm__ volatile("" : : "r"(to) : "memory");
    return done;
}

static void scatter(struct share_request *request, uint32_t offset, const void *from,
                    uint32_t length)
{
    uint32_t done = 0, at = offset;

    for (unsigned i = 0; i < request->nr_in && done < length; i++) {
        size_t here = request->in[i].iov_len, n;

        if (offset >= here) {
            offset -= (uint32_t)here;
            continue;
        }
        n = MIN((size_t)(length - done), here - offset);
        memcpy((char *)request->in[i].iov_base + offset, (const char *)from + done, n);
        done += (uint32_t)n;
        offset = 0;
    }
    request->touched = MAX(request->touched, at + done);
}

unsigned share_slice(const struct iovec *iov, unsigned nr, uint32_t offset, uint32_t length,
                     struct iovec *ret, unsigned max)
{
    unsigned count = 0;

    for (unsigned i = 0; i < nr && length && count < max; i++) {
        size_t here = iov[i].iov_len;

        if (offset >= here) {
            offset -= (uint32_t)here;
            continue;
        }
        ret[count].iov_base = (char *)iov[i].iov_base + offset;
        ret[count].iov_len = MIN((size_t)length, here - offset);
        length -= (uint32_t)ret[count].iov_len;
        offset = 0;
        count++;
    }
    return count;
}

const void *share_arguments(struct share *share, size_t size)
{
    return share->arguments_length >= size ? share->arguments : NULL;
}

const char *share_string_at(struct share *share, size_t size, unsigned index)
{
    const char *at = (const char *)share->arguments + size;
    const char *end = (const char *)share->arguments + share->arguments_length;

    for (; at < end; at += strlen(at) + 1, index--)
        if (index == 0)
            return memchr(at, '\0', (size_t)(end - at)) ? at : NULL;
    return NULL;
}

const char *share_name_at(struct share *share, size_t size, unsigned index)
{
    const char *name = share_string_at(share, size, index);

    if (!name || !*name || strlen(name) > NAME_MAX || strchr(name, '/') || !strcmp(name, ".") ||
        !strcmp(name, ".."))
        return NULL;
    return name;
}

struct share_path share_path(int fd)
{
    struct share_path path;

    snprintf(path.text, sizeof(path.text), "%d", fd);
    return path;
}

/* --- operations without a node --- */

static int op_init(struct share *share)
{
    const uint32_t wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA |
                            FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_PARALLEL_DIROPS |
                            FUSE_MAX_PAGES;
    const struct fuse_init_in *in = share_arguments(share, 16);
    struct fuse_init_out *out = (struct fuse_init_out *)(void *)share->reply;

    if (!in)
        return -EINVAL;
    memset(out, 0, sizeof(*out));
    out->major = FUSE_KERNEL_VERSION;
    out->minor = FUSE_KERNEL_MINOR_VERSION;
    if (in->major > FUSE_KERNEL_VERSION)
        return sizeof(*out); /* it comes back with ours */
    if (in->major < FUSE_KERNEL_VERSION || in->minor < MINOR_LEAST)
        return -EPROTO;
    /* A guest that starts anew knows nothing of before. */
    share_handles_done(share);
    share_nodes_reset(share);
    share->started = true;
    out->minor = MIN(in->minor, (uint32_t)FUSE_KERNEL_MINOR_VERSION);
    out->max_readahead = in->max_readahead;
    out->flags = in->flags & wanted;
    out->max_background = 64;
    out->congestion_threshold = 48;
    out->max_pages = SHARE_WRITE_PAGES;
    out->max_write = SHARE_WRITE_PAGES * 4096u;
    out->time_gran = 1;
    return sizeof(*out);
}

static void op_forget(struct share *share)
{
    const struct fuse_forget_in *in = share_arguments(share, sizeof(*in));

    if (in)
        share_node_forget(share, share->header.nodeid, in->nlookup);
}

static void op_batch_forget(struct share *share)
{
    const struct fuse_batch_forget_in *in = share_arguments(share, sizeof(*in));
    const struct fuse_forget_one *one = (const void *)(share->arguments + sizeof(*in));
    uint32_t nr = in ? in->count : 0;

    nr = MIN(nr, (uint32_t)((share->arguments_length -
                             MIN(share->arguments_length, (uint32_t)sizeof(*in))) /
                            sizeof(*one)));
    for (uint32_t i = 0; i < nr; i++)
        share_node_forget(share, one[i].nodeid, one[i].nlookup);
}

/* Every change; what is not listed reads. */
static bool changes(uint32_t opcode)
{
    switch (opcode) {
    case FUSE_SETATTR:
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_LINK:
    case FUSE_WRITE:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
    case FUSE_CREATE:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
        return true;
    default:
        return false;
    }
}

static share_op_fn *const operations[] = {
    [FUSE_LOOKUP] = share_op_lookup,
    [FUSE_GETATTR] = share_op_getattr,
    [FUSE_SETATTR] = share_op_setattr,
    [FUSE_READLINK] = share_op_readlink,
    [FUSE_SYMLINK] = share_op_symlink,
    [FUSE_MKNOD] = share_op_mknod,
    [FUSE_MKDIR] = share_op_mkdir,
    [FUSE_UNLINK] = share_op_unlink,
    [FUSE_RMDIR] = share_op_rmdir,
    [FUSE_RENAME] = share_op_rename,
    [FUSE_LINK] = share_op_link,
    [FUSE_OPEN] = share_op_open,
    [FUSE_READ] = share_op_read,
    [FUSE_WRITE] = share_op_write,
    [FUSE_STATFS] = share_op_statfs,
    [FUSE_RELEASE] = share_op_release,
    [FUSE_FSYNC] = share_op_fsync,
    [FUSE_SETXATTR] = share_op_setxattr,
    [FUSE_GETXATTR] = share_op_getxattr,
    [FUSE_LISTXATTR] = share_op_listxattr,
    [FUSE_REMOVEXATTR] = share_op_removexattr,
    [FUSE_OPENDIR] = share_op_opendir,
    [FUSE_READDIR] = share_op_readdir,
    [FUSE_RELEASEDIR] = share_op_releasedir,
    [FUSE_FSYNCDIR] = share_op_fsyncdir,
    [FUSE_CREATE] = share_op_create,
    [FUSE_FALLOCATE] = share_op_fallocate,
    [FUSE_READDIRPLUS] = share_op_readdirplus,
    [FUSE_RENAME2] = share_op_rename2,
    [FUSE_LSEEK] = share_op_lseek,
    [FUSE_COPY_FILE_RANGE] = share_op_copy_file_range,
    [FUSE_SYNCFS] = share_op_syncfs,
};

static int run(struct share *share)
{
    uint32_t opcode = share->header.opcode;
    struct share_node *node;

    if (opcode == FUSE_INIT)
        return op_init(share);
    if (!share->started)
        return -EIO;
    if (opcode == FUSE_DESTROY) {
        share_handles_done(share);
        share_nodes_reset(share);
        share->started = false;
        return 0;
    }
    if (opcode >= ARRAY_LEN(operations) || !operations[opcode])
        return -ENOSYS;
    node = share_node_find(share, share->header.nodeid);
    if (!node)
        return -ESTALE;
    if (changes(opcode) && share_node_read_only(share, node))
        return -EROFS;
    return operations[opcode](share, node);
}

uint32_t share_handle(struct share *share, struct share_request *request)
{
    uint32_t out_bytes = total(request->out, request->nr_out), limit = SHARE_ARGUMENTS_MAX;
    uint32_t in_bytes = total(request->in, request->nr_in);
    struct fuse_out_header reply = {0};
    int r = 0;

    request->touched = 0;
    share->request = request;
    share->data_length = 0;
    if (gather(request->out, request->nr_out, 0, &share->header, sizeof(share->header)) !=
        sizeof(share->header))
        return 0;
    if (share->header.opcode == FUSE_WRITE)
        limit = sizeof(struct fuse_write_in);
    else if (out_bytes - sizeof(share->header) > limit)
        r = -E2BIG;
    share->arguments_length = gather(request->out, request->nr_out, sizeof(share->header),
                                     share->arguments, limit);
    share->arguments[share->arguments_length] = '\0';
    if (share->header.opcode == FUSE_FORGET || share->header.opcode == FUSE_BATCH_FORGET ||
        share->header.opcode == FUSE_INTERRUPT) {
        if (share->started && share->header.opcode == FUSE_FORGET)
            op_forget(share);
        else if (share->started && share->header.opcode == FUSE_BATCH_FORGET)
            op_batch_forget(share);
        return 0;
    }
    if (in_bytes < sizeof(reply))
        return 0;
    share->reply_room = MIN(in_bytes - (uint32_t)sizeof(reply), SHARE_REPLY_MAX);
    if (r == 0)
        r = run(share);
    if (r > (int)share->reply_room)
        r = -EIO; /* no room for what the operation has to say */
    reply.error = MIN(r, 0);
    reply.len = (uint32_t)sizeof(reply) + (r > 0 ? (uint32_t)r : 0) +
                (r >= 0 ? share->data_length : 0);
    reply.unique = share->header.unique;
    scatter(request, 0, &reply, sizeof(reply));
    if (r > 0)
        scatter(request, sizeof(reply), share->reply, (uint32_t)r);
    return reply.len;
}

/* --- life --- */

int share_enter_proc(struct err *err)
{
    if (chdir("/proc/self/fd"))
        return err_errno(err, -errno, "enter /proc/self/fd");
    return 0;
}

static unsigned default_fds(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return FDS_LEAST;
    return (unsigned)MIN(limit.rlim_cur / 4 * 3, (rlim_t)SHARE_NODES_MAX);
}

static int check_members(const struct share_config *config, struct err *err)
{
    if (!config->nr_members || config->nr_members > SHARE_MEMBERS_MAX)
        return err_set(err, -EINVAL, "%u members of a share: 1 to %d are possible",
                       config->nr_members, SHARE_MEMBERS_MAX);
    for (unsigned i = 0; i < config->nr_members; i++)
        if (!config->members[i].name[0] && config->nr_members > 1)
            return err_set(err, -EINVAL, "several members of a share: each needs a name");
    return 0;
}

int share_new(const struct share_config *config, struct share **ret, struct err *err)
{
    struct share *share;
    int r = check_members(config, err);

    if (r < 0)
        return r;
    share = calloc(1, sizeof(*share));
    if (!share)
        return err_set(err, -ENOMEM, "out of memory for a share");
    share->several = config->members[0].name[0];
    share->owners = config->owners;
    share->fds_max = MAX(config->fds_max ? config->fds_max : default_fds(), FDS_LEAST);
    memcpy(share->members, config->members, config->nr_members * sizeof(*config->members));
    share->nr_members = config->nr_members;
    share->arguments = malloc(SHARE_ARGUMENTS_MAX + 1);
    share->reply = malloc(SHARE_REPLY_MAX);
    r = share->arguments && share->reply ? share_nodes_init(share, err)
                                         : err_set(err, -ENOMEM, "out of memory for a share");
    if (r < 0) {
        share->nr_members = 0; /* still the caller's */
        share_free(share);
        return r;
    }
    *ret = share;
    return 0;
}

void share_free(struct share *share)
{
    if (!share)
        return;
    share_handles_done(share);
    share_nodes_done(share);
    for (unsigned i = 0; i < share->nr_members; i++)
        close(share->members[i].fd);
    free(share->handles);
    free(share->arguments);
    free(share->reply);
    free(share);
}

void share_figures(const struct share *share, struct share_figures *ret)
{
    *ret = (struct share_figures){share->nr_nodes, share->nr_fds, share->nr_handles};
}
