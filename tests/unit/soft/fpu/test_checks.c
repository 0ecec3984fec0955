/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a user-mode oracle cannot show: faults by control register, feature and mode, and the
 * formats outside 64-bit mode. Expectations: SDM 3A tables 2-2 and 12-1, SDM 2A 2.7, SDM 1 figures
 * 8-9 to 8-12.
 */
#include "harness.h"

#include "base/util.h"
#include "soft/fpu/fpu.h"
#include "testing.h"

#include <string.h>

#define CR0_BASE (CPU_CR0_PE | CPU_CR0_NE)
#define CR4_SSE  (CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT)
#define CR4_AVX  (CR4_SSE | CPU_CR4_OSXSAVE)
#define OK       NATIVE_OK

struct check {
    const char *name;
    const char *bytes;
    unsigned length;
    uint64_t cr0, cr4, xcr0;
    uint8_t mode; /* enum soft_mode */
    int expected;
};

#define CASE(name, bytes, cr0, cr4, xcr0, mode, expected)                          \
    {                                                                              \
        name, bytes, sizeof(bytes) - 1, cr0, cr4, xcr0, SOFT_MODE_##mode, expected \
    }

#define ADDPS  "\x0f\x58\xc1"
#define VADDPS "\xc5\xf0\x58\xc2"
#define PADDB  "\x0f\xfc\xc1"
#define FLD1   "\xd9\xe8"
#define FNINIT "\xdb\xe3"
#define FWAIT  "\x9b"
#define EMMS   "\x0f\x77"
#define FXSAVE "\x0f\xae\x07"
#define XSAVE  "\x0f\xae\x27"

static const struct check checks[] = {
    CASE("SSE", ADDPS, CR0_BASE, CR4_SSE, 1, LONG64, OK),
    CASE("SSE with EM", ADDPS, CR0_BASE | CPU_CR0_EM, CR4_SSE, 1, LONG64, CPU_VECTOR_UD),
    CASE("SSE without OSFXSR", ADDPS, CR0_BASE, 0, 1, LONG64, CPU_VECTOR_UD),
    CASE("SSE with TS", ADDPS, CR0_BASE | CPU_CR0_TS, CR4_SSE, 1, LONG64, CPU_VECTOR_NM),
    CASE("SSE with EM and TS", ADDPS, CR0_BASE | CPU_CR0_EM | CPU_CR0_TS, CR4_SSE, 1, LONG64,
         CPU_VECTOR_UD),
    CASE("AVX", VADDPS, CR0_BASE, CR4_AVX, 7, LONG64, OK),
    CASE("AVX with EM", VADDPS, CR0_BASE | CPU_CR0_EM, CR4_AVX, 7, LONG64, OK),
    CASE("AVX without OSXSAVE", VADDPS, CR0_BASE, CR4_SSE, 7, LONG64, CPU_VECTOR_UD),
    CASE("AVX without XCR0.AVX", VADDPS, CR0_BASE, CR4_AVX, 3, LONG64, CPU_VECTOR_UD),
    CASE("AVX with TS", VADDPS, CR0_BASE | CPU_CR0_TS, CR4_AVX, 7, LONG64, CPU_VECTOR_NM),
    CASE("MMX without OSFXSR", PADDB, CR0_BASE, 0, 1, LONG64, OK),
    CASE("MMX with EM", PADDB, CR0_BASE | CPU_CR0_EM, CR4_SSE, 1, LONG64, CPU_VECTOR_UD),
    CASE("MMX with TS", PADDB, CR0_BASE | CPU_CR0_TS, CR4_SSE, 1, LONG64, CPU_VECTOR_NM),
    CASE("EMMS with EM", EMMS, CR0_BASE | CPU_CR0_EM, 0, 1, LONG64, CPU_VECTOR_UD),
    CASE("x87", FLD1, CR0_BASE, 0, 1, LONG64, OK),
    CASE("x87 with EM", FLD1, CR0_BASE | CPU_CR0_EM, 0, 1, LONG64, CPU_VECTOR_NM),
    CASE("x87 with TS", FLD1, CR0_BASE | CPU_CR0_TS, 0, 1, LONG64, CPU_VECTOR_NM),
    CASE("FNINIT with TS", FNINIT, CR0_BASE | CPU_CR0_TS, 0, 1, LONG64, CPU_VECTOR_NM),
    CASE("FWAIT with TS", FWAIT, CR0_BASE | CPU_CR0_TS, 0, 1, LONG64, OK),
    CASE("FWAIT with MP", FWAIT, CR0_BASE | CPU_CR0_MP, 0, 1, LONG64, OK),
    CASE("FWAIT with MP and TS", FWAIT, CR0_BASE | CPU_CR0_MP | CPU_CR0_TS, 0, 1, LONG64,
         CPU_VECTOR_NM),
    CASE("FWAIT with EM", FWAIT, CR0_BASE | CPU_CR0_EM, 0, 1, LONG64, OK),
    CASE("FXSAVE", FXSAVE, CR0_BASE, CR4_SSE, 1, LONG64, OK),
    CASE("FXSAVE with EM", FXSAVE, CR0_BASE | CPU_CR0_EM, CR4_SSE, 1, LONG64, CPU_VECTOR_NM),
    CASE("XSAVE without OSXSAVE", XSAVE, CR0_BASE, CR4_SSE, 7, LONG64, CPU_VECTOR_UD),
    CASE("XSAVE with TS", XSAVE, CR0_BASE | CPU_CR0_TS, CR4_AVX, 7, LONG64, CPU_VECTOR_NM),
    CASE("XSAVE with EM", XSAVE, CR0_BASE | CPU_CR0_EM, CR4_AVX, 7, LONG64, OK),
    CASE("SSE in real mode", ADDPS, CPU_CR0_NE, CR4_SSE, 1, REAL, OK),
    CASE("AVX in real mode", VADDPS, CPU_CR0_NE, CR4_AVX, 7, REAL, CPU_VECTOR_UD),
    CASE("AVX in virtual-8086 mode", VADDPS, CR0_BASE, CR4_AVX, 7, V86, CPU_VECTOR_UD),
    CASE("AVX in protected mode", VADDPS, CR0_BASE, CR4_AVX, 7, PROTECTED, OK),
};

static enum insn_mode decode_mode(uint8_t mode)
{
    return mode == SOFT_MODE_LONG64                          ? INSN_MODE_64
           : mode == SOFT_MODE_REAL || mode == SOFT_MODE_V86 ? INSN_MODE_16
                                                             : INSN_MODE_32;
}

static void setup(uint64_t cr0, uint64_t cr4, uint64_t xcr0, uint8_t mode)
{
    struct soft_cpu *cpu = &harness.cpu;

    cpu->cr0 = cr0;
    cpu->cr4 = cr4;
    cpu->xcr0 = xcr0;
    cpu->mode = mode;
    fpu_reset(cpu);
    cpu->fpu.area.fcw = FPU_FCW_DEFAULT;
    cpu->fpu.area.ftw = 0;
    memset(cpu->segment, 0, sizeof(cpu->segment));
    cpu->segment[CPU_DS].base = (uint64_t)(uintptr_t)harness.arena;
    memset(cpu->gpr, 0, sizeof(cpu->gpr));
    cpu->gpr[CPU_RAX] = 7;
}

static int run(const char *bytes, unsigned length, enum insn_mode mode)
{
    struct insn insn;

    ck_assert_int_eq(insn_decode((const uint8_t *)bytes, length, mode, &insn), INSN_OK);
    harness.cpu.next_rip = harness.cpu.rip + length;
    switch (harness_handler((enum insn_id)insn.id)(&harness.cpu, &insn)) {
    case SOFT_OK:
        return OK;
    case SOFT_FAULT:
        return harness.cpu.fault.vector;
    default:
        return 1000;
    }
}

#define RUN(bytes, mode) run(bytes, sizeof(bytes) - 1, mode)

START_TEST(control_registers)
{
    TEST_NEEDS(harness_init(), "the host cannot be the oracle");
    for (unsigned i = 0; i < ARRAY_LEN(checks); i++) {
        const struct check *check = &checks[i];
        /* [BX] in 16-bit forms */
        int got;

        setup(check->cr0, check->cr4, check->xcr0, check->mode);
        got = run(check->bytes, check->length, decode_mode(check->mode));
        ck_assert_msg(got == check->expected, "%s: got %d, not %d", check->name, got,
                      check->expected);
    }
}
END_TEST

START_TEST(hidden_features)
{
    TEST_NEEDS(harness_init(), "the host cannot be the oracle");
    setup(CR0_BASE, CR4_AVX, 7, SOFT_MODE_LONG64);
    harness.vm.features[INSN_FEATURE_SSE] = 0;
    ck_assert_int_eq(RUN(ADDPS, INSN_MODE_64), CPU_VECTOR_UD);
    harness.vm.features[INSN_FEATURE_AVX] = 0;
    ck_assert_int_eq(RUN(VADDPS, INSN_MODE_64), CPU_VECTOR_UD);
    harness.vm.features[INSN_FEATURE_MMX] = 0;
    ck_assert_int_eq(RUN(PADDB, INSN_MODE_64), CPU_VECTOR_UD);
    harness.vm.features[INSN_FEATURE_X87] = 0;
    ck_assert_int_eq(RUN(FLD1, INSN_MODE_64), CPU_VECTOR_UD);
    harness.vm.features[INSN_FEATURE_XSAVE] = 0;
    ck_assert_int_eq(RUN(XSAVE, INSN_MODE_64), CPU_VECTOR_UD);
}
END_TEST

/* FLDCW unmasks divide by zero; 1/0 is pending; what reports it and what does not. */
START_TEST(pending_exception)
{
    struct soft_cpu *cpu = &harness.cpu;

    TEST_NEEDS(harness_init(), "the host cannot be the oracle");
    setup(CR0_BASE, CR4_SSE, 1, SOFT_MODE_LONG64);
    cpu->fpu.area.fcw = 0x37b;
    ck_assert_int_eq(RUN(FLD1, INSN_MODE_64), OK);
    ck_assert_int_eq(RUN("\xd9\xee", INSN_MODE_64), OK); /* FLDZ */
    cpu->rip = 0x1234;
    ck_assert_int_eq(RUN("\xde\xf9", INSN_MODE_64), OK); /* FDIVP: ST(1) / ST(0) */
    ck_assert_uint_eq(cpu->fpu.area.fsw & 0x8084, 0x8084);
    ck_assert_uint_eq(cpu->fpu.area.fip, 0x1234);
    cpu->rip = 0;
    ck_assert_int_eq(RUN(FLD1, INSN_MODE_64), CPU_VECTOR_MF);
    ck_assert_int_eq(RUN(FWAIT, INSN_MODE_64), CPU_VECTOR_MF);
    ck_assert_int_eq(RUN(PADDB, INSN_MODE_64), CPU_VECTOR_MF);
    ck_assert_int_eq(RUN("\x66\x0f\xfc\xc1", INSN_MODE_64), OK); /* PADDB xmm */
    ck_assert_int_eq(RUN("\xdf\xe0", INSN_MODE_64), OK);         /* FNSTSW AX */
    ck_assert_uint_eq(cpu->gpr[CPU_RAX] & 0x84, 0x84);
    /* Without NE nothing is reported, and the exception stays. */
    cpu->cr0 &= ~CPU_CR0_NE;
    ck_assert_int_eq(RUN("\xd9\xc0", INSN_MODE_64), OK); /* FLD ST(0) */
    ck_assert_uint_eq(cpu->fpu.area.fsw & 0x8084, 0x8084);
    cpu->cr0 |= CPU_CR0_NE;
    ck_assert_int_eq(RUN("\xdb\xe2", INSN_MODE_64), OK); /* FNCLEX */
    ck_assert_int_eq(RUN(FWAIT, INSN_MODE_64), OK);
}
END_TEST

/* A denormal divisor, unmasked: #XM with CR4.OSXMMEXCPT, else #UD; the destination stays. */
START_TEST(simd_exception)
{
    struct soft_cpu *cpu = &harness.cpu;
    static const uint8_t one[4] = {0, 0, 0x80, 0x3f};

    TEST_NEEDS(harness_init(), "the host cannot be the oracle");
    setup(CR0_BASE, CR4_SSE, 1, SOFT_MODE_LONG64);
    cpu->fpu.area.mxcsr = 0x1d80; /* ZM clear */
    memcpy(cpu->fpu.area.xmm[0], one, 4);
    ck_assert_int_eq(RUN("\xf3\x0f\x5e\xc1", INSN_MODE_64), CPU_VECTOR_XM); /* DIVSS 1, 0 */
    ck_assert_uint_eq(cpu->fpu.area.mxcsr, 0x1d84);
    ck_assert_mem_eq(cpu->fpu.area.xmm[0], one, 4);
    cpu->cr4 &= ~CPU_CR4_OSXMMEXCPT;
    ck_assert_int_eq(RUN("\xf3\x0f\x5e\xc1", INSN_MODE_64), CPU_VECTOR_UD);
}
END_TEST

static void set_pointers(void)
{
    struct soft_cpu *cpu = &harness.cpu;

    cpu->fpu.area.fsw = 0x3800;
    cpu->fpu.area.ftw = 0x80;
    cpu->fpu.area.st[0].exponent = 0x3fff;
    cpu->fpu.area.st[0].mantissa = UINT64_C(1) << 63;
    cpu->fpu.area.fip = 0x5678;
    cpu->fpu.area.fdp = 0x9abc;
    cpu->fpu.area.fop = 0x123;
    cpu->fpu.fcs = 0x1111;
    cpu->fpu.fds = 0x2222;
}

START_TEST(environment_formats)
{
    static const struct {
        uint8_t mode;
        const char *bytes;
        unsigned length;
        uint16_t words[14];
        unsigned nr_words;
    } formats[] = {
        {SOFT_MODE_PROTECTED,
         "\xd9\x37",
         2, /* FNSTENV [EDI] */
         {0x37f, 0xffff, 0x3800, 0xffff, 0x3fff, 0xffff, 0x5678, 0, 0x1111, 0x123, 0x9abc, 0,
          0x2222, 0xffff},
         14},
        {SOFT_MODE_PROTECTED,
         "\x66\xd9\x37",
         3,
         {0x37f, 0x3800, 0x3fff, 0x5678, 0x1111, 0x9abc, 0x2222},
         7},
        /* Real mode: linear addresses 1111h * 16 + 5678h = 16788h, 2222h * 16 + 9ABCh = 2BCDCh */
        {SOFT_MODE_REAL,
         "\xd9\x35",
         2, /* FNSTENV [DI] */
         {0x37f, 0x3800, 0x3fff, 0x6788, 0x1123, 0xbcdc, 0x2000},
         7},
        {SOFT_MODE_V86,
         "\x66\xd9\x35",
         3,
         {0x37f, 0xffff, 0x3800, 0xffff, 0x3fff, 0xffff, 0x6788, 0xffff, 0x1123, 0, 0xbcdc, 0xffff,
          0x2000, 0},
         14},
    };

    TEST_NEEDS(harness_init(), "the host cannot be the oracle");
    for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
        setup(CR0_BASE, CR4_SSE, 1, formats[i].mode);
        set_pointers();
        ck_assert_int_eq(run(formats[i].bytes, formats[i].length, decode_mode(formats[i].mode)),
                         OK);
        for (unsigned n = 0; n < formats[i].nr_words; n++)
            ck_assert_msg(load_le16(harness.copy + 2 * n) == formats[i].words[n],
                          "format %u word %u: %04x, not %04x", i, n,
                          load_le16(harness.copy + 2 * n), formats[i].words[n]);
    }
}
END_TEST

/* Outside 64-bit mode registers 8 to 15 are out of reach. */
START_TEST(upper_registers)
{
    struct soft_cpu *cpu = &harness.cpu;

    TEST_NEEDS(harness_init(), "the host cannot be the oracle");
    setup(CR0_BASE, CR4_AVX, 7, SOFT_MODE_PROTECTED);
    memset(cpu->fpu.area.xmm, 0x11, sizeof(cpu->fpu.area.xmm));
    memset(cpu->fpu.area.ymm_high, 0x22, sizeof(cpu->fpu.area.ymm_high));
    memset(harness.copy, 0x33, sizeof(harness.copy));
    ck_assert_int_eq(RUN(FXSAVE, INSN_MODE_32), OK);
    ck_assert_uint_eq(harness.copy[160 + 7 * 16], 0x11);
    ck_assert_uint_eq(harness.copy[160 + 8 * 16], 0x33);
    ck_assert_int_eq(RUN("\xc5\xfc\x77", INSN_MODE_32), OK); /* VZEROALL */
    ck_assert_uint_eq(cpu->fpu.area.xmm[7][0], 0);
    ck_assert_uint_eq(cpu->fpu.area.xmm[8][0], 0x11);
    ck_assert_uint_eq(cpu->fpu.area.ymm_high[8][0], 0x22);
}
END_TEST

/* A gather that faults keeps what is below the fault, and clears its mask there. */
START_TEST(gather_fault)
{
    struct soft_cpu *cpu = &harness.cpu;
    struct fpu_area *area = &cpu->fpu.area;

    TEST_NEEDS(harness_init(), "the host cannot be the oracle");
    setup(CR0_BASE, CR4_AVX, 7, SOFT_MODE_LONG64);
    memset(harness.copy, 0x44, sizeof(harness.copy));
    memset(area->xmm[1], 0xff, 16); /* mask */
    for (unsigned i = 0; i < 4; i++)
        store_le32(&area->xmm[2][4 * i], i == 2 ? HARNESS_READABLE : 4 * i);
    /* VPGATHERDD xmm0, [rdi + xmm2], xmm1 */
    ck_assert_int_eq(RUN("\xc4\xe2\x71\x90\x04\x17", INSN_MODE_64), CPU_VECTOR_PF);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_uint_eq(load_le32(&area->xmm[0][4 * i]), i < 2 ? 0x44444444 : 0);
        ck_assert_uint_eq(load_le32(&area->xmm[1][4 * i]), i < 2 ? 0 : 0xffffffff);
    }
}
END_TEST

/* A state from outside: absent components are initial, reserved bits go, ES follows the flags. */
START_TEST(import)
{
    struct soft_cpu *cpu = &harness.cpu;
    struct fpu_area in, out;

    TEST_NEEDS(harness_init(), "the host cannot be the oracle");
    memset(&in, 0xff, sizeof(in));
    in.xstate_bv = 0;
    fpu_import(cpu, (const uint8_t *)&in);
    fpu_export(cpu, (uint8_t *)&out);
    ck_assert_uint_eq(out.fcw, FPU_FCW_DEFAULT);
    ck_assert_uint_eq(out.ftw, 0);
    ck_assert_uint_eq(out.mxcsr, FPU_MXCSR_DEFAULT);
    ck_assert_uint_eq(fpu_in_use(cpu), 0);
    ck_assert_uint_eq(out.xstate_bv, CPU_XCR0_SUPPORTED);
    in.xstate_bv = CPU_XCR0_SUPPORTED;
    in.fcw = 0;
    in.fsw = 1;
    fpu_import(cpu, (const uint8_t *)&in);
    fpu_export(cpu, (uint8_t *)&out);
    ck_assert_uint_eq(out.fcw, 0x40);
    ck_assert_uint_eq(out.fsw, 0x8081);
    ck_assert_uint_eq(out.mxcsr, FPU_MXCSR_MASK);
    ck_assert_uint_eq(out.st[0].padding[0], 0);
    ck_assert_uint_eq(out.fop, 0x7ff);
    ck_assert_uint_eq(out.xcomp_bv, 0);
    ck_assert_uint_eq(out.ymm_high[15][15], 0xff);
    ck_assert_uint_eq(fpu_in_use(cpu), 7);
}
END_TEST

TEST_MAIN("fpu_checks", tcase_add_test(tcase, control_registers);
          tcase_add_test(tcase, hidden_features); tcase_add_test(tcase, pending_exception);
          tcase_add_test(tcase, simd_exception); tcase_add_test(tcase, environment_formats);
          tcase_add_test(tcase, upper_registers); tcase_add_test(tcase, gather_fault);
          tcase_add_test(tcase, import);)
