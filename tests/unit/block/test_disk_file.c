/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images as files, held to qemu-img: snapshots under random programs, sizes, conversions, the
 * check, and processes killed in the middle of all that.
 */
#define TESTING_TIMEOUT 240
#include "base/util.h"
#include "block/disk_file.h"
#include "block/qcow2_internal.h"
#include "block/shell.h"
#include "testing.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char dir[64];
static bool has_qemu;

static void setup(void)
{
    snprintf(dir, sizeof(dir), "%s/test_disk.XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chdir(dir), 0);
    has_qemu = run("qemu-img --version") == 0;
}

static void teardown(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    run("rm -rf %s; true", dir);
}

static struct err err; /* of the call before */

#define OK(expression)                                               \
    do {                                                             \
        int ok_ = (err_clear(&err), expression);                     \
                                                                     \
        ck_assert_msg(ok_ == 0, "%s: %s", #expression, err.message); \
    } while (0)

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct disk_file *open_disk(const char *path, enum block_format format, bool read_only)
{
    struct disk_source source = {.path = path, .format = format};
    struct disk_file *file = NULL;

    OK(disk_file_open(&source, read_only, &file, &err));
    return file;
}

static void put(uint8_t *shadow, uint64_t offset, uint64_t bytes, uint64_t seed)
{
    struct disk_file *file = open_disk("image", BLOCK_FORMAT_QCOW2, false);

    for (uint64_t i = 0; i + 8 <= bytes; i += 8)
        store_le64(shadow + offset + i, next_random(&seed));
    ck_assert_int_eq(disk_file_write(file, offset, shadow + offset, bytes), 0);
    disk_file_close(file);
}

static void compare(const char *path, enum block_format format, const uint8_t *shadow,
                    uint64_t bytes)
{
    struct disk_file *file = open_disk(path, format, true);
    uint8_t *data = malloc(bytes);

    ck_assert_uint_eq(disk_file_bytes(file), bytes);
    ck_assert_int_eq(disk_file_read(file, 0, data, bytes), 0);
    ck_assert_msg(!memcmp(data, shadow, bytes), "%s differs", path);
    free(data);
    disk_file_close(file);
}

/* Our judgement and qemu-img's are the same: 0 clean, 3 leaks, 2 errors. */
static int check(void)
{
    struct disk_checked checked;
    int qemu = run("qemu-img check -f qcow2 image");

    OK(disk_check("image", false, &checked, &err));
    ck_assert_msg((qemu == 2) == (checked.nr_errors != 0) &&
                      (qemu != 0 || (!checked.nr_leaks && !checked.nr_errors)),
                  "qemu-img check says %d, we %llu errors, %llu leaks", qemu,
                  (unsigned long long)checked.nr_errors, (unsigned long long)checked.nr_leaks);
    return qemu;
}

static const char *const shapes[] = {"cluster_size=4096", "cluster_size=65536",
                                     "compat=0.10,cluster_size=4096", "cluster_size=512",
                                     "cluster_size=4096,refcount_bits=4"};
#define BYTES (UINT64_C(3) << 20)
#define KEPT  4

START_TEST(random_snapshots)
{
    uint64_t state = 0x1234567 + (uint64_t)_i;
    uint8_t *shadow = calloc(1, BYTES), *kept[KEPT] = {NULL};
    char name[16];

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(
        run("qemu-img create -f qcow2 -o %s image %llu", shapes[_i], (unsigned long long)BYTES), 0);
    for (unsigned step = 0; step < 80; step++) {
        unsigned which = (unsigned)(next_random(&state) % KEPT);
        uint64_t what = next_random(&state) % 10,
                 offset = next_random(&state) % (BYTES / 512) * 512;

        snprintf(name, sizeof(name), "snap %u", which);
        if (what < 5) {
            uint64_t bytes = 512 + next_random(&state) % 200 * 512;

            put(shadow, offset, MIN(bytes, BYTES - offset), state);
        } else if (!kept[which]) {
            OK(disk_snapshot_create("image", name, &err));
            kept[which] = malloc(BYTES);
            memcpy(kept[which], shadow, BYTES);
        } else if (what < 8) {
            OK(disk_snapshot_apply("image", name, &err));
            memcpy(shadow, kept[which], BYTES);
        } else {
            OK(disk_snapshot_remove("image", name, &err));
            free(kept[which]);
            kept[which] = NULL;
        }
        compare("image", BLOCK_FORMAT_QCOW2, shadow, BYTES);
        if (step % 8 == 7)
            ck_assert_int_eq(check(), 0);
    }
    for (unsigned i = 0; i < KEPT; i++) {
        if (!kept[i])
            continue;
        ck_assert_int_eq(run("qemu-img snapshot -a 'snap %u' image", i), 0);
        compare("image", BLOCK_FORMAT_QCOW2, kept[i], BYTES);
        free(kept[i]);
    }
    ck_assert_int_eq(check(), 0);
    free(shadow);
}
END_TEST

START_TEST(snapshots_of_both)
{
    uint8_t *shadow = calloc(1, BYTES), *old = malloc(BYTES);

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("qemu-img create -f qcow2 image 3M"), 0);
    put(shadow, 0, 1 << 20, 3);
    memcpy(old, shadow, BYTES);
    ck_assert_int_eq(run("qemu-img snapshot -c theirs image"), 0);
    put(shadow, 1 << 19, 1 << 20, 4);
    OK(disk_snapshot_create("image", "ours", &err));
    ck_assert_int_eq(disk_snapshot_create("image", "ours", &err), -EEXIST);
    err_clear(&err);
    ck_assert_int_eq(disk_snapshot_apply("image", "nosuch", &err), -ENOENT);
    ck_assert_int_eq(run("qemu-img snapshot -l image | grep -q ' ours '"), 0);
    OK(disk_snapshot_apply("image", "theirs", &err));
    compare("image", BLOCK_FORMAT_QCOW2, old, BYTES);
    OK(disk_snapshot_remove("image", "1", &err)); /* by its id */
    ck_assert_int_eq(check(), 0);
    ck_assert_int_eq(run("qemu-img snapshot -a ours image"), 0);
    compare("image", BLOCK_FORMAT_QCOW2, shadow, BYTES);
    ck_assert_int_eq(run("qemu-img snapshot -d ours image"), 0);
    ck_assert_int_eq(check(), 0);
    free(shadow);
    free(old);
}
END_TEST

START_TEST(narrow_counters_are_an_error)
{
    uint8_t *shadow = calloc(1, BYTES);

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("qemu-img create -f qcow2 -o refcount_bits=1 image 3M"), 0);
    put(shadow, 0, 4096, 3);
    ck_assert_int_eq(disk_snapshot_create("image", "a", &err), -EOVERFLOW);
    compare("image", BLOCK_FORMAT_QCOW2, shadow, BYTES);
    free(shadow);
}
END_TEST

START_TEST(sizes)
{
    struct disk_source source = {.path = "image", .format = BLOCK_FORMAT_QCOW2};
    uint8_t *shadow = calloc(1, 8 << 20);
    struct disk_info info;

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("qemu-img create -f qcow2 -o cluster_size=512 image 1M"), 0);
    put(shadow, 0, 1 << 20, 3);
    OK(disk_snapshot_create("image", "small", &err));
    OK(disk_resize(&source, 8 << 20, false, &err)); /* more entries of level 1 */
    compare("image", BLOCK_FORMAT_QCOW2, shadow, 8 << 20);
    put(shadow, (7 << 20) + 512, 1 << 19, 4);
    ck_assert_int_eq(check(), 0);
    ck_assert_int_eq(disk_resize(&source, 1 << 20, false, &err), -EINVAL);
    OK(disk_resize(&source, (7 << 20) + 1024, true, &err));
    ck_assert_int_eq(check(), 0);
    memset(shadow + (7 << 20) + 1024, 0, (1 << 20) - 1024);
    compare("image", BLOCK_FORMAT_QCOW2, shadow, (7 << 20) + 1024);
    OK(disk_resize(&source, 8 << 20, false, &err)); /* what was behind the end is zeros now */
    compare("image", BLOCK_FORMAT_QCOW2, shadow, 8 << 20);
    OK(disk_snapshot_apply("image", "small", &err));
    OK(disk_info("image", BLOCK_FORMAT_QCOW2, &info, &err));
    ck_assert_uint_eq(info.bytes, 1 << 20);
    ck_assert_uint_eq(info.nr_snapshots, 1);
    ck_assert_int_eq(check(), 0);
    source = (struct disk_source){.path = "raw", .format = BLOCK_FORMAT_RAW};
    OK(disk_create("raw", BLOCK_FORMAT_RAW, &(struct block_create){.bytes = 1 << 30}, &err));
    OK(disk_resize(&source, UINT64_C(2) << 30, false, &err));
    OK(disk_info("raw", BLOCK_FORMAT_RAW, &info, &err));
    ck_assert_uint_eq(info.bytes, UINT64_C(2) << 30);
    ck_assert_uint_lt(info.allocated_bytes, 1 << 16);
    free(shadow);
}
END_TEST

/* Longer below than above: what is new reads as zeros. */
START_TEST(a_backing_file_does_not_show_through)
{
    struct disk_source source = {.path = "image",
                                 .format = BLOCK_FORMAT_QCOW2,
                                 .backing = {{"base", BLOCK_FORMAT_RAW}},
                                 .nr_backing = 1};
    struct disk_file *file = NULL;
    uint8_t data[4096];

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("(head -c 2097152 /dev/zero | tr '\\0' x > base)"), 0);
    ck_assert_int_eq(run("qemu-img create -f qcow2 -b base -F raw image 1M"), 0);
    OK(disk_resize(&source, 3 << 20, false, &err));
    OK(disk_file_open(&source, true, &file, &err));
    ck_assert_int_eq(disk_file_read(file, (1 << 20) - 2048, data, sizeof(data)), 0);
    ck_assert(data[2047] == 'x' && data[2048] == 0 && data[4095] == 0);
    disk_file_close(file);
    ck_assert_int_eq(run("qemu-img check -f qcow2 image"), 0);
}
END_TEST

START_TEST(conversions)
{
    static const enum block_format formats[] = {BLOCK_FORMAT_RAW, BLOCK_FORMAT_QCOW2};
    static const char *const names[] = {"raw", "qcow2"};
    const uint64_t bytes = (UINT64_C(64) << 20) + 1536;
    uint8_t *shadow = calloc(1, bytes);
    uint64_t state = 11;

    TEST_NEEDS(has_qemu, "qemu-img");
    for (uint64_t at = 0; at + 9000 < bytes; at += 3 << 20)
        for (unsigned i = 0; i < 9000; i++)
            shadow[at + i] = (uint8_t)next_random(&state);
    shadow[bytes - 1] = 7;
    ck_assert_int_eq(run("true"), 0);
    FILE *file = fopen("from", "w");
    ck_assert_uint_eq(fwrite(shadow, 1, bytes, file), bytes);
    fclose(file);
    if (_i / 2)
        ck_assert_int_eq(run("qemu-img convert -c -O qcow2 from c && mv c from"), 0);
    OK(disk_convert(&(struct disk_source){.path = "from", .format = formats[_i / 2]}, "to",
                    &(struct disk_convert){.format = formats[_i % 2]}, &err));
    compare("to", formats[_i % 2], shadow, bytes);
    ck_assert_int_eq(run("qemu-img compare -f %s -F %s from to", names[_i / 2], names[_i % 2]), 0);
    if (_i % 2)
        ck_assert_int_eq(run("qemu-img check -f qcow2 to"), 0);
    ck_assert_int_eq(run("test $(du -k to | cut -f1) -lt 6000"), 0);
    ck_assert_int_eq(disk_convert(&(struct disk_source){.path = "from", .format = formats[_i / 2]},
                                  "to", &(struct disk_convert){.format = formats[_i % 2]}, &err),
                     -EEXIST);
    free(shadow);
}
END_TEST

START_TEST(leaks_and_errors)
{
    uint8_t *shadow = calloc(1, BYTES);
    struct disk_checked checked;
    struct qcow2 *q = NULL;
    uint64_t offset;

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("qemu-img create -f qcow2 image 3M"), 0);
    put(shadow, 0, 1 << 20, 3);
    OK(qcow2_open("image", false, NULL, 0, &q, &err));
    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(qcow2_allocate(q, &offset), 0);
    ck_assert_int_eq(qcow2_pwrite(q, shadow, 512, offset), 0);
    ck_assert_int_eq(qcow2_flush(q), 0);
    qcow2_close(q);
    ck_assert_int_eq(check(), 3);
    OK(disk_check("image", true, &checked, &err));
    ck_assert_uint_eq(checked.nr_leaks, 5);
    ck_assert_uint_eq(checked.nr_repaired, 5);
    ck_assert_int_eq(check(), 0);
    OK(qcow2_open("image", false, NULL, 0, &q, &err));
    ck_assert_int_eq(qcow2_refcount_add(q, (q->l1[0] & QCOW2_OFFSET_MASK) >> q->cluster_bits, -1),
                     0);
    ck_assert_int_eq(qcow2_flush(q), 0);
    qcow2_close(q);
    ck_assert_int_eq(check(), 2);
    free(shadow);
}
END_TEST

static _Noreturn void work_until_killed(void)
{
    struct disk_source source = {.path = "image", .format = BLOCK_FORMAT_QCOW2};

    for (unsigned i = 0;; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%u", i % 3 + 100);
        (void)disk_snapshot_create("image", name, NULL);
        (void)disk_snapshot_apply("image", i % 2 ? "first" : name, NULL);
        (void)disk_resize(&source, (i % 2 ? 5 : 4) << 20, true, NULL);
        (void)disk_snapshot_remove("image", name, NULL);
    }
}

/* All states hold the same data, so whatever the moment of the kill, it must be there. */
START_TEST(killed_at_any_moment)
{
    uint8_t *shadow = calloc(1, 8 << 20), *data = malloc(3 << 20);
    uint64_t state = 77 + (uint64_t)time(NULL);

    TEST_NEEDS(has_qemu, "qemu-img");
    ck_assert_int_eq(run("qemu-img create -f qcow2 -o cluster_size=512 image 4M"), 0);
    put(shadow, 0, 3 << 20, 5);
    OK(disk_snapshot_create("image", "first", &err));
    for (unsigned round = 0; round < 25; round++) {
        struct disk_checked checked;
        struct disk_file *file;
        pid_t pid = fork();

        if (pid == 0)
            work_until_killed();
        usleep((useconds_t)(next_random(&state) % 60000));
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        OK(disk_check("image", true, &checked, &err));
        ck_assert_msg(run("qemu-img check -f qcow2 image") == 0, "round %u", round);
        file = open_disk("image", BLOCK_FORMAT_QCOW2, true);
        ck_assert_int_eq(disk_file_read(file, 0, data, 3 << 20), 0);
        ck_assert(!memcmp(data, shadow, 3 << 20));
        disk_file_close(file);
    }
    free(shadow);
    free(data);
}
END_TEST

START_TEST(a_disk_in_use_is_left_alone)
{
    struct disk_file *file;

    OK(disk_create("image", BLOCK_FORMAT_QCOW2, &(struct block_create){.bytes = 1 << 20}, &err));
    file = open_disk("image", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(disk_snapshot_create("image", "a", &err), -EBUSY);
    disk_file_close(file);
    ck_assert_int_eq(
        disk_create("image", BLOCK_FORMAT_RAW, &(struct block_create){.bytes = 512}, &err),
        -EEXIST);
    ck_assert_int_eq(disk_create("x", BLOCK_FORMAT_RAW, &(struct block_create){.bytes = 5}, &err),
                     -EINVAL);
}
END_TEST

TEST_MAIN("disk_file", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_loop_test(tcase, random_snapshots, 0, (int)ARRAY_LEN(shapes));
          tcase_add_test(tcase, snapshots_of_both);
          tcase_add_test(tcase, narrow_counters_are_an_error); tcase_add_test(tcase, sizes);
          tcase_add_test(tcase, a_backing_file_does_not_show_through);
          tcase_add_loop_test(tcase, conversions, 0, 4); tcase_add_test(tcase, leaks_and_errors);
          tcase_add_test(tcase, killed_at_any_moment);
          tcase_add_test(tcase, a_disk_in_use_is_left_alone);)
