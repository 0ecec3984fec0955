/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP port where clients with a certificate of our authority get through to a unix socket, and
 * nobody else gets further than the handshake.
 *
 * Strangers are bounded: a handshake has 10 s in all, of those under way at most 64 (the oldest
 * goes when another comes, so that a flood of silent connections keeps nobody out), of clients at
 * most 256. A thread a connection; those of a listener end with it.
 */
#ifndef LODGE_TLS_LISTENER_H
#define LODGE_TLS_LISTENER_H

#include "tls/tls.h"

struct tls_listener;

/* where: "ADDRESS:PORT", "[ADDRESS]:PORT", "NAME:PORT". socket_path: where the bytes go. The
 * identity must outlive it. */
int tls_listener_open(const char *where, struct tls_identity *identity, const char *socket_path,
                      struct tls_listener **ret, struct err *err);
/* The port, which the system chose when 0 was asked for. */
unsigned tls_listener_port(const struct tls_listener *listener);
void tls_listener_close(struct tls_listener *listener);

/* Takes "HOST:PORT" and "[HOST]:PORT" apart; a part that does not fit, or is missing, is -EINVAL.
 */
int tls_split(const char *where, char host[256], char port[16], struct err *err);

#endif
