/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker threads that execute block requests with blocking system calls. Private to block/.
 * Threads: pool_* on the loop's thread; `execute` on a worker.
 */
#ifndef LODGE_BLOCK_POOL_H
#define LODGE_BLOCK_POOL_H

#include "block/block.h"

#include <pthread.h>

#define POOL_THREADS_MAX 4

typedef int pool_execute_fn(void *context, struct block_request *request);

struct pool {
    pool_execute_fn *execute;
    void *context;
    struct loop *loop;
    struct loop_call reap; /* loop's thread: completes what the workers have done */
    unsigned nr_threads;
    pthread_t threads[POOL_THREADS_MAX];
    unsigned nr_in_flight; /* loop's thread */

    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    struct block_request *todo, **todo_end;
    struct block_request *done, **done_end;
    bool stop;
};

int pool_init(struct pool *pool, unsigned nr_threads, pool_execute_fn *execute, void *context,
              struct loop *loop, struct err *err);
/* Nothing may be in flight. */
void pool_done(struct pool *pool);
void pool_submit(struct pool *pool, struct block_request *request);
/* Sleeps until something is done, and completes it. */
void pool_wait(struct pool *pool);

#endif
