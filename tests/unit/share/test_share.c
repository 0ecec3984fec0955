/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that speaks FUSE to a share: what it may, what it must not get, tables that are full, and
 * random operations against the same ones made on a directory beside it.
 */
#include "share/share.h"

#include "base/util.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char place[64], shared[80];
static struct share *share;
static union {
    uint8_t bytes[160 << 10];
    struct fuse_out_header header;
} reply;
static const void *const payload = reply.bytes + sizeof(struct fuse_out_header);

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_place(void)
{
    if (place[0])
        nftw(place, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* One request in two pieces, the reply in three: nothing may depend on where segments end. */
static int call(uint32_t opcode, uint64_t node, const void *data, size_t length)
{
    struct fuse_in_header header = {
        .len = (uint32_t)(sizeof(header) + length), .opcode = opcode, .unique = 7, .nodeid = node};
    uint8_t out[sizeof(header) + (80 << 10)];
    struct iovec out_iov[] = {{out, 50}, {out + 50, 0}};
    struct iovec in_iov[] = {
        {reply.bytes, 9}, {reply.bytes + 9, 1000}, {reply.bytes + 1009, sizeof(reply) - 1009}};
    struct share_request request = {.out = out_iov, .nr_out = 2, .in = in_iov, .nr_in = 3};
    uint32_t n;

    ck_assert_uint_le(length, 80 << 10);
    memcpy(out, &header, sizeof(header));
    if (length)
        memcpy(out + sizeof(header), data, length);
    out_iov[0].iov_len = MIN(sizeof(header) + length, (size_t)50);
    out_iov[1].iov_len = sizeof(header) + length - out_iov[0].iov_len;
    n = share_handle(share, &request);
    if (!n)
        return 1;
    ck_assert_uint_eq(n, reply.header.len);
    ck_assert_uint_ge(request.touched, n);
    ck_assert_uint_eq(reply.header.unique, 7);
    return reply.header.error;
}

/* A structure and up to two names behind it. */
static int call_names(uint32_t opcode, uint64_t node, const void *data, size_t length,
                      const char *one, const char *two)
{
    uint8_t bytes[8192];
    size_t at = length;

    if (length)
        memcpy(bytes, data, length);
    memcpy(bytes + at, one, strlen(one) + 1);
    at += strlen(one) + 1;
    if (two) {
        memcpy(bytes + at, two, strlen(two) + 1);
        at += strlen(two) + 1;
    }
    return call(opcode, node, bytes, at);
}

static int lookup(uint64_t parent, const char *name, uint64_t *ret)
{
    int r = call_names(FUSE_LOOKUP, parent, NULL, 0, name, NULL);

    if (r == 0 && ret)
        *ret = ((const struct fuse_entry_out *)payload)->nodeid;
    return r;
}

static void start(const struct share_member *members, unsigned nr, unsigned fds_max)
{
    struct fuse_init_in init = {.major = 7, .minor = 36, .flags = ~0u & ~(1u << 30)};
    struct share_config config = {
        .members = members, .nr_members = nr, .fds_max = fds_max, .owners = geteuid() == 0};
    struct err err = ERR_INIT;

    ck_assert_int_eq(share_enter_proc(&err), 0);
    ck_assert_msg(share_new(&config, &share, &err) == 0, "%s", err.message);
    ck_assert_int_eq(call(FUSE_GETATTR, 1, NULL, 0), -EIO); /* before INIT nothing is served */
    ck_assert_int_eq(call(FUSE_INIT, 0, &init, sizeof(init)), 0);
}

static int open_path(const char *path)
{
    int fd = open(path, O_PATH | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    return fd;
}

static void make_place(void)
{
    strcpy(place, "/tmp/lodge-share-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(place));
    atexit(remove_place);
    snprintf(shared, sizeof(shared), "%s/shared", place);
    ck_assert_int_eq(mkdir(shared, 0755), 0);
    umask(0);
}

static void start_one(bool read_only, unsigned fds_max)
{
    struct share_member member = {.read_only = read_only};

    make_place();
    member.fd = open_path(shared);
    start(&member, 1, fds_max);
}

static void write_file(const char *directory, const char *name, const char *text)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    ck_assert_ptr_nonnull(file = fopen(path, "w"));
    fputs(text, file);
    fclose(file);
}

START_TEST(no_name_leads_out)
{
    static const char *const names[] = {"..", ".", "", "a/b", "/", "/etc", "../secret", "link/x"};
    struct fuse_open_in open_in = {.flags = O_RDONLY};
    struct fuse_mkdir_in mkdir_in = {.mode = 0755};
    struct fuse_rename_in rename_in = {.newdir = 1};
    uint64_t link, directory;
    char path[256];

    start_one(false, 0);
    write_file(place, "secret", "secret");
    snprintf(path, sizeof(path), "%s/link", shared);
    ck_assert_int_eq(symlink("..", path), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        ck_assert_int_lt(lookup(1, names[i], NULL), 0);
        ck_assert_int_lt(call_names(FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), names[i], NULL), 0);
        ck_assert_int_lt(call_names(FUSE_UNLINK, 1, NULL, 0, names[i], NULL), 0);
        ck_assert_int_lt(call_names(FUSE_SYMLINK, 1, NULL, 0, names[i], "x"), 0);
        ck_assert_int_lt(
            call_names(FUSE_RENAME, 1, &rename_in, sizeof(rename_in), "link", names[i]), 0);
    }
    /* The link is a link: never what it points to. */
    ck_assert_int_eq(lookup(1, "link", &link), 0);
    ck_assert(S_ISLNK(((const struct fuse_entry_out *)payload)->attr.mode));
    ck_assert_int_lt(lookup(link, "secret", NULL), 0);
    ck_assert_int_lt(call(FUSE_OPEN, link, &open_in, sizeof(open_in)), 0);
    ck_assert_int_lt(call(FUSE_OPENDIR, link, &open_in, sizeof(open_in)), 0);
    ck_assert_int_eq(call(FUSE_READLINK, link, NULL, 0), 0);
    ck_assert(!memcmp(payload, "..", 2));
    /* A directory that the host exchanged for a link is not followed either. */
    ck_assert_int_eq(call_names(FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), "d", NULL), 0);
    directory = ((const struct fuse_entry_out *)payload)->nodeid;
    snprintf(path, sizeof(path), "%s/d", shared);
    ck_assert(rmdir(path) == 0 && symlink("..", path) == 0);
    ck_assert_int_lt(lookup(directory, "secret", NULL), 0);
    share_free(share);
}
END_TEST

START_TEST(no_device_and_no_foreign_attribute)
{
    struct fuse_mknod_in node = {.mode = S_IFCHR | 0666, .rdev = 0x103};
    struct fuse_open_in open_in = {.flags = O_RDWR};
    struct fuse_setxattr_in xattr = {.size = 1};
    uint64_t fifo;

    start_one(false, 0);
    ck_assert_int_eq(call_names(FUSE_MKNOD, 1, &node, sizeof(node), "null", NULL), -EPERM);
    node.mode = S_IFBLK | 0666;
    ck_assert_int_eq(call_names(FUSE_MKNOD, 1, &node, sizeof(node), "disk", NULL), -EPERM);
    node.mode = S_IFIFO | 0666;
    ck_assert_int_eq(call_names(FUSE_MKNOD, 1, &node, sizeof(node), "fifo", NULL), 0);
    fifo = ((const struct fuse_entry_out *)payload)->nodeid;
    ck_assert_int_eq(call(FUSE_OPEN, fifo, &open_in, sizeof(open_in)), -ENXIO);
    ck_assert_int_eq(call_names(FUSE_SETXATTR, 1, &xattr, 8, "trusted.a", "v"), -EOPNOTSUPP);
    ck_assert_int_eq(call_names(FUSE_SETXATTR, 1, &xattr, 8, "security.selinux", "v"), -EOPNOTSUPP);
    /* A value longer than the request. */
    xattr.size = 60000;
    ck_assert_int_eq(call_names(FUSE_SETXATTR, 1, &xattr, 8, "user.a", "v"), -EINVAL);
    share_free(share);
}
END_TEST

START_TEST(read_only_is_read_only)
{
    struct fuse_mkdir_in mkdir_in = {.mode = 0755};
    struct fuse_open_in open_in = {.flags = O_RDWR};
    struct fuse_setattr_in setattr = {.valid = FATTR_SIZE};
    struct fuse_create_in create = {.flags = O_RDWR, .mode = 0644};
    uint64_t file;

    make_place();
    write_file(shared, "f", "text");
    start(&(struct share_member){.fd = open_path(shared), .read_only = true}, 1, 0);
    ck_assert_int_eq(lookup(1, "f", &file), 0);
    ck_assert_int_eq(call(FUSE_OPEN, file, &open_in, sizeof(open_in)), -EROFS);
    open_in.flags = O_RDONLY | O_TRUNC;
    ck_assert_int_eq(call(FUSE_OPEN, file, &open_in, sizeof(open_in)), 0);
    ck_assert_int_eq(call(FUSE_SETATTR, file, &setattr, sizeof(setattr)), -EROFS);
    ck_assert_int_eq(call_names(FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), "d", NULL), -EROFS);
    ck_assert_int_eq(call_names(FUSE_CREATE, 1, &create, sizeof(create), "g", NULL), -EROFS);
    ck_assert_int_eq(call_names(FUSE_UNLINK, 1, NULL, 0, "f", NULL), -EROFS);
    ck_assert_int_eq(call(FUSE_GETATTR, file, NULL, 0), 0);
    ck_assert_uint_eq(((const struct fuse_attr_out *)payload)->attr.size, 4);
    share_free(share);
}
END_TEST

START_TEST(members_are_apart)
{
    struct share_member members[] = {
        {.name = "rw"}, {.name = "ro", .read_only = true}, {.name = "file"}};
    struct fuse_link_in link = {0};
    struct fuse_mkdir_in mkdir_in = {.mode = 0755};
    uint64_t rw, ro, file;
    char path[128];

    make_place();
    write_file(shared, "f", "text");
    snprintf(path, sizeof(path), "%s/f", shared);
    members[0].fd = open_path(shared);
    members[1].fd = open_path(shared);
    members[2].fd = open_path(path);
    start(members, ARRAY_LEN(members), 0);
    ck_assert_int_eq(call_names(FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), "d", NULL), -EROFS);
    ck_assert_int_eq(lookup(1, "rw", &rw), 0);
    ck_assert_int_eq(lookup(1, "ro", &ro), 0);
    ck_assert_int_eq(lookup(1, "file", &file), 0);
    ck_assert_int_eq(lookup(1, "other", NULL), -ENOENT);
    ck_assert(rw != ro);
    ck_assert_int_eq(call_names(FUSE_MKDIR, rw, &mkdir_in, sizeof(mkdir_in), "d", NULL), 0);
    ck_assert_int_eq(call_names(FUSE_MKDIR, ro, &mkdir_in, sizeof(mkdir_in), "e", NULL), -EROFS);
    /* The same file by the read-only way stays read-only. */
    ck_assert_int_eq(lookup(ro, "f", &link.oldnodeid), 0);
    ck_assert_int_eq(call_names(FUSE_LINK, rw, &link, sizeof(link), "g", NULL), -EXDEV);
    share_free(share);
}
END_TEST

START_TEST(malformed_requests)
{
    uint8_t junk[256];

    start_one(false, 0);
    memset(junk, 0xff, sizeof(junk));
    for (uint32_t opcode = 0; opcode < 60; opcode++)
        for (size_t length = 0; length < sizeof(junk); length += 7) {
            if (opcode == FUSE_INIT || opcode == FUSE_DESTROY)
                continue;
            call(opcode, 1, junk, length);
            call(opcode, UINT64_MAX, junk, length);
            call(opcode, UINT64_C(1) << 32 | 2, junk, length);
        }
    ck_assert_int_eq(call(FUSE_GETATTR, 1, NULL, 0), 0);
    share_free(share);
}
END_TEST

START_TEST(descriptors_are_few_and_come_back)
{
    enum { FILES = 300 };
    struct share_figures figures;
    uint64_t nodes[FILES];
    char name[32], path[128];

    start_one(false, 16);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        write_file(shared, name, name);
        ck_assert_int_eq(lookup(1, name, &nodes[i]), 0);
    }
    share_figures(share, &figures);
    ck_assert_uint_eq(figures.nodes, FILES + 1);
    ck_assert_uint_le(figures.fds, 17);
    for (int i = 0; i < FILES; i++) {
        ck_assert_int_eq(call(FUSE_GETATTR, nodes[i], NULL, 0), 0);
        ck_assert_uint_eq(((const struct fuse_attr_out *)payload)->attr.size, i < 10    ? 2
                                                                              : i < 100 ? 3
                                                                                        : 4);
    }
    /* Another file under the name of a known one is not that one. */
    snprintf(path, sizeof(path), "%s/f0", shared);
    ck_assert_int_eq(unlink(path), 0);
    write_file(shared, "keep-the-inode-busy", "");
    write_file(shared, "f0", "new contents");
    ck_assert_int_eq(call(FUSE_GETATTR, nodes[0], NULL, 0), -ESTALE);
    for (int i = 0; i < FILES; i++)
        call(FUSE_FORGET, nodes[i], &(struct fuse_forget_in){1}, sizeof(struct fuse_forget_in));
    share_figures(share, &figures);
    ck_assert_uint_eq(figures.nodes, 1);
    ck_assert_uint_eq(figures.fds, 0);
    ck_assert_int_eq(call(FUSE_GETATTR, nodes[1], NULL, 0), -ESTALE);
    share_free(share);
}
END_TEST

/* The same random reads, writes, truncations and holes on a file by the share and on a model. */
START_TEST(contents_follow_a_model)
{
    enum { BYTES = 60000, STEPS = 4000 };
    static uint8_t model[BYTES], data[sizeof(struct fuse_write_in) + 8192];
    struct fuse_create_in create = {.flags = O_RDWR, .mode = 0644};
    size_t size = 0;
    uint64_t node, handle;

    start_one(false, 0);
    ck_assert_int_eq(call_names(FUSE_CREATE, 1, &create, sizeof(create), "f", NULL), 0);
    node = ((const struct fuse_entry_out *)payload)->nodeid;
    handle = ((const struct fuse_open_out *)(const void *)((const uint8_t *)payload +
                                                           sizeof(struct fuse_entry_out)))
                 ->fh;
    srandom(1);
    for (int i = 0; i < STEPS; i++) {
        size_t at = (size_t)random() % (BYTES - 8192), n = (size_t)random() % 8192;

        if (random() % 4 == 0) {
            struct fuse_read_in in = {.fh = handle, .offset = at, .size = (uint32_t)n};
            size_t expected = at < size ? MIN(n, size - at) : 0;

            ck_assert_int_eq(call(FUSE_READ, node, &in, sizeof(in)), 0);
            ck_assert_uint_eq(reply.header.len - sizeof(reply.header), expected);
            ck_assert(!memcmp(payload, model + at, expected));
        } else if (random() % 8 == 0) {
            struct fuse_setattr_in in = {.valid = FATTR_SIZE | FATTR_FH, .fh = handle, .size = at};

            ck_assert_int_eq(call(FUSE_SETATTR, node, &in, sizeof(in)), 0);
            if (at < size)
                memset(model + at, 0, size - at);
            size = at;
        } else if (random() % 8 == 0) {
            struct fuse_fallocate_in in = {.fh = handle, .offset = at, .length = n + 1, .mode = 3};
            int r = call(FUSE_FALLOCATE, node, &in, sizeof(in));

            if (r == -EOPNOTSUPP)
                continue;
            ck_assert_int_eq(r, 0);
            memset(model + at, 0, n + 1);
        } else {
            struct fuse_write_in in = {.fh = handle, .offset = at, .size = (uint32_t)n};

            for (size_t j = 0; j < n; j++)
                data[sizeof(in) + j] = model[at + j] = (uint8_t)random();
            memcpy(data, &in, sizeof(in));
            ck_assert_int_eq(call(FUSE_WRITE, node, data, sizeof(in) + n), 0);
            ck_assert_uint_eq(((const struct fuse_write_out *)payload)->size, n);
            if (n)
                size = MAX(size, at + n);
        }
    }
    share_free(share);
}
END_TEST

START_TEST(listings_are_whole)
{
    struct fuse_read_in in = {.size = 700};
    unsigned seen = 0;
    char name[64];
    bool more = true;

    start_one(false, 0);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "a-rather-long-name-%d", i);
        write_file(shared, name, "");
    }
    ck_assert_int_eq(call(FUSE_OPENDIR, 1, &(struct fuse_open_in){0}, sizeof(struct fuse_open_in)),
                     0);
    in.fh = ((const struct fuse_open_out *)payload)->fh;
    while (more) {
        const uint8_t *at = payload;

        ck_assert_int_eq(call(FUSE_READDIRPLUS, 1, &in, sizeof(in)), 0);
        more = false;
        while (at < reply.bytes + reply.header.len) {
            const struct fuse_direntplus *entry = (const void *)at;

            seen += entry->dirent.namelen > 2;
            ck_assert(entry->dirent.namelen <= 2 || entry->entry_out.nodeid);
            in.offset = entry->dirent.off;
            at += FUSE_DIRENTPLUS_SIZE(entry);
            more = true;
        }
    }
    ck_assert_uint_eq(seen, 200);
    share_free(share);
}
END_TEST

TEST_MAIN("share", tcase_add_test(tcase, no_name_leads_out);
          tcase_add_test(tcase, no_device_and_no_foreign_attribute);
          tcase_add_test(tcase, read_only_is_read_only); tcase_add_test(tcase, members_are_apart);
          tcase_add_test(tcase, malformed_requests);
          tcase_add_test(tcase, descriptors_are_few_and_come_back);
          tcase_add_test(tcase, contents_follow_a_model);
          tcase_add_test(tcase, listings_are_whole);)
