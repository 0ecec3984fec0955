/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The work that a processor is measured by. A row does a fixed amount of it and returns a checksum
 * that must be the same wherever the program runs. `scale` multiplies the amount.
 */
#ifndef LODGE_BENCH_WORK_H
#define LODGE_BENCH_WORK_H

#include <stddef.h>
#include <stdint.h>

struct work {
    const char *name;
    uint64_t (*run)(unsigned scale);
};

/* Terminated by an absent name. */
extern const struct work work_integer[];
extern const struct work work_sse2[], work_avx2[], work_x87[]; /* floats.c, compiled three times */
extern const struct work work_system[];
extern const struct work work_programs[];

static inline uint64_t work_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#define WORK_HASH_START 0xcbf29ce484222325ull

static inline uint64_t work_hash_bytes(uint64_t hash, const void *data, size_t length)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3ull;
    return hash;
}

/* Says what failed (in this row) and ends the process. */
void work_fail(const char *what) __attribute__((noreturn));

#endif
