/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that would make the translator's memory grow for ever: endless new code, one page written
 * anew for ever, the same page at endless addresses. Memory comes to rest, and the guest goes on.
 */
#define TESTING_TIMEOUT 240
#include "cpu/cpuid.h"
#include "soft/soft.h"
#include "testing.h"

#include <unistd.h>

#define RAM   (32 * MIB)
#define CODE  0x10000u
#define STACK 0x30000u
#define PLACE 0x40000u /* endless_places: add rsi, 1; ret */
#define AREA  0x200000u
#define UPPER UINT64_C(0xffff800000000000)
/* Third level of the upper half's tables: code at UPPER, and everything else everywhere. */
#define OTHER     UINT64_C(0xffff900000000000)
#define PTE       UINT64_C(0x63)
#define CACHE_KIB 4096u
/* Beside the cap: decoded blocks, guest memory, tables of fixed size. */
#define FIXED_KIB ((3 + 32 + 48) * 1024ul)

extern const uint8_t endless_code[], endless_code_end[], endless_data[], endless_data_end[],
    endless_places[], endless_places_end[];

struct fixture {
    struct memory *memory;
    struct cpuid_policy policy;
    struct cpu_bus bus;
    struct cpu_vm *vm;
    struct cpu *cpu;
};

static void put64(struct fixture *f, gpa_t gpa, uint64_t value)
{
    ck_assert_int_eq(memory_write(f->memory, gpa, &value, 8), 0);
}

/* 0x1000 PML4. UPPER: memory by 2 MiB pages. The lower half and OTHER: one page, through tables
 * whose entries are all alike. */
static void tables_fill(struct fixture *f)
{
    for (unsigned i = 0; i < 256; i++)
        put64(f, 0x1000 + 8 * i, 0x4000 | PTE);
    put64(f, 0x1000 + 8 * 256, 0x2000 | PTE);
    put64(f, 0x1000 + 8 * (OTHER >> 39 & 511), 0x7000 | PTE);
    put64(f, 0x2000, 0x3000 | PTE);
    for (uint64_t i = 0; i < RAM / (2 * MIB); i++)
        put64(f, 0x3000 + 8 * i, i << 21 | 0x80 | PTE);
    for (unsigned i = 0; i < 512; i++) {
        put64(f, 0x4000 + 8 * i, 0x5000 | PTE);
        put64(f, 0x5000 + 8 * i, 0x6000 | PTE);
        put64(f, 0x6000 + 8 * i, (0x20000 + 4096 * (i & 7)) | PTE);
        put64(f, 0x7000 + 8 * i, 0x8000 | PTE);
        put64(f, 0x8000 + 8 * i, 0x9000 | PTE);
        put64(f, 0x9000 + 8 * i, PLACE | PTE);
    }
}

static struct fixture *fixture_new(const uint8_t *guest, const uint8_t *end)
{
    static const uint8_t place[] = {0x48, 0x83, 0xc6, 0x01, 0xc3};
    struct fixture *f = calloc(1, sizeof(*f));
    struct cpuid_options options = {.nr_cpus = 1, .tsc_hz = 1000000000};
    struct cpu_vm_config config = {
        .nr_cpus = 1, .tsc_hz = options.tsc_hz, .options = "tier=translate,cache=4096"};
    struct err err = ERR_INIT;

    ck_assert_ptr_nonnull(f);
    cpuid_policy_init(&f->policy, &options);
    ck_assert_int_eq(memory_new(&f->memory, NULL), 0);
    ck_assert_int_eq(memory_add_ram(f->memory, 0, RAM, NULL), 0);
    config.memory = f->memory;
    config.bus = &f->bus;
    config.cpuid = &f->policy;
    ck_assert_int_eq(soft_engine.vm_new(&config, &f->vm, NULL), 0);
    ck_assert_msg(!soft_engine.cpu_new(f->vm, 0, &f->cpu, &err), "%s", err.message);
    tables_fill(f);
    ck_assert_int_eq(memory_write(f->memory, CODE, guest, (size_t)(end - guest)), 0);
    ck_assert_int_eq(memory_write(f->memory, PLACE, place, sizeof(place)), 0);
    return f;
}

static void fixture_free(struct fixture *f)
{
    soft_engine.cpu_free(f->cpu);
    soft_engine.vm_free(f->vm);
    memory_free(f->memory);
    free(f);
}

static void start(struct fixture *f, struct cpu_state *s)
{
    cpu_state_reset(s, 0);
    s->cr0 = CPU_CR0_PE | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP | CPU_CR0_PG;
    s->cr3 = 0x1000;
    s->cr4 = CPU_CR4_PAE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT;
    s->efer = CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE;
    s->segment[CPU_CS] =
        (struct cpu_segment){.limit = 0xffffffff, .attributes = 0xa09b, .selector = 8};
    s->segment[CPU_SS] =
        (struct cpu_segment){.limit = 0xffffffff, .attributes = 0xc093, .selector = 16};
    s->rip = UPPER + CODE;
    s->gpr[CPU_RSP] = UPPER + STACK;
    s->activity = CPU_ACTIVITY_RUNNING;
    (void)f;
}

/* Resident memory of this process, page tables too. */
static unsigned long resident_kib(void)
{
    unsigned long sum = 0, value;
    char line[200];
    FILE *file = fopen("/proc/self/status", "re");

    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "VmRSS: %lu", &value) == 1 || sscanf(line, "VmPTE: %lu", &value) == 1)
            sum += value;
    fclose(file);
    return sum;
}

/* Until RBX has come to `count`, and what memory is resident then. */
static unsigned long run_to(struct fixture *f, struct cpu_state *s, uint64_t count)
{
    struct cpu_exit exit;

    s->gpr[CPU_RBP] = count;
    s->activity = CPU_ACTIVITY_RUNNING;
    ck_assert_int_eq(soft_engine.set_state(f->cpu, s, NULL), 0);
    ck_assert_int_eq(soft_engine.run(f->cpu, &exit, NULL), 0);
    ck_assert_int_eq(exit.kind, CPU_EXIT_HALT);
    ck_assert_int_eq(soft_engine.get_state(f->cpu, s, NULL), 0);
    ck_assert_uint_eq(s->gpr[CPU_RBX], count);
    return resident_kib();
}

/* The figure of this name. */
struct wanted {
    const char *name;
    uint64_t value;
};

static void figure(void *context, const char *group, const char *name, uint64_t value)
{
    struct wanted *wanted = context;

    if (!strcmp(group, "code") && !strcmp(name, wanted->name))
        wanted->value = value;
}

static uint64_t code_figure(struct fixture *f, const char *name)
{
    struct wanted wanted = {.name = name};

    soft_engine.figures(f->cpu, figure, &wanted);
    return wanted.value;
}

/* A first part, in which everything fills, and three times as much. */
static void check_bounded(struct fixture *f, struct cpu_state *s, uint64_t count)
{
    unsigned long before = resident_kib(), filled = run_to(f, s, count);
    unsigned long after = run_to(f, s, 4 * count);

    ck_assert_uint_le(code_figure(f, "cap_bytes") + code_figure(f, "side_cap_bytes"),
                      (uint64_t)CACHE_KIB << 10);
    ck_assert_uint_le(code_figure(f, "used_bytes"), code_figure(f, "cap_bytes"));
    ck_assert_uint_le(code_figure(f, "side_used_bytes"), code_figure(f, "side_cap_bytes"));
    ck_assert_msg(filled - before <= CACHE_KIB + FIXED_KIB, "%lu KiB more than before",
                  filled - before);
    /* Tables by address fill and are dropped: a saw of some megabytes. */
    ck_assert_msg(after <= filled + 20 * 1024, "from %lu KiB to %lu KiB", filled, after);
}

START_TEST(new_code_for_ever)
{
    struct fixture *f = fixture_new(endless_code, endless_code_end);
    struct cpu_state s;
    uint64_t count = 130000;

    start(f, &s);
    s.gpr[CPU_RDI] = s.gpr[CPU_R12] = UPPER + AREA;
    s.gpr[CPU_R13] = UPPER + RAM;
    s.gpr[CPU_R14] = 272; /* in all places of a page, by turns */
    check_bounded(f, &s, count);
    ck_assert_uint_eq(s.gpr[CPU_RSI], 3 * (4 * count * (4 * count - 1) / 2));
    ck_assert_uint_ge(code_figure(f, "flushes"), 10);
    fixture_free(f);
}
END_TEST

START_TEST(one_page_written_for_ever)
{
    struct fixture *f = fixture_new(endless_code, endless_code_end);
    struct cpu_state s;
    uint64_t count = 50000;

    start(f, &s);
    s.gpr[CPU_RDI] = s.gpr[CPU_R12] = UPPER + AREA;
    s.gpr[CPU_R13] = UPPER + AREA + 0x100;
    s.gpr[CPU_R14] = 32;
    check_bounded(f, &s, count);
    ck_assert_uint_eq(s.gpr[CPU_RSI], 3 * (4 * count * (4 * count - 1) / 2));
    fixture_free(f);
}
END_TEST

START_TEST(data_at_endless_addresses)
{
    struct fixture *f = fixture_new(endless_data, endless_data_end);
    struct cpu_state s;

    start(f, &s);
    s.gpr[CPU_R13] = UINT64_C(0x7ffffffff000);
    s.gpr[CPU_R14] = UINT64_C(0x3456789000);
    check_bounded(f, &s, 300000);
    fixture_free(f);
}
END_TEST

START_TEST(code_at_endless_addresses)
{
    struct fixture *f = fixture_new(endless_places, endless_places_end);
    struct cpu_state s;
    uint64_t count = 200000;

    start(f, &s);
    s.gpr[CPU_R12] = OTHER;
    s.gpr[CPU_R13] = UINT64_C(0x7ffffff000);
    s.gpr[CPU_R14] = UINT64_C(0x56789000);
    check_bounded(f, &s, count);
    ck_assert_uint_eq(s.gpr[CPU_RSI], 3 * 4 * count);
    fixture_free(f);
}
END_TEST

TEST_MAIN("soft_bounded", tcase_add_test(tcase, new_code_for_ever);
          tcase_add_test(tcase, one_page_written_for_ever);
          tcase_add_test(tcase, data_at_endless_addresses);
          tcase_add_test(tcase, code_at_endless_addresses);)
