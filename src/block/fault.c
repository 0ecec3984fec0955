/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The misbehaving block device. Requests that pass are handed to the inner device under a request
 * of their own, because the private fields of the outer one belong to the outer device.
 */
#include "block/fault.h"

#include "block/block_driver.h"

#include "base/util.h"

#include <errno.h>

struct fault {
    struct block block;
    struct block *inner;
    const struct block_fault_plan *plan;
    unsigned nr_seen;
    unsigned nr_held;
    unsigned nr_inside; /* handed to the inner device */
    struct block_request *held;
};

struct passed {
    struct block_request request;
    struct block_request *outer;
    struct fault *fault;
};

static void inner_done(struct block_request *request, int result)
{
    struct passed *passed = CONTAINER_OF(request, struct passed, request);
    struct block_request *outer = passed->outer;

    passed->fault->nr_inside--;
    free(passed);
    block_complete(outer, result);
}

static void pass(struct fault *fault, struct block_request *outer)
{
    struct passed *passed = calloc(1, sizeof(*passed));

    if (!passed) {
        block_complete_later(outer, -ENOMEM);
        return;
    }
    passed->request = *outer;
    passed->request.done = inner_done;
    passed->outer = outer;
    passed->fault = fault;
    fault->nr_inside++;
    block_submit(fault->inner, &passed->request);
}

static void fault_submit(struct block *block, struct block_request *request)
{
    struct fault *fault = CONTAINER_OF(block, struct fault, block);
    const struct block_fault_plan *plan = fault->plan;
    bool affected = plan->ops & 1u << request->op;

    if (affected && plan->fail_every && ++fault->nr_seen % plan->fail_every == 0) {
        block_complete_later(request, plan->error);
    } else if (affected && plan->hold) {
        struct block_request **at = &fault->held;

        while (*at && !plan->newest_first)
            at = &(*at)->next_;
        request->next_ = *at;
        *at = request;
        fault->nr_held++;
    } else {
        pass(fault, request);
    }
}

void block_fault_release(struct block *block)
{
    struct fault *fault = CONTAINER_OF(block, struct fault, block);
    struct block_request *list = fault->held;

    fault->held = NULL;
    fault->nr_held = 0;
    while (list) {
        struct block_request *request = list;

        list = request->next_;
        pass(fault, request);
    }
    block_kick(fault->inner);
}

unsigned block_fault_nr_held(const struct block *block)
{
    return CONTAINER_OF(block, const struct fault, block)->nr_held;
}

static void fault_kick(struct block *block)
{
    block_kick(CONTAINER_OF(block, struct fault, block)->inner);
}

static void fault_wait(struct block *block)
{
    struct fault *fault = CONTAINER_OF(block, struct fault, block);

    block_fault_release(block);
    block_drain(fault->inner);
}

static void fault_close(struct block *block)
{
    struct fault *fault = CONTAINER_OF(block, struct fault, block);

    block_close(fault->inner);
    free(fault);
}

static const struct block_driver fault_driver = {
    .submit = fault_submit,
    .kick = fault_kick,
    .wait = fault_wait,
    .close = fault_close,
};

int block_fault_new(struct block *inner, const struct block_fault_plan *plan, struct loop *loop,
                    struct block **ret, struct err *err)
{
    struct fault *fault = calloc(1, sizeof(*fault));

    if (!fault)
        return err_set(err, -ENOMEM, "fault-injecting block device: out of memory");
    block_init(&fault->block, &fault_driver, loop);
    block_get_info(inner, &fault->block.info);
    fault->inner = inner;
    fault->plan = plan;
    *ret = &fault->block;
    return 0;
}
