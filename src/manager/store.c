/* SPDX-License-Identifier: Apache-2.0 */
/* The writer thread and its statements. */
#include "manager/store.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX      256
#define SCHEMA_VERSION 1 /* as in `schema` */

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
    "INSERT OR IGNORE INTO meta VALUES('schema', '1');"
    "CREATE TABLE IF NOT EXISTS instances("
    " id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, spec TEXT NOT NULL, state TEXT NOT NULL,"
    " wanted INTEGER NOT NULL, run INTEGER NOT NULL, restarts INTEGER NOT NULL,"
    " created_ns INTEGER NOT NULL, started_ns INTEGER NOT NULL, finished_ns INTEGER NOT NULL,"
    " exit_code INTEGER NOT NULL, error TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS operations("
    " id INTEGER PRIMARY KEY, kind TEXT NOT NULL, instance TEXT NOT NULL, status TEXT NOT NULL,"
    " arguments TEXT NOT NULL, error TEXT NOT NULL, code INTEGER NOT NULL,"
    " created_ns INTEGER NOT NULL, finished_ns INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS environments("
    " name TEXT PRIMARY KEY, id TEXT NOT NULL, spec TEXT NOT NULL, created_ns INTEGER NOT NULL)"
    " WITHOUT ROWID;";

enum statement {
    PUT_INSTANCE,
    REMOVE_INSTANCE,
    PUT_OPERATION,
    PRUNE,
    PUT_ENVIRONMENT,
    REMOVE_ENVIRONMENT,
    NR_STATEMENTS
};

static const char *const statement_texts[NR_STATEMENTS] = {
    [PUT_INSTANCE] =
        "INSERT INTO instances VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12) ON CONFLICT(id) DO "
        "UPDATE SET name=?2, spec=?3, state=?4, wanted=?5, run=?6, restarts=?7, started_ns=?9, "
        "finished_ns=?10, exit_code=?11, error=?12",
    [REMOVE_INSTANCE] = "DELETE FROM instances WHERE id=?1",
    [PUT_OPERATION] =
        "INSERT INTO operations VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9) ON CONFLICT(id) DO "
        "UPDATE SET status=?4, arguments=?5, error=?6, code=?7, finished_ns=?9",
    [PRUNE] = "DELETE FROM operations WHERE status<>'running' AND id<=(SELECT max(id) FROM "
              "operations)-?1",
    [PUT_ENVIRONMENT] = "INSERT INTO environments VALUES(?1,?2,?3,?4) ON CONFLICT(name) DO UPDATE "
                        "SET id=?2, spec=?3",
    [REMOVE_ENVIRONMENT] = "DELETE FROM environments WHERE name=?1",
};

/* Lives on the stack of who waits for it. */
struct job {
    const struct store_change *change;
    int result;
    bool done;
    struct job *next;
};

struct state_store {
    sqlite3 *db; /* the writer thread's, once it runs */
    sqlite3_stmt *statements[NR_STATEMENTS];
    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    struct job *first, **last; /* lock */
    unsigned prune;            /* lock; 0: nothing to do */
    bool stop;                 /* lock */
};

int state_store_errno(int code)
{
    switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
        return -EEXIST;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_READONLY:
        return -EROFS;
    default:
        return -EIO;
    }
}

static void bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_text(statement, index, text ?: "", -1, SQLITE_STATIC);
}

static int step(struct state_store *store, enum statement which)
{
    sqlite3_stmt *statement = store->statements[which];
    int code = sqlite3_step(statement);

    sqlite3_reset(statement);
    return code == SQLITE_DONE ? 0 : state_store_errno(sqlite3_extended_errcode(store->db));
}

static int put_instance(struct state_store *store, const struct store_instance *i)
{
    sqlite3_stmt *s = store->statements[PUT_INSTANCE];

    bind_text(s, 1, i->id);
    bind_text(s, 2, i->name);
    bind_text(s, 3, i->spec);
    bind_text(s, 4, i->state);
    sqlite3_bind_int(s, 5, i->wanted);
    sqlite3_bind_int64(s, 6, (sqlite3_int64)i->run);
    sqlite3_bind_int64(s, 7, (sqlite3_int64)i->restarts);
    sqlite3_bind_int64(s, 8, i->created_ns);
    sqlite3_bind_int64(s, 9, i->started_ns);
    sqlite3_bind_int64(s, 10, i->finished_ns);
    sqlite3_bind_int(s, 11, i->exit_code);
    bind_text(s, 12, i->error);
    return step(store, PUT_INSTANCE);
}

static int put_operation(struct state_store *store, const struct store_operation *o)
{
    sqlite3_stmt *s = store->statements[PUT_OPERATION];

    sqlite3_bind_int64(s, 1, (sqlite3_int64)o->id);
    bind_text(s, 2, o->kind);
    bind_text(s, 3, o->instance);
    bind_text(s, 4, o->status);
    bind_text(s, 5, o->arguments);
    bind_text(s, 6, o->error);
    sqlite3_bind_int(s, 7, o->code);
    sqlite3_bind_int64(s, 8, o->created_ns);
    sqlite3_bind_int64(s, 9, o->finished_ns);
    return step(store, PUT_OPERATION);
}

static int put_environment(struct state_store *store, const struct store_environment *e)
{
    sqlite3_stmt *s = store->statements[PUT_ENVIRONMENT];

    bind_text(s, 1, e->name);
    bind_text(s, 2, e->id);
    bind_text(s, 3, e->spec);
    sqlite3_bind_int64(s, 4, e->created_ns);
    return step(store, PUT_ENVIRONMENT);
}

static int carry_out(struct state_store *store, const struct store_change *change)
{
    int result = 0;

    if (change->put)
        result = put_instance(store, change->put);
    if (result == 0 && change->remove) {
        bind_text(store->statements[REMOVE_INSTANCE], 1, change->remove);
        result = step(store, REMOVE_INSTANCE);
    }
    if (result == 0 && change->operation)
        result = put_operation(store, change->operation);
    if (result == 0 && change->also)
        result = change->also(store->db, change->context);
    if (result == 0 && change->environment)
        result = put_environment(store, change->environment);
    if (result == 0 && change->remove_environment) {
        bind_text(store->statements[REMOVE_ENVIRONMENT], 1, change->remove_environment);
        result = step(store, REMOVE_ENVIRONMENT);
    }
    return result;
}

static int run_sql(struct state_store *store, const char *text)
{
    return sqlite3_exec(store->db, text, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : state_store_errno(sqlite3_extended_errcode(store->db));
}

/* All of these jobs in one transaction, or none of them. */
static int transact(struct state_store *store, struct job *const *jobs, size_t nr)
{
    int result = run_sql(store, "BEGIN IMMEDIATE");

    for (size_t i = 0; i < nr && result == 0; i++)
        result = carry_out(store, jobs[i]->change);
    if (result == 0)
        result = run_sql(store, "COMMIT");
    if (result < 0 && !sqlite3_get_autocommit(store->db))
        run_sql(store, "ROLLBACK");
    return result;
}

static void write_batch(struct state_store *store, struct job *const *jobs, size_t nr)
{
    int result = transact(store, jobs, nr);

    for (size_t i = 0; i < nr; i++)
        jobs[i]->result = result < 0 && nr > 1 ? transact(store, &jobs[i], 1) : result;
}

static void prune(struct state_store *store, unsigned keep)
{
    sqlite3_bind_int64(store->statements[PRUNE], 1, keep);
    step(store, PRUNE);
}

static void *writer_main(void *context)
{
    struct state_store *store = context;

    pthread_mutex_lock(&store->lock);
    for (;;) {
        struct job *jobs[BATCH_MAX];
        unsigned keep;
        size_t nr = 0;

        while (!store->first && !store->prune && !store->stop)
            pthread_cond_wait(&store->work, &store->lock);
        if (!store->first && store->stop)
            break;
        while (store->first && nr < BATCH_MAX) {
            jobs[nr++] = store->first;
            store->first = store->first->next;
        }
        if (!store->first)
            store->last = &store->first;
        keep = store->prune;
        store->prune = 0;
        pthread_mutex_unlock(&store->lock);
        if (nr)
            write_batch(store, jobs, nr);
        if (keep)
            prune(store, keep);
        pthread_mutex_lock(&store->lock);
        for (size_t i = 0; i < nr; i++)
            jobs[i]->done = true;
        pthread_cond_broadcast(&store->done);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

/* One number out of the database; `otherwise` when there is none. */
static sqlite3_int64 ask_number(struct state_store *store, const char *query,
                                sqlite3_int64 otherwise)
{
    sqlite3_stmt *s = NULL;
    sqlite3_int64 number = otherwise;

    if (sqlite3_prepare_v2(store->db, query, -1, &s, NULL) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW)
        number = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return number;
}

/* What is there is ours to go on with: whole, and not written by one that knows more than we do. */
static int check_db(struct state_store *store, const char *path, struct err *err)
{
    sqlite3_int64 version = ask_number(store, "SELECT value FROM meta WHERE name='schema'",
                                       SCHEMA_VERSION);
    sqlite3_stmt *s = NULL;
    const char *verdict = "it cannot be read";
    int result = 0;

    if (version > SCHEMA_VERSION)
        return err_set(
            err, -EPROTO,
            "the store '%s' was written by a newer lodged (its schema is %lld, ours %d): "
            "start that one",
            path, (long long)version, SCHEMA_VERSION);
    if (sqlite3_prepare_v2(store->db, "PRAGMA quick_check(1)", -1, &s, NULL) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW)
        verdict = (const char *)sqlite3_column_text(s, 0) ?: verdict;
    if (strcmp(verdict, "ok") != 0)
        result = err_set(err, -EUCLEAN,
                         "the store '%s' is damaged (%s); instances that run go on. Bring back a "
                         "copy of it, or save what can be read: sqlite3 '%s' .recover",
                         path, verdict, path);
    sqlite3_finalize(s);
    return result;
}

static int open_db(struct state_store *store, const char *path, struct err *err)
{
    int result;

    if (sqlite3_open_v2(path, &store->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                            SQLITE_OPEN_NOFOLLOW,
                        NULL) != SQLITE_OK ||
        run_sql(store, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA "
                       "temp_store=MEMORY; PRAGMA cache_size=-2048;") < 0)
        return err_set(err,
                       store->db ? state_store_errno(sqlite3_extended_errcode(store->db)) : -ENOMEM,
                       "open the store '%s': %s", path,
                       store->db ? sqlite3_errmsg(store->db) : "out of memory");
    if ((result = check_db(store, path, err)) < 0)
        return result;
    if (run_sql(store, schema) < 0)
        return err_set(err, state_store_errno(sqlite3_extended_errcode(store->db)),
                       "open the store '%s': %s", path, sqlite3_errmsg(store->db));
    sqlite3_busy_timeout(store->db, 2000);
    for (int i = 0; i < NR_STATEMENTS; i++)
        if (sqlite3_prepare_v3(store->db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &store->statements[i], NULL) != SQLITE_OK)
            return err_set(err, -EIO, "the store '%s': %s", path, sqlite3_errmsg(store->db));
    return 0;
}

int state_store_open(const char *path, struct state_store **ret, struct err *err)
{
    struct state_store *store = calloc(1, sizeof(*store));
    int result;

    if (!store)
        return err_set(err, -ENOMEM, "out of memory");
    store->last = &store->first;
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->work, NULL);
    pthread_cond_init(&store->done, NULL);
    if ((result = open_db(store, path, err)) < 0) {
        state_store_close(store);
        return result;
    }
    *ret = store;
    return 0;
}

void state_store_close(struct state_store *store)
{
    if (!store)
        return;
    if (store->thread_runs) {
        pthread_mutex_lock(&store->lock);
        store->stop = true;
        pthread_cond_signal(&store->work);
        pthread_mutex_unlock(&store->lock);
        pthread_join(store->thread, NULL);
    }
    for (int i = 0; i < NR_STATEMENTS; i++)
        sqlite3_finalize(store->statements[i]);
    for (sqlite3_stmt *s; store->db && (s = sqlite3_next_stmt(store->db, NULL));)
        sqlite3_finalize(s);
    sqlite3_close(store->db);
    pthread_mutex_destroy(&store->lock);
    pthread_cond_destroy(&store->work);
    pthread_cond_destroy(&store->done);
    free(store);
}

int state_store_apply(struct state_store *store, const struct store_change *change, struct err *err)
{
    struct job job = {.change = change};

    pthread_mutex_lock(&store->lock);
    *store->last = &job;
    store->last = &job.next;
    pthread_cond_signal(&store->work);
    while (!job.done)
        pthread_cond_wait(&store->done, &store->lock);
    pthread_mutex_unlock(&store->lock);
    if (job.result == -EEXIST)
        return err_set(err, -EEXIST, "the name is taken");
    if (job.result < 0)
        return err_errno(err, job.result, "the change could not be stored");
    return 0;
}

void state_store_prune(struct state_store *store, unsigned keep)
{
    pthread_mutex_lock(&store->lock);
    store->prune = keep;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
}

static const char *column(sqlite3_stmt *s, int i)
{
    return (const char *)sqlite3_column_text(s, i) ?: "";
}

static int load_instances(struct state_store *store,
                          int (*each)(const struct store_instance *instance, void *context),
                          void *context)
{
    sqlite3_stmt *s = NULL;
    int result = 0;

    if (sqlite3_prepare_v2(store->db,
                           "SELECT id,name,spec,state,wanted,run,restarts,created_ns,started_ns,"
                           "finished_ns,exit_code,error FROM instances ORDER BY created_ns, id",
                           -1, &s, NULL) != SQLITE_OK)
        return state_store_errno(sqlite3_extended_errcode(store->db));
    while (result == 0 && sqlite3_step(s) == SQLITE_ROW) {
        struct store_instance i = {.id = column(s, 0),
                                   .name = column(s, 1),
                                   .spec = column(s, 2),
                                   .state = column(s, 3),
                                   .wanted = sqlite3_column_int(s, 4),
                                   .run = (uint64_t)sqlite3_column_int64(s, 5),
                                   .restarts = (uint64_t)sqlite3_column_int64(s, 6),
                                   .created_ns = sqlite3_column_int64(s, 7),
                                   .started_ns = sqlite3_column_int64(s, 8),
                                   .finished_ns = sqlite3_column_int64(s, 9),
                                   .exit_code = sqlite3_column_int(s, 10),
                                   .error = column(s, 11)};

        result = each(&i, context);
    }
    sqlite3_finalize(s);
    return result;
}

static int load_operations(struct state_store *store,
                           int (*each)(const struct store_operation *operation, void *context),
                           void *context)
{
    sqlite3_stmt *s = NULL;
    int result = 0;

    if (sqlite3_prepare_v2(store->db,
                           "SELECT id,kind,instance,status,arguments,error,code,created_ns,"
                           "finished_ns FROM operations ORDER BY id",
                           -1, &s, NULL) != SQLITE_OK)
        return state_store_errno(sqlite3_extended_errcode(store->db));
    while (result == 0 && sqlite3_step(s) == SQLITE_ROW) {
        struct store_operation o = {.id = (uint64_t)sqlite3_column_int64(s, 0),
                                    .kind = column(s, 1),
                                    .instance = column(s, 2),
                                    .status = column(s, 3),
                                    .arguments = column(s, 4),
                                    .error = column(s, 5),
                                    .code = sqlite3_column_int(s, 6),
                                    .created_ns = sqlite3_column_int64(s, 7),
                                    .finished_ns = sqlite3_column_int64(s, 8)};

        result = each(&o, context);
    }
    sqlite3_finalize(s);
    return result;
}

int state_store_load_environments(struct state_store *store,
                                  int (*each)(const struct store_environment *e, void *context),
                                  void *context, struct err *err)
{
    sqlite3_stmt *s = NULL;
    int result = 0;

    if (sqlite3_prepare_v2(store->db,
                           "SELECT name,id,spec,created_ns FROM environments ORDER BY created_ns",
                           -1, &s, NULL) != SQLITE_OK)
        return err_errno(err, state_store_errno(sqlite3_extended_errcode(store->db)),
                         "read the store");
    while (result == 0 && sqlite3_step(s) == SQLITE_ROW) {
        struct store_environment e = {.name = column(s, 0),
                                      .id = column(s, 1),
                                      .spec = column(s, 2),
                                      .created_ns = sqlite3_column_int64(s, 3)};

        result = each(&e, context);
    }
    sqlite3_finalize(s);
    return result < 0 ? err_errno(err, result, "read the store") : 0;
}

int state_store_load(struct state_store *store,
                     int (*instance)(const struct store_instance *instance, void *context),
                     int (*operation)(const struct store_operation *operation, void *context),
                     void *context, struct err *err)
{
    int result = load_instances(store, instance, context);

    if (result == 0)
        result = load_operations(store, operation, context);
    if (result < 0)
        return err_errno(err, result, "read the store");
    if ((result = pthread_create(&store->thread, NULL, writer_main, store)) != 0)
        return err_errno(err, -result, "start the store's thread");
    store->thread_runs = true;
    return 0;
}
