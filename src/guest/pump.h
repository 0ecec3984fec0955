/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One standard stream of a command, between its pipe (or terminal) and its data connection. Every
 * descriptor is non-blocking; the agent's loop polls what pump_poll asks for and calls pump_work.
 * Each pump has one buffer and stalls alone: it reads only when it has nothing left to write.
 *
 *      output:  file ──read──▶ buffer (one DATA frame) ──write──▶ connection;  end of file: END
 *      input:   connection ──read──▶ buffer (frames) ──write──▶ file;  END: file closed
 *
 * A pump owns both descriptors. Single-threaded.
 */
#ifndef LODGE_GUEST_PUMP_H
#define LODGE_GUEST_PUMP_H

#include "agent_protocol.h"

#include <poll.h>
#include <stdbool.h>

#define PUMP_POLL_MAX 2

struct pump {
    bool input;      /* from the host to the command */
    bool tty;        /* the file is a terminal's master side */
    bool active;     /* until the stream has ended both ways */
    bool ending;     /* output: the last frame in the buffer is END */
    int file, conn;  /* -1: closed */
    uint8_t *buffer; /* AGENT_HEADER_SIZE + AGENT_DATA_SIZE bytes */
    size_t at, end;  /* what is to be written: [at, end) */
    uint32_t left;   /* input: bytes of the current DATA frame not yet written */
};

/* Takes both descriptors, in failure too. */
int pump_init(struct pump *pump, bool input, bool tty, int file, int conn);
void pump_done(struct pump *pump);
/* Fills up to PUMP_POLL_MAX entries and returns their number. */
unsigned pump_poll(const struct pump *pump, struct pollfd *ret);
/* Goes on as far as it can without blocking. */
void pump_work(struct pump *pump);
/* The command is gone: what it was to read is nobody's any more. */
void pump_abandon(struct pump *pump);

#endif
