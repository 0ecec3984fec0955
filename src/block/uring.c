/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The io_uring engine. The ring's own descriptor is readable while completions wait, so the loop
 * watches it directly. Requests beyond URING_ENTRIES wait in a backlog.
 */
#include "block/uring.h"

#include "base/util.h"

#include "block/block_driver.h"

#include <assert.h>
#include <errno.h>

static void append(struct block_request ***end, struct block_request *request)
{
    request->next_ = NULL;
    **end = request;
    *end = &request->next_;
}

static struct block_request *take(struct block_request **list, struct block_request ***end)
{
    struct block_request *request = *list;

    assert(request);
    *list = request->next_;
    if (!*list)
        *end = list;
    return request;
}

static void prepare(struct uring *uring, struct io_uring_sqe *sqe, struct block_request *request)
{
    uint64_t offset = request->sector << BLOCK_SECTOR_SHIFT;

    switch (request->op) {
    case BLOCK_READ:
        io_uring_prep_readv(sqe, uring->fd, request->iov, request->nr_iov, offset);
        break;
    case BLOCK_WRITE:
        io_uring_prep_writev(sqe, uring->fd, request->iov, request->nr_iov, offset);
        break;
    default:
        io_uring_prep_fsync(sqe, uring->fd, IORING_FSYNC_DATASYNC);
        break;
    }
    io_uring_sqe_set_data(sqe, request);
    append(&uring->prepared_end, request);
    uring->nr_in_flight++;
    uring->nr_prepared++;
}

static struct block_request *take_prepared(struct uring *uring)
{
    struct block_request *request = take(&uring->prepared, &uring->prepared_end);

    uring->nr_prepared--;
    return request;
}

/* What the kernel never took goes another way. */
static void give_up(struct uring *uring)
{
    struct block_request *request;

    uring->dead = true;
    while (uring->nr_prepared) {
        request = take_prepared(uring);
        uring->nr_in_flight--;
        uring->rest(uring->context, request);
    }
    while (uring->backlog) {
        request = take(&uring->backlog, &uring->backlog_end);
        uring->rest(uring->context, request);
    }
}

static void ended(struct uring *uring, struct block_request *request, int result)
{
    uint64_t bytes = request->nr_sectors << BLOCK_SECTOR_SHIFT;

    uring->nr_in_flight--;
    if (result == -EAGAIN || result == -EINTR) {
        uring->rest(uring->context, request);
    } else if (result < 0 || request->op == BLOCK_FLUSH) {
        block_complete(request, result < 0 ? result : 0);
    } else if ((uint64_t)result == bytes) {
        block_complete(request, 0);
    } else {
        block_request_advance(request, (uint64_t)result);
        uring->rest(uring->context, request);
    }
}

static void feed(struct uring *uring)
{
    while (uring->backlog && uring->nr_in_flight < URING_ENTRIES) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

        if (!sqe)
            break;
        prepare(uring, sqe, take(&uring->backlog, &uring->backlog_end));
    }
}

static void reap(struct uring *uring)
{
    struct io_uring_cqe *cqe;

    while (io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        struct block_request *request = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&uring->ring, cqe);
        ended(uring, request, result);
    }
}

static void push(struct uring *uring);

static void on_ready(void *context, uint32_t events)
{
    (void)events;
    reap(context);
    push(context);
}

/*
 * A ring executes operations that a system call filter never sees, opening files among them. So the
 * kernel is told, once and for all, that this one only reads, writes and syncs.
 */
static int restrict_operations(struct io_uring *ring)
{
    static const uint8_t operations[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC};
    struct io_uring_restriction restrictions[ARRAY_LEN(operations)] = {0};
    int r;

    for (size_t i = 0; i < ARRAY_LEN(operations); i++) {
        restrictions[i].opcode = IORING_RESTRICTION_SQE_OP;
        restrictions[i].sqe_op = operations[i];
    }
    r = io_uring_register_restrictions(ring, restrictions, ARRAY_LEN(operations));
    return r < 0 ? r : io_uring_enable_rings(ring);
}

int uring_init(struct uring *uring, int fd, uring_rest_fn *rest, void *context, struct loop *loop,
               struct err *err)
{
    int r = io_uring_queue_init(URING_ENTRIES, &uring->ring, IORING_SETUP_R_DISABLED);

    if (r < 0)
        return err_errno(err, r, "io_uring");
    r = restrict_operations(&uring->ring);
    if (r < 0) {
        io_uring_queue_exit(&uring->ring);
        return err_errno(err, r, "io_uring: restrict its operations");
    }
    uring->fd = fd;
    uring->rest = rest;
    uring->context = context;
    uring->prepared_end = &uring->prepared;
    uring->backlog_end = &uring->backlog;
    r = loop_fd_add(loop, uring->ring.ring_fd, EPOLLIN, on_ready, uring, &uring->watch, err);
    if (r < 0)
        io_uring_queue_exit(&uring->ring);
    return r;
}

void uring_done(struct uring *uring)
{
    loop_fd_remove(uring->watch);
    io_uring_queue_exit(&uring->ring);
}

void uring_submit(struct uring *uring, struct block_request *request)
{
    struct io_uring_sqe *sqe = NULL;

    if (uring->dead) {
        uring->rest(uring->context, request);
        return;
    }
    if (!uring->backlog && uring->nr_in_flight < URING_ENTRIES)
        sqe = io_uring_get_sqe(&uring->ring);
    if (sqe) {
        prepare(uring, sqe, request);
        return;
    }
    append(&uring->backlog_end, request);
}

static void push(struct uring *uring)
{
    if (uring->dead)
        return;
    feed(uring);
    while (uring->nr_prepared) {
        int r = io_uring_submit(&uring->ring);

        if (r == -EINTR)
            continue;
        /* EAGAIN, EBUSY: the kernel has no room now; what is in flight completes and brings us back
         * here. Anything else, or with nothing in flight, is for good. */
        if ((r == -EAGAIN || r == -EBUSY) && uring->nr_in_flight > uring->nr_prepared)
            return;
        if (r <= 0) {
            give_up(uring);
            return;
        }
        while (r-- > 0 && uring->nr_prepared)
            take_prepared(uring);
    }
}

/* What the page cache had is done already: it need not go through the loop. A completion may submit
 * and kick again: it is the outer one that goes round. */
void uring_kick(struct uring *uring)
{
    push(uring);
    if (uring->in_kick || uring->dead)
        return;
    uring->in_kick = true;
    reap(uring);
    push(uring);
    uring->in_kick = false;
}

void uring_wait(struct uring *uring)
{
    struct io_uring_cqe *cqe;

    uring_kick(uring);
    if (uring->nr_in_flight)
        io_uring_wait_cqe(&uring->ring, &cqe);
    reap(uring);
}
