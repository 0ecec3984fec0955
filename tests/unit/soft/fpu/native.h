/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle of the vector tests: the host executes one instruction on a state of our choice, in
 * this process, and says what became of it. Exceptions arrive as signals and are reported by their
 * vector.
 */
#ifndef LODGE_TESTS_NATIVE_H
#define LODGE_TESTS_NATIVE_H

#include "soft/fpu/fpu_state.h"

#include <stdint.h>

#define NATIVE_OK (-1)

struct native_state {
    struct fpu_area area; /* standard format; xstate_bv as the host leaves it afterwards */
    uint8_t env[28];      /* FNSTENV after the instruction */
    uint64_t gpr[16];     /* RSP must be readable memory of at least 64 bytes below it */
    uint64_t rflags;      /* status flags */
} __attribute__((aligned(64)));

/* 0, or -errno: the host does not let us. */
int native_init(void);
/* Where the instruction will stand; bytes that are RIP-relative count from there. */
uint64_t native_rip(void);
/* NATIVE_OK or the vector of the exception; *state is what the instruction left. */
int native_run(const uint8_t *bytes, unsigned length, struct native_state *state);

#endif
