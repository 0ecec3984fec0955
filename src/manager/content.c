/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends for an operation of the host, such as an archive to import: it goes through a
 * pipe to the operation's process, as its standard input. So the client opens its files itself,
 * with its own rights and in its own namespace, from this host or another.
 *
 *      content_expect -> awaited -> content_begin -> content_write ... -> content_end
 *                           └ nobody sends: content_tick ends the operation
 *
 * Invariants:
 *  1. The process sees an end of its input only after the last byte, or after it was killed:
 * content that was cut off is never taken for all of it.
 *  2. Who awaits content takes none of the places of those that work (tasks.c).
 *
 * Threads: content_tick the loop's, the others any; one at a time for each content.
 */
#include "manager/internal.h"

#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AWAITED_MAX 256
#define AWAITED_S   60

struct content {
    struct manager *m;
    struct operation *operation; /* a reference */
    int fd;
};

int content_expect(struct manager *m, struct operation *operation, struct err *err)
{
    int result;

    pthread_mutex_lock(&m->lock);
    if ((result = m->nr_awaited < AWAITED_MAX ? 0 : -EAGAIN) == 0) {
        m->nr_awaited++;
        operation->awaited_until_ns = clock_monotonic_ns() + AWAITED_S * NS_PER_S;
        snprintf(operation->progress.text, sizeof(operation->progress.text),
                 "waiting for its content");
    }
    pthread_mutex_unlock(&m->lock);
    if (result < 0)
        return err_set(err, result, "%d operations await their content already", AWAITED_MAX);
    if ((result = operation_store(m, operation, err)) < 0)
        content_unexpect(m, operation);
    return result;
}

bool content_unexpect(struct manager *m, struct operation *operation)
{
    bool awaited;

    pthread_mutex_lock(&m->lock);
    if ((awaited = operation->awaited_until_ns)) {
        operation->awaited_until_ns = 0;
        m->nr_awaited--;
    }
    pthread_mutex_unlock(&m->lock);
    return awaited;
}

static int begin(struct content *content, uint64_t total, struct err *err)
{
    struct operation *operation = content->operation;
    struct manager *m = content->m;
    int fds[2], result;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        result = err_errno(err, -errno, "pipe");
        operation_abandon(m, operation, err);
        return result;
    }
    pthread_mutex_lock(&m->lock);
    operation->input_fd = fds[0];
    snprintf(operation->progress.text, sizeof(operation->progress.text), "receiving");
    snprintf(operation->progress.unit, sizeof(operation->progress.unit), "bytes");
    operation->progress.total = total;
    pthread_mutex_unlock(&m->lock);
    content->fd = fds[1];
    if ((result = task_start(m, operation, err)) < 0)
        operation_abandon(m, operation, err);
    return result;
}

int content_begin(struct manager *m, uint64_t id, uint64_t total, struct content **ret,
                  struct err *err)
{
    struct content *content = calloc(1, sizeof(*content));
    int result = 0;

    if (!content)
        return err_set(err, -ENOMEM, "out of memory");
    *content = (struct content){.m = m, .operation = operation_find(m, id), .fd = -1};
    if (!content->operation)
        result = err_set(err, -ENOENT, "there is no operation %llu", (unsigned long long)id);
    else if (!content_unexpect(m, content->operation))
        result = err_set(err, -EBUSY, "operation %llu awaits no content", (unsigned long long)id);
    else
        result = begin(content, total, err);
    if (result < 0)
        content_end(content, true);
    else
        *ret = content;
    return result;
}

int content_write(struct content *content, const void *data, size_t length)
{
    struct operation *operation = content->operation;
    int result = file_write_full(content->fd, data, length);

    if (result < 0)
        return result;
    pthread_mutex_lock(&content->m->lock);
    if (!strcmp(operation->progress.text, "receiving"))
        operation->progress.done += length;
    pthread_mutex_unlock(&content->m->lock);
    return 0;
}

struct operation *content_operation(struct content *content)
{
    return content->operation;
}

void content_end(struct content *content, bool whole)
{
    if (!content)
        return;
    if (!whole)
        task_break_off(content->m, content->operation, "its content was cut off");
    fd_closep(&content->fd);
    operation_unref(content->m, content->operation);
    free(content);
}

/* lock */
static struct operation *find_late(struct manager *m, uint64_t now_ns)
{
    for (struct operation *at = m->operations; at; at = at->next)
        if (at->awaited_until_ns && at->awaited_until_ns <= now_ns)
            return at;
    return NULL;
}

static void end_late(struct manager *m, void *context)
{
    struct operation *operation = context;
    struct err err = ERR_INIT;

    if (content_unexpect(m, operation)) {
        err_set(&err, -ECANCELED, "its content did not come within %d s", AWAITED_S);
        operation_finish(m, operation, -ECANCELED, &err);
    }
    operation_unref(m, operation);
}

void content_tick(struct manager *m, uint64_t now_ns)
{
    struct operation *late;

    pthread_mutex_lock(&m->lock);
    if ((late = m->nr_awaited ? find_late(m, now_ns) : NULL)) {
        late->awaited_until_ns = now_ns + AWAITED_S * NS_PER_S; /* unless that is late itself */
        late->nr_refs++;
    }
    pthread_mutex_unlock(&m->lock);
    if (late && work_post(m, end_late, late) == -ENOMEM)
        operation_unref(m, late);
}
