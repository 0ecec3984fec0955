/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/idle.h"
#include "testing.h"

#include <unistd.h>

#define ENOUGH_NS (10 * NS_PER_S)

/* Whether a wait that follows begins with looking. */
static bool looks(struct idle *idle)
{
    bool look;

    idle_begin(idle);
    look = idle_look(idle);
    idle_end(idle);
    return look;
}

START_TEST(looking_ends)
{
    struct idle idle = {0};
    uint64_t deadline = clock_monotonic_ns() + ENOUGH_NS;

    idle_begin(&idle);
    while (idle_look(&idle))
        ck_assert_uint_lt(clock_monotonic_ns(), deadline);
    idle_end(&idle);
}
END_TEST

START_TEST(long_waits_switch_it_off_and_short_ones_on)
{
    struct idle idle = {0};
    uint64_t deadline = clock_monotonic_ns() + ENOUGH_NS;

    TEST_NEEDS(sysconf(_SC_NPROCESSORS_ONLN) > 1, "looking needs two processors");
    idle_begin(&idle);
    usleep(1000);
    idle_end(&idle);
    ck_assert(!looks(&idle));
    while (!looks(&idle)) /* a wait of nothing is short, unless the host interrupts it */
        ck_assert_uint_lt(clock_monotonic_ns(), deadline);
}
END_TEST

TEST_MAIN("idle", tcase_add_test(tcase, looking_ends);
          tcase_add_test(tcase, long_waits_switch_it_off_and_short_ones_on);)
