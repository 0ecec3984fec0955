/* SPDX-License-Identifier: Apache-2.0 */
/* Propagation of a mount namespace, from its root and from inside a chroot. */
#include "testing.h"

#include "base/mounts.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Whether any mount that this process can see is shared with others. */
static bool any_shared(void)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char line[4096];
    bool shared = false;

    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file))
        shared |= strstr(line, " shared:") != NULL;
    fclose(file);
    return shared;
}

static void own_namespace(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(mounts_set_propagation(MS_PRIVATE), 0); /* we may be in a chroot ourselves */
    ck_assert_int_eq(mount("test", "/mnt", "tmpfs", 0, NULL), 0);
    ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), 0);
}

/* A directory of a shared file system becomes our root: no mount point. */
static void enter_chroot(void)
{
    ck_assert_int_eq(mkdir("/mnt/root", 0755), 0);
    ck_assert_int_eq(mkdir("/mnt/root/proc", 0755), 0);
    ck_assert_int_eq(mkdir("/mnt/root/work", 0755), 0);
    ck_assert_int_eq(mount("proc", "/mnt/root/proc", "proc", 0, NULL), 0);
    ck_assert_int_eq(chroot("/mnt/root"), 0);
    ck_assert_int_eq(chdir("/work"), 0);
}

START_TEST(at_the_root)
{
    TEST_NEEDS(geteuid() == 0, "needs root");
    own_namespace();
    ck_assert(any_shared());
    ck_assert_int_eq(mounts_set_propagation(MS_PRIVATE), 0);
    ck_assert(!any_shared());
}
END_TEST

START_TEST(in_a_chroot)
{
    char directory[PATH_MAX];

    TEST_NEEDS(geteuid() == 0, "needs root");
    own_namespace();
    enter_chroot();
    ck_assert_int_lt(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    ck_assert_int_eq(errno, EINVAL);

    ck_assert_int_eq(mounts_set_propagation(MS_PRIVATE), 0);
    ck_assert(!any_shared());
    ck_assert_str_eq(getcwd(directory, sizeof(directory)), "/work");
    ck_assert_int_eq(access("/mnt", F_OK), -1); /* still in the chroot, not at the host's root */

    /* What containers do next. */
    ck_assert_int_eq(mkdir("/new", 0755), 0);
    ck_assert_int_eq(mount("test", "/new", "tmpfs", 0, NULL), 0);
    ck_assert_int_eq(mkdir("/new/proc", 0755), 0);
    ck_assert_int_eq(mount("proc", "/new/proc", "proc", 0, NULL), 0);
    ck_assert_int_eq(chdir("/new"), 0);
    ck_assert_int_eq(syscall(SYS_pivot_root, ".", "."), 0);
    ck_assert_int_eq(umount2(".", MNT_DETACH), 0);
    ck_assert_int_eq(access("/proc/self", F_OK), 0);
}
END_TEST

TEST_MAIN("mounts", tcase_add_test(tcase, at_the_root); tcase_add_test(tcase, in_a_chroot);)
