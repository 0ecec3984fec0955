/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/cpuid.h"

#include "cpu/state.h"
#include "testing.h"

#include <cpuid.h>
#include <string.h>

static struct cpuid_policy policy_make(unsigned nr_cpus)
{
    struct cpuid_options options = {.nr_cpus = nr_cpus, .tsc_hz = 2596123456};
    struct cpuid_policy policy;

    cpuid_policy_init(&policy, &options);
    return policy;
}

static bool is_intel(const struct cpuid_policy *policy)
{
    uint32_t r[4];

    cpuid_query(policy, 0, 0, 0, 0, 1, r);
    return r[1] == 0x756e6547; /* "Genu" */
}

START_TEST(features_are_a_subset_of_the_host)
{
    struct cpuid_policy policy = policy_make(2);
    uint32_t r[4], a, b, c, d;

    cpuid_query(&policy, 0, 1, 0, 0, 1, r);
    __cpuid(1, a, b, c, d);
    ck_assert_uint_eq(r[0], a);
    /* x2APIC, TSC-deadline and the hypervisor bit are ours; HTT follows the topology. */
    ck_assert_uint_eq(r[2] & ~c & ~(1u << 21 | 1u << 24 | 1u << 31), 0);
    ck_assert_uint_eq(r[3] & ~d & ~(1u << 28), 0);
    ck_assert_uint_eq(r[2] & (1u << 3 | 1u << 5), 0); /* MONITOR, VMX */
    cpuid_query(&policy, 0, 7, 0, 0, 1, r);
    __cpuid_count(7, 0, a, b, c, d);
    ck_assert_uint_eq(r[1] & ~b, 0);
    ck_assert_uint_eq(r[1] & (1u << 16 | 1u << 4 | 1u << 11 | 1u << 14), 0); /* AVX-512, TSX, MPX */
    ck_assert_uint_eq(r[2] & (1u << 16 | 1u << 3 | 1u << 7), 0);             /* LA57, PKU, CET */
    cpuid_query(&policy, 0, 0x80000001, 0, 0, 1, r);
    ck_assert_uint_eq(r[2] & (1u << 2), 0); /* SVM */
    ck_assert_uint_ne(r[3] & (1u << 29), 0);
}
END_TEST

START_TEST(dynamic_bits_follow_cr4_and_xcr0)
{
    struct cpuid_policy policy = policy_make(1);
    uint32_t r[4];

    cpuid_query(&policy, 0, 1, 0, 0, 1, r);
    ck_assert_uint_eq(r[2] & (1u << 27), 0);
    cpuid_query(&policy, 0, 1, 0, CPU_CR4_OSXSAVE, 1, r);
    ck_assert_uint_ne(r[2] & (1u << 27), 0);
    cpuid_query(&policy, 0, 0xd, 0, 0, 1, r);
    ck_assert_uint_eq(r[1], 576);
    cpuid_query(&policy, 0, 0xd, 0, 0, 7, r);
    ck_assert_uint_eq(r[1], 832);
    ck_assert_uint_eq(r[3], 0);
}
END_TEST

START_TEST(topology_names_each_cpu_once)
{
    struct cpuid_policy policy = policy_make(3);
    uint32_t r[4];

    for (unsigned cpu = 0; cpu < 3; cpu++) {
        cpuid_query(&policy, cpu, 1, 0, 0, 1, r);
        ck_assert_uint_eq(r[1] >> 24, cpu);
        ck_assert_uint_eq((r[1] >> 16) & 0xff, 4);
        cpuid_query(&policy, cpu, 0xb, 0, 0, 1, r);
        ck_assert_uint_eq(r[1], 1);
        ck_assert_uint_eq(r[3], cpu);
        cpuid_query(&policy, cpu, 0xb, 1, 0, 1, r);
        ck_assert_uint_eq(r[0], 2);
        ck_assert_uint_eq(r[1], 3);
        ck_assert_uint_eq(r[3], cpu);
        cpuid_query(&policy, cpu, 0xb, 2, 0, 1, r);
        ck_assert_uint_eq(r[1], 0);
        ck_assert_uint_eq(r[2], 2);
        ck_assert_uint_eq(r[3], cpu);
    }
}
END_TEST

/* The arithmetic of Linux's native_calibrate_tsc, in 32 bits as there. */
START_TEST(leaf_15h_gives_the_frequency_in_32_bit_arithmetic)
{
    struct cpuid_policy policy = policy_make(1);
    uint32_t r[4], khz;

    cpuid_query(&policy, 0, 0x15, 0, 0, 1, r);
    khz = r[2] / 1000 * r[1] / r[0];
    ck_assert(khz >= 2596122 && khz <= 2596124);
    cpuid_query(&policy, 0, 0x16, 0, 0, 1, r);
    ck_assert_uint_eq(r[0], 2596);
}
END_TEST

START_TEST(leaves_out_of_range_follow_the_vendor)
{
    struct cpuid_policy policy = policy_make(1);
    uint32_t r[4], highest[4], max[4];

    cpuid_query(&policy, 0, 0, 0, 0, 1, max);
    cpuid_query(&policy, 0, max[0], 5, 0, 1, highest);
    cpuid_query(&policy, 0, max[0] + 1, 5, 0, 1, r);
    if (is_intel(&policy))
        ck_assert_int_eq(memcmp(r, highest, sizeof(r)), 0);
    else
        ck_assert_uint_eq(r[0] | r[1] | r[2] | r[3], 0);
    cpuid_query(&policy, 0, 0x40000000, 0, 0, 1, r);
    ck_assert_int_eq(memcmp(&r[1], "KVMKVMKVM\0\0", 12), 0);
    cpuid_query(&policy, 0, 0x40000002, 0, 0, 1, r);
    ck_assert_uint_eq(r[0] | r[1] | r[2] | r[3], 0);
}
END_TEST

START_TEST(intel_guests_learn_that_they_are_immune)
{
    struct cpuid_policy policy = policy_make(1);
    uint32_t r[4];

    cpuid_query(&policy, 0, 7, 0, 0, 1, r);
    ck_assert_int_eq(is_intel(&policy), (r[3] >> 29) & 1);
    ck_assert_int_eq(is_intel(&policy), policy.arch_capabilities & 1);
}
END_TEST

START_TEST(the_policy_fits_the_largest_machine)
{
    struct cpuid_policy policy = policy_make(64);
    uint32_t r[4];

    ck_assert_uint_lt(policy.nr_entries, CPUID_ENTRIES_MAX);
    cpuid_query(&policy, 63, 1, 0, 0, 1, r);
    ck_assert_uint_eq(r[1] >> 24, 63);
    cpuid_query(&policy, 63, 0x80000008, 0, 0, 1, r);
    ck_assert_uint_eq(r[0], 40u | 48u << 8);
}
END_TEST

TEST_MAIN("cpuid", tcase_add_test(tcase, features_are_a_subset_of_the_host);
          tcase_add_test(tcase, dynamic_bits_follow_cr4_and_xcr0);
          tcase_add_test(tcase, topology_names_each_cpu_once);
          tcase_add_test(tcase, leaf_15h_gives_the_frequency_in_32_bit_arithmetic);
          tcase_add_test(tcase, leaves_out_of_range_follow_the_vendor);
          tcase_add_test(tcase, intel_guests_learn_that_they_are_immune);
          tcase_add_test(tcase, the_policy_fits_the_largest_machine))
