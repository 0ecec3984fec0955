/* SPDX-License-Identifier: Apache-2.0 */
/* See debug_ports.h. The debug exit's status is (value << 1) | 1, so that 0 is never a success by
 * accident and every value differs from a clean power-off. */
#include "machine/debug_ports.h"

#include <stdint.h>
#include <string.h>

#define DEBUG_EXIT_LENGTH  4
#define DEBUG_CONSOLE_PORT 0xe9
#define POST_PORT          0x80
#define RESET_FULL         0x04 /* bit 2: reset now; bit 1 only says how hard */

static void nothing_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    (void)device, (void)cpu, (void)offset;
    memset(data, 0, size);
}

static void nothing_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                          unsigned size)
{
    (void)device, (void)cpu, (void)offset, (void)data, (void)size;
}

static void exit_write(void *device, unsigned cpu, uint64_t offset, const void *data, unsigned size)
{
    struct debug_ports *ports = device;
    uint32_t value = 0;

    (void)cpu, (void)offset;
    memcpy(&value, data, size < sizeof(value) ? size : sizeof(value));
    ports->exit_code(ports->context, (int)(value << 1 | 1));
}

static void console_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    (void)device, (void)cpu, (void)offset;
    memset(data, DEBUG_CONSOLE_PORT, size);
}

static void console_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                          unsigned size)
{
    struct debug_ports *ports = device;

    (void)cpu, (void)offset;
    ports->output(ports->context, data, size);
}

static void reset_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                        unsigned size)
{
    struct debug_ports *ports = device;

    (void)cpu, (void)offset, (void)size;
    if (*(const uint8_t *)data & RESET_FULL)
        ports->reset(ports->context);
}

int debug_ports_add_to_bus(struct debug_ports *ports, struct bus *bus, struct err *err)
{
    static const struct bus_ops exit_ops = {nothing_read, exit_write};
    static const struct bus_ops console_ops = {console_read, console_write};
    static const struct bus_ops post_ops = {nothing_read, nothing_write};
    static const struct bus_ops reset_ops = {nothing_read, reset_write};
    int result;

    if (ports->exit_code && (result = bus_add(bus, BUS_IO, DEBUG_EXIT_PORT, DEBUG_EXIT_LENGTH,
                                              &exit_ops, ports, "debug exit port", err)) < 0)
        return result;
    if (ports->output && (result = bus_add(bus, BUS_IO, DEBUG_CONSOLE_PORT, 1, &console_ops, ports,
                                           "debug console port", err)) < 0)
        return result;
    if ((result = bus_add(bus, BUS_IO, POST_PORT, 1, &post_ops, ports, "port 0x80", err)) < 0)
        return result;
    if (ports->pci)
        return 0;
    return bus_add(bus, BUS_IO, RESET_PORT, 1, &reset_ops, ports, "reset port", err);
}
