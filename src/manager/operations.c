/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: what was asked for and takes time, as objects. One whose caller did not wait for it
 * is in the store before it is acknowledged, and is taken up again after a crash: so each must be
 * right to do twice.
 */
#include "manager/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEPT 1000

int error_status(int code)
{
    switch (-code) {
    case ENOENT:
        return 404;
    case EINVAL:
    case E2BIG:
    case ENAMETOOLONG:
        return 400;
    case EEXIST:
    case EBUSY:
    case EADDRINUSE:
    case EALREADY:
    case ESRCH:
        return 409;
    case EOPNOTSUPP:
        return 501;
    case ENOSPC:
    case EROFS:
        return 507;
    case ENOMEM:
    case EMFILE:
    case EAGAIN:
        return 503;
    case EREMOTEIO:
    case EPROTO:
        return 502; /* what the guest or its monitor came to */
    case ETIMEDOUT:
        return 504;
    case ECANCELED:
        return 422;
    default:
        return 500;
    }
}

void operation_store_form(const struct operation *operation, struct store_operation *ret)
{
    *ret = (struct store_operation){.id = operation->id,
                                    .kind = operation->kind,
                                    .instance = operation->instance,
                                    .status = !operation->done  ? "running"
                                              : operation->code ? "failed"
                                                                : "done",
                                    .arguments = operation->arguments,
                                    .error = operation->error,
                                    .code = operation->code,
                                    .created_ns = operation->created_ns,
                                    .finished_ns = operation->finished_ns};
}

/* lock */
static void drop_locked(struct manager *m, struct operation *operation)
{
    (void)m;
    if (--operation->nr_refs)
        return;
    if (operation->target)
        instance_unref_locked(operation->target);
    fd_closep(&operation->client_fd);
    fd_closep(&operation->input_fd);
    free(operation->subject);
    free(operation->result);
    free(operation->arguments);
    free(operation);
}

void operation_unref(struct manager *m, struct operation *operation)
{
    if (!operation)
        return;
    pthread_mutex_lock(&m->lock);
    drop_locked(m, operation);
    pthread_mutex_unlock(&m->lock);
}

/* lock: the list holds a reference of its own */
static void list_add(struct manager *m, struct operation *operation)
{
    *m->operations_last = operation;
    m->operations_last = &operation->next;
    operation->nr_refs++;
    m->nr_operations++;
    while (m->nr_operations > KEPT && m->operations->done) {
        struct operation *oldest = m->operations;

        m->operations = oldest->next;
        m->nr_operations--;
        drop_locked(m, oldest);
    }
}

int operation_new(struct manager *m, const char *kind, struct instance *instance,
                  const char *arguments, struct operation **ret, struct err *err)
{
    struct operation *operation = calloc(1, sizeof(*operation));

    if (!operation || !(operation->arguments = strdup(arguments))) {
        free(operation);
        return err_set(err, -ENOMEM, "out of memory");
    }
    operation->manager = m;
    operation->client_fd = operation->input_fd = -1;
    operation->created_ns = (int64_t)clock_realtime_ns();
    operation->nr_refs = 1;
    snprintf(operation->kind, sizeof(operation->kind), "%s", kind);
    snprintf(operation->instance, sizeof(operation->instance), "%s", instance ? instance->id : "");
    pthread_mutex_lock(&m->lock);
    operation->id = m->next_operation++;
    if (instance)
        instance_ref_locked(instance);
    operation->target = instance;
    list_add(m, operation);
    pthread_mutex_unlock(&m->lock);
    *ret = operation;
    return 0;
}

static int restart(struct manager *m, struct operation *operation, int number, int64_t timeout_s,
                   struct err *err)
{
    struct instance *instance = operation->target;
    int result;

    /* Taken up again, and it had got as far as this. */
    if (instance->row.state == INSTANCE_RUNNING && instance->row.started_ns > operation->created_ns)
        return 0;
    if (instance->brief->auto_remove)
        return err_set(err, -EINVAL, "'%s' is removed when it ends, so it cannot be restarted",
                       instance->name);
    if ((result = life_stop(m, instance, operation, number, timeout_s, err)) < 0)
        return result;
    return life_start(m, instance, operation, -1, err);
}

static int carry_out(struct manager *m, struct operation *operation, struct err *err)
{
    struct instance *instance = operation->target;
    const char *kind = operation->kind;
    json_t *arguments = NULL;
    json_int_t timeout_s = 10, number = SIGTERM;
    bool force = false;
    int result;

    json_parse(operation->arguments, strlen(operation->arguments), "arguments", &arguments, NULL);
    if (json_is_integer(json_object_get(arguments, "timeout_s")))
        timeout_s = json_integer_value(json_object_get(arguments, "timeout_s"));
    if (json_is_integer(json_object_get(arguments, "signal")))
        number = json_integer_value(json_object_get(arguments, "signal"));
    force = json_is_true(json_object_get(arguments, "force"));
    json_decref(arguments);
    if (!strcmp(kind, "start") && operation->resumed && life_is_active(instance->row.state)) {
        result = 0; /* the recovery has done it */
    } else if (!strcmp(kind, "start")) {
        result = life_start(m, instance, operation, TAKE_FD(operation->client_fd), err);
    } else if (!strcmp(kind, "stop")) {
        result = life_stop(m, instance, operation, (int)number, timeout_s, err);
    } else if (!strcmp(kind, "restart")) {
        result = restart(m, operation, (int)number, timeout_s, err);
    } else if (!strcmp(kind, "remove")) {
        result = life_remove(m, instance, operation, force, err);
    } else if (!strcmp(kind, "pause") || !strcmp(kind, "resume")) {
        result = life_pause(m, instance, operation, !strcmp(kind, "pause"), err);
    } else {
        result = err_set(err, -EINVAL, "there is no operation '%s'", kind);
    }
    return result;
}

/* Of the host's own: instances tell of theirs themselves. */
static void tell(struct manager *m, const struct operation *operation)
{
    char what[32], detail[PATH_MAX + ERROR_MAX + 4];
    bool failed = operation->code;

    if (!operation->task)
        return;
    snprintf(what, sizeof(what), "%s%s", operation->kind, failed ? "-failed" : "");
    snprintf(detail, sizeof(detail), "%s%s%s", operation->subject ?: "", failed ? ": " : "",
             failed ? operation->error : "");
    event_add(m, NULL, what, detail);
}

void operation_finish(struct manager *m, struct operation *operation, int result,
                      const struct err *err)
{
    struct store_operation form;
    struct store_change change = {.operation = &form};
    bool stored;

    pthread_mutex_lock(&m->lock);
    operation->finished_ns = (int64_t)clock_realtime_ns();
    if (result < 0) {
        operation->code = error_status(result);
        error_copy(operation->error, err->message);
    }
    operation->done = true;
    fd_closep(&operation->input_fd); /* who writes to it is told */
    operation->input_fd = -1;
    operation_store_form(operation, &form);
    stored = operation->stored;
    if (operation->target) {
        instance_unref_locked(operation->target);
        operation->target = NULL;
    }
    pthread_cond_broadcast(&m->operation_changed);
    pthread_mutex_unlock(&m->lock);
    tell(m, operation);
    /* One of which the store never heard has nothing to be taken up again. */
    if (stored && state_store_apply(m->store, &change, NULL) < 0)
        log_warning("operation %llu: its result is not stored", (unsigned long long)operation->id);
    if (operation->id % 256 == 0)
        state_store_prune(m->store, KEPT);
}

void operation_abandon(struct manager *m, struct operation *operation, const struct err *err)
{
    operation_finish(m, operation, err->code < 0 ? err->code : -EIO, err);
}

static void operation_work(struct manager *m, void *context)
{
    struct operation *operation = context;
    struct instance *instance = operation->target;
    const struct log_subject subject = {.instance = operation->instance,
                                        .operation = operation->id};
    const struct log_subject *before = log_set_subject(&subject);
    struct err err = ERR_INIT;
    int result = instance_acquire(m, instance, &err);

    if (result == 0) {
        result = carry_out(m, operation, &err);
        instance_release(m, instance);
    } else if (!strcmp(operation->kind, "remove")) {
        result = 0; /* somebody else was faster */
    }
    log_debug("%s: %s", operation->kind, result < 0 ? err.message : "done");
    log_set_subject(before);
    operation_finish(m, operation, result, &err);
    operation_unref(m, operation);
}

int operation_start(struct manager *m, struct operation *operation, struct err *err)
{
    bool breaks_off = !strcmp(operation->kind, "stop") || !strcmp(operation->kind, "remove");
    int result;

    if (operation->task)
        return task_start(m, operation, err);
    pthread_mutex_lock(&m->lock);
    operation->nr_refs++;
    if (breaks_off && operation->target->row.state == INSTANCE_STARTING &&
        (!strcmp(operation->kind, "stop") || strstr(operation->arguments, "\"force\":true"))) {
        operation->target->cancel = true;
        pthread_cond_broadcast(&operation->target->changed);
    }
    pthread_mutex_unlock(&m->lock);
    result = work_post(m, operation_work, operation);
    if (result == -ENOMEM) {
        operation_unref(m, operation);
        return err_set(err, -ENOMEM, "out of memory");
    }
    return 0;
}

int operation_cancel(struct manager *m, struct operation *operation, struct err *err)
{
    bool starts = !strcmp(operation->kind, "start") || !strcmp(operation->kind, "restart");
    bool done;

    pthread_mutex_lock(&m->lock);
    done = operation->done;
    starts = starts && !done && operation->target &&
             operation->target->row.state == INSTANCE_STARTING;
    if (starts) {
        operation->target->cancel = true;
        pthread_cond_broadcast(&operation->target->changed);
    }
    pthread_mutex_unlock(&m->lock);
    if (starts || task_break_off(m, operation, "it was cancelled"))
        return 0;
    return err_set(err, -EBUSY, "operation %llu %s", (unsigned long long)operation->id,
                   done ? "is over" : "can not be broken off: only starts and the host's own can");
}

bool operation_wait(struct manager *m, struct operation *operation, uint64_t timeout_ms)
{
    uint64_t at_ns = clock_realtime_ns() + timeout_ms * NS_PER_MS;
    struct timespec deadline = {(time_t)(at_ns / NS_PER_S), (long)(at_ns % NS_PER_S)};
    bool done;

    pthread_mutex_lock(&m->lock);
    while (!operation->done && !atomic_load(&m->stopping))
        if (pthread_cond_timedwait(&m->operation_changed, &m->lock, &deadline) != 0)
            break;
    done = operation->done;
    pthread_mutex_unlock(&m->lock);
    return done;
}

int operation_store(struct manager *m, struct operation *operation, struct err *err)
{
    struct store_operation form;
    struct store_change change = {.operation = &form};
    int result;

    pthread_mutex_lock(&m->lock);
    operation_store_form(operation, &form);
    form.status = "running";
    pthread_mutex_unlock(&m->lock);
    if ((result = state_store_apply(m->store, &change, err)) < 0)
        return result;
    pthread_mutex_lock(&m->lock);
    operation->stored = true;
    pthread_mutex_unlock(&m->lock);
    return 0;
}

void operation_progress(struct manager *m, struct operation *operation, const char *text)
{
    if (!operation)
        return;
    pthread_mutex_lock(&m->lock);
    snprintf(operation->progress.text, sizeof(operation->progress.text), "%s", text);
    pthread_mutex_unlock(&m->lock);
}

struct operation *operation_find(struct manager *m, uint64_t id)
{
    struct operation *at;

    pthread_mutex_lock(&m->lock);
    for (at = m->operations; at && at->id != id;)
        at = at->next;
    if (at)
        at->nr_refs++;
    pthread_mutex_unlock(&m->lock);
    return at;
}

void operation_write_json(struct manager *m, struct operation *operation, struct buf *to)
{
    pthread_mutex_lock(&m->lock);
    buf_printf(to, "{\"id\": %llu, \"kind\": \"%s\", \"instance\": \"%s\", \"status\": \"%s\", ",
               (unsigned long long)operation->id, operation->kind, operation->instance,
               !operation->done  ? "running"
               : operation->code ? "failed"
                                 : "done");
    buf_append_string(to, "\"subject\": ");
    out_string(to, operation->subject ?: "");
    buf_append_string(to, ", \"progress\": {\"text\": ");
    out_string(to, operation->progress.text);
    buf_printf(to, ", \"done\": %llu, \"total\": %llu, \"unit\": \"%s\"}, \"result\": %s",
               (unsigned long long)operation->progress.done,
               (unsigned long long)operation->progress.total, operation->progress.unit,
               operation->result ?: "{}");
    buf_append_string(to, ", \"error\": ");
    out_string(to, operation->error);
    buf_append_string(to, ", \"created\": ");
    out_time(to, operation->created_ns);
    buf_append_string(to, ", \"finished\": ");
    out_time(to, operation->finished_ns);
    buf_append_string(to, "}");
    pthread_mutex_unlock(&m->lock);
}

int operation_load(struct manager *m, const struct store_operation *stored)
{
    struct operation *operation = calloc(1, sizeof(*operation));

    if (!operation || !(operation->arguments = strdup(stored->arguments))) {
        free(operation);
        return -ENOMEM;
    }
    operation->manager = m;
    operation->client_fd = operation->input_fd = -1;
    operation->id = stored->id;
    operation->created_ns = stored->created_ns;
    operation->finished_ns = stored->finished_ns;
    operation->code = stored->code;
    operation->done = strcmp(stored->status, "running") != 0;
    operation->stored = operation->resumed = true;
    snprintf(operation->kind, sizeof(operation->kind), "%s", stored->kind);
    snprintf(operation->instance, sizeof(operation->instance), "%s", stored->instance);
    snprintf(operation->error, sizeof(operation->error), "%s", stored->error);
    if (strchr(operation->kind, '-') && task_load(operation) < 0) {
        free(operation->arguments);
        free(operation);
        return -ENOMEM;
    }
    pthread_mutex_lock(&m->lock);
    if (operation->id >= m->next_operation)
        m->next_operation = operation->id + 1;
    list_add(m, operation);
    pthread_mutex_unlock(&m->lock);
    return 0;
}

void operations_resume(struct manager *m)
{
    for (struct operation *at = m->operations; at; at = at->next) {
        struct instance *instance;
        struct err gone = {-ENOENT, "its instance is not there any more"};

        if (at->done || (at->task && task_resume(m, at) == 0))
            continue;
        pthread_mutex_lock(&m->lock);
        if ((instance = instance_find_id(m, at->instance)))
            instance_ref_locked(instance);
        at->target = instance;
        pthread_mutex_unlock(&m->lock);
        if (instance)
            operation_start(m, at, NULL);
        else
            operation_finish(m, at, !strcmp(at->kind, "remove") ? 0 : -ENOENT, &gone);
    }
}

void operations_free(struct manager *m)
{
    while (m->operations) {
        struct operation *at = m->operations;

        m->operations = at->next;
        operation_unref(m, at);
    }
}
