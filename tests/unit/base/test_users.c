/* SPDX-License-Identifier: Apache-2.0 */
#include "base/users.h"

#include "base/util.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root_path[32];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void root_remove(void)
{
    nftw(root_path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static int root_make(const char *passwd, const char *group)
{
    int root, fd;

    strcpy(root_path, "/tmp/test_users.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root_path));
    root = open(root_path, O_PATH | O_DIRECTORY);
    ck_assert_int_eq(mkdirat(root, "etc", 0755), 0);
    if (passwd) {
        fd = openat(root, "etc/passwd", O_WRONLY | O_CREAT, 0644);
        ck_assert_int_eq(write(fd, passwd, strlen(passwd)), (ssize_t)strlen(passwd));
        close(fd);
    }
    if (group) {
        fd = openat(root, "etc/group", O_WRONLY | O_CREAT, 0644);
        ck_assert_int_eq(write(fd, group, strlen(group)), (ssize_t)strlen(group));
        close(fd);
    }
    return root;
}

static const char passwd_text[] = "root:x:0:0:root:/root:/bin/sh\n"
                                  "broken line\n"
                                  "huge:x:99999999999:1::/:\n"
                                  "web:x:33:34:Web:/srv:/bin/false\n";
static const char group_text[] = "root:x:0:\nwww:x:34:\nlog:x:40:root,web\nwebby:x:41:webmaster\n";

static const struct {
    const char *spec;
    uid_t uid;
    gid_t gid;
    size_t nr_groups;
    const char *home;
} cases[] = {
    {"", 0, 0, 1, "/root"},    {"root", 0, 0, 1, "/root"},     {"web", 33, 34, 1, "/srv"},
    {"33", 33, 34, 1, "/srv"}, {"web:log", 33, 40, 0, "/srv"}, {"web:7", 33, 7, 0, "/srv"},
    {"1234", 1234, 0, 0, "/"}, {"1234:www", 1234, 34, 0, "/"},
};

START_TEST(names_and_numbers)
{
    int root = root_make(passwd_text, group_text);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct user user;
        struct err err = ERR_INIT;

        ck_assert_msg(user_find(root, cases[i].spec, &user, &err) == 0, "%s: %s", cases[i].spec,
                      err.message);
        ck_assert_uint_eq(user.uid, cases[i].uid);
        ck_assert_uint_eq(user.gid, cases[i].gid);
        ck_assert_str_eq(user.home, cases[i].home);
        ck_assert_uint_eq(user.nr_groups, cases[i].nr_groups);
    }
    root_remove();
}
END_TEST

START_TEST(unknown_ones_are_named)
{
    static const char *const specs[] = {"nobody", "web:nogroup", "huge", "-1", "web master"};
    int root = root_make(passwd_text, group_text);

    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        struct user user;
        struct err err = ERR_INIT;

        ck_assert_msg(user_find(root, specs[i], &user, &err) == -ESRCH, "%s", specs[i]);
        ck_assert_ptr_nonnull(strstr(err.message, "the image has no"));
    }
    root_remove();
}
END_TEST

START_TEST(an_image_without_databases_has_root)
{
    struct user user;
    int root = root_make(NULL, NULL);

    ck_assert_int_eq(user_find(root, "", &user, NULL), 0);
    ck_assert_uint_eq(user.uid, 0);
    ck_assert_int_eq(user_find(root, "5:6", &user, NULL), 0);
    ck_assert_uint_eq(user.gid, 6);
    root_remove();
}
END_TEST

/* A link out of the image leads back into it: the host's users are not the image's. */
START_TEST(links_stay_inside)
{
    struct user user;
    int root = root_make(NULL, NULL);

    ck_assert_int_eq(symlinkat("/../../etc/passwd", root, "etc/passwd"), 0);
    ck_assert_int_lt(user_find(root, "daemon", &user, NULL), 0);
    unlinkat(root, "etc/passwd", 0);
    ck_assert_int_eq(symlinkat("../real", root, "etc/passwd"), 0);
    ck_assert_int_eq(symlinkat("/proc/self/root/etc/passwd", root, "real"), 0);
    ck_assert_int_lt(user_find(root, "daemon", &user, NULL), 0);
    root_remove();
}
END_TEST

START_TEST(what_is_no_file_is_refused)
{
    struct user user;
    int root = root_make(NULL, NULL);

    ck_assert_int_eq(mkfifoat(root, "etc/passwd", 0644), 0);
    ck_assert_int_eq(user_find(root, "", &user, NULL), -EINVAL);
    root_remove();
}
END_TEST

TEST_MAIN("users", tcase_add_test(tcase, names_and_numbers);
          tcase_add_test(tcase, unknown_ones_are_named);
          tcase_add_test(tcase, an_image_without_databases_has_root);
          tcase_add_test(tcase, links_stay_inside);
          tcase_add_test(tcase, what_is_no_file_is_refused))
