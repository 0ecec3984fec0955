/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of the 8042 keyboard controller as firmware and kernels use on a machine without a
 * keyboard: self test, command byte, output port (with the reset line) and the reset pulse. The
 * ACPI tables say that there is no controller; a kernel that does not read them finds one that
 * works and has nothing attached.
 *
 * Threads: any; one lock, not held while reset is called.
 */
#ifndef LODGE_MACHINE_I8042_H
#define LODGE_MACHINE_I8042_H

#include "base/err.h"
#include "machine/bus.h"

#include <stdint.h>

struct i8042_state {
    uint8_t command_byte;
    uint8_t output_port;
    uint8_t answer, has_answer;
    uint8_t pending_command; /* waits for its data byte; 0: none */
    uint8_t reserved[3];
};

struct i8042_functions {
    void *context;
    void (*reset)(void *context);
};

struct i8042;

int i8042_new(const struct i8042_functions *functions, struct i8042 **ret, struct err *err);
void i8042_free(struct i8042 *kbc);
int i8042_add_to_bus(struct i8042 *kbc, struct bus *bus, struct err *err);
void i8042_reset(struct i8042 *kbc);
void i8042_save(struct i8042 *kbc, struct i8042_state *ret);
void i8042_load(struct i8042 *kbc, const struct i8042_state *state);

#endif
