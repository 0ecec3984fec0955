/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the manager's files share.
 *
 * Locking: manager.lock guards the tables and every field marked (lock). A field marked (busy) is
 * written only by who has the instance (instance_acquire), and then under the lock: so the holder
 * may read it without, everybody else with the lock. The store is never called with the lock held.
 * Lock order: manager.lock, then those inside events and store.
 */
#ifndef LODGE_MANAGER_INTERNAL_H
#define LODGE_MANAGER_INTERNAL_H

#include "base/buf.h"
#include "base/json.h"
#include "base/loop.h"
#include "launch/command.h"
#include "manager/environment.h"
#include "manager/manager.h"
#include "manager/spec.h"
#include "manager/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#define MANAGER_BUCKETS    16384
#define MANAGER_EVENTS     4096
#define INSTANCE_ID_LENGTH 12
#define ERROR_MAX          512

enum instance_state {
    INSTANCE_CREATED,
    INSTANCE_STARTING,
    INSTANCE_RUNNING,
    INSTANCE_PAUSED,
    INSTANCE_STOPPING,
    INSTANCE_EXITED,
    INSTANCE_REMOVING,
    INSTANCE_NR_STATES,
};

/* What is stored and changes with an instance's life. */
struct instance_row {
    enum instance_state state;
    bool wanted;  /* started and not stopped by a user */
    uint64_t run; /* how often it was started; names this run */
    uint64_t restarts;
    int64_t started_ns, finished_ns;
    int exit_code;
    char error[ERROR_MAX];
};

/* What its specification says, short, for lists. One allocation. */
struct instance_brief {
    bool vm, auto_remove, tty, hardware, disks;
    enum spec_restart restart;
    uint64_t max_retries;
    const char *image, *command; /* the command as one line */
    const char *labels;          /* "name=value", each with its NUL; an empty one is last */
    bool health;
    bool networked, volumes; /* has a place on a network, named volumes */
    const char *environment; /* "": none */
    struct spec_share share; /* its list of processors is here, too */
    uint64_t memory_bytes, cpu_limit_millis, cpu_shares, io_weight;
};

/* What the allocator measured and wrote of an instance; of one run. */
struct instance_meter {
    uint64_t run; /* whose: a new run begins anew */
    uint64_t read_ns, cpu_ns;
    double used_cores, run_seconds, cpu_pressure, memory_pressure;
    uint64_t memory_bytes, reclaimable_bytes;
    uint64_t memory_target;   /* 0: none in force */
    uint64_t silent_until_ns; /* its monitor did not answer: not asked before */
    struct allocation_cgroup written;
    bool known; /* `written` is what the kernel has */
};

enum instance_health { HEALTH_NONE, HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };

struct instance_end {
    int exit_code;
    bool oom;
    bool lost; /* nobody saw it: its shim or its host was killed */
    int64_t started_ns, finished_ns;
    char error[ERROR_MAX];
};

struct instance {
    char id[INSTANCE_ID_LENGTH + 1];
    int64_t created_ns;
    char *name, *spec;            /* (busy) */
    struct instance_brief *brief; /* (busy) */
    struct instance_row row;      /* (busy) */
    unsigned nr_refs;             /* (lock) */
    bool busy, gone;              /* (lock) gone: not in the tables any more */
    bool cancel;                  /* (lock) a start under way is to be broken off */
    pthread_cond_t changed;
    struct instance *next, *previous;     /* (lock) all, in order of creation */
    struct instance *same_id, *same_name; /* (lock) buckets */
    /* The run that is watched. */
    bool said_running, ended; /* (lock) */
    pid_t pid;                /* (lock) first process of the guest, on the host */
    struct instance_end end;  /* (lock) once `ended` */
    /* (lock) monotonic; 0: none */
    uint64_t restart_at_ns, health_at_ns;
    unsigned backoff, health_failures;
    bool health_running;
    enum instance_health health;
    uint64_t job; /* (lock) whose it is; 0: nobody's */
    /* environment.c, allocation.c */
    char moving_to[SPEC_NAME_MAX + 1]; /* (lock) a member there, too */
    bool admitted;                     /* (lock) counts as running */
    struct instance_meter meter;       /* (lock) */
};

struct operation_progress {
    char text[64];
    uint64_t done, total; /* total 0: not known */
    char unit[8];         /* "bytes"; "": nothing is counted */
};

struct operation {
    uint64_t id;
    char kind[16], instance[INSTANCE_ID_LENGTH + 1];
    char *arguments;
    int64_t created_ns, finished_ns;
    bool done, stored; /* (lock) stored: the store knows of it */
    bool resumed;      /* taken up again after a crash */
    int code;          /* (lock) HTTP status of a failure; 0: none */
    char error[ERROR_MAX];
    int exit_code; /* of a start that failed because its command cannot be run: 126, 127; else 0 */
    struct operation_progress progress; /* (lock) */
    unsigned nr_refs;                   /* (lock) */
    struct operation *next;
    struct manager *manager;
    struct instance *target; /* a reference */
    int client_fd;           /* to be attached at a start; -1: none */
    bool handed_over;        /* a shim has it, and tells it of failures */
    /* tasks.c: of the host, without an instance */
    bool task;
    char *subject;                  /* what it is about; NULL: of an instance */
    char *result;                   /* (lock) a JSON object; NULL: none */
    pid_t worker;                   /* (lock) its process, until that is reaped; 0: none */
    char broken_off[64];            /* (lock) why; "": it is not */
    int input_fd;                   /* (lock) its process's standard input; -1: none */
    uint64_t awaited_until_ns;      /* (lock) content.c; 0: nothing is awaited */
    struct operation *next_waiting; /* (lock) */
};

struct event {
    uint64_t sequence;
    char *text; /* one line of JSON, without the line end */
};

struct counters {
    atomic_ullong requests, errors, starts, exits, restarts, store_failures;
};

struct manager {
    struct manager_options options;
    int lock_fd;
    struct state_store *store;
    pthread_mutex_t lock;
    struct instance *first, *last;                                      /* (lock) */
    struct instance *by_id[MANAGER_BUCKETS], *by_name[MANAGER_BUCKETS]; /* (lock) */
    size_t nr_instances, nr_states[INSTANCE_NR_STATES];                 /* (lock) */
    pthread_mutex_t disk_lock; /* who looks for a disk's owner, until the new one is stored */
    /* operations.c */
    struct operation *operations, **operations_last; /* (lock) newest last */
    size_t nr_operations;
    uint64_t next_operation;
    pthread_cond_t operation_changed;
    /* tasks.c */
    struct operation *tasks_waiting, **tasks_waiting_last; /* (lock) */
    unsigned nr_tasks, nr_tasks_waiting;                   /* (lock) that run, that wait */
    unsigned nr_awaited;                                   /* (lock) operations; content.c */
    /* workers.c */
    struct work *work, **work_last; /* (lock) */
    unsigned nr_workers, nr_idle;   /* (lock) */
    pthread_cond_t work_there, workers_gone;
    /* resolvers.c */
    struct resolver_watch *resolvers; /* (lock) */
    bool resolvers_looked_at;         /* (lock) by a worker */
    struct environment *environments; /* (lock) "default" first */
    size_t nr_environments;
    struct allocator *allocator;
    /* events.c */
    pthread_mutex_t event_lock;
    pthread_cond_t event_there;
    struct event events[MANAGER_EVENTS]; /* (event_lock) a ring */
    uint64_t first_event, next_event;    /* of this manager; (event_lock) */
    /* watch.c */
    struct loop *loop;
    struct loop_timer *tick;
    struct watching *watchings; /* the loop's thread alone */
    struct child *children;     /* likewise: shims that we started and have not reaped */
    atomic_bool stopping;
    atomic_int nr_streams; /* connections that shims serve */
    atomic_int nr_copying; /* machines that run for a copy's sake */
    struct api *api;
    struct jobs *jobs;
    struct counters counters;
    int64_t started_ns;
};

/* manager.c */
int manager_path(const struct manager *m, char *ret, size_t size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int run_path(const struct manager *m, char *ret, size_t size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define PATH_SIZE (MANAGER_PATH_MAX + 128)

/* instance.c. All but instance_new with the lock held, unless said otherwise. */
const char *instance_state_name(enum instance_state state);
int instance_new(const char *id, const char *name, const char *spec, struct instance **ret,
                 struct err *err);
int instance_set_spec(struct instance *instance, const char *spec, struct err *err);
/* Without the lock, by who has the instance: its description into the store, then into memory. */
int instance_put_spec(struct manager *m, struct instance *instance, const char *text,
                      struct err *err);
void instance_insert(struct manager *m, struct instance *instance);
void instance_remove(struct manager *m, struct instance *instance);
void instance_rename(struct manager *m, struct instance *instance, char *name);
struct instance *instance_find_name(struct manager *m, const char *name);
struct instance *instance_find_id(struct manager *m, const char *id);
/* Without the lock: id, name or the beginning of an id; a reference. -ENOENT, -EINVAL: several. */
int instance_find(struct manager *m, const char *ref, struct instance **ret, struct err *err);
void instance_ref_locked(struct instance *instance);
void instance_unref_locked(struct instance *instance);
void instance_unref(struct manager *m, struct instance *instance); /* without the lock */
/* Without the lock: waits until nobody else works at it; -ENOENT when it is gone then. */
int instance_acquire(struct manager *m, struct instance *instance, struct err *err);
void instance_release(struct manager *m, struct instance *instance);
/* Without the lock, by who has the instance: stores the row (and the operation, if there is one),
 * then makes it known. */
int instance_change(struct manager *m, struct instance *instance, const struct instance_row *row,
                    struct operation *operation, struct err *err);
/* For what has happened and cannot be refused: tries until the store takes it or we stop. */
void instance_change_surely(struct manager *m, struct instance *instance,
                            const struct instance_row *row, struct operation *operation);
void instance_store_form(const struct instance *instance, const struct instance_row *row,
                         struct store_instance *ret);

/* api/instances.c, without the lock. fn goes into the transaction that stores the new instance. */
struct sqlite3;
struct instance_also {
    int (*fn)(struct sqlite3 *db, const struct instance *instance, void *context);
    void *context;
    const struct instance *instance; /* written by instance_create */
};
/* Takes "name" out of document; also may be NULL. *ret: a reference. */
int instance_create(struct manager *m, json_t *document, struct instance_also *also,
                    struct instance **ret, struct err *err);
/* What can be known to fail at the first start. */
int instance_check_spec(struct manager *m, const struct spec *spec, struct err *err);

/* events.c. Any thread. */
void event_add(struct manager *m, const struct instance *instance, const char *what,
               const char *detail);
/* The first event after `sequence`, waiting up to timeout_ms: its line with '\n' appended to `to`,
 * its sequence. 0 when none came. */
uint64_t event_next(struct manager *m, uint64_t sequence, unsigned timeout_ms, struct buf *to);
uint64_t event_latest(struct manager *m);

/* workers.c */
struct work {
    void (*fn)(struct manager *m, void *context);
    void *context;
    struct work *next;
};
/* fn(m, context) on a thread of its own choice. Any thread, without the lock. */
int work_post(struct manager *m, void (*fn)(struct manager *m, void *context), void *context);
void workers_stop(struct manager *m);

/* operations.c. instance: NULL for one of the host. */
int operation_new(struct manager *m, const char *kind, struct instance *instance,
                  const char *arguments, struct operation **ret, struct err *err);
int operation_start(struct manager *m, struct operation *operation, struct err *err);
/* Until it is done or the time is over (ms). */
bool operation_wait(struct manager *m, struct operation *operation, uint64_t timeout_ms);
/* So that a promise survives us. */
int operation_store(struct manager *m, struct operation *operation, struct err *err);
/* Breaks off a start that is under way, or a task. -EBUSY: it is something else, or over. */
int operation_cancel(struct manager *m, struct operation *operation, struct err *err);
/* One that was never started. */
void operation_abandon(struct manager *m, struct operation *operation, const struct err *err);
/* It is over; its result is stored where it was promised. */
void operation_finish(struct manager *m, struct operation *operation, int result,
                      const struct err *err);
void operation_progress(struct manager *m, struct operation *operation, const char *text);
void operation_unref(struct manager *m, struct operation *operation);
void operation_store_form(const struct operation *operation, struct store_operation *ret);
struct operation *operation_find(struct manager *m, uint64_t id);
void operation_write_json(struct manager *m, struct operation *operation, struct buf *to);
int operation_load(struct manager *m, const struct store_operation *stored);
void operations_resume(struct manager *m);
void operations_free(struct manager *m);
int error_status(int code);

/*
 * tasks.c: operations of the host, each the work of a process `lodge ... --report` of its own.
 * words: its words, a JSON array (consumed). target: the file that it makes; NULL: none. At most a
 * few run at a time, the others wait.
 */
int task_new(struct manager *m, const char *kind, const char *subject, const char *target,
             json_t *words, struct operation **ret, struct err *err);
int task_start(struct manager *m, struct operation *operation, struct err *err);
/* It ends, with these words as its error. false: it is over, or no task. */
bool task_break_off(struct manager *m, struct operation *operation, const char *why);
/* Out of the store: takes over what its arguments say. */
int task_load(struct operation *operation);
/* Of a manager that is no more: what it left is removed, then it has failed. */
int task_resume(struct manager *m, struct operation *operation);
/* Ends those that run, at the manager's end. */
void tasks_stop(struct manager *m);

/* content.c: the standard input of a task, sent by a client. */
struct content;
/* Stores the operation, which starts when its content begins to come; -EAGAIN: too many. */
int content_expect(struct manager *m, struct operation *operation, struct err *err);
/* false: none is awaited. */
bool content_unexpect(struct manager *m, struct operation *operation);
/* Starts it. total: of bytes; 0: not known. -ENOENT, -EBUSY: it awaits nothing. */
int content_begin(struct manager *m, uint64_t id, uint64_t total, struct content **ret,
                  struct err *err);
/* Blocks while the task cannot take it. -EPIPE: it is over, and knows why. */
int content_write(struct content *content, const void *data, size_t length);
struct operation *content_operation(struct content *content); /* borrowed */
/* Consumed; NULL is fine. whole: that was all of it, else the operation ends. */
void content_end(struct content *content, bool whole);
void content_tick(struct manager *m, uint64_t now_ns);

/* In a child that executes a helper: it leads a group of its own, ends with the manager (parent, in
 * whose absence it exits) and has no signal blocked. */
void child_begin(pid_t parent);

/* life.c: by who has the instance. */
int life_start(struct manager *m, struct instance *instance, struct operation *operation,
               int client_fd, struct err *err);
/* timeout_s 0: killed, but what a VM's guest wrote is on its disk; LIFE_AT_ONCE: that does not
 * matter. */
#define LIFE_AT_ONCE (-1)
void life_write_back(struct manager *m, const struct instance *instance);
int life_stop(struct manager *m, struct instance *instance, struct operation *operation, int signal,
              int64_t timeout_s, struct err *err);
int life_remove(struct manager *m, struct instance *instance, struct operation *operation,
                bool force, struct err *err);
int life_pause(struct manager *m, struct instance *instance, struct operation *operation,
               bool pause, struct err *err);
/* Likewise where it is not known what the guest is: a manager that was killed may have frozen it
 * and not stored that. */
int life_pause_surely(struct manager *m, struct instance *instance, bool pause, struct err *err);
/* It may be ending by itself: takes note of that if it comes about in that time. */
bool life_await_end(struct manager *m, struct instance *instance, uint64_t limit_ns);
/* Takes note of an end that the watch has seen; decides about restart and removal. */
void life_settle(struct manager *m, struct instance *instance);
/* Work for the workers: acquires, settles; consumes a reference. */
void life_settle_work(struct manager *m, void *instance);
bool life_is_active(enum instance_state state);

/* A start whose shim was found alive: waits for what comes of it. */
int life_finish_start(struct manager *m, struct instance *instance, struct err *err);
/* After a start of the manager: its restart is due as if it had just ended. */
void life_replan(struct manager *m, struct instance *instance);

/* api/instances.c: by who has the instance. Merges changes into the specification, and stores it.
 */
int instance_change_spec(struct manager *m, struct instance *instance, json_t *changes,
                         struct err *err);

/* vm.c: one request of the control socket (consumed); *ret (may be NULL): its result, the caller's.
 * And one command without members. */
int vm_ask(struct manager *m, const char *id, json_t *request, json_t **ret, struct err *err);
int vm_command(struct manager *m, const char *id, const char *command, struct err *err);

/* vm_limits.c */
/* Makes true what differs, of a VM that runs. */
int vm_limits_change(struct manager *m, const struct instance *instance, const struct spec *before,
                     const struct spec *spec, struct err *err);

/* guest.c */
/* What a further program of a VM is to the shim. New reference. */
int guest_vm_process(struct manager *m, const struct spec *spec, uint16_t rows, uint16_t cols,
                     json_t **ret, struct err *err);
/* One of the agent's own programs (include/agent_protocol.h); argument may be NULL. */
json_t *guest_builtin(const char *name, const char *argument);
json_t *guest_program(const char *const *words);
/* Runs a program (consumed) in the guest without input. output (NULL: thrown away) gets what it
 * prints, err's message the last it said about an error. 0 and its exit status, or negative:
 * -ETIMEDOUT, -E2BIG (more than the output's cap). */
int guest_run(struct manager *m, const char *id, json_t *process, uint64_t timeout_ms,
              struct buf *output, int *ret_status, struct err *err);
/* One of the agent's own, in a VM; negative, too, when it failed. */
int guest_ask(struct manager *m, const char *id, const char *builtin, struct buf *output,
              uint64_t timeout_ms, struct err *err);

/* prepare.c */
struct volume_holds;
int prepare_instance(struct manager *m, const struct instance *instance, uint64_t run, bool client,
                     struct volume_holds *holds, struct err *err);
/* An OCI process object for a further program of the container whose first process is pid. */
/* What of a description says which program runs; it borrows from the description. */
struct launch_request prepare_request(const struct spec *spec);
int prepare_process(struct manager *m, const struct spec *spec, pid_t pid, uint16_t rows,
                    uint16_t cols, json_t **ret, struct err *err);
/* The writable layer of a container, made if it is not there. */
int prepare_layer(struct manager *m, const char *id, const char *image_root, struct err *err);
/* The layers' paths, topmost first and ':' between them; and the one that has the users. */
int prepare_layers(const struct image *image, struct buf *lower, char users[PATH_MAX]);
/* Ends and removes what an earlier run may have left. */
void prepare_clear(struct manager *m, const struct instance *instance);
void prepare_remove_files(struct manager *m, const struct instance *instance);
void files_remove(const char *path);

/* root.c: a container's root directory (O_PATH); negative: -ESRCH when it has ended. The other by
 * who has the instance and its lock. */
int root_of_running(struct manager *m, struct instance *instance, struct err *err);
int root_of_stopped(struct manager *m, const struct instance *instance, struct err *err);

/* copying.c */
struct copying {
    char *path; /* in the instance; owned by who has the struct */
    bool in, keep_owner;
};
/* Serves a client's connection (which stays the caller's) to the end, and says so on it when all
 * went well. */
int copying_serve(struct manager *m, struct instance *instance, const struct copying *copying,
                  int fd, struct err *err);

/* networks.c: the places of instances on networks. They belong to whoever holds the instance's
 * lock, so whatever is killed, the next who works with networks takes them back. */
struct network_place {
    char namespace[PATH_SIZE], resolv_conf[PATH_SIZE]; /* of a container */
    char *user; /* in the place of a namespace: the text of its user-mode network; owned */
};
/* Whether the networks of a specification exist. */
int networks_check(const struct spec *spec, struct err *err);
/* Of one; what cannot be a network's name (NULL, "", none, user) needs none. */
int networks_check_name(const char *name, struct err *err);
/* By who has the instance and its lock; of a container. */
int networks_join(struct manager *m, const struct instance *instance, const struct spec *spec,
                  struct network_place *ret, struct err *err);
/* Before a VM that joins by itself: its session is in the VM's cgroup, where a resolver that it
 * started would share the VM's limits, and outlive it. */
int networks_expect(struct manager *m, const struct spec *spec, struct err *err);
/* A user-mode network, which `lodge network serve` makes once the container is there. */
int networks_user_mode(struct manager *m, const struct instance *instance, const struct spec *spec,
                       struct network_place *ret, struct err *err);
/* Its places, and its namespace; nothing when it has neither. */
void networks_leave(struct manager *m, const struct instance *instance);
/* Addresses kept for it, too. */
void networks_forget(struct manager *m, const struct instance *instance);
/* Its places, and the addresses that are kept for it. -EEXIST: a guest of another has that name. */
int networks_rename(struct manager *m, const struct instance *instance, const char *from,
                    const char *to, struct err *err);
/* A running container gets, or loses, a further interface. Whoever is disconnected, running or
 * not, gives back the address that is kept for it there, too. */
int networks_connect(struct manager *m, const struct instance *instance, const char *network,
                     const char *address4, struct err *err);
int networks_disconnect(struct manager *m, const struct instance *instance, const char *network,
                        struct err *err);
/* A machine's place, whose interface its monitor opens: "tap=...,mac=...,mtu=...". One that it has
 * already is taken as it is. By who has the instance and its lock. */
#define NETWORKS_TAP_SIZE 96
int networks_place(struct manager *m, const struct instance *instance, const char *network,
                   const char *address4, char ret[NETWORKS_TAP_SIZE], struct err *err);
/* The interface at its place there, as the guest's agent takes it: with way_out its addresses have
 * the gateways behind them. -ENOENT: it has no place. */
struct networks_interface {
    char mac[18];
    char text4[48], text6[120]; /* text6 "": the network has no IPv6 addresses */
};
int networks_interface(struct manager *m, const struct instance *instance, const char *network,
                       bool way_out, struct networks_interface *ret, struct err *err);
/* Whether it has a place there now. */
bool networks_placed(struct manager *m, const struct instance *instance, const char *network);
/* -ENOENT: there is no such network. */
int networks_exists(const char *network, struct err *err);
/* `, "endpoints": [...]` of those that it has now. */
void networks_describe(struct manager *m, const struct instance *instance, struct buf *to);

/* resolvers.c: who answers for names on a network, from now on as long as it has guests. coming: of
 * one that is about to join. */
int resolvers_start(struct manager *m, const char *network, bool coming, struct err *err);
/* Of networks that have guests at our start. */
void resolvers_adopt(struct manager *m);
/* On the loop's thread. */
void resolvers_tick(struct manager *m, uint64_t now_ns);
void resolvers_free(struct manager *m);

/* The name of the first instance whose specification names that network (volume); NULL: none. To
 * be freed. */
char *networks_user(struct manager *m, const char *network);

/* volumes.c: the named volumes of an instance, held by descriptors that its shim inherits. */
struct volume_holds {
    int fds[2 * SPEC_VOLUMES_MAX];
    size_t nr;
    char places[SPEC_VOLUMES_MAX][PATH_SIZE];
};
/* Of a container: each volume's path stands in the place of its name in spec. */
int volumes_take(struct manager *m, const struct instance *instance, struct spec *spec,
                 struct volume_holds *holds, struct err *err);
void volume_holds_done(struct volume_holds *holds);
/* What is mounted for it, no more. */
void volumes_leave(struct manager *m, const struct instance *instance);
char *volumes_user(struct manager *m, const char *volume);

/* shims.c */
int shim_lock(struct manager *m, const char *id, unsigned wait_ms, struct err *err);
/* Takes the lock's descriptor; the shim has those of holds (NULL: none) as long as it lives. */
int shim_start(struct manager *m, struct instance *instance, int lock_fd, int client_fd,
               const struct volume_holds *holds, struct err *err);
int shim_adopt(struct manager *m, struct instance *instance, struct err *err);
/* One request, on a connection of its own; request is consumed; fd (-1: none) goes along. */
int shim_ask(struct manager *m, const char *id, json_t *request, int fd, struct err *err);
/* Likewise, of what goes on: *ret_link is the connection, which ends when the shim does. */
int shim_hand_over(struct manager *m, const char *id, json_t *request, int fd, int *ret_link,
                   struct err *err);
/* A connection to the shim; -errno. */
int shim_link(struct manager *m, const char *id);
bool shim_read_exit(struct manager *m, const struct instance *instance, uint64_t run,
                    struct instance_end *ret);
/* lodge-oci on our containers. words: its verb and what follows, at most RUNTIME_WORDS_MAX, up to
 * NULL. input (NULL: none) is its standard input, *output (NULL: thrown away) gets what it prints;
 * what it says of a failure is the message. */
#define RUNTIME_WORDS_MAX 8
int runtime_run(const struct manager *m, const char *const *words, const char *input,
                struct buf *output, struct err *err);

/* health.c. Work for the workers: one check; consumes a reference. */
void health_work(struct manager *m, void *instance);

/* watch.c */
int watch_open(struct manager *m, struct err *err);
void watch_close(struct manager *m);
/* Takes fd. shim: its pid if it is our child, else 0. */
void watch_add(struct manager *m, struct instance *instance, int fd, pid_t shim);

/* recover.c */
int recover(struct manager *m, struct err *err);

/* allocation.c: the rounds in which the host is divided. */
int allocator_open(struct manager *m, struct err *err);
void allocator_close(struct manager *m);
/* Something changed: a round soon. Any thread. */
void allocator_wake(struct manager *m);
/* A round at once, in this thread; instance (may be NULL): all of its settings are written anew. */
void allocator_round(struct manager *m, struct instance *instance);

/* json_out.c: text straight into a buffer; lists of 10,000 are made so. */
/* As much as fits, and no half character at the end. */
void error_copy(char to[ERROR_MAX], const char *from);
void out_string(struct buf *to, const char *text);
void out_time(struct buf *to, int64_t time_ns); /* RFC 3339, or null for 0 */
void out_instance_brief(struct buf *to, const struct instance *instance);
/* specification and all; with the lock. */
void out_instance(struct buf *to, const struct instance *instance);

#endif
