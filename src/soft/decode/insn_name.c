/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mnemonics as text, for messages and tests.
 */
#include "soft/decode/insn.h"

static const char *const names[INSN_NR_IDS] = {
    [INSN_NONE] = "NONE",
#define INSN(name) [INSN_##name] = #name,
#include "soft/decode/insn_ids.h"
#undef INSN
};

const char *insn_name(enum insn_id id)
{
    return (unsigned)id < INSN_NR_IDS ? names[id] : "?";
}
