/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From instruction to handler: one table by id per VM, put together from the groups.
 */
#include "soft/fpu/fpu.h"
#include "soft/interp/integer.h"

static const struct soft_handler *const groups[] = {
    integer_handlers_arithmetic, integer_handlers_multiply, integer_handlers_bits,
    integer_handlers_move,       integer_handlers_stack,    integer_handlers_branch,
    integer_handlers_string,     integer_handlers_misc,     soft_handlers_system,
};

void interp_handlers_fill(soft_handler_fn *table[INSN_NR_IDS])
{
    memset(table, 0, INSN_NR_IDS * sizeof(table[0]));
    fpu_handlers_fill(table);
    for (unsigned i = 0; i < ARRAY_LEN(groups); i++)
        for (const struct soft_handler *handler = groups[i]; handler->run; handler++)
            table[handler->id] = handler->run;
}
