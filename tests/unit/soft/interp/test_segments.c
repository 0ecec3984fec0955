/* SPDX-License-Identifier: Apache-2.0 */
/* Segment loads and their checks, limits, far transfers, call gates, SYSCALL, selectors' probes. */
#include "../cpu_fixture.h"
#include "testing.h"

/* MOV to a segment register of SEL_FREE with this descriptor at this CPL. */
static const struct {
    const char *bytes; /* with the selector in AX */
    uint32_t attributes;
    uint8_t cpl, rpl;
    int vector; /* -1: loads */
} loads[] = {
    {"8e d8", 0xc093, 0, 0, -1},            /* ds, data */
    {"8e d8", 0xc091, 0, 0, -1},            /* read-only */
    {"8e d8", 0xc09b, 0, 0, -1},            /* readable code */
    {"8e d8", 0xc099, 0, 0, CPU_VECTOR_GP}, /* execute-only */
    {"8e d8", 0xc093, 3, 3, CPU_VECTOR_GP}, /* DPL 0 from CPL 3 */
    {"8e d8", 0xc0f3, 3, 3, -1},
    {"8e d8", 0xc0b3, 0, 3, CPU_VECTOR_GP}, /* RPL 3 > DPL 1 */
    {"8e d8", 0xc09f, 3, 3, -1},            /* conforming code: anyone */
    {"8e d8", 0xc013, 0, 0, CPU_VECTOR_NP},
    {"8e d8", 0x0089, 0, 0, CPU_VECTOR_GP}, /* a TSS */
    {"8e d0", 0xc093, 0, 0, -1},            /* ss */
    {"8e d0", 0xc091, 0, 0, CPU_VECTOR_GP}, /* not writable */
    {"8e d0", 0xc0f3, 0, 0, CPU_VECTOR_GP}, /* DPL 3 */
    {"8e d0", 0xc093, 0, 3, CPU_VECTOR_GP}, /* RPL 3 */
    {"8e d0", 0xc013, 0, 0, CPU_VECTOR_SS},
    {"8e d0", 0xc09b, 0, 0, CPU_VECTOR_GP},
};

START_TEST(data_segment_loads)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint16_t before;

    fixture_protected(f, loads[_i].cpl);
    before = cpu->segment[CPU_DS].selector;
    fixture_descriptor(f, FIXTURE_GDT + SEL_FREE, 0x123456, 0xfff,
                       loads[_i].attributes & ~(CPU_SEGMENT_G | 1));
    cpu->gpr[CPU_RAX] = SEL_FREE | loads[_i].rpl;
    if (loads[_i].vector < 0) {
        unsigned segment = strcmp(loads[_i].bytes, "8e d8") ? CPU_SS : CPU_DS;

        ck_assert_int_eq(fixture_run(f, loads[_i].bytes), SOFT_OK);
        ck_assert_uint_eq(cpu->segment[segment].base, 0x123456);
        ck_assert_uint_eq(cpu->segment[segment].limit, 0xfff);
        ck_assert_uint_eq(peek(f, FIXTURE_GDT + SEL_FREE + 5, 1) & 1, 1); /* accessed */
        ck_assert(!cpu->flat_segments);
        ck_assert(cpu->interrupt_shadow == (segment == CPU_SS));
    } else {
        ck_assert_int_eq(fixture_run(f, loads[_i].bytes), SOFT_FAULT);
        ck_assert_uint_eq(cpu->fault.vector, (unsigned)loads[_i].vector);
        ck_assert_uint_eq(cpu->fault.error, SEL_FREE);
        ck_assert_uint_eq(cpu->segment[CPU_DS].selector, before);
    }
    fixture_free(f);
}
END_TEST

START_TEST(null_selectors)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint32_t value;

    fixture_protected(f, 0);
    cpu->gpr[CPU_RAX] = 3;
    ck_assert_int_eq(fixture_run(f, "8e d8"), SOFT_OK);
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0, &value), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_GP);
    ck_assert_int_eq(fixture_run(f, "8e d0"), SOFT_FAULT);
    fixture_long(f, 0);
    cpu->gpr[CPU_RAX] = 0;
    ck_assert_int_eq(fixture_run(f, "8e d0"), SOFT_OK); /* 64-bit mode at CPL 0 */
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_int_eq(mmu_load32(cpu, CPU_SS, 0x1000, &value), SOFT_OK);
    fixture_long(f, 3);
    ck_assert_int_eq(fixture_run(f, "8e d0"), SOFT_FAULT);
    fixture_free(f);
}
END_TEST

START_TEST(beyond_the_table)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_protected(f, 0);
    cpu->gdtr.limit = SEL_FREE + 6; /* one byte short */
    fixture_descriptor(f, FIXTURE_GDT + SEL_FREE, 0, 0xfff, 0x4092);
    cpu->gpr[CPU_RAX] = SEL_FREE;
    ck_assert_int_eq(fixture_run(f, "8e c0"), SOFT_FAULT);
    cpu->gdtr.limit++;
    ck_assert_int_eq(fixture_run(f, "8e c0"), SOFT_OK);
    cpu->gpr[CPU_RAX] = 4; /* LDT without one */
    ck_assert_int_eq(fixture_run(f, "8e c0"), SOFT_FAULT);
    cpu->gpr[CPU_RAX] = SEL_LDT;
    ck_assert_int_eq(fixture_run(f, "0f 00 d0"), SOFT_OK); /* lldt */
    fixture_descriptor(f, FIXTURE_LDT, 0x77000, 0xfff, 0x4092);
    cpu->gpr[CPU_RAX] = 4;
    ck_assert_int_eq(fixture_run(f, "8e c0"), SOFT_OK);
    ck_assert_uint_eq(cpu->segment[CPU_ES].base, 0x77000);
    fixture_free(f);
}
END_TEST

START_TEST(limits)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    struct cpu_segment *ds = &cpu->segment[CPU_DS];
    uint32_t value;

    fixture_protected(f, 0);
    *ds = (struct cpu_segment){.base = 0x20000, .limit = 0xfff, .attributes = 0x4093};
    soft_cpu_update_mode(cpu);
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0xffc, &value), SOFT_OK);
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0xffd, &value), SOFT_FAULT);
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0xfffffffe, &value), SOFT_FAULT);
    ds->attributes = 0x4097; /* expand-down */
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0xfff, &value), SOFT_FAULT);
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0x1000, &value), SOFT_OK);
    ds->attributes = 0x0097; /* up to 64 KiB */
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0xfffd, &value), SOFT_FAULT);
    ds->attributes = 0x4091;
    ck_assert_int_eq(mmu_store32(cpu, CPU_DS, 0, 1), SOFT_FAULT);
    ck_assert_int_eq(mmu_store32(cpu, CPU_CS, 0x20000, 1), SOFT_FAULT);
    cpu->segment[CPU_SS].limit = 0xff;
    soft_cpu_update_mode(cpu);
    ck_assert_int_eq(mmu_load32(cpu, CPU_SS, 0x100, &value), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_SS);
    fixture_long(f, 0);
    ck_assert_int_eq(mmu_load32(cpu, CPU_SS, UINT64_C(0x800000000000), &value), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_SS);
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, UINT64_C(0x7ffffffffffe), &value), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_GP);
    fixture_free(f);
}
END_TEST

START_TEST(far_jumps)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_real(f);
    ck_assert_int_eq(fixture_run(f, "ea 34 12 00 30"), SOFT_OK); /* ljmp 3000:1234 */
    ck_assert_uint_eq(cpu->segment[CPU_CS].base, 0x30000);
    ck_assert_uint_eq(cpu->rip, 0x1234);
    fixture_protected(f, 0);
    ck_assert_int_eq(fixture_run(f, "ea 78 56 34 00 50 00"), SOFT_FAULT); /* beyond the limit */
    ck_assert_uint_eq(cpu->fault.error, 0);
    ck_assert_int_eq(fixture_run(f, "ea 78 56 00 00 50 00"), SOFT_OK);
    ck_assert_uint_eq(cpu->code_mode, INSN_MODE_16);
    fixture_protected(f, 0);
    ck_assert_int_eq(fixture_run(f, "ea 78 56 00 00 1b 00"), SOFT_FAULT); /* DPL 3 */
    ck_assert_uint_eq(cpu->fault.error, SEL_CODE3 & ~3u);
    ck_assert_int_eq(fixture_run(f, "ea 78 56 00 00 10 00"), SOFT_FAULT); /* data */
    fixture_protected(f, 3);
    ck_assert_int_eq(fixture_run(f, "ea 78 56 00 00 60 00"), SOFT_OK); /* conforming */
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->segment[CPU_CS].selector, SEL_CONFORMING | 3);
    fixture_free(f);
}
END_TEST

/* Real to protected to long mode and back, as a boot loader does it. */
START_TEST(mode_switches)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint64_t cr3;

    fixture_long(f, 0); /* tables and GDT */
    cr3 = cpu->cr3;
    fixture_real(f);
    poke(f, 0x600, 0xff, 2);
    poke(f, 0x602, FIXTURE_GDT, 4);
    ck_assert_int_eq(fixture_run(f, "66 0f 01 16 00 06"), SOFT_OK); /* lgdt */
    ck_assert_uint_eq(cpu->gdtr.base, FIXTURE_GDT);
    cpu->gpr[CPU_RAX] = cpu->cr0 | CPU_CR0_PE;
    ck_assert_int_eq(fixture_run(f, "0f 22 c0"), SOFT_OK);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_PROTECTED);
    ck_assert_uint_eq(cpu->code_mode, INSN_MODE_16);
    ck_assert_uint_eq(cpu->cpl, 0);
    fixture_descriptor(f, FIXTURE_GDT + SEL_FREE, 0, 0xffffffff, 0xc09b);
    ck_assert_int_eq(fixture_run(f, "66 ea 00 00 01 00 68 00"), SOFT_OK);
    ck_assert_uint_eq(cpu->code_mode, INSN_MODE_32);
    cpu->gpr[CPU_RAX] = CPU_CR4_PAE;
    ck_assert_int_eq(fixture_run(f, "0f 22 e0"), SOFT_OK);
    cpu->gpr[CPU_RAX] = cr3;
    ck_assert_int_eq(fixture_run(f, "0f 22 d8"), SOFT_OK);
    cpu->gpr[CPU_RCX] = 0xc0000080;
    cpu->gpr[CPU_RAX] = CPU_EFER_LME;
    cpu->gpr[CPU_RDX] = 0;
    ck_assert_int_eq(fixture_run(f, "0f 30"), SOFT_OK);
    cpu->gpr[CPU_RAX] = cpu->cr0 | CPU_CR0_PG;
    ck_assert_int_eq(fixture_run(f, "0f 22 c0"), SOFT_OK);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_COMPAT);
    ck_assert_uint_ne(cpu->efer & CPU_EFER_LMA, 0);
    ck_assert_int_eq(fixture_run(f, "ea 00 00 01 00 08 00"), SOFT_OK);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_LONG64);
    ck_assert_uint_eq(cpu->stack_size, 8);
    cpu->gpr[CPU_RAX] = cpu->cr0 & ~CPU_CR0_PG;
    ck_assert_int_eq(fixture_run(f, "0f 22 c0"), SOFT_FAULT); /* not from 64-bit mode */
    poke(f, 0xc000, UINT64_C(0x0068000a0000), 6);
    cpu->gpr[CPU_RDI] = 0xc000;
    ck_assert_int_eq(fixture_run(f, "ff 2f"), SOFT_OK); /* ljmp *(%rdi) */
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_COMPAT);
    cpu->gpr[CPU_RAX] = cpu->cr0 & ~CPU_CR0_PG;
    ck_assert_int_eq(fixture_run(f, "0f 22 c0"), SOFT_OK);
    ck_assert_uint_eq(cpu->efer & CPU_EFER_LMA, 0);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_PROTECTED);
    cpu->gpr[CPU_RAX] = cpu->cr0 & ~CPU_CR0_PE;
    ck_assert_int_eq(fixture_run(f, "0f 22 c0"), SOFT_OK);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_REAL);
    fixture_free(f);
}
END_TEST

START_TEST(call_gate_to_ring0_and_back)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    gpa_t sp = FIXTURE_STACK0;

    fixture_protected(f, 3);
    fixture_gate(f, FIXTURE_GDT + SEL_FREE, SEL_CODE0, 0x5678, SYSTEM_CALL_GATE, 3, 2);
    poke(f, FIXTURE_STACK3 - 8, 0x11111111, 4);
    poke(f, FIXTURE_STACK3 - 4, 0x22222222, 4);
    cpu->gpr[CPU_RSP] = FIXTURE_STACK3 - 8;
    ck_assert_int_eq(fixture_run(f, "9a 00 00 00 00 6b 00"), SOFT_OK);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_uint_eq(cpu->rip, 0x5678);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], sp - 24);
    ck_assert_uint_eq(peek(f, sp - 24, 4), FIXTURE_CODE + 7);
    ck_assert_uint_eq(peek(f, sp - 20, 4), SEL_CODE3);
    ck_assert_uint_eq(peek(f, sp - 16, 4), 0x11111111);
    ck_assert_uint_eq(peek(f, sp - 12, 4), 0x22222222);
    ck_assert_uint_eq(peek(f, sp - 8, 4), FIXTURE_STACK3 - 8);
    ck_assert_int_eq(fixture_run(f, "ca 08 00"), SOFT_OK); /* lret 8 */
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->rip, FIXTURE_CODE + 7);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_STACK3);
    fixture_gate(f, FIXTURE_GDT + SEL_FREE, SEL_CODE0, 0x5678, SYSTEM_CALL_GATE, 0, 2);
    ck_assert_int_eq(fixture_run(f, "9a 00 00 00 00 6b 00"), SOFT_FAULT); /* gate DPL 0 */
    ck_assert_uint_eq(cpu->fault.error, SEL_FREE);
    fixture_free(f);
}
END_TEST

START_TEST(call_gate_long)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 3);
    fixture_gate(f, FIXTURE_GDT + SEL_FREE, SEL_CODE0, UINT64_C(0xffffffff80001000),
                 SYSTEM_CALL_GATE, 3, 0);
    poke(f, 0xc000, (uint64_t)(SEL_FREE | 3) << 32, 6);
    cpu->gpr[CPU_RDI] = 0xc000;
    ck_assert_int_eq(fixture_run(f, "ff 1f"), SOFT_OK); /* lcall *(%rdi) */
    ck_assert_uint_eq(cpu->rip, UINT64_C(0xffffffff80001000));
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_STACK0 - 32);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_int_eq(fixture_run(f, "48 cb"), SOFT_OK);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], FIXTURE_STACK3);
    fixture_free(f);
}
END_TEST

START_TEST(syscall_and_sysret)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 3);
    cpu->star = UINT64_C(0x0013000800000000); /* user base 0x13, kernel CS 8 */
    cpu->lstar = UINT64_C(0xffffffff81800000);
    cpu->sfmask = CPU_FLAG_IF | CPU_FLAG_DF;
    cpu->rflags |= CPU_FLAG_IF | CPU_FLAG_CF;
    ck_assert_int_eq(fixture_run(f, "0f 05"), SOFT_OK);
    ck_assert_uint_eq(cpu->rip, UINT64_C(0xffffffff81800000));
    ck_assert_uint_eq(cpu->gpr[CPU_RCX], FIXTURE_CODE + 2);
    ck_assert_uint_eq(cpu->gpr[CPU_R11], CPU_FLAG_ONE | CPU_FLAG_IF | CPU_FLAG_CF);
    ck_assert_uint_eq(cpu->rflags, CPU_FLAG_ONE | CPU_FLAG_CF);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_uint_eq(cpu->segment[CPU_SS].selector, 0x10);
    ck_assert_int_eq(fixture_run(f, "48 0f 07"), SOFT_OK);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->rip, FIXTURE_CODE + 2);
    ck_assert_uint_eq(cpu->segment[CPU_CS].selector, 0x23);
    ck_assert_uint_eq(cpu->segment[CPU_SS].selector, 0x1b);
    ck_assert_uint_ne(cpu->rflags & CPU_FLAG_IF, 0);
    ck_assert_int_eq(fixture_run(f, "48 0f 07"), SOFT_FAULT); /* at CPL 3 */
    cpu->efer &= ~CPU_EFER_SCE;
    ck_assert_int_eq(fixture_run(f, "0f 05"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_UD);
    fixture_free(f);
}
END_TEST

START_TEST(sysenter_and_sysexit)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_protected(f, 3);
    ck_assert_int_eq(fixture_run(f, "0f 34"), SOFT_FAULT); /* CS 0 */
    cpu->sysenter_cs = SEL_CODE0;
    cpu->sysenter_eip = 0x4000;
    cpu->sysenter_esp = 0x8000;
    ck_assert_int_eq(fixture_run(f, "0f 34"), SOFT_OK);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_uint_eq(cpu->rip, 0x4000);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], 0x8000);
    cpu->gpr[CPU_RDX] = 0x1000;
    cpu->gpr[CPU_RCX] = 0x2000;
    ck_assert_int_eq(fixture_run(f, "0f 35"), SOFT_OK);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->rip, 0x1000);
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], 0x2000);
    ck_assert_uint_eq(cpu->segment[CPU_CS].selector, SEL_CODE3);
    fixture_free(f);
}
END_TEST

START_TEST(probes)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_protected(f, 3);
    cpu->gpr[CPU_RBX] = SEL_DATA3;
    ck_assert_int_eq(fixture_run(f, "0f 02 c3"), SOFT_OK); /* lar %ebx, %eax */
    ck_assert_uint_ne(cpu->rflags & CPU_FLAG_ZF, 0);
    ck_assert_uint_eq(cpu->gpr[CPU_RAX], 0xcff300);
    ck_assert_int_eq(fixture_run(f, "0f 03 c3"), SOFT_OK); /* lsl */
    ck_assert_uint_eq(cpu->gpr[CPU_RAX], 0xffffffff);
    cpu->gpr[CPU_RBX] = SEL_DATA0;
    ck_assert_int_eq(fixture_run(f, "0f 02 c3"), SOFT_OK);
    ck_assert_uint_eq(cpu->rflags & CPU_FLAG_ZF, 0);
    ck_assert_uint_eq(cpu->gpr[CPU_RAX], 0xffffffff);
    cpu->gpr[CPU_RAX] = SEL_CODE3;
    ck_assert_int_eq(fixture_run(f, "0f 00 e0"), SOFT_OK); /* verr */
    ck_assert_uint_ne(cpu->rflags & CPU_FLAG_ZF, 0);
    ck_assert_int_eq(fixture_run(f, "0f 00 e8"), SOFT_OK); /* verw */
    ck_assert_uint_eq(cpu->rflags & CPU_FLAG_ZF, 0);
    cpu->gpr[CPU_RAX] = 0x1230;
    cpu->gpr[CPU_RCX] = 3;
    ck_assert_int_eq(fixture_run(f, "63 c8"), SOFT_OK); /* arpl %cx, %ax */
    ck_assert_uint_eq(cpu->gpr[CPU_RAX], 0x1233);
    ck_assert_uint_ne(cpu->rflags & CPU_FLAG_ZF, 0);
    fixture_real(f);
    ck_assert_int_eq(fixture_run(f, "0f 00 e0"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_UD);
    fixture_free(f);
}
END_TEST

START_TEST(far_pointer_loads)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_protected(f, 0);
    poke(f, 0xc000, UINT64_C(0x001012345678), 6);
    cpu->gpr[CPU_RDI] = 0xc000;
    ck_assert_int_eq(fixture_run(f, "0f b2 27"), SOFT_OK); /* lss (%edi), %esp */
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], 0x12345678);
    ck_assert_uint_eq(cpu->segment[CPU_SS].selector, SEL_DATA0);
    poke(f, 0xc004, 0x999, 2);
    ck_assert_int_eq(fixture_run(f, "c4 07"), SOFT_FAULT); /* les: bad selector */
    ck_assert_uint_eq(cpu->gpr[CPU_RAX], 0);
    fixture_free(f);
}
END_TEST

TEST_MAIN("soft segments", tcase_add_loop_test(tcase, data_segment_loads, 0, ARRAY_LEN(loads));
          tcase_add_test(tcase, null_selectors); tcase_add_test(tcase, beyond_the_table);
          tcase_add_test(tcase, limits); tcase_add_test(tcase, far_jumps);
          tcase_add_test(tcase, mode_switches); tcase_add_test(tcase, call_gate_to_ring0_and_back);
          tcase_add_test(tcase, call_gate_long); tcase_add_test(tcase, syscall_and_sysret);
          tcase_add_test(tcase, sysenter_and_sysexit); tcase_add_test(tcase, probes);
          tcase_add_test(tcase, far_pointer_loads);)
