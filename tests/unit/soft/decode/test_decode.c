/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hand-made vectors for what is easy to get wrong, and the contract that the comparison with Zydis
 * does not see: results, sign extension, traits, features, truncation.
 */
#include "cpu/state.h"
#include "soft/decode/insn.h"
#include "testing.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { M16 = INSN_MODE_16, M32 = INSN_MODE_32, M64 = INSN_MODE_64 };

/* "66 0f 58 c0" to bytes. */
static size_t parse(const char *text, uint8_t *bytes)
{
    size_t n = 0;
    char *end;

    for (const char *p = text; *p && n < 32; p = *end ? end + 1 : end)
        bytes[n++] = (uint8_t)strtoul(p, &end, 16);
    return n;
}

static struct insn decode(const char *text, int mode)
{
    uint8_t bytes[32];
    struct insn insn;
    size_t length = parse(text, bytes);

    ck_assert_msg(insn_decode(bytes, length, (enum insn_mode)mode, &insn) == INSN_OK, "%s", text);
    ck_assert_msg(insn.length == length, "%s: length %u", text, insn.length);
    return insn;
}

static const struct {
    int mode;
    const char *bytes;
    enum insn_result result;
    enum insn_id id;
} results[] = {
    /* LOCK only with a memory destination of the instructions that allow it */
    {M64, "f0 01 00", INSN_OK, INSN_ADD},
    {M64, "f0 01 c0", INSN_UNDEFINED, INSN_NONE},
    {M64, "f0 03 00", INSN_UNDEFINED, INSN_NONE},
    {M64, "f0 39 00", INSN_UNDEFINED, INSN_NONE},
    {M64, "f0 89 00", INSN_UNDEFINED, INSN_NONE},
    {M64, "f0 0f b1 0f", INSN_OK, INSN_CMPXCHG},
    {M64, "f0 0f ba 20 01", INSN_UNDEFINED, INSN_NONE}, /* BT */
    {M64, "f0 0f ba 28 01", INSN_OK, INSN_BTS},
    {M64, "f0 90", INSN_UNDEFINED, INSN_NONE},
    {M64, "f0 48 0f c7 0f", INSN_OK, INSN_CMPXCHG16B},
    {M64, "f0 0f 20 c0", INSN_UNDEFINED, INSN_NONE},
    /* what 64-bit mode dropped, and what it put there */
    {M64, "06", INSN_UNDEFINED, INSN_NONE},
    {M64, "27", INSN_UNDEFINED, INSN_NONE},
    {M64, "60", INSN_UNDEFINED, INSN_NONE},
    {M64, "9a 00 00 00 00 00 00", INSN_UNDEFINED, INSN_NONE},
    {M64, "82 c0 00", INSN_UNDEFINED, INSN_NONE},
    {M32, "82 c0 00", INSN_OK, INSN_ADD},
    {M64, "62 f1 7c 48 58 c0", INSN_UNDEFINED, INSN_NONE}, /* EVEX */
    {M32, "62 00", INSN_OK, INSN_BOUND},
    {M32, "62 c0", INSN_UNDEFINED, INSN_NONE},
    {M64, "63 c8", INSN_OK, INSN_MOVSXD},
    {M32, "63 c8", INSN_OK, INSN_ARPL},
    {M32, "0f 01 f8", INSN_UNDEFINED, INSN_NONE}, /* SWAPGS */
    /* LES and LDS, or VEX */
    {M32, "c4 00", INSN_OK, INSN_LES},
    {M16, "c5 00", INSN_OK, INSN_LDS},
    {M32, "c5 f8 58 c0", INSN_OK, INSN_VADDPS},
    {M16, "c5 f8 77", INSN_OK, INSN_VZEROUPPER},
    {M64, "c5 fc 77", INSN_OK, INSN_VZEROALL},
    {M64, "66 c5 f8 58 c0", INSN_UNDEFINED, INSN_NONE},
    {M64, "f3 c5 f8 58 c0", INSN_UNDEFINED, INSN_NONE},
    {M64, "f0 c5 f8 58 c0", INSN_UNDEFINED, INSN_NONE},
    {M64, "48 c5 f8 58 c0", INSN_UNDEFINED, INSN_NONE},
    {M64, "c5 f0 77", INSN_UNDEFINED, INSN_NONE},       /* vvvv without a register to name */
    {M64, "c4 e0 78 58 c0", INSN_UNDEFINED, INSN_NONE}, /* map 0 */
    {M64, "c4 e2 7d 16 c0", INSN_OK, INSN_VPERMPS},
    {M64, "c4 e2 79 16 c0", INSN_UNDEFINED, INSN_NONE},    /* L must be 1 */
    {M64, "c4 e2 fd 16 c0", INSN_UNDEFINED, INSN_NONE},    /* W must be 0 */
    {M64, "8f e8 78 c0 c0 01", INSN_UNDEFINED, INSN_NONE}, /* XOP */
    /* gathers: index, mask and destination differ */
    {M64, "c4 e2 69 90 04 08", INSN_OK, INSN_VPGATHERDD},
    {M64, "c4 e2 69 90 0c 08", INSN_UNDEFINED, INSN_NONE},
    {M64, "c4 e2 71 90 04 08", INSN_UNDEFINED, INSN_NONE},
    {M64, "c4 e2 69 90 14 08", INSN_UNDEFINED, INSN_NONE},
    {M64, "c4 e2 69 90 c1", INSN_UNDEFINED, INSN_NONE},
    {M64, "c4 e2 69 90 00", INSN_UNDEFINED, INSN_NONE},
    /* registers that do not exist */
    {M64, "0f 20 c8", INSN_UNDEFINED, INSN_NONE}, /* CR1 */
    {M64, "44 0f 20 c0", INSN_OK, INSN_MOV_CR},   /* CR8 */
    {M64, "44 0f 20 c8", INSN_UNDEFINED, INSN_NONE},
    {M64, "44 0f 21 c0", INSN_UNDEFINED, INSN_NONE},
    {M64, "8e c8", INSN_UNDEFINED, INSN_NONE}, /* MOV CS */
    {M64, "8c f0", INSN_UNDEFINED, INSN_NONE},
    /* memory only, register only */
    {M64, "8d c0", INSN_UNDEFINED, INSN_NONE},
    {M64, "ff d8", INSN_UNDEFINED, INSN_NONE},
    {M64, "0f 13 c0", INSN_UNDEFINED, INSN_NONE},
    {M64, "0f c7 c8", INSN_UNDEFINED, INSN_NONE},
    {M64, "0f 71 10 01", INSN_UNDEFINED, INSN_NONE},
    /* hints of extensions that are hidden */
    {M64, "f3 0f 1e fa", INSN_OK, INSN_NOP}, /* ENDBR64 */
    {M64, "0f 0d c0", INSN_OK, INSN_NOP},
    {M64, "0f 1c 00", INSN_OK, INSN_NOP},
    {M64, "f3 90", INSN_OK, INSN_PAUSE},
    {M64, "90", INSN_OK, INSN_NOP},
    {M64, "41 90", INSN_OK, INSN_XCHG},
    {M64, "f3 41 90", INSN_OK, INSN_XCHG},
    /* hidden extensions */
    {M64, "c7 f8 00 00 00 00", INSN_UNDEFINED, INSN_NONE}, /* XBEGIN */
    {M64, "0f 01 d5", INSN_UNDEFINED, INSN_NONE},          /* XEND */
    {M64, "0f 01 ee", INSN_UNDEFINED, INSN_NONE},          /* RDPKRU */
    {M64, "0f 0f c1 9e", INSN_UNDEFINED, INSN_NONE},       /* PFADD */
    {M64, "0f 78 c0", INSN_UNDEFINED, INSN_NONE},          /* VMREAD */
    {M64, "0f 01 d8", INSN_UNDEFINED, INSN_NONE},          /* VMRUN */
    {M64, "0f 01 c1", INSN_OK, INSN_VMCALL},
    {M64, "0f 01 d9", INSN_OK, INSN_VMMCALL},
    /* the mandatory prefix: F2 and F3 before 66, the last of them wins */
    {M64, "66 f3 0f 58 c0", INSN_OK, INSN_ADDSS},
    {M64, "f2 66 0f 58 c0", INSN_OK, INSN_ADDSD},
    {M64, "f2 f3 0f 58 c0", INSN_OK, INSN_ADDSS},
    {M64, "f3 f2 0f 58 c0", INSN_OK, INSN_ADDSD},
    {M64, "66 f2 0f 38 f1 c0", INSN_OK, INSN_CRC32},
    {M64, "66 0f 38 f0 00", INSN_OK, INSN_MOVBE},
    {M64, "f3 0f bc c0", INSN_OK, INSN_TZCNT},
    {M64, "f2 0f bc c0", INSN_OK, INSN_BSF},
    /* too few bytes */
    {M64, "48", INSN_TRUNCATED, INSN_NONE},
    {M64, "0f", INSN_TRUNCATED, INSN_NONE},
    {M64, "81 c0 00 00 00", INSN_TRUNCATED, INSN_NONE},
    {M64, "8b 04", INSN_TRUNCATED, INSN_NONE},
    {M64, "c5", INSN_TRUNCATED, INSN_NONE},
    /* 15 bytes, and 16 */
    {M64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", INSN_OK, INSN_NOP},
    {M64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", INSN_TOO_LONG, INSN_NONE},
    {M64, "2e 2e 2e 2e 2e 2e 2e 2e 2e 2e 81 c0 00 00 00 00", INSN_TOO_LONG, INSN_NONE},
};

START_TEST(gives_the_right_result)
{
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        uint8_t bytes[32];
        struct insn insn;
        size_t length = parse(results[i].bytes, bytes);
        enum insn_result result = insn_decode(bytes, length, (enum insn_mode)results[i].mode,
                                              &insn);

        ck_assert_msg(result == results[i].result, "%s: result %d", results[i].bytes, result);
        if (result == INSN_OK)
            ck_assert_msg(insn.id == results[i].id, "%s: %s", results[i].bytes,
                          insn_name((enum insn_id)insn.id));
        else
            ck_assert_uint_eq(insn.length, 0);
    }
}
END_TEST

START_TEST(finds_memory)
{
    struct insn i = decode("8b 05 78 56 34 12", M64);

    ck_assert(i.mem.rip_relative && i.mem.base == INSN_NO_REG);
    ck_assert_int_eq(i.mem.displacement, 0x12345678);
    i = decode("8b 05 78 56 34 12", M32);
    ck_assert(!i.mem.rip_relative && i.mem.base == INSN_NO_REG && i.mem.segment == CPU_DS);
    i = decode("8b 45 f8", M64);
    ck_assert(i.mem.base == CPU_RBP && i.mem.segment == CPU_SS && i.mem.displacement == -8);
    i = decode("41 8b 45 f8", M64);
    ck_assert(i.mem.base == 13 && i.mem.segment == CPU_DS);
    i = decode("8b 04 24", M64);
    ck_assert(i.mem.base == CPU_RSP && i.mem.index == INSN_NO_REG && i.mem.segment == CPU_SS);
    i = decode("42 8b 04 24", M64); /* REX.X: index r12 */
    ck_assert(i.mem.base == CPU_RSP && i.mem.index == 12 && i.mem.scale == 1);
    i = decode("64 2e 8b 04 25 10 00 00 00", M64); /* CS does not undo FS */
    ck_assert(i.mem.base == INSN_NO_REG && i.mem.segment == CPU_FS && !i.mem.rip_relative);
    i = decode("3e 8b 45 00", M64); /* DS is ignored */
    ck_assert_uint_eq(i.mem.segment, CPU_SS);
    i = decode("3e 8b 45 00", M32);
    ck_assert_uint_eq(i.mem.segment, CPU_DS);
    i = decode("8b 42 fe", M16); /* [bp + si - 2] */
    ck_assert(i.mem.base == CPU_RBP && i.mem.index == CPU_RSI && i.mem.segment == CPU_SS);
    ck_assert(i.mem.displacement == -2 && i.address_size == 2);
    i = decode("8b 06 34 12", M16);
    ck_assert(i.mem.base == INSN_NO_REG && i.mem.displacement == 0x1234);
    i = decode("48 a1 88 77 66 55 44 33 22 11", M64);
    ck_assert(i.mem.displacement == 0x1122334455667788 && i.displacement_offset == 2);
    i = decode("2e a4", M32); /* MOVS: the override is the source's */
    ck_assert(i.operand[0].reg == CPU_RDI && i.operand[1].reg == CPU_RSI);
    ck_assert(i.mem.base == CPU_RSI && i.mem.segment == CPU_CS);
    i = decode("65 aa", M32); /* STOS: no override */
    ck_assert(i.mem.base == CPU_RDI && i.mem.segment == CPU_ES);
}
END_TEST

START_TEST(extends_immediates)
{
    ck_assert_uint_eq(decode("48 83 c0 80", M64).imm, (uint64_t)-128);
    ck_assert_uint_eq(decode("48 05 00 00 00 80", M64).imm, 0xffffffff80000000);
    ck_assert_uint_eq(decode("48 b8 00 00 00 80 00 00 00 80", M64).imm, 0x8000000080000000);
    ck_assert_uint_eq(decode("b8 00 00 00 80", M64).imm, 0x80000000);
    ck_assert_uint_eq(decode("cd 80", M64).imm, 0x80);
    ck_assert_uint_eq(decode("c2 00 80", M64).imm, 0x8000);
    ck_assert_uint_eq(decode("eb fe", M64).imm, (uint64_t)-2);
    ck_assert_uint_eq(decode("6a ff", M64).imm, UINT64_MAX);
    struct insn i = decode("c8 10 00 02", M64);
    ck_assert(i.imm == 16 && i.imm2 == 2 && i.imm_offset == 1 && i.imm_size == 3);
    i = decode("ea 78 56 34 12 08 00", M32);
    ck_assert(i.imm == 0x12345678 && i.imm2 == 8 && i.operand[0].kind == INSN_OPERAND_FAR);
}
END_TEST

START_TEST(sizes_operands)
{
    ck_assert_uint_eq(decode("50", M64).operand_size, 8);
    ck_assert_uint_eq(decode("66 50", M64).operand_size, 2);
    ck_assert_uint_eq(decode("e8 00 00 00 00", M64).operand_size, 8);
    ck_assert_uint_eq(decode("66 e8 00 00 00 00", M64).operand_size, 8); /* as Intel does */
    ck_assert_uint_eq(decode("66 e8 00 00", M32).operand_size, 2);
    ck_assert_uint_eq(decode("0f 22 d8", M64).operand_size, 8);
    ck_assert_uint_eq(decode("66 0f 22 d8", M16).operand_size, 4);
    ck_assert_uint_eq(decode("48 0f 01 10", M64).operand[0].size, 10);
    ck_assert_uint_eq(decode("0f 01 10", M32).operand[0].size, 6);
    ck_assert_uint_eq(decode("8c d8", M64).operand[0].size, 4);
    ck_assert_uint_eq(decode("8c 18", M64).operand[0].size, 2);
    ck_assert_uint_eq(decode("88 e0", M64).operand[1].reg_class, INSN_REG_GPR8_HIGH);
    ck_assert_uint_eq(decode("40 88 e0", M64).operand[1].reg_class, INSN_REG_GPR);
    ck_assert_uint_eq(decode("c5 fe 5b c0", M64).operand[0].reg_class, INSN_REG_YMM);
    ck_assert_uint_eq(decode("c5 fc 5a 00", M64).operand[1].size, 16); /* VCVTPS2PD ymm, m128 */
    ck_assert_uint_eq(decode("66 0f 6e c0", M64).operand_size, 4); /* 66 is part of the opcode */
}
END_TEST

START_TEST(tells_traits_and_features)
{
    ck_assert(decode("f4", M64).traits & INSN_TRAIT_PRIVILEGED);
    ck_assert(decode("0f 28 00", M64).traits & INSN_TRAIT_ALIGNED);
    ck_assert(!(decode("0f 28 c0", M64).traits & INSN_TRAIT_ALIGNED));
    ck_assert(!(decode("0f 10 00", M64).traits & INSN_TRAIT_ALIGNED));
    ck_assert(!(decode("f3 0f 58 00", M64).traits & INSN_TRAIT_ALIGNED));
    ck_assert(!(decode("66 0f 3a 63 00 00", M64).traits & INSN_TRAIT_ALIGNED));
    ck_assert(decode("c5 f8 28 00", M64).traits & INSN_TRAIT_ALIGNED);
    ck_assert(!(decode("c5 f8 58 00", M64).traits & INSN_TRAIT_ALIGNED));
    ck_assert(decode("c5 f8 58 00", M64).traits & INSN_TRAIT_NOT_REAL_MODE);
    ck_assert(decode("eb 00", M64).traits & INSN_TRAIT_BRANCH);
    ck_assert(decode("fb", M64).traits & INSN_TRAIT_BLOCK_END);
    ck_assert_uint_eq(decode("c5 f1 fc c0", M64).feature, INSN_FEATURE_AVX);
    ck_assert_uint_eq(decode("c5 f5 fc c0", M64).feature, INSN_FEATURE_AVX2);
    ck_assert_uint_eq(decode("0f fc c0", M64).feature, INSN_FEATURE_MMX);
    ck_assert_uint_eq(decode("66 0f fc c0", M64).feature, INSN_FEATURE_SSE2);
    ck_assert_uint_eq(decode("db 08", M64).feature, INSN_FEATURE_SSE3);
    ck_assert_uint_eq(decode("c4 e2 7d dc c0", M64).feature, INSN_FEATURE_VAES);
    ck_assert_uint_eq(decode("0f 44 c0", M64).condition, 4);
    ck_assert_uint_eq(decode("0f 44 c0", M64).flags_read, 0x40);
    ck_assert_uint_eq(decode("d3 e0", M64).flags_read, 0xdd);
    ck_assert_uint_eq(decode("c1 e0 20", M64).flags_written, 0);
    ck_assert_uint_eq(decode("48 c1 e0 20", M64).flags_written, 0xdd);
    ck_assert_uint_eq(decode("f3 a4", M64).prefixes, INSN_PREFIX_REP);
    ck_assert_uint_eq(decode("f3 0f 58 c0", M64).prefixes, 0);
}
END_TEST

/* Every prefix of an instruction is TRUNCATED, and no byte behind the given ones is touched. */
START_TEST(stops_at_the_end)
{
    static const char *const texts[] = {
        "64 67 81 84 98 78 56 34 12 01 02 03 04", "c4 e3 79 60 84 98 78 56 34 12 01", "c8 10 00 02",
        "66 0f 3a 0f 04 25 00 00 00 00 01", "48 b8 01 02 03 04 05 06 07 08"};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *area = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                         0);

    ck_assert_ptr_ne(area, MAP_FAILED);
    ck_assert_int_eq(mprotect(area + page, page, PROT_NONE), 0);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        uint8_t bytes[32];
        size_t length = parse(texts[i], bytes);
        struct insn insn;

        for (size_t n = 0; n <= length; n++) {
            memcpy(area + page - n, bytes, n);
            ck_assert_int_eq(insn_decode(area + page - n, n, INSN_MODE_64, &insn),
                             n == length ? INSN_OK : INSN_TRUNCATED);
        }
    }
    munmap(area, 2 * page);
}
END_TEST

START_TEST(names_instructions)
{
    ck_assert_str_eq(insn_name(INSN_ADD), "ADD");
    ck_assert_str_eq(insn_name(INSN_VFMADD231PD), "VFMADD231PD");
    ck_assert_str_eq(insn_name(INSN_NR_IDS), "?");
}
END_TEST

TEST_MAIN("decode", tcase_add_test(tcase, gives_the_right_result);
          tcase_add_test(tcase, finds_memory); tcase_add_test(tcase, extends_immediates);
          tcase_add_test(tcase, sizes_operands); tcase_add_test(tcase, tells_traits_and_features);
          tcase_add_test(tcase, stops_at_the_end); tcase_add_test(tcase, names_instructions))
