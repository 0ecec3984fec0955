/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder against Zydis: every opcode of every map under every kind of prefix, with the ModRM
 * and SIB forms, in the three modes; then random bytes. The bytes behind ModRM come from a fixed
 * pseudo-random sequence, so a run is repeatable.
 */
#include "decode_oracle.h"
#define TESTING_TIMEOUT 280
#include "testing.h"

#include <string.h>

#define RANDOM_CASES 12000000

static uint64_t random_state = 88172645463325252ULL;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

struct prefixes {
    uint8_t length;
    uint8_t bytes[5];
    bool every_modrm; /* else a sample */
};

static const struct prefixes prefix_sets[] = {
    {0, {0}, true},
    {1, {0x66}, true},
    {1, {0xf3}, true},
    {1, {0xf2}, true},
    {2, {0x66, 0xf3}, false},
    {2, {0xf2, 0x66}, false},
    {2, {0xf2, 0xf3}, false},
    {2, {0xf3, 0xf2}, false},
    {1, {0xf0}, false},
    {2, {0xf0, 0xf3}, false},
    {2, {0x66, 0xf0}, false},
    {1, {0x67}, false},
    {2, {0x67, 0x66}, false},
    {1, {0x2e}, false},
    {1, {0x64}, false},
    {2, {0x65, 0x3e}, false},
    {1, {0x40}, false},
    {1, {0x48}, false},
    {1, {0x4f}, false},
    {1, {0x45}, false},
    {2, {0x66, 0x48}, false},
    {2, {0x66, 0x44}, false},
    {2, {0xf3, 0x48}, false},
    {2, {0xf3, 0x41}, false},
    {2, {0xf2, 0x4c}, false},
    {3, {0x66, 0xf2, 0x49}, false},
    {2, {0x48, 0x66}, false},
    {2, {0x48, 0x41}, false},
    {3, {0x67, 0x66, 0x4a}, false},
    {3, {0xf0, 0x48, 0x67}, false},
};

static void fill(uint8_t *bytes, unsigned from)
{
    uint64_t a = random_next(), b = random_next();

    for (unsigned i = from; i < INSN_LENGTH_MAX; i++) {
        bytes[i] = (uint8_t)(i & 8 ? a : b);
        a >>= i & 8 ? 8 : 0;
        b >>= i & 8 ? 0 : 8;
    }
}

static void every_modrm(struct oracle *oracle, uint8_t *bytes, unsigned at, bool all)
{
    for (unsigned modrm = 0; modrm < 256; modrm++) {
        /* The sample: every mod and reg, rm in turn, and always SIB with mod 0 and a register. */
        if (!all && (modrm & 7) != (modrm >> 3 & 7) && modrm >> 6 != 3 && (modrm & 7) != 4)
            continue;
        if (!all && modrm >> 6 == 3 && (modrm & 7) > 2)
            continue;
        fill(bytes, at);
        bytes[at] = (uint8_t)modrm;
        for (int mode = INSN_MODE_16; mode <= INSN_MODE_64; mode++)
            oracle_compare(oracle, bytes, (enum insn_mode)mode);
    }
}

static void report(const struct oracle *oracle)
{
    printf("%lu compared, %lu valid, %lu differences exempted, %lu not\n",
           (unsigned long)oracle->nr_compared, (unsigned long)oracle->nr_valid,
           (unsigned long)oracle->nr_exempted, (unsigned long)oracle->nr_differences);
    fflush(stdout);
    ck_assert_uint_gt(oracle->nr_valid, 100000);
    ck_assert_uint_eq(oracle->nr_differences, 0);
}

START_TEST(legacy_maps_agree)
{
    static const uint8_t escapes[4][2] = {{0, 0}, {0x0f, 0}, {0x0f, 0x38}, {0x0f, 0x3a}};
    static struct oracle oracle;

    oracle_init(&oracle);
    for (size_t p = 0; p < sizeof(prefix_sets) / sizeof(prefix_sets[0]); p++) {
        const struct prefixes *set = &prefix_sets[p];

        for (unsigned map = 0; map < 4; map++) {
            uint8_t bytes[INSN_LENGTH_MAX];
            unsigned at = set->length + (map < 2 ? map : 2);

            memcpy(bytes, set->bytes, set->length);
            memcpy(bytes + set->length, escapes[map], 2);
            for (unsigned opcode = 0; opcode < 256; opcode++) {
                bytes[at] = (uint8_t)opcode;
                every_modrm(&oracle, bytes, at + 1, set->every_modrm);
            }
        }
    }
    report(&oracle);
}
END_TEST

START_TEST(vex_maps_agree)
{
    static struct oracle oracle;

    oracle_init(&oracle);
    /* byte 1: R X B and map; byte 2: W vvvv L pp */
    for (unsigned map = 0; map < 5; map++)
        for (unsigned opcode = 0; opcode < 256; opcode++)
            for (unsigned wlpp = 0; wlpp < 16; wlpp++)
                for (unsigned vvvv = 0; vvvv < 2; vvvv++) {
                    uint8_t bytes[INSN_LENGTH_MAX] = {0xc4};
                    unsigned p1 = (wlpp & 8) << 4 | (wlpp & 7) |
                                  (vvvv ? 0x78 : (random_next() & 0x0f) << 3);

                    bytes[1] = (uint8_t)((random_next() & 0x20) | 0xc0 | map);
                    bytes[2] = (uint8_t)p1;
                    bytes[3] = (uint8_t)opcode;
                    for (unsigned modrm = 0; modrm < 256; modrm += 8) {
                        fill(bytes, 4);
                        if (map == 4 && modrm)
                            break;
                        if (!vvvv)
                            bytes[1] = (uint8_t)((random_next() & 0xe0) | map);
                        bytes[4] = (uint8_t)(modrm |
                                             (modrm < 0xc0 ? random_next() & 7 : opcode & 7));
                        for (int mode = INSN_MODE_32; mode <= INSN_MODE_64; mode++)
                            oracle_compare(&oracle, bytes, (enum insn_mode)mode);
                        if (map == 1 && !(wlpp & 8)) { /* the two-byte prefix */
                            uint8_t shorter[INSN_LENGTH_MAX] = {0xc5};

                            memcpy(shorter + 2, bytes + 3, 12);
                            shorter[14] = 0;
                            shorter[1] = (uint8_t)((p1 & 0x7f) | (bytes[1] & 0x80));
                            oracle_compare(&oracle, shorter,
                                           modrm & 8 ? INSN_MODE_64 : INSN_MODE_16);
                        }
                    }
                }
    report(&oracle);
}
END_TEST

START_TEST(gathers_agree)
{
    static struct oracle oracle;

    oracle_init(&oracle);
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t bytes[INSN_LENGTH_MAX] = {0x67, 0xc4};
        unsigned from = i & 1;

        fill(bytes, 2);
        bytes[2] = (uint8_t)((bytes[2] & 0xe0) | 2);
        bytes[3] = (uint8_t)((bytes[3] & 0xfc) | 1);
        bytes[4] = (uint8_t)(0x90 | (bytes[4] & 3));
        if (i & 2)
            bytes[5] = (uint8_t)((bytes[5] & 0xf8) | 4);
        if (from)
            memmove(bytes, bytes + 1, INSN_LENGTH_MAX - 1);
        oracle_compare(&oracle, bytes, i & 4 ? INSN_MODE_64 : INSN_MODE_32);
    }
    printf("%lu gathers compared, %lu valid\n", (unsigned long)oracle.nr_compared,
           (unsigned long)oracle.nr_valid);
    ck_assert_uint_gt(oracle.nr_valid, 10000);
    ck_assert_uint_eq(oracle.nr_differences, 0);
}
END_TEST

START_TEST(random_bytes_agree)
{
    static const uint8_t common[16] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x65, 0x48,
                                       0x41, 0x4c, 0x40, 0x0f, 0xc4, 0xc5, 0x64, 0x36};
    static struct oracle oracle;

    oracle_init(&oracle);
    for (unsigned i = 0; i < RANDOM_CASES; i++) {
        uint8_t bytes[INSN_LENGTH_MAX];
        uint64_t choice;
        unsigned nr_prefixes;

        fill(bytes, 0);
        choice = random_next();
        nr_prefixes = (choice & 7) == 7 ? choice >> 4 & 15 : choice & 3;
        choice >>= 8;
        for (unsigned k = 0; k < nr_prefixes && k < INSN_LENGTH_MAX; k++, choice >>= 4)
            bytes[k] = common[choice & 15];
        oracle_compare(&oracle, bytes, (enum insn_mode)(i % 3));
    }
    report(&oracle);
}
END_TEST

TEST_MAIN("decode_zydis", tcase_add_test(tcase, legacy_maps_agree);
          tcase_add_test(tcase, vex_maps_agree); tcase_add_test(tcase, gathers_agree);
          tcase_add_test(tcase, random_bytes_agree))
