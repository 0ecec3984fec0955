/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the manager must not forget, in SQLite (WAL, synchronous=FULL): a call that returns 0 has
 * its change on the disk.
 *
 * One writer thread has the only connection. Changes that are waiting become one transaction, so
 * many clients share one sync; when that transaction fails each change is tried alone, so one that
 * is refused (a name twice, no room) fails nobody else's. Invariant: a change is either wholly in
 * the database and acknowledged, or not in it (or the process died in between).
 *
 * Threads: any; calls block until the disk has answered.
 */
#ifndef LODGE_MANAGER_STORE_H
#define LODGE_MANAGER_STORE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct state_store;
struct sqlite3;

/* One instance. Strings are borrowed for the time of the call. */
struct store_instance {
    const char *id, *name, *spec, *state, *error;
    uint64_t run, restarts;
    int64_t created_ns, started_ns, finished_ns;
    int exit_code;
    bool wanted;
};

struct store_operation {
    uint64_t id;
    const char *kind, *instance, *status, *error, *arguments;
    int64_t created_ns, finished_ns;
    int code; /* HTTP status of a failure */
};

struct store_environment {
    const char *name, *id, *spec;
    int64_t created_ns;
};

struct store_change {
    const struct store_instance *put;            /* made or replaced; NULL: none */
    const char *remove;                          /* an instance's id; NULL: none */
    const struct store_operation *operation;     /* made or replaced; NULL: none */
    const struct store_environment *environment; /* made or replaced; NULL: none */
    const char *remove_environment;              /* its name; NULL: none */
    /* Others' tables, in the same transaction, on the writer's thread; NULL: none. 0 or -errno. May
     * be called again after a transaction that failed, so it changes nothing but the database. */
    int (*also)(struct sqlite3 *db, void *context);
    void *context;
};

/* What an error of SQLite (extended code) is as -errno. */
int state_store_errno(int code);

int state_store_open(const char *path, struct state_store **ret, struct err *err);
/* Waits for what is on its way. */
void state_store_close(struct state_store *store);

/* -EEXIST: the name is taken. -ENOSPC: no room on the disk. */
int state_store_apply(struct state_store *store, const struct store_change *change,
                      struct err *err);
/* Before the first apply: everything that is there, in order of creation. */
int state_store_load(struct state_store *store,
                     int (*instance)(const struct store_instance *instance, void *context),
                     int (*operation)(const struct store_operation *operation, void *context),
                     void *context, struct err *err);
/* Likewise: the environments. Before state_store_load. */
int state_store_load_environments(struct state_store *store,
                                  int (*each)(const struct store_environment *e, void *context),
                                  void *context, struct err *err);
/* Finished operations but the newest `keep` go away, some time. */
void state_store_prune(struct state_store *store, unsigned keep);

#endif
