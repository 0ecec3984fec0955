/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's own programs, for which the image needs to have nothing: include/agent_protocol.h
 * lists them. Each runs in a child of its own, as root, with the standard streams of a session.
 */
#ifndef LODGE_GUEST_BUILTIN_H
#define LODGE_GUEST_BUILTIN_H

/* What the process exits with; its words about a failure are on standard error. 127: no such one.
 */
int builtin_main(char *const *argv);

#endif
