/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translating tier through the engine's interface, with small programs in 64-bit mode: links
 * and their end, code that changes under it from here and from elsewhere, the software TLB's edges,
 * polls. What single instructions do is the differential test's matter (tests/diff).
 */
#include "soft/soft_cpu.h"
#include "soft/soft_guest.h"

#include <pthread.h>
#include <time.h>

#define RAM   0x400000u
#define CODE  0x10000u
#define DATA  0x20000u
#define STACK 0x2f800u /* not where a page ends: no page with entries follows */
/* The same 4 MiB again: supervisor code is looked for in the jump table in this half only. */
#define UPPER UINT64_C(0xffff800000000000)

#define PTE(gpa) ((gpa) | UINT64_C(0x63)) /* present, writable, accessed, dirty */

/* 4 MiB identity-mapped by 4 KiB pages: the second half has the TLB indexes of the first. */
static void tables_fill(struct guest *f)
{
    guest_put64(f, 0x1000, PTE(0x2000));
    guest_put64(f, 0x1800, PTE(0x2000));
    guest_put64(f, 0x2000, PTE(0x3000));
    guest_put64(f, 0x3000, PTE(0x4000));
    guest_put64(f, 0x3008, PTE(0x5000));
    for (uint64_t page = 0; page < RAM / 4096; page++)
        guest_put64(f, 0x4000 + 8 * page, PTE(page * 4096));
}

static void start_at(struct guest *f, unsigned index, uint64_t rip)
{
    struct cpu_state s;

    guest_long_mode(&s, index, rip, STACK - 0x1000u * index);
    ck_assert_int_eq(soft_engine.set_state(f->cpu[index], &s, NULL), 0);
}

static struct guest *fixture_with(const char *engine)
{
    struct guest *f = calloc(1, sizeof(*f));

    ck_assert_ptr_nonnull(f);
    guest_init(f, engine, GUEST_CPUS, RAM, NULL);
    tables_fill(f);
    for (unsigned i = 0; i < GUEST_CPUS; i++)
        start_at(f, i, CODE);
    return f;
}

static struct guest *fixture_new(void)
{
    return fixture_with("tier=translate,runs=0");
}

static void fixture_free(struct guest *f)
{
    guest_done(f);
    free(f);
}

static struct cpu_counters counters(struct guest *f, unsigned index)
{
    struct cpu_counters c;

    soft_engine.counters(f->cpu[index], &c);
    return c;
}

START_TEST(loop_stays_inside)
{
    struct guest *f = fixture_new();

    /* mov ecx, 100000; l: inc rax; dec ecx; jnz l; hlt */
    GUEST_PROGRAM(f, CODE, 0xb9, 0xa0, 0x86, 1, 0, 0x48, 0xff, 0xc0, 0xff, 0xc9, 0x75, 0xf9, 0xf4);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RAX], 100000);
    ck_assert_uint_ge(counters(f, 0).blocks_translated, 2);
    ck_assert_uint_lt(counters(f, 0).translated_exits, 20);
    fixture_free(f);
}
END_TEST

START_TEST(calls_and_returns_across_pages_stay_inside)
{
    struct guest *f = fixture_new();
    struct cpu_state state;

    /* mov ebx, 10000; l: call CODE + 0x1100; dec ebx; jnz l; hlt */
    GUEST_PROGRAM(f, CODE, 0xbb, 0x10, 0x27, 0, 0, 0xe8, 0xf6, 0x10, 0, 0, 0xff, 0xcb, 0x75, 0xf7,
                  0xf4);
    GUEST_PROGRAM(f, CODE + 0x1100, 0x48, 0x83, 0xc0, 3, 0xc3); /* add rax, 3; ret */
    start_at(f, 0, UPPER + CODE);
    state = guest_run(f, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RAX], 30000);
    ck_assert_uint_eq(state.gpr[CPU_RSP], STACK);
    ck_assert_uint_lt(counters(f, 0).translated_exits, 30);
    fixture_free(f);
}
END_TEST

/* CODE: mov ecx, 500; l: jmp CODE + 0x1000; at CODE + 0x10: dec ecx; jnz l; hlt. The second page
 * adds `n` to EBX and comes back. */
static void far_program(struct guest *f, uint8_t n)
{
    uint8_t add[] = {0x83, 0xc3, n, 0xe9, 0x08, 0xf0, 0xff, 0xff};

    GUEST_PROGRAM(f, CODE, 0xb9, 0xf4, 1, 0, 0, 0xe9, 0xf6, 0x0f, 0, 0);
    GUEST_PROGRAM(f, CODE + 0x10, 0xff, 0xc9, 0x75, 0xf1, 0xf4);
    guest_put(f, CODE + 0x1000, add, sizeof(add));
    add[2] = 7;
    guest_put(f, CODE + 0x5000, add, sizeof(add));
}

START_TEST(jumps_between_pages_are_linked)
{
    struct guest *f = fixture_new();

    far_program(f, 3);
    start_at(f, 0, UPPER + CODE);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 1500);
    ck_assert_uint_lt(counters(f, 0).translated_exits, 20);
    /* The target's code changes. */
    far_program(f, 4);
    start_at(f, 0, UPPER + CODE);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 2000);
    fixture_free(f);
}
END_TEST

START_TEST(links_between_pages_end_with_the_mapping)
{
    struct guest *f = fixture_new();

    far_program(f, 3);
    /* At CODE + 0x800: mov edi, the second page's PTE; mov edx, PTE(CODE + 0x5000); mov [rdi], rdx;
     * mov rsi, UPPER + CODE + 0x1000; invlpg [rsi]; jmp CODE */
    GUEST_PROGRAM(f, CODE + 0x800, 0xbf, 0x88, 0x40, 0, 0, 0xba, 0x63, 0x50, 1, 0, 0x48, 0x89, 0x17,
                  0x48, 0xbe, 0, 0x10, 1, 0, 0, 0x80, 0xff, 0xff, 0x0f, 0x01, 0x3e, 0xe9, 0xe1,
                  0xf7, 0xff, 0xff);
    start_at(f, 0, UPPER + CODE);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 1500);
    start_at(f, 0, UPPER + CODE + 0x800);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 3500);
    fixture_free(f);
}
END_TEST

START_TEST(a_page_at_two_addresses_has_no_links_out)
{
    struct guest *f = fixture_new();

    far_program(f, 3);
    /* The first page again 0x40000 higher, followed by another one. */
    guest_put64(f, 0x4000 + 8 * ((CODE + 0x40000) / 4096), PTE(CODE));
    guest_put64(f, 0x4000 + 8 * ((CODE + 0x41000) / 4096), PTE(CODE + 0x5000));
    for (unsigned round = 0; round < 3; round++) {
        start_at(f, 0, UPPER + CODE);
        ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 1500);
        start_at(f, 0, UPPER + CODE + 0x40000);
        ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 3500);
    }
    fixture_free(f);
}
END_TEST

START_TEST(return_to_another_address_than_the_calls)
{
    struct guest *f = fixture_new();
    struct cpu_state state;

    /* mov ecx, 1000; l: call g; hlt | m: dec ecx; jnz l; hlt; g: add qword [rsp], 1; ret */
    GUEST_PROGRAM(f, CODE, 0xb9, 0xe8, 3, 0, 0, 0xe8, 6, 0, 0, 0, 0xf4, 0xff, 0xc9, 0x75, 0xf6,
                  0xf4, 0x48, 0x83, 0x04, 0x24, 1, 0xc3);
    start_at(f, 0, UPPER + CODE);
    state = guest_run(f, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.rip, UPPER + CODE + 0x10);
    ck_assert_uint_eq(state.gpr[CPU_RSP], STACK);
    ck_assert_uint_lt(counters(f, 0).translated_exits, 60);
    fixture_free(f);
}
END_TEST

START_TEST(return_over_a_frame)
{
    struct guest *f = fixture_new();
    struct cpu_state state;

    /* mov ecx, 1000; l: call g; dec ecx; jnz l; hlt; g: call h; hlt; h: add rsp, 8; ret */
    GUEST_PROGRAM(f, CODE, 0xb9, 0xe8, 3, 0, 0, 0xe8, 5, 0, 0, 0, 0xff, 0xc9, 0x75, 0xf7, 0xf4,
                  0xe8, 1, 0, 0, 0, 0xf4, 0x48, 0x83, 0xc4, 8, 0xc3);
    start_at(f, 0, UPPER + CODE);
    state = guest_run(f, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.rip, UPPER + CODE + 0xf);
    ck_assert_uint_eq(state.gpr[CPU_RSP], STACK);
    ck_assert_uint_lt(counters(f, 0).translated_exits, 60);
    fixture_free(f);
}
END_TEST

START_TEST(calls_that_never_return)
{
    struct guest *f = fixture_new();

    /* mov ecx, 100000; l: call m; m: pop rax; dec ecx; jnz l; hlt */
    GUEST_PROGRAM(f, CODE, 0xb9, 0xa0, 0x86, 1, 0, 0xe8, 0, 0, 0, 0, 0x58, 0xff, 0xc9, 0x75, 0xf6,
                  0xf4);
    start_at(f, 0, UPPER + CODE);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RAX], UPPER + CODE + 10);
    ck_assert_uint_lt(counters(f, 0).translated_exits, 400);
    fixture_free(f);
}
END_TEST

START_TEST(deep_recursion_comes_back)
{
    struct guest *f = fixture_new();
    struct cpu_state state;

    /* mov esp, 300000h; mov ecx, 50000; call g; hlt; g: inc ebx; dec ecx; jz o; call g; dec ebx;
     * o: ret */
    GUEST_PROGRAM(f, CODE, 0xbc, 0, 0, 0x30, 0, 0xb9, 0x50, 0xc3, 0, 0, 0xe8, 1, 0, 0, 0, 0xf4,
                  0xff, 0xc3, 0xff, 0xc9, 0x74, 7, 0xe8, 0xf5, 0xff, 0xff, 0xff, 0xff, 0xcb, 0xc3);
    start_at(f, 0, UPPER + CODE);
    state = guest_run(f, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RBX], 1);
    ck_assert_uint_eq(state.gpr[CPU_RSP], 0x300000);
    fixture_free(f);
}
END_TEST

START_TEST(return_point_is_mapped_elsewhere_meanwhile)
{
    struct guest *f = fixture_new();

    /* The page is copied to CODE + 0x5000 with another operand behind the call.
     * CODE: mov ecx, 20; l: call CODE + 0x1000; mov eax, 1; add ebx, eax; dec ecx; jnz l; hlt */
    GUEST_PROGRAM(f, CODE, 0xb9, 20, 0, 0, 0, 0xe8, 0xf6, 0x0f, 0, 0, 0xb8, 1, 0, 0, 0, 0x01, 0xc3,
                  0xff, 0xc9, 0x75, 0xf0, 0xf4);
    GUEST_PROGRAM(f, CODE + 0x5000, 0xb9, 20, 0, 0, 0, 0xe8, 0xf6, 0x0f, 0, 0, 0xb8, 0x40, 0, 0, 0,
                  0x01, 0xc3, 0xff, 0xc9, 0x75, 0xf0, 0xf4);
    /* CODE + 0x1000: cmp ecx, 10; jne o; mov edi, PTE; mov edx, PTE(CODE + 0x5000); mov [rdi], rdx;
     * mov rsi, UPPER + CODE; invlpg [rsi]; o: ret */
    GUEST_PROGRAM(f, CODE + 0x1000, 0x83, 0xf9, 10, 0x75, 0x1a, 0xbf, 0x80, 0x40, 0, 0, 0xba, 0x63,
                  0x50, 1, 0, 0x48, 0x89, 0x17, 0x48, 0xbe, 0, 0, 1, 0, 0, 0x80, 0xff, 0xff, 0x0f,
                  0x01, 0x3e, 0xc3);
    start_at(f, 0, UPPER + CODE);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 10 + 10 * 0x40);
    fixture_free(f);
}
END_TEST

/* A loop of more blocks than there is room for: it is not translated anew in each round. */
START_TEST(pauses_offer_the_processor)
{
    struct guest *f = fixture_new();
    struct cpu_state state;
    uint64_t exits = counters(f, 0).translated_exits;

    /* mov ecx, 20000; pause; add rbx, [rsp]; dec ecx; jnz; hlt */
    GUEST_PROGRAM(f, CODE, 0xb9, 0x20, 0x4e, 0, 0, 0xf3, 0x90, 0x48, 0x03, 0x1c, 0x24, 0xff, 0xc9,
                  0x75, 0xf6, 0xf4);
    guest_put64(f, STACK, 2);
    state = guest_run(f, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RBX], 40000);
    exits = counters(f, 0).translated_exits - exits;
    ck_assert_uint_gt(exits, 10);
    ck_assert_uint_lt(exits, 100);
    fixture_free(f);
}
END_TEST

START_TEST(code_larger_than_the_cache_goes_on)
{
    enum { BLOCKS = 20000, ROUNDS = 40 };
    struct guest *f = fixture_with("tier=translate,runs=0,cache=2048");
    static const uint8_t step[] = {0xff, 0xc0, 0xeb, 0x02, 0x90, 0x90}; /* inc eax; jmp over */
    gpa_t at = 0x100000;
    struct cpu_state state;

    for (unsigned i = 0; i < BLOCKS; i++, at += sizeof(step))
        guest_put(f, at, step, sizeof(step));
    /* dec ecx; jz 5 over; jmp 0x100000; hlt */
    GUEST_PROGRAM(f, 0x100000 + 6 * 20000, 0xff, 0xc9, 0x74, 5, 0xe9, 0x37, 0x2b, 0xfe, 0xff, 0xf4);
    start_at(f, 0, UPPER + 0x100000);
    ck_assert_int_eq(soft_engine.get_state(f->cpu[0], &state, NULL), 0);
    state.gpr[CPU_RCX] = ROUNDS;
    ck_assert_int_eq(soft_engine.set_state(f->cpu[0], &state, NULL), 0);
    state = guest_run(f, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RAX] & 0xffffffff, BLOCKS * ROUNDS);
    ck_assert_uint_lt(counters(f, 0).blocks_translated, BLOCKS * ROUNDS / 4);
    fixture_free(f);
}
END_TEST

START_TEST(store_into_the_next_instruction)
{
    struct guest *f = fixture_new();

    /* mov byte [rip + 1], 42h; mov al, 1; hlt */
    GUEST_PROGRAM(f, CODE, 0xc6, 0x05, 1, 0, 0, 0, 0x42, 0xb0, 1, 0xf4);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RAX] & 0xff, 0x42);
    fixture_free(f);
}
END_TEST

START_TEST(loop_that_changes_itself)
{
    struct guest *f = fixture_new();

    /* mov ecx, 50; l: inc byte [rip + 1]; mov al, 0; add ebx, eax; dec ecx; jnz l; hlt */
    GUEST_PROGRAM(f, CODE, 0xb9, 50, 0, 0, 0, 0xfe, 0x05, 1, 0, 0, 0, 0xb0, 0, 0x01, 0xc3, 0xff,
                  0xc9, 0x75, 0xf2, 0xf4);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 50 * 51 / 2);
    fixture_free(f);
}
END_TEST

START_TEST(linked_target_changes)
{
    struct guest *f = fixture_new();
    uint8_t two = 2;

    /* mov ecx, 100; l: jmp m; nops; m: mov eax, 1; add ebx, eax; dec ecx; jnz l; hlt */
    GUEST_PROGRAM(f, CODE, 0xb9, 100, 0, 0, 0, 0xeb, 2, 0x90, 0x90, 0xb8, 1, 0, 0, 0, 0x01, 0xc3,
                  0xff, 0xc9, 0x75, 0xf1, 0xf4);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 100);
    guest_put(f, CODE + 10, &two, 1);
    start_at(f, 0, CODE);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 200);
    fixture_free(f);
}
END_TEST

START_TEST(instruction_in_two_pages_in_a_loop)
{
    struct guest *f = fixture_new();

    /* mov ecx, 1000 | jmp; l (page end - 2): add rbx, 5 (4 bytes); dec ecx; jnz l; hlt */
    GUEST_PROGRAM(f, CODE + 0xff0, 0xb9, 0xe8, 3, 0, 0, 0xeb, 7);
    GUEST_PROGRAM(f, CODE + 0xffe, 0x48, 0x83, 0xc3, 5, 0xff, 0xc9, 0x75, 0xf8, 0xf4);
    start_at(f, 0, UPPER + CODE + 0xff0);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 5000);
    ck_assert_uint_lt(counters(f, 0).translated_exits, 40);
    fixture_free(f);
}
END_TEST

START_TEST(access_across_pages_that_are_not_neighbours)
{
    struct guest *f = fixture_new();

    /* DATA + 0x1000 is mapped elsewhere: what lies behind DATA's page in memory is not next. */
    guest_put64(f, 0x4000 + 8 * (DATA / 4096 + 1), PTE(DATA + 0x5000));
    guest_put64(f, DATA + 0x1000, UINT64_C(0xeeeeeeeeeeeeeeee));
    guest_put64(f, DATA + 0xff8, UINT64_C(0x4444444433333333));
    guest_put64(f, DATA + 0x5000, UINT64_C(0x6666666655555555));
    /* mov esi, DATA + 0xff8; mov rax, [rsi]; mov rbx, [rsi + 8]; mov rcx, [rsi + 4];
     * mov [rsi + 4], rbx; hlt: both pages are cached when they are crossed */
    GUEST_PROGRAM(f, CODE, 0xbe, 0xf8, 0x0f, 0x02, 0, 0x48, 0x8b, 0x06, 0x48, 0x8b, 0x5e, 8, 0x48,
                  0x8b, 0x4e, 4, 0x48, 0x89, 0x5e, 4, 0xf4);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RCX], UINT64_C(0x5555555544444444));
    ck_assert_uint_eq(guest_peek64(f, DATA + 0xff8), UINT64_C(0x5555555533333333));
    ck_assert_uint_eq(guest_peek64(f, DATA + 0x5000), UINT64_C(0x6666666666666666));
    ck_assert_uint_eq(guest_peek64(f, DATA + 0x1000), UINT64_C(0xeeeeeeeeeeeeeeee));
    fixture_free(f);
}
END_TEST

START_TEST(two_accesses_at_one_index)
{
    struct guest *f = fixture_new();

    guest_put64(f, STACK - 8 + 0x200000, 77);
    /* push qword [rsp + 0x1ffff8]; pop rax; hlt */
    GUEST_PROGRAM(f, CODE, 0xff, 0xb4, 0x24, 0xf8, 0xff, 0x1f, 0, 0x58, 0xf4);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RAX], 77);
    fixture_free(f);
}
END_TEST

START_TEST(invlpg_forgets)
{
    struct guest *f = fixture_new();

    guest_put64(f, DATA, 1);
    guest_put64(f, DATA + 0x5000, 2);
    /* mov esi, DATA; mov rax, [rsi]; mov rax, [rsi]; mov edi, its PTE; mov edx, PTE(DATA + 0x5000);
     * mov [rdi], rdx; invlpg [rsi]; mov rbx, [rsi]; hlt */
    GUEST_PROGRAM(f, CODE, 0xbe, 0, 0, 2, 0, 0x48, 0x8b, 0x06, 0x48, 0x8b, 0x06, 0xbf, 0x00, 0x41,
                  0, 0, 0xba, 0x63, 0x50, 2, 0, 0x48, 0x89, 0x17, 0x0f, 0x01, 0x3e, 0x48, 0x8b,
                  0x1e, 0xf4);
    struct cpu_state state = guest_run(f, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RAX], 1);
    ck_assert_uint_eq(state.gpr[CPU_RBX], 2);
    fixture_free(f);
}
END_TEST

START_TEST(flags_at_a_fault_are_exact)
{
    struct guest *f = fixture_new();
    struct cpu_state state;

    /* IDT at DATA with a gate for #PF; handler at CODE + 0x100: pop rax; pop rbx; pop; pop rdx
     * (RFLAGS); hlt */
    GUEST_PROGRAM(f, CODE + 0x100, 0x58, 0x5b, 0x59, 0x5a, 0xf4);
    guest_put64(f, DATA + 16 * 14, UINT64_C(0x00018e0000080100));
    guest_put64(f, DATA + 16 * 14 + 8, 0);
    guest_put64(f, DATA + 0x800 + 8, UINT64_C(0x00af9b000000ffff)); /* GDT */
    guest_put64(f, DATA + 0x800 + 16, UINT64_C(0x00cf93000000ffff));
    /* xor eax, eax; sub al, 1 (CF AF SF PF); mov rcx, [0x7000000]; add eax, ecx */
    GUEST_PROGRAM(f, CODE, 0x31, 0xc0, 0x2c, 1, 0x48, 0x8b, 0x0c, 0x25, 0, 0, 0, 7, 0x01, 0xc8,
                  0xf4);
    ck_assert_int_eq(soft_engine.get_state(f->cpu[0], &state, NULL), 0);
    state.idtr.base = DATA;
    state.idtr.limit = 0xfff;
    state.gdtr.base = DATA + 0x800;
    state.gdtr.limit = 0x1f;
    ck_assert_int_eq(soft_engine.set_state(f->cpu[0], &state, NULL), 0);
    state = guest_run(f, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.cr2, 0x7000000);
    ck_assert_uint_eq(state.gpr[CPU_RBX], CODE + 4); /* RIP of the load */
    ck_assert_uint_eq(state.gpr[CPU_RDX] & CPU_FLAGS_STATUS,
                      CPU_FLAG_CF | CPU_FLAG_AF | CPU_FLAG_SF | CPU_FLAG_PF);
    fixture_free(f);
}
END_TEST

/* Faults of vCPU 0 end in the HLT at CODE + 0x100, with the stack at STACK. */
static void faults_end(struct guest *f, uint64_t rip, uint64_t rsi)
{
    struct cpu_state state;

    for (unsigned vector = 12; vector <= 14; vector++) {
        guest_put64(f, DATA + 16 * vector, UINT64_C(0x00018e0000080100));
        guest_put64(f, DATA + 16 * vector + 8, 0);
    }
    guest_put64(f, DATA + 0x800 + 8, UINT64_C(0x00af9b000000ffff));
    guest_put64(f, DATA + 0x800 + 16, UINT64_C(0x00cf93000000ffff));
    GUEST_PROGRAM(f, CODE + 0x100, 0xf4);
    start_at(f, 0, rip);
    ck_assert_int_eq(soft_engine.get_state(f->cpu[0], &state, NULL), 0);
    state.idtr.base = DATA;
    state.idtr.limit = 0xfff;
    state.gdtr.base = DATA + 0x800;
    state.gdtr.limit = 0x1f;
    state.gpr[CPU_RSI] = rsi;
    ck_assert_int_eq(soft_engine.set_state(f->cpu[0], &state, NULL), 0);
}

static void alias_faults(struct guest *f, uint64_t rip, uint64_t address)
{
    bool canonical = (int64_t)(address << 16) >> 16 == (int64_t)address;
    struct cpu_state state;

    faults_end(f, rip, address);
    state = guest_run(f, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.rip, CODE + 0x101);
    if (canonical)
        ck_assert_uint_eq(state.cr2, address);
}

static void alias_program(struct guest *f)
{
    /* Twice, for the blocks behind a fault: mov rax, [DATA + 0x3040]; mov [DATA + 0x3040], rax */
    GUEST_PROGRAM(f, CODE, 0x48, 0x8b, 0x04, 0x25, 0x40, 0x30, 2, 0, 0x48, 0x89, 0x04, 0x25, 0x40,
                  0x30, 2, 0, 0x48, 0x8b, 0x1e, 0xf4); /* mov rbx, [rsi]; hlt */
    GUEST_PROGRAM(f, CODE + 0x80, 0x48, 0x8b, 0x04, 0x25, 0x40, 0x30, 2, 0, 0x48, 0x89, 0x04, 0x25,
                  0x40, 0x30, 2, 0, 0x48, 0x89, 0x1e, 0xf4); /* mov [rsi], rbx; hlt */
}

/* Every address whose low 40 bits are those of a cached page's, loaded from and stored to. */
START_TEST(no_alias_of_a_cached_page_is_accessible)
{
    struct guest *f = fixture_new();
    uint64_t data = DATA + 0x3040;

    guest_put64(f, data, UINT64_C(0x1122334455667788));
    for (uint64_t i = 1; i < 0x10000; i++) {
        if (i % 4 == 1)
            alias_program(f); /* translated anew: it would come to do without flat tables */
        /* All of bits 48 to 63; of bits 40 to 47, those of all canonical addresses at 0 and ffff */
        alias_faults(f, CODE + (i & 1) * 0x80, data | i << 48 | (i * 0x9d & 0xff) << 40);
        if (i < 0x100) {
            if (i != 0x80) /* where the tables are mapped again */
                alias_faults(f, CODE + (i & 1) * 0x80, data | i << 40);
            if (i != 0x80)
                alias_faults(f, CODE + (~i & 1) * 0x80,
                             data | UINT64_C(0xffff000000000000) | i << 40);
        }
    }
    ck_assert_uint_eq(guest_peek64(f, data), UINT64_C(0x1122334455667788));
    faults_end(f, CODE, data);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], UINT64_C(0x1122334455667788));
    fixture_free(f);
}
END_TEST

/* Two pages whose addresses the flat tables cannot tell apart. */
START_TEST(aliases_in_turn_cost_little)
{
    struct guest *f = fixture_new();
    uint64_t exits = counters(f, 0).translated_exits;
    struct cpu_state state;

    guest_put64(f, DATA, 3);
    ck_assert_int_eq(soft_engine.get_state(f->cpu[0], &state, NULL), 0);
    state.gpr[CPU_RCX] = 10000;
    state.gpr[CPU_RSI] = DATA;
    state.gpr[CPU_RDI] = UPPER | DATA;
    state.gpr[CPU_RBX] = 0;
    ck_assert_int_eq(soft_engine.set_state(f->cpu[0], &state, NULL), 0);
    /* add rbx, [rsi]; add rbx, [rdi]; dec rcx; jnz; hlt */
    GUEST_PROGRAM(f, CODE, 0x48, 0x03, 0x1e, 0x48, 0x03, 0x1f, 0x48, 0xff, 0xc9, 0x75, 0xf5, 0xf4);
    ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 60000);
    ck_assert_uint_lt(counters(f, 0).translated_exits - exits, 500);
    fixture_free(f);
}
END_TEST

START_TEST(misaligned_vector_load_faults)
{
    struct guest *f = fixture_new();
    struct cpu_state state;

    /* movaps xmm1, [rsi - 8]; movaps xmm0, [rsi]; hlt */
    GUEST_PROGRAM(f, CODE, 0x0f, 0x28, 0x4e, 0xf8, 0x0f, 0x28, 0x06, 0xf4);
    faults_end(f, CODE, DATA + 0x3028);
    guest_put64(f, DATA + 0x3020, 77);
    state = guest_run(f, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.rip, CODE + 0x101);
    ck_assert_uint_eq(guest_peek64(f, STACK - 5 * 8), CODE + 4); /* RIP, over the error code */
    fixture_free(f);
}
END_TEST

START_TEST(access_at_every_place_of_a_page_end)
{
    struct guest *f = fixture_new();

    guest_put64(f, 0x4000 + 8 * (DATA / 4096 + 4),
                PTE(DATA + 0x8000)); /* not what is next in memory */
    for (uint64_t i = 0; i < 512; i++)
        guest_put64(f, DATA + 0x3f00 + 8 * i, ~UINT64_C(0));
    for (uint64_t i = 0; i < 512; i++)
        guest_put64(f, DATA + 0x8000 + 8 * i, ~UINT64_C(0));
    /* mov rax, [rsi]; mov [rsi], rdi (0); hlt */
    GUEST_PROGRAM(f, CODE, 0x48, 0x8b, 0x06, 0x48, 0x89, 0x3e, 0xf4);
    for (unsigned round = 0; round < 2; round++)
        for (uint64_t i = 0; i < 256; i++) {
            faults_end(f, CODE, DATA + 0x3f00 + i);
            ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).rip, CODE + 7);
        }
    for (uint64_t i = 0; i < 32; i++)
        ck_assert_uint_eq(guest_peek64(f, DATA + 0x3f00 + 8 * i), 0);
    ck_assert_uint_eq(guest_peek64(f, DATA + 0x4000), ~UINT64_C(0));
    ck_assert_uint_eq(guest_peek64(f, DATA + 0x8000), UINT64_C(0xff00000000000000));
    fixture_free(f);
}
END_TEST

/* Accesses that are checked together, over every place of a page's end: the next page is not next
 * in memory. */
START_TEST(ranges_at_every_place_of_a_page_end)
{
    struct guest *f = fixture_new();
    struct cpu_state state;

    guest_put64(f, 0x4000 + 8 * (DATA / 4096 + 4), PTE(DATA + 0x8000));
    guest_put64(f, DATA + 0x4000, ~UINT64_C(0));
    /* push rsi; push rsp; mov [rsp + 4], esi; mov rax, [rsi]; add [rsi + 40], rax;
     * mov ebx, [rsi + 44]; mov cl, [rsi + 63]; add rsi, 16; mov [rsi + 24], esi; pop rdx; pop rdi;
     * hlt */
    GUEST_PROGRAM(f, CODE, 0x56, 0x54, 0x89, 0x74, 0x24, 4, 0x48, 0x8b, 0x06, 0x48, 0x01, 0x46, 40,
                  0x8b, 0x5e, 44, 0x8a, 0x4e, 63, 0x48, 0x83, 0xc6, 16, 0x89, 0x76, 24, 0x5a, 0x5f,
                  0xf4);
    for (unsigned round = 0; round < 2; round++)
        for (uint64_t i = 0; i < 512; i++) {
            uint64_t at = DATA + 0x3e00 + i, rsp = DATA + 0x7010 - (i & 63);

            faults_end(f, CODE, at);
            ck_assert_int_eq(soft_engine.get_state(f->cpu[0], &state, NULL), 0);
            state.gpr[CPU_RSP] = rsp;
            ck_assert_int_eq(soft_engine.set_state(f->cpu[0], &state, NULL), 0);
            for (uint64_t j = 0; j < 64; j++) { /* the bytes at `at` are 1 to 64 */
                uint8_t byte = (uint8_t)(j + 1);
                uint64_t gpa = at + j;

                guest_put(f, gpa < DATA + 0x4000 ? gpa : gpa + 0x4000, &byte, 1);
            }
            state = guest_run(f, 0, CPU_EXIT_HALT);
            ck_assert_uint_eq(state.rip, CODE + 29);
            ck_assert_uint_eq(state.gpr[CPU_RAX], UINT64_C(0x0807060504030201));
            ck_assert_uint_eq(state.gpr[CPU_RBX], 0x302f2e2d + 0x08070605);
            ck_assert_uint_eq(state.gpr[CPU_RCX] & 0xff, 64);
            ck_assert_uint_eq(state.gpr[CPU_RDI], at);
            ck_assert_uint_eq(state.gpr[CPU_RDX], (rsp - 8) | at << 32);
            ck_assert_uint_eq(state.gpr[CPU_RSP], rsp);
        }
    ck_assert_uint_eq(guest_peek64(f, DATA + 0x4000), ~UINT64_C(0));
    fixture_free(f);
}
END_TEST

/* The first access is allowed, the range is not. */
START_TEST(range_into_a_page_that_is_not_there)
{
    struct guest *f = fixture_new();
    struct cpu_state state;

    guest_put64(f, 0x4000 + 8 * (DATA / 4096 + 4), 0);
    /* mov rax, [rsi]; mov [rsi + 8], rax; hlt */
    GUEST_PROGRAM(f, CODE, 0x48, 0x8b, 0x06, 0x48, 0x89, 0x46, 8, 0xf4);
    for (unsigned round = 0; round < 3; round++) {
        faults_end(f, CODE, DATA + 0x3ff8);
        state = guest_run(f, 0, CPU_EXIT_HALT);
        ck_assert_uint_eq(state.rip, CODE + 0x101);
        ck_assert_uint_eq(state.cr2, DATA + 0x4000);
        ck_assert_uint_eq(guest_peek64(f, STACK - 5 * 8), CODE + 3);
        faults_end(f, CODE, DATA + 0x3000);
        ck_assert_uint_eq(guest_run(f, 0, CPU_EXIT_HALT).rip, CODE + 8);
    }
    fixture_free(f);
}
END_TEST

static void *run_second(void *context)
{
    struct cpu_exit exit;

    soft_engine.run(((struct guest *)context)->cpu[1], &exit, NULL);
    return (void *)(uintptr_t)exit.kind;
}

static void sleep_ms(long ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000};

    nanosleep(&t, NULL);
}

START_TEST(kick_ends_an_endless_loop)
{
    struct guest *f = fixture_new();
    pthread_t thread;
    void *kind;

    GUEST_PROGRAM(f, CODE, 0xeb, 0xfe); /* jmp $ */
    ck_assert_int_eq(pthread_create(&thread, NULL, run_second, f), 0);
    sleep_ms(20);
    cpu_request(f->cpu[1], CPU_REQUEST_KICK);
    pthread_join(thread, &kind);
    ck_assert_uint_eq((uintptr_t)kind, CPU_EXIT_KICK);
    fixture_free(f);
}
END_TEST

/* Where every jump is one through the table, which has no poll. */
START_TEST(kick_ends_a_loop_of_indirect_jumps)
{
    struct guest *f = fixture_new();
    pthread_t thread;
    void *kind;

    /* lea rax, [rip]; jmp rax, which is where RAX points to */
    GUEST_PROGRAM(f, CODE, 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xff, 0xe0);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_int_eq(pthread_create(&thread, NULL, run_second, f), 0);
        sleep_ms(5);
        cpu_request(f->cpu[1], CPU_REQUEST_KICK);
        pthread_join(thread, &kind);
        ck_assert_uint_eq((uintptr_t)kind, CPU_EXIT_KICK);
    }
    fixture_free(f);
}
END_TEST

START_TEST(code_changed_by_a_device_reaches_a_running_vcpu)
{
    struct guest *f = fixture_new();
    uint8_t two = 2;
    pthread_t thread;
    void *kind;

    /* l: mov eax, 1; cmp eax, 2; jne l; hlt */
    GUEST_PROGRAM(f, CODE, 0xb8, 1, 0, 0, 0, 0x83, 0xf8, 2, 0x75, 0xf6, 0xf4);
    ck_assert_int_eq(pthread_create(&thread, NULL, run_second, f), 0);
    sleep_ms(20);
    guest_put(f, CODE + 1, &two, 1);
    pthread_join(thread, &kind);
    ck_assert_uint_eq((uintptr_t)kind, CPU_EXIT_HALT);
    fixture_free(f);
}
END_TEST

START_TEST(a_page_becomes_code_while_another_vcpu_stores_to_it)
{
    struct guest *f = fixture_new();
    pthread_t thread;
    void *kind;

    /* vCPU 1 at CODE: l: inc dword [DATA + 1]; cmp byte [DATA + 0x800], 0; je l; hlt
     * The dword is the operand of what vCPU 0 runs: l: mov eax, imm; cmp eax, ebx; je l (while it
     * does not change); then it tells, hlt. */
    GUEST_PROGRAM(f, CODE, 0xff, 0x04, 0x25, 1, 0, 2, 0, 0x80, 0x3c, 0x25, 0, 8, 2, 0, 0, 0x74,
                  0xef, 0xf4);
    /* mov eax, 0 | mov ebx, eax | mov ecx, 200 at CODE + 0x800: calls DATA until EAX was new 200
     * times: l: call DATA; cmp eax, ebx; je l; mov ebx, eax; dec ecx; jnz l; mov byte [DATA +
     * 0x800], 1; hlt */
    GUEST_PROGRAM(f, DATA, 0xb8, 0, 0, 0, 0, 0xc3); /* mov eax, n; ret */
    GUEST_PROGRAM(f, CODE + 0x800, 0xb9, 200, 0, 0, 0, 0xe8, 0xf6, 0xf7, 0, 0, 0x39, 0xd8, 0x74,
                  0xf7, 0x89, 0xc3, 0xff, 0xc9, 0x75, 0xf1, 0xc6, 0x04, 0x25, 0, 8, 2, 0, 1, 0xf4);
    start_at(f, 0, CODE + 0x800);
    ck_assert_int_eq(pthread_create(&thread, NULL, run_second, f), 0);
    guest_run(f, 0, CPU_EXIT_HALT);
    pthread_join(thread, &kind);
    ck_assert_uint_eq((uintptr_t)kind, CPU_EXIT_HALT);
    fixture_free(f);
}
END_TEST

TEST_MAIN("translate", tcase_add_test(tcase, loop_stays_inside);
          tcase_add_test(tcase, calls_and_returns_across_pages_stay_inside);
          tcase_add_test(tcase, jumps_between_pages_are_linked);
          tcase_add_test(tcase, links_between_pages_end_with_the_mapping);
          tcase_add_test(tcase, a_page_at_two_addresses_has_no_links_out);
          tcase_add_test(tcase, return_to_another_address_than_the_calls);
          tcase_add_test(tcase, return_over_a_frame);
          tcase_add_test(tcase, calls_that_never_return);
          tcase_add_test(tcase, deep_recursion_comes_back);
          tcase_add_test(tcase, return_point_is_mapped_elsewhere_meanwhile);
          tcase_add_test(tcase, pauses_offer_the_processor);
          tcase_add_test(tcase, code_larger_than_the_cache_goes_on);
          tcase_add_test(tcase, store_into_the_next_instruction);
          tcase_add_test(tcase, loop_that_changes_itself);
          tcase_add_test(tcase, linked_target_changes);
          tcase_add_test(tcase, instruction_in_two_pages_in_a_loop);
          tcase_add_test(tcase, access_across_pages_that_are_not_neighbours);
          tcase_add_test(tcase, two_accesses_at_one_index); tcase_add_test(tcase, invlpg_forgets);
          tcase_add_test(tcase, flags_at_a_fault_are_exact);
          tcase_add_test(tcase, no_alias_of_a_cached_page_is_accessible);
          tcase_add_test(tcase, aliases_in_turn_cost_little);
          tcase_add_test(tcase, misaligned_vector_load_faults);
          tcase_add_test(tcase, access_at_every_place_of_a_page_end);
          tcase_add_test(tcase, ranges_at_every_place_of_a_page_end);
          tcase_add_test(tcase, range_into_a_page_that_is_not_there);
          tcase_add_test(tcase, kick_ends_an_endless_loop);
          tcase_add_test(tcase, kick_ends_a_loop_of_indirect_jumps);
          tcase_add_test(tcase, code_changed_by_a_device_reaches_a_running_vcpu);
          tcase_add_test(tcase, a_page_becomes_code_while_another_vcpu_stores_to_it);)
