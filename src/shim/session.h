/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `lodge-shim --session SOCKET FILE`: one further program in a virtual machine, in the form that
 * the shim knows from a container's: a process with three streams whose exit status is the
 * program's. SOCKET is the machine's vsock socket; FILE is {"args", "env", "cwd", "user",
 * "terminal", "stdin", "builtin", "rows", "cols"}. A guest that speaks nonsense, or not at all,
 * ends this process and nothing else.
 *
 * Signals: SIGRTMAX with the value N is signal N for the program; SIGWINCH passes the size of the
 * terminal at standard output on.
 */
#ifndef LODGE_SHIM_SESSION_H
#define LODGE_SHIM_SESSION_H

/* What the process exits with: the program's status, or 125 to 127 after saying why. */
int session_main(const char *socket_path, const char *file);

#endif
