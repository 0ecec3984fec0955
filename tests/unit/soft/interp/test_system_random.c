/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions over random descriptor tables, task states and registers, in every mode:
 * whatever a guest prepares, our process survives (the sanitizers watch), a faulting instruction
 * leaves the registers alone, and the derived state stays true to what it derives from.
 */
#include "../cpu_fixture.h"
#include "testing.h"

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Valid in 32- and 64-bit mode alike (the decoder refuses some in one of them). */
static const char *const instructions[] = {
    "8e d8",    "8e c0",
    "8e d0",    "8e e0",
    "8e e8", /* mov to ds es ss fs gs */
    "8c d8",    "0f b2 27",
    "0f b4 07", "0f b5 07", /* mov from ds; lss lfs lgs */
    "0f 00 d0", "0f 00 d8",
    "0f 00 c0", "0f 00 c8", /* lldt ltr sldt str */
    "0f 00 e0", "0f 00 e8",
    "0f 02 c3", "0f 03 c3", /* verr verw lar lsl */
    "0f 01 17", "0f 01 1f",
    "0f 01 07", "0f 01 0f", /* lgdt lidt sgdt sidt */
    "ff 1f",    "ff 2f",
    "cb",       "ca 10 00",
    "cf",       "66 cf", /* far call, jmp, ret; iret */
    "0f 05",    "0f 07",
    "0f 34",    "0f 35", /* syscall sysret sysenter sysexit */
    "0f 22 c0", "0f 22 d8",
    "0f 22 e0", "0f 20 c0", /* mov cr */
    "0f 23 c0", "0f 23 f8",
    "0f 21 f8", "0f 23 f0", /* mov dr */
    "0f 30",    "0f 32",
    "0f a2",    "0f 01 d1",
    "0f 01 d0", /* wrmsr rdmsr cpuid xsetbv xgetbv */
    "0f 01 38", "66 0f 38 82 07",
    "0f 01 ca", "0f 01 cb", /* invlpg invpcid clac stac */
    "0f 01 f0", "0f 01 e0",
    "0f 06",    "0f 09", /* lmsw smsw clts wbinvd */
    "e4 60",    "ee",
    "6c",       "f3 6d",
    "f3 6e", /* ports */
};

static const uint32_t msrs[] = {0x10,       0x1b,       0x3b,       0x174,      0x1a0,
                                0x277,      0x2ff,      0x200,      0x250,      0xc0000080,
                                0xc0000081, 0xc0000082, 0xc0000100, 0xc0000101, 0x4b564d00,
                                0x4b564d01, 0x11,       0x800,      0xc0011029, 0xc0010015};

static void random_tables(struct fixture *f, uint64_t *seed)
{
    for (gpa_t at = FIXTURE_GDT + SEL_CODE16; at < FIXTURE_GDT + 0x100; at += 8) {
        uint64_t low = next_random(seed), high = next_random(seed);

        /* usually present, of any type and privilege, near RAM */
        high = (high & 0x00ff00ff) | (high >> 32 & 0xff00) | (high & 0x700 ? 0x8000 : 0);
        poke(f, at, (low & 0xffffffff) | high << 32, 8);
    }
    for (gpa_t at = FIXTURE_IDT; at < FIXTURE_IDT + 0x1000; at += 8)
        poke(f, at, (next_random(seed) & 0xffffff0000ffffff) | UINT64_C(0x8e0000080000), 8);
    for (gpa_t at = FIXTURE_LDT; at < FIXTURE_LDT + 0x100; at += 8)
        poke(f, at, next_random(seed), 8);
    for (gpa_t at = FIXTURE_STACK0 - 0x200; at < FIXTURE_STACK0 + 0x100; at += 4)
        poke(f, at, next_random(seed) & 0xff, 4);
    for (gpa_t at = 0xc000; at < 0xc100; at += 4)
        poke(f, at, next_random(seed) & 0xff, 4);
}

/* Computing the derived state once more changes nothing. */
static void check_derived(struct soft_cpu *cpu)
{
    uint8_t mode = cpu->mode, cpl = cpu->cpl, code_mode = cpu->code_mode, size = cpu->stack_size;
    bool flat = cpu->flat_segments, debug = cpu->debug_active;
    uint8_t class = cpu->mmu.current_class;
    uint64_t tag = cpu->mmu.tag[0];

    soft_cpu_update_mode(cpu);
    ck_assert_uint_eq(cpu->mode, mode);
    ck_assert_uint_eq(cpu->cpl, cpl);
    ck_assert_uint_eq(cpu->code_mode, code_mode);
    ck_assert_uint_eq(cpu->stack_size, size);
    ck_assert(cpu->flat_segments == flat);
    ck_assert(cpu->debug_active == debug);
    ck_assert_uint_eq(cpu->mmu.current_class, class);
    ck_assert_uint_eq(cpu->mmu.tag[0], tag);
    ck_assert_uint_eq(cpu->rflags & 0x2a, 2 | (cpu->rflags & 0x28));
}

static void enter_mode(struct fixture *f, unsigned which)
{
    f->next_table = FIXTURE_TABLES;
    switch (which % 6) {
    case 0:
        fixture_real(f);
        break;
    case 1:
    case 2:
        fixture_protected(f, which % 6 == 1 ? 0 : 3);
        break;
    case 3:
        fixture_v86(f, which & 8 ? 3 : 0);
        break;
    default:
        fixture_long(f, which % 6 == 4 ? 0 : 3);
    }
}

START_TEST(survives)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint64_t seed = UINT64_C(0x123456789abcdef) * (uint64_t)(_i + 1);
    unsigned ok = 0, faults = 0, delivered = 0;

    for (unsigned i = 0; i < 4000; i++) {
        const char *hex = instructions[next_random(&seed) % ARRAY_LEN(instructions)];
        uint64_t gpr[CPU_NR_GPRS];
        enum soft_result result;
        uint16_t tr;

        if (i % 40 == 0)
            enter_mode(f, (unsigned)(next_random(&seed) % 48));
        if (i % 40 == 0)
            random_tables(f, &seed);
        for (unsigned r = 0; r < CPU_NR_GPRS; r++)
            if (r != CPU_RSP)
                cpu->gpr[r] = next_random(&seed) & (next_random(&seed) & 1 ? 0xff : 0x80fff);
        cpu->gpr[CPU_RDI] = 0xc000 + (next_random(&seed) & 0x3f);
        cpu->gpr[CPU_RCX] = msrs[next_random(&seed) % ARRAY_LEN(msrs)];
        if (strchr("6f", hex[0]) && strstr(hex, "6")) /* not that many iterations */
            cpu->gpr[CPU_RCX] &= 0xff;
        memcpy(gpr, cpu->gpr, sizeof(gpr));
        tr = cpu->tr.selector;
        f->nr_accesses = 0;
        if (!fixture_decodes(f, hex))
            continue;
        result = fixture_run(f, hex);
        ok += result == SOFT_OK;
        if (result == SOFT_FAULT) {
            faults++;
            /* a task switch faults in the new task; a repeated port access between iterations */
            if (cpu->tr.selector == tr && strncmp(hex, "f3", 2))
                ck_assert_mem_eq(gpr, cpu->gpr, sizeof(gpr));
            result = interrupt_deliver(cpu, cpu->fault.vector, SOFT_EVENT_EXCEPTION,
                                       cpu->fault.has_error, cpu->fault.error);
            delivered += result == SOFT_OK;
            ck_assert(result == SOFT_OK || result == SOFT_EXIT);
        }
        check_derived(cpu);
    }
    ck_assert_uint_gt(ok, 200);
    ck_assert_uint_gt(faults, 200);
    ck_assert_uint_gt(delivered, 50);
    fixture_free(f);
}
END_TEST

/* What differs when CPUID says Intel. */
START_TEST(intel)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint64_t value;

    for (unsigned i = 0; i < f->policy.nr_entries; i++)
        if (f->policy.entries[i].leaf == 0)
            f->policy.entries[i].ebx = 0x756e6547;
    ck_assert(cpu_is_intel(cpu));
    fixture_long(f, 3);
    cpu->star = UINT64_C(0x0013000800000000);
    cpu->segment[CPU_CS].attributes = 0xc0fb;
    soft_cpu_update_mode(cpu);
    ck_assert_int_eq(fixture_run(f, "0f 05"), SOFT_FAULT); /* SYSCALL in compatibility mode */
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_UD);
    cpu->sysenter_cs = SEL_CODE0;
    cpu->sysenter_eip = UINT64_C(0xffffffff81000000);
    cpu->sysenter_esp = UINT64_C(0xffffffff82000000);
    ck_assert_int_eq(fixture_run(f, "0f 34"), SOFT_OK); /* SYSENTER in long mode */
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_LONG64);
    ck_assert_uint_eq(cpu->rip, UINT64_C(0xffffffff81000000));
    ck_assert_uint_eq(cpu->gpr[CPU_RSP], UINT64_C(0xffffffff82000000));
    cpu->gpr[CPU_RDX] = 0x1000;
    cpu->gpr[CPU_RCX] = 0x2000;
    ck_assert_int_eq(fixture_run(f, "48 0f 35"), SOFT_OK);
    ck_assert_uint_eq(cpu->segment[CPU_CS].selector, SEL_CODE0 + 32 + 3);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_LONG64);
    fixture_long(f, 0);
    cpu->gpr[CPU_RCX] = UINT64_C(0x800000000000);
    ck_assert_int_eq(fixture_run(f, "48 0f 07"), SOFT_FAULT); /* SYSRET faults at CPL 0 */
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_GP);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_int_eq(msr_read(cpu, 0x1a0, &value), SOFT_OK);
    ck_assert_int_eq(msr_read(cpu, 0xc0010015, &value), SOFT_FAULT);
    fixture_protected(f, 0);
    cpu->cr4 = CPU_CR4_PAE;
    cpu->cr0 |= CPU_CR0_PG;
    poke(f, 0x20000, 0x21000 | 3, 8); /* a PDPTE with a reserved bit */
    cpu->gpr[CPU_RAX] = 0x20000;
    ck_assert_int_eq(fixture_run(f, "0f 22 d8"), SOFT_FAULT);
    poke(f, 0x20000, 0x21000 | 1, 8);
    ck_assert_int_eq(fixture_run(f, "0f 22 d8"), SOFT_OK);
    fixture_free(f);
}
END_TEST

START_TEST(amd)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint64_t value;

    for (unsigned i = 0; i < f->policy.nr_entries; i++)
        if (f->policy.entries[i].leaf == 0)
            f->policy.entries[i].ebx = 0x68747541;
    fixture_long(f, 3);
    cpu->star = UINT64_C(0x0013000800000000);
    cpu->cstar = 0x5000;
    cpu->segment[CPU_CS].attributes = 0xc0fb;
    soft_cpu_update_mode(cpu);
    ck_assert_int_eq(fixture_run(f, "0f 05"), SOFT_OK); /* SYSCALL from compatibility mode */
    ck_assert_uint_eq(cpu->rip, 0x5000);
    ck_assert_uint_eq(cpu->mode, SOFT_MODE_LONG64);
    cpu->sysenter_cs = SEL_CODE0;
    ck_assert_int_eq(fixture_run(f, "0f 34"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_UD);
    ck_assert_int_eq(msr_read(cpu, 0xc0010015, &value), SOFT_OK);
    ck_assert_uint_ne(value >> 24 & 1, 0);
    ck_assert_int_eq(msr_write(cpu, 0xc0011029, 0x202), SOFT_OK);
    fixture_free(f);
}
END_TEST

TEST_MAIN("soft system random", tcase_add_loop_test(tcase, survives, 0, 6);
          tcase_add_test(tcase, intel); tcase_add_test(tcase, amd);)
