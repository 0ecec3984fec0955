/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standard streams of one program in the guest, and the clients that are attached to them.
 *
 *      guest's outputs ──▶ log file, every client          a client's STDIN ──▶ guest's input
 *
 * A client that does not read holds the guest up (its outputs are not read any more) as a full pipe
 * would: nothing is dropped, nothing grows. Invariants: 1. a client's unsent bytes are at most
 * CLIENT_BEHIND plus one read.  2. input that the guest does not take is held at most
 * INPUT_HELD; then no client is read from.  Everything on the loop's one thread.
 */
#ifndef LODGE_SHIM_GUEST_IO_H
#define LODGE_SHIM_GUEST_IO_H

#include "base/buf.h"
#include "base/loop.h"
#include "shim/log_file.h"

#include <stdbool.h>
#include <sys/types.h>

#define GUEST_IO_CLIENTS_MAX 16

struct guest_io;

struct guest_client {
    struct guest_io *io; /* NULL: free */
    int fd;
    struct loop_fd *watch;
    struct buf in, out;
    bool reading, finished; /* finished: EXIT is in out; ends when it is sent */
};

struct guest_io {
    struct loop *loop;
    struct log_file *log; /* NULL: none */
    bool tty;
    int input;     /* write end, or a terminal's master; -1: none or closed */
    int output[2]; /* read ends; -1: none or ended. With a terminal [0] is its master */
    struct loop_fd *input_watch, *output_watch[2];
    struct buf held; /* input that the guest has not taken yet */
    bool input_ended;
    struct guest_client clients[GUEST_IO_CLIENTS_MAX];
    uint16_t rows, cols;           /* a size that came before the terminal; 0: none */
    void (*on_end)(void *context); /* both outputs have ended */
    void (*on_signal)(int number, void *context);
    void (*on_lost)(void *context); /* the last client went away of itself */
    void *context;
};

void guest_io_init(struct guest_io *io, struct loop *loop, struct log_file *log);
/* Takes the descriptors (-1: none): pipes, made non-blocking. */
int guest_io_open(struct guest_io *io, int input, int output, int error, struct err *err);
/* Takes a terminal's master. */
int guest_io_open_terminal(struct guest_io *io, int master, struct err *err);
/* Takes fd. -EMFILE: too many. */
int guest_io_attach(struct guest_io *io, int fd, struct err *err);
void guest_io_resize(struct guest_io *io, uint16_t rows, uint16_t cols);
bool guest_io_ended(const struct guest_io *io);
/* Tells every client how it ended; error may be NULL. */
void guest_io_finish(struct guest_io *io, int exit_code, const char *error);
/* No client has anything left to be sent. */
bool guest_io_flushed(const struct guest_io *io);
void guest_io_done(struct guest_io *io);

#endif
