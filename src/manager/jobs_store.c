/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of jobs in the manager's store: what is written goes into transactions of the store's
 * own thread (store_change.also), what is read later comes by a connection that only reads, so that
 * no long list holds up a submission.
 *
 *   queues      name, config (JSON), created_ns
 *   jobs        a row a job; spec: the instance's, as text
 *   job_notes   its history: time, what, why, server
 *   job_classes the estimator's state (policy/estimate.h)
 *   job_totals  sums of those that ended, by queue and policy
 */
#include "manager/jobs_internal.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS queues(name TEXT PRIMARY KEY, config TEXT NOT NULL,"
    " created_ns INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS jobs(id INTEGER PRIMARY KEY, queue TEXT NOT NULL, name TEXT,"
    " spec TEXT NOT NULL, image TEXT NOT NULL, command TEXT NOT NULL, vm INTEGER NOT NULL,"
    " restartable INTEGER NOT NULL, class INTEGER NOT NULL, cpu_millis INTEGER NOT NULL,"
    " memory_bytes INTEGER NOT NULL, submitted_ns INTEGER NOT NULL, state TEXT NOT NULL,"
    " cancel INTEGER NOT NULL, estimate_from INTEGER NOT NULL, policy INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, tickets INTEGER NOT NULL, attempts INTEGER NOT NULL,"
    " pauses INTEGER NOT NULL, exit_code INTEGER NOT NULL, since_ns INTEGER NOT NULL,"
    " started_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL, estimate_ns INTEGER NOT NULL,"
    " ran_ns INTEGER NOT NULL, waited_ns INTEGER NOT NULL, instance TEXT NOT NULL, error TEXT);"
    "CREATE TABLE IF NOT EXISTS job_notes(seq INTEGER PRIMARY KEY, job INTEGER NOT NULL,"
    " time_ns INTEGER NOT NULL, what TEXT NOT NULL, why TEXT NOT NULL, server INTEGER NOT NULL);"
    "CREATE INDEX IF NOT EXISTS job_notes_of ON job_notes(job);"
    "CREATE TABLE IF NOT EXISTS job_classes(hash INTEGER PRIMARY KEY, mean REAL NOT NULL,"
    " deviation REAL NOT NULL, runs INTEGER NOT NULL, updated_ns INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS job_totals(queue TEXT NOT NULL, policy INTEGER NOT NULL,"
    " done INTEGER NOT NULL, failed INTEGER NOT NULL, cancelled INTEGER NOT NULL,"
    " pauses INTEGER NOT NULL, total_s REAL NOT NULL, wait_s REAL NOT NULL,"
    " turnaround_s REAL NOT NULL, PRIMARY KEY(queue, policy)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS job_last(one INTEGER PRIMARY KEY, id INTEGER NOT NULL);"
    "INSERT OR IGNORE INTO job_last VALUES(1, 0);";

enum statement {
    INSERT_JOB,
    LAST_ID,
    UPDATE_JOB,
    INSERT_NOTE,
    PUT_CLASS,
    PUT_TOTALS,
    REMOVE_JOB,
    REMOVE_NOTES,
    REMOVE_QUEUED,
    REMOVE_QUEUE_NOTES,
    REMOVE_QUEUE_JOBS,
    REMOVE_TOTALS,
    REMOVE_QUEUE,
    PUT_QUEUE,
    NR_STATEMENTS,
};

static const char *const texts[NR_STATEMENTS] = {
    [INSERT_JOB] = "INSERT INTO jobs VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,'queued',0,?13,"
                   "0,?14,?15,1,0,0,?12,0,0,?16,0,0,'',NULL)",
    [LAST_ID] = "UPDATE job_last SET id=max(id,?1)",
    [UPDATE_JOB] = "UPDATE jobs SET state=?2,cancel=?3,estimate_from=?4,policy=?5,priority=?6,"
                   "tickets=?7,attempts=?8,pauses=?9,exit_code=?10,since_ns=?11,started_ns=?12,"
                   "ended_ns=?13,estimate_ns=?14,ran_ns=?15,waited_ns=?16,instance=?17,error=?18 "
                   "WHERE id=?1",
    [INSERT_NOTE] =
        "INSERT INTO job_notes(job,time_ns,what,why,server,seq) VALUES(?1,?2,?3,?4,?5,?6)",
    [PUT_CLASS] = "INSERT INTO job_classes VALUES(?1,?2,?3,?4,?5) ON CONFLICT(hash) DO UPDATE SET "
                  "mean=?2,deviation=?3,runs=?4,updated_ns=?5 WHERE runs<?4",
    [PUT_TOTALS] =
        "INSERT INTO job_totals VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9) ON CONFLICT(queue,policy) DO "
        "UPDATE SET done=done+?3,failed=failed+?4,cancelled=cancelled+?5,pauses=pauses+?6,"
        "total_s=total_s+?7,wait_s=wait_s+?8,turnaround_s=turnaround_s+?9",
    [REMOVE_JOB] = "DELETE FROM jobs WHERE id=?1",
    [REMOVE_NOTES] = "DELETE FROM job_notes WHERE job=?1",
    [REMOVE_QUEUED] = "DELETE FROM jobs WHERE queue=?1 AND state='queued' AND instance=''",
    [REMOVE_QUEUE_NOTES] =
        "DELETE FROM job_notes WHERE job IN (SELECT id FROM jobs WHERE queue=?1)",
    [REMOVE_QUEUE_JOBS] = "DELETE FROM jobs WHERE queue=?1",
    [REMOVE_TOTALS] = "DELETE FROM job_totals WHERE queue=?1",
    [REMOVE_QUEUE] = "DELETE FROM queues WHERE name=?1",
    [PUT_QUEUE] = "INSERT INTO queues VALUES(?1,?2,?3) ON CONFLICT(name) DO UPDATE SET config=?2",
};

_Static_assert(NR_STATEMENTS <= sizeof(((struct jobs *)0)->statements) / sizeof(void *),
               "room for the statements");

static int db_error(sqlite3 *db)
{
    return state_store_errno(sqlite3_extended_errcode(db));
}

static sqlite3_stmt *take(sqlite3 *db, struct jobs *js, enum statement which)
{
    if (!js->statements[which])
        sqlite3_prepare_v3(db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, &js->statements[which],
                           NULL);
    return js->statements[which];
}

static int run(sqlite3 *db, sqlite3_stmt *s)
{
    int code = s ? sqlite3_step(s) : SQLITE_ERROR;

    if (s) {
        sqlite3_reset(s);
        sqlite3_clear_bindings(s);
    }
    return code == SQLITE_DONE ? 0 : db_error(db);
}

static void bind_number(sqlite3_stmt *s, int index, uint64_t value)
{
    sqlite3_bind_int64(s, index, (sqlite3_int64)value);
}

static void bind_text(sqlite3_stmt *s, int index, const char *text)
{
    sqlite3_bind_text(s, index, text, -1, SQLITE_STATIC);
}

int job_store_schema(sqlite3 *db, void *context)
{
    (void)context;
    return sqlite3_exec(db, schema, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_error(db);
}

static int insert_one(sqlite3 *db, struct jobs *js, const struct job *job,
                      const struct job_request *request)
{
    sqlite3_stmt *s = take(db, js, INSERT_JOB);

    if (!s)
        return db_error(db);
    bind_number(s, 1, job->id);
    bind_text(s, 2, job->queue->name);
    bind_text(s, 3, job->name);
    bind_text(s, 4, request->spec);
    bind_text(s, 5, job->image);
    bind_text(s, 6, job->command);
    sqlite3_bind_int(s, 7, job->vm);
    sqlite3_bind_int(s, 8, job->restartable);
    bind_number(s, 9, job->class_hash);
    bind_number(s, 10, job->need[0]);
    bind_number(s, 11, job->need[1]);
    sqlite3_bind_int64(s, 12, job->submitted_ns);
    sqlite3_bind_int(s, 13, (int)job->row.estimate_from);
    sqlite3_bind_int(s, 14, job->row.priority);
    sqlite3_bind_int64(s, 15, job->row.tickets);
    bind_number(s, 16, job->row.estimate_ns);
    return run(db, s);
}

int job_store_insert(sqlite3 *db, void *context)
{
    const struct job_insert_rows *rows = context;
    sqlite3_stmt *s = take(db, rows->js, LAST_ID);
    int r = 0;

    for (size_t i = 0; i < rows->nr && r == 0; i++)
        r = insert_one(db, rows->js, rows->jobs[i], rows->requests[i]);
    if (r < 0 || !s)
        return r < 0 ? r : db_error(db);
    bind_number(s, 1, rows->jobs[rows->nr - 1]->id);
    return run(db, s);
}

static int update_one(sqlite3 *db, const struct job_update_row *update)
{
    const struct job_row *row = &update->row;
    sqlite3_stmt *s = take(db, update->js, UPDATE_JOB);

    if (!s)
        return db_error(db);
    bind_number(s, 1, update->job->id);
    bind_text(s, 2, job_state_name(row->state));
    sqlite3_bind_int(s, 3, row->cancel);
    sqlite3_bind_int(s, 4, (int)row->estimate_from);
    sqlite3_bind_int(s, 5, (int)row->policy);
    sqlite3_bind_int(s, 6, row->priority);
    sqlite3_bind_int64(s, 7, row->tickets);
    sqlite3_bind_int64(s, 8, row->attempts);
    sqlite3_bind_int64(s, 9, row->pauses);
    sqlite3_bind_int(s, 10, row->exit_code);
    sqlite3_bind_int64(s, 11, row->since_ns);
    sqlite3_bind_int64(s, 12, row->started_ns);
    sqlite3_bind_int64(s, 13, row->ended_ns);
    bind_number(s, 14, row->estimate_ns);
    bind_number(s, 15, row->ran_ns);
    bind_number(s, 16, row->waited_ns);
    bind_text(s, 17, row->instance);
    bind_text(s, 18, update->error);
    return run(db, s);
}

static int insert_notes(sqlite3 *db, const struct job_update_row *update)
{
    int r = 0;

    for (unsigned i = 0; i < update->nr_notes && r == 0; i++) {
        sqlite3_stmt *s = take(db, update->js, INSERT_NOTE);

        if (!s)
            return db_error(db);
        bind_number(s, 1, update->job->id);
        sqlite3_bind_int64(s, 2, update->notes[i].time_ns);
        bind_text(s, 3, update->notes[i].what);
        bind_text(s, 4, update->notes[i].why);
        sqlite3_bind_int64(s, 5, update->notes[i].server);
        bind_number(s, 6, update->notes[i].sequence);
        r = run(db, s);
    }
    return r;
}

static int put_class(sqlite3 *db, const struct job_update_row *update)
{
    sqlite3_stmt *s = take(db, update->js, PUT_CLASS);

    if (!s)
        return db_error(db);
    bind_number(s, 1, update->learnt.name_hash);
    sqlite3_bind_double(s, 2, update->learnt.mean_ns);
    sqlite3_bind_double(s, 3, update->learnt.deviation_ns);
    bind_number(s, 4, update->learnt.runs);
    sqlite3_bind_int64(s, 5, update->row.ended_ns);
    return run(db, s);
}

static int put_totals(sqlite3 *db, const struct job_update_row *update)
{
    const struct job_row *row = &update->row;
    sqlite3_stmt *s = take(db, update->js, PUT_TOTALS);
    bool ran = row->state != JOB_CANCELLED;

    if (!s)
        return db_error(db);
    bind_text(s, 1, update->job->queue->name);
    sqlite3_bind_int(s, 2, (int)row->policy);
    sqlite3_bind_int(s, 3, row->state == JOB_DONE);
    sqlite3_bind_int(s, 4, row->state == JOB_FAILED);
    sqlite3_bind_int(s, 5, row->state == JOB_CANCELLED);
    sqlite3_bind_int64(s, 6, ran ? row->pauses : 0);
    sqlite3_bind_double(s, 7, ran ? (double)row->ran_ns / 1e9 : 0);
    sqlite3_bind_double(s, 8, ran ? (double)row->waited_ns / 1e9 : 0);
    sqlite3_bind_double(s, 9, ran ? (double)(row->ran_ns + row->waited_ns) / 1e9 : 0);
    return run(db, s);
}

int job_store_update(sqlite3 *db, void *context)
{
    const struct job_update_row *update = context;
    int r = update_one(db, update);

    if (r < 0)
        return r;
    if (sqlite3_changes(db) == 0) /* its queue was removed meanwhile */
        return update->must_exist ? -ENOENT : 0;
    if ((r = insert_notes(db, update)) < 0 || !update->ended)
        return r;
    if (update->learnt.runs && (r = put_class(db, update)) < 0)
        return r;
    return put_totals(db, update);
}

static int remove_by(sqlite3 *db, struct jobs *js, enum statement which, uint64_t id,
                     const char *queue)
{
    sqlite3_stmt *s = take(db, js, which);

    if (!s)
        return db_error(db);
    if (queue)
        bind_text(s, 1, queue);
    else
        bind_number(s, 1, id);
    return run(db, s);
}

int job_store_remove(sqlite3 *db, void *context)
{
    static const enum statement whole[] = {REMOVE_QUEUE_NOTES, REMOVE_QUEUE_JOBS, REMOVE_TOTALS,
                                           REMOVE_QUEUE};
    const struct job_remove_rows *rows = context;
    int r = 0;

    if (rows->id) {
        r = remove_by(db, rows->js, REMOVE_NOTES, rows->id, NULL);
        return r < 0 ? r : remove_by(db, rows->js, REMOVE_JOB, rows->id, NULL);
    }
    if (!rows->queue_too)
        return remove_by(db, rows->js, REMOVE_QUEUED, 0, rows->queue);
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]) && r == 0; i++)
        r = remove_by(db, rows->js, whole[i], 0, rows->queue);
    return r;
}

int job_store_put_queue(sqlite3 *db, void *context)
{
    const struct job_put_queue *put = context;
    sqlite3_stmt *s = take(db, put->js, PUT_QUEUE);

    if (!s)
        return db_error(db);
    bind_text(s, 1, put->name);
    bind_text(s, 2, put->config);
    sqlite3_bind_int64(s, 3, put->created_ns);
    return run(db, s);
}
