/* SPDX-License-Identifier: Apache-2.0 */
/* A bus with one device on it, a line that counts, and a clock moved by hand. */
#ifndef LODGE_TESTS_MACHINE_PORTS_H
#define LODGE_TESTS_MACHINE_PORTS_H

#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/timers.h"

#include "testing.h"

struct ports {
    struct timers *timers;
    struct bus *bus;
    struct cpu_bus calls;
    struct irq_sink sink;
    struct irq_line irq;
    bool level;
    unsigned nr_rises;
};

static inline void ports_set(void *context, unsigned gsi, bool level)
{
    struct ports *p = context;

    (void)gsi;
    p->nr_rises += level && !p->level;
    p->level = level;
}

static inline void ports_make(struct ports *p)
{
    *p = (struct ports){.sink = {.context = p, .set = ports_set}};
    p->irq.sink = &p->sink;
    ck_assert_int_eq(timers_new_manual(&p->timers, NULL), 0);
    ck_assert_int_eq(bus_new(&p->bus, NULL), 0);
    bus_connect(p->bus, &p->calls);
}

static inline void ports_free(struct ports *p)
{
    bus_free(p->bus);
    timers_free(p->timers);
}

static inline void out(struct ports *p, uint16_t port, uint8_t value)
{
    p->calls.io_write(p->calls.context, 0, port, &value, 1);
}

static inline uint8_t in(struct ports *p, uint16_t port)
{
    uint8_t value;

    p->calls.io_read(p->calls.context, 0, port, &value, 1);
    return value;
}

#endif
