/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts the command that the host asked for: a session of its own, with a terminal or pipes. What
 * goes wrong up to and including exec is reported here, with the exit status that a shell would
 * give: 127 not found, 126 not to be run (also: user or directory missing), 125 our own trouble.
 */
#ifndef LODGE_GUEST_SPAWN_H
#define LODGE_GUEST_SPAWN_H

#include "agent_protocol.h"

#include <sys/types.h>

struct spawned {
    pid_t pid;
    int files[AGENT_NR_ROLES]; /* our ends, non-blocking; -1: none. A terminal: its master, as stdin
                                  and as stdout (two descriptors) */
    int terminal;              /* another descriptor of the master, for the window size; or -1 */
};

/* With AGENT_RUN_BUILTIN the child becomes `builtin` (builtin.h), whose result is its status. */
int spawn_command(const struct agent_run *run, struct spawned *ret, uint32_t *ret_exit_status,
                  struct err *err);
void spawned_close(struct spawned *spawned);
void spawn_resize(int terminal, uint16_t rows, uint16_t cols);

#endif
