/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All vector and x87 forms that the decoder knows, found by sweeping the opcode maps through it.
 */
#ifndef LODGE_TESTS_FORMS_H
#define LODGE_TESTS_FORMS_H

#include "soft/decode/insn.h"

#define FORMS_MAX 8192

struct form {
    enum insn_id id;
    uint8_t prefix, map, opcode; /* map 0: x87, and FWAIT */
    bool vex, w, l, memory;
    bool fixed_reg, fixed_rm; /* fixed_rm with memory: VSIB */
    uint8_t reg, rm;
    bool has_modrm;
};

struct forms {
    struct form form[FORMS_MAX];
    unsigned count;
};

/* Those whose trait, operands or id make them vector or x87 instructions. */
bool form_is_vector(const struct insn *insn);
void forms_sweep(struct forms *ret);
/* Prefixes up to and with the opcode; returns their number (at most 5). rxb: the extension bits of
 * reg, index and base. */
unsigned form_put_opcode(const struct form *form, unsigned rxb, unsigned vvvv, uint8_t *ret_bytes);

#endif
