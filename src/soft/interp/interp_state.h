/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter's part of a vCPU and of a VM: the cache of decoded blocks (interp/cache.h) and
 * what a block leaves behind for the run loop. Everything belongs to the vCPU's own thread, except
 * what is said to be under a lock.
 */
#ifndef LODGE_SOFT_INTERP_STATE_H
#define LODGE_SOFT_INTERP_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct interp_block;
struct interp_code_page;

#define INTERP_MAIL_MAX 32u

/* A block, by the linear address and the context (translations, mode) it was last entered with. */
struct interp_jump {
    uint64_t linear;
    uint64_t context;
    struct interp_block *block;
};

/* Code that changed: the 64-byte granules `mask` of the page at `gpa`. */
struct interp_mail {
    uint64_t gpa;
    uint64_t mask;
};

struct soft_interp {
    uint32_t executed;    /* instructions completed in a block that was left early */
    uint8_t event_vector; /* with SOFT_INTERRUPT */
    uint8_t event_kind;   /* enum soft_event */
    bool in_run;          /* cpu_run is on `thread` */
    pthread_t thread;

    struct interp_jump *jumps;
    struct interp_block **block_hash;
    struct interp_code_page **page_hash;
    uint8_t *arena;
    size_t arena_size, arena_used;

    /* Under soft_vm.code_lock: code writes of other threads, taken on CPU_REQUEST_ENGINE. */
    struct interp_mail mail[INTERP_MAIL_MAX];
    unsigned nr_mail;
    bool mail_overflow; /* too many: drop everything */
};

#endif
