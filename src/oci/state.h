/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the runtime remembers of a container: one directory a container below the state root, with
 * state.json and, until it is started, the FIFO `exec.fifo` on which its first process waits.
 * state.json is one JSON document, with the configuration as `create` found it; pid and start time
 * are put in their place when there is a process.
 *
 *   (nothing) --state_create--> creating --state_save--> created --start--> running
 *   running --(exit)--> stopped --state_remove--> (nothing)
 *
 * The status is never stored: it follows from the FIFO and from whether the process with that pid
 * and start time lives, so that no crash of the runtime can leave a lie.
 */
#ifndef LODGE_OCI_STATE_H
#define LODGE_OCI_STATE_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STATE_EXEC_FIFO "exec.fifo"

enum container_status {
    CONTAINER_CREATING,
    CONTAINER_CREATED,
    CONTAINER_RUNNING,
    CONTAINER_PAUSED,
    CONTAINER_STOPPED,
};

struct container_state {
    char *id;
    char *bundle;            /* absolute */
    char *rootfs;            /* absolute; NULL in states of older versions */
    char *cgroup_path;       /* NULL: none */
    char *version;           /* ociVersion of its configuration */
    pid_t pid;               /* 0: not started yet */
    uint64_t pid_start_time; /* field 22 of /proc/PID/stat: guards against a reused pid */
    uint64_t created_ns;     /* since 1970 */
    uid_t owner;
    char *config; /* config.json as it was at `create`; NULL while that is not saved */
    size_t config_length;
    off_t tail;          /* where the process stands in the file that was saved */
    json_t *annotations; /* or NULL; owned */
    json_t *rdt;         /* the plan of rdt.h, or NULL; owned */
    json_t *resources;   /* linux.resources as `update` left them, or NULL; owned */
};

/* The state root that is used when none is named: /run/lodge-oci, or below XDG_RUNTIME_DIR for
 * ordinary users. malloc. */
char *state_default_root(void);
/* -EINVAL unless id is 1..1024 of [A-Za-z0-9_+.-] and not "." or "..". */
int state_check_id(const char *id, struct err *err);

/* Makes ROOT/ID; -EEXIST when the id is taken. Returns an O_DIRECTORY fd, and one of ROOT. */
int state_create(const char *root, const char *id, int *ret_root_fd, struct err *err);
/* Opens ROOT/ID; -ENOENT says that no such container exists. */
int state_open(const char *root, const char *id, struct err *err);
int state_save(int dir_fd, const struct container_state *state, struct err *err);
/* The first time, and the pid with its start time after that. Without a temporary file: to replace
 * a file makes disk file systems write the new one out, and each new file costs them dear when many
 * were removed just now. Killed in the middle, what is not there to its end counts as missing. */
int state_save_first(int dir_fd, struct container_state *state, int *ret_file_fd, struct err *err);
int state_save_pid(int file_fd, const struct container_state *state, struct err *err);
/* The file again, after state_save has replaced it. fd or -errno. */
int state_open_file(int dir_fd, struct container_state *state);
/* -ENOENT while it is still being created. */
int state_load(int dir_fd, struct container_state **ret, struct err *err);
int state_remove(const char *root, const char *id, struct err *err);
/* The same of the directory that state_create made: no other that has taken its name meanwhile. */
int state_remove_made(int root_fd, int dir_fd, const char *id, struct err *err);
void state_free(struct container_state *state);

enum container_status state_status(int dir_fd, const struct container_state *state);
const char *state_status_name(enum container_status status);
/* A field (from 3 on) of the text of /proc/PID/stat, proc(5), or NULL. */
const char *process_stat_field(const char *text, int number);
/* Start time of a live process, or -ESRCH. */
int state_pid_start_time(pid_t pid, uint64_t *ret);
/* The JSON that the verbs `state` and `list` print. New reference. */
json_t *state_to_json(const struct container_state *state, enum container_status status);

#endif
