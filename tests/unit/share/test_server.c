/* SPDX-License-Identifier: Apache-2.0 */
/* The server's process over its socket: guest memory by address, and what is outside of it. */
#include "share/server.h"

#include "base/util.h"
#include "testing.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define GPA   UINT64_C(0x100000)
#define BYTES 65536

static uint8_t *memory;
static struct share_server *server;

static void start(const char *path)
{
    struct share_path_config paths[] = {{"", path, false}};
    int fd = memfd_create("guest", MFD_CLOEXEC);
    struct err err = ERR_INIT;

    ck_assert(fd >= 0 && ftruncate(fd, BYTES) == 0);
    memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    ck_assert_msg(share_server_start(paths, 1, true, &server, &err) == 0, "%s", err.message);
    ck_assert_int_eq(share_server_map(server, GPA, BYTES, fd, 0, &err), 0);
    close(fd);
}

/* 1, or -EPIPE */
static int wait_answer(struct share_answer *ret)
{
    struct pollfd fd = {.fd = share_server_fd(server), .events = POLLIN};
    int r;

    while ((r = share_server_receive(server, ret)) == 0)
        ck_assert_int_gt(poll(&fd, 1, 30000), 0);
    return r;
}

static int init(void)
{
    struct fuse_in_header header = {.opcode = FUSE_INIT, .unique = 1};
    struct fuse_init_in in = {.major = 7, .minor = 36};
    struct share_message message = {
        .slot = 5,
        .nr_out = 1,
        .nr_in = 1,
        .segments = {{GPA, sizeof(header) + sizeof(in), 0}, {GPA + 4096, 4096, 0}}};
    struct share_answer answer;

    memcpy(memory, &header, sizeof(header));
    memcpy(memory + sizeof(header), &in, sizeof(in));
    ck_assert_int_eq(share_server_send(server, &message), 0);
    ck_assert_int_eq(wait_answer(&answer), 1);
    ck_assert_uint_eq(answer.slot, 5);
    ck_assert_uint_eq(answer.length, 16 + sizeof(struct fuse_init_out));
    return ((struct fuse_out_header *)(void *)(memory + 4096))->error;
}

START_TEST(a_request_is_answered)
{
    start("/tmp");
    ck_assert_int_eq(init(), 0);
    share_server_free(server);
}
END_TEST

START_TEST(memory_that_is_not_the_guests_ends_it)
{
    struct share_message message = {
        .nr_out = 1, .nr_in = 1, .segments = {{GPA, 40, 0}, {GPA + BYTES - 8, 16, 0}}};
    struct share_answer answer;

    start("/tmp");
    ck_assert_int_eq(init(), 0);
    ck_assert_int_eq(share_server_send(server, &message), 0);
    ck_assert_int_eq(wait_answer(&answer), -EPIPE);
    ck_assert_int_eq(share_server_send(server, &message), -EPIPE);
    share_server_free(server);
}
END_TEST

START_TEST(what_cannot_be_shared)
{
    static const struct share_path_config wrong[] = {
        {"", "/no/such/place", false}, {"", "/etc/passwd", false}, {"a/b", "/tmp", false},
        {"..", "/tmp", false},         {"x", "/dev/null", false},
    };
    struct err err = ERR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_int_lt(share_server_start(&wrong[i], 1, false, &server, &err), 0);
}
END_TEST

TEST_MAIN("share_server", tcase_add_test(tcase, a_request_is_answered);
          tcase_add_test(tcase, memory_that_is_not_the_guests_ends_it);
          tcase_add_test(tcase, what_cannot_be_shared);)
