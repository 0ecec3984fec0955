/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traces, blocks that go on behind forward Jcc, and seams, entries for the end of a page. Each
 * program runs on the interpreter, and on the translator with traces from the beginning (runs=0)
 * and where the code behind a Jcc has run (runs=2); registers, RIP and flags must be the same.
 * Random streams: tests/diff.
 */
#include "soft/soft_guest.h"

#define RAM    0x200000u
#define CODE   0x10000u
#define DATA   0x20000u
#define STACK  0x30000u
#define ABSENT 0x180000u
#define PTES   0x4000u

static const char *const engines[] = {"tier=interp", "tier=translate,runs=0",
                                      "tier=translate,runs=2"};

/* Memory mapped to itself by 4 KiB pages, but for ABSENT and what follows. */
static void guest_new(struct guest *g, const char *engine, const uint8_t *code, size_t length)
{
    guest_init(g, engine, 1, RAM, NULL);
    guest_put64(g, 0x1000, 0x2063);
    guest_put64(g, 0x2000, 0x3063);
    guest_put64(g, 0x3000, PTES | 0x63);
    for (uint64_t i = 0; i < ABSENT / 4096; i++)
        guest_put64(g, PTES + 8 * i, i << 12 | 0x63);
    guest_put(g, CODE, code, length);
}

/* Runs to a HLT, or to an exception, for which there are no handlers. */
static struct cpu_state run(struct guest *g, uint64_t r8, enum cpu_exit_kind kind)
{
    struct cpu_state state;

    guest_long_mode(&state, 0, CODE, STACK);
    state.gpr[CPU_R8] = r8;
    for (unsigned i = 9; i < 16; i++)
        state.gpr[i] = DATA + 0x100 * i;
    ck_assert_int_eq(soft_engine.set_state(g->cpu[0], &state, NULL), 0);
    return guest_run(g, 0, kind);
}

static void same(const struct cpu_state *a, const struct cpu_state *b)
{
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        ck_assert_uint_eq(a->gpr[i], b->gpr[i]);
    ck_assert_uint_eq(a->rip, b->rip);
    ck_assert_uint_eq(a->rflags, b->rflags);
}

static void compare(const uint8_t *code, size_t length)
{
    struct cpu_state states[ARRAY_LEN(engines)];

    for (unsigned i = 0; i < ARRAY_LEN(engines); i++) {
        struct guest g;

        guest_new(&g, engines[i], code, length);
        states[i] = run(&g, DATA, CPU_EXIT_HALT);
        guest_done(&g);
        same(&states[i], &states[0]);
    }
}

START_TEST(sides_leave_with_flags_and_registers)
{
    uint8_t code[] = {
        0xb9, 200,  0,    0,    0,                   /* mov ecx, 200 */
        0x05, 0x67, 0x45, 0x23, 0x41,                /* l: add eax, 41234567h */
        0x52, 0x0f, 0x80, 0x0d, 0,    0,    0,       /* push rdx; jcc s */
        0x49, 0xff, 0xc3,                            /* inc r11 */
        0x01, 0xc2, 0x0f, 0x80, 0x09, 0,    0,    0, /* add edx, eax; jcc t */
        0xff, 0xc3,                                  /* inc ebx */
        0x9c, 0x5e, 0x48, 0x01, 0xf7, 0x11, 0xd5,    /* s: pushf; pop rsi; add rdi, rsi;
                                                        adc ebp, edx */
        0x5a, 0xff, 0xc9, 0x75, 0xdb, 0xf4,          /* t: pop rdx; dec ecx; jnz l; hlt */
    };

    for (uint8_t i = 0; i < 16; i++) {
        code[12] = 0x80 | i;
        for (uint8_t j = 0; j < 16; j++) {
            code[23] = 0x80 | j;
            compare(code, sizeof(code));
        }
    }
}
END_TEST

START_TEST(faults_name_their_instruction)
{
    /* Six times: mov rax, [r8 + 10000h * i]; cmp rbx, rax; ja end. Then end: inc rbx; hlt */
    uint8_t code[6 * 16 + 4], *at = code;

    for (uint8_t i = 0; i < 6; i++) {
        const uint8_t step[16] = {
            0x49, 0x8b, 0x80, 0, 0, i, 0, 0x48, 0x39, 0xc3, 0x0f, 0x87, (uint8_t)(16 * (5 - i))};

        memcpy(at, step, sizeof(step));
        at += sizeof(step);
    }
    memcpy(at, (const uint8_t[]){0x48, 0xff, 0xc3, 0xf4}, 4);
    for (uint64_t i = 0; i <= 6; i++) {
        struct cpu_state first = {0};

        for (unsigned k = 0; k < ARRAY_LEN(engines); k++) {
            struct cpu_state state;
            struct guest g;

            guest_new(&g, engines[k], code, sizeof(code));
            for (unsigned n = 0; n < 6; n++)
                run(&g, DATA, CPU_EXIT_HALT);
            state = run(&g, ABSENT - 0x10000 * i, i < 6 ? CPU_EXIT_SHUTDOWN : CPU_EXIT_HALT);
            if (i < 6)
                ck_assert_uint_eq(state.cr2, ABSENT);
            if (!k)
                first = state;
            same(&state, &first);
            guest_done(&g);
        }
    }
}
END_TEST

START_TEST(a_running_trace_changes_itself)
{
    /* mov ecx, 60; l: test ecx, ecx; jz e; mov [rip + m + 1], cl; cmp ecx, 1; jz e; m: mov al, 0;
     * add ebx, eax; dec ecx; jnz l; e: hlt */
    static const uint8_t code[] = {0xb9, 60, 0,    0,    0,    0x85, 0xc9, 0x74, 0x14, 0x88,
                                   0x0d, 6,  0,    0,    0,    0x83, 0xf9, 1,    0x74, 9,
                                   0xb0, 0,  0x01, 0xc3, 0xff, 0xc9, 0x75, 0xe9, 0x90, 0xf4};

    compare(code, sizeof(code));
    for (unsigned i = 0; i < ARRAY_LEN(engines); i++) {
        struct guest g;

        guest_new(&g, engines[i], code, sizeof(code));
        ck_assert_uint_eq(run(&g, DATA, CPU_EXIT_HALT).gpr[CPU_RBX], 60 * 61 / 2 - 1);
        guest_done(&g);
    }
}
END_TEST

START_TEST(ranges_span_sides)
{
    /* mov ecx, 40; l: mov [r8], ecx; test cl, 3; jz s; add [r8 + 8], ecx; test cl, 4; jnz s;
     * add rdx, [r8 + 8]; s: lea r8, [r8 + 4]; dec ecx; jnz l; hlt: over the end of a page, at every
     * place */
    static const uint8_t code[] = {0xb9, 40,   0,    0,    0,    0x41, 0x89, 0x08, 0xf6,
                                   0xc1, 3,    0x74, 0x0d, 0x41, 0x01, 0x48, 8,    0xf6,
                                   0xc1, 4,    0x75, 4,    0x49, 0x03, 0x50, 8,    0x4d,
                                   0x8d, 0x40, 4,    0xff, 0xc9, 0x75, 0xe3, 0xf4};

    for (unsigned at = 0; at < 160; at++) {
        struct cpu_state states[ARRAY_LEN(engines)];

        for (unsigned i = 0; i < ARRAY_LEN(engines); i++) {
            struct guest g;

            guest_new(&g, engines[i], code, sizeof(code));
            states[i] = run(&g, DATA + 0x1000 - at, CPU_EXIT_HALT);
            same(&states[i], &states[0]);
            guest_done(&g);
        }
    }
}
END_TEST

START_TEST(traces_stay_inside)
{
    /* mov ecx, 10000; l: test ecx, ecx; jz e; inc rax; cmp eax, -1; je e; dec ecx; jnz l; e: hlt */
    static const uint8_t code[] = {0xb9, 0x10, 0x27, 0,    0,    0x85, 0xc9, 0x74,
                                   0x0c, 0x48, 0xff, 0xc0, 0x83, 0xf8, 0xff, 0x74,
                                   4,    0xff, 0xc9, 0x75, 0xf0, 0xf4};
    struct cpu_counters counters;
    struct guest g;

    guest_new(&g, engines[1], code, sizeof(code));
    ck_assert_uint_eq(run(&g, DATA, CPU_EXIT_HALT).gpr[CPU_RAX], 10000);
    soft_engine.counters(g.cpu[0], &counters);
    ck_assert_uint_le(counters.blocks_translated, 4); /* with one behind the first poll */
    ck_assert_uint_lt(counters.translated_exits, 10);
    guest_done(&g);
}
END_TEST

/* Runs a program that has worked at R8, near the end of a page, often enough for a seam and then
 * crosses that end; with a page behind it and without. */
static void cross(const uint8_t *code, size_t length, unsigned before)
{
    for (unsigned absent = 0; absent < 2; absent++) {
        uint64_t r8 = (absent ? ABSENT : DATA + 0x1000) - before;
        struct cpu_state first = {0};

        for (unsigned i = 0; i < ARRAY_LEN(engines); i++) {
            struct cpu_state state;
            struct guest g;

            guest_new(&g, engines[i], code, length);
            guest_put64(&g, r8, 0x1122334455667788);
            guest_put64(&g, DATA + 0x1000, 0x99aabbccddeeff00);
            state = run(&g, r8, absent ? CPU_EXIT_SHUTDOWN : CPU_EXIT_HALT);
            if (absent)
                ck_assert_uint_eq(state.cr2, ABSENT);
            if (!i)
                first = state;
            same(&state, &first);
            if (!absent)
                ck_assert_uint_eq(guest_peek64(&g, DATA + 0x1000) >> 32, 0x99aabbcc);
            guest_done(&g);
        }
    }
}

/* mov ecx, 20000; l: mov rax, [r8]; mov [r8], rcx; dec ecx; jnz l */
#define WORK 0xb9, 0x20, 0x4e, 0, 0, 0x49, 0x8b, 0, 0x49, 0x89, 8, 0xff, 0xc9, 0x75, 0xf6

START_TEST(seams_are_crossed)
{
    /* mov rbx, [r8 + 4]; add [r8 + 4], rbx; mov rdx, [r8 + 4]; hlt */
    static const uint8_t code[] = {WORK, 0x49, 0x8b, 0x58, 4,    0x49, 0x01,
                                   0x58, 4,    0x49, 0x8b, 0x50, 4,    0xf4};

    cross(code, sizeof(code), 8);
}
END_TEST

START_TEST(pops_over_a_seam)
{
    /* mov rsp, r8; pop rax; pop rbx; pop rdx; pop rsi; hlt */
    static const uint8_t code[] = {WORK, 0x4c, 0x89, 0xc4, 0x58, 0x5b, 0x5a, 0x5e, 0xf4};

    cross(code, sizeof(code), 16);
}
END_TEST

START_TEST(the_end_of_a_page_stays_inside)
{
    static const uint8_t code[] = {WORK, 0xf4};
    struct cpu_counters counters;
    struct guest g;

    guest_new(&g, engines[1], code, sizeof(code));
    for (unsigned i = 0; i < 50; i++)
        run(&g, ABSENT - 8, CPU_EXIT_HALT);
    soft_engine.counters(g.cpu[0], &counters);
    ck_assert_uint_lt(counters.translated_exits, 50 * 8 + 20); /* no seam: one each 2048 */
    guest_done(&g);
}
END_TEST

TEST_MAIN("soft_trace", tcase_add_test(tcase, sides_leave_with_flags_and_registers);
          tcase_add_test(tcase, faults_name_their_instruction);
          tcase_add_test(tcase, a_running_trace_changes_itself);
          tcase_add_test(tcase, ranges_span_sides); tcase_add_test(tcase, traces_stay_inside);
          tcase_add_test(tcase, seams_are_crossed); tcase_add_test(tcase, pops_over_a_seam);
          tcase_add_test(tcase, the_end_of_a_page_stays_inside);)
