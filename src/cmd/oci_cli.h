/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command lodge-oci: what its verbs share. One verb or family a file (oci_NAME.c); main finds
 * the verb and exits with what it returns. Exit statuses: 0, 1 for a failure; `run` and `exec` that
 * wait: the program's; a failed `exec`: 255, as callers expect.
 */
#ifndef LODGE_CMD_OCI_CLI_H
#define LODGE_CMD_OCI_CLI_H

#include "base/err.h"

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>

struct oci_global {
    const char *root; /* state root */
    const char *log_path;
    const char *criu; /* program; NULL: the one in PATH */
    bool log_json;
};

struct oci_verb {
    const char *name;
    /* argv[0] is the verb. */
    int (*run)(const struct oci_global *global, int argc, char **argv);
};

/* Prints err for people and, with --log, for programs. Returns 1. */
int oci_fail(const struct oci_global *global, const struct err *err);
int oci_usage_error(const struct oci_global *global, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* For an option that getopt_long has complained about. */
int oci_unknown_option(void);
/* The only argument left, a container id; NULL after a message. */
const char *oci_single_id(const struct oci_global *global, int argc, char **argv);
/* The same for a verb that has no options. */
const char *oci_only_id(const struct oci_global *global, int argc, char **argv);
/* Are the n descriptors from 3 on that are to be preserved open? One that is not would be a
 * descriptor of ours by the time the program is looked up. 0, or 1 after a message. */
int oci_check_preserved(const struct oci_global *global, const char *verb, int n);
int oci_print_json(const struct oci_global *global, json_t *json, size_t flags);

int oci_verb_run(const struct oci_global *global, int argc, char **argv);
int oci_verb_create(const struct oci_global *global, int argc, char **argv);
int oci_verb_start(const struct oci_global *global, int argc, char **argv);
int oci_verb_exec(const struct oci_global *global, int argc, char **argv);
int oci_verb_kill(const struct oci_global *global, int argc, char **argv);
int oci_verb_delete(const struct oci_global *global, int argc, char **argv);
int oci_verb_pause(const struct oci_global *global, int argc, char **argv);
int oci_verb_resume(const struct oci_global *global, int argc, char **argv);
int oci_verb_state(const struct oci_global *global, int argc, char **argv);
int oci_verb_list(const struct oci_global *global, int argc, char **argv);
int oci_verb_ps(const struct oci_global *global, int argc, char **argv);
int oci_verb_update(const struct oci_global *global, int argc, char **argv);
int oci_verb_events(const struct oci_global *global, int argc, char **argv);
int oci_verb_spec(const struct oci_global *global, int argc, char **argv);
int oci_verb_features(const struct oci_global *global, int argc, char **argv);
int oci_verb_checkpoint(const struct oci_global *global, int argc, char **argv);
int oci_verb_restore(const struct oci_global *global, int argc, char **argv);

#endif
