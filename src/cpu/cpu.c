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

void cpu_wait(struct cpu *cpu)
{
    idle_begin(&cpu->idle);
    while (!__atomic_load_n(&cpu->requests, __ATOMIC_ACQUIRE) && idle_look(&cpu->idle))
        ;
    if (!__atomic_load_n(&cpu->requests, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&cpu->waiting, 1, __ATOMIC_SEQ_CST);
        while (!__atomic_load_n(&cpu->requests, __ATOMIC_SEQ_CST))
            futex_wait_zero(&cpu->requests);
        __atomic_store_n(&cpu->waiting, 0, __ATOMIC_RELEASE);
    }
    idle_end(&cpu->idle);
}
