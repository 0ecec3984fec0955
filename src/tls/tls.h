/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 in which both ends show a certificate (RFC 8446, 4.4.2.4), by GnuTLS: what carries the
 * manager's API between hosts.
 *
 * Each end knows one authority: its own file, never the system's. A session is open only when the
 * other's certificate is of that authority, in its time, and for its role (the extended key usage,
 * where the certificate has one); a client's also when it is for the name that was dialled. So not
 * one byte is taken from, or sent to, anybody else.
 *
 * The other side of a session is a plain descriptor: bytes are passed both ways (tls_session_pump),
 * so neither the HTTP server nor its client knows of this. Nothing here logs but the listener.
 *
 * Threads: an identity may be used by many at once; a session by one.
 */
#ifndef LODGE_TLS_TLS_H
#define LODGE_TLS_TLS_H

#include "base/err.h"

#include <stdbool.h>

struct tls_identity;
struct tls_session;

enum tls_role { TLS_SERVER, TLS_CLIENT };

/* PEM files: the authority that the other end's certificate must be of, our certificate (with the
 * chain below the authority), our key. */
struct tls_files {
    const char *ca, *certificate, *key;
};

/* -ENOENT and the like for a file; -EINVAL: not what it should be; -EPERM: everybody may read the
 * key. */
int tls_identity_load(const struct tls_files *files, enum tls_role role, struct tls_identity **ret,
                      struct err *err);
void tls_identity_free(struct tls_identity *identity);
/* Whether our certificate is for this host name or address. */
bool tls_identity_names(const struct tls_identity *identity, const char *host);

/*
 * The handshake on fd, which stays the caller's and is made non-blocking, within limit_ms in all.
 * name: what a client dialled, else NULL. -EKEYREJECTED: the other end's certificate, or ours for
 * the other end; -ETIMEDOUT; -EPROTO: no TLS there, -ECONNRESET.
 */
int tls_session_open(struct tls_identity *identity, int fd, const char *name, unsigned limit_ms,
                     struct tls_session **ret, struct err *err);
/* Passes bytes between the session and plain_fd (made non-blocking) until both directions are at
 * their end or the session fails: 0, or what tls_session_open has. */
int tls_session_pump(struct tls_session *session, int plain_fd, struct err *err);
/* Who the other end is, as its certificate says it; "" when that cannot be told. */
void tls_session_peer(const struct tls_session *session, char *ret, unsigned size);
void tls_session_free(struct tls_session *session);

#endif
