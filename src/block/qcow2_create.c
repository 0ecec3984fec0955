/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New qcow2 images (version 3, 16-bit refcounts), and the names of the snapshots in one. A new
 * image is: header, refcount table, one refcount block, L1 table, each in clusters of its own.
 */
#include "block/qcow2_internal.h"

#include "block/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER_BYTES      104
#define SNAPSHOT_HEAD     40
#define SNAPSHOT_NAME_MAX 255
#define EXTENSION_BACKING 0xe2792acau /* the backing file's format */

static void put32(uint8_t *p, uint32_t value)
{
    store_le32(p, htobe32(value));
}

static void put64(uint8_t *p, uint64_t value)
{
    store_le64(p, htobe64(value));
}

static int fill_header(uint8_t *first, const struct block_create *create, uint64_t l1_entries)
{
    uint64_t cluster = UINT64_C(1) << create->cluster_bits;
    const char *format = create->backing_format == BLOCK_FORMAT_QCOW2 ? "qcow2" : "raw";
    uint8_t *extension = first + HEADER_BYTES;
    size_t name = create->backing ? strlen(create->backing) : 0, at = HEADER_BYTES + 8 + 8 + 8;

    if (name > 1023 || at + name > cluster)
        return -ENAMETOOLONG;
    put32(first, QCOW2_MAGIC);
    put32(first + 4, 3);
    if (name) {
        put64(first + 8, at);
        put32(first + 16, (uint32_t)name);
        put32(extension, EXTENSION_BACKING);
        put32(extension + 4, (uint32_t)strlen(format));
        memcpy(extension + 8, format, strlen(format));
        memcpy(first + at, create->backing, name);
    }
    put32(first + 20, create->cluster_bits);
    put64(first + 24, create->bytes);
    put32(first + 36, (uint32_t)l1_entries);
    put64(first + 40, 3 * cluster);
    put64(first + 48, cluster);
    put32(first + 56, 1);
    put32(first + 96, 4);
    put32(first + 100, HEADER_BYTES);
    return 0;
}

static int write_image(int fd, const struct block_create *create)
{
    uint64_t cluster = UINT64_C(1) << create->cluster_bits;
    uint64_t covered = cluster * (cluster / 8); /* by one entry of L1 */
    uint64_t l1_entries = MAX((create->bytes + covered - 1) / covered, UINT64_C(1));
    uint64_t l1_clusters = (l1_entries * 8 + cluster - 1) / cluster;
    CLEANUP(freep) uint8_t *head = NULL;
    int r;

    /* One refcount block has to count it all. */
    if (l1_entries * 8 > QCOW2_L1_BYTES_MAX || 3 + l1_clusters > cluster / 2)
        return -EFBIG;
    if (!(head = calloc(3, cluster)))
        return -ENOMEM;
    if ((r = fill_header(head, create, l1_entries)) < 0)
        return r;
    put64(head + cluster, 2 * cluster);
    for (uint64_t i = 0; i < 3 + l1_clusters; i++)
        store_le16(head + 2 * cluster + 2 * i, htobe16(1));
    if (ftruncate(fd, (off_t)((3 + l1_clusters) * cluster)) < 0)
        return -errno;
    for (uint64_t done = 0; done < 3 * cluster;) {
        ssize_t n = pwrite(fd, head + done, 3 * cluster - done, (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (uint64_t)n;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

int block_create_qcow2(const char *path, const struct block_create *create, struct err *err)
{
    struct block_create filled = *create;
    CLEANUP(fd_closep) int fd = -1;
    int r;

    if (!filled.cluster_bits)
        filled.cluster_bits = 16;
    if (filled.cluster_bits < 12 || filled.cluster_bits > QCOW2_CLUSTER_BITS_MAX ||
        filled.bytes % BLOCK_SECTOR_SIZE || filled.bytes >= QCOW2_OFFSET_MAX)
        return err_set(err, -EINVAL, "create '%s': %llu bytes in clusters of 2^%u are not possible",
                       path, (unsigned long long)filled.bytes, filled.cluster_bits);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, -errno, "create '%s'", path);
    if ((r = write_image(fd, &filled)) < 0) {
        unlink(path);
        return err_errno(err, r, "create '%s'", path);
    }
    return 0;
}

int qcow2_snapshot_read(struct qcow2 *q, uint64_t *at, struct qcow2_snapshot *ret)
{
    uint8_t head[SNAPSHOT_HEAD], more[16] = {0};
    uint16_t id_length, name_length;
    uint32_t extra;
    int r;

    if (!range_fits(*at, sizeof(head), q->file_end))
        return -EINVAL;
    if ((r = qcow2_pread(q, head, sizeof(head), *at)) < 0)
        return r;
    id_length = be16toh(load_le16(head + 12));
    name_length = be16toh(load_le16(head + 14));
    extra = be32toh(load_le32(head + 36));
    *at += sizeof(head);
    if (!range_fits(*at, (uint64_t)extra + id_length + name_length, q->file_end))
        return -EINVAL;
    if ((r = qcow2_pread(q, more, MIN(extra, (uint32_t)sizeof(more)), *at)) < 0)
        return r;
    *ret = (struct qcow2_snapshot){.shown = {.seconds = be32toh(load_le32(head + 16)),
                                             .vm_state_bytes = extra >= 8
                                                                   ? be64toh(load_le64(more))
                                                                   : be32toh(load_le32(head + 32))},
                                   .l1_offset = be64toh(load_le64(head)),
                                   .l1_size = be32toh(load_le32(head + 8)),
                                   .disk_bytes = extra >= 16 ? be64toh(load_le64(more + 8)) : 0};
    *at += extra;
    r = qcow2_pread(q, ret->shown.id, MIN(id_length, sizeof(ret->shown.id) - 1), *at);
    if (r == 0)
        r = qcow2_pread(q, ret->shown.name, MIN(name_length, sizeof(ret->shown.name) - 1),
                        *at + id_length);
    *at = align_up(*at + id_length + name_length, 8);
    return r;
}

int block_list_qcow2_snapshots(const char *path, block_snapshot_fn *fn, void *context,
                               struct err *err)
{
    struct qcow2_backing none = {NULL, false};
    CLEANUP(qcow2_closep) struct qcow2 *q = NULL;
    struct err first = ERR_INIT;
    uint64_t at;
    int r = qcow2_open(path, true, NULL, 0, &q, &first);

    /* The list is in the image itself: what is below does not matter. */
    if (r == -EPERM)
        r = qcow2_open(path, true, &none, 1, &q, err);
    else if (r < 0)
        return err_set(err, r, "%s", first.message);
    if (r < 0)
        return r;
    at = q->snapshots_offset;
    for (uint32_t i = 0; i < q->nr_snapshots; i++) {
        struct qcow2_snapshot snapshot;

        if ((r = qcow2_snapshot_read(q, &at, &snapshot)) < 0)
            return err_errno(err, r, "read the snapshots of '%s'", path);
        fn(context, &snapshot.shown);
    }
    return 0;
}
