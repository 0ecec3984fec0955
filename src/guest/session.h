/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One further program of the host's, on one connection: RUN in, its streams both ways, EXITED out
 * (include/agent_protocol.h, "Sessions"). Served in a process of its own, so that any number go on
 * beside the agent, and what goes wrong in one is its own affair.
 */
#ifndef LODGE_GUEST_SESSION_H
#define LODGE_GUEST_SESSION_H

/*
 * Serves a non-blocking connection until the program has ended and all is said, or the host hangs
 * up: the program then gets SIGHUP. SIGCHLD must be blocked. Takes conn. Returns what the process
 * may exit with.
 */
int session_serve(int conn);

#endif
