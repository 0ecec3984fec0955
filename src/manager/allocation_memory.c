/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory comes back by itself: once a period, when the host (or an environment with a quota) has
 * less free than it is to have, each member is brought nearer to its working set by
 * policy/memory.h. A container's pages are reclaimed, without a limit left behind; a VM's balloon
 * takes what its guest says is free, and gives it back when the guest runs low.
 */
#include "manager/allocation.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/util.h"
#include "host/memory_round.h"
#include "vmm_control.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VM_LEAST      (64 * MIB) /* what a guest's kernel and agent need */
#define VM_SILENCE_NS (30 * NS_PER_S)
/* A guest with less than this part of its memory available is in want of it. */
#define VM_WANT         0.12
#define KEEP_FREE_USUAL 0.10

struct candidate {
    struct allocation_member *member;
    struct memory_instance figures;
    uint64_t target; /* the lowest that was decided; 0: none */
    bool grows;
};

static json_int_t number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

/* A guest that has no driver (yet), or does not answer, is left alone for a while. */
static bool read_vm(struct manager *m, struct candidate *c)
{
    struct instance_meter *meter = &c->member->meter;
    uint64_t now_ns = clock_monotonic_ns();
    CLEANUP(json_decrefp) json_t *answer = NULL;
    const json_t *statistics;
    uint64_t guest, available;

    if (now_ns < meter->silent_until_ns)
        return false;
    if (vm_ask(m, c->member->instance->id, json_pack("{s:s}", "command", VMM_CONTROL_BALLOON),
               &answer, NULL) < 0 ||
        !json_is_true(json_object_get(answer, "driver"))) {
        meter->silent_until_ns = now_ns + VM_SILENCE_NS / (answer ? 10 : 1);
        return false;
    }
    statistics = json_object_get(answer, "statistics");
    guest = (uint64_t)number(answer, "guest_bytes");
    available = (uint64_t)MAX(number(statistics, "available_bytes"),
                              number(statistics, "free_bytes"));
    if (!guest || !json_object_size(statistics))
        return false; /* it has told nothing yet; the question makes it */
    c->figures.limit_bytes = MAX(
        c->member->memory_bytes ? align_up(c->member->memory_bytes, 2 * MIB) : 512 * MIB, guest);
    c->figures.target_bytes = meter->memory_target ?: guest;
    c->figures.used_bytes = guest;
    c->figures.reclaimable_bytes = MIN(available, guest);
    c->figures.reservation_bytes = MIN(MAX(c->figures.reservation_bytes, VM_LEAST),
                                       c->figures.limit_bytes);
    c->figures.pressure = (double)available < VM_WANT * (double)guest ? 1 : 0;
    return true;
}

static bool read_container(struct candidate *c, const struct memory_host *host)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    struct host_figures figures;

    if (host_cgroup_open(c->member->path, &cgroup, NULL) < 0 ||
        host_cgroup_read(cgroup, &figures, NULL) < 0 || figures.memory_bytes == UINT64_MAX)
        return false;
    c->figures.limit_bytes = c->member->memory_bytes ?: host->total_bytes;
    c->figures.limit_bytes = MAX(c->figures.limit_bytes, c->figures.reservation_bytes);
    c->figures.used_bytes = figures.memory_bytes;
    c->figures.reclaimable_bytes = figures.file_bytes == UINT64_MAX
                                       ? 0
                                       : MIN(figures.file_bytes, figures.memory_bytes);
    c->figures.pressure = figures.memory_pressure > 0 ? fmin(figures.memory_pressure, 1) : 0;
    return true;
}

static void gather(struct allocation_survey *survey, struct allocation_group *group,
                   const struct memory_host *host, struct candidate *candidates, size_t *nr)
{
    for (size_t i = 0; i < group->nr; i++) {
        struct allocation_member *member = &group->members[i];
        struct candidate *c = &candidates[*nr];

        if (!member->instance || member->paused)
            continue;
        *c = (struct candidate){.member = member};
        c->figures.weight = group->results[i].weight;
        c->figures.reservation_bytes = (uint64_t)group->instances[i].reservation[ALLOCATION_MEMORY];
        if (member->vm ? read_vm(survey->m, c) : read_container(c, host))
            (*nr)++;
    }
}

/* The lower of what the host and an environment ask for; growing only where both agree. */
static void decide(const struct memory_policy *policy, const struct memory_host *host,
                   struct candidate *candidates, size_t nr)
{
    CLEANUP(freep) struct memory_instance *instances = calloc(nr + 1, sizeof(*instances));
    CLEANUP(freep) struct memory_target *targets = calloc(nr + 1, sizeof(*targets));

    if (!instances || !targets || !nr)
        return;
    for (size_t i = 0; i < nr; i++)
        instances[i] = candidates[i].figures;
    if (memory_targets(policy, host, instances, nr, targets, NULL) < 0)
        return;
    for (size_t i = 0; i < nr; i++) {
        struct candidate *c = &candidates[i];

        if (targets[i].action == MEMORY_KEEP || (c->target && c->target <= targets[i].target_bytes))
            continue;
        c->target = targets[i].target_bytes;
        c->grows = targets[i].action == MEMORY_GROW;
    }
}

static void carry_out(struct manager *m, struct candidate *c)
{
    struct instance_meter *meter = &c->member->meter;

    if (!c->target)
        return;
    if (c->member->vm) {
        if (c->target == c->figures.target_bytes && meter->memory_target == c->target)
            return;
        if (vm_ask(m, c->member->instance->id,
                   json_pack("{s:s, s:I}", "command", VMM_CONTROL_BALLOON, "target_bytes",
                             (json_int_t)c->target),
                   NULL, NULL) == 0)
            meter->memory_target = c->target >= c->figures.limit_bytes ? 0 : c->target;
        return;
    }
    if (!c->grows && geteuid() == 0) {
        CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;

        if (host_cgroup_open(c->member->path, &cgroup, NULL) == 0)
            host_cgroup_reclaim(cgroup, c->target, NULL);
    }
}

static bool is_pressed(const struct memory_policy *policy, const struct memory_host *host)
{
    return (double)host->available_bytes < policy->free_low * (double)host->total_bytes ||
           host->pressure >= policy->pressure_high;
}

static struct memory_policy policy_of(const struct environment_spec *spec)
{
    double low = spec->keep_free > 0 ? spec->keep_free : KEEP_FREE_USUAL;

    return (struct memory_policy){
        .free_low = low, .free_high = fmin(2 * low, (1 + low) / 2), .pressure_high = 0.10};
}

/* An environment with a quota is a host of its own. False: it has none, or is not counted. */
static bool read_environment(const struct allocation_group *group, struct memory_host *ret)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    struct host_figures figures;
    uint64_t used, files;

    if (isinf(group->spec.memory) || host_cgroup_open(group->path, &cgroup, NULL) < 0 ||
        host_cgroup_read(cgroup, &figures, NULL) < 0 || figures.memory_bytes == UINT64_MAX)
        return false;
    *ret = (struct memory_host){.total_bytes = (uint64_t)group->spec.memory};
    files = figures.file_bytes == UINT64_MAX ? 0 : MIN(figures.file_bytes, figures.memory_bytes);
    used = MIN(figures.memory_bytes - files, ret->total_bytes);
    ret->available_bytes = ret->total_bytes - used;
    ret->pressure = figures.memory_pressure > 0 ? fmin(figures.memory_pressure, 1) : 0;
    return true;
}

static bool has_targets(const struct allocation_group *group)
{
    for (size_t i = 0; i < group->nr; i++)
        if (group->members[i].meter.memory_target)
            return true;
    return false;
}

void memory_round(struct allocation_survey *survey)
{
    struct memory_policy policy = policy_of(&survey->groups[0].spec);
    CLEANUP(freep) struct candidate *candidates = NULL;
    struct memory_host host;
    size_t room = 1, nr = 0;
    bool all;

    if (host_memory_read(&host, NULL) < 0)
        return;
    all = is_pressed(&policy, &host);
    for (size_t g = 0; g < survey->nr; g++)
        room += survey->groups[g].nr;
    if (!(candidates = calloc(room, sizeof(*candidates))))
        return;
    for (size_t g = 0; g < survey->nr; g++) {
        struct allocation_group *group = &survey->groups[g];
        struct memory_policy own = policy_of(&group->spec);
        struct memory_host inner;
        size_t first = nr;
        bool counted = g && group->nr && read_environment(group, &inner);
        bool pressed = counted && is_pressed(&own, &inner);

        if (!all && !pressed && !has_targets(group))
            continue;
        gather(survey, group, &host, candidates, &nr);
        if (pressed)
            decide(&own, &inner, candidates + first, nr - first);
    }
    decide(&policy, &host, candidates, nr);
    for (size_t i = 0; i < nr; i++)
        carry_out(survey->m, &candidates[i]);
}
