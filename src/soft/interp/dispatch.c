/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From instruction to handler: one table by id, put together from the groups once per process. The
 * groups are constant, so every thread that builds it writes the same values.
 */
#include "soft/interp/integer.h"

static const struct soft_handler *const groups[] = {
    integer_handlers_arithmetic, integer_handlers_multiply, integer_handlers_bits,
    integer_handlers_move,       integer_handlers_stack,    integer_handlers_branch,
    integer_handlers_string,     integer_handlers_misc,     soft_handlers_system,
    soft_handlers_vector,
};

/* The first group that has the id wins: a duplicate in a later one is never reached. */
soft_handler_fn *interp_handler_search(enum insn_id id)
{
    for (unsigned i = 0; i < ARRAY_LEN(groups); i++)
        for (const struct soft_handler *handler = groups[i]; handler->run; handler++)
            if (handler->id == id)
                return handler->run;
    return NULL;
}

void interp_handlers_fill(soft_handler_fn *table[INSN_NR_IDS])
{
    memset(table, 0, INSN_NR_IDS * sizeof(table[0]));
    for (unsigned i = ARRAY_LEN(groups); i-- > 0;)
        for (const struct soft_handler *handler = groups[i]; handler->run; handler++)
            table[handler->id] = handler->run;
}
