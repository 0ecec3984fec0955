/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FXSAVE, FXRSTOR and the XSAVE family against the host: images byte for byte, registers, #GP for
 * headers and MXCSR that must not be, alignment and page faults. The bytes that may differ: the
 * host's MXCSR_MASK, and a partly written image when the store faults.
 */
#define TESTING_TIMEOUT 120
#include "harness.h"

#include "base/util.h"
#include "testing.h"

#include <string.h>

#define ROUNDS 4000

struct operation {
    const char *name;
    uint8_t rex_w;
    uint8_t opcode, reg; /* 0F opcode /reg */
    bool loads, header;
};

static const struct operation operations[] = {
    {"FXSAVE", 0, 0xae, 0, false, false},  {"FXSAVE64", 1, 0xae, 0, false, false},
    {"FXRSTOR", 0, 0xae, 1, true, false},  {"FXRSTOR64", 1, 0xae, 1, true, false},
    {"XSAVE", 0, 0xae, 4, false, true},    {"XSAVE64", 1, 0xae, 4, false, true},
    {"XSAVEOPT", 0, 0xae, 6, false, true}, {"XSAVEOPT64", 1, 0xae, 6, false, true},
    {"XSAVEC", 0, 0xc7, 4, false, true},   {"XSAVEC64", 1, 0xc7, 4, false, true},
    {"XRSTOR", 0, 0xae, 5, true, true},    {"XRSTOR64", 1, 0xae, 5, true, true},
    {"XSAVES", 0, 0xc7, 5, false, true},   {"XRSTORS64", 1, 0xc7, 3, true, true},
};

static unsigned random_offset(void)
{
    uint64_t r = harness_random();

    switch (r & 15) {
    case 0:
        return 1024 + (r >> 8 & 0x3f);
    case 1:
        return HARNESS_WRITABLE - 64 * (unsigned)(r >> 8 & 15);
    case 2:
        return HARNESS_READABLE - 64 * (unsigned)(r >> 8 & 15);
    case 3:
        return HARNESS_PAGE - 64 * (unsigned)(r >> 8 & 15);
    default:
        return 64 * (unsigned)(r >> 8 & 31);
    }
}

/* Puts a header and an MXCSR that are mostly valid into the image at `offset`. */
static void prepare_image(unsigned offset)
{
    uint64_t r = harness_random();
    uint64_t header[8] = {0};

    if (offset + CPU_XSAVE_SIZE > HARNESS_WRITABLE)
        return;
    header[0] = r & 7;
    if ((r >> 8 & 1) == 0)
        header[1] = UINT64_C(1) << 63 | (r >> 9 & 7) | ((r >> 12 & 3) ? header[0] : 0);
    if ((r >> 14 & 15) == 0)
        header[r >> 18 & 7] |= UINT64_C(1) << (r >> 21 & 63);
    if ((header[0] | header[1]) & ~(UINT64_C(1) << 63) & ~UINT64_C(7))
        header[0] = header[1] = UINT64_C(1) << 40; /* not AVX-512 and its like of the host */
    memcpy(harness.copy + offset + 512, header, sizeof(header));
    store_le32(harness.copy + offset + 24,
               (uint32_t)(r >> 32 & 0xffff) | ((r >> 48 & 15) == 0 ? 0x40000u : 0));
    memcpy(harness.arena + offset, harness.copy + offset, CPU_XSAVE_SIZE);
}

static void forgive(unsigned offset, int vector, bool loads)
{
    if (offset + 32 <= HARNESS_WRITABLE)
        memcpy(harness.copy + offset + 28, harness.arena + offset + 28, 4);
    if (vector != NATIVE_OK && !loads)
        memcpy(harness.copy, harness.arena, HARNESS_READABLE);
}

static unsigned encode(const struct operation *operation, uint8_t *bytes)
{
    unsigned n = 0;

    if (operation->rex_w)
        bytes[n++] = 0x48;
    bytes[n++] = 0x0f;
    bytes[n++] = operation->opcode;
    bytes[n++] = (uint8_t)(operation->reg << 3 | CPU_RDI);
    return n;
}

static bool run_one(const struct operation *operation)
{
    struct native_state state;
    unsigned offset = random_offset();
    const char *differs;
    uint8_t bytes[16];
    struct insn insn;
    int vector;

    harness_randomise_arena();
    harness_randomise(&state, true);
    state.gpr[CPU_RDI] = (uint64_t)(uintptr_t)harness.arena + offset;
    state.gpr[CPU_RAX] = harness_random() & 7;
    state.gpr[CPU_RDX] = 0;
    if (operation->header || operation->loads)
        prepare_image(offset);
    ck_assert_int_eq(insn_decode(bytes, encode(operation, bytes), INSN_MODE_64, &insn), INSN_OK);
    differs = harness_compare(bytes, &insn, &state, &vector);
    if (differs && strcmp(differs, "memory") == 0) {
        forgive(offset, vector, operation->loads);
        if (memcmp(harness.arena, harness.copy, HARNESS_READABLE) == 0)
            return true;
        for (unsigned i = 0; i < CPU_XSAVE_SIZE && offset + i < HARNESS_READABLE; i++)
            if (harness.arena[offset + i] != harness.copy[offset + i]) {
                printf("byte %u: host %02x ours %02x; ", i, harness.arena[offset + i],
                       harness.copy[offset + i]);
                break;
            }
    }
    if (differs)
        printf("%s: %s; host exception %d, ours %u; offset %u, eax %u, BV %llx, COMP_BV %llx, FSW "
               "%x\n",
               operation->name, differs, vector, harness.cpu.fault.vector, offset,
               (unsigned)state.gpr[CPU_RAX],
               (unsigned long long)load_le64(harness.copy + (offset & 0x1fff) + 512),
               (unsigned long long)load_le64(harness.copy + (offset & 0x1fff) + 520),
               state.area.fsw);
    return !differs;
}

START_TEST(images_agree_with_the_host)
{
    unsigned failures = 0;

    TEST_NEEDS(harness_init(), "the host cannot be the oracle");
    for (unsigned i = 0; i < ARRAY_LEN(operations); i++) {
        unsigned of_this = 0;

        for (unsigned n = 0; n < ROUNDS && of_this < 3; n++)
            of_this += !run_one(&operations[i]);
        failures += of_this;
    }
    fflush(stdout);
    ck_assert_uint_eq(failures, 0);
}
END_TEST

TEST_MAIN("fpu_xsave", tcase_add_test(tcase, images_agree_with_the_host);)
