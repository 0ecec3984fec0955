/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session: the handshake by a deadline, then bytes both ways, with one buffer a direction: what
 * one side does not take the other is not asked for. The end of one direction (close_notify,
 * shutdown) is passed on and leaves the other open.
 */
#include "tls/internal.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORD 16384

struct tls_session {
    gnutls_session_t tls;
    int fd;
    /* What the other's certificate is held to; GnuTLS keeps a pointer to it. */
    gnutls_typed_vdata_st expected[2];
    unsigned nr_expected;
    char *name;
};

/* One direction. */
struct flow {
    char data[RECORD];
    size_t at, length;
    bool source_ended, done; /* done: its end was passed on, too */
};

struct pump {
    struct tls_session *session;
    int plain;
    struct flow in, out; /* in: from the network */
};

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* Why the other's certificate was not believed. */
static int reject(const struct tls_session *session, struct err *err)
{
    unsigned status = gnutls_session_get_verify_cert_status(session->tls);
    gnutls_datum_t text;
    int result;

    if (status == 0 ||
        gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) < 0)
        return err_set(err, -EKEYREJECTED, "the other's certificate is not valid");
    result = err_set(err, -EKEYREJECTED, "%s", (const char *)text.data);
    gnutls_free(text.data);
    return result;
}

/* Puts a failure of the library's into words; -ECONNRESET when the other just went away. */
static int fail(const struct tls_session *session, int code, struct err *err)
{
    const char *alert;

    switch (code) {
    case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
        return reject(session, err);
    case GNUTLS_E_NO_CERTIFICATE_FOUND:
    case GNUTLS_E_CERTIFICATE_REQUIRED:
        return err_set(err, -EKEYREJECTED, "the other showed no certificate");
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
        alert = gnutls_alert_get_name(gnutls_alert_get(session->tls));
        return err_set(err, -EKEYREJECTED, "the other end refused us: %s", alert ?: "no reason");
    case GNUTLS_E_PREMATURE_TERMINATION:
    case GNUTLS_E_PUSH_ERROR:
    case GNUTLS_E_PULL_ERROR:
        return err_set(err, -ECONNRESET, "the connection was cut off");
    default:
        return err_set(err, -EPROTO, "TLS: %s", gnutls_strerror(code));
    }
}

static int wait_for(int fd, short events, uint64_t deadline_ns)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    uint64_t now_ns = clock_monotonic_ns();

    if (now_ns >= deadline_ns)
        return -ETIMEDOUT;
    poll(&poll_fd, 1, (int)((deadline_ns - now_ns) / NS_PER_MS) + 1);
    return 0;
}

static int handshake(struct tls_session *session, unsigned limit_ms, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + limit_ms * NS_PER_MS;

    for (;;) {
        int code = gnutls_handshake(session->tls);

        if (code == 0)
            return 0;
        if (gnutls_error_is_fatal(code)) {
            gnutls_alert_send_appropriate(session->tls, code);
            return fail(session, code, err);
        }
        if (wait_for(session->fd, gnutls_record_get_direction(session->tls) ? POLLOUT : POLLIN,
                     deadline_ns) < 0)
            return err_set(err, -ETIMEDOUT, "no TLS handshake within %u ms", limit_ms);
    }
}

static void expect(struct tls_session *session, gnutls_vdata_types_t type, const char *text)
{
    session->expected[session->nr_expected++] = (gnutls_typed_vdata_st){
        .type = type, .data = (unsigned char *)(uintptr_t)text, .size = (unsigned)strlen(text)};
}

static int set_up(struct tls_session *session, struct tls_identity *identity, const char *name)
{
    bool server = identity->role == TLS_SERVER;

    if (gnutls_init(&session->tls, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK |
                                       GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS) < 0)
        return -ENOMEM;
    if (name && !(session->name = strdup(name)))
        return -ENOMEM;
    if (gnutls_priority_set(session->tls, identity->priority) < 0 ||
        gnutls_credentials_set(session->tls, GNUTLS_CRD_CERTIFICATE, identity->credentials) < 0)
        return -EINVAL;
    if (name) {
        expect(session, GNUTLS_DT_DNS_HOSTNAME, session->name);
        /* An address is none of a server's names (RFC 6066, 3). */
        if (!strchr(name, ':') && name[strspn(name, "0123456789.")])
            gnutls_server_name_set(session->tls, GNUTLS_NAME_DNS, name, strlen(name));
    }
    expect(session, GNUTLS_DT_KEY_PURPOSE_OID,
           server ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER);
    gnutls_session_set_verify_cert2(session->tls, session->expected, session->nr_expected, 0);
    if (server)
        gnutls_certificate_server_set_request(session->tls, GNUTLS_CERT_REQUIRE);
    gnutls_transport_set_int(session->tls, session->fd);
    return 0;
}

int tls_session_open(struct tls_identity *identity, int fd, const char *name, unsigned limit_ms,
                     struct tls_session **ret, struct err *err)
{
    struct tls_session *session = calloc(1, sizeof(*session));
    int result;

    if (!session)
        return err_set(err, -ENOMEM, "out of memory");
    session->fd = fd;
    if ((result = set_nonblocking(fd)) < 0 || (result = set_up(session, identity, name)) < 0)
        err_errno(err, result, "set up TLS");
    else
        result = handshake(session, limit_ms, err);
    if (result < 0) {
        tls_session_free(session);
        return result;
    }
    *ret = session;
    return 0;
}

void tls_session_free(struct tls_session *session)
{
    if (!session)
        return;
    if (session->tls)
        gnutls_deinit(session->tls);
    free(session->name);
    free(session);
}

void tls_session_peer(const struct tls_session *session, char *ret, unsigned size)
{
    unsigned nr = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session->tls, &nr);
    gnutls_x509_crt_t certificate;
    size_t length = size;

    *ret = '\0';
    if (!chain || !nr || gnutls_x509_crt_init(&certificate) < 0)
        return;
    if (gnutls_x509_crt_import(certificate, chain, GNUTLS_X509_FMT_DER) < 0 ||
        gnutls_x509_crt_get_dn(certificate, ret, &length) < 0)
        *ret = '\0';
    gnutls_x509_crt_deinit(certificate);
}

/* Each of these four: 1 something was done, 0 not now, or a negative errno. */
static int fill_in(struct pump *pump, struct err *err)
{
    struct flow *in = &pump->in;
    ssize_t n;

    if (in->source_ended || in->length)
        return 0;
    n = gnutls_record_recv(pump->session->tls, in->data, sizeof(in->data));
    if (n > 0) {
        in->at = 0;
        in->length = (size_t)n;
    } else if (n == 0) {
        in->source_ended = true;
    } else if (gnutls_error_is_fatal((int)n)) {
        return fail(pump->session, (int)n, err);
    }
    return n >= 0;
}

static int drain_in(struct pump *pump, struct err *err)
{
    struct flow *in = &pump->in;
    ssize_t n;

    if (!in->length) {
        if (!in->source_ended || in->done)
            return 0;
        shutdown(pump->plain, SHUT_WR);
        return in->done = true;
    }
    n = send(pump->plain, in->data + in->at, in->length, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR
                   ? 0
                   : err_set(err, -ECONNRESET, "nobody takes what comes");
    in->at += (size_t)n;
    in->length -= (size_t)n;
    return 1;
}

static int fill_out(struct pump *pump, struct err *err)
{
    struct flow *out = &pump->out;
    ssize_t n;

    if (out->source_ended || out->length)
        return 0;
    n = recv(pump->plain, out->data, sizeof(out->data), 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR
                   ? 0
                   : err_set(err, -ECONNRESET, "the connection was cut off");
    out->at = 0;
    out->length = (size_t)n;
    out->source_ended = n == 0;
    return 1;
}

static int drain_out(struct pump *pump, struct err *err)
{
    struct flow *out = &pump->out;
    ssize_t n;

    if (out->done || (!out->length && !out->source_ended))
        return 0;
    n = out->length ? gnutls_record_send(pump->session->tls, out->data + out->at, out->length)
                    : gnutls_bye(pump->session->tls, GNUTLS_SHUT_WR);
    if (n < 0)
        return gnutls_error_is_fatal((int)n) ? fail(pump->session, (int)n, err) : 0;
    if (!out->length)
        out->done = true;
    out->at += (size_t)n;
    out->length -= (size_t)n;
    return 1;
}

/* Until something can be done; false when nothing will be: what came is passed on, and nobody is
 * left to take what may come. Bytes that the library has already are never waited for: whoever
 * calls has read until there were none. */
static bool wait_for_either(const struct pump *pump)
{
    struct pollfd fds[2] = {{.fd = pump->session->fd}, {.fd = pump->plain}};

    if (!pump->in.source_ended && !pump->in.length)
        fds[0].events |= POLLIN;
    if (pump->out.length || (pump->out.source_ended && !pump->out.done))
        fds[0].events |= POLLOUT;
    if (pump->in.length)
        fds[1].events |= POLLOUT;
    if (!pump->out.source_ended && !pump->out.length)
        fds[1].events |= POLLIN;
    if (!fds[1].events && !pump->out.done)
        fds[1].fd = -1; /* whose end, seen already, would not let us wait */
    poll(fds, 2, -1);
    return !(pump->out.done && (fds[1].revents & POLLHUP));
}

int tls_session_pump(struct tls_session *session, int plain_fd, struct err *err)
{
    static int (*const steps[])(struct pump *, struct err *) = {fill_in, drain_in, fill_out,
                                                                drain_out};
    CLEANUP(freep) struct pump *pump = calloc(1, sizeof(*pump));
    int result;

    if (!pump)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = set_nonblocking(plain_fd)) < 0)
        return err_errno(err, result, "pass bytes on");
    pump->session = session;
    pump->plain = plain_fd;
    while (!pump->in.done || !pump->out.done) {
        bool moved = false;

        for (size_t i = 0; i < 4; i++) {
            if ((result = steps[i](pump, err)) < 0)
                return result;
            moved = moved || result > 0;
        }
        if (!moved && !wait_for_either(pump))
            break;
    }
    return 0;
}
