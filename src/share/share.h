/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file server for one guest: FUSE requests (protocol 7.31 and later, linux/fuse.h) on directories
 * of the host. What virtio-fs (virtio 1.2 5.11) carries is handled here, whoever carries it.
 *
 * A share has one member that is the file system's root, or several named ones below a root
 * directory that exists nowhere else; a named member may be a single file.
 *
 * Invariants:
 *  1. Every file is reached from a member's descriptor, one name at a time, by openat2 beneath the
 *     directory it was found in: no symbolic link of the host's is ever followed, no name with a
 *     slash and no ".." is taken. So nothing outside of the members is reachable.
 *  2. Only regular files and directories are opened for I/O; device nodes are never opened or made.
 *  3. A request is copied once and then checked. Data of READ and WRITE goes directly between file
 *     and guest memory.
 *  4. Tables are bounded: SHARE_NODES_MAX nodes, SHARE_HANDLES_MAX open files, a limit of cached
 *     descriptors of which the least recently used goes first.
 *
 * Threads: one, for all calls of a share.
 */
#ifndef LODGE_SHARE_SHARE_H
#define LODGE_SHARE_SHARE_H

#include "base/cleanup.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define SHARE_MEMBERS_MAX 64
#define SHARE_NAME_MAX    64      /* of a member, with NUL */
#define SHARE_NODES_MAX   1000000 /* files that a guest may know at once */
#define SHARE_HANDLES_MAX 65536   /* files that a guest may have open at once */
#define SHARE_WRITE_PAGES 128     /* the largest READ and WRITE, in pages of 4096 */

struct share;

struct share_member {
    char name[SHARE_NAME_MAX]; /* "": the one member is the root */
    int fd;                    /* O_PATH of a directory or, of a named member, a file */
    bool read_only;
};

/*
 * Members' descriptors are the share's from success on. fds_max: descriptors kept for known files
 * (open ones apart); 0 takes three quarters of what RLIMIT_NOFILE has. `owners`: new files belong
 * to the guest's user (the process has CAP_SETUID, CAP_SETGID and CAP_DAC_OVERRIDE); else to ours.
 * The process's working directory must be its /proc/self/fd (share_enter_proc), its umask 0.
 */
struct share_config {
    const struct share_member *members;
    unsigned nr_members;
    unsigned fds_max;
    bool owners;
};
int share_new(const struct share_config *config, struct share **ret, struct err *err);
void share_free(struct share *share);
DEFINE_CLEANUP(share_freep, struct share *, share_free);

/* Makes /proc/self/fd the working directory. */
int share_enter_proc(struct err *err);

/* One request and where its reply goes. The memory may change under us. */
struct share_request {
    const struct iovec *out; /* the request */
    unsigned nr_out;
    const struct iovec *in; /* for the reply */
    unsigned nr_in;
    uint32_t touched; /* by share_handle: bytes of `in`, from its start, that may be written */
};

/* Returns the reply's length; 0 for a request that has none, or that is too broken for one. */
uint32_t share_handle(struct share *share, struct share_request *request);

struct share_figures {
    unsigned nodes, fds, handles;
};
void share_figures(const struct share *share, struct share_figures *ret);

#endif
