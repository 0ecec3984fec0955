/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block device that misbehaves on purpose, over another one: fails chosen requests, or holds
 * requests back until they are released. For tests.
 */
#ifndef LODGE_BLOCK_FAULT_H
#define LODGE_BLOCK_FAULT_H

#include "block/block.h"

struct block_fault_plan {
    unsigned ops;        /* mask of 1u << enum block_op that are affected */
    unsigned fail_every; /* of those, each n-th fails; 0: none */
    int error;           /* with this result (negative errno) */
    bool hold;           /* requests wait until block_fault_release or a drain */
    bool newest_first;   /* released in reverse order */
};

/* Owns inner from success on. *plan is read at each submit and may change between. */
int block_fault_new(struct block *inner, const struct block_fault_plan *plan, struct loop *loop,
                    struct block **ret, struct err *err);
/* Lets all that is held go on. */
void block_fault_release(struct block *block);
unsigned block_fault_nr_held(const struct block *block);

#endif
