/* SPDX-License-Identifier: Apache-2.0 */
/* See i8042.h. Commands as in the IBM PC AT technical reference. */
#include "machine/i8042.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define PORT_DATA    0x60
#define PORT_COMMAND 0x64

#define STATUS_OUTPUT_FULL 0x01
#define STATUS_SYSTEM      0x04 /* self test passed */
#define STATUS_UNLOCKED    0x10

#define COMMAND_READ_BYTE     0x20
#define COMMAND_WRITE_BYTE    0x60
#define COMMAND_DISABLE_AUX   0xa7
#define COMMAND_ENABLE_AUX    0xa8
#define COMMAND_TEST_AUX      0xa9
#define COMMAND_SELF_TEST     0xaa
#define COMMAND_TEST_KEYBOARD 0xab
#define COMMAND_READ_OUTPUT   0xd0
#define COMMAND_WRITE_OUTPUT  0xd1
#define COMMAND_AUX_LOOP      0xd3
#define COMMAND_PULSE         0xf0 /* and up: low bits select the lines pulsed low */

#define SELF_TEST_PASSED 0x55
#define OUTPUT_NOT_RESET 0x01
#define OUTPUT_A20       0x02
#define BYTE_RESET       0x04

struct i8042 {
    pthread_mutex_t lock;
    struct i8042_functions functions;
    struct i8042_state state;
};

static void answer(struct i8042 *kbc, uint8_t value)
{
    kbc->state.answer = value;
    kbc->state.has_answer = 1;
}

/* Gives true when the processor is to be reset. */
static bool command(struct i8042 *kbc, uint8_t value)
{
    kbc->state.pending_command = 0;
    if (value >= COMMAND_PULSE)
        return !(value & OUTPUT_NOT_RESET);
    switch (value) {
    case COMMAND_READ_BYTE:
        answer(kbc, kbc->state.command_byte);
        break;
    case COMMAND_SELF_TEST:
        answer(kbc, SELF_TEST_PASSED);
        break;
    case COMMAND_TEST_KEYBOARD:
    case COMMAND_TEST_AUX:
        answer(kbc, 0);
        break;
    case COMMAND_READ_OUTPUT:
        answer(kbc, kbc->state.output_port);
        break;
    case COMMAND_WRITE_BYTE:
    case COMMAND_WRITE_OUTPUT:
    case COMMAND_AUX_LOOP:
        kbc->state.pending_command = value;
        break;
    default:
        break;
    }
    return false;
}

static bool data_write(struct i8042 *kbc, uint8_t value)
{
    uint8_t pending = kbc->state.pending_command;

    kbc->state.pending_command = 0;
    switch (pending) {
    case COMMAND_WRITE_BYTE:
        kbc->state.command_byte = value;
        break;
    case COMMAND_WRITE_OUTPUT:
        kbc->state.output_port = value;
        return !(value & OUTPUT_NOT_RESET);
    case COMMAND_AUX_LOOP:
        answer(kbc, value);
        break;
    default: /* to the keyboard: nobody answers */
        break;
    }
    return false;
}

static void data_bus_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct i8042 *kbc = device;

    (void)cpu, (void)offset, (void)size;
    pthread_mutex_lock(&kbc->lock);
    *(uint8_t *)data = kbc->state.answer;
    kbc->state.has_answer = 0;
    pthread_mutex_unlock(&kbc->lock);
}

static void data_bus_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                           unsigned size)
{
    struct i8042 *kbc = device;
    bool reset;

    (void)cpu, (void)offset, (void)size;
    pthread_mutex_lock(&kbc->lock);
    reset = data_write(kbc, *(const uint8_t *)data);
    pthread_mutex_unlock(&kbc->lock);
    if (reset)
        kbc->functions.reset(kbc->functions.context);
}

static void command_bus_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct i8042 *kbc = device;

    (void)cpu, (void)offset, (void)size;
    pthread_mutex_lock(&kbc->lock);
    *(uint8_t *)data = (uint8_t)(STATUS_UNLOCKED | STATUS_SYSTEM |
                                 (kbc->state.has_answer ? STATUS_OUTPUT_FULL : 0));
    pthread_mutex_unlock(&kbc->lock);
}

static void command_bus_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                              unsigned size)
{
    struct i8042 *kbc = device;
    bool reset;

    (void)cpu, (void)offset, (void)size;
    pthread_mutex_lock(&kbc->lock);
    reset = command(kbc, *(const uint8_t *)data);
    pthread_mutex_unlock(&kbc->lock);
    if (reset)
        kbc->functions.reset(kbc->functions.context);
}

int i8042_add_to_bus(struct i8042 *kbc, struct bus *bus, struct err *err)
{
    static const struct bus_ops data_ops = {data_bus_read, data_bus_write};
    static const struct bus_ops command_ops = {command_bus_read, command_bus_write};
    int result = bus_add(bus, BUS_IO, PORT_DATA, 1, &data_ops, kbc, "8042 data", err);

    if (result < 0)
        return result;
    return bus_add(bus, BUS_IO, PORT_COMMAND, 1, &command_ops, kbc, "8042 command", err);
}

int i8042_new(const struct i8042_functions *functions, struct i8042 **ret, struct err *err)
{
    struct i8042 *kbc = calloc(1, sizeof(*kbc));

    if (!kbc)
        return err_set(err, -ENOMEM, "out of memory for the 8042");
    pthread_mutex_init(&kbc->lock, NULL);
    kbc->functions = *functions;
    i8042_reset(kbc);
    *ret = kbc;
    return 0;
}

void i8042_free(struct i8042 *kbc)
{
    if (!kbc)
        return;
    pthread_mutex_destroy(&kbc->lock);
    free(kbc);
}

void i8042_reset(struct i8042 *kbc)
{
    pthread_mutex_lock(&kbc->lock);
    kbc->state = (struct i8042_state){.command_byte = BYTE_RESET,
                                      .output_port = OUTPUT_NOT_RESET | OUTPUT_A20};
    pthread_mutex_unlock(&kbc->lock);
}

void i8042_save(struct i8042 *kbc, struct i8042_state *ret)
{
    pthread_mutex_lock(&kbc->lock);
    *ret = kbc->state;
    pthread_mutex_unlock(&kbc->lock);
}

void i8042_load(struct i8042 *kbc, const struct i8042_state *state)
{
    pthread_mutex_lock(&kbc->lock);
    kbc->state = *state;
    pthread_mutex_unlock(&kbc->lock);
}
