/* SPDX-License-Identifier: Apache-2.0 */
/* What the comparison of the tiers (tests/diff/tiers.h) has found, made small. */
#include "soft/soft_guest.h"

#define RAM   0x200000u
#define CODE  0x10000u
#define DATA  0x20000u
#define PTES  0x4000u
#define MXCSR 24 /* in the XSAVE image */

struct fixture {
    struct guest guest;
    struct cpu_state state; /* to start with: 64-bit mode, ring 0, no IDT */
};

/* Memory mapped to itself by 4 KiB pages, dirty but for DATA. */
static void tables_fill(struct guest *g)
{
    guest_put64(g, 0x1000, 0x2063);
    guest_put64(g, 0x2000, 0x3063);
    guest_put64(g, 0x3000, PTES | 0x63);
    for (uint64_t i = 0; i < RAM / 4096; i++)
        guest_put64(g, PTES + 8 * i, i << 12 | 0x63);
    guest_put64(g, PTES + 8 * (DATA / 4096), DATA | 3);
}

static struct fixture *fixture_new(const uint8_t *code, size_t length)
{
    struct fixture *f = aligned_alloc(64, (sizeof(*f) + 63) & ~(size_t)63);

    ck_assert_ptr_nonnull(f);
    guest_init(&f->guest, "tier=translate,runs=0", 1, RAM, NULL);
    tables_fill(&f->guest);
    guest_put(&f->guest, CODE, code, length);
    guest_long_mode(&f->state, 0, CODE, 0x30000);
    f->state.cr4 |= CPU_CR4_OSXSAVE;
    f->state.xcr0 = CPU_XCR0_SUPPORTED;
    return f;
}

#define PROGRAM(...) \
    fixture_new((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void fixture_free(struct fixture *f)
{
    guest_done(&f->guest);
    free(f);
}

/* CPU_EXIT_SHUTDOWN: an exception, as there are no handlers. */
static struct cpu_state run(struct fixture *f, enum cpu_exit_kind kind)
{
    ck_assert_int_eq(soft_engine.set_state(f->guest.cpu[0], &f->state, NULL), 0);
    return guest_run(&f->guest, 0, kind);
}

START_TEST(avx_behind_sse_is_checked_too)
{
    /* addps xmm0, xmm0; jmp; vaddps xmm0, xmm0, xmm0; hlt */
    struct fixture *f = PROGRAM(0x0f, 0x58, 0xc0, 0xeb, 0, 0xc5, 0xf8, 0x58, 0xc0, 0xf4);

    run(f, CPU_EXIT_HALT);
    run(f, CPU_EXIT_HALT); /* now the blocks are linked */
    f->state.cr4 &= ~CPU_CR4_OSXSAVE;
    run(f, CPU_EXIT_SHUTDOWN);
    f->state.cr4 |= CPU_CR4_OSXSAVE;
    f->state.xcr0 = CPU_XCR0_X87 | CPU_XCR0_SSE;
    run(f, CPU_EXIT_SHUTDOWN);
    fixture_free(f);
}
END_TEST

START_TEST(avx_behind_sse_in_one_block)
{
    /* addps xmm0, xmm0; vaddps xmm0, xmm0, xmm0; hlt */
    struct fixture *f = PROGRAM(0x0f, 0x58, 0xc0, 0xc5, 0xf8, 0x58, 0xc0, 0xf4);

    run(f, CPU_EXIT_HALT);
    f->state.cr4 &= ~CPU_CR4_OSXSAVE;
    run(f, CPU_EXIT_SHUTDOWN);
    fixture_free(f);
}
END_TEST

START_TEST(misaligned_store_dirties_no_page)
{
    /* movntps [rdi], xmm0; hlt */
    struct fixture *f = PROGRAM(0x0f, 0x2b, 0x07, 0xf4);
    uint64_t entry;

    f->state.gpr[CPU_RDI] = DATA + 8;
    run(f, CPU_EXIT_SHUTDOWN);
    ck_assert_int_eq(memory_read(f->guest.memory, PTES + 8 * (DATA / 4096), &entry, 8), 0);
    ck_assert_uint_eq(entry & 0x40, 0);
    f->state.gpr[CPU_RDI] = DATA + 16;
    run(f, CPU_EXIT_HALT);
    ck_assert_int_eq(memory_read(f->guest.memory, PTES + 8 * (DATA / 4096), &entry, 8), 0);
    ck_assert_uint_eq(entry & 0x40, 0x40);
    fixture_free(f);
}
END_TEST

START_TEST(conversion_from_memory_has_the_guests_mxcsr)
{
    /* cvtss2si eax, [rdi]; hlt */
    struct fixture *f = PROGRAM(0xf3, 0x0f, 0x2d, 0x07, 0xf4);
    struct cpu_state state;
    const float value = 1.25f;

    ck_assert_int_eq(memory_write(f->guest.memory, DATA, &value, 4), 0);
    f->state.gpr[CPU_RDI] = DATA;
    for (unsigned i = 0; i < 2; i++) {
        memcpy(f->state.xsave + MXCSR, &(uint32_t){0x5f80}, 4); /* round up */
        state = run(f, CPU_EXIT_HALT);
        ck_assert_uint_eq(state.gpr[CPU_RAX], 2);
        ck_assert_uint_eq(state.xsave[MXCSR], 0xa0);
    }
    fixture_free(f);
}
END_TEST

/* Its last byte, in the next granule of the page, is written by the instruction before. */
START_TEST(write_into_what_was_no_instruction)
{
    /* mov [rdi], al; c5 f8 .. : vzeroupper with 77, undefined with 04; hlt */
    static const uint8_t code[] = {0x88, 0x07, 0xc5, 0xf8, 0x04, 0xf4};
    struct fixture *f = PROGRAM(0xf4);

    guest_put(&f->guest, CODE + 0x3c, code, sizeof(code));
    f->state.rip = CODE + 0x3c;
    f->state.gpr[CPU_RDI] = CODE + 0x40;
    for (unsigned i = 0; i < 4; i++) {
        f->state.gpr[CPU_RAX] = 0x04;
        run(f, CPU_EXIT_SHUTDOWN);
        f->state.gpr[CPU_RAX] = 0x77;
        run(f, CPU_EXIT_HALT);
    }
    fixture_free(f);
}
END_TEST

/* The target is more than 2 GiB from the start of the branch's page. */
START_TEST(branch_farther_than_a_link)
{
    static const uint8_t code[][6] = {
        {0x0f, 0x84, 0, 0xff, 0xff, 0x7f},     /* jz */
        {0x66, 0x90, 0xe9, 0, 0xff, 0xff},     /* jmp; its last byte follows */
        {0x66, 0x90, 0xe8, 0, 0xff, 0xff},     /* call */
        {0x0f, 0x84 + 1, 0, 0xff, 0xff, 0x7f}, /* jnz: the block goes on behind it */
    };

    for (unsigned i = 0; i < ARRAY_LEN(code); i++) {
        struct fixture *f = PROGRAM(0xf4);
        uint64_t to = UINT64_C(0x80000000) + CODE + 0xe06 + (code[i][0] == 0x66);

        guest_put64(&f->guest, 0x2000 + 8 * 2, 0x3063); /* the same memory again at 2 GiB */
        guest_put(&f->guest, CODE + 0xe00,
                  (const uint8_t[]){0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4}, 8);
        guest_put(&f->guest, CODE + 0xf00, code[i], sizeof(code[i]));
        guest_put(&f->guest, CODE + 0xf06, (const uint8_t[]){0x7f, 0xf4}, 2);
        f->state.rip = CODE + 0xf00;
        for (unsigned k = 0; k < 3; k++) {
            f->state.rflags = CPU_FLAG_ONE | (i == 3 ? 0 : CPU_FLAG_ZF);
            ck_assert_uint_eq(run(f, CPU_EXIT_HALT).rip, to + 1);
        }
        fixture_free(f);
    }
}
END_TEST

TEST_MAIN("soft_found", tcase_add_test(tcase, avx_behind_sse_is_checked_too);
          tcase_add_test(tcase, avx_behind_sse_in_one_block);
          tcase_add_test(tcase, misaligned_store_dirties_no_page);
          tcase_add_test(tcase, conversion_from_memory_has_the_guests_mxcsr);
          tcase_add_test(tcase, write_into_what_was_no_instruction);
          tcase_add_test(tcase, branch_farther_than_a_link);)
