/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to a vCPU, its idle wait, and the host's TSC frequency.
 *
 * cpu.requests is both the request bits and the futex word. The waiter announces itself in
 * cpu.waiting, then sleeps only while the word is 0; the requester sets bits, then looks at
 * cpu.waiting: with both in sequential order one of them sees the other, and no request is lost.
 * (An engine may set CPU_REQUEST_ENGINE in the word by itself, so that the word's former value says
 * nothing about whether somebody sleeps.) cpu_request is safe in a signal handler.
 */
#include "cpu/cpu.h"

#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * A sleeping thread costs tens of microseconds to wake on another core, so a vCPU that is soon
 * asked again polls first. On a host with one processor polling only delays the asker.
 */
#define WAIT_SPIN_NS (20 * NS_PER_US)

static void futex_wait_zero(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void futex_wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void cpu_request(struct cpu *cpu, uint32_t bits)
{
    int saved = errno;

    __atomic_fetch_or(&cpu->requests, bits, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&cpu->waiting, __ATOMIC_SEQ_CST))
        futex_wake(&cpu->requests);
    if (cpu->engine && cpu->engine->kick)
        cpu->engine->kick(cpu);
    errno = saved;
}

static bool wait_may_spin(void)
{
    static int processors; /* written with the same value by whoever comes first */
    int known = __atomic_load_n(&processors, __ATOMIC_RELAXED);

    if (!known) {
        known = (int)sysconf(_SC_NPROCESSORS_ONLN);
        __atomic_store_n(&processors, known, __ATOMIC_RELAXED);
    }
    return known > 1;
}

void cpu_wait(struct cpu *cpu)
{
    if (wait_may_spin()) {
        uint64_t ticks = cpu_host_tsc_hz() / NS_PER_MS * (WAIT_SPIN_NS / NS_PER_US) / 1000;
        uint64_t start = cpu_host_tsc();

        while (cpu_host_tsc() - start < ticks) {
            if (__atomic_load_n(&cpu->requests, __ATOMIC_ACQUIRE))
                return;
            __builtin_ia32_pause();
        }
    }
    __atomic_store_n(&cpu->waiting, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&cpu->requests, __ATOMIC_SEQ_CST))
        futex_wait_zero(&cpu->requests);
    __atomic_store_n(&cpu->waiting, 0, __ATOMIC_RELEASE);
}
