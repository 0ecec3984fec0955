/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real-time clock and its non-volatile RAM at ports 0x70 and 0x71 (Motorola MC146818A data
 * sheet). Time is the host's, in UTC, plus what the guest has set it off by. Alarm, periodic and
 * update-ended interrupts on GSI 8. Flags that nobody waits for are worked out when register C is
 * read; the timer runs only for enabled interrupts.
 *
 * Threads: any; one lock.
 */
#ifndef LODGE_MACHINE_MC146818_H
#define LODGE_MACHINE_MC146818_H

#include "base/err.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/timers.h"

#include <stdint.h>

#define MC146818_PORT 0x70
#define MC146818_SIZE 128

/* Time since 1970 UTC in nanoseconds. */
typedef uint64_t mc146818_realtime_fn(void);

struct mc146818_state {
    int64_t offset_s;  /* guest time - host time */
    uint64_t frozen_s; /* the time while SET (register B) holds it */
    uint8_t index;
    uint8_t flags; /* of register C, IRQF excluded */
    uint8_t reserved[6];
    uint8_t cmos[MC146818_SIZE]; /* time registers are computed, not kept here */
};

struct mc146818;

/* irq is copied; realtime NULL: the host's clock. */
int mc146818_new(struct timers *timers, const struct irq_line *irq, mc146818_realtime_fn *realtime,
                 struct mc146818 **ret, struct err *err);
void mc146818_free(struct mc146818 *rtc);
int mc146818_add_to_bus(struct mc146818 *rtc, struct bus *bus, struct err *err);
void mc146818_reset(struct mc146818 *rtc); /* the clock and RAM keep their contents */
/* What firmware would have left in RAM. */
void mc146818_set_ram(struct mc146818 *rtc, unsigned index, uint8_t value);
void mc146818_save(struct mc146818 *rtc, struct mc146818_state *ret);
void mc146818_load(struct mc146818 *rtc, const struct mc146818_state *state);

#endif
