/* SPDX-License-Identifier: Apache-2.0 */
/* Delivery of exceptions and interrupts: the frame in each mode, faults in delivery, IRET back. */
#include "../cpu_fixture.h"
#include "testing.h"

#define HANDLER 0x12340u

static void expect_fault(struct fixture *f, enum cpu_vector vector, uint32_t error)
{
    ck_assert_uint_eq(f->cpu->fault.vector, vector);
    ck_assert_uint_eq(f->cpu->fault.error, error);
}

START_TEST(real_mode)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_real(f);
    poke(f, 0x21 * 4, 0x20001234, 4); /* 2000:1234 */
    cpu->rflags |= CPU_FLAG_IF | CPU_FLAG_CF | CPU_FLAG_TF;
    cpu->rip = 0x55;
    cpu->next_rip = 0x57;
    ck_assert_int_eq(interrupt_deliver(cpu, 0x21, SOFT_EVENT_SOFTWARE_INTERRUPT, false, 0),
                     SOFT_OK);
    ck_assert_uint_eq(cpu->rip, 0x1234);
    ck_assert_uint_eq(cpu->segment[CPU_CS].base, 0x20000);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_STACK0 - 6);
    ck_assert_uint_eq(peek(f, FIXTURE_STACK0 - 6, 2), 0x57);
    ck_assert_uint_eq(peek(f, FIXTURE_STACK0 - 4, 2), FIXTURE_CODE >> 4);
    ck_assert_uint_eq(peek(f, FIXTURE_STACK0 - 2, 2), 0x303);
    ck_assert_uint_eq(cpu->rflags & (CPU_FLAG_IF | CPU_FLAG_TF), 0);
    ck_assert_int_eq(fixture_run(f, "cf"), SOFT_OK); /* iret */
    ck_assert_uint_eq(cpu->rip, 0x57);
    ck_assert_uint_eq(cpu->segment[CPU_CS].base, FIXTURE_CODE);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_STACK0);
    ck_assert_uint_eq(cpu->rflags, 0x303);
    fixture_free(f);
}
END_TEST

START_TEST(protected_same_level)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    gpa_t sp = FIXTURE_STACK0;

    fixture_protected(f, 0);
    fixture_idt(f, CPU_VECTOR_GP, SEL_CODE0, HANDLER, SYSTEM_TRAP_GATE, 0, 0);
    cpu->rflags |= CPU_FLAG_IF;
    ck_assert_int_eq(interrupt_deliver(cpu, CPU_VECTOR_GP, SOFT_EVENT_EXCEPTION, true, 0x48),
                     SOFT_OK);
    ck_assert_uint_eq(cpu->rip, HANDLER);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], sp - 16);
    ck_assert_uint_eq(peek(f, sp - 16, 4), 0x48);
    ck_assert_uint_eq(peek(f, sp - 12, 4), FIXTURE_CODE);
    ck_assert_uint_eq(peek(f, sp - 8, 4), SEL_CODE0);
    ck_assert_uint_eq(peek(f, sp - 4, 4), CPU_FLAG_ONE | CPU_FLAG_IF | CPU_FLAG_RF);
    ck_assert_uint_ne(cpu->rflags & CPU_FLAG_IF, 0); /* trap gate */
    fixture_free(f);
}
END_TEST

START_TEST(protected_inner_level_and_back)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    gpa_t sp = FIXTURE_STACK0;

    fixture_protected(f, 3);
    fixture_idt(f, 0x80, SEL_CODE0, HANDLER, SYSTEM_INTERRUPT_GATE, 3, 0);
    cpu->rflags |= CPU_FLAG_IF;
    cpu->next_rip = cpu->rip + 2;
    ck_assert_int_eq(interrupt_deliver(cpu, 0x80, SOFT_EVENT_SOFTWARE_INTERRUPT, false, 0),
                     SOFT_OK);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_uint_eq(cpu->segment[CPU_CS].selector, SEL_CODE0);
    ck_assert_uint_eq(cpu->segment[CPU_SS].selector, SEL_DATA0);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], sp - 20);
    ck_assert_uint_eq(peek(f, sp - 20, 4), FIXTURE_CODE + 2);
    ck_assert_uint_eq(peek(f, sp - 16, 4), SEL_CODE3);
    ck_assert_uint_eq(peek(f, sp - 8, 4), FIXTURE_STACK3);
    ck_assert_uint_eq(peek(f, sp - 4, 4), SEL_DATA3);
    ck_assert_uint_eq(cpu->rflags & CPU_FLAG_IF, 0);
    cpu->segment[CPU_DS] = cpu->segment[CPU_SS]; /* privileged: dropped by the return */
    ck_assert_int_eq(fixture_run(f, "cf"), SOFT_OK);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->rip, FIXTURE_CODE + 2);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_STACK3);
    ck_assert_uint_ne(cpu->rflags & CPU_FLAG_IF, 0);
    ck_assert_uint_ne(cpu->segment[CPU_DS].attributes & CPU_SEGMENT_UNUSABLE, 0);
    ck_assert_uint_eq(cpu->segment[CPU_ES].selector, SEL_DATA3);
    fixture_free(f);
}
END_TEST

START_TEST(gate16)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_protected(f, 0);
    fixture_idt(f, 0x40, SEL_CODE0, 0xdead4321, SYSTEM_INTERRUPT_GATE16, 0, 0);
    ck_assert_int_eq(interrupt_deliver(cpu, 0x40, SOFT_EVENT_EXTERNAL, false, 0), SOFT_OK);
    ck_assert_uint_eq(cpu->rip, 0x4321);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_STACK0 - 6);
    fixture_free(f);
}
END_TEST

START_TEST(v86_to_monitor_and_back)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    gpa_t sp = FIXTURE_STACK0;

    fixture_v86(f, 3);
    fixture_idt(f, CPU_VECTOR_GP, SEL_CODE0, HANDLER, SYSTEM_INTERRUPT_GATE, 0, 0);
    segment_set_real(cpu, CPU_GS, 0x7777);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_int_eq(interrupt_deliver(cpu, CPU_VECTOR_GP, SOFT_EVENT_EXCEPTION, true, 0), SOFT_OK);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_PROTECTED);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], sp - 40);
    ck_assert_uint_eq(peek(f, sp - 4, 4), 0x7777);
    ck_assert_uint_eq(peek(f, sp - 24, 4), 0x100);
    ck_assert_uint_ne(peek(f, sp - 28, 4) & CPU_FLAG_VM, 0);
    ck_assert_uint_ne(cpu->segment[CPU_DS].attributes & CPU_SEGMENT_UNUSABLE, 0);
    cpu->gpr[CPU_RSP] += 4; /* the error code */
    ck_assert_int_eq(fixture_run(f, "cf"), SOFT_OK);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_V86);
    ck_assert_uint_eq(cpu->segment[CPU_GS].base, 0x77770);
    ck_assert_uint_eq(cpu->segment[CPU_CS].base, FIXTURE_CODE);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], 0x100);
    fixture_free(f);
}
END_TEST

START_TEST(v86_iret_needs_iopl)
{
    struct fixture *f = fixture_new();

    fixture_v86(f, 2);
    ck_assert_int_eq(fixture_run(f, "cf"), SOFT_FAULT);
    expect_fault(f, CPU_VECTOR_GP, 0);
    fixture_free(f);
}
END_TEST

START_TEST(long_from_user_and_back)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    gpa_t sp = FIXTURE_STACK0;

    fixture_long(f, 3);
    cpu->segment[CPU_FS].base = UINT64_C(0x7fff12345678);
    segment_set_null(&cpu->segment[CPU_GS], 0, 0);
    cpu->segment[CPU_GS].base = 0x4444;
    fixture_idt(f, CPU_VECTOR_PF, SEL_CODE0, HANDLER, SYSTEM_INTERRUPT_GATE, 0, 0);
    cpu->gpr[CPU_RSP] = FIXTURE_STACK3 + 3;
    fault_raise_page(cpu, 0x1234567, 6);
    ck_assert_int_eq(interrupt_deliver(cpu, CPU_VECTOR_PF, SOFT_EVENT_EXCEPTION, true, 6), SOFT_OK);
    ck_assert_uint_eq(cpu->cr2, 0x1234567);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_uint_eq(cpu->segment[CPU_SS].selector, 0);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], sp - 48);
    ck_assert_uint_eq(peek(f, sp - 48, 8), 6);
    ck_assert_uint_eq(peek(f, sp - 40, 8), FIXTURE_CODE);
    ck_assert_uint_eq(peek(f, sp - 32, 8), SEL_CODE3);
    ck_assert_uint_eq(peek(f, sp - 16, 8), FIXTURE_STACK3 + 3);
    ck_assert_uint_eq(peek(f, sp - 8, 8), SEL_DATA3);
    cpu->gpr[CPU_RSP] += 8;
    ck_assert_int_eq(fixture_run(f, "48 cf"), SOFT_OK);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_STACK3 + 3);
    ck_assert_uint_eq(cpu->segment[CPU_FS].base, UINT64_C(0x7fff12345678));
    ck_assert_uint_eq(cpu->segment[CPU_GS].base, 0x4444);
    fixture_free(f);
}
END_TEST

START_TEST(long_ist_and_alignment)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 0);
    fixture_idt(f, CPU_VECTOR_NMI, SEL_CODE0, HANDLER, SYSTEM_INTERRUPT_GATE, 0, 1);
    fixture_idt(f, 0x30, SEL_CODE0, HANDLER, SYSTEM_INTERRUPT_GATE, 0, 0);
    ck_assert_int_eq(interrupt_deliver(cpu, CPU_VECTOR_NMI, SOFT_EVENT_EXTERNAL, false, 0),
                     SOFT_OK);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_IST1 - 40);
    ck_assert(cpu->nmi_blocked);
    ck_assert_int_eq(fixture_run(f, "48 cf"), SOFT_OK);
    ck_assert(!cpu->nmi_blocked);
    cpu->gpr[CPU_RSP] = FIXTURE_STACK0 - 5;
    ck_assert_int_eq(interrupt_deliver(cpu, 0x30, SOFT_EVENT_EXTERNAL, false, 0), SOFT_OK);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_STACK0 - 16 - 40);
    ck_assert_uint_eq(cpu->segment[CPU_SS].selector, SEL_DATA0); /* same level: SS stays */
    fixture_free(f);
}
END_TEST

START_TEST(compat_to_long)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 3);
    cpu->segment[CPU_CS].selector = SEL_CODE32;
    cpu->segment[CPU_CS].attributes = 0xc0fb;
    soft_cpu_update_mode(cpu);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_COMPAT);
    fixture_idt(f, 0x80, SEL_CODE0, UINT64_C(0xffffffff81000000), SYSTEM_INTERRUPT_GATE, 3, 0);
    cpu->next_rip = cpu->rip + 2;
    ck_assert_int_eq(interrupt_deliver(cpu, 0x80, SOFT_EVENT_SOFTWARE_INTERRUPT, false, 0),
                     SOFT_OK);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_LONG64);
    ck_assert_uint_eq(cpu->rip, UINT64_C(0xffffffff81000000));
    ck_assert_int_eq(fixture_run(f, "48 cf"), SOFT_OK);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_COMPAT);
    ck_assert_uint_eq(cpu->code_mode, INSN_MODE_32);
    fixture_free(f);
}
END_TEST

/* INT to a gate it may not use: #GP with the vector, at the INT. */
START_TEST(software_interrupt_dpl)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 3);
    fixture_idt(f, 0x81, SEL_CODE0, HANDLER, SYSTEM_INTERRUPT_GATE, 0, 0);
    fixture_idt(f, CPU_VECTOR_GP, SEL_CODE0, HANDLER + 1, SYSTEM_INTERRUPT_GATE, 0, 0);
    cpu->next_rip = cpu->rip + 2;
    ck_assert_int_eq(interrupt_deliver(cpu, 0x81, SOFT_EVENT_SOFTWARE_INTERRUPT, false, 0),
                     SOFT_OK);
    ck_assert_uint_eq(cpu->rip, HANDLER + 1);
    ck_assert_uint_eq(peek(f, cpu->gpr[CPU_RSP], 8), 0x81 * 8 + 2);
    ck_assert_uint_eq(peek(f, cpu->gpr[CPU_RSP] + 8, 8), FIXTURE_CODE);
    fixture_free(f);
}
END_TEST

/* first event, vector whose gate works, what arrives (0xff: triple fault) */
static const struct {
    uint8_t first;
    enum soft_event kind;
    uint8_t good, arrives;
    uint32_t error;
} compositions[] = {
    /* the IDT entry is not present: #NP with EXT */
    {0x50, SOFT_EVENT_EXTERNAL, CPU_VECTOR_NP, CPU_VECTOR_NP, 0x50 * 8 + 2 + 1},
    {0x50, SOFT_EVENT_SOFTWARE_INTERRUPT, CPU_VECTOR_NP, CPU_VECTOR_NP, 0x50 * 8 + 2},
    {CPU_VECTOR_UD, SOFT_EVENT_EXCEPTION, CPU_VECTOR_NP, CPU_VECTOR_NP, 6 * 8 + 3},
    {CPU_VECTOR_GP, SOFT_EVENT_EXCEPTION, CPU_VECTOR_DF, CPU_VECTOR_DF, 0},
    {CPU_VECTOR_PF, SOFT_EVENT_EXCEPTION, CPU_VECTOR_DF, CPU_VECTOR_DF, 0},
    {CPU_VECTOR_DE, SOFT_EVENT_EXCEPTION, CPU_VECTOR_DF, CPU_VECTOR_DF, 0},
    {CPU_VECTOR_UD, SOFT_EVENT_EXCEPTION, CPU_VECTOR_DF, CPU_VECTOR_DF, 0}, /* #UD, #NP, #NP */
    {CPU_VECTOR_GP, SOFT_EVENT_EXCEPTION, CPU_VECTOR_UD, 0xff, 0},
    {0x50, SOFT_EVENT_EXTERNAL, CPU_VECTOR_UD, 0xff, 0},
};

START_TEST(composition)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    enum soft_result result;

    fixture_long(f, 0);
    for (unsigned v = 0; v < 256; v++)
        poke(f, FIXTURE_IDT + v * 16, UINT64_C(0x0e0000080000), 8); /* type 14, P clear */
    fixture_idt(f, compositions[_i].good, SEL_CODE0, HANDLER, SYSTEM_INTERRUPT_GATE, 0, 0);
    result = interrupt_deliver(cpu, compositions[_i].first, compositions[_i].kind,
                               compositions[_i].kind == SOFT_EVENT_EXCEPTION, 0);
    if (compositions[_i].arrives == 0xff) {
        ck_assert_int_eq(result, SOFT_EXIT);
        ck_assert_uint_eq(cpu->exit.kind, CPU_EXIT_SHUTDOWN);
        ck_assert_uint_eq(cpu->rip, FIXTURE_CODE);
    } else {
        ck_assert_int_eq(result, SOFT_OK);
        ck_assert_uint_eq(cpu->rip, HANDLER);
        ck_assert_uint_eq(peek(f, cpu->gpr[CPU_RSP], 8), compositions[_i].error);
    }
    fixture_free(f);
}
END_TEST

/* The kernel stack is not mapped: #PF on #PF is #DF, on its own stack. */
START_TEST(page_fault_on_the_stack)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 0);
    fixture_idt(f, CPU_VECTOR_PF, SEL_CODE0, HANDLER, SYSTEM_INTERRUPT_GATE, 0, 0);
    fixture_idt(f, CPU_VECTOR_DF, SEL_CODE0, HANDLER + 8, SYSTEM_INTERRUPT_GATE, 0, 1);
    cpu->gpr[CPU_RSP] = UINT64_C(0x100000000010);
    fault_raise_page(cpu, 0x99, 0);
    ck_assert_int_eq(interrupt_deliver(cpu, CPU_VECTOR_PF, SOFT_EVENT_EXCEPTION, true, 0), SOFT_OK);
    ck_assert_uint_eq(cpu->rip, HANDLER + 8);
    ck_assert_uint_eq(cpu->cr2 >> 12, UINT64_C(0x100000000));
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_IST1 - 48);
    ck_assert_uint_eq(peek(f, FIXTURE_IST1 - 48 + 32, 8), UINT64_C(0x100000000010));
    fixture_free(f);
}
END_TEST

START_TEST(iret_checks)
{
    static const struct {
        uint64_t cs, ss, rip;
        uint32_t error;
    } frames[] = {
        {0, SEL_DATA0, 0x100, 0},
        {SEL_DATA0, SEL_DATA0, 0x100, SEL_DATA0},
        {SEL_CODE0 | 3, SEL_DATA3, 0x100, SEL_CODE0},
        {SEL_CODE3, SEL_DATA0, 0x100, SEL_DATA0},
        {SEL_CODE3, 0, 0x100, 0},
        {SEL_CODE0, SEL_DATA0, UINT64_C(0x800000000000), 0},
        {0x100, SEL_DATA0, 0x100, 0x100},
    };
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    gpa_t sp = FIXTURE_STACK0 - 40;

    fixture_long(f, 0);
    cpu->gpr[CPU_RSP] = sp;
    poke(f, sp, frames[_i].rip, 8);
    poke(f, sp + 8, frames[_i].cs, 8);
    poke(f, sp + 16, 2, 8);
    poke(f, sp + 24, FIXTURE_STACK3, 8);
    poke(f, sp + 32, frames[_i].ss, 8);
    ck_assert_int_eq(fixture_run(f, "48 cf"), SOFT_FAULT);
    expect_fault(f, CPU_VECTOR_GP, frames[_i].error);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], sp);
    ck_assert_uint_eq(cpu->segment[CPU_CS].selector, SEL_CODE0);
    ck_assert_uint_eq(cpu->cpl, 0);
    fixture_free(f);
}
END_TEST

/* IOPL and IF are not the user's to change. */
START_TEST(iret_flags_by_privilege)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    gpa_t sp = FIXTURE_STACK3 - 40;

    fixture_long(f, 3);
    cpu->gpr[CPU_RSP] = sp;
    cpu->rflags |= CPU_FLAG_IF;
    poke(f, sp, 0x100, 8);
    poke(f, sp + 8, SEL_CODE3, 8);
    poke(f, sp + 16, 0x3000 | CPU_FLAG_AC | CPU_FLAG_CF, 8);
    poke(f, sp + 24, FIXTURE_STACK3, 8);
    poke(f, sp + 32, SEL_DATA3, 8);
    ck_assert_int_eq(fixture_run(f, "48 cf"), SOFT_OK);
    ck_assert_uint_eq(cpu->rflags, CPU_FLAG_ONE | CPU_FLAG_IF | CPU_FLAG_AC | CPU_FLAG_CF);
    fixture_free(f);
}
END_TEST

TEST_MAIN(
    "soft events", tcase_add_test(tcase, real_mode); tcase_add_test(tcase, protected_same_level);
    tcase_add_test(tcase, protected_inner_level_and_back); tcase_add_test(tcase, gate16);
    tcase_add_test(tcase, v86_to_monitor_and_back); tcase_add_test(tcase, v86_iret_needs_iopl);
    tcase_add_test(tcase, long_from_user_and_back); tcase_add_test(tcase, long_ist_and_alignment);
    tcase_add_test(tcase, compat_to_long); tcase_add_test(tcase, software_interrupt_dpl);
    tcase_add_loop_test(tcase, composition, 0, ARRAY_LEN(compositions));
    tcase_add_test(tcase, page_fault_on_the_stack); tcase_add_loop_test(tcase, iret_checks, 0, 7);
    tcase_add_test(tcase, iret_flags_by_privilege);)
