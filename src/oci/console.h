/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pseudo-terminals: made inside the container from its own devpts, handed to the runtime, and
 * either proxied to the runtime's own terminal (run in the foreground) or sent on to whoever
 * manages the container (--console-socket).
 */
#ifndef LODGE_OCI_CONSOLE_H
#define LODGE_OCI_CONSOLE_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>
#include <termios.h>

/* A pair from the container's /dev/pts; both fds are close-on-exec. width 0: size left alone. */
int console_make(int root_fd, unsigned width, unsigned height, int *ret_master, int *ret_slave,
                 struct err *err);
/* The calling session leader's terminal and standard streams become `slave`. */
int console_take(int slave, struct err *err);
/* Sends the master over the unix socket at path, with its name, as runc's console-socket protocol
 * has it. */
int console_send(const char *socket_path, int master, struct err *err);

/* The runtime's own terminal in raw mode; restore puts it back. Harmless when fd 0 is no terminal.
 */
struct console_raw {
    bool active;
    struct termios saved;
};
void console_raw_enter(struct console_raw *raw);
void console_raw_restore(struct console_raw *raw);
/* Copies the size of fd 0's terminal to master. */
void console_copy_size(int master);

#endif
