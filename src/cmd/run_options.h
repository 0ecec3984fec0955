/* SPDX-License-Identifier: Apache-2.0 */
/* What `lodge run` was asked for. Pure parsing; strings are borrowed from argv. */
#ifndef LODGE_CMD_RUN_OPTIONS_H
#define LODGE_CMD_RUN_OPTIONS_H

#include "base/err.h"
#include "cmd/life_options.h"
#include "cmd/share_options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUN_ENV_MAX     256
#define RUN_VOLUMES_MAX 64
#define RUN_PORTS_MAX   32
#define RUN_CPUS_MAX    64
#define RUN_SYMBOLS_MAX 15
#define RUN_LABELS_MAX  64
#define RUN_DISKS_MAX   7
#define RUN_JOINED_MAX  8

struct run_volume {
    const char *source, *target; /* target is absolute; source as given */
    bool read_only;
    bool disk; /* source is an image, to be a disk of the virtual machine (run_volumes_take) */
};

struct run_options {
    bool vm;
    const char *engine;    /* auto, kvm, soft (with options behind a comma) */
    uint64_t nr_cpus;      /* 0: not given */
    uint64_t memory_bytes; /* 0: not given */
    const char *env[RUN_ENV_MAX];
    size_t nr_env;
    struct run_volume volumes[RUN_VOLUMES_MAX];
    size_t nr_volumes;
    const char *cwd, *user, *name, *hostname; /* NULL: not given */
    const char *ports[RUN_PORTS_MAX];
    size_t nr_ports;
    const char *address4; /* NULL: not given */
    const char *network;  /* "none" unless given */
    bool network_given;
    const char *joined[RUN_JOINED_MAX]; /* networks by name, beyond `network` */
    size_t nr_joined;
    const char *kernel;               /* "cloud" unless given */
    const char *disks[RUN_DISKS_MAX]; /* each SERIAL,FORMAT[,ro],PATH */
    size_t nr_disks;
    const char *root_layer; /* NULL: in memory */
    const char *profile;    /* NULL: none */
    const char *symbols[RUN_SYMBOLS_MAX];
    size_t nr_symbols;
    bool stdin_open, tty, quiet, balloon, hotplug;
    bool agent;   /* the command is one of the guest agent's own */
    bool managed; /* one of these was given: it goes through the manager */
    bool detach, remove, stop_timeout_given;
    const char *labels[RUN_LABELS_MAX];
    size_t nr_labels;
    const char *restart, *stop_signal;                    /* NULL: not given */
    uint64_t cpu_shares, pids, io_weight, stop_timeout_s; /* 0: not given */
    struct health_options health;
    const char *environment; /* NULL: none */
    struct share_options share;
    const char *image;
    char **command; /* NULL-terminated; may be empty */
    char *storage;  /* owned: split volumes */
};

/* argv[0] is the verb. The message in err says what is right; nothing is printed. */
int run_options_parse(struct run_options *ret, int argc, char **argv, struct err *err);
void run_options_done(struct run_options *options);

/* For completion: the long names in order, NULL behind the last; and the long name of the option
 * whose value the word after `word` would be, or NULL. */
const char *run_option_name(size_t index);
const char *run_option_awaiting(const char *word);

#endif
