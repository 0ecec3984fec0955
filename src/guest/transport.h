/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the agent reaches its host. SPEC is
 *   vsock:PORT    the host (CID 2) over virtio-vsock; what `lodge run` uses
 *   serial        virtio serial ports lodge.0 to lodge.3, one for each role: monitors without vsock
 *   unix:PATH     a socket of the same kernel: the agent beside its client, for tests
 */
#ifndef LODGE_GUEST_TRANSPORT_H
#define LODGE_GUEST_TRANSPORT_H

#include "agent_protocol.h"

/* A new non-blocking connection for this role. */
int transport_connect(const char *spec, enum agent_role role, int *ret_fd, struct err *err);
/* A non-blocking listener where the host connects for sessions: port AGENT_SESSION_PORT, or
 * PATH.sessions. -EOPNOTSUPP: serial ports have none. */
int transport_listen(const char *spec, int *ret_fd, struct err *err);

#endif
