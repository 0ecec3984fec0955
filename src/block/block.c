/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of the block layer that every driver shares: the checks of invariant 2, the in-flight
 * count, and completions that must not be entered inside block_submit.
 */
#include "block/block_driver.h"

#include "base/util.h"

#include <assert.h>
#include <errno.h>

static void deliver(void *context)
{
    struct block *block = context;
    struct block_request *list = block->later;

    block->later = NULL;
    block->later_end = &block->later;
    while (list) {
        struct block_request *request = list;

        list = request->next_;
        block_complete(request, request->result_);
    }
}

void block_init(struct block *block, const struct block_driver *driver, struct loop *loop)
{
    block->driver = driver;
    block->loop = loop;
    block->later_end = &block->later;
    block->deliver = (struct loop_call){.fn = deliver, .context = block};
}

void block_complete(struct block_request *request, int result)
{
    struct block *block = request->block_;

    assert(block->nr_in_flight > 0);
    block->nr_in_flight--;
    request->done(request, result);
}

void block_complete_later(struct block_request *request, int result)
{
    struct block *block = request->block_;

    request->result_ = result;
    request->next_ = NULL;
    *block->later_end = request;
    block->later_end = &request->next_;
    loop_post(block->loop, &block->deliver);
}

/* UINT64_MAX when it does not fit. */
uint64_t block_iov_bytes(const struct iovec *iov, unsigned nr)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < nr; i++)
        if (__builtin_add_overflow(total, iov[i].iov_len, &total))
            return UINT64_MAX;
    return total;
}

static int check(const struct block *block, const struct block_request *request)
{
    bool moves_data = request->op == BLOCK_READ || request->op == BLOCK_WRITE;

    if (request->op == BLOCK_FLUSH)
        return 0;
    if (!range_fits(request->sector, request->nr_sectors, block->info.nr_sectors))
        return -EINVAL;
    if (moves_data && block_iov_bytes(request->iov, request->nr_iov) != request->nr_sectors
                                                                            << BLOCK_SECTOR_SHIFT)
        return -EINVAL;
    if (request->op != BLOCK_READ && block->info.read_only)
        return -EROFS;
    return 0;
}

void block_submit(struct block *block, struct block_request *request)
{
    int r = check(block, request);

    request->block_ = block;
    request->next_ = NULL;
    request->done_bytes_ = 0;
    block->nr_in_flight++;
    if (r < 0 || (request->op != BLOCK_FLUSH && request->nr_sectors == 0))
        block_complete_later(request, r);
    else
        block->driver->submit(block, request);
}

void block_kick(struct block *block)
{
    block->driver->kick(block);
}

void block_drain(struct block *block)
{
    while (block->nr_in_flight) {
        if (block->later) {
            deliver(block);
            continue;
        }
        block->driver->kick(block);
        block->driver->wait(block);
    }
}

void block_close(struct block *block)
{
    if (!block)
        return;
    block_drain(block);
    loop_cancel(block->loop, &block->deliver);
    block->driver->close(block);
}

void block_get_info(const struct block *block, struct block_info *ret)
{
    *ret = block->info;
}

unsigned block_nr_in_flight(const struct block *block)
{
    return block->nr_in_flight;
}

void block_request_advance(struct block_request *request, uint64_t bytes)
{
    request->done_bytes_ += bytes;
    while (request->nr_iov && bytes >= request->iov->iov_len) {
        bytes -= request->iov->iov_len;
        request->iov++;
        request->nr_iov--;
    }
    if (request->nr_iov) {
        request->iov->iov_base = (char *)request->iov->iov_base + bytes;
        request->iov->iov_len -= bytes;
    }
}
