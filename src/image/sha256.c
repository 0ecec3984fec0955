/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compression function in C, and with the processor's SHA instructions where it has them
 * (about eight times as fast: layers are hashed twice, as they lie and unpacked).
 */
#include "image/sha256.h"

#include "base/util.h"

#include <endian.h>
#include <immintrin.h>
#include <string.h>

static const uint32_t constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t value, unsigned bits)
{
    return value >> bits | value << (32 - bits);
}

static void compress_c(uint32_t state[8], const uint8_t *data, size_t nr_blocks)
{
    for (; nr_blocks; nr_blocks--, data += 64) {
        uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4],
                        f = state[5], g = state[6], h = state[7];

        for (unsigned i = 0; i < 16; i++)
            w[i] = be32toh(load_le32(data + 4 * i));
        for (unsigned i = 16; i < 64; i++) {
            uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
            uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;

            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        for (unsigned i = 0; i < 64; i++) {
            uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
            uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
            uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + constants[i] + w[i];
            uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));

            h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

/* The instructions keep the state as ABEF and CDGH (SDM 2B, SHA256RNDS2). */
__attribute__((target("sha,sse4.1,ssse3"))) static void compress_ni(uint32_t state[8],
                                                                    const uint8_t *data,
                                                                    size_t nr_blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)),
                                     0x1b);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);

    for (; nr_blocks; nr_blocks--, data += 64) {
        __m128i w[4], abef_before = abef, cdgh_before = cdgh;

        for (unsigned i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(
                _mm_loadu_si128((const __m128i *)(const void *)(data + (size_t)16 * i)), swap);
        for (unsigned i = 0; i < 16; i++) {
            __m128i k = _mm_load_si128((const __m128i *)(const void *)(constants + (size_t)4 * i));
            __m128i sum;

            if (i >= 4) {
                __m128i next = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);

                next = _mm_add_epi32(next, _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4));
                w[i % 4] = _mm_sha256msg2_epu32(next, w[(i + 3) % 4]);
            }
            sum = _mm_add_epi32(w[i % 4], k);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    low = _mm_shuffle_epi32(abef, 0x1b);
    high = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(high, low, 8));
}

static void compress(struct sha256 *sha, const uint8_t *data, size_t nr_blocks)
{
    if (sha->instructions)
        compress_ni(sha->state, data, nr_blocks);
    else
        compress_c(sha->state, data, nr_blocks);
}

/* SDM 2A, CPUID, leaf 7: EBX bit 29. Asked once a digest: under a hypervisor it is slow. */
static bool has_instructions(void)
{
    unsigned a, b = 0, c, d;

    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
    return b >> 29 & 1;
}

void sha256_init(struct sha256 *sha)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    memcpy(sha->state, start, sizeof(start));
    sha->bytes = 0;
    sha->instructions = has_instructions();
}

void sha256_update(struct sha256 *sha, const void *data, size_t length)
{
    size_t held = sha->bytes % 64;
    const uint8_t *from = data;

    sha->bytes += length;
    if (held) {
        size_t part = MIN(length, 64 - held);

        memcpy(sha->block + held, from, part);
        from += part;
        length -= part;
        if (held + part < 64)
            return;
        compress(sha, sha->block, 1);
    }
    if (length / 64)
        compress(sha, from, length / 64);
    if (length % 64)
        memcpy(sha->block, from + length / 64 * 64, length % 64);
}

void sha256_final(struct sha256 *sha, uint8_t ret[SHA256_BYTES])
{
    uint64_t bits = htobe64(sha->bytes * 8);
    uint8_t padding[72] = {0x80};
    size_t held = sha->bytes % 64, length = (held < 56 ? 56 : 120) - held;

    memcpy(padding + length, &bits, sizeof(bits));
    sha256_update(sha, padding, length + sizeof(bits));
    for (unsigned i = 0; i < 8; i++)
        store_le32(ret + 4 * i, htobe32(sha->state[i]));
}
