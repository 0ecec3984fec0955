/* SPDX-License-Identifier: Apache-2.0 */
/* What a program can do that was taken over by a hostile image, and what becomes of such images. */
#include "tool/tool.h"

#include "base/cleanup.h"
#include "base/clock.h"
#define TESTING_TIMEOUT 200
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

static char dir[64], tree[96], image[96], secret[96];

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void make(void)
{
    char path[128];

    strcpy(dir, "/tmp/lodge-tool-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(tree, sizeof(tree), "%s/tree", dir);
    snprintf(image, sizeof(image), "%s/image", dir);
    snprintf(secret, sizeof(secret), "%s/secret", dir);
    ck_assert_int_eq(mkdir(tree, 0755), 0);
    snprintf(path, sizeof(path), "%s/file", tree);
    put(path, "hello");
    put(image, "image");
    put(secret, "secret");
}

static void unmake(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -r '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static int run(const char *const *argv, const char *with_tree, unsigned limit_s, char *words,
               size_t size, struct err *err)
{
    CLEANUP(fd_closep) int fd = open(image, O_RDWR | O_CLOEXEC);
    const struct tool tool = {.argv = argv, .file = fd, .tree = with_tree, .limit_s = limit_s};

    ck_assert_int_ge(fd, 0);
    return tool_run(&tool, words, size, err);
}

/* In words: what the probe could do. */
static void probe(bool with_tree, const char *expected)
{
    const char *const argv[] = {PROBE,  "0", tool_file, with_tree ? tool_tree : "/tree",
                                secret, NULL};
    struct err err = ERR_INIT;
    char words[400];
    int status = run(argv, with_tree ? tree : NULL, 60, words, sizeof(words), &err);

    ck_assert_msg(status == 0, "%d %s %s", status, err.message, words);
    ck_assert_str_eq(words, expected);
}

START_TEST(only_what_it_is_for)
{
    TEST_NEEDS(geteuid() == 0, "needs root");
    probe(true, "image write tree thread");
    put(image, "image");
    probe(false, "image write thread");
}
END_TEST

static void give_tree(uid_t owner)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/file", tree);
    ck_assert(chmod(path, 0644) == 0 && chown(path, owner, owner) == 0);
    ck_assert(chown(tree, owner, owner) == 0);
}

static int tool_of_nobody(const char *const *argv, bool with_tree, bool ours, char *words,
                          size_t size, struct err *err)
{
    CLEANUP(fd_closep) int fd = open(image, O_RDWR | O_CLOEXEC);
    const struct tool tool = {.argv = argv,
                              .file = fd,
                              .tree = with_tree ? tree : NULL,
                              .tree_is_ours = ours,
                              .limit_s = 60};

    return fd < 0 ? -errno : tool_run(&tool, words, size, err);
}

/* Where neither user namespaces nor Landlock are to be had, what anybody may read is readable. */
static bool probe_as_nobody(bool with_tree, bool ours)
{
    const char *const argv[] = {PROBE,  "0", tool_file, with_tree ? tool_tree : "/tree",
                                secret, NULL};
    const char *confined = with_tree ? "image write tree thread" : "image write thread";
    const char *open_to_all = with_tree ? "image write tree thread PASSWD PROC"
                                        : "image write thread PASSWD PROC";
    bool landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 1;
    struct err err = ERR_INIT;
    char words[400];
    int status = tool_of_nobody(argv, with_tree, ours, words, sizeof(words), &err);

    fprintf(stderr, "tree %d ours %d: %d %s %s\n", with_tree, ours, status, err.message, words);
    return status == 0 && (!strcmp(words, confined) || (!landlock && !strcmp(words, open_to_all)));
}

/* The owner that debugfs(8) reports for the file of the tree. */
static bool file_belongs_to(unsigned owner)
{
    char command[200], line[200], wanted[32];
    bool found = false;
    FILE *out;

    snprintf(command, sizeof(command), "debugfs -R 'stat /file' '%s' 2>/dev/null", image);
    snprintf(wanted, sizeof(wanted), "User: %5u", owner);
    out = popen(command, "r");
    while (out && fgets(line, sizeof(line), out))
        found |= strstr(line, wanted) != NULL;
    return out && pclose(out) == 0 && found;
}

/* mke2fs reads the tree, also confined, and each file's owner is in the image what it was. */
static bool fill_as_nobody(bool ours)
{
    const char *const fill_it[] = {"mke2fs", "-q",      "-F",      "-t", "ext4",
                                   "-d",     tool_tree, tool_file, NULL};
    const char *const check[] = {"e2fsck", "-f", "-n", tool_file, NULL};
    struct err err = ERR_INIT;
    char words[400] = "";
    int status = truncate(image, 0) || truncate(image, 64 << 20) ? -errno : 0;

    if (status == 0)
        status = tool_of_nobody(fill_it, true, ours, words, sizeof(words), &err);
    if (status == 0)
        status = tool_of_nobody(check, !ours, ours, words, sizeof(words), &err);
    fprintf(stderr, "ours %d: %d %s %s\n", ours, status, err.message, words);
    return status == -ENOENT || (status == 0 && file_belongs_to(ours ? NOBODY : 0));
}

static int try_as_nobody(bool ours)
{
    if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
        setresuid(NOBODY, NOBODY, NOBODY) || prctl(PR_SET_DUMPABLE, 1))
        return 3;
    if (access(PROBE, X_OK))
        return 6;
    if (!probe_as_nobody(true, ours) ||
        (ours && (put(image, "image"), !probe_as_nobody(false, true))))
        return 4;
    return fill_as_nobody(ours) ? 0 : 5;
}

/* By who is not root, of a tree that is his and of one that is not (root's, open to all). */
START_TEST(without_rights)
{
    pid_t pid;
    int status;

    TEST_NEEDS(geteuid() == 0, "needs root, to be somebody else");
    ck_assert_int_eq(chown(image, NOBODY, NOBODY), 0);
    ck_assert_int_eq(chmod(dir, 0755), 0);
    give_tree(_i ? NOBODY : 0);
    if ((pid = fork()) == 0)
        _exit(try_as_nobody(_i));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    TEST_NEEDS(!WIFEXITED(status) || WEXITSTATUS(status) != 6, "the build is not for everybody");
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
}
END_TEST

START_TEST(it_ends)
{
    const char *const spin[] = {PROBE, "spin", NULL}, *const waits[] = {PROBE, "sleep", NULL};
    const char *const crash[] = {PROBE, "crash", NULL}, *const chatter[] = {PROBE, "chatter", NULL};
    const char *const three[] = {PROBE, "3", NULL}, *const none[] = {"no-such-program", NULL};
    struct err err = ERR_INIT;
    char words[40];

    ck_assert_int_eq(run(spin, NULL, 1, words, sizeof(words), &err), -ETIME);
    ck_assert_int_eq(run(waits, NULL, 1, words, sizeof(words), &err), -ETIME);
    ck_assert_int_eq(run(crash, NULL, 60, words, sizeof(words), &err), -EIO);
    ck_assert_int_eq(run(chatter, NULL, 60, words, sizeof(words), &err), 0);
    ck_assert_ptr_nonnull(strstr(words, "line 99999"));
    ck_assert_int_eq(run(three, NULL, 60, words, sizeof(words), &err), 3);
    ck_assert_int_eq(run(none, NULL, 60, words, sizeof(words), &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "e2fsprogs"));
}
END_TEST

static void truncate_image(off_t bytes)
{
    ck_assert_int_eq(truncate(image, 0), 0);
    ck_assert_int_eq(truncate(image, bytes), 0);
}

/* The real programs get along with the list; and each damaged image is mended or refused. */
START_TEST(file_systems)
{
    const char *const make_it[] = {"mke2fs", "-q", "-F", "-t", "ext4", tool_file, NULL};
    const char *const fill_it[] = {"mke2fs", "-q",      "-F",      "-t", "ext4",
                                   "-d",     tool_tree, tool_file, NULL};
    const char *const check[] = {"e2fsck", "-f", "-n", tool_file, NULL};
    const char *const mend[] = {"e2fsck", "-f", "-p", tool_file, NULL};
    struct err err = ERR_INIT;
    char words[400];
    int status;

    truncate_image(64 << 20);
    status = run(make_it, NULL, 60, words, sizeof(words), &err);
    TEST_NEEDS(status != -ENOENT, "needs e2fsprogs");
    ck_assert_msg(status == 0, "%d %s %s", status, err.message, words);
    ck_assert_int_eq(run(check, NULL, 60, words, sizeof(words), &err), 0);
    truncate_image(64 << 20);
    status = run(fill_it, tree, 60, words, sizeof(words), &err);
    ck_assert_msg(status == 0, "%d %s %s", status, err.message, words);
    srandom(5);
    for (unsigned i = 0; i < 24; i++) {
        int fd = open(image, O_RDWR);

        for (unsigned k = 0; k < 64; k++) {
            unsigned char byte = (unsigned char)random();

            ck_assert_int_eq(pwrite(fd, &byte, 1, random() % (i < 12 ? 4096 : 1 << 20)), 1);
        }
        close(fd);
        status = run(mend, NULL, 60, words, sizeof(words), &err);
        ck_assert_msg(status >= 0 && status <= 12, "%u: %d %s %s", i, status, err.message, words);
        if (status >= 4) {
            truncate_image(64 << 20);
            ck_assert_int_eq(run(fill_it, tree, 60, words, sizeof(words), &err), 0);
        }
    }
}
END_TEST

TEST_MAIN("tool", tcase_add_checked_fixture(tcase, make, unmake);
          tcase_add_test(tcase, only_what_it_is_for);
          tcase_add_loop_test(tcase, without_rights, 0, 2); tcase_add_test(tcase, it_ends);
          tcase_add_test(tcase, file_systems))
