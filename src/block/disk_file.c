/* SPDX-License-Identifier: Apache-2.0 */
/* Images as files: one interface over raw and qcow2; making, sizing and converting them. */
#include "block/disk_file.h"

#include "block/file_lock.h"
#include "block/qcow2_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES (1 * MIB)
#define GRAIN      4096u /* zeros in this measure become holes */

struct disk_file {
    struct qcow2 *q; /* NULL: raw */
    int fd;
    uint64_t bytes;
};

static void fill_backing(const struct disk_source *source,
                         struct qcow2_backing backing[BLOCK_BACKING_MAX])
{
    for (unsigned i = 0; i < source->nr_backing && i < BLOCK_BACKING_MAX; i++)
        backing[i] = (struct qcow2_backing){source->backing[i].path,
                                            source->backing[i].format == BLOCK_FORMAT_QCOW2};
}

int disk_file_open(const struct disk_source *source, bool read_only, struct disk_file **ret,
                   struct err *err)
{
    CLEANUP(disk_file_closep) struct disk_file *file = calloc(1, sizeof(*file));
    struct qcow2_backing backing[BLOCK_BACKING_MAX];
    off_t end;
    int r;

    if (!file)
        return err_set(err, -ENOMEM, "out of memory");
    file->fd = -1;
    if (source->format == BLOCK_FORMAT_QCOW2) {
        fill_backing(source, backing);
        if ((r = qcow2_open(source->path, read_only, backing, source->nr_backing, &file->q, err)) <
            0)
            return r;
        file->bytes = file->q->size;
    } else {
        if (source->nr_backing)
            return err_set(err, -EINVAL, "the raw image '%s' has no backing file", source->path);
        if ((r = block_file_open(source->path, read_only, &file->fd, err)) < 0)
            return r;
        if ((end = lseek(file->fd, 0, SEEK_END)) < 0)
            return err_errno(err, -errno, "size of '%s'", source->path);
        file->bytes = (uint64_t)end;
    }
    *ret = TAKE_PTR(file);
    return 0;
}

void disk_file_close(struct disk_file *file)
{
    if (!file)
        return;
    if (file->q && !file->q->read_only && qcow2_flush(file->q) == 0)
        (void)!qcow2_flush(file->q);
    qcow2_close(file->q);
    if (file->fd >= 0)
        close(file->fd);
    free(file);
}

uint64_t disk_file_bytes(const struct disk_file *file)
{
    return file->bytes;
}

int disk_file_read(struct disk_file *file, uint64_t offset, void *data, uint64_t bytes)
{
    struct iovec iov = {data, bytes};

    if (!range_fits(offset, bytes, file->bytes))
        return -EINVAL;
    if (file->q)
        return qcow2_read(file->q, offset, &iov, 1, bytes);
    while (bytes) {
        ssize_t n = pread(file->fd, data, bytes, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        data = (char *)data + n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

int disk_file_write(struct disk_file *file, uint64_t offset, const void *data, uint64_t bytes)
{
    struct iovec iov = {(void *)(uintptr_t)data, bytes};

    if (!range_fits(offset, bytes, file->bytes))
        return -EINVAL;
    if (file->q)
        return qcow2_write(file->q, offset, &iov, 1, bytes);
    while (bytes) {
        ssize_t n = pwrite(file->fd, data, bytes, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        data = (const char *)data + n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

int disk_file_flush(struct disk_file *file)
{
    if (file->q)
        return qcow2_flush(file->q);
    return fsync(file->fd) < 0 ? -errno : 0;
}

int disk_file_extent(struct disk_file *file, uint64_t offset, bool *ret_zero, uint64_t *ret_bytes)
{
    uint64_t left = offset < file->bytes ? file->bytes - offset : 0;
    off_t at;

    *ret_zero = false;
    *ret_bytes = left;
    if (!left)
        return -EINVAL;
    if (file->q)
        return qcow2_extent_zero(file->q, offset, left, ret_zero, ret_bytes);
    at = lseek(file->fd, (off_t)offset, SEEK_DATA);
    if (at < 0 && errno == ENXIO)
        *ret_zero = true;
    if (at < 0)
        return 0;
    *ret_zero = (uint64_t)at > offset;
    if (!*ret_zero && (at = lseek(file->fd, (off_t)offset, SEEK_HOLE)) < 0)
        return 0;
    *ret_bytes = MIN(left, (uint64_t)at - offset);
    return 0;
}

static void read_backing_name(struct qcow2 *q, char *ret, size_t size)
{
    uint8_t header[20];
    uint64_t offset;
    uint32_t length;

    if (qcow2_pread(q, header, sizeof(header), 0) < 0)
        return;
    offset = be64toh(load_le64(header + 8));
    length = be32toh(load_le32(header + 16));
    if (offset && length && length < size && range_fits(offset, length, q->file_end) &&
        qcow2_pread(q, ret, length, offset) == 0)
        ret[length] = '\0';
}

/* What the header says while somebody else has the lock: nothing else of the image is steady. */
static int look_unlocked(const char *path, enum block_format format, struct disk_info *ret,
                         struct err *err)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    uint8_t header[80];
    struct stat st;
    off_t end;

    if (fd < 0 || fstat(fd, &st) < 0 || (end = lseek(fd, 0, SEEK_END)) < 0)
        return err_errno(err, -errno, "look at '%s'", path);
    memset(ret, 0, sizeof(*ret));
    ret->in_use = true;
    ret->bytes = (uint64_t)end;
    ret->allocated_bytes = (uint64_t)st.st_blocks * 512;
    if (format == BLOCK_FORMAT_RAW)
        return 0;
    if (pread(fd, header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
        be32toh(load_le32(header)) != QCOW2_MAGIC || be32toh(load_le32(header + 20)) > 21)
        return err_set(err, -EINVAL, "'%s' is in use, and no qcow2 image", path);
    ret->bytes = be64toh(load_le64(header + 24));
    ret->version = be32toh(load_le32(header + 4));
    ret->cluster_bytes = 1u << be32toh(load_le32(header + 20));
    ret->nr_snapshots = be32toh(load_le32(header + 60));
    ret->corrupt = ret->version >= 3 && header[79] & QCOW2_CORRUPT;
    return 0;
}

int disk_info(const char *path, enum block_format format, struct disk_info *ret, struct err *err)
{
    struct disk_source source = {.path = path, .format = format};
    CLEANUP(disk_file_closep) struct disk_file *file = NULL;
    struct err first = ERR_INIT;
    uint8_t features[8];
    struct stat st;
    int r = disk_file_open(&source, true, &file, &first);

    /* What is below does not matter to what the image itself is. */
    if (r == -EPERM && format == BLOCK_FORMAT_QCOW2) {
        source.backing[0] = (struct block_backing){NULL, BLOCK_FORMAT_RAW};
        source.nr_backing = 1;
        r = disk_file_open(&source, true, &file, err);
    } else if (r < 0 && r != -EBUSY) {
        return err_set(err, r, "%s", first.message);
    }
    if (r == -EBUSY)
        return look_unlocked(path, format, ret, err);
    if (r < 0)
        return r;
    memset(ret, 0, sizeof(*ret));
    ret->bytes = file->bytes;
    if (stat(path, &st) == 0)
        ret->allocated_bytes = (uint64_t)st.st_blocks * 512;
    if (!file->q)
        return 0;
    ret->version = file->q->version;
    ret->cluster_bytes = (uint32_t)file->q->cluster_size;
    ret->nr_snapshots = file->q->nr_snapshots;
    read_backing_name(file->q, ret->backing, sizeof(ret->backing));
    if (file->q->version >= 3 && qcow2_pread(file->q, features, sizeof(features), 72) == 0) {
        ret->dirty = features[7] & QCOW2_DIRTY;
        ret->corrupt = features[7] & QCOW2_CORRUPT;
    }
    return 0;
}

int disk_create(const char *path, enum block_format format, const struct block_create *create,
                struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;

    if (create->bytes == 0 || create->bytes % BLOCK_SECTOR_SIZE)
        return err_set(err, -EINVAL, "create '%s': a size in whole sectors of 512 bytes is needed",
                       path);
    if (format == BLOCK_FORMAT_QCOW2)
        return block_create_qcow2(path, create, err);
    if (create->backing)
        return err_set(err, -EINVAL, "create '%s': a raw image has no backing file", path);
    if ((fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0)
        return err_errno(err, -errno, "create '%s'", path);
    if (ftruncate(fd, (off_t)create->bytes) < 0 || fsync(fd) < 0) {
        int r = -errno;

        unlink(path);
        return err_errno(err, r, "create '%s'", path);
    }
    return 0;
}

static int resize_raw(struct disk_file *file, uint64_t bytes)
{
    struct stat st;

    if (fstat(file->fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -ENOTSUP;
    return ftruncate(file->fd, (off_t)bytes) < 0 || fsync(file->fd) < 0 ? -errno : 0;
}

int disk_resize(const struct disk_source *source, uint64_t bytes, bool shrink, struct err *err)
{
    CLEANUP(disk_file_closep) struct disk_file *file = NULL;
    int r = disk_file_open(source, false, &file, err);

    if (r < 0)
        return r;
    if (bytes == 0 || bytes % BLOCK_SECTOR_SIZE)
        return err_set(err, -EINVAL, "resize '%s': a size in whole sectors of 512 bytes is needed",
                       source->path);
    if (bytes < file->bytes && !shrink)
        return err_set(
            err, -EINVAL,
            "resize '%s': %llu MiB is less than its %llu MiB, and what is behind the new "
            "end would be lost: --shrink says that it may be",
            source->path, (unsigned long long)(bytes / MIB),
            (unsigned long long)(file->bytes / MIB));
    if (file->q && file->q->version < 3 && file->q->nr_snapshots)
        return err_set(
            err, -ENOTSUP,
            "resize '%s': its snapshots do not record their size (version 2): remove them "
            "first, or convert it",
            source->path);
    r = file->q ? qcow2_resize(file->q, bytes) : resize_raw(file, bytes);
    return r < 0 ? err_errno(err, r, "resize '%s'", source->path) : 0;
}

static bool all_zero(const uint8_t *data, uint64_t bytes)
{
    return bytes == 0 || (data[0] == 0 && !memcmp(data, data + 1, bytes - 1));
}

/* What is not zero of one piece. */
static int copy_piece(struct disk_file *to, uint64_t offset, const uint8_t *data, uint64_t bytes,
                      uint64_t grain)
{
    for (uint64_t at = 0; at < bytes;) {
        uint64_t length = 0;
        int r;

        while (at < bytes && all_zero(data + at, MIN(grain, bytes - at)))
            at += MIN(grain, bytes - at);
        while (at + length < bytes &&
               !all_zero(data + at + length, MIN(grain, bytes - at - length)))
            length += MIN(grain, bytes - at - length);
        if (length && (r = disk_file_write(to, offset + at, data + at, length)) < 0)
            return r;
        at += length;
    }
    return 0;
}

static int copy_all(struct disk_file *from, struct disk_file *to,
                    const struct disk_convert *convert)
{
    CLEANUP(freep) uint8_t *data = malloc(COPY_BYTES);
    uint64_t grain = to->q ? MIN(to->q->cluster_size, COPY_BYTES) : GRAIN;
    int r = data ? 0 : -ENOMEM;

    for (uint64_t at = 0; r == 0 && at < from->bytes;) {
        uint64_t bytes;
        bool zero;

        if ((r = disk_file_extent(from, at, &zero, &bytes)) < 0)
            break;
        if (!zero) {
            /* In step with the clusters of the new image. */
            bytes = MIN(bytes, COPY_BYTES - at % COPY_BYTES);
            if ((r = disk_file_read(from, at, data, bytes)) == 0)
                r = copy_piece(to, at, data, bytes, grain);
        }
        at += bytes;
        if (convert->progress)
            convert->progress(convert->context, at, from->bytes);
    }
    return r == 0 ? disk_file_flush(to) : r;
}

static int make_copy(struct disk_file *from, const char *path, const struct disk_convert *convert,
                     struct err *err)
{
    struct block_create create = {.bytes = align_up(from->bytes, BLOCK_SECTOR_SIZE),
                                  .cluster_bits = convert->cluster_bits};
    struct disk_source target = {.path = path, .format = convert->format};
    CLEANUP(disk_file_closep) struct disk_file *to = NULL;
    int r;

    if ((r = disk_create(path, convert->format, &create, err)) < 0 ||
        (r = disk_file_open(&target, false, &to, err)) < 0)
        return r;
    r = copy_all(from, to, convert);
    return r < 0 ? err_errno(err, r, "copy into '%s'", path) : 0;
}

int disk_convert(const struct disk_source *source, const char *path,
                 const struct disk_convert *convert, struct err *err)
{
    CLEANUP(disk_file_closep) struct disk_file *from = NULL;
    char temporary[4096];
    int r;

    if (snprintf(temporary, sizeof(temporary), "%s.%d.tmp", path, (int)getpid()) >=
        (int)sizeof(temporary))
        return err_set(err, -ENAMETOOLONG, "the path of the new image is too long");
    if (!convert->replace && access(path, F_OK) == 0)
        return err_set(err, -EEXIST, "there is a file '%s': --force replaces it", path);
    if ((r = disk_file_open(source, true, &from, err)) < 0)
        return r;
    unlink(temporary);
    r = make_copy(from, temporary, convert, err);
    if (r == 0 &&
        renameat2(AT_FDCWD, temporary, AT_FDCWD, path, convert->replace ? 0 : RENAME_NOREPLACE) < 0)
        r = err_errno(err, -errno, "make '%s'", path);
    if (r < 0)
        unlink(temporary);
    return r;
}
