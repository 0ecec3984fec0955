/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge-tls: beside a `lodge` whose manager is on another host. Connects to it, and passes bytes
 * between there and its standard input, which is a socket; so the libraries of TLS are loaded by
 * who needs them alone. What goes wrong it writes to its standard output, without a line end: lodge
 * says it.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "tls/listener.h"
#include "tls/tls.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_MS   15000
#define HANDSHAKE_MS 15000

static int connect_one(const struct addrinfo *to)
{
    CLEANUP(fd_closep)
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int trouble = 0, on = 1;
    socklen_t length = sizeof(trouble);

    if (fd < 0)
        return -errno;
    if (connect(fd, to->ai_addr, to->ai_addrlen) < 0) {
        if (errno != EINPROGRESS)
            return -errno;
        if (poll(&wait, 1, CONNECT_MS) <= 0)
            return -ETIMEDOUT;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &trouble, &length) < 0 || trouble)
            return trouble ? -trouble : -errno;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    return TAKE_FD(fd);
}

/* The first of the host's addresses that answers. */
static int connect_tcp(const char *host, const char *port, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    int fd = -EADDRNOTAVAIL, result = getaddrinfo(host, port, &hints, &found);

    if (result != 0)
        return err_set(err, -EADDRNOTAVAIL, "%s", gai_strerror(result));
    for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next)
        fd = connect_one(at);
    freeaddrinfo(found);
    return fd < 0 ? err_set(err, fd, "%s", strerror(-fd)) : fd;
}

static int run(const char *where, const struct tls_files *files, struct err *err)
{
    struct tls_identity *identity = NULL;
    struct tls_session *session = NULL;
    CLEANUP(fd_closep) int fd = -1;
    char host[256], port[16];
    int result;

    if ((result = tls_split(where, host, port, err)) < 0 ||
        (result = tls_identity_load(files, TLS_CLIENT, &identity, err)) < 0)
        return result;
    if ((result = fd = connect_tcp(host, port, err)) >= 0 &&
        (result = tls_session_open(identity, fd, host, HANDSHAKE_MS, &session, err)) == 0)
        result = tls_session_pump(session, STDIN_FILENO, err);
    tls_session_free(session);
    tls_identity_free(identity);
    return result;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct tls_files files;

    log_init("lodge-tls", LOG_LEVEL_INFO);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* the terminal's is for lodge */
    if (argc != 5) {
        fputs("lodge-tls reaches a manager on another host for lodge. See lodge(1), --host.\n",
              stderr);
        return 2;
    }
    files = (struct tls_files){.ca = argv[2], .certificate = argv[3], .key = argv[4]};
    if (run(argv[1], &files, &err) < 0) {
        (void)!write(STDOUT_FILENO, err.message, strlen(err.message));
        return 1;
    }
    return 0;
}
