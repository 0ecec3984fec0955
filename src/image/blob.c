/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content by its digest: written to tmp/ while it is hashed, synced, renamed. Nothing is ever
 * written under a name in blobs/.
 */
#include "image/layout.h"

#include "base/file.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define COPY_BYTES (1u << 20)

static void blob_path(const char *digest, char ret[96])
{
    snprintf(ret, 96, "blobs/sha256/%.64s", digest_hex(digest));
}

int blob_begin(const struct layout *layout, struct blob_writer *ret, struct err *err)
{
    ret->layout = layout;
    ret->bytes = 0;
    sha256_init(&ret->sha);
    layout_temporary("blob", ret->name);
    ret->fd = openat(layout->fd, ret->name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                     0644);
    if (ret->fd < 0)
        return err_errno(err, -errno, "create '%s/%s'", layout->path, ret->name);
    return 0;
}

int blob_write(struct blob_writer *writer, const void *data, size_t length, struct err *err)
{
    int result = file_write_full(writer->fd, data, length);

    if (result < 0)
        return err_errno(err, result, "write an image's content to '%s'", writer->layout->path);
    sha256_update(&writer->sha, data, length);
    writer->bytes += length;
    if (writer->layout->wrote)
        writer->layout->wrote(writer->layout->context, writer->bytes);
    return 0;
}

void blob_abort(struct blob_writer *writer)
{
    if (writer->fd < 0)
        return;
    close(writer->fd);
    unlinkat(writer->layout->fd, writer->name, 0);
    writer->fd = -1;
}

int blob_commit(struct blob_writer *writer, const char *expected, char ret[DIGEST_MAX],
                struct err *err)
{
    const struct layout *layout = writer->layout;
    CLEANUP(fd_closep) int dir = -1;
    uint8_t hash[SHA256_BYTES];
    char path[96];

    sha256_final(&writer->sha, hash);
    digest_format(hash, ret);
    if (expected && strcmp(expected, ret) != 0)
        return err_set(err, -EBADMSG,
                       "the content is not what its digest says: %s is needed, %s came", expected,
                       ret);
    if (blob_exists(layout, ret, writer->bytes))
        return 0; /* blob_abort removes ours */
    blob_path(ret, path);
    dir = openat(layout->fd, "blobs/sha256", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(writer->fd) < 0 ||
        renameat(layout->fd, writer->name, layout->fd, path) < 0 || fsync(dir) < 0)
        return err_errno(err, -errno, "write '%s/%s'", layout->path, path);
    close(TAKE_FD(writer->fd));
    return 0;
}

int blob_put(const struct layout *layout, const void *data, size_t length, char ret[DIGEST_MAX],
             struct err *err)
{
    struct blob_writer writer;
    int result = blob_begin(layout, &writer, err);

    if (result < 0)
        return result;
    result = blob_write(&writer, data, length, err);
    if (result == 0)
        result = blob_commit(&writer, NULL, ret, err);
    blob_abort(&writer);
    return result;
}

int blob_copy(const struct layout *layout, int fd, const char *expected, char ret[DIGEST_MAX],
              uint64_t *ret_bytes, struct err *err)
{
    CLEANUP(freep) char *data = malloc(COPY_BYTES);
    struct blob_writer writer;
    ssize_t n = 1;
    int result;

    if (!data)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = blob_begin(layout, &writer, err)) < 0)
        return result;
    while (result == 0 && n > 0) {
        if ((n = file_read_full(fd, data, COPY_BYTES)) < 0)
            result = err_errno(err, (int)n, "read an image's content");
        else
            result = blob_write(&writer, data, (size_t)n, err);
    }
    if (result == 0)
        result = blob_commit(&writer, expected, ret, err);
    *ret_bytes = writer.bytes;
    blob_abort(&writer);
    return result;
}

int blob_open(const struct layout *layout, const char *digest, struct err *err)
{
    char path[96];
    int fd;

    blob_path(digest, path);
    fd = openat(layout->fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? err_errno(err, -errno, "open the content %s", digest) : fd;
}

bool blob_exists(const struct layout *layout, const char *digest, uint64_t bytes)
{
    char path[96];
    struct stat st;

    blob_path(digest, path);
    return fstatat(layout->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size == bytes;
}

int blob_load(const struct layout *layout, const char *digest, struct buf *ret, struct err *err)
{
    char path[96], got[DIGEST_MAX];
    uint8_t hash[SHA256_BYTES];
    struct sha256 sha;
    int result;

    blob_path(digest, path);
    if ((result = file_load(layout->fd, path, ret, err)) < 0)
        return result;
    sha256_init(&sha);
    sha256_update(&sha, ret->data, ret->length);
    sha256_final(&sha, hash);
    digest_format(hash, got);
    if (strcmp(got, digest) != 0)
        return err_set(err, -EBADMSG,
                       "the stored content %s is damaged: remove the image and fetch it again",
                       digest);
    return 0;
}
