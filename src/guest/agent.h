/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's side of the protocol: one control connection, one command at a time, until the host
 * says POWEROFF or goes away. The caller then turns the machine off.
 */
#ifndef LODGE_GUEST_AGENT_H
#define LODGE_GUEST_AGENT_H

#include "base/err.h"

#include <stdbool.h>

/*
 * Connects to `spec` (transport.h) and serves it. As `init` (PID 1) it ends every other process
 * when the command has ended, and gives the machine the identity that comes with the command.
 * SIGCHLD must be blocked by the caller. 0: the host is done; negative: the connection or the
 * protocol failed.
 */
int agent_serve(const char *spec, bool init, struct err *err);
/* Tells the host why there will be no agent. Best effort. */
void agent_report_failure(const char *spec, const struct err *failure);

#endif
