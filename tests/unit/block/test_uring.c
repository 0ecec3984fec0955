/* SPDX-License-Identifier: Apache-2.0 */
#include "block/uring.h"

#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void rest(void *context, struct block_request *request)
{
    (void)context;
    (void)request;
}

/* What the ring would otherwise do behind the back of a system call filter. */
START_TEST(the_ring_opens_no_files)
{
    CLEANUP(loop_freep) struct loop *loop = NULL;
    struct uring uring = {0};
    struct io_uring_sqe *sqe;
    struct io_uring_cqe *cqe;
    struct err err = ERR_INIT;
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    int r;

    ck_assert_int_eq(loop_new(&loop, &err), 0);
    r = uring_init(&uring, fd, rest, NULL, loop, &err);
    TEST_NEEDS(r == 0, "the kernel lets us use no io_uring");
    sqe = io_uring_get_sqe(&uring.ring);
    if (!sqe)
        ck_abort_msg("a new ring has no room");
    io_uring_prep_openat(sqe, AT_FDCWD, "/dev/null", O_RDONLY, 0);
    ck_assert_int_eq(io_uring_submit(&uring.ring), 1);
    ck_assert_int_eq(io_uring_wait_cqe(&uring.ring, &cqe), 0);
    ck_assert_int_eq(cqe->res, -EACCES);
    io_uring_cqe_seen(&uring.ring, cqe);
    uring_done(&uring);
    close(fd);
}
END_TEST

TEST_MAIN("uring", tcase_add_test(tcase, the_ring_opens_no_files))
