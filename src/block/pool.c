/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker threads for block requests: two queues under one lock. Workers take from `todo` and append
 * to `done`; the loop's thread is woken by a deferred call and completes what is in `done`.
 */
#include "block/pool.h"

#include "block/block_driver.h"

#include <errno.h>
#include <signal.h>

static void *worker(void *context)
{
    struct pool *pool = context;

    pthread_setname_np(pthread_self(), "block");
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct block_request *request = pool->todo;

        if (!request) {
            if (pool->stop)
                break;
            pthread_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        pool->todo = request->next_;
        if (!pool->todo)
            pool->todo_end = &pool->todo;
        pthread_mutex_unlock(&pool->lock);

        request->result_ = pool->execute(pool->context, request);

        pthread_mutex_lock(&pool->lock);
        request->next_ = NULL;
        *pool->done_end = request;
        pool->done_end = &request->next_;
        pthread_cond_signal(&pool->finished);
        loop_post(pool->loop, &pool->reap);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void reap(void *context)
{
    struct pool *pool = context;
    struct block_request *list;

    pthread_mutex_lock(&pool->lock);
    list = pool->done;
    pool->done = NULL;
    pool->done_end = &pool->done;
    pthread_mutex_unlock(&pool->lock);
    while (list) {
        struct block_request *request = list;

        list = request->next_;
        pool->nr_in_flight--;
        block_complete(request, request->result_);
    }
}

int pool_init(struct pool *pool, unsigned nr_threads, pool_execute_fn *execute, void *context,
              struct loop *loop, struct err *err)
{
    sigset_t all, old;
    int r = 0;

    pool->execute = execute;
    pool->context = context;
    pool->loop = loop;
    pool->reap = (struct loop_call){.fn = reap, .context = pool};
    pool->todo_end = &pool->todo;
    pool->done_end = &pool->done;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->finished, NULL);
    /* Signals are for other threads; SIGXFSZ above all must not end the process: EFBIG says it. */
    sigfillset(&all);
    sigdelset(&all, SIGSYS); /* a system call filter reports through it */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (r == 0 && pool->nr_threads < nr_threads) {
        r = pthread_create(&pool->threads[pool->nr_threads], NULL, worker, pool);
        if (r == 0)
            pool->nr_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (pool->nr_threads == 0) {
        pool_done(pool);
        return err_errno(err, -r, "start a thread for block requests");
    }
    return 0;
}

void pool_done(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->nr_threads; i++)
        pthread_join(pool->threads[i], NULL);
    loop_cancel(pool->loop, &pool->reap);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
}

void pool_submit(struct pool *pool, struct block_request *request)
{
    pool->nr_in_flight++;
    pthread_mutex_lock(&pool->lock);
    request->next_ = NULL;
    *pool->todo_end = request;
    pool->todo_end = &request->next_;
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

void pool_wait(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (!pool->done)
        pthread_cond_wait(&pool->finished, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    reap(pool);
}
