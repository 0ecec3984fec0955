/* SPDX-License-Identifier: Apache-2.0 */
/* A further process in a container that runs (the verb `exec` of runtime command lines). */
#ifndef LODGE_OCI_EXEC_H
#define LODGE_OCI_EXEC_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct exec_options {
    const char *root; /* state root */
    const char *id;
    const char
        *process_file;      /* a process.json; NULL: the members below, over the container's own */
    char **args;            /* NULL-terminated */
    const char *cwd, *user; /* NULL: the container's; user is uid[:gid] */
    const char **env;
    size_t nr_env;
    const char **capabilities;
    size_t nr_capabilities;
    const char **additional_gids;
    size_t nr_additional_gids;
    const char *apparmor, *process_label; /* NULL: the container's */
    const char *cgroup; /* [CONTROLLER[,...]:]PATH below the container's; NULL: that itself */
    bool tty, no_new_privileges;

    const char *console_socket, *pid_file; /* NULL: none */
    bool detach, ignore_paused;
    int preserve_fds;
};

/* *ret_status: the process's exit status (128 + n for signal n), 0 when detached. */
int container_exec(const struct exec_options *options, int *ret_status, struct err *err);

#endif
