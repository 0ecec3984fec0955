/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who runs and what each is entitled to, as one value: taken under the lock, measured and decided
 * without it. The allocator carries it out, `explain` and the figures of an environment tell it.
 *
 * The host is divided among the environments that have running members and the instances that are
 * in none (group 0); each environment's part among its members (the other groups). src/policy
 * decides; nothing here is a rule.
 */
#ifndef LODGE_MANAGER_ALLOCATION_H
#define LODGE_MANAGER_ALLOCATION_H

#include "host/division.h"
#include "manager/internal.h"

/* One claim of a group: an instance, or (in group 0) an environment. */
struct allocation_member {
    struct instance *instance; /* a reference; NULL: an environment */
    size_t group;              /* of an environment: its group */
    char name[SPEC_NAME_MAX + 1], path[ENVIRONMENT_PATH_MAX];
    bool vm, paused;
    uint64_t run, memory_bytes;
    double dominant_share; /* with drf */
    unsigned dominant_resource;
    struct instance_meter meter; /* an environment: `written` and `known` alone */
};

struct allocation_group {
    char name[SPEC_NAME_MAX + 1], path[ENVIRONMENT_PATH_MAX], id[9];
    struct environment_spec spec;
    struct allocation_cgroup written; /* of an environment */
    double memory_limit_written;
    bool known;
    double capacity[ALLOCATION_RESOURCES];
    struct allocation_member *members;
    struct allocation_instance *instances;
    struct allocation_result *results;
    struct host_division *divisions;
    size_t nr, room;
    struct allocation_fill fill[ALLOCATION_RESOURCES];
};

struct allocation_survey {
    struct manager *m;
    struct allocation_group *groups; /* 0: the host */
    size_t nr;
};

/* allocation_survey.c */
int survey_take(struct manager *m, struct allocation_survey *ret, struct err *err);
/* Reads the counters of those whose share depends on them; of all with `all`. */
void survey_measure(struct allocation_survey *survey, bool all);
int survey_decide(struct allocation_survey *survey, struct err *err);
/* What was measured and written, to the instances. */
void survey_keep(struct allocation_survey *survey);
void survey_done(struct allocation_survey *survey);
/* The member that is this instance; NULL: it does not run. */
struct allocation_member *survey_find(struct allocation_survey *survey,
                                      const struct instance *instance,
                                      struct allocation_group **ret_group, size_t *ret_index);

/* allocation_memory.c: gives memory back where the host or an environment is short of it. */
void memory_round(struct allocation_survey *survey);

#endif
