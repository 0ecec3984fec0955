/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an instance is to be, as a client asked for it: a JSON object, checked member by member, and
 * kept as text in the store. docs/API describes the members.
 *
 * The text comes from anybody who may use the API: every size is bounded, unknown members and
 * wrong types are refused by name. Pure: no files, no state.
 */
#ifndef LODGE_MANAGER_SPEC_H
#define LODGE_MANAGER_SPEC_H

#include "base/json.h"
#include "launch/bundle.h"
#include "manager/hardware.h"

#include <stdbool.h>
#include <stdint.h>

#define SPEC_NAME_MAX     63
#define SPEC_STRINGS_MAX  1024
#define SPEC_VOLUMES_MAX  64
#define SPEC_LABELS_MAX   64
#define SPEC_PORTS_MAX    32
#define SPEC_NETWORKS_MAX 8

enum spec_restart {
    SPEC_RESTART_NO,
    SPEC_RESTART_ON_FAILURE,
    SPEC_RESTART_ALWAYS,
    SPEC_RESTART_UNLESS_STOPPED,
};

/* Its part of the host; docs/policy.md has the rules. */
struct spec_share {
    double priority, alpha, beta;                                      /* NaN: not given */
    uint64_t reserve_cpu_millis, reserve_memory_bytes, cpu_max_millis; /* 0: none */
    const char *cpuset;                                                /* "": any */
};

struct spec_health {
    char **command; /* NULL: none */
    uint64_t interval_ms, timeout_ms, start_period_ms, retries;
};

/* Strings are borrowed from `document`, lists are owned. */
struct spec {
    json_t *document;      /* owned */
    char pinned_image[72]; /* what `image` is once pins_resolve found a digest */
    const char *image, *cwd, *user, *hostname, *engine, *kernel, *network; /* NULL: not given */
    bool vm, tty, stdin_open, auto_remove;
    char **command, **env;
    size_t nr_env;
    struct bundle_volume volumes[SPEC_VOLUMES_MAX]; /* a source without '/' is a volume's name */
    size_t nr_volumes;
    const char *address4; /* on `network`; NULL: a free one */
    const char *ports[SPEC_PORTS_MAX];
    size_t nr_ports;
    const char *more[SPEC_NETWORKS_MAX]; /* networks beyond `network` */
    size_t nr_more;
    uint64_t memory_bytes, cpu_millis, cpu_shares, io_weight, pids;
    const char *environment; /* NULL: none */
    struct spec_share share;
    enum spec_restart restart;
    uint64_t max_retries; /* of on-failure; 0: no limit */
    struct spec_health health;
    struct hardware *hardware; /* owned; NULL: it has an image. Else image is "" */
    struct hardware_disk disks[HARDWARE_DISKS_MAX]; /* beyond its own; of a VM of an image */
    unsigned nr_disks;
    uint64_t stop_timeout_s;
    int stop_signal;
};

/* Takes a reference of document (an object without "name"). */
int spec_parse(json_t *document, struct spec *ret, struct err *err);
int spec_parse_text(const char *text, struct spec *ret, struct err *err);
void spec_done(struct spec *spec);

/* [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most SPEC_NAME_MAX bytes. */
int spec_check_name(const char *name, struct err *err);
/* A signal by number or name, with or without SIG. -EINVAL. */
int spec_signal(const char *name, struct err *err);
/* `network` is one of `lodge network`, by its name. */
bool spec_is_networked(const struct spec *spec);
/* Those that it has from `lodge disk`, with hardware or without. */
const struct hardware_disk *spec_disks(const struct spec *spec, unsigned *ret_nr);
/* `network` is user, with or without options. */
bool spec_is_user_network(const struct spec *spec);
const char *spec_restart_name(enum spec_restart restart);
void spec_limits(const struct spec *spec, struct bundle_limits *ret);
/* A real or whole number from `least` to `most`; absent (or null) stays what it was. */
int spec_get_real(const struct json_at *at, const char *name, double least, double most,
                  double *ret, struct err *err);
/* A whole number; likewise. */
int spec_get_number(const struct json_at *at, const char *name, uint64_t least, uint64_t most,
                    uint64_t *ret, struct err *err);
/* The most processors that it may use at once, in thousandths; 0: no limit. */
uint64_t spec_cpu_limit_millis(const struct spec *spec);
/* The environment's name; "" for the default one. */
const char *spec_environment(const struct spec *spec);
/* Merges "resources", "hardware", "restart", "labels", "auto_remove", "disks" of `changes` into a
 * copy of document; the new document, checked. */
int spec_change(json_t *document, json_t *changes, json_t **ret, struct err *err);

#endif
