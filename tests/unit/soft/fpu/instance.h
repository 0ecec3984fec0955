/* SPDX-License-Identifier: Apache-2.0 */
/* Random instances of vector and x87 forms, over the harness's arena. */
#ifndef LODGE_TESTS_INSTANCE_H
#define LODGE_TESTS_INSTANCE_H

#include "diff/forms.h"
#include "harness.h"

/*
 * One instance with random registers and addressing mode. Sets the registers of *state that address
 * memory. Returns its length, having decoded it into *ret_insn; 0: the decoder refused (an error).
 */
unsigned form_instance(const struct form *form, struct native_state *state, uint8_t *ret_bytes,
                       struct insn *ret_insn);

#endif
