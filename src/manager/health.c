/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Health checks: a program in the guest, run again and again; its exit status 0 is health. It gets
 * its streams from nowhere and is ended when it takes too long.
 *
 *      starting ──0──▶ healthy ──`retries` failures in a row──▶ unhealthy ──0──▶ healthy
 *      Failures within start_period_ms of the start do not count.
 */
#include "manager/internal.h"
#include "manager/pins.h"

#include "base/clock.h"

static int run_check(struct manager *m, const struct instance *instance, pid_t pid,
                     struct spec *spec)
{
    char **command = spec->command;
    json_t *process = NULL;
    int result, status = -1;

    spec->command = spec->health.command;
    spec->tty = false;
    pins_resolve(m, instance->id, spec);
    result = instance->brief->vm ? guest_vm_process(m, spec, 0, 0, &process, NULL)
                                 : prepare_process(m, spec, pid, 0, 0, &process, NULL);
    spec->command = command;
    if (result == 0)
        result = guest_run(m, instance->id, process, spec->health.timeout_ms, NULL, &status, NULL);
    return result < 0 ? result : status;
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
