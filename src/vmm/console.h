/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard input and output as the guest's terminal.
 *
 * Output is handed over by vCPU threads and written by a thread of the console's own, so that a
 * slow reader delays the guest but never the monitor. Nothing is lost: a full buffer makes the
 * writer wait, until console_abandon says that the VM ends.
 *
 * A terminal on standard input is put in raw mode and restored by console_input_stop. There Ctrl-A
 * is the escape: Ctrl-A x asks to quit, Ctrl-A Ctrl-A sends one Ctrl-A.
 *
 * Threads: console_output and console_input_ready from any thread, the others on the loop's.
 */
#ifndef LODGE_VMM_CONSOLE_H
#define LODGE_VMM_CONSOLE_H

#include "base/err.h"
#include "base/loop.h"

#include <stddef.h>

struct console;

struct console_functions {
    void *context;
    /* Takes what it can of the input; the rest is offered again after console_input_ready. */
    size_t (*input)(void *context, const void *data, size_t length);
    void (*quit)(void *context);
};

/* with_input: read standard input too. */
int console_new(struct loop *loop, const struct console_functions *functions, bool with_input,
                struct console **ret, struct err *err);
/* Starts reading, and raw mode. */
int console_start(struct console *console, struct err *err);
void console_output(struct console *console, const void *data, size_t length);
void console_input_ready(struct console *console);
/* Writers do not wait any more: what does not fit is dropped. */
void console_abandon(struct console *console);
/* Waits until the output is written, at most timeout_ms (-1: without end). */
void console_flush(struct console *console, int timeout_ms);
/* Stops reading and gives the terminal back. */
void console_input_stop(struct console *console);
/* What has not been written by now is lost. NULL is fine. */
void console_free(struct console *console);

#endif
