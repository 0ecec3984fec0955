/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI configuration of a container that Lodge itself starts (OCI runtime specification 1.2,
 * config.md and config-linux.md): private namespaces, the usual mounts, the capabilities that
 * container engines leave to a root user, /proc and /sys masked.
 */
#ifndef LODGE_LAUNCH_BUNDLE_H
#define LODGE_LAUNCH_BUNDLE_H

#include "base/err.h"
#include "launch/command.h"

#include <stdint.h>

struct bundle_volume {
    const char *source, *target; /* on the host, any path; in the container, absolute */
    bool read_only;
};

/* 0 in a number: no limit, or the kernel's default. */
struct bundle_limits {
    uint64_t memory_bytes;
    uint64_t cpu_quota_us; /* of every BUNDLE_CPU_PERIOD_US */
    uint64_t cpu_shares;   /* 2..262144 */
    uint64_t io_weight;    /* 10..1000 */
    uint64_t pids;
    uint64_t memory_reserved_bytes; /* protected from reclaim */
    const char *cpuset;             /* "0-1,4"; NULL or "": any */
};

#define BUNDLE_CPU_PERIOD_US 100000

/* Everything borrowed. The root is the directory `rootfs` beside the configuration. */
struct bundle {
    const struct launch_command *command;
    const char *image_root; /* the image's files: whose users count */
    const char *hostname;
    const char *cgroup; /* the container's cgroup path */
    bool tty;
    uint16_t rows, cols; /* of the terminal; 0: unknown */
    const struct bundle_volume *volumes;
    size_t nr_volumes;
    struct bundle_limits limits;
    /* A writable layer over `lower` (directories apart by ':', topmost first), mounted by the
     * runtime inside the container's own mount namespace; NULL: what is at `rootfs` is the root. */
    const char *lower, *upper, *work;
    /* A network namespace that is there, and the file that is its /etc/resolv.conf; NULL: a fresh
     * one, and the image's own. */
    const char *network_namespace, *resolv_conf;
    /* A program that gives the container its network once its namespaces are there (NULL: none):
     * the createRuntime hook `PROGRAM network serve TEXT`. */
    const char *network_program, *network_text;
    /* For an ordinary user: a user namespace with this one user in it, no cgroup. */
    bool rootless;
};

/* The "linux.resources" object for these limits; devices not included. New reference. */
json_t *bundle_limits_json(const struct bundle_limits *limits);
/* The "process" object alone, for a further program in a container: command, image_root, tty, rows
 * and cols count. New reference. */
int bundle_process(const struct bundle *bundle, json_t **ret, struct err *err);
/* -ESRCH: no such user or group in the image. */
int bundle_write(const struct bundle *bundle, const char *path, struct err *err);

#endif
