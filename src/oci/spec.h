/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's configuration (config.json of the OCI runtime specification 1.2) as a checked C
 * structure. All strings are borrowed from the JSON document that the structure owns; arrays live
 * in it too. What the runtime cannot honour is refused here by name: a member that were silently
 * ignored could be the one that someone's safety rests on.
 */
#ifndef LODGE_OCI_SPEC_H
#define LODGE_OCI_SPEC_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

struct oci_strings {
    const char **items; /* NULL-terminated when items is not NULL */
    size_t length;
};

struct oci_id_map {
    uint32_t container_id, host_id, size;
};

struct oci_mount {
    const char *destination; /* inside the container; counts from / in any case */
    const char *type;        /* NULL: bind */
    const char *source;      /* NULL: none */
    struct oci_strings options;
    struct oci_id_map *uid_maps, *gid_maps; /* of an id-mapped mount */
    size_t nr_uid_maps, nr_gid_maps;
    char *label_option; /* "context=LABEL" from linux.mountLabel; NULL: none. Owned */
    int tree_fd;        /* written by mount_idmap_prepare: the detached mount; -1: none */
};

struct oci_namespace {
    int flag;         /* CLONE_NEW* */
    const char *path; /* join this one; NULL: a new one */
};

struct oci_device {
    const char *path;
    char type; /* c, b, p */
    uint32_t major, minor;
    mode_t mode;
    uid_t uid;
    gid_t gid;
};

struct oci_device_rule {
    bool allow;
    char type;            /* a, b, c */
    int64_t major, minor; /* -1: any */
    const char *access;   /* "rwm" */
};

struct oci_rlimit {
    int resource;
    struct rlimit limit;
};

struct oci_sysctl {
    const char *name, *value;
};

struct oci_time_offset {
    const char *clock; /* "monotonic", "boottime" */
    int64_t seconds;
    uint32_t nanoseconds;
};

/* Absent numbers are -1 (limits), 0 (shares, weights, periods). */
struct oci_resources {
    int64_t memory_limit_bytes, memory_swap_bytes, memory_reservation_bytes;
    uint64_t cpu_shares;
    int64_t cpu_quota_us;
    uint64_t cpu_period_us;
    const char *cpuset_cpus, *cpuset_mems;
    int64_t pids_limit;
    uint64_t blkio_weight;
    struct oci_device_rule *devices;
    size_t nr_devices;
    json_t *document; /* linux.resources itself, or NULL */
    json_t *unified;  /* object of strings, or NULL */
};

/* Bit sets of capability numbers. */
struct oci_capabilities {
    bool present;
    uint64_t bounding, effective, permitted, inheritable, ambient;
};

struct oci_scheduler {
    bool present;
    uint32_t policy, priority;
    int32_t nice;
    uint64_t flags, runtime_ns, deadline_ns, period_ns;
};

/* linux.memoryPolicy */
struct oci_memory_policy {
    bool present, has_nodes;
    int mode; /* MPOL_* with MPOL_F_* */
    cpu_set_t nodes;
};

/* linux.netDevices */
struct oci_net_device {
    const char *name, *new_name;
};

/* linux.intelRdt */
struct oci_rdt {
    bool present, monitoring;
    const char *clos_id, *l3_schema, *bandwidth_schema; /* NULL: none */
    struct oci_strings schemata;
};

struct oci_process {
    bool terminal;
    unsigned console_width, console_height;
    uid_t uid;
    gid_t gid;
    mode_t umask; /* 022 when absent */
    gid_t *additional_gids;
    size_t nr_additional_gids;
    struct oci_strings args, env;
    const char *cwd;
    struct oci_capabilities capabilities;
    struct oci_rlimit *rlimits;
    size_t nr_rlimits;
    bool no_new_privileges;
    bool has_oom_score_adj;
    int oom_score_adj;
    struct oci_scheduler scheduler;
    bool has_io_priority;
    int io_priority;                               /* as ioprio_set(2) takes it */
    const char *affinity_initial, *affinity_final; /* for processes that join; NULL: none */
    const char *apparmor_profile, *selinux_label;  /* NULL: none */
};

struct oci_spec {
    json_t *document;
    const char *version;
    struct oci_process process;
    const char *root_path; /* as written: relative to the bundle unless absolute */
    bool root_read_only;
    const char *hostname, *domainname;
    struct oci_mount *mounts;
    size_t nr_mounts;
    struct oci_namespace *namespaces;
    size_t nr_namespaces;
    struct oci_id_map *uid_maps, *gid_maps;
    size_t nr_uid_maps, nr_gid_maps;
    struct oci_device *devices;
    size_t nr_devices;
    struct oci_resources resources;
    const char *cgroups_path;
    struct oci_strings masked_paths, read_only_paths;
    struct oci_sysctl *sysctls;
    size_t nr_sysctls;
    unsigned long rootfs_propagation; /* MS_*; 0: the default, MS_SLAVE|MS_REC */
    json_t *annotations;              /* object, or NULL */
    json_t *hooks;                    /* object (hooks.h), or NULL */
    json_t *seccomp;                  /* object (seccomp.h), or NULL */
    bool has_personality;
    unsigned long personality; /* as personality(2) takes it */
    const char *mount_label;   /* NULL: none */
    struct oci_memory_policy memory_policy;
    struct oci_rdt rdt;
    struct oci_net_device *net_devices;
    size_t nr_net_devices;
    struct oci_time_offset time_offsets[2];
    size_t nr_time_offsets;
};

/* Parses and checks text. Free with oci_spec_free. */
int oci_spec_parse(const char *text, size_t length, const char *source, struct oci_spec **ret,
                   struct err *err);
/* The same from a document, of which a reference is taken. */
int oci_spec_from_json(json_t *document, const char *source, struct oci_spec **ret,
                       struct err *err);
/* Reads the bundle's config.json, whose text is then in *ret_text (for the caller to free). */
int oci_spec_load(int bundle_fd, struct buf *ret_text, struct oci_spec **ret, struct err *err);
void oci_spec_free(struct oci_spec *spec);

/* The value of an annotation, or NULL. */
const char *oci_spec_annotation(const struct oci_spec *spec, const char *name);
/* The namespace entry for a CLONE_NEW* flag, or NULL: the container shares the host's. */
const struct oci_namespace *oci_spec_namespace(const struct oci_spec *spec, int flag);

/* A default configuration as `spec` prints it: a shell in ./rootfs. New reference. */
json_t *oci_spec_default(void);

#endif
