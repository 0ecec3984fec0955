/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every way of making a container shares (run, create, restore): the configuration, the state
 * directory, the cgroup, the record of the first process, and the way back.
 *
 * Order (invariant 2 of container.h): load_bundle, state, cgroup, then processes, then record_pid.
 * After a failure at any point making_undo takes back what stands; making_done always.
 */
#ifndef LODGE_OCI_CONTAINER_MAKING_H
#define LODGE_OCI_CONTAINER_MAKING_H

#include "oci/cgroup.h"
#include "oci/container.h"
#include "oci/seccomp_filter.h"
#include "oci/spec.h"
#include "oci/state.h"

/* One container while a verb makes it. */
struct making {
    const struct container_options *options;
    struct oci_spec *spec;
    struct buf config; /* the text that spec was read from */
    char *bundle;      /* absolute */
    char *rootfs;      /* absolute */
    struct cgroup *cgroup;
    struct cgroup *cgroup_begun; /* not yet ours as a whole (cgroup_begin); NULL: none */
    struct container_state *state;
    int bundle_fd, socket, pid_fd, master;
    int root_fd, state_fd, state_file_fd; /* of the state: where all are, its directory, its file */
    pid_t pid;
    bool hooks_begun;
    bool runs_by_itself; /* its first process needs nothing more of us, not even the start */
    struct seccomp_program seccomp;
    struct seccomp_handover *handover; /* NULL: nobody listens */
};

void making_init(struct making *m, const struct container_options *options);
void making_done(struct making *m);
/* Takes back whatever stands. Errors on the way are not reported: the one that led here is. */
void making_undo(struct making *m);

/* The configuration, the bundle's descriptor, the root's path. */
int making_load_bundle(struct making *m, struct err *err);
/* The state directory; state.json names the cgroup. */
int making_state(struct making *m, struct err *err);
/* The cgroup with its limits; none where none is to be had. */
int making_cgroup(struct making *m, struct err *err);
/* The same in the two steps of cgroup.h. */
int making_cgroup_begin(struct making *m, struct err *err);
int making_cgroup_finish(struct making *m, struct err *err);
/* The classes of service of linux.intelRdt; the state names them first. */
int making_rdt(struct making *m, struct err *err);
/* m->pid into state.json and the pid file. */
int making_record_pid(struct making *m, struct err *err);

#endif
