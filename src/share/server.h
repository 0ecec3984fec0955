/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A share in a process of its own, and how the VM's monitor speaks to it.
 *
 *   share_server_start   in the monitor while it has one thread and all its rights: forks
 *   share_server_map     the guest's memory is there: the server maps it too
 *   share_server_send    a request of the guest's, by addresses; up to SHARE_INFLIGHT_MAX at once
 *   share_server_receive its answers, in any order (readable: poll fd)
 *   share_server_free    closes the socket, upon which the process ends
 *
 * The process has no other descriptors than the socket, guest memory and the shared directories; a
 * mount namespace without any path of the host; no network; of capabilities those over files'
 * owners and modes; a system call filter. It dies with the monitor.
 *
 * The socket carries one message a request (SOCK_SEQPACKET). Guest-physical addresses are checked
 * again by the server: neither side trusts the other's.
 */
#ifndef LODGE_SHARE_SERVER_H
#define LODGE_SHARE_SERVER_H

#include "base/cleanup.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARE_INFLIGHT_MAX 64
#define SHARE_SEGMENTS_MAX 256
#define SHARE_REGIONS_MAX  32
#define SHARE_PATHS_MAX    64

struct share_path_config {
    const char *name; /* "": the one path is the root */
    const char *path;
    bool read_only;
};

struct share_segment {
    uint64_t gpa;
    uint32_t length;
    uint32_t zero;
};

/* A message to the server: the head, then its segments, those of the request first. */
struct share_message {
    uint32_t slot;
    uint16_t nr_out, nr_in;
    struct share_segment segments[SHARE_SEGMENTS_MAX];
};

struct share_answer {
    uint32_t slot;
    uint32_t length;  /* of the reply; 0: none */
    uint32_t touched; /* bytes of the writable part that may have been written */
};

struct share_server;

/* confined: a private world as said above, as far as the kernel lets us. */
int share_server_start(const struct share_path_config *paths, unsigned nr_paths, bool confined,
                       struct share_server **ret, struct err *err);
/* One slot of guest memory; all of them before the first request. fd stays the caller's. */
int share_server_map(struct share_server *server, uint64_t gpa, uint64_t size, int fd,
                     uint64_t fd_offset, struct err *err);
/* 0; -EAGAIN: the socket is full, wait until it is writable; -EPIPE: the server is gone. */
int share_server_send(struct share_server *server, const struct share_message *message);
/* 1; 0: nothing now; -EPIPE. */
int share_server_receive(struct share_server *server, struct share_answer *ret);
int share_server_fd(const struct share_server *server);
void share_server_free(struct share_server *server);
DEFINE_CLEANUP(share_server_freep, struct share_server *, share_server_free);

#endif
