/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window (translate/window.c): user pages at their own addresses in the host. What it must not
 * do: reach memory of the process, and show a page that the guest's tables do not have any more.
 */
#include "base/sanitizer.h"
#include "soft/soft_guest.h"

#include <string.h>

#define RAM      0x400000u
#define USER     0x10000u
#define ENTRY    0x18000u
#define DATA     0x20000u
#define STACK    0x30000u
#define UPPER    UINT64_C(0xffff800000000000)
#define PTE(gpa) ((gpa) | UINT64_C(0x67)) /* present, writable, user, accessed, dirty */
#define ENGINE   "tier=translate,runs=0,window=always"

/* RAX = 0: the end. 1: DATA's page is RBX from now on, told by INVLPG; 2: by CR3. */
GUEST_TEXT(entry, "test %eax, %eax\n jnz 1f\n hlt\n"
                  "1: movabs $0xffff800000004100, %rdx\n mov %rbx, (%rdx)\n cmp $1, %eax\n jne 2f\n"
                  "invlpg 0x20000\n sysretq\n 2: mov %cr3, %rdx\n mov %rdx, %cr3\n sysretq\n");
GUEST_TEXT(sums,
           "mov $100000, %ecx\n 1: add %rcx, 0x20008\n mov 0x20000(,%rcx,8), %rax\n push %rax\n"
           "pop %rdx\n add %rdx, %r12\n add 0x20008, %r13\n mov %rcx, 0x20ffd\n"
           "add 0x20ffd, %r13\n and $0x1ff, %edx\n dec %ecx\n cmp $99000, %ecx\n jne 1b\n"
           "xor %eax, %eax\n syscall\n");
GUEST_TEXT(remaps, "mov $1000, %r12d\n 1: mov $0x21067, %ebx\n mov $1, %eax\n syscall\n"
                   "add 0x20000, %r14\n mov $0x20067, %ebx\n mov $2, %eax\n syscall\n"
                   "add 0x20000, %r14\n dec %r12d\n jnz 1b\n xor %eax, %eax\n syscall\n");
GUEST_TEXT(read_only, "mov %rax, 0x20000\n mov $0x20065, %ebx\n mov %r12, %rax\n syscall\n"
                      "mov 0x20000, %rax\n mov %rax, 0x20010\n xor %eax, %eax\n syscall\n");
GUEST_TEXT(strange,
           "mov $1000, %ecx\n 1: mov (%rsi), %rbx\n mov %rcx, 8(%rsi)\n dec %ecx\n jnz 1b\n"
           "xor %eax, %eax\n syscall\n");
/* Addresses that are not canonical, made of a register whose accesses fault as the stack's do. */
GUEST_TEXT(not_canonical, "mov %rsi, %rbp\n mov (%rbp), %rax\n hlt\n");

static void table_set(struct guest *g, uint64_t table, unsigned index, uint64_t entry_value)
{
    guest_put64(g, table + 8u * index, entry_value);
}

static void start(struct guest *g, const uint8_t *program, const uint8_t *end, uint64_t rsi,
                  uint64_t r12)
{
    struct cpu_state s;

    guest_put(g, USER, program, (size_t)(end - program));
    guest_put(g, ENTRY, entry, (size_t)(entry_end - entry));
    guest_long_mode(&s, 0, USER, STACK);
    s.efer |= CPU_EFER_SCE;
    s.star = UINT64_C(0x1b0008) << 32;
    s.lstar = UPPER + ENTRY;
    s.segment[CPU_CS] =
        (struct cpu_segment){.limit = 0xffffffff, .attributes = 0xa0fb, .selector = 0x2b};
    s.segment[CPU_SS] =
        (struct cpu_segment){.limit = 0xffffffff, .attributes = 0xc0f3, .selector = 0x23};
    s.gpr[CPU_RSI] = rsi;
    s.gpr[CPU_R12] = r12;
    ck_assert_int_eq(soft_engine.set_state(g->cpu[0], &s, NULL), 0);
}

static void begin(struct guest *g, const char *engine)
{
    guest_init(g, engine, 1, RAM, NULL);
    table_set(g, 0x1000, 0, PTE(0x2000));
    table_set(g, 0x1000, 256, PTE(0x2000));
    table_set(g, 0x2000, 0, PTE(0x3000));
    table_set(g, 0x3000, 0, PTE(0x4000));
    table_set(g, 0x3000, 1, PTE(0x5000));
    for (unsigned page = 0; page < RAM / 4096; page++)
        table_set(g, 0x4000, page, PTE(page * UINT64_C(4096)));
}

/* One more page, at any address of the lower half. */
static void map(struct guest *g, uint64_t linear, uint64_t gpa)
{
    uint64_t tables = 0x8000;

    table_set(g, 0x1000, linear >> 39 & 511, PTE(tables));
    table_set(g, tables, linear >> 30 & 511, PTE(tables + 0x1000));
    table_set(g, tables + 0x1000, linear >> 21 & 511, PTE(tables + 0x2000));
    table_set(g, tables + 0x2000, linear >> 12 & 511, PTE(gpa));
}

struct figures {
    uint64_t mapped, faults, guard;
};

static void figure(void *context, const char *group, const char *name, uint64_t value)
{
    struct figures *figures = context;

    if (!strcmp(group, "window") && !strcmp(name, "mapped"))
        figures->mapped = value;
    if (!strcmp(group, "window") && !strcmp(name, "faults"))
        figures->faults = value;
    if (!strcmp(group, "exits") && !strcmp(name, "guard"))
        figures->guard = value;
}

static struct figures figures_of(struct guest *g)
{
    struct figures figures = {0};

    soft_engine.figures(g->cpu[0], figure, &figures);
    return figures;
}

START_TEST(pages_are_at_their_addresses)
{
    static const char *const engines[] = {"tier=interp", ENGINE};
    struct cpu_state ended[ARRAY_LEN(engines)];
    struct figures figures;
    struct guest g;

    for (unsigned i = 0; i < ARRAY_LEN(engines); i++) {
        begin(&g, engines[i]);
        start(&g, sums, sums_end, 0, 0);
        ended[i] = guest_run(&g, 0, CPU_EXIT_HALT);
        figures = figures_of(&g);
        guest_done(&g);
    }
    ck_assert_mem_eq(ended[0].gpr, ended[1].gpr, sizeof(ended[0].gpr));
    if (SANITIZER_THREAD) /* most addresses are its own */
        return;
    ck_assert_uint_gt(figures.mapped, 0);
    ck_assert_uint_lt(figures.faults, 1000);
    ck_assert_uint_lt(figures.guard, 1000);
}
END_TEST

START_TEST(what_is_mapped_elsewhere_is_seen_there)
{
    struct guest g;

    begin(&g, ENGINE);
    guest_put64(&g, DATA, 5);
    guest_put64(&g, DATA + 0x1000, 7);
    start(&g, remaps, remaps_end, 0, 0);
    ck_assert_uint_eq(guest_run(&g, 0, CPU_EXIT_HALT).gpr[CPU_R14], 12000);
    guest_done(&g);
}
END_TEST

START_TEST(a_page_that_is_read_only_now_is_not_written)
{
    for (uint64_t how = 1; how <= 2; how++) {
        struct guest g;

        begin(&g, ENGINE);
        guest_put64(&g, DATA + 0x10, 5);
        start(&g, read_only, read_only_end, 0, how);
        guest_run(&g, 0, CPU_EXIT_SHUTDOWN);
        ck_assert_uint_eq(guest_peek64(&g, DATA + 0x10), 5);
        guest_done(&g);
    }
}
END_TEST

/* The guest has a page at the address of one of ours. */
START_TEST(memory_of_the_process_is_not_the_guests)
{
    static _Alignas(4096) uint64_t ours[512];
    const uint8_t on_stack = 0;
    const void *places[] = {ours, &on_stack, (const void *)(uintptr_t)puts, stdout};

    for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
        uint64_t linear = (uintptr_t)places[i] & ~UINT64_C(4095);
        struct guest g;

        begin(&g, ENGINE);
        map(&g, linear, DATA + 0x2000);
        guest_put64(&g, DATA + 0x2000, 0x1234);
        ours[0] = ours[1] = 99;
        start(&g, strange, strange_end, linear, 0);
        ck_assert_uint_eq(guest_run(&g, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 0x1234);
        ck_assert_uint_eq(guest_peek64(&g, DATA + 0x2008), 1);
        ck_assert_uint_eq(ours[0], 99);
        ck_assert_uint_eq(ours[1], 99);
        guest_done(&g);
        /* And without. */
        begin(&g, ENGINE);
        start(&g, strange, strange_end, linear, 0);
        guest_run(&g, 0, CPU_EXIT_SHUTDOWN);
        ck_assert_uint_eq(ours[1], 99);
        guest_done(&g);
    }
}
END_TEST

START_TEST(addresses_that_are_not_canonical_fault)
{
    static const uint64_t addresses[] = {
        UINT64_C(1) << 47, UINT64_C(0x7fffffffffff), UINT64_C(0x1234567800020000),
        UINT64_C(0xffff800000020000) - 0x1000000000, UINT64_C(0xffffffffff600000)};

    for (unsigned i = 0; i < ARRAY_LEN(addresses); i++) {
        struct guest g;

        begin(&g, ENGINE);
        start(&g, not_canonical, not_canonical_end, addresses[i], 0);
        guest_run(&g, 0, CPU_EXIT_SHUTDOWN);
        guest_done(&g);
    }
}
END_TEST

TEST_MAIN("soft_window", tcase_add_test(tcase, pages_are_at_their_addresses);
          tcase_add_test(tcase, what_is_mapped_elsewhere_is_seen_there);
          tcase_add_test(tcase, a_page_that_is_read_only_now_is_not_written);
          tcase_add_test(tcase, memory_of_the_process_is_not_the_guests);
          tcase_add_test(tcase, addresses_that_are_not_canonical_fault);)
