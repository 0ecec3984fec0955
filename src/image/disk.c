/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs mke2fs on the tree, confined (tool/tool.h), into a temporary name that becomes the key when
 * the image is whole. Names of killed builds are swept by the next one.
 */
#include "image/disk.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/util.h"
#include "image/layout.h"
#include "image/unpack.h"
#include "tool/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#define BLOCK_SIZE   4096u
#define ATTEMPTS     3
#define MAKE_LIMIT_S 3600

#define DIR_DISK_KEPT_S (7 * 86400)

/* Entries are summed, so that the order in which a directory gives them does not matter. */
static void summarise_entry(struct tree_summary *sum, const char *path, const struct stat *st)
{
    uint64_t fields[] = {st->st_mode,
                         st->st_uid,
                         st->st_gid,
                         S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size,
                         (uint64_t)st->st_mtim.tv_sec,
                         (uint64_t)st->st_mtim.tv_nsec,
                         (uint64_t)st->st_ctim.tv_sec,
                         (uint64_t)st->st_ctim.tv_nsec,
                         st->st_ino,
                         st->st_rdev};

    for (uint64_t seed = 0; seed < 2; seed++) {
        uint64_t hash = hash_bytes(HASH_START + seed, path, strlen(path));

        sum->key[seed] += hash_bytes(hash, fields, sizeof(fields));
    }
    sum->nr_files++;
    sum->foreign |= st->st_uid != geteuid() || st->st_gid != getegid();
    if (S_ISREG(st->st_mode))
        sum->bytes += align_up((uint64_t)st->st_size, BLOCK_SIZE);
    else
        sum->bytes += BLOCK_SIZE;
}

int tree_summarise(const char *dir, struct tree_summary *ret, struct err *err)
{
    char *roots[] = {(char *)(uintptr_t)dir, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    struct tree_summary sum = {0};
    size_t prefix = strlen(dir);
    FTSENT *entry;
    int result = 0;

    if (!walk)
        return err_errno(err, -errno, "read '%s'", dir);
    while (result == 0 && (entry = fts_read(walk))) {
        if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS)
            result = err_errno(err, -entry->fts_errno, "read '%s'", entry->fts_path);
        else if (entry->fts_info != FTS_DP)
            summarise_entry(&sum, entry->fts_path + MIN(prefix, strlen(entry->fts_path)),
                            entry->fts_statp);
    }
    fts_close(walk);
    if (result == 0)
        *ret = sum;
    return result;
}

/* Runs mke2fs; its own words are the error's text. */
static int mke2fs(const char *rootfs, bool foreign, const char *path, uint64_t nr_blocks,
                  uint64_t nr_inodes, struct err *err)
{
    CLEANUP(fd_closep)
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    char blocks[24], inodes[24], words[400];
    const char *const argv[] = {
        TOOL_MKE2FS,
        "-N",
        inodes,
        "-O",
        "none,extents,filetype,dir_index,sparse_super,large_file,huge_file,extra_isize,ext_attr,"
        "dir_nlink",
        "-E",
        "root_owner,lazy_itable_init=1,nodiscard",
        "-d",
        tool_tree,
        tool_file,
        blocks,
        NULL};
    const struct tool tool = {.argv = argv,
                              .file = fd,
                              .tree = rootfs,
                              .tree_is_ours = !foreign,
                              .limit_s = MAKE_LIMIT_S};
    int status;

    if (fd < 0 || ftruncate(fd, (off_t)(nr_blocks * BLOCK_SIZE)) < 0)
        return err_errno(err, -errno, "make '%s'", path);
    snprintf(blocks, sizeof(blocks), "%llu", (unsigned long long)nr_blocks);
    snprintf(inodes, sizeof(inodes), "%llu", (unsigned long long)nr_inodes);
    status = tool_run(&tool, words, sizeof(words), err);
    if (status <= 0)
        return status;
    return err_set(err, strstr(words, "allocate") ? -ENOSPC : -EIO, "make a disk image of '%s': %s",
                   rootfs, *words ? words : "mke2fs failed");
}

/* Is there room for that much beside `path`? mke2fs would only say it after minutes of writing. */
static int check_room(const char *dir, uint64_t bytes, struct err *err)
{
    struct statvfs fs;

    if (statvfs(dir, &fs) < 0)
        return err_errno(err, -errno, "look at '%s'", dir);
    if ((uint64_t)fs.f_bavail * fs.f_frsize < bytes)
        return err_set(err, -ENOSPC, "no room for a disk image of %llu MiB in '%s' (%llu MiB free)",
                       (unsigned long long)(bytes / MIB), dir,
                       (unsigned long long)((uint64_t)fs.f_bavail * fs.f_frsize / MIB));
    return 0;
}

static int build(const char *rootfs, const struct tree_summary *sum, const char *dir,
                 const char *path, struct err *err)
{
    char temporary[PATH_MAX + 32];
    uint64_t inodes = sum->nr_files + sum->nr_files / 16 + 64;
    uint64_t bytes = sum->bytes + sum->bytes / 20 + inodes * 256 + 4 * MIB;
    int result;

    snprintf(temporary, sizeof(temporary), "%s.%d.tmp", path, (int)getpid());
    for (int attempt = 0; attempt < ATTEMPTS; attempt++, bytes += bytes / 2) {
        if ((result = check_room(dir, sum->bytes + 4 * MIB, err)) < 0)
            return result;
        unlink(temporary);
        result = mke2fs(rootfs, sum->foreign, temporary, bytes / BLOCK_SIZE, inodes, err);
        if (result != -ENOSPC)
            break;
    }
    if (result == 0 && rename(temporary, path) < 0)
        result = err_errno(err, -errno, "make '%s'", path);
    if (result < 0)
        unlink(temporary);
    return result;
}

/* Temporary files of processes that are no more, and disks of directories that nobody made for a
 * week (the directory has changed since, or is gone; at worst the disk is made again). */
static void sweep(const char *dir_path)
{
    CLEANUP(dir_closep) DIR *dir = opendir(dir_path);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        size_t length = strlen(entry->d_name);
        const char *dot;
        struct stat st;
        int pid;

        if (!strncmp(entry->d_name, "dir-", 4) &&
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            time(NULL) - st.st_mtime > DIR_DISK_KEPT_S) {
            unlinkat(dirfd(dir), entry->d_name, 0);
            continue;
        }
        if (length < 6 || strcmp(entry->d_name + length - 4, ".tmp") != 0)
            continue;
        if (!(dot = memrchr(entry->d_name, '.', length - 4)) || (pid = atoi(dot + 1)) <= 0)
            continue;
        if (kill(pid, 0) < 0 && errno == ESRCH)
            tree_remove(dirfd(dir), entry->d_name);
    }
}

/* All layers into one directory, one after the other; `into` exists and is empty. */
static int flatten(const struct layout *layout, const struct image *image, const char *into,
                   struct err *err)
{
    CLEANUP(freep) struct layout_image *from = calloc(1, sizeof(*from));
    CLEANUP(fd_closep) int root = open(into, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct unpack_options options = {.flat = true};
    int result;

    if (!from || root < 0)
        return err_errno(err, from ? -errno : -ENOMEM, "open '%s'", into);
    if ((result = layout_image_load(layout, image->digest, from, err)) < 0)
        return result;
    for (size_t i = 0; result == 0 && i < from->manifest.nr_layers; i++) {
        CLEANUP(fd_closep) int blob = blob_open(layout, from->manifest.layers[i].digest, err);
        struct unpack_result unpacked;

        result = blob < 0 ? blob : unpack_layer(blob, root, &options, &unpacked, err);
        if (result == 0 && strcmp(unpacked.diff_id, from->config.diff_ids[i]) != 0)
            result = err_set(err, -EBADMSG, "layer %zu is not what the configuration says", i + 1);
    }
    layout_image_done(from);
    return result;
}

static int build_layers(const struct image *image, const char *dir, const char *path,
                        struct err *err)
{
    struct tree_summary sum;
    struct layout layout;
    char tree[PATH_MAX];
    int result;

    if (snprintf(tree, sizeof(tree), "%s.tree.%d.tmp", path, (int)getpid()) >= (int)sizeof(tree))
        return err_set(err, -ENAMETOOLONG, "the path of the disk image is too long");
    if ((result = layout_open(image->store_dir, false, &layout, err)) < 0)
        return result;
    if (mkdir(tree, 0755) < 0)
        result = err_errno(err, -errno, "create '%s'", tree);
    if (result == 0 && (result = flatten(&layout, image, tree, err)) == 0 &&
        (result = tree_summarise(tree, &sum, err)) == 0)
        result = build(tree, &sum, dir, path, err);
    tree_remove(AT_FDCWD, tree);
    layout_close(&layout);
    return result;
}

int disk_prepare(const struct store *store, const struct image *image, const char *fallback_dir,
                 char ret_path[PATH_MAX], bool *ret_built, struct err *err)
{
    struct tree_summary sum = {0};
    char dir[PATH_MAX], key[128];
    const char *name;
    bool summed = false;
    int result;

    *ret_built = false;
    if (image->imported) {
        snprintf(key, sizeof(key), "oci-%s", image->digest + strlen("sha256:"));
    } else if (*image->digest) {
        snprintf(key, sizeof(key), "%s", image->digest);
    } else {
        if ((result = tree_summarise(image->rootfs, &sum, err)) < 0)
            return result;
        summed = true;
        snprintf(key, sizeof(key), "dir-%016llx%016llx", (unsigned long long)sum.key[0],
                 (unsigned long long)sum.key[1]);
    }
    for (char *c = key; *c; c++)
        if (*c == ':' || *c == '/')
            *c = '-';
    name = key;
    for (size_t i = 0; i < store->nr_dirs; i++)
        if (snprintf(ret_path, PATH_MAX, "%s/disks/%s.ext4", store->dirs[i], name) < PATH_MAX &&
            access(ret_path, R_OK) == 0)
            return 0;
    if (store_writable_dir(store, "disks", dir) < 0)
        snprintf(dir, sizeof(dir), "%s", fallback_dir);
    if (snprintf(ret_path, PATH_MAX, "%s/%s.ext4", dir, name) >= PATH_MAX)
        return err_set(err, -ENAMETOOLONG, "the path of the disk image is too long");
    sweep(dir);
    if (image->nr_layers > 1) {
        result = build_layers(image, dir, ret_path, err);
    } else {
        result = summed ? 0 : tree_summarise(image->rootfs, &sum, err);
        if (result == 0)
            result = build(image->rootfs, &sum, dir, ret_path, err);
    }
    *ret_built = result == 0;
    return result;
}
