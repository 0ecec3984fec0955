/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of one run: sockets, configuration, logs. In /run/lodge (root),
 * $XDG_RUNTIME_DIR/lodge or /tmp/lodge-UID; $LODGE_RUNTIME overrides.
 *
 * Nothing is left behind, however a run ends:
 *   1. At its end lodge removes the directory itself.
 *   2. When lodge is killed, the keeper (a child that only waits for that) gives the terminal back
 *      its settings and removes the directory; lodge-vmm and the container die with lodge by
 *      themselves (parent-death signal).
 *   3. When the keeper is killed as well, the next run's sweep finds the directory's lock free.
 * A directory appears by rename with its lock already held, so a sweep never takes a young one.
 */
#ifndef LODGE_CMD_RUN_DIR_H
#define LODGE_CMD_RUN_DIR_H

#include "base/err.h"

#include <limits.h>
#include <sys/types.h>

struct run_dir {
    char path[PATH_MAX];
    char id[64];
    int lock_fd, keeper_fd;
    pid_t keeper;
};

/* oci_program: what removes a dead run's container ("": none). name: the id, or NULL for a fresh
 * one; -EEXIST when a living run has it. Sweeps dead runs first. */
int run_dir_create(const char *name, const char *oci_program, struct run_dir *ret, struct err *err);
/* Removes everything, and ends the keeper. */
void run_dir_done(struct run_dir *dir);
/* Each run whose owner lives: its id and its directory. 0 when there is no runtime directory. */
int run_dir_each(void (*each)(const char *id, const char *path, void *context), void *context,
                 struct err *err);
/* dir/name in a static-size buffer; -ENAMETOOLONG. */
int run_dir_path(const struct run_dir *dir, const char *name, char ret[PATH_MAX], struct err *err);

#endif
