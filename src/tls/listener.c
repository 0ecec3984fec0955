/* SPDX-License-Identifier: Apache-2.0 */
/* Accepting, handing each connection to a thread, and the bounds. */
#include "tls/listener.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HANDSHAKE_MS   10000
#define LINGER_MS      500
#define HANDSHAKES_MAX 64
#define CLIENTS_MAX    256
#define STACK_SIZE     (256u << 10)
#define BACKLOG        128

struct caller {
    struct tls_listener *listener;
    int fd;
    bool trusted; /* (lock) its handshake is over */
    char from[64];
    struct caller *next; /* (lock) oldest first */
};

struct tls_listener {
    struct tls_identity *identity;
    char socket_path[108];
    int fd, stop_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t gone;
    struct caller *first;           /* (lock) */
    unsigned nr_strangers, nr_ours; /* (lock) */
    bool stopping;                  /* (lock) */
    struct log_limit refusals;
};

int tls_split(const char *where, char host[256], char port[16], struct err *err)
{
    const char *colon = strrchr(where, ':');
    const char *end = colon;
    size_t length;

    if (!colon || !colon[1] || strlen(colon + 1) >= 16 ||
        colon[1 + strspn(colon + 1, "0123456789")])
        return err_set(err, -EINVAL, "'%.100s' is not ADDRESS:PORT", where);
    if (*where == '[' && colon > where + 1 && colon[-1] == ']') {
        where++;
        end--;
    } else if (memchr(where, ':', (size_t)(colon - where))) {
        return err_set(err, -EINVAL, "'%.100s': an IPv6 address belongs into brackets", where);
    }
    length = (size_t)(end - where);
    if (length == 0 || length >= 256)
        return err_set(err, -EINVAL, "'%.100s' is not ADDRESS:PORT", where);
    memcpy(host, where, length);
    host[length] = '\0';
    snprintf(port, 16, "%s", colon + 1);
    return 0;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* It is one of ours now; false: there are too many. */
static bool admit(struct caller *caller)
{
    struct tls_listener *listener = caller->listener;
    bool good;

    pthread_mutex_lock(&listener->lock);
    good = listener->nr_ours < CLIENTS_MAX && !listener->stopping;
    if (good) {
        caller->trusted = true;
        listener->nr_strangers--;
        listener->nr_ours++;
    }
    pthread_mutex_unlock(&listener->lock);
    return good;
}

/* A connection that is closed with bytes unread is reset, and the alert that says why is lost: so
 * what comes is read for a moment longer. */
static void linger(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    char rest[1024];

    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 64 && poll(&wait, 1, LINGER_MS) > 0; i++)
        if (recv(fd, rest, sizeof(rest), MSG_DONTWAIT) <= 0)
            break;
}

static void serve(struct caller *caller)
{
    struct tls_listener *listener = caller->listener;
    struct tls_session *session = NULL;
    struct err err = ERR_INIT;
    char peer[128];
    int plain;

    if (tls_session_open(listener->identity, caller->fd, NULL, HANDSHAKE_MS, &session, &err) < 0) {
        if (log_limit_allow(&listener->refusals))
            log_warning("client at %s refused: %s", caller->from, err.message);
        linger(caller->fd);
        return;
    }
    tls_session_peer(session, peer, sizeof(peer));
    plain = admit(caller) ? connect_unix(listener->socket_path) : -EBUSY;
    if (plain >= 0) {
        log_debug("client %s at %s", peer, caller->from);
        tls_session_pump(session, plain, &err);
        close(plain);
    } else {
        log_warning("client %s at %s cannot be served: %s", peer, caller->from, strerror(-plain));
    }
    tls_session_free(session);
}

static void *caller_main(void *context)
{
    struct caller *caller = context;
    struct tls_listener *listener = caller->listener;

    serve(caller);
    pthread_mutex_lock(&listener->lock);
    for (struct caller **at = &listener->first; *at; at = &(*at)->next)
        if (*at == caller) {
            *at = caller->next;
            break;
        }
    if (caller->trusted)
        listener->nr_ours--;
    else
        listener->nr_strangers--;
    close(caller->fd);
    if (!listener->first)
        pthread_cond_broadcast(&listener->gone);
    pthread_mutex_unlock(&listener->lock);
    free(caller);
    return NULL;
}

/* lock: the oldest of those that have shown nothing yet makes room. */
static void drop_stranger(struct tls_listener *listener)
{
    for (struct caller *at = listener->first; at; at = at->next)
        if (!at->trusted) {
            shutdown(at->fd, SHUT_RDWR);
            return;
        }
}

static void take(struct tls_listener *listener, int fd, const struct sockaddr *address,
                 socklen_t length)
{
    struct caller *caller = calloc(1, sizeof(*caller)), **last;
    pthread_attr_t attributes;
    pthread_t thread;
    char host[48] = "?", port[8] = "?";
    int on = 1, result = -ENOMEM;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    getnameinfo(address, length, host, sizeof(host), port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    pthread_mutex_lock(&listener->lock);
    if (caller) {
        *caller = (struct caller){.listener = listener, .fd = fd};
        snprintf(caller->from, sizeof(caller->from), "%s port %s", host, port);
        if (listener->nr_strangers >= HANDSHAKES_MAX)
            drop_stranger(listener);
        for (last = &listener->first; *last; last = &(*last)->next)
            ;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STACK_SIZE);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        /* Twice as many may be on their way out; beyond that the newest is turned away. */
        result = listener->nr_strangers >= 2 * HANDSHAKES_MAX
                     ? -EBUSY
                     : -pthread_create(&thread, &attributes, caller_main, caller);
        pthread_attr_destroy(&attributes);
        if (result == 0) {
            *last = caller;
            listener->nr_strangers++;
        }
    }
    pthread_mutex_unlock(&listener->lock);
    if (result < 0) {
        close(fd);
        free(caller);
    }
}

static void *listener_main(void *context)
{
    struct tls_listener *listener = context;
    struct pollfd fds[2] = {{.fd = listener->fd, .events = POLLIN},
                            {.fd = listener->stop_fd, .events = POLLIN}};

    while (!(fds[1].revents & POLLIN)) {
        struct sockaddr_storage address;
        socklen_t length = sizeof(address);
        int fd;

        poll(fds, 2, -1);
        if (!(fds[0].revents & POLLIN))
            continue;
        fd = accept4(listener->fd, (struct sockaddr *)&address, &length, SOCK_CLOEXEC);
        if (fd >= 0)
            take(listener, fd, (const struct sockaddr *)&address, length);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            usleep(100000);
    }
    return NULL;
}

static int listen_tcp(const char *where, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found;
    char host[256], port[16];
    int fd, on = 1, result = tls_split(where, host, port, err);

    if (result < 0)
        return result;
    if ((result = getaddrinfo(host, port, &hints, &found)) != 0)
        return err_set(err, -EADDRNOTAVAIL, "listen at '%s': %s", where, gai_strerror(result));
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    result = 0;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        result = err_errno(err, -errno, "listen at '%s'", where);
    freeaddrinfo(found);
    if (result < 0) {
        fd_closep(&fd);
        return result;
    }
    return fd;
}

int tls_listener_open(const char *where, struct tls_identity *identity, const char *socket_path,
                      struct tls_listener **ret, struct err *err)
{
    struct tls_listener *listener = calloc(1, sizeof(*listener));
    int result;

    if (!listener)
        return err_set(err, -ENOMEM, "out of memory");
    listener->identity = identity;
    listener->refusals.burst = 5;
    snprintf(listener->socket_path, sizeof(listener->socket_path), "%s", socket_path);
    pthread_mutex_init(&listener->lock, NULL);
    pthread_cond_init(&listener->gone, NULL);
    listener->stop_fd = -1;
    if ((result = listener->fd = listen_tcp(where, err)) >= 0) {
        listener->stop_fd = eventfd(0, EFD_CLOEXEC);
        result = listener->stop_fd < 0
                     ? -errno
                     : -pthread_create(&listener->thread, NULL, listener_main, listener);
        if (result < 0)
            err_errno(err, result, "listen at '%s'", where);
    }
    if (result < 0) {
        fd_closep(&listener->fd);
        fd_closep(&listener->stop_fd);
        free(listener);
        return result;
    }
    *ret = listener;
    return 0;
}

unsigned tls_listener_port(const struct tls_listener *listener)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);

    if (getsockname(listener->fd, (struct sockaddr *)&address, &length) < 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((const struct sockaddr_in *)&address)->sin_port);
}

void tls_listener_close(struct tls_listener *listener)
{
    uint64_t one = 1;

    if (!listener)
        return;
    (void)!write(listener->stop_fd, &one, sizeof(one));
    pthread_join(listener->thread, NULL);
    pthread_mutex_lock(&listener->lock);
    listener->stopping = true;
    for (struct caller *at = listener->first; at; at = at->next)
        shutdown(at->fd, SHUT_RDWR);
    while (listener->first)
        pthread_cond_wait(&listener->gone, &listener->lock);
    pthread_mutex_unlock(&listener->lock);
    close(listener->fd);
    close(listener->stop_fd);
    pthread_mutex_destroy(&listener->lock);
    pthread_cond_destroy(&listener->gone);
    free(listener);
}
