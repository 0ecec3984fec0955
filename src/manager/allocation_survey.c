/* SPDX-License-Identifier: Apache-2.0 */
/* A survey: taken, measured, decided. */
#include "manager/allocation.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/util.h"
#include "host/memory_round.h"
#include "policy/drf.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_S 60.0 /* of T_i */
/* Of DRF: a member's whole demand is so many tasks. */
#define DRF_TASKS 200

static int grow(struct allocation_group *group, struct err *err)
{
    size_t room = group->room ? 2 * group->room : 8;
    void *members = reallocarray(group->members, room, sizeof(*group->members));
    void *instances, *results, *divisions;

    if (members)
        group->members = members;
    if ((instances = reallocarray(group->instances, room, sizeof(*group->instances))))
        group->instances = instances;
    if ((results = reallocarray(group->results, room, sizeof(*group->results))))
        group->results = results;
    if ((divisions = reallocarray(group->divisions, room, sizeof(*group->divisions))))
        group->divisions = divisions;
    if (!members || !instances || !results || !divisions) {
        err_set(err, -ENOMEM, "out of memory");
        return -ENOMEM;
    }
    group->room = room;
    return 0;
}

static int add_member(struct allocation_group *group, const struct allocation_member *member,
                      const struct allocation_instance *claim, struct err *err)
{
    int result = group->nr == group->room ? grow(group, err) : 0;

    if (result < 0)
        return result;
    group->members[group->nr] = *member;
    group->instances[group->nr] = *claim;
    group->results[group->nr] = (struct allocation_result){0};
    group->divisions[group->nr] = (struct host_division){0};
    group->nr++;
    return 0;
}

static double given(double value, double otherwise)
{
    return isnan(value) ? otherwise : value;
}

/* Limits are never below a reservation: admission and the specification see to it; a quota lowered
 * meanwhile is the stronger one. */
static void claim_of(const struct instance *instance, const struct environment_spec *spec,
                     struct allocation_instance *ret)
{
    const struct instance_brief *brief = instance->brief;
    double usual = brief->cpu_shares ? (double)brief->cpu_shares / 1024 : 1;

    *ret = (struct allocation_instance){.priority = given(brief->share.priority, usual),
                                        .alpha = given(brief->share.alpha, spec->alpha),
                                        .beta = given(brief->share.beta, spec->beta),
                                        .run_seconds = instance->meter.run_seconds};
    admission_reservation(&brief->share, ret->reservation);
    for (unsigned i = 0; i < ALLOCATION_RESOURCES; i++)
        ret->limit[i] = ALLOCATION_UNLIMITED;
    if (brief->cpu_limit_millis)
        ret->limit[ALLOCATION_CPU] = (double)brief->cpu_limit_millis / 1000;
    if (brief->memory_bytes)
        ret->limit[ALLOCATION_MEMORY] = fmax((double)brief->memory_bytes,
                                             ret->reservation[ALLOCATION_MEMORY]);
}

static int take_group(struct allocation_group *group, const struct environment *e)
{
    *group = (struct allocation_group){.spec = e->spec,
                                       .written = e->written,
                                       .memory_limit_written = e->memory_limit_written,
                                       .known = e->known};
    snprintf(group->name, sizeof(group->name), "%s", e->name);
    snprintf(group->id, sizeof(group->id), "%s", e->id);
    environment_path(e, group->path);
    return 0;
}

static struct allocation_group *find_group(struct allocation_survey *survey, const char *name)
{
    for (size_t i = *name ? 1 : survey->nr; i < survey->nr; i++)
        if (!strcmp(survey->groups[i].name, name))
            return &survey->groups[i];
    return &survey->groups[0];
}

static int take_instance(struct allocation_survey *survey, struct instance *instance,
                         struct err *err)
{
    struct allocation_group *group = find_group(survey, instance->brief->environment);
    struct allocation_member member = {.vm = instance->brief->vm,
                                       .paused = instance->row.state == INSTANCE_PAUSED,
                                       .run = instance->row.run,
                                       .memory_bytes = instance->brief->memory_bytes};
    struct allocation_instance claim;
    int result;

    if (instance->meter.run != instance->row.run)
        instance->meter = (struct instance_meter){.run = instance->row.run};
    member.meter = instance->meter;
    claim_of(instance, &group->spec, &claim);
    snprintf(member.name, sizeof(member.name), "%s", instance->name);
    instance_cgroup_path_locked(survey->m, instance, member.path);
    member.instance = instance;
    if ((result = add_member(group, &member, &claim, err)) == 0)
        instance_ref_locked(instance);
    return result;
}

static int take_locked(struct allocation_survey *survey, struct err *err)
{
    struct manager *m = survey->m;
    int result = 0;

    survey->groups = calloc(m->nr_environments, sizeof(*survey->groups));
    if (!survey->groups)
        return err_set(err, -ENOMEM, "out of memory");
    for (const struct environment *e = m->environments; e; e = e->next)
        take_group(&survey->groups[survey->nr++], e);
    for (struct instance *at = m->first; at && result == 0; at = at->next)
        if (at->row.state == INSTANCE_RUNNING || at->row.state == INSTANCE_PAUSED)
            result = take_instance(survey, at, err);
    return result;
}

int survey_take(struct manager *m, struct allocation_survey *ret, struct err *err)
{
    int result;

    *ret = (struct allocation_survey){.m = m};
    pthread_mutex_lock(&m->lock);
    result = take_locked(ret, err);
    pthread_mutex_unlock(&m->lock);
    if (result < 0)
        survey_done(ret);
    return result;
}

void survey_done(struct allocation_survey *survey)
{
    pthread_mutex_lock(&survey->m->lock);
    for (size_t i = 0; i < survey->nr; i++)
        for (size_t k = 0; k < survey->groups[i].nr; k++)
            if (survey->groups[i].members[k].instance)
                instance_unref_locked(survey->groups[i].members[k].instance);
    pthread_mutex_unlock(&survey->m->lock);
    for (size_t i = 0; i < survey->nr; i++) {
        free(survey->groups[i].members);
        free(survey->groups[i].instances);
        free(survey->groups[i].results);
        free(survey->groups[i].divisions);
    }
    free(survey->groups);
    survey->groups = NULL;
    survey->nr = 0;
}

/* Use since the last reading, as a rate, and T_i. */
static void take_reading(struct instance_meter *meter, const struct host_figures *figures)
{
    uint64_t now_ns = clock_monotonic_ns();

    if (meter->read_ns && now_ns > meter->read_ns && figures->cpu_ns >= meter->cpu_ns) {
        double elapsed = (double)(now_ns - meter->read_ns) / 1e9;
        double used = (double)(figures->cpu_ns - meter->cpu_ns) / 1e9;

        meter->used_cores = used / elapsed;
        meter->run_seconds = allocation_run_time(meter->run_seconds, used, elapsed, WINDOW_S);
    } else if (!meter->read_ns) {
        meter->run_seconds = fmin((double)figures->cpu_ns / 1e9, WINDOW_S);
    }
    meter->read_ns = now_ns;
    meter->cpu_ns = figures->cpu_ns;
    meter->cpu_pressure = fmax(figures->cpu_pressure, 0);
    meter->memory_pressure = fmax(figures->memory_pressure, 0);
    if (figures->memory_bytes != UINT64_MAX)
        meter->memory_bytes = figures->memory_bytes;
    if (figures->file_bytes != UINT64_MAX)
        meter->reclaimable_bytes = MIN(figures->file_bytes, meter->memory_bytes);
}

static void measure_member(struct allocation_group *group, size_t i)
{
    struct allocation_member *member = &group->members[i];
    struct allocation_instance *claim = &group->instances[i];
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    struct host_figures figures;

    if (host_cgroup_open(member->path, &cgroup, NULL) == 0 &&
        host_cgroup_read(cgroup, &figures, NULL) == 0)
        take_reading(&member->meter, &figures);
    claim->run_seconds = member->meter.run_seconds;
    claim->used[ALLOCATION_CPU] = member->meter.used_cores;
    claim->used[ALLOCATION_MEMORY] = (double)member->meter.memory_bytes;
    claim->pressure[ALLOCATION_CPU] = fmin(member->meter.cpu_pressure, 1);
    claim->pressure[ALLOCATION_MEMORY] = fmin(member->meter.memory_pressure, 1);
}

void survey_measure(struct allocation_survey *survey, bool all)
{
    bool dynamic = survey->groups[0].spec.mode == ALLOCATION_DYNAMIC;

    for (size_t g = 0; g < survey->nr; g++) {
        struct allocation_group *group = &survey->groups[g];

        for (size_t i = 0; i < group->nr; i++)
            if (group->members[i].instance &&
                (all || dynamic || group->spec.drf || group->spec.mode == ALLOCATION_DYNAMIC ||
                 group->instances[i].beta != 0))
                measure_member(group, i);
    }
}

/* An environment as a claim on the host: what its members need together, within its quota. */
static int add_environment(struct allocation_survey *survey, size_t g, struct err *err)
{
    const struct allocation_group *group = &survey->groups[g];
    struct allocation_member member = {.group = g,
                                       .meter = {.written = group->written, .known = group->known}};
    struct allocation_instance claim = {.priority = group->spec.priority, .alpha = 1};

    for (unsigned r = 0; r < ALLOCATION_RESOURCES; r++) {
        claim.limit[r] = r == ALLOCATION_CPU      ? group->spec.cpus
                         : r == ALLOCATION_MEMORY ? group->spec.memory
                                                  : ALLOCATION_UNLIMITED;
        for (size_t i = 0; i < group->nr; i++) {
            claim.reservation[r] += group->instances[i].reservation[r];
            claim.used[r] += group->instances[i].used[r];
            claim.pressure[r] = fmax(claim.pressure[r], group->instances[i].pressure[r]);
        }
        /* Overcommitted reservations are met only as far as the quota goes. */
        claim.reservation[r] = fmin(claim.reservation[r], claim.limit[r]);
    }
    snprintf(member.name, sizeof(member.name), "%s", group->name);
    snprintf(member.path, sizeof(member.path), "%s", group->path);
    return add_member(&survey->groups[0], &member, &claim, err);
}

/* Equal dominant shares: each member's whole demand is cut into many equal tasks. */
static int decide_drf(struct allocation_group *group, struct err *err)
{
    CLEANUP(freep) struct drf_user *users = calloc(group->nr + 1, sizeof(*users));
    int result;

    if (!users)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < group->nr; i++) {
        users[i].weight = group->results[i].weight;
        users[i].tasks_max = DRF_TASKS;
        for (unsigned r = 0; r <= ALLOCATION_MEMORY; r++) {
            double demand = fmin(group->instances[i].limit[r], group->capacity[r]);

            /* Without a limit of memory it is what it holds. */
            if (r == ALLOCATION_MEMORY && isinf(group->instances[i].limit[r]))
                demand = fmax(group->instances[i].used[r], (double)MIB);
            users[i].need[r] = fmax(demand, 1e-6) / DRF_TASKS;
        }
    }
    if ((result = drf_fill(group->capacity, 2, users, group->nr, NULL, err)) < 0)
        return result;
    for (size_t i = 0; i < group->nr; i++) {
        group->members[i].dominant_share = users[i].dominant_share;
        group->members[i].dominant_resource = users[i].dominant_resource;
        for (unsigned r = 0; r <= ALLOCATION_MEMORY; r++) {
            double amount = (double)users[i].tasks * users[i].need[r];
            double reserved = group->instances[i].reservation[r];

            group->results[i].share[r] =
                amount < reserved ? (struct allocation_share){reserved, ALLOCATION_BY_RESERVATION}
                                  : (struct allocation_share){amount, ALLOCATION_BY_DOMINANCE};
        }
    }
    return 0;
}

static int decide_group(struct allocation_group *group, struct err *err)
{
    const struct allocation_policy policy = {.mode = group->spec.mode};
    int result = allocation_round(group->capacity, &policy, group->instances, group->nr,
                                  group->results, group->fill, err);

    if (result == 0 && group->spec.drf)
        result = decide_drf(group, err);
    if (result < 0)
        return err_wrap(err, "environment %s", group->name);
    return host_division_weights(group->instances, group->results, group->nr, group->divisions,
                                 err);
}

int survey_decide(struct allocation_survey *survey, struct err *err)
{
    struct allocation_group *host = &survey->groups[0];
    struct memory_host memory = {0};
    int result = host_memory_read(&memory, err);

    if (result < 0)
        return result;
    for (size_t g = 1; g < survey->nr; g++)
        if (survey->groups[g].nr && (result = add_environment(survey, g, err)) < 0)
            return result;
    host->capacity[ALLOCATION_CPU] = (double)sysconf(_SC_NPROCESSORS_ONLN);
    host->capacity[ALLOCATION_MEMORY] = (double)memory.total_bytes;
    if ((result = decide_group(host, err)) < 0)
        return result;
    for (size_t i = 0; i < host->nr; i++) {
        struct allocation_group *group = &survey->groups[host->members[i].group];

        if (host->members[i].instance)
            continue;
        for (unsigned r = 0; r <= ALLOCATION_MEMORY; r++)
            /* It may have idled till now: its members share what it could have at once. */
            group->capacity[r] = fmax(host->results[i].share[r].amount,
                                      host->results[i].entitled[r]);
        if ((result = decide_group(group, err)) < 0)
            return result;
    }
    return 0;
}

static void keep_group_locked(struct manager *m, const struct allocation_group *group)
{
    for (struct environment *e = m->environments; e; e = e->next)
        if (!strcmp(e->name, group->name) && !strcmp(e->id, group->id)) {
            e->written = group->written;
            e->memory_limit_written = group->memory_limit_written;
            e->known = group->known;
        }
}

void survey_keep(struct allocation_survey *survey)
{
    struct manager *m = survey->m;

    pthread_mutex_lock(&m->lock);
    for (size_t g = 0; g < survey->nr; g++) {
        struct allocation_group *group = &survey->groups[g];

        keep_group_locked(m, group);
        for (size_t i = 0; i < group->nr; i++) {
            struct instance *instance = group->members[i].instance;

            if (instance && instance->row.run == group->members[i].run)
                instance->meter = group->members[i].meter;
        }
    }
    pthread_mutex_unlock(&m->lock);
}

struct allocation_member *survey_find(struct allocation_survey *survey,
                                      const struct instance *instance,
                                      struct allocation_group **ret_group, size_t *ret_index)
{
    for (size_t g = 0; g < survey->nr; g++)
        for (size_t i = 0; i < survey->groups[g].nr; i++)
            if (survey->groups[g].members[i].instance == instance) {
                *ret_group = &survey->groups[g];
                *ret_index = i;
                return &survey->groups[g].members[i];
            }
    return NULL;
}
