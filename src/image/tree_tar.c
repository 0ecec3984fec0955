/* SPDX-License-Identifier: Apache-2.0 */
#include "image/tree_tar.h"

#include "base/file.h"
#include "base/util.h"
#include "image/import.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define DEPTH_MAX  256
#define XATTRS_MAX 65536

struct packer {
    struct archive *tar;
    struct archive_entry_linkresolver *links;
    int (*write)(void *context, const void *data, size_t length);
    void *context;
    dev_t device;
    char path[PATH_MAX], *data, *names;
    struct err *err;
};

static la_ssize_t write_out(struct archive *tar, void *context, const void *data, size_t length)
{
    struct packer *p = context;
    int result = p->write(p->context, data, length);

    if (result < 0) {
        archive_set_error(tar, -result, "%s", strerror(-result));
        if (!p->err->code)
            err_errno(p->err, result, "write the archive");
    }
    return result < 0 ? -1 : (la_ssize_t)length;
}

static int tar_failed(struct packer *p)
{
    if (p->err && p->err->code < 0)
        return p->err->code;
    return err_set(p->err, -EIO, "pack '%.300s': %s", p->path, archive_error_string(p->tar));
}

static void add_xattrs(struct packer *p, int fd, struct archive_entry *entry)
{
    ssize_t length = flistxattr(fd, p->names, XATTRS_MAX);

    for (ssize_t at = 0; at < length; at += (ssize_t)strlen(p->names + at) + 1) {
        const char *name = p->names + at;
        ssize_t size;

        if (strncmp(name, "user.", 5) != 0 && strcmp(name, "security.capability") != 0)
            continue;
        size = fgetxattr(fd, name, p->data, MIB);
        if (size >= 0)
            archive_entry_xattr_add_entry(entry, name, p->data, (size_t)size);
    }
}

static int pack_data(struct packer *p, int fd, uint64_t bytes)
{
    while (bytes) {
        ssize_t n = file_read_full(fd, p->data, MIN(bytes, MIB));

        if (n <= 0)
            return n < 0 ? err_errno(p->err, (int)n, "read '%.300s'", p->path)
                         : err_set(p->err, -EIO, "'%.300s' became shorter while it was read",
                                   p->path);
        if (archive_write_data(p->tar, p->data, (size_t)n) != n)
            return tar_failed(p);
        bytes -= (uint64_t)n;
    }
    return 0;
}

static int pack_entry(struct packer *p, int dirfd, const char *name, const struct stat *st, int fd)
{
    struct archive_entry *entry = archive_entry_new(), *spare = NULL;
    char target[PATH_MAX];
    ssize_t n = 0;
    int result = 0;

    if (!entry)
        return err_set(p->err, -ENOMEM, "out of memory");
    archive_entry_copy_stat(entry, st);
    archive_entry_set_atime(entry, 0, 0);
    archive_entry_unset_atime(entry);
    archive_entry_unset_ctime(entry);
    archive_entry_set_pathname(entry, p->path);
    if (S_ISLNK(st->st_mode)) {
        n = readlinkat(dirfd, name, target, sizeof(target) - 1);
        target[MAX(n, (ssize_t)0)] = '\0';
        archive_entry_set_symlink(entry, target);
    }
    if (n < 0)
        result = err_errno(p->err, -errno, "read '%.300s'", p->path);
    if (fd >= 0)
        add_xattrs(p, fd, entry);
    archive_entry_linkify(p->links, &entry, &spare);
    if (result == 0 && entry && archive_write_header(p->tar, entry) != ARCHIVE_OK)
        result = tar_failed(p);
    if (result == 0 && entry && S_ISREG(st->st_mode) && archive_entry_size(entry) > 0)
        result = pack_data(p, fd, (uint64_t)archive_entry_size(entry));
    archive_entry_free(entry);
    archive_entry_free(spare);
    return result;
}

static int pack_directory(struct packer *p, int fd, unsigned depth);

static int pack_one(struct packer *p, int dirfd, const char *name, unsigned depth)
{
    CLEANUP(fd_closep) int fd = -1;
    size_t length = strlen(p->path);
    struct stat st;
    int result = 0;

    if (!strncmp(name, ".wh.", 4))
        return err_set(p->err, -EINVAL, "'%.300s/%s' would mean a removed file in a layer", p->path,
                       name);
    if (length + strlen(name) + 2 > sizeof(p->path) || depth > DEPTH_MAX)
        return err_set(p->err, -ENAMETOOLONG, "'%.300s' is too deep", p->path);
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(p->err, -errno, "read '%.300s/%s'", p->path, name);
    if (S_ISSOCK(st.st_mode))
        return 0;
    if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) {
        fd = openat(dirfd, name,
                    O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK |
                        (S_ISDIR(st.st_mode) ? O_DIRECTORY : 0));
        if (fd < 0 || fstat(fd, &st) < 0)
            return err_errno(p->err, -errno, "read '%.300s/%s'", p->path, name);
    }
    snprintf(p->path + length, sizeof(p->path) - length, "%s%s", length ? "/" : "", name);
    result = pack_entry(p, dirfd, name, &st, fd);
    if (result == 0 && S_ISDIR(st.st_mode) && st.st_dev == p->device)
        result = pack_directory(p, fd, depth + 1);
    if (result == 0)
        p->path[length] = '\0';
    return result;
}

static int pack_directory(struct packer *p, int fd, unsigned depth)
{
    struct dirent **list;
    int nr = scandirat(fd, ".", &list, NULL, alphasort), result = 0;

    if (nr < 0)
        return err_errno(p->err, -errno, "read '%.300s'", p->path);
    for (int i = 0; i < nr; i++) {
        const char *name = list[i]->d_name;

        if (result == 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            result = pack_one(p, fd, name, depth);
        free(list[i]);
    }
    free(list);
    return result;
}

static int pack(struct packer *p, int dir_fd)
{
    struct archive_entry *entry = NULL, *spare;
    struct stat st;
    int result;

    if (fstat(dir_fd, &st) < 0)
        return err_errno(p->err, -errno, "read the directory");
    p->device = st.st_dev;
    archive_write_set_format_pax_restricted(p->tar);
    archive_write_set_options(p->tar, "hdrcharset=BINARY");
    archive_write_set_bytes_in_last_block(p->tar, 1);
    archive_entry_linkresolver_set_strategy(p->links, ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
    if (archive_write_open(p->tar, p, NULL, write_out, NULL) != ARCHIVE_OK)
        return tar_failed(p);
    if ((result = pack_directory(p, dir_fd, 0)) < 0)
        return result;
    archive_entry_linkify(p->links, &entry, &spare);
    archive_entry_free(entry);
    return archive_write_close(p->tar) == ARCHIVE_OK ? 0 : tar_failed(p);
}

int image_pack(int dir_fd, int (*write)(void *context, const void *data, size_t length),
               void *context, struct err *err)
{
    CLEANUP(freep) struct packer *p = calloc(1, sizeof(*p));
    struct err own = ERR_INIT;
    int result;

    if (!p)
        return err_set(err, -ENOMEM, "out of memory");
    p->err = &own;
    p->write = write;
    p->context = context;
    p->tar = archive_write_new();
    p->links = archive_entry_linkresolver_new();
    p->data = malloc(MIB);
    p->names = malloc(XATTRS_MAX);
    if (!p->tar || !p->links || !p->data || !p->names)
        result = err_set(&own, -ENOMEM, "out of memory");
    else
        result = pack(p, dir_fd);
    if (p->tar)
        archive_write_free(p->tar);
    if (p->links)
        archive_entry_linkresolver_free(p->links);
    free(p->data);
    free(p->names);
    return result < 0 ? err_set(err, result, "%s", own.message) : 0;
}

struct blob_out {
    struct blob_writer writer;
    struct err err;
};

static int write_blob(void *context, const void *data, size_t length)
{
    struct blob_out *out = context;

    return blob_write(&out->writer, data, length, &out->err);
}

int tree_tar(const struct layout *layout, int dir_fd, char ret_digest[DIGEST_MAX],
             uint64_t *ret_bytes, struct err *err)
{
    struct blob_out out = {.err = ERR_INIT};
    int result = blob_begin(layout, &out.writer, err);

    if (result < 0)
        return result;
    if ((result = image_pack(dir_fd, write_blob, &out, err)) == 0)
        result = blob_commit(&out.writer, NULL, ret_digest, err);
    if (out.err.code < 0) /* which says where */
        err_set(err, out.err.code, "%s", out.err.message);
    *ret_bytes = out.writer.bytes;
    blob_abort(&out.writer);
    return result;
}

static bool foreign_compression(int fd)
{
    uint8_t magic[6] = {0};

    return file_pread_full(fd, magic, sizeof(magic), 0) == (ssize_t)sizeof(magic) &&
           (!memcmp(magic,
                    "\xfd"
                    "7zXZ",
                    5) ||
            !memcmp(magic, "BZh", 3));
}

static int decompress(struct archive *raw, int fd, struct blob_writer *writer, struct err *err)
{
    struct archive_entry *entry;
    const void *data;
    size_t length;
    la_int64_t offset;
    int result;

    archive_read_support_filter_xz(raw);
    archive_read_support_filter_bzip2(raw);
    archive_read_support_format_raw(raw);
    if (archive_read_open_fd(raw, fd, (size_t)256 << 10) != ARCHIVE_OK ||
        archive_read_next_header(raw, &entry) != ARCHIVE_OK)
        return err_set(err, -EBADMSG, "the archive is damaged: %s", archive_error_string(raw));
    while ((result = archive_read_data_block(raw, &data, &length, &offset)) == ARCHIVE_OK) {
        if (writer->bytes > UINT64_C(64) << 30)
            return err_set(err, -E2BIG, "the archive is larger than 64 GiB unpacked");
        if ((result = blob_write(writer, data, length, err)) < 0)
            return result;
    }
    return result == ARCHIVE_EOF ? 0
                                 : err_set(err, -EBADMSG, "the archive is damaged or cut off: %s",
                                           archive_error_string(raw));
}

int tar_take(const struct layout *layout, int fd, char ret_digest[DIGEST_MAX], uint64_t *ret_bytes,
             struct err *err)
{
    struct blob_writer writer;
    struct archive *raw;
    int result;

    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(err, -errno, "read the archive");
    if (!foreign_compression(fd))
        return blob_copy(layout, fd, NULL, ret_digest, ret_bytes, err);
    if ((result = blob_begin(layout, &writer, err)) < 0)
        return result;
    if (!(raw = archive_read_new()))
        result = err_set(err, -ENOMEM, "out of memory");
    else
        result = decompress(raw, fd, &writer, err);
    if (raw)
        archive_read_free(raw);
    if (result == 0)
        result = blob_commit(&writer, NULL, ret_digest, err);
    *ret_bytes = writer.bytes;
    blob_abort(&writer);
    return result;
}
