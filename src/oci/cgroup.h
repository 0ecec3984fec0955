/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup of one container, in whatever arrangement the host has: version 1 (one hierarchy a
 * controller), version 2 (one hierarchy), or hybrid (version 1 controllers beside a version 2
 * hierarchy that has none).
 *
 * A cgroup is the same path in every hierarchy. Invariants: 1. only a directory that cgroup_create
 * made is removed;
 * 2. a path never leaves the mount point (no "..").
 */
#ifndef LODGE_OCI_CGROUP_H
#define LODGE_OCI_CGROUP_H

#include "base/err.h"
#include "oci/spec.h"

#include <stdbool.h>
#include <sys/types.h>

#define CGROUP_HIERARCHIES_MAX 24
#define CGROUP_LINKS_MAX       8

enum cgroup_layout {
    CGROUP_LAYOUT_NONE,
    CGROUP_LAYOUT_V1,
    CGROUP_LAYOUT_V2,
    CGROUP_LAYOUT_HYBRID,
};

struct cgroup_hierarchy {
    char name[64]; /* directory below /sys/fs/cgroup: "memory", "cpu,cpuacct", "systemd", "unified";
                      "" for v2 */
    bool v2;
    int fd;        /* O_PATH of the container's directory; -1 while there is none */
    bool unopened; /* there is one, and nobody needed its fd yet (cgroup_directory) */
    bool made;     /* by us: it was not there before */
};

struct cgroup {
    enum cgroup_layout layout;
    char *path;  /* "/lodge/ID" */
    int root_fd; /* /sys/fs/cgroup: a walk from "/" takes the kernel longer than most of what is
                    done there; -1 where that is not */
    struct cgroup_hierarchy hierarchies[CGROUP_HIERARCHIES_MAX];
    unsigned nr_hierarchies;
    /* Other names of hierarchies: cpu -> cpu,cpuacct. */
    struct {
        char name[64], target[64];
    } links[CGROUP_LINKS_MAX];
    unsigned nr_links;
};

/* Is anything mounted at /sys/fs/cgroup? One system call: a version 1 host may turn out to have no
 * hierarchy. */
bool cgroup_is_mounted(void);
/* Is it version 2 alone? One system call. */
bool cgroup_is_v2(void);
const char *cgroup_layout_name(enum cgroup_layout layout);

/* Makes the directories (parents too) in two steps, between which its first process may be born:
 * cgroup_begin those of version 2, into which it is born, cgroup_finish all others. -EEXIST when
 * the path exists and holds processes. Until cgroup_finish has succeeded the path may be somebody
 * else's: then cgroup_unmake, which takes back only what was made here, and nothing but it. */
int cgroup_begin(const char *path, struct cgroup **ret, struct err *err);
int cgroup_finish(struct cgroup *cgroup, struct err *err);
void cgroup_unmake(struct cgroup *cgroup);
/* In a process born between the two, after the other side has finished: it may join. */
void cgroup_expect(struct cgroup *cgroup);
/* Opens an existing one; hierarchies where it is missing are left out. */
int cgroup_open(const char *path, struct cgroup **ret, struct err *err);
void cgroup_free(struct cgroup *cgroup);
/* The container's directory in one hierarchy, opened when it is first needed. Borrowed; -1: there
 * is none. */
int cgroup_directory(const struct cgroup *cgroup, struct cgroup_hierarchy *hierarchy);

/* Writes limits and device rules. Before anything joins. A limit without its controller is an error
 * that names it. */
int cgroup_apply(struct cgroup *cgroup, const struct oci_resources *resources, struct err *err);
/* v1, before both limits are raised: memory and swap together, if that is more than now. Failure
 * shows in cgroup_apply. */
void cgroup_raise_swap_limit(struct cgroup *cgroup, int64_t bytes);
/* The calling (single-threaded) process enters. v2_done: clone3 has put it into the v2 one. */
int cgroup_join_self(struct cgroup *cgroup, bool v2_done, struct err *err);
/* For clone3(CLONE_INTO_CGROUP): the v2 directory, opened for it; -1 without one. On hybrid hosts
 * too, where a write to its cgroup.procs takes the host-wide lock that is slow (cgroup.c). */
int cgroup_v2_fd(struct cgroup *cgroup);

/* SIGKILL to every process in it, until none is left (bounded). */
int cgroup_kill_all(struct cgroup *cgroup, struct err *err);
/* Where nothing is left in it (the usual case) this is all it takes; false: something is. */
bool cgroup_remove_empty(const struct cgroup *cgroup);
/* Removes it everywhere, child cgroups too; processes must be gone. Missing directories are fine.
 */
int cgroup_remove(struct cgroup *cgroup, struct err *err);
/* Bytes of memory used by its processes and their page cache; -ENOENT without a memory controller.
 */
int cgroup_memory_bytes(struct cgroup *cgroup, uint64_t *ret_current, uint64_t *ret_peak);

#endif
