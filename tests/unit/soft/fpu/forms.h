/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All vector and x87 forms that the decoder knows, found by sweeping the opcode maps through it,
 * and random instances of them.
 */
#ifndef LODGE_TESTS_FORMS_H
#define LODGE_TESTS_FORMS_H

#include "harness.h"

#define FORMS_MAX 8192

struct form {
    enum insn_id id;
    uint8_t prefix, map, opcode; /* map 0: x87, and FWAIT */
    bool vex, w, l, memory;
    bool fixed_reg, fixed_rm;
    uint8_t reg, rm;
    bool has_modrm;
};

struct forms {
    struct form form[FORMS_MAX];
    unsigned count;
};

/* Those whose trait, feature or id makes them part of soft_handlers_vector's business. */
bool form_is_vector(const struct insn *insn);
void forms_sweep(struct forms *ret);

/*
 * One instance with random registers and addressing mode. Sets the registers of *state that address
 * memory. Returns its length, having decoded it into *ret_insn; 0: the decoder refused (an error).
 */
unsigned form_instance(const struct form *form, struct native_state *state, uint8_t *ret_bytes,
                       struct insn *ret_insn);

#endif
