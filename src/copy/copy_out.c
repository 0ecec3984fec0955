/* SPDX-License-Identifier: Apache-2.0 */
/* The walk: every file by its directory's descriptor and its own name, never by a path. */
#include "copy/copy.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "copy/beneath.h"
#include "copy/tar.h"

#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define DEPTH_MAX 128 /* a descriptor for each level */
#define BLOCK     (64u << 10)

struct walk {
    copy_write_fn *write;
    void *context;
    struct copy_sum sum;
    struct tar_entry entry; /* its path grows and shrinks as the walk goes down and up */
    char *block;
};

/* The kernel's own trees have no end and no contents to copy. */
static bool is_the_kernels(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 &&
           (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC ||
            fs.f_type == CGROUP_SUPER_MAGIC || fs.f_type == CGROUP2_SUPER_MAGIC ||
            fs.f_type == DEVPTS_SUPER_MAGIC || fs.f_type == DEBUGFS_MAGIC ||
            fs.f_type == TRACEFS_MAGIC);
}

static void describe(struct walk *walk, const struct stat *st)
{
    walk->entry.mode = st->st_mode & 07777;
    walk->entry.uid = st->st_uid;
    walk->entry.gid = st->st_gid;
    walk->entry.mtime_s = st->st_mtim.tv_sec;
    walk->entry.size = 0;
    walk->entry.link[0] = '\0';
}

static int put_header(struct walk *walk, enum tar_type type)
{
    walk->entry.type = type;
    walk->sum.files++;
    return tar_header_write(&walk->entry, walk->write, walk->context);
}

/* Just as many bytes as the header said: one that grows meanwhile is cut, one that shrinks is an
 * error, as nothing true could take the place of what is missing. */
static int put_file(struct walk *walk, int dir, const char *name, struct err *err)
{
    CLEANUP(fd_closep)
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    int result;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, -errno, "read '%s'", walk->entry.path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, -EAGAIN, "'%s' was replaced meanwhile", walk->entry.path);
    describe(walk, &st);
    walk->entry.size = (uint64_t)st.st_size;
    if ((result = put_header(walk, TAR_FILE)) < 0)
        return err_errno(err, result, "send '%s'", walk->entry.path);
    for (uint64_t left = walk->entry.size; left;) {
        ssize_t n = file_read_full(fd, walk->block, (size_t)MIN(left, (uint64_t)BLOCK));

        if (n < 0)
            return err_errno(err, (int)n, "read '%s'", walk->entry.path);
        if (n == 0)
            return err_set(err, -EAGAIN, "'%s' became shorter while it was read", walk->entry.path);
        if ((result = walk->write(walk->block, (size_t)n, walk->context)) < 0)
            return err_errno(err, result, "send '%s'", walk->entry.path);
        left -= (uint64_t)n;
        walk->sum.bytes += (uint64_t)n;
    }
    result = tar_pad_write(walk->entry.size, walk->write, walk->context);
    return result < 0 ? err_errno(err, result, "send '%s'", walk->entry.path) : 0;
}

static int put_link(struct walk *walk, int fd, const struct stat *st, struct err *err)
{
    ssize_t n;
    int result;

    describe(walk, st);
    if ((n = readlinkat(fd, "", walk->entry.link, sizeof(walk->entry.link) - 1)) < 0)
        return err_errno(err, -errno, "read the link '%s'", walk->entry.path);
    walk->entry.link[n] = '\0';
    result = put_header(walk, TAR_SYMLINK);
    return result < 0 ? err_errno(err, result, "send '%s'", walk->entry.path) : 0;
}

static int put_one(struct walk *walk, int dir, const char *name, unsigned depth, struct err *err);

static int put_entries(struct walk *walk, int fd, unsigned depth, struct err *err)
{
    size_t length = strlen(walk->entry.path);
    CLEANUP(dir_closep) DIR *stream = NULL;
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;
    struct dirent *entry;

    if (copy < 0 || !(stream = fdopendir(copy))) {
        result = -errno;
        fd_closep(&copy);
        return err_errno(err, result, "read the directory '%s'", walk->entry.path);
    }
    while (result == 0 && (result = file_next_entry(stream, &entry)) > 0) {
        result = 0;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if ((size_t)snprintf(walk->entry.path + length, sizeof(walk->entry.path) - length, "/%s",
                             entry->d_name) >= sizeof(walk->entry.path) - length)
            result = err_set(err, -ENAMETOOLONG, "'%.200s...': the path is too long",
                             walk->entry.path);
        else
            result = put_one(walk, fd, entry->d_name, depth, err);
        walk->entry.path[length] = '\0';
    }
    return result;
}

static int put_directory(struct walk *walk, int fd, const struct stat *st, unsigned depth,
                         struct err *err)
{
    int result;

    if (is_the_kernels(fd)) {
        walk->sum.skipped++;
        return 0;
    }
    if (depth == DEPTH_MAX)
        return err_set(err, -ELOOP, "'%.200s...' is deeper than %d directories", walk->entry.path,
                       DEPTH_MAX);
    describe(walk, st);
    if (strcmp(walk->entry.path, ".") != 0 && (result = put_header(walk, TAR_DIRECTORY)) < 0)
        return err_errno(err, result, "send '%s'", walk->entry.path);
    return put_entries(walk, fd, depth + 1, err);
}

static int put_one(struct walk *walk, int dir, const char *name, unsigned depth, struct err *err)
{
    CLEANUP(fd_closep) int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    /* It went away between its directory's reading and now. */
    if (fd < 0 && errno == ENOENT && depth)
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, -errno, "look at '%s'", walk->entry.path);
    if (S_ISDIR(st.st_mode))
        return put_directory(walk, fd, &st, depth, err);
    if (S_ISLNK(st.st_mode))
        return put_link(walk, fd, &st, err);
    if (S_ISREG(st.st_mode))
        return put_file(walk, dir, name, err);
    walk->sum.skipped++;
    return 0;
}

/* The directory and the last part of a path; "" for what is a directory itself ("/", "x/.", "..").
 */
static int split(const char *path, char dir[COPY_PATH_MAX], char name[256])
{
    size_t length = strlen(path);
    const char *slash;

    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length >= COPY_PATH_MAX - 1 || !length)
        return length ? -ENAMETOOLONG : -ENOENT;
    slash = memrchr(path, '/', length);
    if (length - (slash ? (size_t)(slash + 1 - path) : 0) > 255)
        return -ENAMETOOLONG;
    snprintf(name, 256, "%.*s", (int)(length - (slash ? (size_t)(slash + 1 - path) : 0)),
             slash ? slash + 1 : path);
    snprintf(dir, COPY_PATH_MAX, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) {
        snprintf(dir, COPY_PATH_MAX, "%.*s", (int)length, path);
        name[0] = '\0';
    }
    return 0;
}

static int walk_from(struct walk *walk, int root, const char *path, struct err *err)
{
    CLEANUP(fd_closep) int at = -1;
    char dir[COPY_PATH_MAX], name[256];
    struct stat st;
    int result = split(path, dir, name);

    if (result == 0)
        result = at = copy_open_in_root(root, dir, O_PATH | O_DIRECTORY);
    if (result < 0)
        return err_errno(err, result, "'%.300s'", path);
    if (!*name) { /* what is in it, without it */
        snprintf(walk->entry.path, sizeof(walk->entry.path), ".");
        return fstat(at, &st) < 0 ? err_errno(err, -errno, "'%.300s'", path)
                                  : put_directory(walk, at, &st, 0, err);
    }
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0) /* named as it was asked for */
        return err_errno(err, -errno, "'%.300s'", path);
    snprintf(walk->entry.path, sizeof(walk->entry.path), "%s", name);
    result = put_one(walk, at, name, 0, err);
    if (result == 0 && !walk->sum.files && walk->sum.skipped)
        return err_set(err, -EINVAL,
                       "'%.300s' is neither a file, a link nor a directory to be copied", path);
    return result;
}

int copy_out(int root, const char *path, copy_write_fn *write, void *context,
             struct copy_sum *ret_sum, struct err *err)
{
    CLEANUP(freep) struct walk *walk = calloc(1, sizeof(*walk));
    CLEANUP(freep) char *block = malloc(BLOCK);
    int result;

    if (!walk || !block)
        return err_set(err, -ENOMEM, "out of memory");
    walk->write = write;
    walk->context = context;
    walk->block = block;
    if ((result = walk_from(walk, root, path, err)) < 0)
        return result;
    if ((result = tar_end_write(write, context)) < 0)
        return err_errno(err, result, "send the archive's end");
    if (ret_sum)
        *ret_sum = walk->sum;
    return 0;
}
