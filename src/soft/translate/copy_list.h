/* SPDX-License-Identifier: Apache-2.0 */
/* Which instructions copy.c copies and what its operands need. */
#ifndef LODGE_SOFT_TRANSLATE_COPY_LIST_H
#define LODGE_SOFT_TRANSLATE_COPY_LIST_H

#include <stdbool.h>

struct insn;

enum copy_kind {
    COPY_NO,
    COPY_YES,
    COPY_GPR_FIRST,  /* ModRM.reg is the general register where the other is a vector register */
    COPY_NOTHING,    /* a hint: no code */
    COPY_VERBATIM,   /* no operands but RAX, RDX and flags */
    COPY_NO_BIT_MEM, /* not with a memory operand and a register as bit offset */
};

enum copy_kind copy_kind_of(const struct insn *insn);
/* Is it on the list of instructions on general registers? */
bool copy_is_integer(const struct insn *insn);
/* Does it leave an index in ECX? */
bool copy_writes_rcx(const struct insn *insn);

#endif
