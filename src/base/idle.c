/* SPDX-License-Identifier: Apache-2.0 */
#include "base/idle.h"

#include "base/clock.h"

#include <sched.h>
#include <unistd.h>

/* A turn between two threads takes 10 to 40 us when both look. What took up to LONG_NS may have
 * been one where somebody slept: looking stops only beyond it. */
#define LOOK_NS (50 * NS_PER_US)
#define LONG_NS (4 * LOOK_NS)

static bool several_processors(void)
{
    static int processors; /* written with the same value by whoever comes first */
    int known = __atomic_load_n(&processors, __ATOMIC_RELAXED);

    if (!known) {
        known = (int)sysconf(_SC_NPROCESSORS_ONLN);
        __atomic_store_n(&processors, known, __ATOMIC_RELAXED);
    }
    return known > 1;
}

void idle_begin(struct idle *idle)
{
    idle->start_ns = clock_monotonic_ns();
}

bool idle_look(const struct idle *idle)
{
    if (idle->was_long || clock_monotonic_ns() - idle->start_ns > LOOK_NS || !several_processors())
        return false;
    sched_yield();
    return true;
}

void idle_end(struct idle *idle)
{
    idle->was_long = clock_monotonic_ns() - idle->start_ns > LONG_NS;
}
