/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of a share: nodes (files that the guest knows, by node id), handles (files that it has
 * open), and the request at hand. Private to share/.
 *
 * A node id is a slot's index and its generation, so an old id never names a new file. A node keeps
 * an O_PATH descriptor while there is room; when it was taken from it, it is opened again by its
 * last known directory and name, and must be the same file (device, inode, birth), else -ESTALE:
 * the guest's kernel then looks the path up anew.
 */
#ifndef LODGE_SHARE_INTERNAL_H
#define LODGE_SHARE_INTERNAL_H

#include "share/share.h"

#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define SHARE_ARGUMENTS_MAX ((64u << 10) + 1024u) /* the largest: an extended attribute's value */
#define SHARE_REPLY_MAX     (128u << 10)          /* payload, READ apart */

struct share_node {
    uint32_t generation;
    uint32_t next_hash, next_free; /* slot indexes; 0: end */
    uint32_t lru_newer, lru_older; /* while it has a descriptor and is no member */
    uint32_t pins;                 /* open handles: its descriptor stays */
    uint64_t lookups;              /* what the guest has not forgotten; 0: the slot is free */
    uint64_t dev, ino;
    int64_t birth_s;
    uint32_t birth_ns;
    uint16_t type; /* S_IFMT bits */
    uint8_t member;
    bool hashed;
    bool fixed; /* the root and the members: never forgotten */
    int fd;     /* -1: to be opened again */
    uint64_t parent;
    char *name;
};

struct share_handle {
    int fd; /* -1: the slot is free */
    bool directory;
    bool writable;
    uint32_t generation;
    uint32_t next_free;
    uint64_t node;
    uint64_t position; /* directory: where fd stands; UINT64_MAX: unknown */
};

struct share {
    struct share_member members[SHARE_MEMBERS_MAX];
    unsigned nr_members;
    bool several; /* members have names */
    bool owners;
    bool started; /* INIT was seen */

    struct share_node *nodes; /* [0] is not used */
    uint32_t nr_slots, free_slot, nr_nodes;
    uint32_t *buckets;
    uint32_t nr_buckets;
    uint32_t lru_newest, lru_oldest;
    unsigned nr_fds, fds_max;

    struct share_handle *handles;
    uint32_t nr_handle_slots, free_handle, nr_handles;

    /* The request at hand. */
    struct fuse_in_header header;
    struct share_request *request;
    uint8_t *arguments; /* SHARE_ARGUMENTS_MAX + 1: always ends in NUL */
    uint32_t arguments_length;
    uint8_t *reply;       /* SHARE_REPLY_MAX */
    uint32_t reply_room;  /* what the guest has room for, at most SHARE_REPLY_MAX */
    uint32_t data_length; /* READ: already in the guest's memory */
};

#define SHARE_ROOT 1u

/* --- nodes.c --- */
int share_nodes_init(struct share *share, struct err *err);
/* Forgets everything but root and members. */
void share_nodes_reset(struct share *share);
void share_nodes_done(struct share *share);
struct share_node *share_node_find(struct share *share, uint64_t id);
uint64_t share_node_id(const struct share *share, const struct share_node *node);
/* Its descriptor, opened again when it must be. Valid until the next call of this kind. -errno */
int share_node_fd(struct share *share, struct share_node *node);
/* Name below a directory: the node gains one lookup. -errno */
int share_node_lookup(struct share *share, struct share_node *parent, const char *name,
                      struct share_node **ret, struct statx *ret_stat);
void share_node_forget(struct share *share, uint64_t id, uint64_t count);
/* The file that is now called so has moved here. */
void share_node_moved(struct share *share, struct share_node *parent, const char *name);
bool share_node_read_only(const struct share *share, const struct share_node *node);
/* The made-up root of several members. */
bool share_node_virtual(const struct share *share, const struct share_node *node);

/* --- handles.c --- */
int share_handle_new(struct share *share, int fd, struct share_node *node, bool directory,
                     bool writable, uint64_t *ret);
struct share_handle *share_handle_find(struct share *share, uint64_t id, bool directory);
void share_handle_close(struct share *share, uint64_t id, bool directory);
void share_handles_done(struct share *share);

/* --- attributes.c --- */
void share_attr_fill(struct fuse_attr *ret, const struct statx *st);
void share_entry_fill(struct share *share, struct fuse_entry_out *ret,
                      const struct share_node *node, const struct statx *st);
int share_node_stat(struct share *share, struct share_node *node, struct statx *ret);

/* All operations: bytes of the reply's payload, or -errno. `node` is the header's, never NULL. */
typedef int share_op_fn(struct share *share, struct share_node *node);
share_op_fn share_op_getattr, share_op_setattr, share_op_statfs, share_op_getxattr,
    share_op_listxattr, share_op_setxattr, share_op_removexattr, share_op_readlink;
/* --- directories.c --- */
share_op_fn share_op_lookup, share_op_opendir, share_op_readdir, share_op_readdirplus,
    share_op_releasedir, share_op_fsyncdir;
/* --- names.c --- */
share_op_fn share_op_mkdir, share_op_mknod, share_op_symlink, share_op_link, share_op_unlink,
    share_op_rmdir, share_op_rename, share_op_rename2, share_op_create;
/* --- files.c --- */
share_op_fn share_op_open, share_op_read, share_op_write, share_op_release, share_op_fsync,
    share_op_fallocate, share_op_lseek, share_op_copy_file_range, share_op_syncfs;
/* An open file of a regular node: flags as the guest gave them. A new descriptor or -errno. */
int share_file_open(struct share *share, struct share_node *node, uint32_t flags);

/* --- requests.c --- */
/* The fixed arguments, or NULL when the request is too short for them. */
const void *share_arguments(struct share *share, size_t size);
/* The index-th name behind `size` bytes of arguments, checked; NULL: -EINVAL. */
const char *share_name_at(struct share *share, size_t size, unsigned index);
/* The index-th string there, unchecked but terminated. */
const char *share_string_at(struct share *share, size_t size, unsigned index);
/* Segments of the guest's memory: `length` bytes at offset of the request (of the reply). Returns
 * how many. */
unsigned share_slice(const struct iovec *iov, unsigned nr, uint32_t offset, uint32_t length,
                     struct iovec *ret, unsigned max);
/* The decimal text of a descriptor, as its path below the working directory. */
struct share_path {
    char text[16];
};
struct share_path share_path(int fd);

#endif
