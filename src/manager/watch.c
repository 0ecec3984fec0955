/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop that hears from shims, and the clock of restarts and health checks. It never waits for
 * a guest, a disk or a client: what takes time is handed to the workers.
 */
#include "manager/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "shim_protocol.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_NS (200 * NS_PER_MS)

/* A shim that is our child. */
struct child {
    pid_t pid;
    int fd;
    struct loop_fd *watch;
    struct child *next, **link; /* the manager's list */
};

struct watching {
    struct manager *m;
    struct instance *instance; /* a reference */
    int fd;
    struct loop_fd *watch;
    uint64_t run;
    struct watching *next, **link; /* the manager's list */
};

static void settle_later(struct manager *m, struct instance *instance)
{
    pthread_mutex_lock(&m->lock);
    instance_ref_locked(instance);
    pthread_mutex_unlock(&m->lock);
    work_post(m, life_settle_work, instance);
}

static void note_end(struct manager *m, struct instance *instance, const struct instance_end *end)
{
    bool fresh;

    pthread_mutex_lock(&m->lock);
    if ((fresh = !instance->ended)) {
        instance->end = *end;
        instance->ended = true;
        pthread_cond_broadcast(&instance->changed);
    }
    pthread_mutex_unlock(&m->lock);
    if (fresh)
        settle_later(m, instance);
}

static void note_event(struct manager *m, struct instance *instance, const json_t *event)
{
    const char *what = json_string_value(json_object_get(event, "event")) ?: "";
    struct instance_end end = {0};

    if (!strcmp(what, "running")) {
        pthread_mutex_lock(&m->lock);
        instance->said_running = true;
        instance->pid = (pid_t)json_integer_value(json_object_get(event, "pid"));
        instance->end.started_ns = json_integer_value(json_object_get(event, "started_ns"));
        pthread_cond_broadcast(&instance->changed);
        pthread_mutex_unlock(&m->lock);
    } else if (!strcmp(what, "exited")) {
        end.exit_code = (int)json_integer_value(json_object_get(event, "exit_code"));
        end.oom = json_is_true(json_object_get(event, "oom"));
        end.started_ns = json_integer_value(json_object_get(event, "started_ns"));
        end.finished_ns = json_integer_value(json_object_get(event, "finished_ns"));
        error_copy(end.error, json_string_value(json_object_get(event, "error")) ?: "");
        note_end(m, instance, &end);
    }
}

static void watching_free(struct watching *watching)
{
    loop_fd_remove(watching->watch);
    close(watching->fd);
    *watching->link = watching->next;
    if (watching->next)
        watching->next->link = watching->link;
    instance_unref(watching->m, watching->instance);
    free(watching);
}

/* The shim is gone. Without a word about the end it was killed: the guest is then ended too, by
 * who settles this. */
static void shim_gone(struct watching *watching)
{
    struct instance_end end;

    if (!shim_read_exit(watching->m, watching->instance, watching->run, &end)) {
        end = (struct instance_end){
            .exit_code = 255, .lost = true, .finished_ns = (int64_t)clock_realtime_ns()};
        snprintf(end.error, sizeof(end.error), "its shim was killed");
    }
    note_end(watching->m, watching->instance, &end);
    watching_free(watching);
}

static void on_packet(void *context, uint32_t events)
{
    struct watching *watching = context;
    char data[8192];
    json_t *event = NULL;
    ssize_t n = recv(watching->fd, data, sizeof(data), MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        shim_gone(watching);
        return;
    }
    if (json_parse(data, (size_t)n, "shim", &event, NULL) == 0)
        note_event(watching->m, watching->instance, event);
    json_decref(event);
}

static void child_free(struct child *child)
{
    *child->link = child->next;
    if (child->next)
        child->next->link = child->link;
    loop_fd_remove(child->watch);
    close(child->fd);
    free(child);
}

static void on_child(void *context, uint32_t events)
{
    struct child *child = context;

    (void)events;
    waitpid(child->pid, NULL, 0);
    child_free(child);
}

struct addition {
    struct manager *m;
    struct instance *instance;
    int fd;
    pid_t shim;
};

static void add_child(struct manager *m, pid_t pid)
{
    struct child *child = calloc(1, sizeof(*child));

    if (!child)
        return;
    child->pid = pid;
    child->fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (child->fd < 0 ||
        loop_fd_add(m->loop, child->fd, EPOLLIN, on_child, child, &child->watch, NULL) < 0) {
        fd_closep(&child->fd);
        free(child);
        return;
    }
    child->next = m->children;
    child->link = &m->children;
    if (child->next)
        child->next->link = &child->next;
    m->children = child;
}

static void add_on_loop(void *context)
{
    const struct addition *addition = context;
    struct watching *watching = calloc(1, sizeof(*watching));

    if (addition->shim > 0)
        add_child(addition->m, addition->shim);
    if (!watching) {
        close(addition->fd);
        return;
    }
    *watching = (struct watching){.m = addition->m,
                                  .instance = addition->instance,
                                  .fd = addition->fd,
                                  .run = addition->instance->row.run};
    if (loop_fd_add(addition->m->loop, addition->fd, EPOLLIN, on_packet, watching, &watching->watch,
                    NULL) < 0) {
        close(addition->fd);
        free(watching);
        return;
    }
    watching->next = addition->m->watchings;
    watching->link = &addition->m->watchings;
    if (watching->next)
        watching->next->link = &watching->next;
    addition->m->watchings = watching;
    pthread_mutex_lock(&addition->m->lock);
    instance_ref_locked(addition->instance);
    pthread_mutex_unlock(&addition->m->lock);
}

void watch_add(struct manager *m, struct instance *instance, int fd, pid_t shim)
{
    struct addition addition = {m, instance, fd, shim};

    loop_sync(m->loop, add_on_loop, &addition);
}

/* Restarts whose time has come. (The instance's worker looks again whether it is still wanted.) */
static void on_tick(void *context)
{
    struct manager *m = context;
    uint64_t now_ns = clock_monotonic_ns();
    struct instance *due[64];
    size_t nr = 0;
    uint64_t checks = 0; /* which of them are due for a health check */

    pthread_mutex_lock(&m->lock);
    for (struct instance *at = m->first; at && nr < 64; at = at->next) {
        bool restart = at->restart_at_ns && now_ns >= at->restart_at_ns && !at->busy;
        bool health = at->health_at_ns && now_ns >= at->health_at_ns && !at->health_running &&
                      at->row.state == INSTANCE_RUNNING;

        if (!restart && !health)
            continue;
        if (health && !restart) {
            at->health_running = true;
            checks |= UINT64_C(1) << nr;
        }
        instance_ref_locked(at);
        due[nr++] = at;
    }
    pthread_mutex_unlock(&m->lock);
    for (size_t i = 0; i < nr; i++)
        work_post(m, checks >> i & 1 ? health_work : life_settle_work, due[i]);
    resolvers_tick(m, now_ns);
    content_tick(m, now_ns);
    loop_timer_arm(m->tick, now_ns + TICK_NS);
}

int watch_open(struct manager *m, struct err *err)
{
    int result;

    if ((result = loop_new(&m->loop, err)) < 0 ||
        (result = loop_timer_new(m->loop, on_tick, m, &m->tick, err)) < 0)
        return result;
    loop_timer_arm(m->tick, clock_monotonic_ns() + TICK_NS);
    return loop_thread_start(m->loop, "watch", err);
}

void watch_close(struct manager *m)
{
    if (!m->loop)
        return;
    loop_thread_stop(m->loop);
    while (m->watchings)
        watching_free(m->watchings);
    while (m->children)
        child_free(m->children);
    loop_timer_free(m->tick);
    loop_free(m->loop);
}
