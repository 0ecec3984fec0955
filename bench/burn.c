/* SPDX-License-Identifier: Apache-2.0 */
/*
 * burn burn|sleep MILLISECONDS: a job of that length, for bench/jobs.py. burn: so much processor
 * time. sleep: so much time in which it was not frozen, whatever else the host has to do; it sleeps
 * 2 ms at a time, and a step of more than 30 ms counts as that.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEP_MOST 0.030

static double now(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    double wanted = argc > 2 ? strtod(argv[2], NULL) / 1000 : 0, had = 0, last;

    if (argc > 1 && !strcmp(argv[1], "burn"))
        while (now(CLOCK_PROCESS_CPUTIME_ID) < wanted)
            for (volatile int i = 0; i < 100000; i++)
                ;
    last = now(CLOCK_MONOTONIC);
    while (argc > 1 && !strcmp(argv[1], "sleep") && had < wanted) {
        double at, step;

        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        at = now(CLOCK_MONOTONIC);
        step = at - last;
        had += step < STEP_MOST ? step : STEP_MOST;
        last = at;
    }
    return 0;
}
