/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's first process, between its birth by clone3 and its program: it enters the cgroup,
 * builds the root, takes the terminal, waits for the start, gives up privileges and executes. Runs
 * in the child only; single-threaded.
 */
#ifndef LODGE_OCI_INIT_H
#define LODGE_OCI_INIT_H

#include "oci/cgroup.h"
#include "oci/seccomp_filter.h"
#include "oci/spec.h"
#include "oci/state.h"

#include <stdbool.h>

struct init_arguments {
    const struct oci_spec *spec;
    const char *rootfs; /* absolute path of root.path */
    int bundle_fd;
    int socket; /* sync.h */
    struct container_state *state;
    int state_fd;              /* directory with the exec FIFO */
    int state_file_fd;         /* where the process is noted, by itself if runs_by_itself */
    bool runs_by_itself;       /* no more from or to the runtime after SYNC_CGROUP */
    int self_fd;               /* self_mount(), or -1 */
    struct cgroup *cgroup;     /* NULL: none */
    struct cgroup *sub_cgroup; /* exec: one below it to enter after it; NULL: none */
    bool in_cgroup;            /* clone3 has put us there */
    bool cgroup_follows;       /* cgroup is there when SYNC_CGROUP comes */
    int own_namespaces;        /* to make while the cgroup is made */
    bool wait_on_fifo;         /* create: the start comes through the FIFO */
    bool die_with_parent;      /* run in the foreground */
    int namespace_fds[8];      /* to join, -1 ends the list */
    int namespace_flags[8];
    int preserve_fds;
    unsigned listen_fds; /* the first of those: the program is told (LISTEN_FDS) */
    const struct seccomp_program *seccomp; /* NULL: none */
    struct seccomp_handover *handover;     /* with a listener: its way to the runtime */
    json_t *hook_state;                    /* for hooks in the container; NULL: there are none */
    int label_fd;             /* the process's own: where its security label goes; -1: none */
    uint64_t ignored_signals; /* the process's own: what it was born with */
    /* exec only: spec's process is the one to add, to the container whose first process is
     * container_pid_fd, in its namespaces join_flags. */
    bool exec;
    int container_pid_fd;
    int join_flags;
};

/* Is the first process in a pid namespace with processes of others? Then it has to be born without
 * PR_SET_DUMPABLE, which it has from the runtime: they may not look into its memory, its
 * descriptors or its program file, from its first moment on. */
bool init_shares_processes(const struct oci_spec *spec);

/* Does not return. The exit status when the program could not be executed: 127 not found, 126
 * otherwise, 1 for a failed set-up. */
__attribute__((noreturn)) void init_main(const struct init_arguments *arguments);

/* The same for a further process of a container that runs: everything is joined, nothing made. It,
 * too, is to be born without PR_SET_DUMPABLE. */
__attribute__((noreturn)) void init_exec_main(const struct init_arguments *arguments);

#endif
