/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries become files below one directory. Each is made under its own name in a directory that was
 * opened without following any link, and only as something new: what has its name is taken away
 * before, if it is no directory.
 */
#include "copy/copy.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "copy/beneath.h"
#include "copy/tar.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK (64u << 10)

struct filling {
    const struct copy_in_options *options;
    struct tar_reader reader;
    struct copy_sum sum;
    int target;               /* the directory that all goes into */
    char rename[256];         /* for the first part of each name; "": kept */
    char path[COPY_PATH_MAX]; /* of the current entry, cleaned */
    struct tar_entry entry;
    char *block;
};

/* Without "." and empty parts; -EPROTO with "..". The first part is renamed. "": the target itself.
 */
static int clean_path(struct filling *f)
{
    const char *at = f->entry.path;
    size_t used = 0;
    bool first = true;

    f->path[0] = '\0';
    while (*at) {
        size_t length = strcspn(at, "/");
        bool dot = length == 1 && *at == '.';
        const char *part = first && *f->rename ? f->rename : at;
        size_t part_length = first && *f->rename ? strlen(f->rename) : length;

        if (length == 2 && !strncmp(at, "..", 2))
            return -EPROTO;
        at += length + (at[length] == '/');
        if (!length || (dot && !(first && *f->rename)))
            continue;
        if (part_length > 255 || used + part_length + 2 > sizeof(f->path))
            return -ENAMETOOLONG;
        used += (size_t)snprintf(f->path + used, sizeof(f->path) - used, "%s%.*s", used ? "/" : "",
                                 (int)part_length, part);
        first = false;
    }
    return 0;
}

/* The directory that the entry is in, and its own name there. Directories that have no entry of
 * their own are made. */
static int open_parent(const struct filling *f, const char **ret_name)
{
    const char *slash = strrchr(f->path, '/');
    char dir[COPY_PATH_MAX];
    int fd;

    *ret_name = slash ? slash + 1 : f->path;
    if (!slash)
        return fcntl(f->target, F_DUPFD_CLOEXEC, 3);
    snprintf(dir, sizeof(dir), "%.*s", (int)(slash - f->path), f->path);
    fd = copy_open_beneath(f->target, dir, O_PATH | O_DIRECTORY);
    if (fd != -ENOENT)
        return fd;
    fd = fcntl(f->target, F_DUPFD_CLOEXEC, 3);
    for (char *at = dir, *end; fd >= 0 && *at; at = end) {
        int next;

        end = at + strcspn(at, "/");
        if (*end)
            *end++ = '\0';
        if (mkdirat(fd, at, 0755) < 0 && errno != EEXIST)
            next = -errno;
        else
            next = copy_open_beneath(fd, at, O_PATH | O_DIRECTORY);
        close(fd);
        fd = next;
    }
    return fd;
}

static int clear_place(int dir, const char *name)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    return errno == EISDIR || errno == EPERM ? -EEXIST : -errno;
}

/* By descriptor, so that it is this file that they are of. */
static int set_attributes(const struct filling *f, int fd)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = f->entry.mtime_s}};
    bool keep = f->options->keep_owner;

    if (keep && fchown(fd, f->entry.uid, f->entry.gid) < 0)
        return -errno;
    if (fchmod(fd, f->entry.mode & (keep ? 07777u : 0777u)) < 0 || futimens(fd, times) < 0)
        return -errno;
    return 0;
}

static int make_file(struct filling *f, int dir, const char *name)
{
    CLEANUP(fd_closep) int fd = -1;
    int result = clear_place(dir, name);
    ssize_t n;

    if (result < 0)
        return result;
    fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    while ((n = tar_read(&f->reader, f->block, BLOCK)) > 0) {
        if ((result = file_write_full(fd, f->block, (size_t)n)) < 0)
            return result;
        f->sum.bytes += (uint64_t)n;
    }
    return n < 0 ? (int)n : set_attributes(f, fd);
}

static int make_directory(struct filling *f, int dir, const char *name)
{
    CLEANUP(fd_closep) int fd = -1;
    bool fresh = mkdirat(dir, name, 0700) == 0;

    if (!fresh && errno != EEXIST)
        return -errno;
    fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR || errno == ELOOP ? -EEXIST : -errno;
    if (!f->options->keep_owner)
        f->entry.mode |= 0700;                /* who copies has to get into it */
    return fresh ? set_attributes(f, fd) : 0; /* one that was there stays as it is */
}

static int make_link(const struct filling *f, int dir, const char *name)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = f->entry.mtime_s}};
    int result = clear_place(dir, name);

    if (result < 0)
        return result;
    if (!*f->entry.link)
        return -EPROTO;
    if (symlinkat(f->entry.link, dir, name) < 0)
        return -errno;
    if (f->options->keep_owner &&
        fchownat(dir, name, f->entry.uid, f->entry.gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW);
    return 0;
}

static int make_one(struct filling *f)
{
    CLEANUP(fd_closep) int dir = -1;
    const char *name;
    int result = clean_path(f);

    if (result < 0)
        return result;
    if (!*f->path) /* the target itself, which is there */
        return f->entry.type == TAR_DIRECTORY ? 0 : -EPROTO;
    if (f->entry.type == TAR_OTHER || f->entry.type == TAR_HARD_LINK) {
        f->sum.skipped++;
        return 0;
    }
    if ((dir = open_parent(f, &name)) < 0)
        return dir;
    f->sum.files++;
    switch (f->entry.type) {
    case TAR_FILE:
        return make_file(f, dir, name);
    case TAR_DIRECTORY:
        return make_directory(f, dir, name);
    default:
        return make_link(f, dir, name);
    }
}

/* An existing directory, or the one above and the name to be. */
static int open_target(struct filling *f, int root, const char *path, struct err *err)
{
    size_t length = strlen(path);
    char dir[COPY_PATH_MAX];
    const char *slash;

    f->target = copy_open_in_root(root, *path ? path : ".", O_PATH | O_DIRECTORY);
    if (f->target >= 0)
        return 0;
    while (length > 1 && path[length - 1] == '/')
        length--;
    if ((f->target != -ENOENT && f->target != -ENOTDIR) || length >= sizeof(dir) - 1 ||
        (f->target == -ENOTDIR && path[length]))
        return err_errno(err, f->target, "'%.300s'", path);
    slash = memrchr(path, '/', length);
    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    if (length - (slash ? (size_t)(slash + 1 - path) : 0) >= sizeof(f->rename))
        return err_errno(err, -ENAMETOOLONG, "'%.300s'", path);
    snprintf(f->rename, sizeof(f->rename), "%.*s",
             (int)(length - (slash ? (size_t)(slash + 1 - path) : 0)), slash ? slash + 1 : path);
    if (!strcmp(f->rename, ".") || !strcmp(f->rename, ".."))
        return err_errno(err, f->target, "'%.300s'", path);
    f->target = copy_open_in_root(root, dir, O_PATH | O_DIRECTORY);
    if (f->target < 0)
        return err_errno(err, f->target, "the directory of '%.300s'", path);
    return 0;
}

/* Entries without a directory of their own ("x/." was asked for) go into one that is yet to be. */
static int make_target(struct filling *f, bool *made)
{
    int fd;

    if (*made || !*f->rename)
        return 0;
    if (mkdirat(f->target, f->rename, 0755) < 0 && errno != EEXIST)
        return -errno;
    if ((fd = copy_open_beneath(f->target, f->rename, O_PATH | O_DIRECTORY)) < 0)
        return fd;
    close(f->target);
    f->target = fd;
    f->rename[0] = '\0';
    *made = true;
    return 0;
}

static int fill(struct filling *f, struct err *err)
{
    bool made = false;
    int result;

    while ((result = tar_next(&f->reader, &f->entry)) > 0) {
        if (!strncmp(f->entry.path, "./", 2))
            result = make_target(f, &made);
        if (result >= 0)
            result = make_one(f);
        if (result == -EPROTO)
            break;
        if (result == -EEXIST)
            return err_set(err, -EEXIST,
                           "'%.300s': a directory cannot take the place of something else, nor "
                           "the other way round",
                           f->path);
        if (result < 0)
            return err_errno(err, result, "make '%.300s'", *f->path ? f->path : f->entry.path);
    }
    if (result == -EPROTO)
        return err_set(err, -EPROTO, "what came is not an archive, or a hostile one");
    return result < 0 ? err_errno(err, result, "receive the archive") : 0;
}

int copy_in(int root, const char *path, const struct copy_in_options *options, copy_read_fn *read,
            void *context, struct copy_sum *ret_sum, struct err *err)
{
    CLEANUP(freep) struct filling *f = calloc(1, sizeof(*f));
    CLEANUP(freep) char *block = malloc(BLOCK);
    int result;

    if (!f || !block)
        return err_set(err, -ENOMEM, "out of memory");
    f->options = options;
    f->reader = (struct tar_reader){.read = read, .context = context};
    f->block = block;
    if ((result = open_target(f, root, path, err)) < 0)
        return result;
    result = fill(f, err);
    fd_closep(&f->target);
    if (result < 0)
        return result;
    tar_drain(&f->reader);
    if (ret_sum)
        *ret_sum = f->sum;
    return 0;
}
