/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for generated code: one memfd mapped twice, for writing and for running, filled from its
 * start (and, with what seldom runs, from its end) and emptied as a whole. No page is ever writable
 * and executable through one address.
 *
 * Whoever writes where code has run before (a patched jump, the second filling) does so between
 * runs of generated code, and the processor is the same one: the store is seen by later fetches
 * because x86 keeps instruction fetch coherent with stores by physical address.
 *
 * Threads: one struct code_cache per vCPU, used by its thread only.
 */
#ifndef LODGE_SOFT_CODE_CACHE_H
#define LODGE_SOFT_CODE_CACHE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct code_cache {
    uint8_t *write;
    const uint8_t *run;
    size_t size, used;
    size_t cold; /* from here on: what was put at the end */
};

int code_cache_init(struct code_cache *cache, size_t size, struct err *err);
void code_cache_done(struct code_cache *cache);

/* Where code at a writable address runs. */
static inline const uint8_t *code_cache_run(const struct code_cache *cache, const uint8_t *write)
{
    return cache->run + (write - cache->write);
}

#endif
