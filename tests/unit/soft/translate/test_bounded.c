/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that would make the translator's memory grow for ever: endless new code, one page written
 * anew for ever, the same page at endless addresses. Memory comes to rest, and the guest goes on.
 */
#define TESTING_TIMEOUT 240
#include "soft/soft_guest.h"

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

/* 0x1000 PML4. UPPER: memory by 2 MiB pages. The lower half and OTHER: one page, through tables
 * whose entries are all alike. */
static void tables_fill(struct guest *g)
{
    for (unsigned i = 0; i < 256; i++)
        guest_put64(g, 0x1000 + 8 * i, 0x4000 | PTE);
    guest_put64(g, 0x1000 + 8 * 256, 0x2000 | PTE);
    guest_put64(g, 0x1000 + 8 * (OTHER >> 39 & 511), 0x7000 | PTE);
    guest_put64(g, 0x2000, 0x3000 | PTE);
    for (uint64_t i = 0; i < RAM / (2 * MIB); i++)
        guest_put64(g, 0x3000 + 8 * i, i << 21 | 0x80 | PTE);
    for (unsigned i = 0; i < 512; i++) {
        guest_put64(g, 0x4000 + 8 * i, 0x5000 | PTE);
        guest_put64(g, 0x5000 + 8 * i, 0x6000 | PTE);
        guest_put64(g, 0x6000 + 8 * i, (0x20000 + 4096 * (i & 7)) | PTE);
        guest_put64(g, 0x7000 + 8 * i, 0x8000 | PTE);
        guest_put64(g, 0x8000 + 8 * i, 0x9000 | PTE);
        guest_put64(g, 0x9000 + 8 * i, PLACE | PTE);
    }
}

static void begin(struct guest *g, const uint8_t *program, const uint8_t *end, struct cpu_state *s)
{
    static const uint8_t place[] = {0x48, 0x83, 0xc6, 0x01, 0xc3};

    guest_init(g, "tier=translate,cache=4096", 1, RAM, NULL);
    tables_fill(g);
    guest_put(g, CODE, program, (size_t)(end - program));
    guest_put(g, PLACE, place, sizeof(place));
    guest_long_mode(s, 0, UPPER + CODE, UPPER + STACK);
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
static unsigned long run_to(struct guest *g, struct cpu_state *s, uint64_t count)
{
    struct cpu_exit exit;

    s->gpr[CPU_RBP] = count;
    s->activity = CPU_ACTIVITY_RUNNING;
    ck_assert_int_eq(soft_engine.set_state(g->cpu[0], s, NULL), 0);
    ck_assert_int_eq(soft_engine.run(g->cpu[0], &exit, NULL), 0);
    ck_assert_int_eq(exit.kind, CPU_EXIT_HALT);
    ck_assert_int_eq(soft_engine.get_state(g->cpu[0], s, NULL), 0);
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

static uint64_t code_figure(struct guest *g, const char *name)
{
    struct wanted wanted = {.name = name};

    soft_engine.figures(g->cpu[0], figure, &wanted);
    return wanted.value;
}

/* A first part, in which everything fills, and three times as much. */
static void check_bounded(struct guest *g, struct cpu_state *s, uint64_t count)
{
    unsigned long before = resident_kib(), filled = run_to(g, s, count);
    unsigned long after = run_to(g, s, 4 * count);

    ck_assert_uint_le(code_figure(g, "cap_bytes") + code_figure(g, "side_cap_bytes"),
                      (uint64_t)CACHE_KIB << 10);
    ck_assert_uint_le(code_figure(g, "used_bytes"), code_figure(g, "cap_bytes"));
    ck_assert_uint_le(code_figure(g, "side_used_bytes"), code_figure(g, "side_cap_bytes"));
    ck_assert_msg(filled - before <= CACHE_KIB + FIXED_KIB, "%lu KiB more than before",
                  filled - before);
    /* Tables by address fill and are dropped: a saw of some megabytes. */
    ck_assert_msg(after <= filled + 20 * 1024, "from %lu KiB to %lu KiB", filled, after);
}

START_TEST(new_code_for_ever)
{
    struct cpu_state s;
    struct guest g;
    uint64_t count = 130000;

    begin(&g, endless_code, endless_code_end, &s);
    s.gpr[CPU_RDI] = s.gpr[CPU_R12] = UPPER + AREA;
    s.gpr[CPU_R13] = UPPER + RAM;
    s.gpr[CPU_R14] = 272; /* in all places of a page, by turns */
    check_bounded(&g, &s, count);
    ck_assert_uint_eq(s.gpr[CPU_RSI], 3 * (4 * count * (4 * count - 1) / 2));
    ck_assert_uint_ge(code_figure(&g, "flushes"), 10);
    guest_done(&g);
}
END_TEST

START_TEST(one_page_written_for_ever)
{
    struct cpu_state s;
    struct guest g;
    uint64_t count = 50000;

    begin(&g, endless_code, endless_code_end, &s);
    s.gpr[CPU_RDI] = s.gpr[CPU_R12] = UPPER + AREA;
    s.gpr[CPU_R13] = UPPER + AREA + 0x100;
    s.gpr[CPU_R14] = 32;
    check_bounded(&g, &s, count);
    ck_assert_uint_eq(s.gpr[CPU_RSI], 3 * (4 * count * (4 * count - 1) / 2));
    guest_done(&g);
}
END_TEST

START_TEST(data_at_endless_addresses)
{
    struct cpu_state s;
    struct guest g;

    begin(&g, endless_data, endless_data_end, &s);
    s.gpr[CPU_R13] = UINT64_C(0x7ffffffff000);
    s.gpr[CPU_R14] = UINT64_C(0x3456789000);
    check_bounded(&g, &s, 300000);
    guest_done(&g);
}
END_TEST

START_TEST(code_at_endless_addresses)
{
    struct cpu_state s;
    struct guest g;
    uint64_t count = 200000;

    begin(&g, endless_places, endless_places_end, &s);
    s.gpr[CPU_R12] = OTHER;
    s.gpr[CPU_R13] = UINT64_C(0x7ffffff000);
    s.gpr[CPU_R14] = UINT64_C(0x56789000);
    check_bounded(&g, &s, count);
    ck_assert_uint_eq(s.gpr[CPU_RSI], 3 * 4 * count);
    guest_done(&g);
}
END_TEST

TEST_MAIN("soft_bounded", tcase_add_test(tcase, new_code_for_ever);
          tcase_add_test(tcase, one_page_written_for_ever);
          tcase_add_test(tcase, data_at_endless_addresses);
          tcase_add_test(tcase, code_at_endless_addresses);)
