/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge-shim: one process beside each running instance, so that the manager may come and go. It
 * holds the guest's standard streams, its log, its exit status, and a control socket. It decides
 * nothing: restarts, health and names are the manager's.
 *
 *      starting ──runtime succeeded / ready──▶ running ──guest ended──▶ draining
 *          │ runtime failed: say_exit()    outputs and children ended or late │ say_exit()
 *          └──────────────────────────────▶ leaving ◀─────────────────────────┘
 *      leaving: exit file written (again and again while the disk is full), runtime's state
 * deleted, clients served to the end; then the process ends and with it the lock.
 *
 * One thread. Protocol: include/shim_protocol.h.
 */
#ifndef LODGE_SHIM_SHIM_H
#define LODGE_SHIM_SHIM_H

#include "base/json.h"
#include "base/loop.h"
#include "shim/guest_io.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#define SHIM_CONNECTIONS_MAX 16
#define SHIM_EXECS_MAX       32
#define SHIM_REAPED_MAX      64

enum shim_phase { SHIM_STARTING, SHIM_RUNNING, SHIM_DRAINING, SHIM_LEAVING };

struct shim;

struct shim_connection {
    struct shim *shim; /* NULL: free */
    int fd;
    struct loop_fd *watch;
    bool watching;
};

/* A further program in the guest. */
struct shim_exec {
    struct shim *shim; /* NULL: free */
    pid_t runtime;     /* lodge-oci exec, until it ended */
    pid_t pid;         /* the program, once it is known; in a VM, who stands for it here */
    bool vm, over;
    int exit_code;
    int console_listen;
    struct loop_fd *console_watch;
    char files[PATH_MAX]; /* the common beginning of its files' names */
    struct guest_io io;
};

struct shim_config {
    const char *id, *program, *root, *pid_file, *console_socket, *socket, *exit_file, *log_file;
    const char *runtime_log, *cgroup;
    const char *agent_socket; /* a VM's vsock socket; "": further programs are lodge-oci's */
    char **runtime, **env;    /* NULL-terminated, borrowed strings */
    char **enter;             /* cgroup.procs files that our children write themselves into */
    uint64_t run, log_max;
    bool tty, stdin_open, foreground, client;
    json_t *document;
};

/* A child that ended before anybody knew whose it was. */
struct shim_reaped {
    pid_t pid;
    int status;
};

struct shim {
    struct shim_config config;
    struct loop *loop;
    enum shim_phase phase;
    struct log_file log;
    struct guest_io io;
    int listen_fd, signal_fd, ready_fd, console_listen;
    struct loop_fd *listen_watch, *signal_watch, *ready_watch, *console_watch;
    struct loop_timer *timer; /* late outputs, a full disk */
    pid_t runtime, guest, deleter;
    bool guest_ended, childless, exit_written, oom, runtime_failed;
    bool error_is_printed; /* the clients have read it */
    int exit_code, exit_signal;
    int64_t started_ns, finished_ns;
    uint64_t ended_ns, leave_by_ns;
    char error[1024];
    struct shim_connection connections[SHIM_CONNECTIONS_MAX];
    struct shim_exec execs[SHIM_EXECS_MAX];
    struct shim_reaped reaped[SHIM_REAPED_MAX];
    size_t nr_reaped;
    sigset_t signals_before;
};

/* config.c */
int shim_config_load(const char *path, struct shim_config *ret, struct err *err);
void shim_config_done(struct shim_config *config);

/* shim.c. Serves the instance until its end. */
int shim_run(const char *config_path, struct err *err);
/* Did a child with this pid end before it was asked for? Takes it from the list. */
bool shim_take_reaped(struct shim *shim, pid_t pid, int *ret_status);
/* Sends a signal to the guest's first process. -ESRCH when there is none. */
int shim_kill(struct shim *shim, int number);
void shim_settle(struct shim *shim);

/* launch.c */
/* Starts argv with these standard streams (-1: /dev/null) and no other descriptor but `pass`, which
 * becomes 3 (-1: none). With own_terminal its standard input is its controlling terminal. */
pid_t shim_spawn(const struct shim *shim, char *const argv[], const int files[3], int pass,
                 bool own_terminal);
int shim_launch(struct shim *shim, struct err *err);
/* A socket at `path` where a runtime hands a terminal over; watched with fn. */
int shim_console_listen(struct shim *shim, const char *path, loop_fd_fn *fn, void *context,
                        int *ret_fd, struct loop_fd **ret_watch, struct err *err);
/* What arrived there: a terminal's master, or -1. */
int shim_console_accept(int listen_fd);
pid_t shim_read_pid(const char *path);
int shim_exit_code(int wait_status, int *ret_signal);

/* control.c */
int shim_control_listen(struct shim *shim, struct err *err);
void shim_control_add(struct shim *shim, int fd, bool watching);
/* To all that watch. event is consumed. */
void shim_control_say(struct shim *shim, json_t *event);
json_t *shim_running_event(const struct shim *shim);
json_t *shim_exited_event(const struct shim *shim);
void shim_control_done(struct shim *shim);

/* exec.c */
/* Takes client. */
int shim_exec_start(struct shim *shim, const json_t *process, bool stdin_open, int client,
                    struct err *err);
/* One of our children ended; true when it belonged to an exec. */
bool shim_exec_reap(struct shim *shim, pid_t pid, int status);
void shim_exec_done_all(struct shim *shim);

#endif
