/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks of the configuration (config.md "POSIX-platform Hooks"): programs that are run at fixed
 * moments of a container's life with its state on their standard input.
 *
 *   prestart, createRuntime  by the runtime, when namespaces exist and mounts stand
 *   createContainer          by the first process, after those, before pivot_root
 *   startContainer           by the first process, in the container, before the program
 *   poststart, poststop      by the runtime; what they do wrong is only warned of
 *
 * The list is kept as JSON: it has to outlive the bundle in the container's state.
 */
#ifndef LODGE_OCI_HOOKS_H
#define LODGE_OCI_HOOKS_H

#include "base/json.h"

#include <sys/types.h>

#define HOOKS_PRESTART         "prestart"
#define HOOKS_CREATE_RUNTIME   "createRuntime"
#define HOOKS_CREATE_CONTAINER "createContainer"
#define HOOKS_START_CONTAINER  "startContainer"
#define HOOKS_POSTSTART        "poststart"
#define HOOKS_POSTSTOP         "poststop"

/* Checks the member `hooks` of a configuration; absent is fine. */
int hooks_check(const struct json_at *root, struct err *err);
/* hooks: the object, or NULL. */
bool hooks_present(const json_t *hooks, const char *kind);
/* base with status and pid as a hook reads it (pid 0: left out). malloc; NULL without memory. */
char *hooks_state_text(const json_t *base, const char *status, pid_t pid);
/* Runs those of one kind, in order, each to its end. The first that fails stops the rest, and err
 * says which one it was, how it ended and what it said last on its standard error. */
int hooks_run(const json_t *hooks, const char *kind, const char *state, struct err *err);
/* The same, but the rest runs, too; the first failure is returned. */
int hooks_run_all(const json_t *hooks, const char *kind, const char *state, struct err *err);

#endif
