/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile root: every way out of it that symlinks and ".." offer must end inside. */
#include "oci/inroot.h"

#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[] = "/tmp/lodge-inroot-XXXXXX";
static int top_fd, root_fd;

static void set_up(void)
{
    strcpy(strrchr(top, '-'), "-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    top_fd = open(top, O_RDONLY | O_DIRECTORY);
    ck_assert_int_eq(mkdirat(top_fd, "root", 0755), 0);
    ck_assert_int_eq(mkdirat(top_fd, "outside", 0755), 0);
    root_fd = openat(top_fd, "root", O_PATH | O_DIRECTORY);
    ck_assert_int_ge(root_fd, 0);
}

static void tear_down(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", top);
    ck_assert_int_eq(system(command), 0);
}

static int exists(const char *path)
{
    return faccessat(top_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

START_TEST(directories_are_made_inside)
{
    int fd = inroot_make_directory(root_fd, "/a/b//c/");

    ck_assert_int_ge(fd, 0);
    ck_assert(exists("root/a/b/c"));
    close(fd);
}
END_TEST

START_TEST(an_absolute_symlink_stays_inside)
{
    char target[64];
    int fd;

    snprintf(target, sizeof(target), "%s/outside", top);
    ck_assert_int_eq(symlinkat(target, root_fd, "link"), 0);
    /* Inside the root the link's target does not exist, and is not made by following it. */
    fd = inroot_make_directory(root_fd, "/link/evil");
    ck_assert_int_lt(fd, 0);
    ck_assert(!exists("outside/evil"));
}
END_TEST

START_TEST(dots_stay_inside)
{
    int fd = inroot_make_file(root_fd, "/../../../outside/file");

    if (fd >= 0)
        close(fd);
    ck_assert(!exists("outside/file"));
    ck_assert(exists("root/outside/file"));
}
END_TEST

START_TEST(a_relative_symlink_out_stays_inside)
{
    int fd;

    ck_assert_int_eq(symlinkat("../outside", root_fd, "up"), 0);
    ck_assert_int_eq(mkdirat(root_fd, "outside", 0755), 0);
    fd = inroot_make_file(root_fd, "up/file");
    ck_assert_int_ge(fd, 0);
    ck_assert(!exists("outside/file"));
    ck_assert(exists("root/outside/file"));
    close(fd);
}
END_TEST

START_TEST(a_dangling_symlink_is_not_followed_to_make_a_file)
{
    int fd;

    ck_assert_int_eq(symlinkat("/nowhere", root_fd, "dangling"), 0);
    fd = inroot_make_file(root_fd, "/dangling");
    ck_assert_int_lt(fd, 0);
    ck_assert(!exists("root/nowhere"));
}
END_TEST

START_TEST(magic_links_are_refused)
{
    int proc = open("/proc/self", O_PATH | O_DIRECTORY);

    ck_assert_int_ge(proc, 0);
    ck_assert_int_eq(inroot_open(proc, "root", O_PATH), -ELOOP);
}
END_TEST

TEST_MAIN("inroot", tcase_add_checked_fixture(tcase, set_up, tear_down);
          tcase_add_test(tcase, directories_are_made_inside);
          tcase_add_test(tcase, an_absolute_symlink_stays_inside);
          tcase_add_test(tcase, dots_stay_inside);
          tcase_add_test(tcase, a_relative_symlink_out_stays_inside);
          tcase_add_test(tcase, a_dangling_symlink_is_not_followed_to_make_a_file);
          tcase_add_test(tcase, magic_links_are_refused))
