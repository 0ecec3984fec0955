/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw images: a regular file or a block device, byte for byte. Reads, writes and flushes go through
 * io_uring where the kernel offers it; a thread pool takes everything else: discards, zeroing, and
 * what the ring left unfinished. With BLOCK_ENGINE_THREADS the pool takes everything.
 */
#include "block/block_driver.h"
#include "block/file_lock.h"
#include "block/pool.h"
#include "block/uring.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define RAW_ZERO_CHUNK (64 * KIB)

struct raw {
    struct block block;
    int fd;
    bool has_ring;
    struct uring uring;
    bool has_pool;
    struct pool pool;
};

/* Preadv or pwritev until the iov is used up. The missing end of a short file reads as zeros. */
static int transfer(struct raw *raw, struct block_request *request)
{
    while (request->nr_iov) {
        uint64_t offset = (request->sector << BLOCK_SECTOR_SHIFT) + request->done_bytes_;
        int nr = (int)MIN(request->nr_iov, (unsigned)IOV_MAX);
        ssize_t n = request->op == BLOCK_READ ? preadv(raw->fd, request->iov, nr, (off_t)offset)
                                              : pwritev(raw->fd, request->iov, nr, (off_t)offset);
        uint64_t bytes = (uint64_t)n;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0 && request->op == BLOCK_WRITE)
            return -EIO;
        if (n == 0) {
            memset(request->iov->iov_base, 0, request->iov->iov_len);
            bytes = request->iov->iov_len;
        }
        block_request_advance(request, bytes);
    }
    return 0;
}

static bool not_supported(int code)
{
    return code == -EOPNOTSUPP || code == -ENOSYS || code == -ENOTTY;
}

static int allocate(struct raw *raw, int mode, const struct block_request *request)
{
    int r;

    do
        r = fallocate(raw->fd, mode, (off_t)(request->sector << BLOCK_SECTOR_SHIFT),
                      (off_t)(request->nr_sectors << BLOCK_SECTOR_SHIFT));
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int write_zeroes_plain(struct raw *raw, const struct block_request *request)
{
    static const char zeroes[RAW_ZERO_CHUNK];
    uint64_t offset = request->sector << BLOCK_SECTOR_SHIFT;
    uint64_t left = request->nr_sectors << BLOCK_SECTOR_SHIFT;

    while (left) {
        ssize_t n = pwrite(raw->fd, zeroes, MIN(left, sizeof(zeroes)), (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        offset += (uint64_t)n;
        left -= (uint64_t)n;
    }
    return 0;
}

static int write_zeroes(struct raw *raw, const struct block_request *request)
{
    int r = -EOPNOTSUPP;

    if (request->may_unmap)
        r = allocate(raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, request);
    if (not_supported(r))
        r = allocate(raw, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, request);
    if (not_supported(r))
        r = write_zeroes_plain(raw, request);
    return r;
}

static int raw_execute(void *context, struct block_request *request)
{
    struct raw *raw = context;
    int r = -EINVAL;

    switch (request->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        return transfer(raw, request);
    case BLOCK_FLUSH:
        return fdatasync(raw->fd) < 0 ? -errno : 0;
    case BLOCK_DISCARD:
        r = allocate(raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, request);
        return not_supported(r) ? 0 : r; /* it is only a hint */
    case BLOCK_WRITE_ZEROES:
        return write_zeroes(raw, request);
    }
    return r;
}

static void raw_rest(void *context, struct block_request *request)
{
    struct raw *raw = context;

    pool_submit(&raw->pool, request);
}

static void raw_submit(struct block *block, struct block_request *request)
{
    struct raw *raw = CONTAINER_OF(block, struct raw, block);
    bool for_ring = request->op == BLOCK_FLUSH ||
                    ((request->op == BLOCK_READ || request->op == BLOCK_WRITE) &&
                     request->nr_iov <= IOV_MAX && request->nr_sectors < INT_MAX >> 9);

    if (raw->has_ring && for_ring)
        uring_submit(&raw->uring, request);
    else
        pool_submit(&raw->pool, request);
}

static void raw_kick(struct block *block)
{
    struct raw *raw = CONTAINER_OF(block, struct raw, block);

    if (raw->has_ring)
        uring_kick(&raw->uring);
}

static void raw_wait(struct block *block)
{
    struct raw *raw = CONTAINER_OF(block, struct raw, block);

    if (raw->pool.nr_in_flight)
        pool_wait(&raw->pool);
    else
        uring_wait(&raw->uring);
}

static void raw_close(struct block *block)
{
    struct raw *raw = CONTAINER_OF(block, struct raw, block);

    if (raw->has_ring)
        uring_done(&raw->uring);
    if (raw->has_pool)
        pool_done(&raw->pool);
    if (raw->fd >= 0)
        close(raw->fd);
    free(raw);
}

static const struct block_driver raw_driver = {
    .submit = raw_submit,
    .kick = raw_kick,
    .wait = raw_wait,
    .close = raw_close,
};

static int measure(struct raw *raw, const char *path, bool read_only, struct err *err)
{
    struct block_info *info = &raw->block.info;
    uint64_t bytes, whole;
    unsigned int physical = 0;
    struct stat st;

    if (fstat(raw->fd, &st) < 0)
        return err_errno(err, -errno, "size of disk image '%s'", path);
    bytes = (uint64_t)st.st_size;
    info->physical_block_bytes = 4096;
    if (S_ISBLK(st.st_mode)) {
        if (ioctl(raw->fd, BLKGETSIZE64, &bytes) < 0)
            return err_errno(err, -errno, "size of block device '%s'", path);
        if (ioctl(raw->fd, BLKPBSZGET, &physical) == 0 && physical >= BLOCK_SECTOR_SIZE &&
            (physical & (physical - 1)) == 0)
            info->physical_block_bytes = physical;
    }
    whole = align_up(bytes, BLOCK_SECTOR_SIZE);
    if (whole != bytes && !read_only && S_ISREG(st.st_mode) && ftruncate(raw->fd, (off_t)whole) < 0)
        return err_errno(err, -errno,
                         "extend disk image '%s' from %llu bytes to a whole 512-byte sector", path,
                         (unsigned long long)bytes);
    info->nr_sectors = whole >> BLOCK_SECTOR_SHIFT;
    info->read_only = read_only;
    return 0;
}

static int start_engine(struct raw *raw, const char *path, enum block_engine engine,
                        struct err *err)
{
    struct err ring_err = ERR_INIT;
    int r;

    if (engine != BLOCK_ENGINE_THREADS) {
        r = uring_init(&raw->uring, raw->fd, raw_rest, raw, raw->block.loop, &ring_err);
        raw->has_ring = r == 0;
        if (r < 0 && engine == BLOCK_ENGINE_URING)
            return err_set(err, r, "disk image '%s': %s", path, ring_err.message);
    }
    raw->block.info.engine = raw->has_ring ? "io_uring" : "threads";
    r = pool_init(&raw->pool, raw->has_ring ? 1 : POOL_THREADS_MAX, raw_execute, raw,
                  raw->block.loop, err);
    if (r < 0)
        return err_wrap(err, "disk image '%s'", path);
    raw->has_pool = true;
    return 0;
}

int block_open_raw(const char *path, const struct block_options *options, struct loop *loop,
                   struct block **ret, struct err *err)
{
    CLEANUP(block_closep) struct block *block = NULL;
    struct raw *raw = calloc(1, sizeof(*raw));
    int r;

    if (!raw)
        return err_set(err, -ENOMEM, "open disk image '%s': out of memory", path);
    block_init(&raw->block, &raw_driver, loop);
    block = &raw->block;
    raw->fd = -1;
    if ((r = block_file_open(path, options->read_only, &raw->fd, err)) < 0 ||
        (r = measure(raw, path, options->read_only, err)) < 0 ||
        (r = start_engine(raw, path, options->engine, err)) < 0)
        return r;
    *ret = TAKE_PTR(block);
    return 0;
}
