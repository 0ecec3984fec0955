/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a driver of the block layer implements. Private to block/.
 *
 * The layer checks every request (range, direction, read-only) before the driver sees it, counts it
 * while it is in flight, and delivers its callback. The driver ends each request with
 * block_complete, from a loop callback or from wait; inside submit it uses block_complete_later.
 */
#ifndef LODGE_BLOCK_BLOCK_DRIVER_H
#define LODGE_BLOCK_BLOCK_DRIVER_H

#include "block/block.h"

struct block_driver {
    void (*submit)(struct block *block, struct block_request *request);
    void (*kick)(struct block *block);
    /* Sleeps until at least one more request has completed; called only while the driver holds
     * some. */
    void (*wait)(struct block *block);
    /* Nothing is in flight. Frees the driver's structure, of which `block` is the head. */
    void (*close)(struct block *block);
};

struct block {
    const struct block_driver *driver;
    struct loop *loop;
    struct block_info info;
    unsigned nr_in_flight;
    struct block_request *later, **later_end;
    struct loop_call deliver;
};

void block_init(struct block *block, const struct block_driver *driver, struct loop *loop);
void block_complete(struct block_request *request, int result);
void block_complete_later(struct block_request *request, int result);

/* So many bytes of the request's iov are done. */
void block_request_advance(struct block_request *request, uint64_t bytes);

/* Bytes of a request's iov. */
uint64_t block_iov_bytes(const struct iovec *iov, unsigned nr);

#endif
