/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 8254 interval timer at ports 0x40-0x43 (channel 0 on an interrupt line, channel 2 gated by
 * port 0x61) and that port's gate, speaker and refresh bits (Intel 8254 data sheet). Nothing
 * counts: counts and outputs are computed from the time since a channel was loaded; only channel
 * 0's output edges need a timer.
 *
 * Differences from the chip that software could notice: a count takes effect when it is written,
 * also in modes 2 and 3; channel 0 interrupts at most once in 20 us.
 *
 * Threads: any; one lock.
 */
#ifndef LODGE_MACHINE_I8254_H
#define LODGE_MACHINE_I8254_H

#include "base/err.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/timers.h"

#include <stdint.h>

#define I8254_HZ       UINT64_C(1193182)
#define I8254_CHANNELS 3

struct i8254_channel_state {
    uint64_t elapsed_ticks; /* counted up to start_ns */
    uint64_t start_ns;      /* since when it counts; in a saved state: 0 */
    uint32_t count;         /* 1..65536 (10000 in BCD) */
    uint8_t mode;           /* 0..5 */
    uint8_t bcd;
    uint8_t access; /* 1 low, 2 high, 3 low then high */
    uint8_t gate;
    uint8_t loaded;    /* a count has been written since the mode */
    uint8_t triggered; /* modes 1 and 5: the gate has risen since */
    uint8_t write_high, write_low_value;
    uint8_t read_high;
    uint8_t nr_latched; /* bytes of latched_count still to be read */
    uint8_t status_latched, latched_status;
    uint16_t latched_count;
    uint8_t reserved[4];
};

struct i8254_state {
    struct i8254_channel_state channels[I8254_CHANNELS];
    uint8_t speaker; /* bits 0-3 of port 0x61 as written */
    uint8_t reserved[7];
};

struct i8254;

/* irq is copied. */
int i8254_new(struct timers *timers, const struct irq_line *irq, struct i8254 **ret,
              struct err *err);
void i8254_free(struct i8254 *pit);
int i8254_add_to_bus(struct i8254 *pit, struct bus *bus, struct err *err);
void i8254_reset(struct i8254 *pit);
void i8254_save(struct i8254 *pit, struct i8254_state *ret);
void i8254_load(struct i8254 *pit, const struct i8254_state *state);

#endif
