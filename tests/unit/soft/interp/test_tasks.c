/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware task switches: JMP, CALL, IRET, task gates; busy bits, links, faults before and behind
 * the commit. */
#include "../cpu_fixture.h"
#include "testing.h"

#define TSS2     0x6000u
#define TSS16    0x7000u
#define SEL_TSS2 SEL_FREE
#define SEL_GATE (SEL_FREE + 8)
#define SEL_TSS3 (SEL_FREE + 16)

static uint8_t type_of(struct fixture *f, uint16_t selector)
{
    return peek(f, FIXTURE_GDT + selector + 5, 1) & 0xf;
}

static struct fixture *prepared(void)
{
    static const uint16_t segments[] = {SEL_DATA0, SEL_CODE0, SEL_DATA0, SEL_DATA0, 0, 0};
    struct fixture *f = fixture_new();

    fixture_protected(f, 0);
    fixture_descriptor(f, FIXTURE_GDT + SEL_TSS2, TSS2, 0x67, 0x89);
    fixture_gate(f, FIXTURE_GDT + SEL_GATE, SEL_TSS2, 0, SYSTEM_TASK_GATE, 0, 0);
    poke(f, TSS2 + 32, 0x4444, 4); /* EIP */
    poke(f, TSS2 + 36, CPU_FLAG_ONE | CPU_FLAG_CF, 4);
    for (unsigned i = 0; i < 8; i++)
        poke(f, TSS2 + 40 + 4 * i, 0x100 + i, 4);
    poke(f, TSS2 + 56, FIXTURE_IST1, 4); /* ESP */
    for (unsigned i = 0; i < 6; i++)
        poke(f, TSS2 + 72 + 4 * i, segments[i], 2);
    return f;
}

START_TEST(jump)
{
    struct fixture *f = prepared();
    struct soft_cpu *cpu = f->cpu;

    cpu->gpr[CPU_RBX] = 0x5555;
    ck_assert_int_eq(fixture_run(f, "ea 00 00 00 00 68 00"), SOFT_OK);
    ck_assert_uint_eq(cpu->rip, 0x4444);
    ck_assert_uint_eq(cpu->tr.selector, SEL_TSS2);
    ck_assert_uint_eq(cpu->gpr[CPU_RCX], 0x101);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_IST1);
    ck_assert_uint_eq(cpu->rflags, CPU_FLAG_ONE | CPU_FLAG_CF);
    ck_assert_uint_ne(cpu->cr0 & CPU_CR0_TS, 0);
    ck_assert_uint_eq(type_of(f, SEL_TSS2), SYSTEM_TSS_BUSY);
    ck_assert_uint_eq(type_of(f, SEL_TSS), SYSTEM_TSS);
    ck_assert_uint_eq(peek(f, FIXTURE_TSS + 32, 4), FIXTURE_CODE + 7);
    ck_assert_uint_eq(peek(f, FIXTURE_TSS + 40 + 4 * CPU_RBX, 4), 0x5555);
    ck_assert_uint_ne(cpu->segment[CPU_FS].attributes & CPU_SEGMENT_UNUSABLE, 0);
    /* and back, by its TSS */
    ck_assert_int_eq(fixture_run(f, "ea 00 00 00 00 30 00"), SOFT_OK);
    ck_assert_uint_eq(cpu->rip, FIXTURE_CODE + 7);
    ck_assert_uint_eq(cpu->gpr[CPU_RBX], 0x5555);
    ck_assert_uint_eq(type_of(f, SEL_TSS2), SYSTEM_TSS);
    fixture_free(f);
}
END_TEST

START_TEST(call_through_gate_and_iret)
{
    struct fixture *f = prepared();
    struct soft_cpu *cpu = f->cpu;

    ck_assert_int_eq(fixture_run(f, "9a 00 00 00 00 70 00"), SOFT_OK);
    ck_assert_uint_eq(cpu->rip, 0x4444);
    ck_assert_uint_ne(cpu->rflags & CPU_FLAG_NT, 0);
    ck_assert_uint_eq(peek(f, TSS2, 2), SEL_TSS); /* link */
    ck_assert_uint_eq(type_of(f, SEL_TSS), SYSTEM_TSS_BUSY);
    ck_assert_int_eq(fixture_run(f, "9a 00 00 00 00 70 00"), SOFT_FAULT); /* busy: no recursion */
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_GP);
    ck_assert_uint_eq(cpu->fault.error, SEL_TSS2);
    ck_assert_int_eq(fixture_run(f, "cf"), SOFT_OK);
    ck_assert_uint_eq(cpu->rip, FIXTURE_CODE + 7);
    ck_assert_uint_eq(cpu->rflags & CPU_FLAG_NT, 0);
    ck_assert_uint_eq(type_of(f, SEL_TSS2), SYSTEM_TSS);
    ck_assert_uint_eq(peek(f, TSS2 + 36, 4) & CPU_FLAG_NT, 0);
    ck_assert_uint_eq(peek(f, TSS2 + 32, 4), 0x4445); /* continues behind its IRET */
    fixture_free(f);
}
END_TEST

START_TEST(exception_through_task_gate)
{
    struct fixture *f = prepared();
    struct soft_cpu *cpu = f->cpu;

    fixture_idt(f, CPU_VECTOR_DF, SEL_TSS2, 0, SYSTEM_TASK_GATE, 0, 0);
    ck_assert_int_eq(interrupt_deliver(cpu, CPU_VECTOR_DF, SOFT_EVENT_EXCEPTION, true, 0x77),
                     SOFT_OK);
    ck_assert_uint_eq(cpu->rip, 0x4444);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_IST1 - 4);
    ck_assert_uint_eq(peek(f, FIXTURE_IST1 - 4, 4), 0x77);
    ck_assert_uint_eq(peek(f, FIXTURE_TSS + 32, 4), FIXTURE_CODE);
    fixture_free(f);
}
END_TEST

START_TEST(fault_in_the_new_task)
{
    struct fixture *f = prepared();
    struct soft_cpu *cpu = f->cpu;

    poke(f, TSS2 + 72 + 4 * CPU_ES, SEL_TSS, 2); /* not a data segment */
    ck_assert_int_eq(fixture_run(f, "ea 00 00 00 00 68 00"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_TS);
    ck_assert_uint_eq(cpu->fault.error, SEL_TSS);
    ck_assert_uint_eq(cpu->rip, 0x4444); /* the new task's */
    ck_assert_uint_eq(cpu->tr.selector, SEL_TSS2);
    fixture_free(f);
}
END_TEST

START_TEST(fault_before_the_switch)
{
    struct fixture *f = prepared();
    struct soft_cpu *cpu = f->cpu;

    fixture_descriptor(f, FIXTURE_GDT + SEL_TSS2, TSS2, 0x66, 0x89); /* a byte short */
    ck_assert_int_eq(fixture_run(f, "ea 00 00 00 00 68 00"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_TS);
    fixture_descriptor(f, FIXTURE_GDT + SEL_TSS2, TSS2, 0x67, 0x09);
    ck_assert_int_eq(fixture_run(f, "ea 00 00 00 00 68 00"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_NP);
    ck_assert_uint_eq(cpu->tr.selector, SEL_TSS);
    ck_assert_uint_eq(cpu->rip, FIXTURE_CODE);
    fixture_free(f);
}
END_TEST

START_TEST(task16)
{
    struct fixture *f = prepared();
    struct soft_cpu *cpu = f->cpu;

    fixture_descriptor(f, FIXTURE_GDT + SEL_TSS3, TSS16, 0x2b, 0x81);
    poke(f, TSS16 + 14, 0x1234, 2);
    poke(f, TSS16 + 16, CPU_FLAG_ONE, 2);
    poke(f, TSS16 + 18, 0xaaaa, 2);
    poke(f, TSS16 + 26, 0x8000, 2);
    poke(f, TSS16 + 34, SEL_DATA16, 2);
    poke(f, TSS16 + 36, SEL_CODE16, 2);
    poke(f, TSS16 + 38, SEL_DATA16, 2);
    poke(f, TSS16 + 40, SEL_DATA16, 2);
    ck_assert_int_eq(fixture_run(f, "ea 00 00 00 00 78 00"), SOFT_OK);
    ck_assert_uint_eq(cpu->rip, 0x1234);
    ck_assert_uint_eq(cpu->gpr[CPU_RAX], 0xaaaa);
    ck_assert_uint_eq(cpu->code_mode, INSN_MODE_16);
    ck_assert_uint_eq(cpu->stack_size, 2);
    ck_assert_uint_eq(type_of(f, SEL_TSS3), SYSTEM_TSS16_BUSY);
    fixture_free(f);
}
END_TEST

/* Into virtual-8086 mode by its EFLAGS. */
START_TEST(task_to_v86)
{
    struct fixture *f = prepared();
    struct soft_cpu *cpu = f->cpu;

    poke(f, TSS2 + 36, CPU_FLAG_ONE | CPU_FLAG_VM, 4);
    poke(f, TSS2 + 72 + 4 * CPU_CS, 0x1234, 2);
    ck_assert_int_eq(fixture_run(f, "ea 00 00 00 00 68 00"), SOFT_OK);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_V86);
    ck_assert_uint_eq(cpu->segment[CPU_CS].base, 0x12340);
    ck_assert_uint_eq(cpu->cpl, 3);
    fixture_free(f);
}
END_TEST

START_TEST(no_tasks_in_long_mode)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 0);
    poke(f, 0xc000, (uint64_t)SEL_TSS << 32, 6);
    cpu->gpr[CPU_RDI] = 0xc000;
    ck_assert_int_eq(fixture_run(f, "ff 2f"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.error, SEL_TSS);
    cpu->rflags |= CPU_FLAG_NT;
    ck_assert_int_eq(fixture_run(f, "48 cf"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.error, 0);
    fixture_free(f);
}
END_TEST

TEST_MAIN("soft tasks", tcase_add_test(tcase, jump);
          tcase_add_test(tcase, call_through_gate_and_iret);
          tcase_add_test(tcase, exception_through_task_gate);
          tcase_add_test(tcase, fault_in_the_new_task);
          tcase_add_test(tcase, fault_before_the_switch); tcase_add_test(tcase, task16);
          tcase_add_test(tcase, task_to_v86); tcase_add_test(tcase, no_tasks_in_long_mode);)
