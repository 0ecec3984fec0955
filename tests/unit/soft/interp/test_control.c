/* SPDX-License-Identifier: Apache-2.0 */
/* Control registers, MSRs, CPUID, kvmclock, debug registers, ports, state in and out. */
#include "../cpu_fixture.h"
#include "testing.h"

#define MSR_SYSTEM_TIME 0x4b564d01u
#define MSR_WALL_CLOCK  0x4b564d00u

static void expect_gp0(struct fixture *f, enum soft_result result)
{
    ck_assert_int_eq(result, SOFT_FAULT);
    ck_assert_uint_eq(f->cpu->fault.vector, CPU_VECTOR_GP);
    ck_assert_uint_eq(f->cpu->fault.error, 0);
}

static enum soft_result write_cr(struct fixture *f, unsigned n, uint64_t value)
{
    char hex[16];

    f->cpu->gpr[CPU_RAX] = value;
    snprintf(hex, sizeof(hex), "0f 22 %02x", 0xc0 | n << 3);
    return fixture_run(f, hex);
}

START_TEST(cr0)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 0);
    expect_gp0(f, write_cr(f, 0, cpu->cr0 | UINT64_C(1) << 32));
    expect_gp0(f, write_cr(f, 0, cpu->cr0 & ~CPU_CR0_PE));
    expect_gp0(f, write_cr(f, 0, cpu->cr0 | CPU_CR0_NW));
    ck_assert_int_eq(write_cr(f, 0, (cpu->cr0 | CPU_CR0_TS) & ~CPU_CR0_ET), SOFT_OK);
    ck_assert_uint_eq(cpu->cr0 & (CPU_CR0_TS | CPU_CR0_ET), CPU_CR0_TS | CPU_CR0_ET);
    ck_assert_int_eq(fixture_run(f, "0f 06"), SOFT_OK); /* clts */
    ck_assert_uint_eq(cpu->cr0 & CPU_CR0_TS, 0);
    cpu->gpr[CPU_RAX] = 0x0e;
    ck_assert_int_eq(fixture_run(f, "0f 01 f0"), SOFT_OK); /* lmsw: cannot clear PE */
    ck_assert_uint_eq(cpu->cr0 & 0xf, 0xf);
    ck_assert_int_eq(fixture_run(f, "0f 01 e0"), SOFT_OK); /* smsw */
    ck_assert_uint_eq(cpu->gpr[CPU_RAX], (uint32_t)cpu->cr0);
    fixture_long(f, 3);
    expect_gp0(f, write_cr(f, 0, cpu->cr0));
    fixture_free(f);
}
END_TEST

START_TEST(cr3_and_cr4)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint64_t cr3;

    fixture_long(f, 0);
    cr3 = cpu->cr3;
    expect_gp0(f, write_cr(f, 3, cr3 | UINT64_C(1) << 45)); /* beyond 40 bits */
    expect_gp0(f, write_cr(f, 3, cr3 | UINT64_C(1) << 63)); /* no PCIDs */
    expect_gp0(f, write_cr(f, 4, cpu->cr4 & ~CPU_CR4_PAE));
    expect_gp0(f, write_cr(f, 4, cpu->cr4 | UINT64_C(1) << 12)); /* LA57 */
    expect_gp0(f, write_cr(f, 4, cpu->cr4 | UINT64_C(1) << 13)); /* VMXE */
    cpu->cr3 |= 8;
    expect_gp0(f, write_cr(f, 4, cpu->cr4 | CPU_CR4_PCIDE)); /* CR3[11:0] */
    cpu->cr3 = cr3;
    ck_assert_int_eq(write_cr(f, 4, cpu->cr4 | CPU_CR4_OSFXSR | CPU_CR4_TSD), SOFT_OK);
    ck_assert_int_eq(write_cr(f, 2, UINT64_C(0xdeadbeef12345678)), SOFT_OK);
    ck_assert_int_eq(fixture_run(f, "0f 20 d3"), SOFT_OK); /* mov %cr2, %rbx */
    ck_assert_uint_eq(cpu->gpr[CPU_RBX], UINT64_C(0xdeadbeef12345678));
    fixture_free(f);
}
END_TEST

/* index, value to write, what a read then gives; refused: #GP(0) */
static const struct {
    uint32_t index;
    uint64_t write, read;
    bool refused;
} msrs[] = {
    {0xc0000082, UINT64_C(0xffffffff81000000), UINT64_C(0xffffffff81000000), false},
    {0xc0000082, UINT64_C(0x800000000000), 0, true}, /* not canonical */
    {0xc0000100, UINT64_C(0x7f0012345000), UINT64_C(0x7f0012345000), false},
    {0xc0000101, UINT64_C(0xffff888000000000), UINT64_C(0xffff888000000000), false},
    {0xc0000102, UINT64_C(0x123), UINT64_C(0x123), false},
    {0xc0000084, UINT64_C(0x1234500047700), 0x00047700, false},
    {0xc0000080, 0x901, 0xd01, false},      /* LMA stays */
    {0xc0000080, 0x901 | 1 << 12, 0, true}, /* SVME */
    {0xc0000080, 0x801, 0, true},           /* LME under paging */
    {0x174, 0x10, 0x10, false},
    {0x176, UINT64_C(0xffffffff81000000), UINT64_C(0xffffffff81000000), false},
    {0x277, UINT64_C(0x0407010600070406), UINT64_C(0x0407010600070406), false},
    {0x277, 2, 0, true},
    {0x2ff, 0xc06, 0xc06, false},
    {0x2ff, 0x1006, 0, true},
    {0x200, 0x80000006, 0x80000006, false},
    {0x201, UINT64_C(0xff80000800), UINT64_C(0xff80000800), false},
    {0x201, UINT64_C(0x10000000000), 0, true},
    {0x250, UINT64_C(0x0606060606060606), UINT64_C(0x0606060606060606), false},
    {0x26f, UINT64_C(0x0202020202020202), 0, true},
    {0xc0000103, 5, 5, false},
    {0xc0000103, UINT64_C(1) << 32, 0, true},
    {0x48, 1, 0, true}, /* SPEC_CTRL is hidden */
    {0x12345, 0, 0, true},
    {0x4b564d07, 1, 0, true},
};

START_TEST(msr_values)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    enum soft_result result;

    fixture_long(f, 0);
    cpu->gpr[CPU_RCX] = msrs[_i].index;
    cpu->gpr[CPU_RAX] = (uint32_t)msrs[_i].write;
    cpu->gpr[CPU_RDX] = msrs[_i].write >> 32;
    result = fixture_run(f, "0f 30");
    if (msrs[_i].refused) {
        expect_gp0(f, result);
    } else {
        ck_assert_int_eq(result, SOFT_OK);
        cpu->gpr[CPU_RAX] = cpu->gpr[CPU_RDX] = UINT64_MAX;
        ck_assert_int_eq(fixture_run(f, "0f 32"), SOFT_OK);
        ck_assert_uint_eq(cpu->gpr[CPU_RAX], (uint32_t)msrs[_i].read);
        ck_assert_uint_eq(cpu->gpr[CPU_RDX], msrs[_i].read >> 32);
    }
    fixture_long(f, 3);
    cpu->gpr[CPU_RCX] = 0x10;
    expect_gp0(f, fixture_run(f, "0f 32"));
    fixture_free(f);
}
END_TEST

START_TEST(tsc)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint64_t before, value;

    ck_assert_int_eq(msr_write(cpu, 0x10, UINT64_C(1) << 40), SOFT_OK);
    ck_assert_int_eq(msr_read(cpu, 0x10, &value), SOFT_OK);
    ck_assert_uint_ge(value, UINT64_C(1) << 40);
    ck_assert_uint_lt(value, (UINT64_C(1) << 40) + 1000000000);
    ck_assert_int_eq(msr_read(cpu, 0x3b, &before), SOFT_OK);
    ck_assert_int_eq(msr_write(cpu, 0x3b, before + (UINT64_C(1) << 41)), SOFT_OK);
    ck_assert_uint_ge(soft_tsc(cpu), UINT64_C(3) << 40);
    /* set almost alike: the same clock, to the tick */
    before = cpu->tsc_offset;
    tsc_write(cpu, UINT64_C(1) << 50);
    value = cpu->tsc_offset;
    ck_assert_uint_ne(value, before);
    tsc_write(cpu, (UINT64_C(1) << 50) + 1000);
    ck_assert_uint_eq(cpu->tsc_offset, value);
    fixture_free(f);
}
END_TEST

START_TEST(kvmclock)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint64_t tsc_now, ns, now;

    tsc_write(cpu, 0);
    poke(f, 0x20000, 7, 4); /* left odd by nobody: made even */
    ck_assert_int_eq(msr_write(cpu, MSR_SYSTEM_TIME, 0x20001), SOFT_OK);
    ck_assert_uint_eq(peek(f, 0x20000, 4) & 1, 0);
    ck_assert_uint_eq(peek(f, 0x2001d, 1), 1); /* TSC_STABLE */
    /* as the guest computes: 2 GHz, so half a nanosecond a tick */
    tsc_now = UINT64_C(5000000000);
    ck_assert_uint_eq(peek(f, 0x2001c, 1), 0);
    ns = (uint64_t)(((__uint128_t)(tsc_now - peek(f, 0x20008, 8)) * peek(f, 0x20018, 4)) >> 32) +
         peek(f, 0x20010, 8);
    ck_assert_uint_eq(ns, UINT64_C(2500000000));
    ck_assert_int_eq(msr_write(cpu, MSR_WALL_CLOCK, 0x20100), SOFT_OK);
    ck_assert_uint_eq(peek(f, 0x20100, 4) & 1, 0);
    now = (uint64_t)time(NULL);
    ck_assert_uint_le(peek(f, 0x20104, 4), now);
    ck_assert_uint_ge(peek(f, 0x20104, 4), now - 10);
    /* an address without memory harms nobody */
    ck_assert_int_eq(msr_write(cpu, MSR_SYSTEM_TIME, (UINT64_C(1) << 39) | 1), SOFT_OK);
    ck_assert_int_eq(msr_write(cpu, MSR_WALL_CLOCK, UINT64_MAX), SOFT_OK);
    fixture_free(f);
}
END_TEST

START_TEST(cpuid_and_hidden)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 3);
    cpu->gpr[CPU_RAX] = 0x40000000;
    ck_assert_int_eq(fixture_run(f, "0f a2"), SOFT_OK);
    ck_assert_uint_eq(cpu->gpr[CPU_RBX], 0x4b4d564b); /* KVMK */
    cpu->gpr[CPU_RAX] = 1;
    ck_assert_int_eq(fixture_run(f, "0f a2"), SOFT_OK);
    ck_assert_uint_eq(cpu->gpr[CPU_RCX] >> 27 & 1, 0); /* OSXSAVE follows CR4 */
    cpu->cr4 |= CPU_CR4_OSXSAVE;
    cpu->gpr[CPU_RAX] = 1;
    ck_assert_int_eq(fixture_run(f, "0f a2"), SOFT_OK);
    ck_assert_uint_eq(cpu->gpr[CPU_RCX] >> 27 & 1, 1);
    ck_assert_int_eq(fixture_run(f, "0f 01 d9"), SOFT_OK); /* vmmcall at CPL 3: -EPERM */
    ck_assert_uint_eq(cpu->gpr[CPU_RAX], (uint64_t)-1);
    fixture_free(f);
}
END_TEST

START_TEST(xsetbv)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 0);
    cpu->gpr[CPU_RAX] = 3;
    cpu->gpr[CPU_RDX] = cpu->gpr[CPU_RCX] = 0;
    ck_assert_int_eq(fixture_run(f, "0f 01 d1"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_UD);
    cpu->cr4 |= CPU_CR4_OSXSAVE;
    ck_assert_int_eq(fixture_run(f, "0f 01 d1"), SOFT_OK);
    ck_assert_uint_eq(cpu->xcr0, 3);
    cpu->gpr[CPU_RAX] = 5; /* AVX without SSE */
    expect_gp0(f, fixture_run(f, "0f 01 d1"));
    cpu->gpr[CPU_RAX] = 2;
    expect_gp0(f, fixture_run(f, "0f 01 d1"));
    cpu->gpr[CPU_RAX] = 0xe7; /* AVX-512 */
    expect_gp0(f, fixture_run(f, "0f 01 d1"));
    fixture_free(f);
}
END_TEST

START_TEST(umip)
{
    static const char *const instructions[] = {"0f 01 07", "0f 01 0f", "0f 00 c0", "0f 00 c8",
                                               "0f 01 e0"};
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    for (unsigned i = 0; i < ARRAY_LEN(instructions); i++) {
        fixture_long(f, 3);
        cpu->gpr[CPU_RDI] = 0xc000;
        ck_assert_int_eq(fixture_run(f, instructions[i]), SOFT_OK);
        cpu->cr4 |= CPU_CR4_UMIP;
        expect_gp0(f, fixture_run(f, instructions[i]));
    }
    ck_assert_uint_eq(peek(f, 0xc002, 8), FIXTURE_IDT);
    fixture_free(f);
}
END_TEST

START_TEST(gs_bases)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 0);
    cpu->segment[CPU_GS].base = 1;
    cpu->kernel_gs_base = 2;
    ck_assert_int_eq(fixture_run(f, "0f 01 f8"), SOFT_OK); /* swapgs */
    ck_assert_uint_eq(cpu->segment[CPU_GS].base, 2);
    ck_assert_uint_eq(cpu->kernel_gs_base, 1);
    cpu->gpr[CPU_RAX] = UINT64_C(0x7fff00000000);
    ck_assert_int_eq(fixture_run(f, "f3 48 0f ae d0"), SOFT_FAULT); /* wrfsbase, CR4 clear */
    cpu->cr4 |= CPU_CR4_FSGSBASE;
    ck_assert_int_eq(fixture_run(f, "f3 48 0f ae d0"), SOFT_OK);
    ck_assert_int_eq(fixture_run(f, "f3 48 0f ae c3"), SOFT_OK); /* rdfsbase %rbx */
    ck_assert_uint_eq(cpu->gpr[CPU_RBX], UINT64_C(0x7fff00000000));
    cpu->gpr[CPU_RAX] = UINT64_C(0x800000000000);
    expect_gp0(f, fixture_run(f, "f3 48 0f ae d0"));
    fixture_free(f);
}
END_TEST

START_TEST(debug_registers)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, 0);
    cpu->gpr[CPU_RAX] = 0x12345;
    ck_assert_int_eq(fixture_run(f, "0f 23 c0"), SOFT_OK); /* mov %rax, %dr0 */
    cpu->gpr[CPU_RAX] = 0x1;
    ck_assert_int_eq(fixture_run(f, "0f 23 f8"), SOFT_OK); /* dr7: L0, execute */
    ck_assert(cpu->debug_active);
    ck_assert_uint_eq(cpu->dr[7], 0x401);
    ck_assert_uint_eq(debug_code_hits(cpu, 0x12345), 1);
    ck_assert_uint_eq(debug_code_hits(cpu, 0x12346), 0);
    ck_assert_int_eq(fixture_run(f, "0f 21 e3"), SOFT_OK); /* dr4 = dr6 */
    ck_assert_uint_eq(cpu->gpr[CPU_RBX], 0xffff0ff0);
    cpu->cr4 |= CPU_CR4_DE;
    ck_assert_int_eq(fixture_run(f, "0f 21 e3"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_UD);
    cpu->gpr[CPU_RAX] = UINT64_C(1) << 32;
    expect_gp0(f, fixture_run(f, "0f 23 f8"));
    cpu->gpr[CPU_RAX] = 1u << 13; /* general detect */
    ck_assert_int_eq(fixture_run(f, "0f 23 f8"), SOFT_OK);
    ck_assert_int_eq(fixture_run(f, "0f 21 c3"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_DB);
    ck_assert_uint_eq(cpu->dr[6], 0xffff0ff0 | DEBUG_DR6_BD);
    ck_assert_uint_eq(cpu->dr[7] & DEBUG_DR7_GD, 0);
    ck_assert_int_eq(fixture_run(f, "0f 21 c3"), SOFT_OK);
    fixture_free(f);
}
END_TEST

START_TEST(ports)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_protected(f, 0);
    f->bus_value = UINT64_C(0x99887766);
    cpu->gpr[CPU_RAX] = UINT64_C(0x1111111111111111);
    ck_assert_int_eq(fixture_run(f, "e4 60"), SOFT_OK); /* in $0x60, %al */
    ck_assert_uint_eq(cpu->gpr[CPU_RAX], UINT64_C(0x1111111111111166));
    cpu->gpr[CPU_RDX] = 0x3f8;
    ck_assert_int_eq(fixture_run(f, "ef"), SOFT_OK); /* out %eax, (%dx) */
    ck_assert_uint_eq(f->access[1].address, 0x3f8);
    ck_assert_uint_eq(f->access[1].value, 0x11111166);
    ck_assert_uint_eq(f->access[1].size, 4);
    /* rep insw of 3 into memory */
    cpu->gpr[CPU_RDI] = 0xc000;
    cpu->gpr[CPU_RCX] = 3;
    ck_assert_int_eq(fixture_run(f, "66 f3 6d"), SOFT_OK);
    ck_assert_uint_eq(cpu->gpr[CPU_RCX], 0);
    ck_assert_uint_eq(cpu->gpr[CPU_RDI], 0xc006);
    ck_assert_uint_eq(peek(f, 0xc000, 8), UINT64_C(0x776677667766));
    cpu->rflags |= CPU_FLAG_DF;
    cpu->gpr[CPU_RSI] = 0xc001;
    ck_assert_int_eq(fixture_run(f, "6e"), SOFT_OK); /* outsb */
    ck_assert_uint_eq(cpu->gpr[CPU_RSI], 0xc000);
    ck_assert_uint_eq(f->access[f->nr_accesses - 1].value, 0x77);
    fixture_free(f);
}
END_TEST

START_TEST(port_permission)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_protected(f, 3);
    poke(f, FIXTURE_TSS + 102, 0x68, 2);
    for (unsigned i = 0; i < 0x2000; i++)
        poke(f, FIXTURE_TSS + 0x68 + i, 0xff, 1);
    expect_gp0(f, fixture_run(f, "e4 60"));
    poke(f, FIXTURE_TSS + 0x68 + 0x60 / 8, 0xfe, 1);
    ck_assert_int_eq(fixture_run(f, "e4 60"), SOFT_OK);
    expect_gp0(f, fixture_run(f, "e5 60")); /* four ports */
    poke(f, FIXTURE_TSS + 0x68 + 0x60 / 8, 0xf0, 1);
    ck_assert_int_eq(fixture_run(f, "e5 60"), SOFT_OK);
    cpu->tr.limit = 0x68 + 0x60 / 8; /* the byte behind is needed too */
    expect_gp0(f, fixture_run(f, "e4 60"));
    cpu->rflags |= CPU_FLAG_IOPL;
    ck_assert_int_eq(fixture_run(f, "e4 60"), SOFT_OK);
    fixture_v86(f, 3); /* the bitmap decides whatever the IOPL */
    cpu->tr.limit = 0x67;
    expect_gp0(f, fixture_run(f, "e4 60"));
    ck_assert_uint_eq(f->nr_accesses, 3);
    fixture_free(f);
}
END_TEST

START_TEST(state_round_trip)
{
    struct fixture *f = fixture_new(), *g = fixture_new();
    struct cpu_state a, b;

    fixture_long(f, 3);
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        f->cpu->gpr[i] = UINT64_C(0x1111111111111111) * (i & 15);
    f->cpu->star = 0x1234;
    f->cpu->segment[CPU_FS].base = 0x777;
    memset(f->cpu->fpu.xsave + 160, 0xab, 64);
    ck_assert_int_eq(soft_get_state(&f->cpu->cpu, &a, NULL), 0);
    ck_assert_int_eq(soft_set_state(&g->cpu->cpu, &a, NULL), 0);
    ck_assert_int_eq(soft_get_state(&g->cpu->cpu, &b, NULL), 0);
    ck_assert_uint_lt(b.tsc - a.tsc, UINT64_C(10000000000));
    b.tsc = a.tsc;
    ck_assert_mem_eq(&a, &b, sizeof(a));
    ck_assert_uint_eq(g->cpu->mode, SOFT_MODE_LONG64);
    ck_assert_uint_eq(g->cpu->cpl, 3);
    fixture_free(f);
    fixture_free(g);
}
END_TEST

START_TEST(state_refused)
{
    struct fixture *f = fixture_new();
    struct cpu_state good, bad;

    fixture_long(f, 0);
    ck_assert_int_eq(soft_get_state(&f->cpu->cpu, &good, NULL), 0);
#define REFUSED(change)                                                \
    do {                                                               \
        bad = good;                                                    \
        change;                                                        \
        ck_assert_int_lt(soft_set_state(&f->cpu->cpu, &bad, NULL), 0); \
    } while (0)
    REFUSED(bad.cr0 &= ~CPU_CR0_PE);
    REFUSED(bad.efer &= ~CPU_EFER_LMA);
    REFUSED(bad.cr4 &= ~CPU_CR4_PAE);
    REFUSED(bad.xcr0 = 5);
    REFUSED(bad.xcr0 = 0x20007);
    REFUSED(bad.xsave[26] = 0xff); /* MXCSR */
    REFUSED(bad.activity = 9);
#undef REFUSED
    ck_assert_int_eq(soft_set_state(&f->cpu->cpu, &good, NULL), 0);
    fixture_free(f);
}
END_TEST

TEST_MAIN("soft control", tcase_add_test(tcase, cr0); tcase_add_test(tcase, cr3_and_cr4);
          tcase_add_loop_test(tcase, msr_values, 0, ARRAY_LEN(msrs)); tcase_add_test(tcase, tsc);
          tcase_add_test(tcase, kvmclock); tcase_add_test(tcase, cpuid_and_hidden);
          tcase_add_test(tcase, xsetbv); tcase_add_test(tcase, umip);
          tcase_add_test(tcase, gs_bases); tcase_add_test(tcase, debug_registers);
          tcase_add_test(tcase, ports); tcase_add_test(tcase, port_permission);
          tcase_add_test(tcase, state_round_trip); tcase_add_test(tcase, state_refused);)
