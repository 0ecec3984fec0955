/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRIU as a service of this process: `criu swrk FD`, with requests and answers over a socket pair
 * (criu.org "RPC"; the field numbers are those of its rpc.proto). It saves and restores processes;
 * what belongs to the container around them is checkpoint.h's.
 */
#ifndef LODGE_OCI_CRIU_H
#define LODGE_OCI_CRIU_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

/* Requests (criu_req_type). */
enum { CRIU_DUMP = 1, CRIU_RESTORE = 2, CRIU_PRE_DUMP = 4 };

/* Field numbers of criu_opts. */
enum criu_option {
    CRIU_IMAGES_DIR_FD = 1,
    CRIU_PID = 2,
    CRIU_LEAVE_RUNNING = 3,
    CRIU_EXT_UNIX_SK = 4,
    CRIU_TCP_ESTABLISHED = 5,
    CRIU_EVASIVE_DEVICES = 6,
    CRIU_SHELL_JOB = 7,
    CRIU_FILE_LOCKS = 8,
    CRIU_LOG_LEVEL = 9,
    CRIU_LOG_FILE = 10,
    CRIU_PAGE_SERVER = 11,
    CRIU_NOTIFY_SCRIPTS = 12,
    CRIU_ROOT = 13,
    CRIU_PARENT_IMAGE = 14,
    CRIU_TRACK_MEMORY = 15,
    CRIU_AUTO_DEDUP = 16,
    CRIU_WORK_DIR_FD = 17,
    CRIU_LINK_REMAP = 18,
    CRIU_EXTERNAL_MOUNT = 23,
    CRIU_MANAGE_CGROUPS = 24,
    CRIU_CGROUP_ROOT = 25,
    CRIU_RESTORE_SIBLING = 26,
    CRIU_INHERIT_FD = 27,
    CRIU_CGROUPS_MODE = 34,
    CRIU_EXTERNAL = 37,
    CRIU_EMPTY_NAMESPACES = 38,
    CRIU_JOIN_NAMESPACE = 39,
    CRIU_FREEZE_CGROUP = 44,
    CRIU_TCP_SKIP_IN_FLIGHT = 46,
    CRIU_STATUS_FD = 49,
    CRIU_ORPHAN_PTS_MASTER = 50,
    CRIU_TCP_CLOSE = 52,
    CRIU_LSM_PROFILE = 53,
    CRIU_LSM_MOUNT_CONTEXT = 63,
};

struct criu {
    pid_t pid; /* 0: not running */
    int socket;
};

/* A notification while a request is served; fd (or -1) is the receiver's to keep by writing -1 over
 * it. A negative result ends the request as failed. */
typedef int criu_notify_fn(void *opaque, const char *script, pid_t pid, int *fd, struct err *err);

struct criu_start {
    const char *program; /* path, or a name to look for in PATH */
    /* Open in CRIU too, by the same numbers; -1 is skipped. */
    const int *fds;
    size_t nr_fds;
    /* In CRIU's process before it is executed; NULL: nothing. */
    int (*prepare)(void *opaque, struct err *err);
    void *opaque;
};

int criu_start(const struct criu_start *start, struct criu *ret, struct err *err);
/* Ends it, and waits for that. */
void criu_stop(struct criu *criu);

/* Sends `type` with the options (fields of criu_opts), serves notifications until the answer comes.
 * *ret_pid (may be NULL): the restored first process. */
int criu_request(struct criu *criu, int type, const struct buf *options, criu_notify_fn *notify,
                 void *opaque, pid_t *ret_pid, struct err *err);

#endif
