/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's TSC frequency: CPUID 15h where it is complete (SDM 3B 19.7.3), what the hypervisor
 * below us says (leaf 40000010h), else a measurement against CLOCK_MONOTONIC_RAW. The measurement
 * brackets each clock reading between two TSC readings and keeps the tightest of several, so that
 * being scheduled away cannot spoil it: over 20 ms the error is a few parts in a million.
 */
#include "cpu/cpu.h"

#include "base/clock.h"

#include <cpuid.h>
#include <string.h>
#include <time.h>

#define MEASURE_NS    (20 * NS_PER_MS)
#define MEASURE_TRIES 16

struct sample {
    uint64_t ns, tsc;
};

static struct sample sample_take(void)
{
    struct sample best = {0, 0};
    uint64_t narrowest = UINT64_MAX;

    for (int i = 0; i < MEASURE_TRIES; i++) {
        uint64_t before = cpu_host_tsc();
        uint64_t ns = clock_read_ns(CLOCK_MONOTONIC_RAW);
        uint64_t after = cpu_host_tsc();

        if (after - before < narrowest) {
            narrowest = after - before;
            best.ns = ns;
            best.tsc = before + (after - before) / 2;
        }
    }
    return best;
}

static uint64_t tsc_measure(void)
{
    struct timespec pause = {.tv_nsec = MEASURE_NS};
    struct sample start = sample_take(), end;

    do {
        nanosleep(&pause, NULL);
        end = sample_take();
    } while (end.ns - start.ns < MEASURE_NS / 2);
    return (uint64_t)((unsigned __int128)(end.tsc - start.tsc) * NS_PER_S / (end.ns - start.ns));
}

static uint64_t tsc_from_cpuid(void)
{
    unsigned max, a, b, c, d;

    __cpuid(0, max, b, c, d);
    if (max >= 0x15) {
        __cpuid(0x15, a, b, c, d);
        if (a && b && c)
            return (uint64_t)c * b / a;
    }
    __cpuid(1, a, b, c, d);
    if (c & (1u << 31)) {
        __cpuid(0x40000000, max, b, c, d);
        if (max >= 0x40000010 && max < 0x40010000) {
            __cpuid(0x40000010, a, b, c, d);
            return (uint64_t)a * 1000;
        }
    }
    return 0;
}

uint64_t cpu_host_tsc_hz(void)
{
    static uint64_t known; /* 0 until found; racing first callers agree closely enough */
    uint64_t hz = __atomic_load_n(&known, __ATOMIC_RELAXED);
    uint64_t none = 0;

    if (hz)
        return hz;
    hz = tsc_from_cpuid();
    if (!hz)
        hz = tsc_measure();
    if (!__atomic_compare_exchange_n(&known, &none, hz, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        hz = none;
    return hz;
}
