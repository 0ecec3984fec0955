/* SPDX-License-Identifier: Apache-2.0 */
/* The raw block device on both engines, its lock and its failures, and the fault injector. */
#include "base/mounts.h"
#include "base/util.h"
#include "block/block.h"
#include "block/fault.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define IMAGE_SECTORS 4096

struct io {
    struct block_request request;
    struct iovec iov[3];
    int result;
    bool ended;
};

static struct loop *loop;
static char directory[64];
static char image[96];

static const enum block_engine engines[] = {BLOCK_ENGINE_URING, BLOCK_ENGINE_THREADS};

static void setup(void)
{
    struct err err = ERR_INIT;

    snprintf(directory, sizeof(directory), "/tmp/test_block.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(image, sizeof(image), "%s/disk.img", directory);
    ck_assert_msg(loop_new(&loop, &err) == 0, "%s", err.message);
}

static void teardown(void)
{
    loop_free(loop);
    unlink(image);
    rmdir(directory);
}

static void make_image(off_t bytes)
{
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, bytes), 0);
    close(fd);
}

static struct block *open_image(bool read_only, enum block_engine engine)
{
    struct block_options options = {.read_only = read_only, .engine = engine};
    struct block *block = NULL;
    struct err err = ERR_INIT;

    ck_assert_msg(block_open_raw(image, &options, loop, &block, &err) == 0, "%s", err.message);
    return block;
}

static void io_done(struct block_request *request, int result)
{
    struct io *io = CONTAINER_OF(request, struct io, request);

    ck_assert(!io->ended);
    io->ended = true;
    io->result = result;
}

static void start(struct block *block, struct io *io, enum block_op op, uint64_t sector, void *data,
                  uint64_t bytes)
{
    memset(io, 0, sizeof(*io));
    io->iov[0] = (struct iovec){data, bytes / 3};
    io->iov[1] = (struct iovec){(char *)data + bytes / 3, 1};
    io->iov[2] = (struct iovec){(char *)data + bytes / 3 + 1, bytes - bytes / 3 - 1};
    io->request = (struct block_request){
        .op = op,
        .sector = sector,
        .nr_sectors = bytes / BLOCK_SECTOR_SIZE,
        .iov = io->iov,
        .nr_iov = data ? 3 : 0,
        .done = io_done,
    };
    block_submit(block, &io->request);
    ck_assert(!io->ended);
}

static int run_io(struct block *block, enum block_op op, uint64_t sector, void *data,
                  uint64_t bytes)
{
    struct io io;

    start(block, &io, op, sector, data, bytes);
    block_kick(block);
    while (!io.ended)
        loop_run_once(loop, 5000);
    return io.result;
}

static void fill(unsigned char *data, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        data[i] = (unsigned char)(seed + i * 31 + (i >> 8));
}

START_TEST(reads_what_was_written)
{
    unsigned char data[8192], back[8192];
    struct block *block;

    make_image(IMAGE_SECTORS * 512);
    block = open_image(false, engines[_i]);
    fill(data, sizeof(data), 7);
    ck_assert_int_eq(run_io(block, BLOCK_WRITE, 11, data, sizeof(data)), 0);
    ck_assert_int_eq(run_io(block, BLOCK_FLUSH, 0, NULL, 0), 0);
    memset(back, 0xaa, sizeof(back));
    ck_assert_int_eq(run_io(block, BLOCK_READ, 11, back, sizeof(back)), 0);
    ck_assert_mem_eq(data, back, sizeof(data));
    ck_assert_int_eq(run_io(block, BLOCK_DISCARD, 11, NULL, 1024), 0);
    ck_assert_int_eq(run_io(block, BLOCK_WRITE_ZEROES, 13, NULL, 1024), 0);
    ck_assert_int_eq(run_io(block, BLOCK_READ, 13, back, 2048), 0);
    for (int i = 0; i < 1024; i++)
        ck_assert_int_eq(back[i], 0);
    ck_assert_mem_eq(back + 1024, data + 2048, 1024);
    block_close(block);
}
END_TEST

START_TEST(rejects_what_is_outside)
{
    unsigned char data[1024];
    struct block *block;

    make_image(IMAGE_SECTORS * 512);
    block = open_image(false, engines[_i]);
    ck_assert_int_eq(run_io(block, BLOCK_READ, IMAGE_SECTORS - 2, data, 1024), 0);
    ck_assert_int_eq(run_io(block, BLOCK_READ, IMAGE_SECTORS - 1, data, 1024), -EINVAL);
    ck_assert_int_eq(run_io(block, BLOCK_WRITE, IMAGE_SECTORS, data, 512), -EINVAL);
    ck_assert_int_eq(run_io(block, BLOCK_READ, UINT64_MAX, data, 1024), -EINVAL);
    ck_assert_int_eq(run_io(block, BLOCK_READ, 0, data, 1000), -EINVAL);
    ck_assert_int_eq(run_io(block, BLOCK_DISCARD, UINT64_MAX - 1, NULL, 4096), -EINVAL);
    ck_assert_int_eq(run_io(block, BLOCK_WRITE_ZEROES, 1, NULL, IMAGE_SECTORS * 512), -EINVAL);
    block_close(block);
}
END_TEST

START_TEST(odd_sizes_are_rounded_up)
{
    unsigned char data[512];
    struct block_info info;
    struct block *block;
    struct stat st;

    make_image(1000);
    block = open_image(true, engines[_i]);
    block_get_info(block, &info);
    ck_assert_uint_eq(info.nr_sectors, 2);
    ck_assert(info.read_only);
    memset(data, 0xff, sizeof(data));
    ck_assert_int_eq(run_io(block, BLOCK_READ, 1, data, 512), 0);
    for (int i = 0; i < 512; i++)
        ck_assert_int_eq(data[i], 0);
    ck_assert_int_eq(run_io(block, BLOCK_WRITE, 0, data, 512), -EROFS);
    ck_assert_int_eq(run_io(block, BLOCK_DISCARD, 0, NULL, 512), -EROFS);
    block_close(block);
    ck_assert(stat(image, &st) == 0 && st.st_size == 1000);
    block = open_image(false, engines[_i]);
    block_close(block);
    ck_assert(stat(image, &st) == 0 && st.st_size == 1024);
}
END_TEST

START_TEST(locks_against_writers)
{
    struct block_options reader = {.read_only = true}, writer = {.read_only = false};
    struct block *first, *second = NULL;
    struct err err = ERR_INIT;

    make_image(4096);
    first = open_image(false, BLOCK_ENGINE_AUTO);
    ck_assert_int_eq(block_open_raw(image, &reader, loop, &second, &err), -EBUSY);
    ck_assert_ptr_nonnull(strstr(err.message, image));
    ck_assert_int_eq(block_open_raw(image, &writer, loop, &second, &err), -EBUSY);
    block_close(first);
    first = open_image(true, BLOCK_ENGINE_AUTO);
    ck_assert_int_eq(block_open_raw(image, &writer, loop, &second, &err), -EBUSY);
    ck_assert_int_eq(block_open_raw(image, &reader, loop, &second, &err), 0);
    block_close(second);
    block_close(first);
}
END_TEST

START_TEST(names_what_cannot_be_opened)
{
    struct block_options options = {.read_only = true};
    struct block *block = NULL;
    struct err err = ERR_INIT;

    ck_assert_int_eq(block_open_raw(image, &options, loop, &block, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, image));
    ck_assert_int_eq(block_open_raw(directory, &options, loop, &block, &err), -EINVAL);
    ck_assert_int_eq(mkfifo(image, 0600), 0);
    ck_assert_int_eq(block_open_raw(image, &options, loop, &block, &err), -EINVAL);
    ck_assert_ptr_null(block);
}
END_TEST

/* More requests than the ring holds, drained at once. */
START_TEST(drains_many)
{
    enum { MANY = 1000 };
    struct io *ios = calloc(MANY, sizeof(*ios));
    unsigned char *data = malloc(MANY * 512), *back = calloc(MANY, 512);
    struct block *block;

    make_image(IMAGE_SECTORS * 512);
    block = open_image(false, engines[_i]);
    fill(data, MANY * 512, 3);
    for (int i = 0; i < MANY; i++)
        start(block, &ios[i], BLOCK_WRITE, (uint64_t)i, data + i * 512, 512);
    ck_assert_uint_eq(block_nr_in_flight(block), MANY);
    block_drain(block);
    ck_assert_uint_eq(block_nr_in_flight(block), 0);
    for (int i = 0; i < MANY; i++) {
        ck_assert(ios[i].ended && ios[i].result == 0);
        start(block, &ios[i], BLOCK_READ, (uint64_t)i, back + i * 512, 512);
    }
    block_close(block); /* drains as well */
    for (int i = 0; i < MANY; i++)
        ck_assert(ios[i].ended && ios[i].result == 0);
    ck_assert_mem_eq(data, back, MANY * 512);
    free(data);
    free(back);
    free(ios);
}
END_TEST

/* The kernel refuses the ring after it was made (a system call filter): the threads take over. */
START_TEST(goes_on_without_the_ring)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_enter, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {ARRAY_LEN(code), code};
    enum { MANY = 600 };
    static unsigned char data[MANY * 512];
    struct io *ios = calloc(MANY, sizeof(*ios));
    struct block *block;

    make_image(IMAGE_SECTORS * 512);
    block = open_image(false, BLOCK_ENGINE_URING);
    ck_assert_int_eq(run_io(block, BLOCK_WRITE, 0, data, 512), 0);
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    for (int i = 0; i < MANY; i++)
        start(block, &ios[i], BLOCK_WRITE, (uint64_t)i, data + i * 512, 512);
    block_drain(block);
    for (int i = 0; i < MANY; i++)
        ck_assert(ios[i].ended && ios[i].result == 0);
    ck_assert_int_eq(run_io(block, BLOCK_READ, 0, data, 512), 0);
    block_close(block);
    free(ios);
}
END_TEST

START_TEST(disk_full_is_an_error)
{
    static unsigned char data[64 * 1024];
    struct block *block;
    int failed = 0;

    TEST_NEEDS(geteuid() == 0 && unshare(CLONE_NEWNS) == 0, "root (to mount a small tmpfs)");
    ck_assert_int_eq(mounts_set_propagation(MS_PRIVATE), 0);
    ck_assert_int_eq(mount("tmpfs", directory, "tmpfs", 0, "size=256k"), 0);
    make_image(1 << 20);
    block = open_image(false, engines[_i]);
    memset(data, 1, sizeof(data));
    for (uint64_t at = 0; at < 2048; at += 128) {
        int r = run_io(block, BLOCK_WRITE, at, data, sizeof(data));

        ck_assert(r == 0 || r == -ENOSPC);
        failed += r == -ENOSPC;
    }
    ck_assert_int_ge(failed, 11);
    ck_assert_int_eq(run_io(block, BLOCK_READ, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(run_io(block, BLOCK_DISCARD, 0, NULL, 1 << 20), 0);
    ck_assert_int_eq(run_io(block, BLOCK_WRITE, 2048 - 128, data, sizeof(data)), 0);
    block_close(block);
    ck_assert_int_eq(umount2(directory, MNT_DETACH), 0);
}
END_TEST

START_TEST(injects_faults)
{
    struct block_fault_plan plan = {.ops = 1u << BLOCK_READ, .fail_every = 3, .error = -EIO};
    unsigned char data[512];
    struct block *block = NULL;
    struct io held[3];

    make_image(4096);
    ck_assert_int_eq(block_fault_new(open_image(false, engines[_i]), &plan, loop, &block, NULL), 0);
    for (int i = 1; i <= 9; i++)
        ck_assert_int_eq(run_io(block, BLOCK_READ, 0, data, 512), i % 3 ? 0 : -EIO);
    ck_assert_int_eq(run_io(block, BLOCK_WRITE, 0, data, 512), 0);
    plan = (struct block_fault_plan){.ops = ~0u, .hold = true, .newest_first = true};
    for (int i = 0; i < 3; i++)
        start(block, &held[i], BLOCK_FLUSH, 0, NULL, 0);
    block_kick(block);
    loop_run_once(loop, 10);
    ck_assert_uint_eq(block_fault_nr_held(block), 3);
    ck_assert(!held[0].ended && !held[2].ended);
    block_drain(block);
    ck_assert(held[0].ended && held[1].ended && held[2].ended);
    block_close(block);
}
END_TEST

TEST_MAIN("block", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_loop_test(tcase, reads_what_was_written, 0, 2);
          tcase_add_loop_test(tcase, rejects_what_is_outside, 0, 2);
          tcase_add_loop_test(tcase, odd_sizes_are_rounded_up, 0, 2);
          tcase_add_test(tcase, locks_against_writers);
          tcase_add_test(tcase, names_what_cannot_be_opened);
          tcase_add_loop_test(tcase, drains_many, 0, 2);
          tcase_add_test(tcase, goes_on_without_the_ring);
          tcase_add_loop_test(tcase, disk_full_is_an_error, 0, 2);
          tcase_add_loop_test(tcase, injects_faults, 0, 2);)
