/* SPDX-License-Identifier: Apache-2.0 */
#include "chips.h"

#include <errno.h>

#define MSR(index) (0x800u + (index))

static int rdmsr(struct chips *c, unsigned cpu, uint32_t index, uint64_t *ret)
{
    return c->functions.msr_read(c->functions.context, cpu, index, ret);
}

static int wrmsr(struct chips *c, unsigned cpu, uint32_t index, uint64_t value)
{
    return c->functions.msr_write(c->functions.context, cpu, index, value);
}

static void self_ipi(struct chips *c, unsigned cpu, uint8_t vector)
{
    lapic_out(c, cpu, LAPIC_ICR_LOW, 1u << 18 | vector);
}

START_TEST(reset_values)
{
    struct chips c;
    uint64_t value;

    chips_make(&c);
    ck_assert_uint_eq(lapic_in(&c, 1, LAPIC_ID), 1u << 24);
    ck_assert_uint_eq(lapic_in(&c, 1, LAPIC_VERSION) & 0xff, 0x14);
    ck_assert_uint_eq(lapic_in(&c, 1, LAPIC_SVR), 0xff);
    ck_assert_uint_eq(lapic_in(&c, 1, LAPIC_DFR), 0xffffffff);
    ck_assert_uint_eq(lapic_in(&c, 1, LAPIC_LVT_TIMER), LAPIC_LVT_MASKED);
    ck_assert_uint_eq(lapic_in(&c, 0, LAPIC_LVT_LINT0), 0x700);
    ck_assert_int_eq(rdmsr(&c, 0, 0x1b, &value), 0);
    ck_assert_uint_eq(value, 0xfee00900);
    ck_assert_int_eq(rdmsr(&c, 1, 0x1b, &value), 0);
    ck_assert_uint_eq(value, 0xfee00800);
    chips_free(&c);
}
END_TEST

START_TEST(priority_classes_nest)
{
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    self_ipi(&c, 0, 0x41);
    self_ipi(&c, 0, 0x45);
    ck_assert_int_eq(acknowledge(&c, 0), 0x45);
    ck_assert_uint_eq(lapic_in(&c, 0, LAPIC_PPR), 0x40);
    ck_assert(!pending(&c, 0)); /* 0x41: same class */
    self_ipi(&c, 0, 0x51);
    ck_assert_int_eq(acknowledge(&c, 0), 0x51);
    lapic_out(&c, 0, LAPIC_EOI, 0);
    ck_assert(!pending(&c, 0));
    lapic_out(&c, 0, LAPIC_EOI, 0);
    ck_assert_int_eq(acknowledge(&c, 0), 0x41);
    chips_free(&c);
}
END_TEST

START_TEST(task_priority_holds_back_and_cr8_is_it)
{
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    c.functions.cr8_write(c.functions.context, 0, 4);
    ck_assert_uint_eq(lapic_in(&c, 0, LAPIC_TPR), 0x40);
    self_ipi(&c, 0, 0x4f);
    ck_assert(!pending(&c, 0));
    c.cpus[0].requests = 0;
    c.functions.cr8_write(c.functions.context, 0, 3);
    ck_assert(c.cpus[0].requests & CPU_REQUEST_INTERRUPT);
    ck_assert_uint_eq(c.functions.cr8_read(c.functions.context, 0), 3);
    ck_assert_int_eq(acknowledge(&c, 0), 0x4f);
    chips_free(&c);
}
END_TEST

START_TEST(interprocessor_interrupts_reach_their_destinations)
{
    static const struct {
        uint32_t high, low;
        int vector0, vector1;
    } cases[] = {
        {1u << 24, 0x51, -1, 0x51},      /* physical */
        {0xffu << 24, 0x52, 0x52, 0x52}, /* physical broadcast */
        {2u << 24, 0x853, -1, 0x53},     /* logical flat */
        {3u << 24, 0x854, 0x54, 0x54},   /* logical flat, both */
        {0, 0x40000 | 0x55, 0x55, -1},   /* self */
        {0, 0x80000 | 0x56, 0x56, 0x56}, /* all */
        {0, 0xc0000 | 0x57, -1, 0x57},   /* all but self */
        {7u << 24, 0x58, -1, -1},        /* nobody */
    };
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        lapic_out(&c, 0, LAPIC_ICR_HIGH, cases[i].high);
        lapic_out(&c, 0, LAPIC_ICR_LOW, cases[i].low);
        ck_assert_int_eq(acknowledge(&c, 0), cases[i].vector0);
        ck_assert_int_eq(acknowledge(&c, 1), cases[i].vector1);
        lapic_out(&c, 0, LAPIC_EOI, 0);
        lapic_out(&c, 1, LAPIC_EOI, 0);
    }
    /* Cluster model: cluster 1, members 1 and 2. */
    for (unsigned i = 0; i < 2; i++) {
        lapic_out(&c, i, LAPIC_DFR, 0x0fffffff);
        lapic_out(&c, i, LAPIC_LDR, (0x10u | 1u << i) << 24);
    }
    lapic_out(&c, 0, LAPIC_ICR_HIGH, 0x12u << 24);
    lapic_out(&c, 0, LAPIC_ICR_LOW, 0x861);
    ck_assert_int_eq(acknowledge(&c, 0), -1);
    ck_assert_int_eq(acknowledge(&c, 1), 0x61);
    chips_free(&c);
}
END_TEST

START_TEST(init_and_start_up)
{
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    lapic_out(&c, 0, LAPIC_ICR_HIGH, 1u << 24);
    lapic_out(&c, 0, LAPIC_ICR_LOW, 0xc500);
    ck_assert(c.cpus[1].requests & CPU_REQUEST_INIT);
    ck_assert_uint_eq(lapic_in(&c, 1, LAPIC_SVR), 0xff);
    c.cpus[1].requests = 0;
    lapic_out(&c, 0, LAPIC_ICR_LOW, 0x8500); /* de-assert */
    ck_assert_uint_eq(c.cpus[1].requests, 0);
    lapic_out(&c, 0, LAPIC_ICR_LOW, 0x699);
    ck_assert(c.cpus[1].requests & CPU_REQUEST_SIPI);
    ck_assert_uint_eq(c.cpus[1].sipi_vector, 0x99);
    lapic_out(&c, 0, LAPIC_ICR_LOW, 0x400);
    ck_assert(c.cpus[1].requests & CPU_REQUEST_NMI);
    ck_assert(!(c.cpus[0].requests & (CPU_REQUEST_NMI | CPU_REQUEST_INIT | CPU_REQUEST_SIPI)));
    chips_free(&c);
}
END_TEST

START_TEST(software_disabled_takes_no_fixed_interrupt)
{
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    lapic_out(&c, 1, LAPIC_LVT_ERROR, 0x33);
    lapic_out(&c, 1, LAPIC_SVR, 0xff);
    ck_assert_uint_eq(lapic_in(&c, 1, LAPIC_LVT_ERROR), LAPIC_LVT_MASKED | 0x33);
    lapic_out(&c, 1, LAPIC_LVT_ERROR, 0x34); /* cannot be unmasked now */
    ck_assert_uint_eq(lapic_in(&c, 1, LAPIC_LVT_ERROR), LAPIC_LVT_MASKED | 0x34);
    lapic_out(&c, 0, LAPIC_ICR_HIGH, 1u << 24);
    lapic_out(&c, 0, LAPIC_ICR_LOW, 0x51);
    lapic_out(&c, 1, LAPIC_SVR, LAPIC_SVR_ENABLE | 0xff);
    ck_assert_int_eq(acknowledge(&c, 1), -1);
    chips_free(&c);
}
END_TEST

START_TEST(errors_are_latched_by_a_write)
{
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    lapic_out(&c, 0, LAPIC_LVT_ERROR, 0xfe);
    self_ipi(&c, 0, 5); /* illegal vector */
    ck_assert_int_eq(acknowledge(&c, 0), 0xfe);
    ck_assert_uint_eq(lapic_in(&c, 0, LAPIC_ESR), 0);
    lapic_out(&c, 0, LAPIC_ESR, 0);
    ck_assert_uint_eq(lapic_in(&c, 0, LAPIC_ESR), LAPIC_ERROR_SEND_VECTOR);
    lapic_out(&c, 0, LAPIC_ESR, 0);
    ck_assert_uint_eq(lapic_in(&c, 0, LAPIC_ESR), 0);
    lapic_in(&c, 0, 0x01); /* reserved register */
    lapic_out(&c, 0, LAPIC_ESR, 0);
    ck_assert_uint_eq(lapic_in(&c, 0, LAPIC_ESR), LAPIC_ERROR_REGISTER);
    chips_free(&c);
}
END_TEST

START_TEST(timer_one_shot_and_periodic)
{
    struct chips c;

    chips_make(&c);
    lapics_enable(&c);
    lapic_out(&c, 0, LAPIC_TIMER_DIVIDE, 0x3); /* 16 */
    lapic_out(&c, 0, LAPIC_LVT_TIMER, 0x50);
    lapic_out(&c, 0, LAPIC_TIMER_INITIAL, 100000); /* 1.6 ms */
    timers_advance(c.timers, 800000);
    ck_assert_uint_eq(lapic_in(&c, 0, LAPIC_TIMER_CURRENT), 50000);
    ck_assert_int_eq(acknowledge(&c, 0), -1);
    timers_advance(c.timers, 1600000);
    ck_assert_int_eq(acknowledge(&c, 0), 0x50);
    ck_assert_uint_eq(lapic_in(&c, 0, LAPIC_TIMER_CURRENT), 0);
    lapic_out(&c, 0, LAPIC_EOI, 0);
    timers_advance(c.timers, 16000000);
    ck_assert_int_eq(acknowledge(&c, 0), -1);

    lapic_out(&c, 0, LAPIC_TIMER_DIVIDE, 0xb); /* 1 */
    lapic_out(&c, 0, LAPIC_LVT_TIMER, LAPIC_TIMER_PERIODIC | 0x51);
    lapic_out(&c, 0, LAPIC_TIMER_INITIAL, 1000000);
    for (unsigned i = 1; i <= 3; i++) {
        timers_advance(c.timers, 16000000 + i * UINT64_C(1000000) - 1);
        ck_assert_int_eq(acknowledge(&c, 0), -1);
        timers_advance(c.timers, 16000000 + i * UINT64_C(1000000));
        ck_assert_int_eq(acknowledge(&c, 0), 0x51);
        lapic_out(&c, 0, LAPIC_EOI, 0);
    }
    lapic_out(&c, 0, LAPIC_LVT_TIMER, LAPIC_TIMER_PERIODIC | LAPIC_LVT_MASKED | 0x51);
    timers_advance(c.timers, 20000000);
    ck_assert_int_eq(acknowledge(&c, 0), -1);
    lapic_out(&c, 0, LAPIC_TIMER_INITIAL, 0);
    chips_free(&c);
}
END_TEST

static uint64_t test_tsc;

static uint64_t guest_tsc(struct cpu *cpu)
{
    (void)cpu;
    return test_tsc;
}

START_TEST(timer_tsc_deadline)
{
    static const struct cpu_engine engine = {.guest_tsc = guest_tsc};
    struct chips c;
    uint64_t value;

    chips_make(&c);
    lapics_enable(&c);
    c.cpus[0].engine = &engine;
    test_tsc = 5000;
    ck_assert_int_eq(wrmsr(&c, 0, 0x6e0, 6000), 0); /* not in this mode: ignored */
    ck_assert_int_eq(rdmsr(&c, 0, 0x6e0, &value), 0);
    ck_assert_uint_eq(value, 0);
    lapic_out(&c, 0, LAPIC_LVT_TIMER, LAPIC_TIMER_DEADLINE | 0x60);
    ck_assert_int_eq(wrmsr(&c, 0, 0x6e0, 6000), 0);
    ck_assert_int_eq(rdmsr(&c, 0, 0x6e0, &value), 0);
    ck_assert_uint_eq(value, 6000);
    timers_advance(c.timers, 999);
    ck_assert_int_eq(acknowledge(&c, 0), -1);
    timers_advance(c.timers, 1000);
    ck_assert_int_eq(acknowledge(&c, 0), 0x60);
    ck_assert_int_eq(rdmsr(&c, 0, 0x6e0, &value), 0);
    ck_assert_uint_eq(value, 0);
    lapic_out(&c, 0, LAPIC_EOI, 0);
    ck_assert_int_eq(wrmsr(&c, 0, 0x6e0, 9000), 0);
    ck_assert_int_eq(wrmsr(&c, 0, 0x6e0, 0), 0); /* disarms */
    timers_advance(c.timers, 100000);
    ck_assert_int_eq(acknowledge(&c, 0), -1);
    chips_free(&c);
}
END_TEST

START_TEST(x2apic_registers_and_messages)
{
    struct chips c;
    uint64_t value;

    chips_make(&c);
    ck_assert_int_eq(rdmsr(&c, 0, MSR(LAPIC_ID), &value), -EINVAL); /* xAPIC still */
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(wrmsr(&c, i, 0x1b, 0xfee00c00 | (i ? 0 : 0x100)), 0);
        ck_assert_int_eq(wrmsr(&c, i, MSR(LAPIC_SVR), 0x1ff), 0);
    }
    ck_assert_uint_eq(lapic_in(&c, 0, LAPIC_ID), 0xffffffff); /* the window is gone */
    ck_assert_int_eq(rdmsr(&c, 1, MSR(LAPIC_ID), &value), 0);
    ck_assert_uint_eq(value, 1);
    ck_assert_int_eq(rdmsr(&c, 1, MSR(LAPIC_LDR), &value), 0);
    ck_assert_uint_eq(value, 2);
    ck_assert_int_eq(wrmsr(&c, 0, MSR(LAPIC_ICR_LOW), UINT64_C(1) << 32 | 0x51), 0);
    ck_assert_int_eq(acknowledge(&c, 1), 0x51);
    ck_assert_int_eq(wrmsr(&c, 0, MSR(LAPIC_ICR_LOW), UINT64_C(3) << 32 | 0x861), 0);
    ck_assert_int_eq(acknowledge(&c, 1), 0x61);
    ck_assert_int_eq(wrmsr(&c, 1, MSR(LAPIC_SELF_IPI), 0x72), 0);
    ck_assert_int_eq(acknowledge(&c, 1), 0x72);
    ck_assert_int_eq(wrmsr(&c, 1, MSR(LAPIC_EOI), 0), 0);

    ck_assert_int_eq(wrmsr(&c, 0, MSR(LAPIC_EOI), 1), -EINVAL);
    ck_assert_int_eq(wrmsr(&c, 0, MSR(LAPIC_ID), 0), -EINVAL);
    ck_assert_int_eq(wrmsr(&c, 0, MSR(LAPIC_DFR), 0), -EINVAL);
    ck_assert_int_eq(wrmsr(&c, 0, MSR(LAPIC_ICR_HIGH), 0), -EINVAL);
    ck_assert_int_eq(wrmsr(&c, 0, MSR(LAPIC_TPR), 0x100), -EINVAL);
    ck_assert_int_eq(rdmsr(&c, 0, MSR(LAPIC_EOI), &value), -EINVAL);
    ck_assert_int_eq(rdmsr(&c, 0, 0x8ff, &value), -EINVAL);
    chips_free(&c);
}
END_TEST

START_TEST(mode_switches_follow_the_state_diagram)
{
    struct chips c;

    chips_make(&c);
    ck_assert_int_eq(wrmsr(&c, 1, 0x1b, 0xfee00400), -EINVAL); /* EXTD without EN */
    ck_assert_int_eq(wrmsr(&c, 1, 0x1b, 0xfee00000), 0);       /* off */
    ck_assert_uint_eq(lapic_in(&c, 1, LAPIC_ID), 0xffffffff);
    ck_assert_int_eq(wrmsr(&c, 1, 0x1b, 0xfee00c00), -EINVAL); /* off to x2APIC */
    ck_assert_int_eq(wrmsr(&c, 1, 0x1b, 0xfee00800), 0);
    ck_assert_int_eq(wrmsr(&c, 1, 0x1b, 0xfee00c00), 0);
    ck_assert_int_eq(wrmsr(&c, 1, 0x1b, 0xfee00800), -EINVAL); /* x2APIC to xAPIC */
    ck_assert_int_eq(wrmsr(&c, 1, 0x1b, 0xfee00801), -EINVAL); /* reserved bit */
    ck_assert_int_eq(wrmsr(&c, 1, 0x1b, 0xfed00c00), -EINVAL); /* elsewhere */
    ck_assert_int_eq(wrmsr(&c, 1, 0x1b, 0xfee00000), 0);
    chips_free(&c);
}
END_TEST

START_TEST(saved_state_goes_on_where_it_was)
{
    struct chips a, b;
    static struct irqchip_state state;

    chips_make(&a);
    chips_make(&b);
    lapics_enable(&a);
    pic_setup(&a, 1);
    self_ipi(&a, 0, 0x45);
    ck_assert_int_eq(acknowledge(&a, 0), 0x45);
    self_ipi(&a, 0, 0x46);
    lapic_out(&a, 1, LAPIC_TIMER_DIVIDE, 0xb);
    lapic_out(&a, 1, LAPIC_LVT_TIMER, 0x50);
    lapic_out(&a, 1, LAPIC_TIMER_INITIAL, 1000000);
    timers_advance(a.timers, 400000);
    irqchip_save(a.chip, &state);
    timers_advance(b.timers, 7000000);
    ck_assert_int_eq(irqchip_load(b.chip, &state, NULL), 0);
    ck_assert_int_eq(acknowledge(&b, 0), -1);
    lapic_out(&b, 0, LAPIC_EOI, 0);
    ck_assert_int_eq(acknowledge(&b, 0), 0x46);
    timers_advance(b.timers, 7599999);
    ck_assert_int_eq(acknowledge(&b, 1), -1);
    timers_advance(b.timers, 7600000);
    ck_assert_int_eq(acknowledge(&b, 1), 0x50);
    ck_assert_uint_eq(in8(&b, 0x21), 0);
    state.nr_cpus = 1;
    ck_assert_int_eq(irqchip_load(b.chip, &state, NULL), -EINVAL);
    chips_free(&a);
    chips_free(&b);
}
END_TEST

TEST_MAIN("lapic", tcase_add_test(tcase, reset_values);
          tcase_add_test(tcase, priority_classes_nest);
          tcase_add_test(tcase, task_priority_holds_back_and_cr8_is_it);
          tcase_add_test(tcase, interprocessor_interrupts_reach_their_destinations);
          tcase_add_test(tcase, init_and_start_up);
          tcase_add_test(tcase, software_disabled_takes_no_fixed_interrupt);
          tcase_add_test(tcase, errors_are_latched_by_a_write);
          tcase_add_test(tcase, timer_one_shot_and_periodic);
          tcase_add_test(tcase, timer_tsc_deadline);
          tcase_add_test(tcase, x2apic_registers_and_messages);
          tcase_add_test(tcase, mode_switches_follow_the_state_diagram);
          tcase_add_test(tcase, saved_state_goes_on_where_it_was))
