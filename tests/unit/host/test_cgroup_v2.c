/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Version 2 of cgroups. What is written and read is held to a directory that looks like a version 2
 * tree; what the kernel does with it to the real version 2 hierarchy of a hybrid host, as far as
 * that has controllers: pressure, counters, freezing, moving.
 */
#include "host/cgroup.h"
#include "testing.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/util.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define UNIFIED "/sys/fs/cgroup/unified"

struct fake {
    char root[64];
    struct host_cgroup *cgroup;
};

static void put(const struct fake *fake, const char *file, const char *text)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", fake->root, file);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(file_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

/* A plain file keeps what a longer write left behind the shorter one: each is emptied first. */
static void expect(const struct fake *fake, const char *file, const char *text)
{
    char path[256], got[256] = "";
    int fd;

    snprintf(path, sizeof(path), "%s/lodge/a/%s", fake->root, file);
    fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ge(read(fd, got, sizeof(got) - 1), 0);
    ck_assert_str_eq(got, text);
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    close(fd);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void fake_make(struct fake *fake)
{
    static const char *const files[] = {"cpu.weight",   "cpu.max",       "memory.high",
                                        "memory.max",   "cpuset.cpus",   "io.weight",
                                        "cgroup.procs", "memory.reclaim"};
    struct err err = ERR_INIT;
    char path[128];

    snprintf(fake->root, sizeof(fake->root), "/tmp/lodge-v2-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(fake->root));
    put(fake, "cgroup.controllers", "cpuset cpu io memory pids\n");
    put(fake, "cgroup.subtree_control", "");
    ck_assert_msg(host_cgroup_make_at(fake->root, "/lodge/a", &fake->cgroup, &err) == 0, "%s",
                  err.message);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof(path), "lodge/a/%s", files[i]);
        put(fake, path, "");
    }
}

static void fake_remove(struct fake *fake)
{
    host_cgroup_close(fake->cgroup);
    nftw(fake->root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

START_TEST(what_is_written)
{
    struct allocation_cgroup cpu = {
        .v2_weight = 250, .v1_shares = 2560, .quota_us = 30000, .period_us = 100000};
    struct err err = ERR_INIT;
    struct fake fake;

    fake_make(&fake);
    ck_assert_msg(host_cgroup_set_cpu(fake.cgroup, &cpu, &err) == 0, "%s", err.message);
    expect(&fake, "cpu.weight", "250");
    expect(&fake, "cpu.max", "30000 100000");
    cpu.quota_us = -1;
    ck_assert_int_eq(host_cgroup_set_cpu(fake.cgroup, &cpu, &err), 0);
    expect(&fake, "cpu.max", "max 100000");
    ck_assert_int_eq(host_cgroup_set_memory_high(fake.cgroup, 64 * MIB, &err), 0);
    expect(&fake, "memory.high", "67108864");
    ck_assert_int_eq(host_cgroup_set_memory_limit(fake.cgroup, UINT64_MAX, &err), 0);
    expect(&fake, "memory.max", "max");
    ck_assert_int_eq(host_cgroup_set_cpuset(fake.cgroup, "0-1,3", &err), 0);
    expect(&fake, "cpuset.cpus", "0-1,3");
    ck_assert_int_eq(host_cgroup_set_io_weight(fake.cgroup, 300, &err), 0);
    expect(&fake, "io.weight", "2930"); /* as lodge-oci, crun and runc write 300 */
    ck_assert_int_eq(host_cgroup_attach(fake.cgroup, 4242, &err), 0);
    expect(&fake, "cgroup.procs", "4242");
    fake_remove(&fake);
}
END_TEST

START_TEST(what_is_read)
{
    struct host_figures figures;
    struct err err = ERR_INIT;
    struct fake fake;

    fake_make(&fake);
    ck_assert_int_lt(host_cgroup_read(fake.cgroup, &figures, &err), 0); /* nothing is counted */
    put(&fake, "lodge/a/cpu.stat",
        "usage_usec 1500000\nuser_usec 1\nnr_periods 40\nnr_throttled 7\nthrottled_usec 90\n");
    put(&fake, "lodge/a/memory.current", "104857600\n");
    put(&fake, "lodge/a/memory.stat",
        "anon 5\nfile 9\ninactive_file 4096\nactive_file 8192\npgscan 12\n");
    put(&fake, "lodge/a/io.stat",
        "8:0 rbytes=4096 wbytes=8192 rios=3 wios=4 dbytes=0 dios=0\n"
        "8:16 rbytes=100 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n");
    put(&fake, "lodge/a/cpu.pressure", "some avg10=12.50 avg60=1.00 avg300=0.10 total=77\n");
    put(&fake, "lodge/a/memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
    ck_assert_msg(host_cgroup_read(fake.cgroup, &figures, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(figures.cpu_ns, 1500000000);
    ck_assert_uint_eq(figures.periods, 40);
    ck_assert_uint_eq(figures.throttled, 7);
    ck_assert_uint_eq(figures.throttled_ns, 90000);
    ck_assert_uint_eq(figures.memory_bytes, 104857600);
    ck_assert_uint_eq(figures.file_bytes, 12288);
    ck_assert_uint_eq(figures.reclaimed, 12);
    ck_assert_uint_eq(figures.io_requests, 8);
    ck_assert_uint_eq(figures.io_bytes, 12388);
    ck_assert_double_eq(figures.cpu_pressure, 0.125);
    ck_assert_double_eq(figures.memory_pressure, 0);
    ck_assert(figures.io_pressure < 0);
    /* What is over the target is asked back; what is not, is not. */
    ck_assert_int_eq(host_cgroup_reclaim(fake.cgroup, 100000000, &err), 0);
    expect(&fake, "memory.reclaim", "4857600");
    ck_assert_int_eq(host_cgroup_reclaim(fake.cgroup, 200000000, &err), 0);
    expect(&fake, "memory.reclaim", "");
    fake_remove(&fake);
}
END_TEST

START_TEST(a_controller_that_is_missing)
{
    struct err err = ERR_INIT;
    struct fake fake;
    char path[128];

    fake_make(&fake);
    snprintf(path, sizeof(path), "%s/lodge/a/io.weight", fake.root);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(host_cgroup_set_io_weight(fake.cgroup, 300, &err), -EOPNOTSUPP);
    ck_assert_ptr_nonnull(strstr(err.message, "no io.weight"));
    ck_assert_int_eq(host_cgroup_check_io_weight(fake.cgroup, &err), -EOPNOTSUPP);
    put(&fake, "lodge/a/io.bfq.weight", "");
    ck_assert_int_eq(host_cgroup_check_io_weight(fake.cgroup, &err), 0);
    ck_assert_int_eq(host_cgroup_set_io_weight(fake.cgroup, 300, &err), 0);
    expect(&fake, "io.bfq.weight", "300");
    fake_remove(&fake);
}
END_TEST

static pid_t start_spinner(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (volatile unsigned n = 0;; n++)
            continue;
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

static uint64_t used_ns(const struct host_cgroup *cgroup)
{
    struct host_figures figures;
    struct err err = ERR_INIT;

    ck_assert_msg(host_cgroup_read(cgroup, &figures, &err) == 0, "%s", err.message);
    return figures.cpu_ns;
}

START_TEST(the_kernels_own)
{
    struct host_cgroup *first, *second;
    struct host_figures figures;
    struct err err = ERR_INIT;
    char a[64], b[64];
    uint64_t before;
    pid_t pid;

    snprintf(a, sizeof(a), "/lodge-test-v2-%d/a", (int)getpid());
    snprintf(b, sizeof(b), "/lodge-test-v2-%d/b", (int)getpid());
    TEST_NEEDS(geteuid() == 0 && access(UNIFIED "/cgroup.controllers", F_OK) == 0 &&
                   host_cgroup_make_at(UNIFIED, a, &first, &err) == 0,
               "root, and a version 2 hierarchy at " UNIFIED);
    ck_assert_msg(host_cgroup_make_at(UNIFIED, b, &second, &err) == 0, "%s", err.message);
    pid = start_spinner();
    ck_assert_msg(host_cgroup_attach(first, pid, &err) == 0, "%s", err.message);
    for (uint64_t end = clock_monotonic_ns() + 60 * NS_PER_S; used_ns(first) < 20 * NS_PER_MS;)
        ck_assert_uint_lt(clock_monotonic_ns(), end);
    ck_assert_int_eq(host_cgroup_read(first, &figures, &err), 0);
    ck_assert(figures.cpu_pressure >= 0 && figures.memory_pressure >= 0);
    ck_assert_msg(host_cgroup_set_frozen(first, true, &err) == 0, "%s", err.message);
    before = used_ns(first);
    usleep(20000);
    ck_assert_uint_eq(used_ns(first), before);
    ck_assert_int_eq(host_cgroup_set_frozen(first, false, &err), 0);
    ck_assert_msg(host_cgroup_move(first, second, &err) == 0, "%s", err.message);
    ck_assert_int_eq(host_cgroup_remove(first), 0); /* nothing is left in it */
    for (uint64_t end = clock_monotonic_ns() + 60 * NS_PER_S; used_ns(second) < NS_PER_MS;)
        ck_assert_uint_lt(clock_monotonic_ns(), end);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    host_cgroup_close(first);
    host_cgroup_close(second);
    *strrchr(a, '/') = '\0';
    ck_assert(host_cgroup_exists(a));
    ck_assert_int_eq(host_cgroup_remove_tree(a), 0);
    ck_assert(!host_cgroup_exists(a));
}
END_TEST

START_TEST(bad_trees)
{
    ck_assert_int_eq(host_cgroup_remove_tree("/"), -EINVAL);
    ck_assert_int_eq(host_cgroup_remove_tree("/a/../b"), -EINVAL);
    ck_assert_int_eq(host_cgroup_remove_tree("relative"), -EINVAL);
    ck_assert(!host_cgroup_exists("/lodge-test-is-not-there"));
}
END_TEST

TEST_MAIN("host_cgroup_v2", tcase_add_test(tcase, what_is_written);
          tcase_add_test(tcase, what_is_read); tcase_add_test(tcase, a_controller_that_is_missing);
          tcase_add_test(tcase, the_kernels_own); tcase_add_test(tcase, bad_trees);)
