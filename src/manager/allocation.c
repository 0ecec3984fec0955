/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rounds: a survey, its decision written to the kernel, where it differs from what was written
 * before. One after a change at once, one a period for what is measured (use, pressure, memory).
 * Threads: `allocator` has a thread of its own; a round may also run in a request's, one at a time.
 */
#include "manager/allocation.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "host/cgroup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS NS_PER_S
/* Many starts one after the other are one round. */
#define GATHER_NS (20 * NS_PER_MS)

struct allocator {
    struct manager *m;
    pthread_t thread;
    pthread_mutex_t round; /* one round at a time */
    pthread_mutex_t lock;
    pthread_cond_t work;
    bool due, stop; /* lock */
};

static bool same_cpu(const struct allocation_cgroup *a, const struct allocation_cgroup *b)
{
    return a->v1_shares == b->v1_shares && a->quota_us == b->quota_us &&
           a->period_us == b->period_us;
}

/* What has ended meanwhile is no failure. */
static void write_member(struct allocation_member *member, const struct allocation_cgroup *cpu)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    struct err err = ERR_INIT;
    int result;

    if (member->meter.known && same_cpu(&member->meter.written, cpu))
        return;
    if (host_cgroup_open(member->path, &cgroup, NULL) < 0)
        return;
    if ((result = host_cgroup_set_cpu(cgroup, cpu, &err)) < 0) {
        if (result != -ENODEV && host_cgroup_exists(member->path))
            log_warning("allocation: %s", err.message);
        return;
    }
    member->meter.written = *cpu;
    member->meter.known = true;
}

/* The quota is the group's, whoever is in it. */
static void write_environment(struct allocation_group *group, struct allocation_member *member,
                              const struct allocation_cgroup *cpu)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    bool known = group->known;
    double memory = group->spec.memory;
    struct allocation_cgroup own = *cpu;
    struct err err = ERR_INIT;

    if (own.quota_us > 0) {
        own.period_us = allocation_shared_period_us(group->spec.cpus);
        own.quota_us = (int64_t)(group->spec.cpus * (double)own.period_us);
    }
    write_member(member, &own);
    group->written = member->meter.written;
    group->known = member->meter.known;
    if (!group->known || (known && group->memory_limit_written == memory) ||
        host_cgroup_open(member->path, &cgroup, NULL) < 0)
        return;
    group->memory_limit_written = memory; /* or said once that it cannot be */
    if (host_cgroup_set_memory_limit(cgroup, memory < 1e18 ? (uint64_t)memory : UINT64_MAX, &err) <
        0)
        log_warning("environment %s: %s", group->name, err.message);
}

static void write_survey(struct allocation_survey *survey)
{
    if (geteuid() != 0)
        return; /* no cgroups of ours */
    for (size_t g = 0; g < survey->nr; g++) {
        struct allocation_group *group = &survey->groups[g];

        for (size_t i = 0; i < group->nr; i++) {
            struct allocation_member *member = &group->members[i];

            if (member->instance)
                write_member(member, &group->divisions[i].written);
            else
                write_environment(&survey->groups[member->group], member,
                                  &group->divisions[i].written);
        }
    }
}

/* What only a request changes: the list of processors, the weight at the disks. */
static void write_settings(struct manager *m, struct instance *instance)
{
    const struct instance_brief *brief = instance->brief;
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    char path[ENVIRONMENT_PATH_MAX];
    struct err err = ERR_INIT;

    instance_cgroup_path(m, instance, path);
    pthread_mutex_lock(&m->lock);
    instance->meter.known = false;
    pthread_mutex_unlock(&m->lock);
    if (geteuid() != 0 || host_cgroup_open(path, &cgroup, NULL) < 0)
        return;
    if (host_cgroup_set_cpuset(cgroup, brief->share.cpuset, &err) < 0 && *brief->share.cpuset)
        log_warning("instance %s: %s", instance->name, err.message);
    if (brief->io_weight && host_cgroup_set_io_weight(cgroup, brief->io_weight, &err) < 0)
        log_warning("instance %s: %s", instance->name, err.message);
}

static int run_round(struct manager *m, struct err *err)
{
    struct allocation_survey survey;
    int result = survey_take(m, &survey, err);

    if (result < 0)
        return result;
    survey_measure(&survey, false);
    if ((result = survey_decide(&survey, err)) == 0) {
        write_survey(&survey);
        memory_round(&survey);
        survey_keep(&survey);
    }
    survey_done(&survey);
    return result;
}

void allocator_round(struct manager *m, struct instance *instance)
{
    struct err err = ERR_INIT;

    if (!m->allocator)
        return;
    pthread_mutex_lock(&m->allocator->round);
    if (instance)
        write_settings(m, instance);
    if (run_round(m, &err) < 0)
        log_warning("allocation: %s", err.message);
    pthread_mutex_unlock(&m->allocator->round);
}

static void *allocator_main(void *context)
{
    struct allocator *a = context;

    pthread_mutex_lock(&a->lock);
    while (!a->stop) {
        uint64_t at_ns = clock_realtime_ns() + PERIOD_NS;
        struct timespec deadline = {(time_t)(at_ns / NS_PER_S), (long)(at_ns % NS_PER_S)};

        while (!a->due && !a->stop)
            if (pthread_cond_timedwait(&a->work, &a->lock, &deadline) != 0)
                break;
        if (a->stop)
            break;
        if (a->due) {
            pthread_mutex_unlock(&a->lock);
            nanosleep(&(struct timespec){.tv_nsec = GATHER_NS}, NULL);
            pthread_mutex_lock(&a->lock);
        }
        a->due = false;
        pthread_mutex_unlock(&a->lock);
        allocator_round(a->m, NULL);
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

void allocator_wake(struct manager *m)
{
    struct allocator *a = m->allocator;

    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->due = true;
    pthread_cond_signal(&a->work);
    pthread_mutex_unlock(&a->lock);
}

int allocator_open(struct manager *m, struct err *err)
{
    struct allocator *a = calloc(1, sizeof(*a));
    int result;

    if (!a)
        return err_set(err, -ENOMEM, "out of memory");
    a->m = m;
    a->due = true;
    pthread_mutex_init(&a->round, NULL);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->work, NULL);
    m->allocator = a; /* the thread looks for it there */
    if ((result = pthread_create(&a->thread, NULL, allocator_main, a)) != 0) {
        m->allocator = NULL;
        free(a);
        return err_errno(err, -result, "start the allocator's thread");
    }
    return 0;
}

void allocator_close(struct manager *m)
{
    struct allocator *a = m->allocator;

    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->stop = true;
    pthread_cond_signal(&a->work);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    pthread_mutex_destroy(&a->round);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->work);
    free(a);
    m->allocator = NULL;
}
