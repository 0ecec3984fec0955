/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Health checks: a program in the guest, run again and again; its exit status 0 is health. It gets
 * its streams from nowhere and is ended when it takes too long.
 *
 *      starting ──0──▶ healthy ──`retries` failures in a row──▶ unhealthy ──0──▶ healthy
 *      Failures within start_period_ms of the start do not count.
 */
#include "manager/internal.h"

#include "base/clock.h"
#include "stream_protocol.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Its exit code, or negative: it took too long or could not be run. */
static int read_exit(int fd, uint64_t deadline_ns)
{
    CLEANUP(buf_donep) struct buf in;

    buf_init(&in, 2 * (STREAM_DATA_MAX + STREAM_HEADER_SIZE));
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        uint64_t now_ns = clock_monotonic_ns();
        enum stream_type type;
        uint32_t length;
        ssize_t n;

        if (now_ns >= deadline_ns ||
            poll(&poll_fd, 1, (int)((deadline_ns - now_ns) / NS_PER_MS) + 1) == 0)
            return -ETIMEDOUT;
        if (buf_reserve(&in, 4096) < 0 || (n = read(fd, in.data + in.length, 4096)) <= 0)
            return -ECONNRESET;
        in.length += (size_t)n;
        while (in.length >= STREAM_HEADER_SIZE) {
            if (!stream_header_decode((const uint8_t *)in.data, &type, &length))
                return -EPROTO;
            if (in.length < STREAM_HEADER_SIZE + length)
                break;
            if (type == STREAM_EXIT) {
                json_t *end = json_loadb(in.data + STREAM_HEADER_SIZE, length, 0, NULL);
                int code = (int)json_integer_value(json_object_get(end, "exit_code"));

                json_decref(end);
                return code;
            }
            buf_consume(&in, STREAM_HEADER_SIZE + length);
        }
    }
}

static int run_check(struct manager *m, const struct instance *instance, pid_t pid,
                     struct spec *spec)
{
    uint64_t deadline_ns = clock_monotonic_ns() + spec->health.timeout_ms * NS_PER_MS;
    const uint8_t kill_it[STREAM_HEADER_SIZE + 1] = {STREAM_SIGNAL, 0, 0, 0, 0, 0, 0, 1, 9};
    char **command = spec->command;
    json_t *process = NULL;
    int ends[2], result, link = -1;

    if (instance->brief->vm)
        return -EOPNOTSUPP;
    spec->command = spec->health.command;
    spec->tty = false;
    result = prepare_process(m, spec, pid, 0, 0, &process, NULL);
    spec->command = command;
    if (result < 0)
        return result;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        json_decref(process);
        return -errno;
    }
    result = shim_hand_over(
        m, instance->id,
        json_pack("{s:s, s:o, s:b}", "command", "exec", "process", process, "stdin", 0), ends[1],
        &link, NULL);
    close(ends[1]);
    if (result == 0 && (result = read_exit(ends[0], deadline_ns)) == -ETIMEDOUT)
        (void)!send(ends[0], kill_it, sizeof(kill_it), MSG_NOSIGNAL);
    fd_closep(&link);
    close(ends[0]);
    return result;
}

static void note(struct manager *m, struct instance *instance, const struct spec *spec, int result)
{
    enum instance_health before, after;
    int64_t age_ns;

    pthread_mutex_lock(&m->lock);
    before = after = instance->health;
    age_ns = (int64_t)clock_realtime_ns() - instance->row.started_ns;
    instance->health_running = false;
    if (instance->row.state != INSTANCE_RUNNING || before == HEALTH_NONE) {
        pthread_mutex_unlock(&m->lock);
        return;
    }
    instance->health_at_ns = clock_monotonic_ns() + spec->health.interval_ms * NS_PER_MS;
    if (result == 0) {
        instance->health_failures = 0;
        after = HEALTH_HEALTHY;
    } else if (before == HEALTH_HEALTHY ||
               age_ns > (int64_t)(spec->health.start_period_ms * NS_PER_MS)) {
        if (++instance->health_failures >= spec->health.retries)
            after = HEALTH_UNHEALTHY;
    }
    instance->health = after;
    pthread_cond_broadcast(&instance->changed);
    pthread_mutex_unlock(&m->lock);
    if (after != before)
        event_add(m, instance, after == HEALTH_HEALTHY ? "healthy" : "unhealthy", NULL);
}

void health_work(struct manager *m, void *context)
{
    struct instance *instance = context;
    struct spec spec;
    pid_t pid;
    int result;

    pthread_mutex_lock(&m->lock);
    result = spec_parse_text(instance->spec, &spec, NULL);
    pid = instance->pid;
    if (result < 0)
        instance->health_running = false;
    pthread_mutex_unlock(&m->lock);
    if (result == 0) {
        result = spec.health.command ? run_check(m, instance, pid, &spec) : 0;
        note(m, instance, &spec, result);
        spec_done(&spec);
    }
    instance_unref(m, instance);
}
