/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts and the instances on them, from a JSON file (docs/planning.md has the schema), placed by
 * the manager's own rules (policy/placement.h). For rehearsals: where would it go, how many more
 * fit.
 *
 * Instances of one kind are alike. Units: cores, MiB; `busy` is how many cores an instance really
 * uses, where it is known.
 */
#ifndef LODGE_MODEL_FLEET_H
#define LODGE_MODEL_FLEET_H

#include "model/document.h"
#include "policy/admission.h"
#include "policy/placement.h"

#include <stdbool.h>

#define FLEET_HOSTS_MAX     1000000u
#define FLEET_INSTANCES_MAX 10000000u
#define FLEET_KINDS_MAX     1024u
#define FLEET_NAME_MAX      48

struct fleet_kind {
    char name[FLEET_NAME_MAX];
    uint64_t count;
    double busy;       /* cores each really uses; 0: unknown */
    double dirty_rate; /* MiB/s that each writes while it moves; below 0: not said */
    uint32_t fixed;    /* host that the file puts them on; PLACEMENT_NONE: free */
    uint64_t placed;
    struct placement_need need;
};

/* Whom a newcomer has to pass (policy/admission.h): all hosts together, and the environment that
 * the file's instances are in, if it has one. */
enum { FLEET_HOSTS, FLEET_ENVIRONMENT, FLEET_LEVELS };

struct fleet {
    struct admission_level levels[FLEET_LEVELS]; /* cores, bytes */
    size_t nr_levels;
    char environment[FLEET_NAME_MAX];
    struct placement *placement;
    enum placement_rule rule;
    uint32_t nr_hosts;
    char (*host_names)[FLEET_NAME_MAX];
    double *host_cores, *host_busy; /* as reported, without overcommit; cores in use */
    size_t nr_kinds;
    struct fleet_kind *kinds;
    uint32_t *instance_kinds; /* by the placement's instance number */
    size_t instance_capacity;
};

/* Errors begin with the member's path. Nothing is placed yet, but what is fixed. */
int fleet_read(const struct json_at *root, struct fleet **ret, struct err *err);
/* One host that stands for this machine. */
int fleet_of_host(double cores, double memory_mib, double disk_mib, struct fleet **ret,
                  struct err *err);
void fleet_free(struct fleet *fleet);
static inline void fleet_freep(struct fleet **fleet)
{
    if (*fleet)
        fleet_free(*fleet);
}

/* PLACEMENT_NONE: no host of that name. */
uint32_t fleet_host(const struct fleet *fleet, const char *name);

/* One more of that kind, where the rule says. -ENOSPC: nowhere. */
int fleet_place_one(struct fleet *fleet, size_t kind, uint32_t *ret_host, uint32_t *ret_instance,
                    struct err *err);
/* All that the file wants and that have no host yet, the largest first (as every bin packing rule
 * wants); kinds[].placed says how many found room. */
int fleet_place_all(struct fleet *fleet, struct err *err);

struct fleet_fit {
    uint64_t admitted; /* that admission would let in, whatever host has room; UINT64_MAX: all */
    struct admission_answer refusal; /* of the one after them */
    char because[256];               /* the same in words; "": admission refuses nobody */
    uint64_t copies;                 /* that find room on a host, by reservation */
    uint64_t copies_ok; /* until the first host would be busier than allowed; UINT64_MAX: never */
    uint32_t busy_host; /* that host */
    /* Hosts that are short of each resource once no more fit, and hosts with room that a
     * constraint forbids. */
    uint32_t short_of[PLACEMENT_RESOURCES], forbidden;
};

/* What all three allow. */
static inline uint64_t fleet_fit_more(const struct fleet_fit *fit)
{
    uint64_t more = fit->copies < fit->copies_ok ? fit->copies : fit->copies_ok;

    return more < fit->admitted ? more : fit->admitted;
}

/* Asks admission; then, whatever that says, adds copies until no host has room or `most` are there.
 * Changes the fleet. */
int fleet_fit(struct fleet *fleet, size_t kind, double busy_most, uint64_t most,
              struct fleet_fit *ret, struct err *err);

#endif
