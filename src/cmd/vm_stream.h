/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One standard stream of a VM's command, on a thread of its own: a stream that blocks (a full pipe,
 * a slow reader) blocks nothing but itself, and our standard streams, which we may share with other
 * processes, need not be made non-blocking.
 */
#ifndef LODGE_CMD_VM_STREAM_H
#define LODGE_CMD_VM_STREAM_H

#include "agent_protocol.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct vm_stream {
    enum agent_role role;
    int conn;      /* owned; blocking */
    int notify_fd; /* an eventfd, written when done */
    bool started;  /* the thread was */
    atomic_bool done;
    atomic_bool broken;     /* ended without END */
    atomic_int write_error; /* errno of our own standard output or error, 0 */
    pthread_t thread;
};

/* Takes conn, in failure too. stdin: from our standard input; stdout, stderr: to ours. */
int vm_stream_start(struct vm_stream *stream, enum agent_role role, int conn, int notify_fd,
                    struct err *err);
/* Ends the thread and frees what it used. False: it is stuck in a write to a reader of ours who
 * does not read; it then goes on using `stream`, and ends with the process. */
bool vm_stream_stop(struct vm_stream *stream);

#endif
