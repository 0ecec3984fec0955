/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that has been taken out: every request fails. It looks like the one that was there. */
#include "block/block_driver.h"

#include <errno.h>
#include <stdlib.h>

static void gone_submit(struct block *block, struct block_request *request)
{
    (void)block;
    block_complete_later(request, -EIO);
}

static void gone_kick(struct block *block)
{
    (void)block;
}

static void gone_close(struct block *block)
{
    free(block);
}

/* No wait: what is completed later is in no driver's hands. */
static const struct block_driver gone_driver = {
    .submit = gone_submit, .kick = gone_kick, .wait = gone_kick, .close = gone_close};

int block_open_gone(const struct block *like, struct loop *loop, struct block **ret)
{
    struct block *block = calloc(1, sizeof(*block));

    if (!block)
        return -ENOMEM;
    block_init(block, &gone_driver, loop);
    block->info = like->info;
    block->info.engine = "gone";
    *ret = block;
    return 0;
}
