/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports without a chip behind them: the debug exit (0xf4: ends the VM with a status), the debug
 * console (0xe9: reads as e9h, writes go to an output), the POST code (0x80: takes and forgets) and
 * the reset control register (0xcf9). None keeps state that a snapshot needs.
 *
 * Threads: any vCPU's.
 */
#ifndef LODGE_MACHINE_DEBUG_PORTS_H
#define LODGE_MACHINE_DEBUG_PORTS_H

#include "base/err.h"
#include "machine/bus.h"

#include <stdbool.h>
#include <stddef.h>

#define DEBUG_EXIT_PORT  0xf4
#define RESET_PORT       0xcf9
#define RESET_PORT_VALUE 6 /* what the ACPI tables tell the guest to write */

struct debug_ports {
    void *context;
    void (*exit_code)(void *context, int status);                   /* NULL: no port 0xf4 */
    void (*output)(void *context, const void *data, size_t length); /* NULL: no port 0xe9 */
    void (*reset)(void *context);
    bool pci; /* the reset port lies inside PCI's, which passes it on */
};

/* ports is borrowed for the life of the bus. */
int debug_ports_add_to_bus(struct debug_ports *ports, struct bus *bus, struct err *err);

#endif
