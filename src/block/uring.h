/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads, writes and flushes of one file through io_uring. Private to block/. Loop's thread only.
 */
#ifndef LODGE_BLOCK_URING_H
#define LODGE_BLOCK_URING_H

#include "block/block.h"

#include <liburing.h>

#define URING_ENTRIES 256

/* What the ring could not finish (a short transfer, EAGAIN): the caller goes on with it, from
 * request->done_bytes_ and the advanced iov. */
typedef void uring_rest_fn(void *context, struct block_request *request);

struct uring {
    struct io_uring ring;
    int fd;
    struct loop_fd *watch;
    uring_rest_fn *rest;
    void *context;
    unsigned nr_in_flight; /* at most URING_ENTRIES, so completions never overflow */
    unsigned nr_prepared;  /* of those, not yet handed to the kernel */
    struct block_request *prepared, **prepared_end; /* the nr_prepared ones */
    struct block_request *backlog, **backlog_end;
    bool in_kick;
    bool dead; /* the kernel refuses the ring: everything goes to rest */
};

/* -errno when the kernel does not let us. */
int uring_init(struct uring *uring, int fd, uring_rest_fn *rest, void *context, struct loop *loop,
               struct err *err);
void uring_done(struct uring *uring);
void uring_submit(struct uring *uring, struct block_request *request);
void uring_kick(struct uring *uring);
/* Sleeps until something has completed, and completes it. */
void uring_wait(struct uring *uring);

#endif
