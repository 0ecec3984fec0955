/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of known files: slots by index, a hash by (device, inode), a list of descriptors by
 * use. Slot 1 is the root; members of a share of several follow. See internal.h.
 */
#include "share/internal.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define SLOTS_FIRST 1024u
#define TABLE_BYTES ((SHARE_NODES_MAX + 1) * sizeof(struct share_node))
#define STAT_MASK   (STATX_BASIC_STATS | STATX_BTIME)
#define DEPTH_MAX   256 /* directories opened again on the way to one file */

static uint32_t index_of(const struct share *share, const struct share_node *node)
{
    return (uint32_t)(node - share->nodes);
}

uint64_t share_node_id(const struct share *share, const struct share_node *node)
{
    uint32_t index = index_of(share, node);

    return index == SHARE_ROOT ? FUSE_ROOT_ID : (uint64_t)node->generation << 32 | index;
}

struct share_node *share_node_find(struct share *share, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    struct share_node *node;

    if (id == FUSE_ROOT_ID)
        return &share->nodes[SHARE_ROOT];
    if (index <= SHARE_ROOT || index >= share->nr_slots)
        return NULL;
    node = &share->nodes[index];
    return node->lookups && node->generation == (uint32_t)(id >> 32) ? node : NULL;
}

bool share_node_virtual(const struct share *share, const struct share_node *node)
{
    return share->several && index_of(share, node) == SHARE_ROOT;
}

bool share_node_read_only(const struct share *share, const struct share_node *node)
{
    return share_node_virtual(share, node) || share->members[node->member].read_only;
}

/* --- descriptors, by use --- */

static void lru_remove(struct share *share, struct share_node *node)
{
    if (node->fixed)
        return;
    if (node->lru_newer)
        share->nodes[node->lru_newer].lru_older = node->lru_older;
    else
        share->lru_newest = node->lru_older;
    if (node->lru_older)
        share->nodes[node->lru_older].lru_newer = node->lru_newer;
    else
        share->lru_oldest = node->lru_newer;
    node->lru_newer = node->lru_older = 0;
}

static void lru_add(struct share *share, struct share_node *node)
{
    uint32_t index = index_of(share, node);

    if (node->fixed)
        return;
    node->lru_newer = 0;
    node->lru_older = share->lru_newest;
    if (share->lru_newest)
        share->nodes[share->lru_newest].lru_newer = index;
    else
        share->lru_oldest = index;
    share->lru_newest = index;
}

static void fd_drop(struct share *share, struct share_node *node)
{
    if (node->fd < 0)
        return;
    lru_remove(share, node);
    close(node->fd);
    node->fd = -1;
    share->nr_fds--;
}

static void fd_give(struct share *share, struct share_node *node, int fd)
{
    node->fd = fd;
    lru_add(share, node);
    share->nr_fds++;
}

/* Takes the least recently used descriptors from their nodes; `keep` is in use right now. */
static void fds_trim(struct share *share, const struct share_node *keep)
{
    uint32_t index = share->lru_oldest;

    for (unsigned tries = 64; tries && index && share->nr_fds > share->fds_max; tries--) {
        struct share_node *node = &share->nodes[index];

        index = node->lru_newer;
        if (node == keep)
            continue;
        if (node->pins) { /* in use: as good as new */
            lru_remove(share, node);
            lru_add(share, node);
        } else {
            fd_drop(share, node);
        }
    }
}

/* --- hash --- */

static uint32_t *bucket_of(struct share *share, uint64_t dev, uint64_t ino)
{
    uint64_t hash = (ino ^ dev * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xff51afd7ed558ccd);

    return &share->buckets[(hash >> 32) & (share->nr_buckets - 1)];
}

static void hash_add(struct share *share, struct share_node *node)
{
    uint32_t *bucket = bucket_of(share, node->dev, node->ino);

    node->next_hash = *bucket;
    *bucket = index_of(share, node);
    node->hashed = true;
}

static void hash_remove(struct share *share, struct share_node *node)
{
    uint32_t *at = bucket_of(share, node->dev, node->ino), index = index_of(share, node);

    if (!node->hashed)
        return;
    while (*at && *at != index)
        at = &share->nodes[*at].next_hash;
    if (*at)
        *at = node->next_hash;
    node->hashed = false;
}

static uint64_t device_of(const struct statx *st)
{
    return (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor;
}

static bool same_file(const struct share_node *node, const struct statx *st)
{
    return node->ino == st->stx_ino && node->dev == device_of(st) &&
           node->type == (st->stx_mode & S_IFMT) && node->birth_s == st->stx_btime.tv_sec &&
           node->birth_ns == st->stx_btime.tv_nsec;
}

static struct share_node *hash_find(struct share *share, unsigned member, const struct statx *st)
{
    uint32_t index = *bucket_of(share, device_of(st), st->stx_ino);

    for (; index; index = share->nodes[index].next_hash)
        if (share->nodes[index].member == member && same_file(&share->nodes[index], st))
            return &share->nodes[index];
    return NULL;
}

static int buckets_grow(struct share *share, uint32_t nr)
{
    uint32_t *buckets = calloc(nr, sizeof(*buckets));

    if (!buckets)
        return -ENOMEM;
    free(share->buckets);
    share->buckets = buckets;
    share->nr_buckets = nr;
    for (uint32_t i = 1; i < share->nr_slots; i++)
        if (share->nodes[i].hashed)
            hash_add(share, &share->nodes[i]);
    return 0;
}

/* --- slots --- */

/* The table's addresses are reserved once, so that nodes never move. */
static int slots_grow(struct share *share)
{
    uint32_t nr = share->nr_slots ? MIN(share->nr_slots * 2, SHARE_NODES_MAX + 1) : SLOTS_FIRST;

    if (nr <= share->nr_slots)
        return -ENFILE;
    for (uint32_t i = nr; i-- > MAX(share->nr_slots, 1u);) {
        share->nodes[i].fd = -1;
        share->nodes[i].next_free = share->free_slot;
        share->free_slot = i;
    }
    share->nr_slots = nr;
    return buckets_grow(share, 1u << (31 - __builtin_clz(nr)));
}

static int slot_take(struct share *share, struct share_node **ret)
{
    struct share_node *node;
    uint32_t generation;
    int r;

    if (!share->free_slot && (r = slots_grow(share)) < 0)
        return r;
    node = &share->nodes[share->free_slot];
    share->free_slot = node->next_free;
    generation = node->generation + 1;
    *node = (struct share_node){.generation = generation ? generation : 1, .fd = -1, .lookups = 1};
    share->nr_nodes++;
    *ret = node;
    return 0;
}

static void slot_give_back(struct share *share, struct share_node *node)
{
    fd_drop(share, node);
    hash_remove(share, node);
    free(node->name);
    node->name = NULL;
    node->lookups = 0;
    node->fixed = false;
    node->next_free = share->free_slot;
    share->free_slot = index_of(share, node);
    share->nr_nodes--;
}

/* --- lookups --- */

/* One name beneath a directory; nothing is followed. */
static int open_beneath(int directory, const char *name)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    int fd;

    do
        fd = (int)syscall(SYS_openat2, directory, name, &how, sizeof(how));
    while (fd < 0 && errno == EAGAIN); /* raced with a rename: "try again" */
    return fd < 0 ? -errno : fd;
}

static int stat_fd(int fd, struct statx *ret)
{
    return statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STAT_MASK, ret) ? -errno : 0;
}

/* From the nearest ancestor that has a descriptor down to the node. */
int share_node_fd(struct share *share, struct share_node *node)
{
    uint32_t chain[DEPTH_MAX];
    struct share_node *at = node;
    unsigned depth = 0;

    if (node->fd >= 0) {
        if (!node->fixed && share->lru_newest != index_of(share, node)) {
            lru_remove(share, node);
            lru_add(share, node);
        }
        return node->fd;
    }
    if (share_node_virtual(share, node))
        return -ESTALE;
    while (at && at->fd < 0) {
        if (depth == DEPTH_MAX || !at->name)
            return -ESTALE;
        chain[depth++] = index_of(share, at);
        at = share_node_find(share, at->parent);
    }
    if (!at)
        return -ESTALE; /* its directory was forgotten */
    while (depth) {
        struct share_node *child = &share->nodes[chain[--depth]];
        struct statx st;
        int fd = open_beneath(at->fd, child->name), r;

        if (fd < 0)
            return fd == -ENOENT || fd == -ELOOP || fd == -ENOTDIR ? -ESTALE : fd;
        r = stat_fd(fd, &st);
        if (r < 0 || !same_file(child, &st)) {
            close(fd);
            return r < 0 ? r : -ESTALE;
        }
        fd_give(share, child, fd);
        at = child;
    }
    fds_trim(share, node);
    return node->fd >= 0 ? node->fd : -ESTALE;
}

static int name_set(struct share *share, struct share_node *node, struct share_node *parent,
                    const char *name)
{
    uint64_t id = share_node_id(share, parent);
    char *copy;

    if (node->fixed || (node->name && node->parent == id && !strcmp(node->name, name)))
        return 0;
    copy = strdup(name);
    if (!copy)
        return -ENOMEM;
    free(node->name);
    node->name = copy;
    node->parent = id;
    return 0;
}

static int node_make(struct share *share, const struct share_node *parent, const struct statx *st,
                     struct share_node **ret)
{
    struct share_node *node;
    int r = slot_take(share, &node);

    if (r < 0)
        return r;
    node->dev = device_of(st);
    node->ino = st->stx_ino;
    node->birth_s = st->stx_btime.tv_sec;
    node->birth_ns = st->stx_btime.tv_nsec;
    node->type = (uint16_t)(st->stx_mode & S_IFMT);
    node->member = parent->member;
    hash_add(share, node);
    *ret = node;
    return 0;
}

static int lookup_member(struct share *share, const char *name, struct share_node **ret,
                         struct statx *ret_stat)
{
    for (unsigned i = 0; i < share->nr_members; i++)
        if (!strcmp(share->members[i].name, name)) {
            *ret = &share->nodes[SHARE_ROOT + 1 + i];
            (*ret)->lookups++;
            return stat_fd((*ret)->fd, ret_stat);
        }
    return -ENOENT;
}

int share_node_lookup(struct share *share, struct share_node *parent, const char *name,
                      struct share_node **ret, struct statx *ret_stat)
{
    struct share_node *node;
    int directory, fd, r;

    if (share_node_virtual(share, parent))
        return lookup_member(share, name, ret, ret_stat);
    directory = share_node_fd(share, parent);
    if (directory < 0)
        return directory;
    fd = open_beneath(directory, name);
    if (fd < 0)
        return fd;
    r = stat_fd(fd, ret_stat);
    node = r == 0 ? hash_find(share, parent->member, ret_stat) : NULL;
    if (node)
        node->lookups++;
    else if (r == 0)
        r = node_make(share, parent, ret_stat, &node);
    if (r < 0 || !node) {
        close(fd);
        return r < 0 ? r : -EIO;
    }
    if (node->fd < 0)
        fd_give(share, node, fd);
    else
        close(fd);
    r = name_set(share, node, parent, name);
    if (r < 0) {
        share_node_forget(share, share_node_id(share, node), 1);
        return r;
    }
    fds_trim(share, node);
    *ret = node;
    return 0;
}

void share_node_forget(struct share *share, uint64_t id, uint64_t count)
{
    struct share_node *node = share_node_find(share, id);

    if (!node || node->fixed)
        return;
    node->lookups -= MIN(node->lookups, count);
    /* With an open handle the guest would not forget it; if it does, the handle goes on alone. */
    if (!node->lookups)
        slot_give_back(share, node);
}

void share_node_moved(struct share *share, struct share_node *parent, const char *name)
{
    int directory = share_node_fd(share, parent);
    struct share_node *node;
    struct statx st;

    if (directory < 0 || statx(directory, name, AT_SYMLINK_NOFOLLOW, STAT_MASK, &st))
        return;
    node = hash_find(share, parent->member, &st);
    if (node)
        name_set(share, node, parent, name); /* without memory: -ESTALE later, at worst */
}

/* --- all of them --- */

/* A slot for the root or a member; the slots come in order. */
static int fixed_add(struct share *share, const struct share_member *member, unsigned index)
{
    struct share_node *node = NULL;
    struct statx st;
    int r;

    if (!member) { /* the made-up root */
        if ((r = slot_take(share, &node)) < 0 || !node)
            return r;
        node->type = S_IFDIR;
        node->fixed = true;
        return 0;
    }
    if ((r = stat_fd(member->fd, &st)) < 0 ||
        (r = node_make(share, &share->nodes[SHARE_ROOT], &st, &node)) < 0 || !node)
        return r;
    node->member = (uint8_t)index;
    node->fixed = true;
    node->fd = member->fd;
    return 0;
}

static int fixed_fill(struct share *share)
{
    int r = 0;

    if (share->several)
        r = fixed_add(share, NULL, 0);
    for (unsigned i = 0; r == 0 && i < share->nr_members; i++)
        r = fixed_add(share, &share->members[i], i);
    return r;
}

int share_nodes_init(struct share *share, struct err *err)
{
    int r;

    share->nodes = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (share->nodes == MAP_FAILED) {
        share->nodes = NULL;
        return err_errno(err, -errno, "table of shared files");
    }
    r = slots_grow(share);
    if (r == 0)
        r = fixed_fill(share);
    return r < 0 ? err_errno(err, r, "table of shared files") : 0;
}

void share_nodes_reset(struct share *share)
{
    for (uint32_t i = 1; i < share->nr_slots; i++)
        if (share->nodes[i].lookups && !share->nodes[i].fixed)
            slot_give_back(share, &share->nodes[i]);
}

void share_nodes_done(struct share *share)
{
    for (uint32_t i = 1; i < share->nr_slots; i++) {
        struct share_node *node = &share->nodes[i];

        if (node->fixed)
            node->fd = -1; /* the member's, closed with it */
        if (node->lookups)
            slot_give_back(share, node);
    }
    if (share->nodes)
        munmap(share->nodes, TABLE_BYTES);
    free(share->buckets);
}
