/* SPDX-License-Identifier: Apache-2.0 */
/* Trees through the stream and back; hostile links, names and archives; tar(1) as the judge. */
#include "copy/copy.h"
#include "copy/tar.h"

#include "base/buf.h"
#include "base/file.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct pipe {
    struct buf data;
    size_t at, piece; /* bytes that one read gives at most */
};

static int put(const void *data, size_t length, void *context)
{
    return buf_append(&((struct pipe *)context)->data, data, length);
}

static ssize_t take(void *data, size_t most, void *context)
{
    struct pipe *p = context;
    size_t part = p->data.length - p->at;

    if (part > most)
        part = most;
    if (p->piece && part > p->piece)
        part = p->piece;
    memcpy(data, p->data.data + p->at, part);
    p->at += part;
    return (ssize_t)part;
}

static char world[64];
static int root;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void set_up(void)
{
    strcpy(world, "/tmp/lodge-copy-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(world));
    ck_assert_int_eq(chdir(world), 0);
    ck_assert_int_eq(mkdir("root", 0755), 0);
    ck_assert_int_ge(root = open("root", O_PATH | O_DIRECTORY), 0);
}

static void tear_down(void)
{
    close(root);
    ck_assert_int_eq(chdir("/"), 0);
    nftw(world, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(file_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

static const char *text_of(const char *path)
{
    static char text[4096];
    int fd = open(path, O_RDONLY | O_NOFOLLOW);
    ssize_t n;

    if (fd < 0)
        return NULL;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static int out(struct pipe *p, const char *path, struct err *err)
{
    buf_init(&p->data, 64 << 20);
    return copy_out(root, path, put, p, NULL, err);
}

static int in(struct pipe *p, const char *path, struct copy_sum *sum, struct err *err)
{
    const struct copy_in_options options = {0};

    p->at = 0;
    return copy_in(root, path, &options, take, p, sum, err);
}

/* A tree of all that is copied, with names of every length around what a header holds. */
static void make_tree(void)
{
    char path[600];

    ck_assert_int_eq(mkdir("root/t", 0755), 0);
    ck_assert_int_eq(mkdir("root/t/d", 0750), 0);
    write_file("root/t/empty", "");
    write_file("root/t/d/file", "contents\n");
    ck_assert_int_eq(symlink("../../../../etc/passwd", "root/t/link"), 0);
    ck_assert_int_eq(mkfifo("root/t/fifo", 0600), 0);
    for (int length = 90; length <= 250; length += 1) {
        snprintf(path, sizeof(path), "root/t/%0*d", length, length);
        write_file(path, path);
    }
    memset(path, 'l', sizeof(path));
    path[300] = '\0';
    ck_assert_int_eq(symlink(path, "root/t/long-link"), 0);
}

START_TEST(a_tree_comes_back)
{
    struct err err = ERR_INIT;
    struct copy_sum sum;
    struct pipe p = {.piece = 1 + (size_t)_i * 700};

    make_tree();
    ck_assert_int_eq(out(&p, "/t", &err), 0);
    ck_assert_uint_eq(p.data.length % TAR_BLOCK, 0);
    ck_assert_msg(in(&p, "/new", &sum, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(sum.files, 1 + 5 + 161);
    ck_assert_int_eq(unlink("root/t/fifo"), 0);
    ck_assert_int_eq(system("diff -r --no-dereference root/t root/new"), 0);
    /* Once more, into a directory that is there: below it, under its own name. */
    ck_assert_int_eq(in(&p, "/new", &sum, &err), 0);
    ck_assert_int_eq(system("diff -r --no-dereference root/t root/new/t"), 0);
    /* And another program's opinion. */
    write_file("archive", "");
    ck_assert_int_eq(file_replace(AT_FDCWD, "archive", p.data.data, p.data.length, 0600, &err), 0);
    ck_assert_int_eq(system("mkdir judge && tar -C judge -xf archive && diff -r --no-dereference "
                            "root/t judge/t && tar --format=gnu -C root -cf gnu t && tar "
                            "--format=pax -C root -cf pax t"),
                     0);
    for (int i = 0; i < 2; i++) {
        struct pipe foreign = {.piece = 1000};

        buf_init(&foreign.data, 64 << 20);
        ck_assert_int_eq(file_load(AT_FDCWD, i ? "pax" : "gnu", &foreign.data, &err), 0);
        ck_assert_msg(in(&foreign, i ? "/pax" : "/gnu", &sum, &err) == 0, "%s", err.message);
        ck_assert_int_eq(system(i ? "diff -r --no-dereference root/t root/pax"
                                  : "diff -r --no-dereference root/t root/gnu"),
                         0);
        buf_done(&foreign.data);
    }
    buf_done(&p.data);
}
END_TEST

START_TEST(names_say_where)
{
    const struct {
        const char *from, *to, *there;
    } rows[] = {{"/f", "/g", "root/g"},       {"/f", "/d", "root/d/f"},
                {"f", "d/", "root/d/f"},      {"/d", "/e", "root/e/x"},
                {"/d/.", "/d2", "root/d2/x"}, {"/d/.", "/", "root/x"},
                {"/d/", "/d2", "root/d2/x"},  {"/l", "/m", "root/m"},
                {"/to-d/x", "/y", "root/y"},  {"/up/f", "/up/z", "root/z"}};

    write_file("root/f", "f");
    ck_assert_int_eq(mkdir("root/d", 0755), 0);
    write_file("root/d/x", "x");
    ck_assert_int_eq(symlink("f", "root/l"), 0);
    ck_assert_int_eq(symlink("d", "root/to-d"), 0);
    ck_assert_int_eq(symlink("../../..", "root/up"), 0); /* is the root itself */
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = ERR_INIT;
        struct pipe p = {0};
        struct stat st;

        ck_assert_msg(out(&p, rows[i].from, &err) == 0, "%s", err.message);
        ck_assert_msg(in(&p, rows[i].to, NULL, &err) == 0, "%s: %s", rows[i].to, err.message);
        ck_assert_msg(lstat(rows[i].there, &st) == 0, "%s", rows[i].there);
        buf_done(&p.data);
    }
}
END_TEST

START_TEST(what_cannot_be_is_said)
{
    struct err err = ERR_INIT;
    struct pipe p = {0}, d = {0};

    write_file("root/f", "f");
    ck_assert_int_eq(mkdir("root/d", 0755), 0);
    ck_assert_int_eq(mkdir("root/d/f", 0755), 0);
    ck_assert_int_eq(mkfifo("root/fifo", 0600), 0);
    ck_assert_int_eq(out(&p, "/nosuch", &err), -ENOENT);
    ck_assert_int_eq(out(&p, "/nosuch/x", &err), -ENOENT);
    ck_assert_int_eq(out(&p, "/f/x", &err), -ENOTDIR);
    ck_assert_int_eq(out(&p, "", &err), -ENOENT);
    ck_assert_int_eq(out(&p, "/fifo", &err), -EINVAL);
    buf_done(&p.data);
    ck_assert_int_eq(out(&p, "/f", &err), 0);
    ck_assert_int_eq(in(&p, "/nosuch/g", NULL, &err), -ENOENT);
    ck_assert_int_eq(in(&p, "/f/", NULL, &err), -ENOTDIR);
    ck_assert_int_eq(in(&p, "/d", NULL, &err), -EEXIST);
    ck_assert_int_eq(out(&d, "/d", &err), 0);
    ck_assert_int_eq(in(&d, "/f", NULL, &err), -EEXIST);
    ck_assert_str_eq(text_of("root/f"), "f");
    buf_done(&p.data);
    buf_done(&d.data);
}
END_TEST

static void add(struct pipe *p, char type, const char *path, const char *link, const char *text)
{
    struct tar_entry entry = {.type = (enum tar_type)type, .mode = 06755, .size = strlen(text)};

    snprintf(entry.path, sizeof(entry.path), "%s", path);
    snprintf(entry.link, sizeof(entry.link), "%s", link);
    ck_assert_int_eq(tar_header_write(&entry, put, p), 0);
    buf_append(&p->data, text, strlen(text));
    ck_assert_int_eq(tar_pad_write(strlen(text), put, p), 0);
}

/* Whatever an archive says, what is outside of the target stays as it is. */
START_TEST(hostile_archives)
{
    const struct {
        char type;
        const char *path, *link;
    } first[] = {
        {'2', "x", "/"}, {'2', "x", "../outside"},      {'2', "x", "."},           {'5', "x", ""},
        {'0', "x", ""},  {'1', "x", "../outside/kept"}, {'2', "x", "../../../.."}, {'3', "x", ""}};
    static const char *const second[] = {"x/outside/kept",
                                         "x/kept",
                                         "../outside/kept",
                                         "/../outside/kept",
                                         "x/../../outside/kept",
                                         "x",
                                         "x/",
                                         "./../outside/kept",
                                         "x/x/x/x"};

    ck_assert_int_eq(mkdir("outside", 0755), 0);
    write_file("outside/kept", "kept");
    ck_assert_int_eq(mkdir("root/target", 0755), 0);
    ck_assert_int_eq(mkdir("root/outside", 0755), 0);
    write_file("root/outside/kept", "kept");
    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++)
        for (size_t j = 0; j < sizeof(second) / sizeof(second[0]); j++) {
            struct err err = ERR_INIT;
            struct pipe p = {.piece = 97};

            buf_init(&p.data, 1 << 20);
            add(&p, first[i].type, first[i].path, first[i].link, "");
            add(&p, '0', second[j], "", "evil");
            tar_end_write(put, &p);
            in(&p, "/target", NULL, &err);
            ck_assert_str_eq(text_of("outside/kept"), "kept");
            ck_assert_str_eq(text_of("root/outside/kept"), "kept");
            buf_done(&p.data);
            ck_assert_int_eq(system("rm -rf root/target && mkdir root/target"), 0);
        }
}
END_TEST

START_TEST(set_id_bits_are_not_kept)
{
    struct err err = ERR_INIT;
    struct pipe p = {0};
    struct stat st;

    buf_init(&p.data, 1 << 20);
    add(&p, '0', "f", "", "x");
    add(&p, '5', "d", "", "");
    tar_end_write(put, &p);
    ck_assert_int_eq(in(&p, "/", NULL, &err), 0);
    ck_assert_int_eq(stat("root/f", &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0755);
    ck_assert_int_eq(stat("root/d", &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0755);
    ck_assert_uint_eq(st.st_uid, geteuid());
    buf_done(&p.data);
}
END_TEST

/* Every byte of a small archive changed, every length of it cut: it ends, inside. */
START_TEST(damaged_archives)
{
    struct err err = ERR_INIT;
    struct pipe whole = {0}, p = {0};
    char name[180];

    memset(name, 'n', sizeof(name));
    name[179] = '\0';
    buf_init(&whole.data, 1 << 20);
    add(&whole, '0', name, "", "text");
    add(&whole, '2', "l", "there", "");
    tar_end_write(put, &whole);
    for (size_t at = 0; at < whole.data.length; at++) {
        p.data = (struct buf){0};
        buf_init(&p.data, 1 << 20);
        buf_append(&p.data, whole.data.data, whole.data.length);
        p.data.data[at] = (char)(p.data.data[at] ^ (1 << at % 8));
        in(&p, "/", NULL, &err);
        p.data.length = at;
        in(&p, "/", NULL, &err);
        buf_done(&p.data);
    }
    ck_assert_int_eq(system("test \"$(ls)\" = root"), 0);
    buf_done(&whole.data);
}
END_TEST

TEST_MAIN("copy", tcase_add_checked_fixture(tcase, set_up, tear_down);
          tcase_add_loop_test(tcase, a_tree_comes_back, 0, 3);
          tcase_add_test(tcase, names_say_where); tcase_add_test(tcase, what_cannot_be_is_said);
          tcase_add_test(tcase, hostile_archives); tcase_add_test(tcase, set_id_bits_are_not_kept);
          tcase_add_test(tcase, damaged_archives))
