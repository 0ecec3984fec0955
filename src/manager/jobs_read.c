/* SPDX-License-Identifier: Apache-2.0 */
/* What the store has of jobs: all of it at a start, a specification or a history later. */
#include "manager/jobs_internal.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

static int db_error(sqlite3 *db)
{
    return state_store_errno(sqlite3_extended_errcode(db));
}

static const char *text_of(sqlite3_stmt *s, int column)
{
    return (const char *)sqlite3_column_text(s, column);
}

static uint64_t number_of(sqlite3_stmt *s, int column)
{
    return (uint64_t)sqlite3_column_int64(s, column);
}

/* Each row of a query to fn. */
static int each(sqlite3 *db, const char *query, struct jobs *js,
                int (*fn)(struct jobs *js, sqlite3_stmt *s))
{
    sqlite3_stmt *s = NULL;
    int r = 0, code;

    if (sqlite3_prepare_v2(db, query, -1, &s, NULL) != SQLITE_OK)
        return db_error(db);
    while (r == 0 && (code = sqlite3_step(s)) != SQLITE_DONE)
        r = code == SQLITE_ROW ? fn(js, s) : db_error(db);
    sqlite3_finalize(s);
    return r;
}

static int load_queue(struct jobs *js, sqlite3_stmt *s)
{
    return jobs_load_queue(js, text_of(s, 0), text_of(s, 1), sqlite3_column_int64(s, 2));
}

static void read_row(sqlite3_stmt *s, struct job_row *row)
{
    int state = job_state_parse(text_of(s, 10) ? text_of(s, 10) : "");
    const char *instance = text_of(s, 25);

    *row = (struct job_row){.state = state < 0 ? JOB_QUEUED : (enum job_state)state,
                            .cancel = sqlite3_column_int(s, 11),
                            .estimate_from = (enum job_estimate)(number_of(s, 12) % 3),
                            .policy = (enum queue_policy)(number_of(s, 13) % QUEUE_POLICIES),
                            .priority = sqlite3_column_int(s, 14),
                            .tickets = (uint32_t)number_of(s, 15),
                            .attempts = (uint32_t)number_of(s, 16),
                            .pauses = (uint32_t)number_of(s, 17),
                            .exit_code = sqlite3_column_int(s, 18),
                            .since_ns = sqlite3_column_int64(s, 19),
                            .started_ns = sqlite3_column_int64(s, 20),
                            .ended_ns = sqlite3_column_int64(s, 21),
                            .estimate_ns = number_of(s, 22),
                            .ran_ns = number_of(s, 23),
                            .waited_ns = number_of(s, 24)};
    snprintf(row->instance, sizeof(row->instance), "%s", instance ? instance : "");
}

static int load_job(struct jobs *js, sqlite3_stmt *s)
{
    struct job job = {.id = number_of(s, 0),
                      .name = (char *)(uintptr_t)text_of(s, 2),
                      .image = (char *)(uintptr_t)text_of(s, 3),
                      .command = (char *)(uintptr_t)text_of(s, 4),
                      .error = (char *)(uintptr_t)text_of(s, 26),
                      .vm = sqlite3_column_int(s, 5),
                      .restartable = sqlite3_column_int(s, 6),
                      .class_hash = number_of(s, 7),
                      .need = {number_of(s, 8), number_of(s, 9)},
                      .submitted_ns = sqlite3_column_int64(s, 27)};

    read_row(s, &job.row);
    return jobs_load_job(js, &job, text_of(s, 1));
}

static int load_class(struct jobs *js, sqlite3_stmt *s)
{
    struct estimate_class state = {.name_hash = number_of(s, 0),
                                   .mean_ns = sqlite3_column_double(s, 1),
                                   .deviation_ns = sqlite3_column_double(s, 2),
                                   .runs = number_of(s, 3)};

    return jobs_load_class(js, &state);
}

static int load_totals(struct jobs *js, sqlite3_stmt *s)
{
    struct job_totals totals = {.done = number_of(s, 2),
                                .failed = number_of(s, 3),
                                .cancelled = number_of(s, 4),
                                .pauses = number_of(s, 5),
                                .total_s = sqlite3_column_double(s, 6),
                                .wait_s = sqlite3_column_double(s, 7),
                                .turnaround_s = sqlite3_column_double(s, 8)};

    return jobs_load_totals(js, text_of(s, 0), (unsigned)number_of(s, 1), &totals);
}

static int load_last(struct jobs *js, sqlite3_stmt *s)
{
    js->next_id = number_of(s, 0) + 1;
    js->next_note = number_of(s, 1) + 1;
    return 0;
}

int job_store_load(sqlite3 *db, void *context)
{
    struct jobs *js = context;
    int r;

    if ((r = each(db, "SELECT name,config,created_ns FROM queues ORDER BY created_ns,name", js,
                  load_queue)) < 0 ||
        (r = each(db, "SELECT id,(SELECT max(seq) FROM job_notes) FROM job_last", js, load_last)) <
            0 ||
        (r = each(db,
                  "SELECT id,queue,name,image,command,vm,restartable,class,cpu_millis,memory_bytes,"
                  "state,cancel,estimate_from,policy,priority,tickets,attempts,pauses,exit_code,"
                  "since_ns,started_ns,ended_ns,estimate_ns,ran_ns,waited_ns,instance,error,"
                  "submitted_ns FROM jobs ORDER BY id",
                  js, load_job)) < 0 ||
        (r = each(db, "SELECT hash,mean,deviation,runs FROM job_classes ORDER BY updated_ns", js,
                  load_class)) < 0)
        return r;
    return each(db,
                "SELECT queue,policy,done,failed,cancelled,pauses,total_s,wait_s,turnaround_s "
                "FROM job_totals",
                js, load_totals);
}

int job_store_open_reader(struct jobs *js, struct err *err)
{
    char path[PATH_SIZE];

    manager_path(js->m, path, sizeof(path), "state.db");
    if (sqlite3_open_v2(path, &js->reader,
                        SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
                        NULL) != SQLITE_OK)
        return err_set(err, -EIO, "open the store '%s' for reading", path);
    sqlite3_busy_timeout(js->reader, 5000);
    return 0;
}

void job_store_close_reader(struct jobs *js)
{
    sqlite3_close(js->reader);
    js->reader = NULL;
}

int job_store_read_spec(struct jobs *js, uint64_t id, char **ret, struct err *err)
{
    sqlite3_stmt *s = NULL;
    int r = 0;

    pthread_mutex_lock(&js->reader_lock);
    if (sqlite3_prepare_v2(js->reader, "SELECT spec FROM jobs WHERE id=?1", -1, &s, NULL) !=
        SQLITE_OK) {
        r = err_errno(err, db_error(js->reader), "read job %llu", (unsigned long long)id);
    } else {
        sqlite3_bind_int64(s, 1, (sqlite3_int64)id);
        if (sqlite3_step(s) != SQLITE_ROW || !text_of(s, 0))
            r = err_set(err, -ENOENT, "there is no job %llu any more", (unsigned long long)id);
        else if (!(*ret = strdup(text_of(s, 0))))
            r = err_set(err, -ENOMEM, "out of memory");
    }
    sqlite3_finalize(s);
    pthread_mutex_unlock(&js->reader_lock);
    return r;
}

int job_store_read_notes(struct jobs *js, const char *queue, uint64_t job,
                         void (*fn)(uint64_t job, int64_t time_ns, const char *what,
                                    const char *why, uint32_t server, void *context),
                         void *context, struct err *err)
{
    const char *query =
        queue ? "SELECT n.job,n.time_ns,n.what,n.why,n.server FROM jobs j CROSS JOIN job_notes n "
                "ON n.job=j.id WHERE j.queue=?1 AND j.id>=?2 ORDER BY n.seq"
              : "SELECT job,time_ns,what,why,server FROM job_notes WHERE job=?2 ORDER BY seq";
    sqlite3_stmt *s = NULL;
    int r = 0;

    pthread_mutex_lock(&js->reader_lock);
    if (sqlite3_prepare_v2(js->reader, query, -1, &s, NULL) != SQLITE_OK) {
        r = err_errno(err, db_error(js->reader), "read the history of jobs");
    } else {
        if (queue)
            sqlite3_bind_text(s, 1, queue, -1, SQLITE_STATIC);
        sqlite3_bind_int64(s, 2, (sqlite3_int64)job);
        while (sqlite3_step(s) == SQLITE_ROW)
            fn(number_of(s, 0), sqlite3_column_int64(s, 1), text_of(s, 2) ? text_of(s, 2) : "",
               text_of(s, 3) ? text_of(s, 3) : "", (uint32_t)number_of(s, 4), context);
    }
    sqlite3_finalize(s);
    pthread_mutex_unlock(&js->reader_lock);
    return r;
}
