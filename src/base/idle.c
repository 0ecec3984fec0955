/* SPDX-License-Identifier: Apache-2.0 */
#include "base/idle.h"

#include "base/clock.h"

#include <sched.h>
#include <unistd.h>

/* A turn between two threads takes 10 to 40 us when both look. What took up to LONG_NS may have
 * been one where somebody slept: looking stops only beyond it. */
#define LOOK_NS (50 * NS_PER_US)
#define LONG_NS (4 * LOOK_NS)
/* An offer that nobody took is over sooner. */
#define TAKEN_NS (5 * NS_PER_US)

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
    idle->displaced = false;
}

bool idle_look(struct idle *idle)
{
    uint64_t now_ns = clock_monotonic_ns();

    if (idle->was_long || idle->displaced || now_ns - idle->start_ns > LOOK_NS ||
        !several_processors())
        return false;
    sched_yield();
    idle->displaced = clock_monotonic_ns() - now_ns > TAKEN_NS;
    return true;
}

void idle_end(struct idle *idle)
{
    idle->was_long = clock_monotonic_ns() - idle->start_ns > LONG_NS;
}
