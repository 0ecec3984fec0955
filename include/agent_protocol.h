/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol between the host and the agent inside a VM (lodge-init), version 1.
 *
 * Connections. The guest connects out to the host (CID 2) at AGENT_PORT: first one control
 * connection, then, for a command, one data connection per standard stream. A stream that is full
 * therefore holds up itself alone: the transport's own flow control is the only one, a signal never
 * waits behind a megabyte of input, and output never behind other output.
 *
 * Frames. Everything on a connection is frames: an 8-byte header (length u32, type u8, three zero
 * bytes), then `length` bytes. Numbers are little-endian; a string is a u32 count of bytes that
 * includes its one NUL, which is last.
 *
 *      control                                         data (one role each)
 *      guest -> host: HELLO INFO STARTED EXITED ERROR  either way: HELLO first, from the guest
 *      host -> guest: HELLO RUN RESIZE SIGNAL          sender: DATA*, END
 *                     POWEROFF QUERY                   receiver, at most once: STOP
 *
 *      guest: HELLO ──▶                    ◀── HELLO :host     (lower version rules, or ERROR)
 *             INFO ──▶                     ◀── RUN
 *             data connections, HELLO ──▶
 *             STARTED ──▶                  ◀── SIGNAL, RESIZE, QUERY at any time
 *             DATA*, END on each output ──▶
 *             EXITED (or ERROR) ──▶        ◀── POWEROFF
 *
 * Sessions. While the control connection is up the agent listens at AGENT_SESSION_PORT, where the
 * host connects, once for each further program; any number go on beside one another. Everything of
 * one program is on its one connection, which has no HELLO:
 *
 *      host -> guest: RUN first, then DATA* END (its input), SIGNAL and RESIZE at any time
 *      guest -> host: STARTED, then DATA* and DATA_ERR* (its outputs), EXITED at last;
 *                     ERROR in the place of any of them is the last word
 * A host that hangs up ends the program as a terminal that is hung up does (SIGHUP). With
 * AGENT_RUN_BUILTIN no program of the guest's is run: argv names one of the agent's own:
 *      top            lines "PID CPU_MS RESIDENT_BYTES COMMAND" of what is not the kernel's own
 *      figures        lines "NAME NUMBER": what the guest's kernel counts
 *      sync           everything written is on the disks when it ends
 *      copy-out PATH  the file or the tree at PATH as a tar archive at standard output
 *      copy-in PATH [keep]
 *                     the archive at standard input to PATH (copy/copy.h); keep: owners, too
 *      net-attach MAC ADDRESS4/BITS[,GATEWAY] [ADDRESS6/BITS[,GATEWAY]]
 *                     the interface that the host has just put in is driven, and has these; with
 *                     a GATEWAY it is the way out, and names are asked for there
 *      net-detach MAC the interface has no driver any more: the host may take it
 *      disk-attach SERIAL
 *                     the disk that the host has just put in is driven: its path, as /dev/vdc
 *      disk-detach SERIAL [force]
 *                     likewise; status 2: the guest uses it, so it stays, except by force
 *
 * END is the end of a stream; a connection that ends without it was broken. STOP says that the
 * receiver takes no more (its reader went away): the sender stops and treats it like a closed pipe.
 * Invariants of the parser: 1. no field is believed beyond the frame's length.  2. a frame is at
 * most AGENT_FRAME_MAX bytes.  3. trailing bytes in a message are an error.  4. decoding never
 * allocates more than the frame's own size times a small constant.
 */
#ifndef LODGE_AGENT_PROTOCOL_H
#define LODGE_AGENT_PROTOCOL_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define AGENT_PORT         1024u
#define AGENT_SESSION_PORT 1025u
#define AGENT_MAGIC        0x4c444741u /* "AGDL" */
#define AGENT_VERSION      1u
#define AGENT_HEADER_SIZE  8u
#define AGENT_FRAME_MAX    (1u << 20)   /* payload bytes of any frame */
#define AGENT_DATA_SIZE    (256u << 10) /* what a sender of DATA fills at most in practice */
#define AGENT_STRINGS_MAX  65536u       /* entries of argv or of the environment */

enum agent_frame_type {
    AGENT_HELLO = 1,
    AGENT_INFO = 2,
    AGENT_RUN = 3,
    AGENT_STARTED = 4,
    AGENT_EXITED = 5,
    AGENT_ERROR = 6,
    AGENT_RESIZE = 7,
    AGENT_SIGNAL = 8,
    AGENT_POWEROFF = 9,
    AGENT_QUERY = 10,
    AGENT_DATA = 16,
    AGENT_END = 17,
    AGENT_STOP = 18,
    AGENT_DATA_ERR = 19,
};

enum agent_role {
    AGENT_ROLE_CONTROL = 0,
    AGENT_ROLE_STDIN = 1,
    AGENT_ROLE_STDOUT = 2,
    AGENT_ROLE_STDERR = 3,
    AGENT_NR_ROLES = 4,
};

struct agent_frame {
    uint8_t type;
    uint32_t length;
    const uint8_t *payload; /* borrowed from the buffer that was parsed */
};

struct agent_hello {
    uint16_t version;
    uint16_t role; /* enum agent_role */
};

struct agent_info {
    const char *sysname, *release, *version, *machine;
    uint32_t nr_cpus;
    uint64_t memory_bytes;
    uint64_t uptime_ns; /* CLOCK_BOOTTIME when the message was made */
    uint64_t ready_ns;  /* CLOCK_BOOTTIME when the agent could first run a command */
};

#define AGENT_RUN_TTY     (1u << 0)
#define AGENT_RUN_STDIN   (1u << 1)
#define AGENT_RUN_BUILTIN (1u << 2)

struct agent_run {
    uint32_t flags;      /* AGENT_RUN_ */
    uint16_t rows, cols; /* with AGENT_RUN_TTY; 0: unknown */
    const char *cwd;     /* "" is the root directory */
    const char *user;    /* "", "name", "uid", either with ":group" */
    const char *hostname;
    const char *resolv_conf; /* the file's text; "" leaves the image's own */
    char **argv;             /* NULL-terminated, at least one entry */
    char **env;              /* NULL-terminated */
};

struct agent_started {
    uint32_t pid;
    uint64_t uptime_ns;
};

struct agent_exited {
    uint32_t signal; /* fatal signal, or 0 */
    uint32_t status; /* exit status when signal is 0 */
    uint64_t run_ns; /* from start to end */
};

/* A command that could not be started, or an agent that cannot go on. */
struct agent_error {
    uint32_t exit_status; /* what the client should exit with: 125, 126, 127 */
    const char *message;
};

/*
 * The codec (src/guest/agent_codec.c). Encoders append one whole frame: 0, -ENOMEM, -EFBIG, or
 * -E2BIG when the message does not fit a frame. Decoders return 0 or -EPROTO; strings and payloads
 * are borrowed from the frame.
 */

/* Looks at the first `length` bytes received: 1 and *ret when a whole frame is there, 0 when more
 * is needed, -EPROTO when these bytes cannot become a frame. */
int agent_frame_parse(const void *data, size_t length, struct agent_frame *ret);
/* Writes a header (for DATA, whose payload is sent apart). */
void agent_header_encode(uint8_t header[AGENT_HEADER_SIZE], enum agent_frame_type type,
                         uint32_t length);
/* The type and length of a header; -EPROTO for an unknown type, an excessive length, or bytes that
 * must be zero. */
int agent_header_decode(const uint8_t header[AGENT_HEADER_SIZE], uint8_t *ret_type,
                        uint32_t *ret_length);

int agent_hello_encode(struct buf *to, const struct agent_hello *hello);
int agent_info_encode(struct buf *to, const struct agent_info *info);
int agent_run_encode(struct buf *to, const struct agent_run *run);
int agent_started_encode(struct buf *to, const struct agent_started *started);
int agent_exited_encode(struct buf *to, const struct agent_exited *exited);
int agent_error_encode(struct buf *to, const struct agent_error *error);
int agent_resize_encode(struct buf *to, uint16_t rows, uint16_t cols);
int agent_signal_encode(struct buf *to, uint32_t signal_number);
/* A frame without payload: POWEROFF, QUERY, END, STOP. */
int agent_empty_encode(struct buf *to, enum agent_frame_type type);

int agent_hello_decode(const struct agent_frame *frame, struct agent_hello *ret);
int agent_info_decode(const struct agent_frame *frame, struct agent_info *ret);
/* Allocates argv and env (not their strings): agent_run_done. -ENOMEM too. */
int agent_run_decode(const struct agent_frame *frame, struct agent_run *ret);
void agent_run_done(struct agent_run *run);
int agent_started_decode(const struct agent_frame *frame, struct agent_started *ret);
int agent_exited_decode(const struct agent_frame *frame, struct agent_exited *ret);
int agent_error_decode(const struct agent_frame *frame, struct agent_error *ret);
int agent_resize_decode(const struct agent_frame *frame, uint16_t *ret_rows, uint16_t *ret_cols);
int agent_signal_decode(const struct agent_frame *frame, uint32_t *ret_signal);

#endif
