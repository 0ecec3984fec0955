/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU without a machine for the tests of src/soft/fpu: the memory and fault functions that the
 * handlers call are the harness's own, over an arena that the host can execute on as well.
 *
 * The arena: two writable pages, one read-only page, one page that faults. The guest sees it at the
 * host's addresses, but its bytes are a copy, compared after every instruction.
 */
#ifndef LODGE_TESTS_HARNESS_H
#define LODGE_TESTS_HARNESS_H

#include "native.h"
#include "soft/soft_cpu.h"

#include <stdbool.h>

#define HARNESS_PAGE     4096u
#define HARNESS_WRITABLE (2 * HARNESS_PAGE)
#define HARNESS_READABLE (3 * HARNESS_PAGE)
#define HARNESS_SIZE     (4 * HARNESS_PAGE)

struct harness {
    struct soft_cpu cpu;
    struct soft_vm vm;
    uint8_t *arena;                 /* the host's */
    uint8_t copy[HARNESS_READABLE]; /* the guest's */
    uint64_t random;
    struct native_state host; /* what the last comparison's oracle gave */
};

extern struct harness harness;

/* False, having said why, when this host cannot run the oracle. */
bool harness_init(void);
uint64_t harness_random(void);
/* Fills all registers: special values of every format, rounding modes, sometimes unmasked
 * exceptions and stack faults. */
void harness_randomise(struct native_state *state, bool x87);
void harness_randomise_arena(void);
soft_handler_fn *harness_handler(enum insn_id id);

/*
 * Executes bytes natively and by handler from the same state. Returns NULL when they agree, else
 * what differs (static text). *ret_vector: what the host raised.
 */
const char *harness_compare(const uint8_t *bytes, const struct insn *insn,
                            const struct native_state *state, int *ret_vector);

#endif
