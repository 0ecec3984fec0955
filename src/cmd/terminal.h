/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's terminal: its settings saved, made raw, restored. Saved settings hold a descriptor of
 * the terminal of their own, so that they can be restored whatever became of standard input.
 */
#ifndef LODGE_CMD_TERMINAL_H
#define LODGE_CMD_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

struct terminal {
    int fd; /* -1: standard input is no terminal */
    struct termios before;
};

void terminal_save(struct terminal *ret);
/* Saves, then raw mode. False: standard input is no terminal. */
bool terminal_make_raw(struct terminal *ret);
/* Also forgets. Does nothing the second time. */
void terminal_restore(struct terminal *terminal);
void terminal_forget(struct terminal *terminal);
/* The window's size; false when there is none. */
bool terminal_size(uint16_t *ret_rows, uint16_t *ret_cols);

#endif
