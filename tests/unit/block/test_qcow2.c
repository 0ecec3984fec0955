/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 images against qemu-img: what it makes we read, what we write it checks and compares;
 * random programs against a plain copy; a writer killed at any moment leaves leaks at most.
 */
#define TESTING_TIMEOUT 240
#include "base/util.h"
#include "block/qcow2_internal.h"
#include "block/shell.h"
#include "testing.h"

#include <errno.h>
#include <stdarg.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], image[128], plain[128], base[128];
static bool has_qemu;

static void setup(void)
{
    /* In memory where that is possible: the tests flush often. */
    snprintf(dir, sizeof(dir), "%s/test_qcow2.XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chdir(dir), 0);
    snprintf(image, sizeof(image), "%s/image", dir);
    snprintf(plain, sizeof(plain), "%s/plain", dir);
    snprintf(base, sizeof(base), "%s/base", dir);
    has_qemu = run("qemu-img --version") == 0;
}

static void teardown(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    run("rm -rf %s; true", dir);
}

static struct qcow2 *open_image(bool read_only, const struct qcow2_backing *backing, unsigned nr)
{
    struct err err = ERR_INIT;
    struct qcow2 *q = NULL;
    int r = qcow2_open(image, read_only, backing, nr, &q, &err);

    ck_assert_msg(r == 0, "%s", err.message);
    return q;
}

static void close_image(struct qcow2 *q)
{
    ck_assert_int_eq(qcow2_flush(q), 0);
    ck_assert_int_eq(qcow2_flush(q), 0);
    qcow2_close(q);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void put(struct qcow2 *q, uint8_t *shadow, uint64_t offset, uint64_t bytes, uint64_t seed)
{
    struct iovec iov[2];
    int r;

    for (uint64_t i = 0; i + 8 <= bytes; i += 8)
        store_le64(shadow + offset + i, next_random(&seed));
    iov[0] = (struct iovec){shadow + offset, bytes / 3};
    iov[1] = (struct iovec){shadow + offset + bytes / 3, bytes - bytes / 3};
    r = qcow2_write(q, offset, iov, 2, bytes);
    ck_assert_msg(r == 0, "write at %llu: %d", (unsigned long long)offset, r);
}

static void compare(struct qcow2 *q, const uint8_t *shadow, uint64_t offset, uint64_t bytes)
{
    uint8_t *data = malloc(bytes);
    struct iovec iov = {data, bytes};

    ck_assert_int_eq(qcow2_read(q, offset, &iov, 1, bytes), 0);
    for (uint64_t i = 0; memcmp(data, shadow + offset, bytes) && i < bytes; i++)
        if (data[i] != shadow[offset + i])
            ck_abort_msg("byte %llu differs", (unsigned long long)(offset + i));
    free(data);
}

/* qemu-img's judgement: 0 clean, 3 leaks only. */
static int check(void)
{
    return run("qemu-img check -f qcow2 image");
}

static void write_plain(const uint8_t *shadow, uint64_t bytes)
{
    FILE *file = fopen(plain, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(shadow, 1, bytes, file), bytes);
    fclose(file);
}

static const struct shape {
    const char *options;
    uint64_t bytes;
} shapes[] = {
    {"cluster_size=4096", 24 << 20},
    {"cluster_size=65536", 64 << 20},
    {"cluster_size=2M", 64 << 20},
    {"cluster_size=512", 3 << 20},
    {"compat=0.10,cluster_size=65536", 64 << 20},
    {"compat=0.10,cluster_size=4096", (8 << 20) + 512},
    {"cluster_size=4096,refcount_bits=1", 16 << 20},
    {"cluster_size=4096,refcount_bits=4", 16 << 20},
    {"cluster_size=65536,refcount_bits=64", (32 << 20) + 1536},
    {"cluster_size=4096,lazy_refcounts=on", 16 << 20},
    {"preallocation=metadata", 16 << 20},
};

START_TEST(random_programs)
{
    const struct shape *shape = &shapes[_i];
    uint64_t state = 0x9e3779b97f4a7c15u + (uint64_t)_i;
    uint8_t *shadow = calloc(1, shape->bytes);
    struct qcow2 *q;

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("qemu-img create -f qcow2 -o %s image %llu", shape->options,
                         (unsigned long long)shape->bytes),
                     0);
    q = open_image(false, NULL, 0);
    ck_assert_uint_eq(q->size, shape->bytes);
    for (unsigned step = 0; step < 700; step++) {
        uint64_t what = next_random(&state) % 100, sectors = shape->bytes / 512;
        uint64_t sector = next_random(&state) % sectors;
        uint64_t nr = 1 + next_random(&state) % (next_random(&state) % 8 ? 64 : 2500);

        nr = MIN(nr, sectors - sector);
        if (what < 60) {
            put(q, shadow, sector * 512, nr * 512, state);
        } else if (what < 75) {
            compare(q, shadow, sector * 512, nr * 512);
        } else if (what < 90) {
            ck_assert_int_eq(qcow2_zero(q, sector * 512, nr * 512, false), 0);
            memset(shadow + sector * 512, 0, nr * 512);
        } else if (what < 96) {
            ck_assert_int_eq(qcow2_flush(q), 0);
        } else {
            close_image(q);
            q = open_image(false, NULL, 0);
        }
    }
    compare(q, shadow, 0, shape->bytes);
    close_image(q);
    ck_assert_msg(check() == 0, "%s: qemu-img check", shape->options);
    write_plain(shadow, shape->bytes);
    ck_assert_int_eq(run("qemu-img compare -f qcow2 -F raw image plain"), 0);
    free(shadow);
}
END_TEST

START_TEST(what_qemu_wrote)
{
    static const char *const options[] = {"-o cluster_size=4096", "-c", "-c -o cluster_size=4096",
                                          "-c -o compat=0.10", "-o cluster_size=2M"};
    const uint64_t bytes = 6 << 20;
    uint8_t *shadow = calloc(1, bytes);
    uint64_t state = 7;
    struct qcow2 *q;

    TEST_NEEDS(has_qemu, "qemu-img");
    for (uint64_t i = 0; i < bytes; i++) /* text that compresses, holes, noise */
        shadow[i] = i % 300000 < 100000   ? (uint8_t)(i / 1000)
                    : i % 300000 < 150000 ? (uint8_t)next_random(&state)
                                          : 0;
    write_plain(shadow, bytes);
    ck_assert_int_eq(run("qemu-img convert -f raw -O qcow2 %s plain image", options[_i]), 0);
    q = open_image(false, NULL, 0);
    compare(q, shadow, 0, bytes);
    for (uint64_t at = 12345 * 512; at + 70000 < bytes; at += 777 * 512)
        put(q, shadow, at, 3 * 512, at); /* also into compressed clusters */
    put(q, shadow, 0, 1 << 20, 5);
    ck_assert_int_eq(qcow2_zero(q, 2 << 20, 1 << 20, false), 0);
    memset(shadow + (2 << 20), 0, 1 << 20);
    compare(q, shadow, 0, bytes);
    close_image(q);
    ck_assert_int_eq(check(), 0);
    write_plain(shadow, bytes);
    ck_assert_int_eq(run("qemu-img compare -f qcow2 -F raw image plain"), 0);
    free(shadow);
}
END_TEST

struct names {
    unsigned nr;
    char all[256];
};

static void note_snapshot(void *context, const struct block_snapshot *snapshot)
{
    struct names *names = context;

    names->nr++;
    ck_assert_uint_gt(snapshot->seconds, 1000000000);
    ck_assert_uint_lt(strlen(names->all) + strlen(snapshot->name), sizeof(names->all) - 2);
    strcat(names->all, snapshot->name);
    strcat(names->all, ",");
}

START_TEST(snapshots_keep_their_contents)
{
    const uint64_t bytes = 8 << 20;
    uint8_t *shadow = calloc(1, bytes), *old = malloc(bytes);
    struct names names = {0};
    struct qcow2 *q;

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("qemu-img create -f qcow2 -o cluster_size=4096 image 8M"), 0);
    q = open_image(false, NULL, 0);
    put(q, shadow, 0, 5 << 20, 1);
    close_image(q);
    ck_assert_int_eq(run("qemu-img snapshot -c first image"), 0);
    memcpy(old, shadow, bytes);
    q = open_image(false, NULL, 0);
    put(q, shadow, 1 << 20, 100 * 512, 2);
    put(q, shadow, (3 << 20) + 512, 1 << 20, 3);
    ck_assert_int_eq(qcow2_zero(q, 2 << 20, 1 << 20, false), 0);
    memset(shadow + (2 << 20), 0, 1 << 20);
    compare(q, shadow, 0, bytes);
    close_image(q);
    ck_assert_int_eq(check(), 0);
    ck_assert_int_eq(run("qemu-img snapshot -c 'the second one' image"), 0);
    ck_assert_int_eq(block_list_qcow2_snapshots(image, note_snapshot, &names, NULL), 0);
    ck_assert_uint_eq(names.nr, 2);
    ck_assert_str_eq(names.all, "first,the second one,");
    ck_assert_int_eq(run("qemu-img snapshot -a first image"), 0);
    q = open_image(true, NULL, 0);
    compare(q, old, 0, bytes);
    qcow2_close(q);
    ck_assert_int_eq(run("qemu-img snapshot -a 2 image && qemu-img snapshot -d first image"), 0);
    q = open_image(false, NULL, 0);
    compare(q, shadow, 0, bytes);
    put(q, shadow, 0, 8 << 20, 9);
    close_image(q);
    ck_assert_int_eq(check(), 0);
    free(shadow);
    free(old);
}
END_TEST

START_TEST(backing_files_only_where_named)
{
    const uint64_t bytes = 5 << 20;
    uint8_t *shadow = calloc(1, 8 << 20);
    struct qcow2_backing backing[2] = {{base, true}, {plain, false}};
    struct err err = ERR_INIT;
    struct qcow2 *q = NULL;

    TEST_NEEDS(has_qemu, "qemu-img");
    for (uint64_t i = 0; i < bytes; i++)
        shadow[i] = (uint8_t)(i / 512 + i);
    write_plain(shadow, bytes);
    ck_assert_int_eq(run("qemu-img create -f qcow2 -F raw -b plain base 6M && "
                         "qemu-img create -f qcow2 -F qcow2 -b base -o cluster_size=4096 image 8M"),
                     0);
    ck_assert_int_eq(qcow2_open(image, false, NULL, 0, &q, &err), -EPERM);
    ck_assert_int_lt(qcow2_open(image, false, backing, 1, &q, &err), 0);
    ck_assert_int_lt(qcow2_open(base, false, backing, 2, &q, &err), 0);
    q = open_image(false, backing, 2);
    compare(q, shadow, 0, 8 << 20);
    put(q, shadow, (5 << 20) - 700 * 512, 1000 * 512, 4);
    put(q, shadow, 1536, 512, 5);
    ck_assert_int_eq(qcow2_zero(q, 1 << 20, 1 << 19, true), 0);
    memset(shadow + (1 << 20), 0, 1 << 19);
    compare(q, shadow, 0, 8 << 20);
    close_image(q);
    ck_assert_int_eq(check(), 0);
    write_plain(shadow, 0); /* what is below was only read */
    free(shadow);
}
END_TEST

START_TEST(new_images)
{
    static const struct block_create wanted[] = {
        {.bytes = 1 << 20},
        {.bytes = UINT64_C(5) << 40},
        {.bytes = 3 << 20, .cluster_bits = 12},
        {.bytes = 0, .cluster_bits = 21},
        {.bytes = 1 << 20, .backing = "base", .backing_format = BLOCK_FORMAT_RAW}};
    static const struct block_create wrong[] = {{.bytes = 100},
                                                {.bytes = 512, .cluster_bits = 8},
                                                {.bytes = 512, .cluster_bits = 22},
                                                {.bytes = UINT64_C(1) << 50, .cluster_bits = 12}};
    uint8_t *shadow = calloc(1, 1 << 20);
    struct err err = ERR_INIT;

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("truncate -s 1M base"), 0);
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        ck_assert_int_eq(block_create_qcow2(image, &wanted[i], &err), 0);
        ck_assert_int_eq(block_create_qcow2(image, &wanted[i], &err), -EEXIST);
        ck_assert_int_eq(check(), 0);
        ck_assert_int_eq(
            run("qemu-img info -f qcow2 --output=json image | grep -q '\"virtual-size\": %llu'",
                (unsigned long long)wanted[i].bytes),
            0);
        if (wanted[i].bytes >= 1 << 20 && !wanted[i].backing) {
            struct qcow2 *q = open_image(false, NULL, 0);

            put(q, shadow, 0, 1 << 20, 3);
            close_image(q);
            ck_assert_int_eq(check(), 0);
        }
        unlink(image);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_int_lt(block_create_qcow2(image, &wrong[i], &err), 0);
    free(shadow);
}
END_TEST

/* The refcount table of 4 KiB clusters covers 4 GiB: writes far apart in an image of many clusters.
 */
START_TEST(the_refcount_table_grows)
{
    const uint64_t bytes = 8 << 20;
    uint8_t *shadow = calloc(1, bytes);
    struct qcow2 *q;

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("qemu-img create -f qcow2 -o cluster_size=512,refcount_bits=64 image 8M"),
                     0);
    q = open_image(false, NULL, 0);
    ck_assert_uint_eq(q->reftable_entries, 64);
    for (uint64_t at = 0; at < bytes; at += 4 * 512)
        put(q, shadow, at, 4 * 512, at + 1);
    ck_assert_uint_ge(q->reftable_entries, 256);
    compare(q, shadow, 0, bytes);
    close_image(q);
    ck_assert_int_eq(check(), 0);
    write_plain(shadow, bytes);
    ck_assert_int_eq(run("qemu-img compare -f qcow2 -F raw image plain"), 0);
    free(shadow);
}
END_TEST

START_TEST(discarded_space_is_used_again)
{
    const uint64_t bytes = 16 << 20;
    uint8_t *shadow = calloc(1, bytes);
    struct stat before, after;
    struct qcow2 *q;

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("qemu-img create -f qcow2 image 16M"), 0);
    q = open_image(false, NULL, 0);
    put(q, shadow, 0, bytes / 2, 1);
    ck_assert_int_eq(qcow2_flush(q), 0);
    ck_assert_int_eq(stat(image, &before), 0);
    for (unsigned round = 0; round < 20; round++) {
        uint64_t from = round % 2 ? 0 : bytes / 2, gone = bytes / 2 - from;

        ck_assert_int_eq(qcow2_zero(q, gone, bytes / 2, true), 0);
        memset(shadow + gone, 0, bytes / 2);
        ck_assert_int_eq(qcow2_flush(q), 0);
        put(q, shadow, from, bytes / 2, round + 2);
    }
    compare(q, shadow, 0, bytes);
    close_image(q);
    ck_assert_int_eq(stat(image, &after), 0);
    ck_assert_int_le(after.st_size, before.st_size + (1 << 20));
    ck_assert_int_eq(check(), 0);
    free(shadow);
}
END_TEST

/* Sector s in generation g holds s and g; the child tells which generation it has flushed. */
static _Noreturn void writer(int report, uint64_t sectors)
{
    struct qcow2 *q = open_image(false, NULL, 0);
    uint64_t state = (uint64_t)getpid() * 0x9e3779b97f4a7c15u;

    for (uint64_t generation = 1;; generation++) {
        for (unsigned i = 0; i < 40; i++) {
            uint64_t sector = next_random(&state) % (sectors - 8), data[8 * 64];
            struct iovec iov = {data, sizeof(data)};

            for (unsigned s = 0; s < 8; s++)
                for (unsigned w = 0; w < 64; w++)
                    data[s * 64 + w] = w % 2 ? generation : sector + s;
            if (i % 8 == 7)
                qcow2_zero(q, sector * 512, 4096, true);
            else if (qcow2_write(q, sector * 512, &iov, 1, sizeof(data)) < 0)
                _exit(1);
        }
        if (qcow2_flush(q) < 0 || write(report, &generation, 8) != 8)
            _exit(1);
    }
}

START_TEST(a_killed_writer_leaves_leaks_at_most)
{
    const uint64_t sectors = 32768;

    TEST_NEEDS(has_qemu, "qemu-img");
    for (unsigned round = 0; round < 12; round++) {
        int pipe_fds[2], status, judgement;
        uint64_t generation;
        struct qcow2 *q;
        pid_t pid;

        if (round % 3 == 0)
            ck_assert_int_eq(
                run("rm -f image; qemu-img create -f qcow2 -o cluster_size=%u image 16M",
                    round % 2 ? 4096 : 65536),
                0);
        ck_assert_int_eq(pipe(pipe_fds), 0);
        pid = fork();
        if (pid == 0)
            writer(pipe_fds[1], sectors);
        close(pipe_fds[1]);
        ck_assert_int_eq(read(pipe_fds[0], &generation, 8), 8);
        usleep(3000 + round * 7919);
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        ck_assert(WIFSIGNALED(status));
        close(pipe_fds[0]);
        judgement = check();
        ck_assert_msg(judgement == 0 || judgement == 3, "qemu-img check: %d", judgement);
        q = open_image(true, NULL, 0);
        for (uint64_t s = 0; s < sectors; s++) {
            uint64_t data[64];
            struct iovec iov = {data, sizeof(data)};

            if (qcow2_read(q, s * 512, &iov, 1, 512) < 0 || (data[0] != s && data[0] != 0))
                ck_abort_msg("sector %llu holds %llu", (unsigned long long)s,
                             (unsigned long long)data[0]);
        }
        qcow2_close(q);
        ck_assert_int_eq(run("qemu-img check -r all -f qcow2 image"), 0);
    }
}
END_TEST

START_TEST(broken_images_are_refused)
{
    static const struct {
        unsigned at, bytes;
        uint64_t value;
    } wrong[] = {{0, 4, 1},
                 {4, 4, 4},
                 {20, 4, 8},
                 {20, 4, 22},
                 {24, 8, ~UINT64_C(0)},
                 {32, 4, 1},
                 {36, 4, 0},
                 {36, 4, 0x7fffffff},
                 {40, 8, 0},
                 {40, 8, 1},
                 {40, 8, 1ull << 50},
                 {48, 8, 512},
                 {56, 4, 0},
                 {56, 4, 0x10000000},
                 {72, 8, 1ull << 40},
                 {72, 8, 4},
                 {72, 8, 16},
                 {72, 8, 2},
                 {72, 8, 1},
                 {96, 4, 7},
                 {100, 4, 13},
                 {60, 4, 0x7fffffff},
                 {72, 8, 8}};
    struct block_create create = {.bytes = 1 << 20};

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct err err = ERR_INIT;
        struct qcow2 *q = NULL;
        uint64_t value = htobe64(wrong[i].value) >> (64 - 8 * wrong[i].bytes);
        FILE *file;

        unlink(image);
        ck_assert_int_eq(block_create_qcow2(image, &create, &err), 0);
        file = fopen(image, "r+");
        fseek(file, wrong[i].at, SEEK_SET);
        fwrite(&value, wrong[i].bytes, 1, file);
        fclose(file);
        ck_assert_msg(qcow2_open(image, false, NULL, 0, &q, &err) < 0 && err.message[0],
                      "byte %u = %llx", wrong[i].at, (unsigned long long)wrong[i].value);
    }
}
END_TEST

TEST_MAIN("qcow2", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_loop_test(tcase, random_programs, 0, (int)ARRAY_LEN(shapes));
          tcase_add_loop_test(tcase, what_qemu_wrote, 0, 5);
          tcase_add_test(tcase, snapshots_keep_their_contents);
          tcase_add_test(tcase, backing_files_only_where_named); tcase_add_test(tcase, new_images);
          tcase_add_test(tcase, the_refcount_table_grows);
          tcase_add_test(tcase, discarded_space_is_used_again);
          tcase_add_test(tcase, a_killed_writer_leaves_leaks_at_most);
          tcase_add_test(tcase, broken_images_are_refused);)
