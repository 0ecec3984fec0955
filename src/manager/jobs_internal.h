/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the job queues share: jobs.c (the tables, submission, decisions), jobs_queue.c
 * (queues made, changed, removed), jobs_work.c (decisions carried out on instances), jobs_load.c
 * (after a start), jobs_room.c (no room for a job yet), jobs_images.c (what keeps their images),
 * jobs_store.c (SQL), jobs_json.c (what is told).
 *
 *      submitted ─▶ queued ──run──▶ running ⇄ paused
 *                     │ ▲ lost, restartable │      │
 *              cancel │ └───────────────────┘      │
 *                     ▼                            ▼
 *                 cancelled                done, failed, cancelled ──retention, rm──▶ gone
 *
 * Invariants: 1. A submission is acknowledged after its row is in the store. 2. The row of a job
 * says what the queue decided; a worker (job_work), one a job at a time, makes the job's instance
 * so and stores the row. What it finds done already it does not do again, so after a crash the rows
 * are loaded and all workers simply begin anew. 3. An instance is made in the very
 * transaction in which its job's row names it: no job has two, none is started that its row does
 * not know. 4. The row holds run and waiting time up to since_ns; what came after is since_ns to
 * now, whoever was alive meanwhile.
 *
 * Times are nanoseconds since 1970 by the host's clock at our start, advanced by the monotonic one:
 * they never go back while we live. The queues (policy/queue.h) count from JOBS_EPOCH_NS.
 *
 * Lock order: jobs.lock, manager.lock. The store is never called with either.
 */
#ifndef LODGE_MANAGER_JOBS_INTERNAL_H
#define LODGE_MANAGER_JOBS_INTERNAL_H

#include "manager/internal.h"
#include "manager/jobs.h"
#include "manager/jobs_spec.h"
#include "policy/estimate.h"

#define JOBS_MAX          1000000
#define JOBS_QUEUES_MAX   256
#define JOBS_ATTEMPTS_MAX 16
#define JOBS_EPOCH_NS     (UINT64_C(1577836800) * 1000000000) /* the year 2020 */

struct sqlite3;
struct sqlite3_stmt;

enum job_state {
    JOB_SUBMITTED, /* not in the store yet; nobody sees it */
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_PAUSED,
    JOB_DONE,
    JOB_FAILED,
    JOB_CANCELLED,
    JOB_NR_STATES,
};

enum job_estimate { JOB_ESTIMATE_NONE, JOB_ESTIMATE_GIVEN, JOB_ESTIMATE_LEARNT };

/* What is stored and changes. */
struct job_row {
    enum job_state state;
    bool cancel; /* a user wants its end */
    enum job_estimate estimate_from;
    enum queue_policy policy; /* in force at its end */
    int32_t priority;
    uint32_t tickets, attempts, pauses;
    int exit_code;
    int64_t since_ns, started_ns, ended_ns;
    uint64_t estimate_ns, ran_ns, waited_ns;
    char instance[INSTANCE_ID_LENGTH + 1]; /* "": none */
};

/* One line of a job's history. The texts are static. */
struct job_note {
    uint64_t sequence; /* of all notes: what was decided before what */
    int64_t time_ns;
    const char *what, *why;
    uint32_t server;
};

struct job {
    uint64_t id;
    struct job_queue *queue;
    char *name, *image, *command, *error; /* name, error: NULL if none */
    char *waits_for;                      /* of queue->short_of_room, else NULL */
    bool vm, restartable;
    uint64_t class_hash, need[QUEUE_RESOURCES];
    int64_t submitted_ns;
    struct job_row row;
    queue_job_t handle;     /* QUEUE_NO_JOB: not in the queue */
    struct job_note *notes; /* not stored yet */
    unsigned nr_notes, notes_capacity;
    bool dirty;      /* the row is not in the store as it is */
    bool storing;    /* it is on its way there */
    bool unsure;     /* loaded: its instance may be frozen or not, whatever its row says */
    bool stale;      /* row.instance is of an attempt that was lost */
    bool end_stored; /* its end is counted in the totals of the store */
    bool busy;       /* a worker has it */
    bool pausing;    /* counted in queue->nr_pausing */
    bool deferred;   /* waits for those that are being paused */
    bool gone;       /* not in the table any more */
    bool uses_image; /* counted in jobs->images */
    unsigned nr_refs;
    struct job *next_deferred;
    struct job *next_ended, *previous_ended; /* of the queue, in order of ending */
};

struct job_totals {
    uint64_t done, failed, cancelled, pauses;
    double total_s, wait_s, turnaround_s; /* of those that ran to an end */
};

struct job_queue {
    char *name;
    struct job_queue_spec spec;
    int64_t created_ns;
    int64_t released_ns; /* when `hold` was last taken off; 0: never. Stored with the spec */
    struct queue *queue;
    bool removing; /* takes no jobs any more */
    size_t nr_states[JOB_NR_STATES];
    unsigned nr_pausing;
    struct job *deferred, *first_ended, *last_ended;
    struct job *short_of_room; /* a reference; blocks those that have not begun */
    struct job_totals totals[QUEUE_POLICIES];
    uint64_t next_ns; /* when its queue is to be asked again; QUEUE_NEVER */
    struct job_queue *next;
};

struct jobs {
    struct manager *m;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* of a job or a queue: for those that wait */
    pthread_cond_t clock_changed;
    pthread_t clock;
    bool clock_runs, stop, open;
    bool room_changed;        /* reservations went: those that wait for room are looked at */
    struct job_queue *queues; /* in order of creation */
    size_t nr_queues;
    struct job **table; /* by id, rising; NULL: gone */
    size_t nr_table, table_capacity, nr_jobs;
    uint64_t next_id, next_note;
    struct estimator *estimates;
    struct job_image *images; /* of jobs that have not ended (jobs_images.c) */
    int64_t base_real_ns;
    uint64_t base_monotonic_ns;
    /* jobs_store.c: statements of the writer's thread; a connection that only reads */
    struct sqlite3_stmt *statements[16];
    struct sqlite3 *reader;
    pthread_mutex_t reader_lock;
};

/* jobs.c. With the lock held, unless said otherwise. */
const char *job_state_name(enum job_state state);
int job_state_parse(const char *name);
static inline bool job_is_live(enum job_state state)
{
    return state == JOB_QUEUED || state == JOB_RUNNING || state == JOB_PAUSED;
}
int64_t jobs_now(const struct jobs *js); /* any thread, no lock */
static inline uint64_t jobs_queue_time(int64_t time_ns)
{
    return time_ns > (int64_t)JOBS_EPOCH_NS ? (uint64_t)time_ns - JOBS_EPOCH_NS : 0;
}
/* Takes a reference of what it finds. */
struct job *job_find(struct jobs *js, uint64_t id);
void job_unref(struct job *job);
int job_insert(struct jobs *js, struct job *job);
/* Out of the tables; drops their reference. */
void job_remove(struct jobs *js, struct job *job);
void job_set_state(struct job *job, enum job_state state);
void job_note(struct jobs *js, struct job *job, int64_t time_ns, const char *what, const char *why,
              uint32_t server);
void job_queue_spec_of(const struct job *job, struct queue_spec *ret);
/* Asks the queue until it has nothing to say, and sets workers on what it said. */
void jobs_pump(struct jobs *js, struct job_queue *queue);
/* A worker looks at it. */
void job_kick(struct jobs *js, struct job *job);
void jobs_pausing_over(struct jobs *js, struct job *job);
/* It ended: takes it out of its queue, counts it. finished_ns: by its shim, 0 if there is no word.
 * `error` may be NULL. */
void job_end(struct jobs *js, struct job *job, int exit_code, bool lost, int64_t finished_ns,
             const char *error);
void job_ended_list(struct job *job, bool add);
/* Without the lock. All of them or none: ret_ids gets the first id and how many. */
int jobs_submit(struct jobs *js, const struct job_request *requests, size_t nr, uint64_t *ret_first,
                uint64_t *ret_count, struct err *err);
/* Without the lock, until the row is stored: a job that has not ended is to end. */
int job_cancel(struct jobs *js, struct job *job, struct err *err);
int job_change(struct jobs *js, struct job *job, json_t *document, struct err *err);
/* One that has ended, with all that it wrote. Without the lock. -EBUSY: it has not. */
int job_forget(struct jobs *js, struct job *job, struct err *err);
/* Without the lock: until `fn` is true (1), the time is over or we stop (0). */
int jobs_wait(struct jobs *js, struct job *job, bool (*fn)(const struct job *job),
              uint64_t timeout_ms);
bool job_is_stored(const struct job *job);

/* jobs_queue.c. With the lock held, unless said otherwise. */
struct job_queue *job_queue_find(struct jobs *js, const char *name);
/* Without the lock. */
int job_queue_make(struct jobs *js, const char *name, json_t *document, struct err *err);
int job_queue_change(struct jobs *js, const char *name, json_t *document, struct err *err);
int job_queue_drop(struct jobs *js, const char *name, bool force, struct err *err);
int job_queue_insert(struct jobs *js, const char *name, const struct job_queue_spec *spec,
                     int64_t created_ns, struct job_queue **ret, struct err *err);
/* A queue with this configuration and with all live jobs of `queue`, as they are. */
int job_queue_rebuild(struct jobs *js, struct job_queue *queue, const struct queue_config *config,
                      struct err *err);
void job_queue_free(struct job_queue *queue);

/* jobs_work.c. Work for the workers: consumes a reference and `busy`. */
void job_work(struct manager *m, void *job);
int jobs_log_path(const struct manager *m, char ret[PATH_SIZE], uint64_t id);

/* jobs_room.c. With the lock held. */
/* Its start was refused for now: it is queued again, and blocks the queue. */
void jobs_room_short(struct jobs *js, struct job *job, const char *why);
/* It has come in: it may be one for which that one is not to be waited for. */
void jobs_room_newcomer(struct jobs *js, struct job *job);
/* It ends. */
void jobs_room_forget(struct jobs *js, struct job *job);
/* Lets it try again if there is room now. True: one waits (still, or anew). */
bool jobs_room_look(struct jobs *js, struct job_queue *queue);

/* jobs_images.c. With the lock held: a job begins and ends to need its image. */
int job_image_use(struct jobs *js, struct job *job);
void job_image_release(struct jobs *js, struct job *job);
/* Without the lock: each image that is needed is kept. */
void jobs_images_pin(struct jobs *js);
void jobs_images_free(struct jobs *js);

/* jobs_store.c: each is the `also` of a store_change; its context is named. */
struct job_insert_rows {
    struct jobs *js;
    const struct job *const *jobs;
    const struct job_request *const *requests;
    size_t nr;
};
struct job_update_row {
    struct jobs *js;
    const struct job *job; /* id, queue, class_hash: what never changes */
    struct job_row row;
    const char *error;
    const struct job_note *notes;
    unsigned nr_notes;
    bool ended;                   /* counts in the totals, and teaches `learnt` */
    bool must_exist;              /* -ENOENT if the row is not there any more */
    struct estimate_class learnt; /* runs 0: nothing */
};
struct job_remove_rows {
    struct jobs *js;
    uint64_t id;       /* 0: all of the queue that are not running */
    const char *queue; /* and of all that was counted of it, with `queue_too` */
    bool queue_too;
};
struct job_put_queue {
    struct jobs *js;
    const char *name, *config;
    int64_t created_ns;
};
int job_store_schema(struct sqlite3 *db, void *jobs);
int job_store_insert(struct sqlite3 *db, void *job_insert_rows);
int job_store_update(struct sqlite3 *db, void *job_update_row);
int job_store_remove(struct sqlite3 *db, void *job_remove_rows);
int job_store_put_queue(struct sqlite3 *db, void *job_put_queue);
int job_store_load(struct sqlite3 *db, void *jobs); /* jobs_load.c takes what it finds */
/* For each that is found, by job_store_load; strings are borrowed. */
int jobs_load_queue(struct jobs *js, const char *name, const char *config, int64_t created_ns);
int jobs_load_job(struct jobs *js, const struct job *job, const char *queue);
int jobs_load_class(struct jobs *js, const struct estimate_class *state);
int jobs_load_totals(struct jobs *js, const char *queue, unsigned policy,
                     const struct job_totals *totals);
/* Any thread. The specification's text (malloc). */
int job_store_read_spec(struct jobs *js, uint64_t id, char **ret, struct err *err);
/* The history of a queue's (NULL: one job's) jobs in order, each line to fn. */
int job_store_read_notes(struct jobs *js, const char *queue, uint64_t job,
                         void (*fn)(uint64_t job, int64_t time_ns, const char *what,
                                    const char *why, uint32_t server, void *context),
                         void *context, struct err *err);
int job_store_open_reader(struct jobs *js, struct err *err);
void job_store_close_reader(struct jobs *js);

/* jobs_json.c. With the lock held. */
void out_job(struct buf *to, const struct jobs *js, const struct job *job);
void out_job_queue(struct buf *to, const struct jobs *js, const struct job_queue *queue);

#endif
