/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The port and memory-mapped I/O spaces of one machine: which device answers at which address.
 *
 * Invariants: 1. Ranges of one space never overlap. 2. Devices are added before the first vCPU
 * runs. 3. A device is called with an offset inside its range and a size (1, 2, 4, 8) that fits; an
 * access that straddles ranges goes to nobody. Threads: device functions are called by all vCPU
 * threads at once; each device locks for itself.
 */
#ifndef LODGE_MACHINE_BUS_H
#define LODGE_MACHINE_BUS_H

#include "base/err.h"
#include "cpu/cpu.h"

#include <stdint.h>

enum bus_space {
    BUS_IO,   /* ports, 0..0xffff */
    BUS_MMIO, /* guest-physical */
};

struct bus_ops {
    /* data holds all ones on entry of read. cpu is the index of the vCPU that makes the access. */
    void (*read)(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size);
    void (*write)(void *device, unsigned cpu, uint64_t offset, const void *data, unsigned size);
};

struct bus;

int bus_new(struct bus **ret, struct err *err);
void bus_free(struct bus *bus);
/* ops and device are borrowed; name is static text. -EEXIST on overlap. */
int bus_add(struct bus *bus, enum bus_space space, uint64_t base, uint64_t length,
            const struct bus_ops *ops, void *device, const char *name, struct err *err);
/* Fills the functions that an engine calls. */
void bus_connect(struct bus *bus, struct cpu_bus *ret);

#endif
