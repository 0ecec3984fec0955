/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of a layer's tar, each made below the root's descriptor. Directories get their modes and
 * times last, since what is made in them would change those, or be refused by them.
 *
 * A flat tree takes two passes over a layer: its whiteouts hide what lies below the layer and never
 * what is in it, in whatever order they come.
 */
#include "image/unpack.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "image/layout.h"
#include "image/unpack_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEPTH_MAX 256
#define WHITEOUT  ".wh."
#define OPAQUE    ".wh..wh..opq"

struct directory {
    char *path;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    struct timespec times[2];
};

enum pass { PASS_ALL, PASS_WHITEOUTS, PASS_FILES };

struct unpack {
    const struct unpack_options *options;
    struct unpack_stream stream;
    struct unpack_result *result;
    enum pass pass;
    int root_fd, parent_fd; /* of parent_path */
    char parent_path[PATH_MAX], path[PATH_MAX];
    uint64_t most_entries, most_bytes;
    bool owner; /* we may give files to others */
    struct directory *directories;
    size_t nr_directories, room;
    struct err *err;
};

static int open_below(int root_fd, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)flags | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, root_fd, *path ? path : ".", &how, sizeof(how));

    return fd < 0 ? -errno : (int)fd;
}

/* "./a//b/" becomes "a/b". */
static int clean_path(const char *from, char ret[PATH_MAX], struct err *err)
{
    size_t length = 0;
    unsigned depth = 0;

    while (*from) {
        size_t part = strcspn(from, "/");

        if (part == 2 && !strncmp(from, "..", 2))
            return err_set(err, -EPERM, "the layer holds a path with '..' in it: refused");
        if (part && !(part == 1 && *from == '.')) {
            if (part > NAME_MAX || length + part + 2 > PATH_MAX || ++depth > DEPTH_MAX)
                return err_set(err, -ENAMETOOLONG, "the layer holds a path that is too long");
            if (length)
                ret[length++] = '/';
            memcpy(ret + length, from, part);
            length += part;
        }
        from += part + (from[part] == '/');
    }
    ret[length] = '\0';
    return 0;
}

static int fail(struct unpack *u, int result, const char *what)
{
    return err_errno(u->err, result, "unpack '%.300s': %s", u->path, what);
}

/* Makes what is missing of a directory's path: archives may leave parents out. */
static int make_parents(struct unpack *u, const char *path)
{
    char part[PATH_MAX];

    for (const char *slash = path; slash && *slash; slash = strchr(slash + 1, '/')) {
        size_t length = slash == path ? strcspn(path, "/") : strcspn(slash + 1, "/") + 1;
        CLEANUP(fd_closep) int above = -1;
        char *name;

        length += (size_t)(slash - path);
        memcpy(part, path, length);
        part[length] = '\0';
        name = strrchr(part, '/');
        if (name)
            *name++ = '\0';
        if ((above = open_below(u->root_fd, name ? part : "", O_PATH | O_DIRECTORY)) < 0)
            return above;
        if (mkdirat(above, name ? name : part, 0755) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

/* The directory that u->path lies in; *ret_name is the last part. */
static int open_parent(struct unpack *u, const char **ret_name)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(u->path, '/');
    size_t length = slash ? (size_t)(slash - u->path) : 0;
    int fd;

    *ret_name = slash ? slash + 1 : u->path;
    memcpy(parent, u->path, length);
    parent[length] = '\0';
    if (u->parent_fd >= 0 && !strcmp(parent, u->parent_path))
        return 0;
    fd = open_below(u->root_fd, parent, O_RDONLY | O_DIRECTORY);
    if (fd == -ENOENT) {
        int result = make_parents(u, parent);

        if (result < 0)
            return fail(u, result, "make its directory");
        fd = open_below(u->root_fd, parent, O_RDONLY | O_DIRECTORY);
    }
    if (fd < 0)
        return fail(u, fd, "open its directory");
    if (u->parent_fd >= 0)
        close(u->parent_fd);
    u->parent_fd = fd;
    memcpy(u->parent_path, parent, length + 1);
    return 0;
}

/* What was there may have been the directory that is kept open, or one above it. */
static int replace(struct unpack *u, const char *name)
{
    int result = tree_remove(u->parent_fd, name);

    if (result < 0)
        return fail(u, result, "remove what was there");
    return 0;
}

static const char *overlay_prefix(const struct unpack *u)
{
    return u->owner ? "trusted.overlay.opaque" : "user.overlay.opaque";
}

static bool is_whiteout(int parent_fd, const char *name)
{
    struct stat st;

    return fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) &&
           st.st_rdev == 0;
}

static int make_opaque(struct unpack *u, int fd)
{
    if (fsetxattr(fd, overlay_prefix(u), "y", 1, 0) < 0 && errno != ENOTSUP)
        return fail(u, -errno, "mark the directory as opaque");
    return 0;
}

static int clear_directory(struct unpack *u, int fd)
{
    CLEANUP(dir_closep) DIR *dir = NULL;
    struct dirent *entry;
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;

    if (copy < 0 || !(dir = fdopendir(copy)))
        return fail(u, -errno, "empty the directory");
    while (result == 0 && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = tree_remove(fd, entry->d_name);
    return result < 0 ? fail(u, result, "empty the directory") : 0;
}

static int whiteout(struct unpack *u, const char *name)
{
    struct stat st;
    int result;

    if (!strcmp(name, OPAQUE))
        return u->options->flat ? clear_directory(u, u->parent_fd) : make_opaque(u, u->parent_fd);
    if (!strncmp(name, WHITEOUT WHITEOUT, 8))
        return 0; /* another file system's own notes */
    name += strlen(WHITEOUT);
    if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
        return err_set(u->err, -EPERM, "the layer holds the whiteout '%.200s': refused", u->path);
    if (u->options->flat) {
        result = tree_remove(u->parent_fd, name);
        return result < 0 && result != -ENOENT ? fail(u, result, "remove what it hides") : 0;
    }
    if (fstatat(u->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        CLEANUP(fd_closep) int fd = -1;

        if (!S_ISDIR(st.st_mode))
            return 0; /* of this layer itself: that is what hides the lower one */
        if ((fd = openat(u->parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
            return fail(u, -errno, "open the directory");
        return make_opaque(u, fd);
    }
    if (mknodat(u->parent_fd, name, S_IFCHR, 0) < 0)
        return fail(u, -errno, "make a whiteout");
    return 0;
}

static int remember_directory(struct unpack *u, struct archive_entry *entry)
{
    struct directory *d;

    if (u->nr_directories == u->room) {
        size_t room = MAX(u->room * 2, (size_t)256);

        if (!(d = realloc(u->directories, room * sizeof(*d))))
            return err_set(u->err, -ENOMEM, "out of memory");
        u->directories = d;
        u->room = room;
    }
    d = &u->directories[u->nr_directories];
    if (!(d->path = strdup(u->path)))
        return err_set(u->err, -ENOMEM, "out of memory");
    d->mode = archive_entry_mode(entry) & 07777;
    d->uid = (uid_t)archive_entry_uid(entry);
    d->gid = (gid_t)archive_entry_gid(entry);
    d->times[0] = d->times[1] = (struct timespec){archive_entry_mtime(entry),
                                                  archive_entry_mtime_nsec(entry)};
    u->nr_directories++;
    return 0;
}

static bool xattr_allowed(const char *name)
{
    if (!strcmp(name, "security.capability"))
        return true;
    return !strncmp(name, "user.", 5) && strncmp(name, "user.overlay.", 13) != 0;
}

/* fd is open for the file itself, never O_PATH. */
static int set_xattrs(struct unpack *u, struct archive_entry *entry, int fd)
{
    const char *name;
    const void *value;
    size_t size;

    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
        if (!name || !xattr_allowed(name))
            continue;
        /* Not every file system has them, and only root may set capabilities. */
        if (fsetxattr(fd, name, value, size, 0) < 0 && errno != ENOTSUP && errno != EPERM)
            return fail(u, -errno, "set an extended attribute");
    }
    return 0;
}

static int make_directory(struct unpack *u, struct archive_entry *entry, const char *name)
{
    CLEANUP(fd_closep) int fd = -1;
    bool hidden = false;
    struct stat st;
    int result;

    if (!*u->path) {
        if ((result = set_xattrs(u, entry, u->root_fd)) < 0)
            return result;
        return remember_directory(u, entry);
    }
    if (mkdirat(u->parent_fd, name, 0700) < 0) {
        if (errno != EEXIST || fstatat(u->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return fail(u, -errno, "make the directory");
        if (!S_ISDIR(st.st_mode)) {
            hidden = !u->options->flat && is_whiteout(u->parent_fd, name);
            if ((result = replace(u, name)) < 0)
                return result;
            if (mkdirat(u->parent_fd, name, 0700) < 0)
                return fail(u, -errno, "make the directory");
        }
    }
    fd = openat(u->parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail(u, -errno, "open the directory");
    if ((hidden && (result = make_opaque(u, fd)) < 0) || (result = set_xattrs(u, entry, fd)) < 0)
        return result;
    return remember_directory(u, entry);
}

/* What is new gets out of the way of what was there. */
static int make_room(struct unpack *u, const char *name)
{
    struct stat st;

    if (fstatat(u->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : fail(u, -errno, "look for it");
    return replace(u, name);
}

static int write_data(struct unpack *u, struct archive_entry *entry, int fd)
{
    uint64_t bytes = (uint64_t)MAX(archive_entry_size(entry), (la_int64_t)0);
    const void *data;
    size_t length;
    la_int64_t offset;
    int result;

    if (bytes > u->most_bytes - MIN(u->most_bytes, u->result->file_bytes))
        return err_set(
            u->err, -E2BIG,
            "'%.200s' of %llu MiB makes the layer larger than %llu MiB, the most that is "
            "taken",
            u->path, (unsigned long long)(bytes / MIB), (unsigned long long)(u->most_bytes / MIB));
    u->result->file_bytes += bytes;
    while ((result = archive_read_data_block(u->stream.tar, &data, &length, &offset)) ==
           ARCHIVE_OK) {
        for (size_t done = 0; done < length;) {
            ssize_t n = pwrite(fd, (const char *)data + done, length - done, offset + (off_t)done);

            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                return fail(u, n < 0 ? -errno : -EIO, "write it");
            done += (size_t)n;
        }
    }
    if (result != ARCHIVE_EOF)
        return unpack_stream_error(&u->stream, "read the layer");
    return ftruncate(fd, (off_t)bytes) < 0 ? fail(u, -errno, "set its size") : 0;
}

static int make_file(struct unpack *u, struct archive_entry *entry, const char *name)
{
    CLEANUP(fd_closep)
    int fd = openat(u->parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int result;

    if (fd < 0 && errno == EEXIST) {
        if ((result = replace(u, name)) < 0)
            return result;
        fd = openat(u->parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    }
    if (fd < 0)
        return fail(u, -errno, "make the file");
    if ((result = write_data(u, entry, fd)) < 0)
        return result;
    if (u->owner &&
        fchown(fd, (uid_t)archive_entry_uid(entry), (gid_t)archive_entry_gid(entry)) < 0)
        return fail(u, -errno, "set its owner");
    if (fchmod(fd, archive_entry_mode(entry) & 07777) < 0)
        return fail(u, -errno, "set its mode");
    if ((result = set_xattrs(u, entry, fd)) < 0)
        return result;
    futimens(fd,
             (struct timespec[]){{archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)},
                                 {archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)}});
    return 0;
}

static int make_hard_link(struct unpack *u, const char *target, const char *name)
{
    CLEANUP(fd_closep) int dir = -1;
    char clean[PATH_MAX], *last;
    struct stat st;
    int result;

    if ((result = clean_path(target, clean, u->err)) < 0)
        return err_wrap(u->err, "'%.200s' as a hard link", u->path);
    last = strrchr(clean, '/');
    if (last)
        *last++ = '\0';
    if ((dir = open_below(u->root_fd, last ? clean : "", O_PATH | O_DIRECTORY)) < 0 ||
        fstatat(dir, last ? last : clean, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set(u->err, -EPERM,
                       "'%.200s' is a hard link to '%.200s', which is not in this layer: refused",
                       u->path, target);
    if (S_ISDIR(st.st_mode))
        return err_set(u->err, -EPERM, "'%.200s' is a hard link to a directory: refused", u->path);
    if (!strcmp(last ? last : clean, name)) {
        struct stat here;

        if (fstatat(u->parent_fd, name, &here, AT_SYMLINK_NOFOLLOW) == 0 &&
            here.st_ino == st.st_ino && here.st_dev == st.st_dev)
            return 0; /* to itself */
    }
    if ((result = make_room(u, name)) < 0)
        return result;
    if (linkat(dir, last ? last : clean, u->parent_fd, name, 0) < 0)
        return fail(u, -errno, "make the hard link");
    return 0;
}

static int make_device(struct unpack *u, struct archive_entry *entry, const char *name)
{
    mode_t type = archive_entry_filetype(entry);
    dev_t device = makedev((unsigned)archive_entry_rdevmajor(entry),
                           (unsigned)archive_entry_rdevminor(entry));

    if (type != AE_IFIFO) {
        if (u->options->devices == UNPACK_DEVICES_REFUSE)
            return err_set(u->err, -EPERM, "'%.200s' is a device node: refused", u->path);
        if (u->options->devices == UNPACK_DEVICES_SKIP) {
            u->result->nr_devices_skipped++;
            return 0;
        }
        if (device == 0)
            return err_set(u->err, -EPERM, "'%.200s' is a device that means a whiteout: refused",
                           u->path);
    }
    if (mknodat(u->parent_fd, name, type | (archive_entry_mode(entry) & 0777),
                type == AE_IFIFO ? 0 : device) < 0)
        return fail(u, -errno, "make the device node");
    return 0;
}

/* Owner, mode and time of what has no descriptor of its own. */
static int set_attributes(struct unpack *u, struct archive_entry *entry, const char *name)
{
    struct timespec times[] = {{archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)},
                               {archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)}};

    if (u->owner && fchownat(u->parent_fd, name, (uid_t)archive_entry_uid(entry),
                             (gid_t)archive_entry_gid(entry), AT_SYMLINK_NOFOLLOW) < 0)
        return fail(u, -errno, "set its owner");
    if (archive_entry_filetype(entry) != AE_IFLNK &&
        fchmodat(u->parent_fd, name, archive_entry_mode(entry) & 07777, 0) < 0)
        return fail(u, -errno, "set its mode");
    utimensat(u->parent_fd, name, times, AT_SYMLINK_NOFOLLOW);
    return 0;
}

static int make_other(struct unpack *u, struct archive_entry *entry, const char *name)
{
    const char *target = archive_entry_symlink_utf8(entry);
    uint64_t skipped = u->result->nr_devices_skipped;
    int result = make_room(u, name);

    if (result < 0)
        return result;
    if (archive_entry_filetype(entry) != AE_IFLNK) {
        result = make_device(u, entry, name);
    } else {
        target = target ? target : archive_entry_symlink(entry);
        if (!target || !*target || strlen(target) >= PATH_MAX)
            return err_set(u->err, -EPERM, "'%.200s' is a symbolic link to nothing", u->path);
        if (symlinkat(target, u->parent_fd, name) < 0)
            result = fail(u, -errno, "make the symbolic link");
    }
    if (result < 0 || skipped != u->result->nr_devices_skipped)
        return result;
    return set_attributes(u, entry, name);
}

static int unpack_entry(struct unpack *u, struct archive_entry *entry)
{
    const char *path = archive_entry_pathname_utf8(entry), *name, *link;
    bool is_wh;
    int result;

    if (!path && !(path = archive_entry_pathname(entry)))
        return err_set(u->err, -EPERM, "the layer holds a file without a name");
    if (u->pass != PASS_WHITEOUTS && ++u->result->nr_entries > u->most_entries)
        return err_set(u->err, -E2BIG,
                       "the layer holds more than %llu files, the most that are taken",
                       (unsigned long long)u->most_entries);
    if ((result = clean_path(path, u->path, u->err)) < 0)
        return result;
    name = strrchr(u->path, '/') ? strrchr(u->path, '/') + 1 : u->path;
    is_wh = !strncmp(name, WHITEOUT, 4);
    if ((u->pass == PASS_WHITEOUTS && !is_wh) || (u->pass == PASS_FILES && is_wh))
        return 0;
    if (archive_entry_uid(entry) < 0 || archive_entry_uid(entry) >= UINT32_MAX ||
        archive_entry_gid(entry) < 0 || archive_entry_gid(entry) >= UINT32_MAX)
        return err_set(u->err, -EPERM, "'%.200s' has an owner that cannot be", u->path);
    if ((result = open_parent(u, &name)) < 0)
        return result;
    if (is_wh)
        return whiteout(u, name);
    link = archive_entry_hardlink_utf8(entry);
    if ((link || (link = archive_entry_hardlink(entry))) && *u->path)
        return make_hard_link(u, link, name);
    if (archive_entry_filetype(entry) == AE_IFDIR)
        return make_directory(u, entry, name);
    if (!*u->path)
        return err_set(u->err, -EPERM, "the layer's root is no directory: refused");
    if (archive_entry_filetype(entry) == AE_IFREG)
        return make_file(u, entry, name);
    if (archive_entry_filetype(entry) == AE_IFLNK || archive_entry_filetype(entry) == AE_IFCHR ||
        archive_entry_filetype(entry) == AE_IFBLK || archive_entry_filetype(entry) == AE_IFIFO)
        return make_other(u, entry, name);
    return err_set(u->err, -EPERM, "'%.200s' is of a kind that is not known", u->path);
}

/* From the last to the first, so that a directory that may not be entered comes after its own. */
static int finish_directories(struct unpack *u)
{
    for (size_t i = u->nr_directories; i-- > 0;) {
        const struct directory *d = &u->directories[i];
        struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                               .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
        CLEANUP(fd_closep)
        int fd = (int)syscall(SYS_openat2, u->root_fd, *d->path ? d->path : ".", &how, sizeof(how));

        if (fd < 0)
            continue; /* something else took its place */
        snprintf(u->path, sizeof(u->path), "%s", d->path);
        if ((u->owner && fchown(fd, d->uid, d->gid) < 0) || fchmod(fd, d->mode) < 0)
            return fail(u, -errno, "set the directory's owner and mode");
        futimens(fd, d->times);
    }
    return 0;
}

static int unpack_pass(struct unpack *u, int blob_fd, enum pass pass)
{
    struct archive_entry *entry;
    int result, header;

    u->pass = pass;
    *u->parent_path = '\0';
    if (lseek(blob_fd, 0, SEEK_SET) < 0)
        return err_errno(u->err, -errno, "read the layer");
    result = unpack_stream_open(&u->stream, blob_fd, u->options, u->err);
    while (result == 0) {
        header = archive_read_next_header(u->stream.tar, &entry);
        if (header == ARCHIVE_EOF)
            break;
        if (header == ARCHIVE_RETRY)
            continue;
        if (header != ARCHIVE_OK && header != ARCHIVE_WARN)
            result = unpack_stream_error(&u->stream, "read the layer");
        else
            result = unpack_entry(u, entry);
    }
    if (result == 0)
        result = unpack_stream_finish(&u->stream, u->result);
    unpack_stream_done(&u->stream);
    if (u->parent_fd >= 0)
        close(TAKE_FD(u->parent_fd));
    return result;
}

int unpack_layer(int blob_fd, int root_fd, const struct unpack_options *options,
                 struct unpack_result *ret, struct err *err)
{
    struct err own = ERR_INIT;
    struct unpack *u = calloc(1, sizeof(*u));
    int result = 0;

    if (!u)
        return err_set(err, -ENOMEM, "out of memory");
    memset(ret, 0, sizeof(*ret));
    u->options = options;
    u->result = ret;
    u->root_fd = root_fd;
    u->parent_fd = -1;
    u->err = &own;
    u->owner = geteuid() == 0;
    u->most_entries = options->most_entries ? options->most_entries : UNPACK_ENTRIES;
    u->most_bytes = options->most_bytes ? options->most_bytes : UNPACK_BYTES;
    if (options->flat)
        result = unpack_pass(u, blob_fd, PASS_WHITEOUTS);
    if (result == 0)
        result = unpack_pass(u, blob_fd, options->flat ? PASS_FILES : PASS_ALL);
    if (result == 0)
        result = finish_directories(u);
    for (size_t i = 0; i < u->nr_directories; i++)
        free(u->directories[i].path);
    free(u->directories);
    free(u);
    if (result < 0)
        return err_set(err, result, "%s", own.message);
    return 0;
}
