/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch of port and memory-mapped accesses. Each space is an array of ranges sorted by address,
 * searched by halves; it is written only while the machine is put together, so vCPU threads read it
 * without a lock.
 */
#include "machine/bus.h"

#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BUS_RANGES_MAX 64
#define BUS_IO_SIZE    UINT64_C(0x10000)

struct bus_range {
    uint64_t base, length;
    const struct bus_ops *ops;
    void *device;
    const char *name;
};

struct bus_table {
    struct bus_range ranges[BUS_RANGES_MAX];
    unsigned nr_ranges;
};

struct bus {
    struct bus_table tables[2]; /* by enum bus_space */
};

int bus_new(struct bus **ret, struct err *err)
{
    struct bus *bus = calloc(1, sizeof(*bus));

    if (!bus)
        return err_set(err, -ENOMEM, "out of memory for the I/O bus");
    *ret = bus;
    return 0;
}

void bus_free(struct bus *bus)
{
    free(bus);
}

int bus_add(struct bus *bus, enum bus_space space, uint64_t base, uint64_t length,
            const struct bus_ops *ops, void *device, const char *name, struct err *err)
{
    struct bus_table *table = &bus->tables[space];
    unsigned place = 0;

    if (!length || length - 1 > UINT64_MAX - base ||
        (space == BUS_IO && !range_fits(base, length, BUS_IO_SIZE)))
        return err_set(err, -EINVAL, "%s: 0x%" PRIx64 " bytes at 0x%" PRIx64 " are not a range",
                       name, length, base);
    if (table->nr_ranges == BUS_RANGES_MAX)
        return err_set(err, -ENOSPC, "%s: more than %u devices on the bus", name, BUS_RANGES_MAX);
    while (place < table->nr_ranges && table->ranges[place].base < base)
        place++;
    if ((place > 0 && base - table->ranges[place - 1].base < table->ranges[place - 1].length) ||
        (place < table->nr_ranges && table->ranges[place].base - base < length))
        return err_set(err, -EEXIST, "%s: 0x%" PRIx64 " overlaps another device", name, base);
    memmove(&table->ranges[place + 1], &table->ranges[place],
            (table->nr_ranges - place) * sizeof(table->ranges[0]));
    table->ranges[place] = (struct bus_range){base, length, ops, device, name};
    table->nr_ranges++;
    return 0;
}

/* The range that holds all of [address, address + size), or NULL. */
static const struct bus_range *bus_find(const struct bus_table *table, uint64_t address,
                                        unsigned size)
{
    unsigned low = 0, high = table->nr_ranges;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct bus_range *range = &table->ranges[middle];

        if (address < range->base)
            high = middle;
        else if (address - range->base >= range->length)
            low = middle + 1;
        else
            return range_fits(address - range->base, size, range->length) ? range : NULL;
    }
    return NULL;
}

static void bus_read(const struct bus_table *table, unsigned cpu, uint64_t address, void *data,
                     unsigned size)
{
    const struct bus_range *range = bus_find(table, address, size);

    memset(data, 0xff, size);
    if (range)
        range->ops->read(range->device, cpu, address - range->base, data, size);
}

static void bus_write(const struct bus_table *table, unsigned cpu, uint64_t address,
                      const void *data, unsigned size)
{
    const struct bus_range *range = bus_find(table, address, size);

    if (range)
        range->ops->write(range->device, cpu, address - range->base, data, size);
}

static void bus_io_read(void *context, unsigned cpu, uint16_t port, void *data, unsigned size)
{
    struct bus *bus = context;

    bus_read(&bus->tables[BUS_IO], cpu, port, data, size);
}

static void bus_io_write(void *context, unsigned cpu, uint16_t port, const void *data,
                         unsigned size)
{
    struct bus *bus = context;

    bus_write(&bus->tables[BUS_IO], cpu, port, data, size);
}

static void bus_mmio_read(void *context, unsigned cpu, gpa_t gpa, void *data, unsigned size)
{
    struct bus *bus = context;

    bus_read(&bus->tables[BUS_MMIO], cpu, gpa, data, size);
}

static void bus_mmio_write(void *context, unsigned cpu, gpa_t gpa, const void *data, unsigned size)
{
    struct bus *bus = context;

    bus_write(&bus->tables[BUS_MMIO], cpu, gpa, data, size);
}

void bus_connect(struct bus *bus, struct cpu_bus *ret)
{
    *ret = (struct cpu_bus){
        .context = bus,
        .io_read = bus_io_read,
        .io_write = bus_io_write,
        .mmio_read = bus_mmio_read,
        .mmio_write = bus_mmio_write,
    };
}
