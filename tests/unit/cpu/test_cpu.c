/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/cpu.h"

#include "base/clock.h"
#include "testing.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

struct ping {
    struct cpu a, b;
    int rounds;
};

static void *answer(void *context)
{
    struct ping *ping = context;

    for (int i = 0; i < ping->rounds; i++) {
        cpu_wait(&ping->b);
        cpu_take_requests(&ping->b, CPU_REQUEST_INTERRUPT);
        cpu_request(&ping->a, CPU_REQUEST_INTERRUPT);
    }
    return NULL;
}

/* A lost wake-up would hang here and run into the time limit. */
START_TEST(no_request_is_lost_between_two_threads)
{
    struct ping ping = {.rounds = 5000};
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, answer, &ping), 0);
    for (int i = 0; i < ping.rounds; i++) {
        cpu_request(&ping.b, CPU_REQUEST_INTERRUPT);
        cpu_wait(&ping.a);
        ck_assert_uint_eq(cpu_take_requests(&ping.a, ~0u), CPU_REQUEST_INTERRUPT);
    }
    pthread_join(thread, NULL);
}
END_TEST

static void *request_later(void *context)
{
    struct timespec pause = {.tv_nsec = 30000000};

    nanosleep(&pause, NULL);
    cpu_request(context, CPU_REQUEST_KICK);
    return NULL;
}

static void *engine_bit_and_request_later(void *context)
{
    struct timespec pause = {.tv_nsec = 15000000};
    struct cpu *cpu = context;

    nanosleep(&pause, NULL);
    __atomic_fetch_or(&cpu->requests, CPU_REQUEST_ENGINE, __ATOMIC_SEQ_CST);
    return request_later(context);
}

/* An engine posts messages to a sleeping vCPU without waking it; the next request has to. */
START_TEST(a_request_wakes_whatever_bits_are_set_already)
{
    struct cpu cpu = {0};
    pthread_t thread;

    cpu_host_tsc_hz(); /* its measurement would be part of the first wait */
    pthread_create(&thread, NULL, engine_bit_and_request_later, &cpu);
    cpu_wait(&cpu);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(cpu_peek_requests(&cpu), CPU_REQUEST_ENGINE | CPU_REQUEST_KICK);
}
END_TEST

START_TEST(requests_stay_until_they_are_taken)
{
    struct cpu cpu = {0};

    cpu_request(&cpu, CPU_REQUEST_KICK | CPU_REQUEST_NMI);
    cpu_wait(&cpu);
    ck_assert_uint_eq(cpu_take_requests(&cpu, CPU_REQUEST_NMI), CPU_REQUEST_NMI);
    ck_assert_uint_eq(cpu_peek_requests(&cpu), CPU_REQUEST_KICK);
    cpu_wait(&cpu);
    ck_assert_uint_eq(cpu_take_requests(&cpu, CPU_REQUEST_NMI), 0);
}
END_TEST

/* The oracle is a plain, longer measurement. */
START_TEST(the_tsc_frequency_agrees_with_the_clock)
{
    struct timespec pause = {.tv_nsec = 200000000};
    uint64_t hz = cpu_host_tsc_hz();
    uint64_t ns = clock_read_ns(CLOCK_MONOTONIC_RAW), tsc = cpu_host_tsc();
    double measured;

    nanosleep(&pause, NULL);
    ns = clock_read_ns(CLOCK_MONOTONIC_RAW) - ns;
    tsc = cpu_host_tsc() - tsc;
    measured = (double)tsc * 1e9 / (double)ns;
    ck_assert(measured / (double)hz > 0.999 && measured / (double)hz < 1.001);
    ck_assert_uint_eq(cpu_host_tsc_hz(), hz);
}
END_TEST

START_TEST(reset_state_is_that_of_the_manual)
{
    struct cpu_state bsp, ap;

    cpu_state_reset(&bsp, 0);
    cpu_state_reset(&ap, 3);
    ck_assert_uint_eq(bsp.segment[CPU_CS].base + bsp.rip, 0xfffffff0);
    ck_assert_uint_eq(bsp.cr0, 0x60000010);
    ck_assert_uint_eq(bsp.rflags, 2);
    ck_assert_uint_eq(bsp.segment[CPU_DS].attributes, 0x93);
    ck_assert_uint_eq(bsp.segment[CPU_CS].attributes, 0x9b);
    ck_assert_uint_eq(bsp.dr[6], 0xffff0ff0);
    ck_assert_uint_eq(bsp.apic_base, 0xfee00900);
    ck_assert_int_eq(bsp.activity, CPU_ACTIVITY_RUNNING);
    ck_assert_int_eq(ap.activity, CPU_ACTIVITY_WAIT_FOR_SIPI);
    ap.apic_base = bsp.apic_base;
    ap.activity = bsp.activity;
    ck_assert_int_eq(memcmp(&bsp, &ap, sizeof(bsp)), 0);
}
END_TEST

TEST_MAIN("cpu", tcase_add_test(tcase, no_request_is_lost_between_two_threads);
          tcase_add_test(tcase, a_request_wakes_whatever_bits_are_set_already);
          tcase_add_test(tcase, requests_stay_until_they_are_taken);
          tcase_add_test(tcase, the_tsc_frequency_agrees_with_the_clock);
          tcase_add_test(tcase, reset_state_is_that_of_the_manual))
