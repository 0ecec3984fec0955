/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a manager has its state and its socket. The system's (root): /var/lib/lodge/manager and
 * /run/lodged. A user's: ~/.local/share/lodge/manager ($XDG_DATA_HOME), and $XDG_RUNTIME_DIR/lodged
 * or /tmp/lodged-UID. $LODGE_MANAGER names one directory for both; $LODGE_SOCKET the socket alone.
 */
#ifndef LODGE_CMD_MANAGER_PATHS_H
#define LODGE_CMD_MANAGER_PATHS_H

#include "base/err.h"

#include <stdbool.h>

#define MANAGER_PATHS_MAX 400

struct manager_paths {
    char state[MANAGER_PATHS_MAX], runtime[MANAGER_PATHS_MAX], socket[MANAGER_PATHS_MAX + 16];
};

int manager_paths_find(struct manager_paths *ret, struct err *err);
/* Makes both directories, for their owner alone. */
int manager_paths_make(const struct manager_paths *paths, struct err *err);
/* Whether a manager answers at that socket, within limit_ms for each step. That it takes a
 * connection tells nothing: a manager that was killed may have left a child between fork and exec,
 * which holds the listening socket, and the manager's lock, for another moment. */
bool manager_answers(const char *socket_path, unsigned limit_ms);

#endif
