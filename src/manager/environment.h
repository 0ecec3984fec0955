/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Environments: named groups of instances with a quota, a weight among the groups, and the rules by
 * which their members share. Each is a cgroup, /lodge/env-NAME-ID, with its members' cgroups in it;
 * an instance of no environment is in /lodge itself and belongs to "default", which is always
 * there, has no quota and carries the host's own settings.
 *
 * Invariants: 1. an instance's environment is a member of its specification, so it is stored with
 * it; 2. an environment with members is not removed (checked and taken note of under
 * manager.lock); 3. where the processes are follows what is stored, also after a crash between the
 * two (environment_reconcile). Threads: any; functions named _locked need manager.lock.
 */
#ifndef LODGE_MANAGER_ENVIRONMENT_H
#define LODGE_MANAGER_ENVIRONMENT_H

#include "manager/spec.h"
#include "policy/admission.h"
#include "policy/allocation.h"

#include <sys/types.h>

#define ENVIRONMENT_DEFAULT  "default"
#define ENVIRONMENT_PATH_MAX 128
#define ENVIRONMENTS_MAX     1024

struct manager;
struct instance;
struct instance_brief;
struct operation;

/* What a client asked for; plain values, so it can be copied. */
struct environment_spec {
    double cpus;        /* quota; ALLOCATION_UNLIMITED: none */
    double memory;      /* bytes; likewise */
    double priority;    /* among the environments */
    double alpha, beta; /* of members that have none of their own */
    double overcommit[ALLOCATION_RESOURCES];
    enum allocation_mode mode;
    bool drf;
    uint64_t instances_max; /* 0: no limit */
    double keep_free;       /* part of the memory below which members give back; 0: the usual */
    char network[64];       /* of members that name none; "": none */
};

struct environment {
    char name[SPEC_NAME_MAX + 1], id[9];
    char *text; /* the specification as it is stored */
    struct environment_spec spec;
    int64_t created_ns;
    bool stored, removing;
    bool busy;                /* a change of it is being stored */
    struct environment *next; /* in order of creation; "default" first */
    /* Of the allocator. */
    struct allocation_cgroup written;
    double memory_limit_written;
    bool known; /* what was written is what the kernel has */
};

/* environment_spec.c: pure. */
int environment_spec_parse(json_t *document, struct environment_spec *ret, struct err *err);
/* A copy of document with the members of changes (null takes one away), checked. */
int environment_spec_change(json_t *document, json_t *changes, json_t **ret, struct err *err);

/* environment.c */
int environments_load(struct manager *m, struct err *err);
void environments_free(struct manager *m);
/* NULL or "": default. -ENOENT with the names that there are. */
int environment_find_locked(struct manager *m, const char *name, struct environment **ret,
                            struct err *err);
/* A new instance's document: what its environment has for members that say nothing (network). */
int environment_inherit(struct manager *m, json_t *document, struct err *err);
/* The name of the first whose members are on that network; NULL: none. To be freed. */
char *environment_with_network(struct manager *m, const char *network);
int environment_create(struct manager *m, json_t *document, char ret_name[SPEC_NAME_MAX + 1],
                       struct err *err);
int environment_update(struct manager *m, const char *name, json_t *changes, struct err *err);
int environment_remove(struct manager *m, const char *name, struct err *err);
bool environment_has_locked(const struct environment *e, const struct instance *instance);
/* The cgroup of the environment, and of an instance that is in it. */
void environment_path(const struct environment *e, char ret[ENVIRONMENT_PATH_MAX]);
/* Takes the lock. */
void instance_cgroup_path(struct manager *m, const struct instance *instance,
                          char ret[ENVIRONMENT_PATH_MAX]);
void instance_cgroup_path_locked(struct manager *m, const struct instance *instance,
                                 char ret[ENVIRONMENT_PATH_MAX]);

/* Of the instance with this id; takes the lock. */
void instance_cgroup_path_of(struct manager *m, const char *id, char ret[ENVIRONMENT_PATH_MAX]);

/* admit.c */
struct admission_question {
    double reservation[ALLOCATION_RESOURCES];
    const char *environment;    /* NULL: none */
    const struct instance *but; /* is counted as not there */
};
void admission_reservation(const struct spec_share *share, double ret[ALLOCATION_RESOURCES]);
/* Could it ever run, alone in its environment? -ECANCELED says why not, with the numbers. */
int admission_ever(struct manager *m, const struct spec *spec, struct err *err);
/* Now, beside those that run? On success it counts as running (instance->admitted) until
 * admission_settled. */
int admission_start(struct manager *m, struct instance *instance, struct err *err);
/* What admission_start would say; nothing is taken. */
int admission_would_start_locked(struct manager *m, const struct instance *instance,
                                 struct err *err);
/* Could it not even be alone? */
bool admission_never_locked(struct manager *m, const struct instance *instance);
bool admission_never(struct manager *m, const struct instance *instance);
void admission_settled(struct manager *m, struct instance *instance);
/* Do those that run fit what is promised at most (after a change of a quota)? */
int admission_fits_locked(struct manager *m, const struct environment *e, struct err *err);
int admission_question_locked(struct manager *m, const struct admission_question *question,
                              struct err *err);
/* May a running (or resting) instance become this? On success it is a member of its environment
 * to be, too, until admission_changed. */
int admission_change(struct manager *m, struct instance *instance, const struct spec *spec,
                     struct err *err);
void admission_changed(struct manager *m, struct instance *instance);
/* host, then the environment; returns how many. reserved and instances are
 * those of who runs. names: storage. */
unsigned admission_levels_locked(struct manager *m, const struct environment *e,
                                 const struct instance *but, struct admission_level levels[2],
                                 char name[SPEC_NAME_MAX + 32]);

/* environment_cgroup.c */
/* The environment's own cgroup, made where it is missing. */
int environment_cgroup_make(struct manager *m, const char *path, struct err *err);
/* -EOPNOTSUPP: a weight at the disks is asked for, and nobody would keep it. */
int environment_check_io_weight(const struct spec *spec, struct err *err);
/* Before a start: the cgroup that an instance's processes will enter; for a VM the files by which
 * they do (a list for the shim; may be empty). */
int environment_prepare(struct manager *m, const struct instance *instance, json_t **ret_enter,
                        struct err *err);
/* After its end. */
void environment_clear(struct manager *m, const struct instance *instance);
/* The processes of a running instance to where its specification says. Right to do twice. */
int environment_move(struct manager *m, struct instance *instance, struct err *err);
/* Likewise, when they are elsewhere: a move may have been broken off. */
void environment_reconcile(struct manager *m, struct instance *instance);

#endif
