/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System call filters (config-linux.md "Seccomp"): from the configuration's linux.seccomp to a
 * classic BPF program, and into the kernel.
 *
 * The program is a binary tree over system call numbers: the kernel runs every number through it
 * once when it is installed, which is what a linear one of hundreds of rules spends milliseconds
 * on. Compiling takes longer than all the rest of a start, so programs are kept below the state
 * root (seccomp_cache.c); the whole profile is the key, so no two are ever mixed up.
 */
#ifndef LODGE_OCI_SECCOMP_FILTER_H
#define LODGE_OCI_SECCOMP_FILTER_H

#include "base/err.h"

#include <jansson.h>
#include <linux/filter.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct seccomp_program {
    struct sock_filter *filter; /* owned */
    size_t length;              /* instructions, at most 65535 */
    unsigned flags;             /* SECCOMP_FILTER_FLAG_* */
    bool notify;                /* some action is SCMP_ACT_NOTIFY */
    const char *listener_path;  /* borrowed from the profile; NULL: none */
    const char *listener_metadata;
};

/*
 * The listener's descriptor goes from the first process to the runtime through this shared page:
 * once the filter is installed, any system call might itself be waiting for the listener.
 */
struct seccomp_handover {
    _Atomic int fd; /* 0: not yet; the first process's descriptor + 1 */
    _Atomic int taken;
};

/* Checks a profile (linux.seccomp, an object) and fills all but the filter. */
int seccomp_describe(json_t *profile, struct seccomp_program *ret, struct err *err);
/* Translates. Names that the system call table does not know are skipped, as the other runtimes do.
 */
int seccomp_compile(json_t *profile, struct seccomp_program *ret, struct err *err);
/* seccomp_describe and seccomp_compile, or the cached result of an earlier one, below the state
 * root. A cache that cannot be used is none. */
int seccomp_prepare(json_t *profile, const char *state_root, struct seccomp_program *ret,
                    struct err *err);
void seccomp_program_done(struct seccomp_program *program);

/* Installs it for the calling, single-threaded process, which needs no_new_privs or
 * CAP_SYS_ADMIN. With a listener, hands it over and waits until it was taken. */
int seccomp_install(const struct seccomp_program *program, struct seccomp_handover *handover,
                    struct err *err);
/* The runtime's side: takes the listener of process pid_fd. Descriptor or -errno. */
int seccomp_take_listener(struct seccomp_handover *handover, int pid_fd, struct err *err);
/* Sends the listener to the agent at program->listener_path, with the container process state. */
int seccomp_send_listener(const struct seccomp_program *program, int listener, pid_t pid,
                          json_t *state, struct err *err);

/* A shared page, zeroed; NULL without memory. */
struct seccomp_handover *seccomp_handover_new(void);
void seccomp_handover_free(struct seccomp_handover *handover);

#endif
