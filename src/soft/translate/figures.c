/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the translating tier has done, told by name: for the control socket.
 *
 * Threads: any. The vCPU counts without atomics, so a figure may be a moment old, and two figures
 * of different moments.
 */
#include "soft/translate/translate_internal.h"

static const char *const exit_names[1u << TRANSLATE_EXIT_BITS] = {
    [TRANSLATE_EXIT_LOAD] = "load",       [TRANSLATE_EXIT_STORE] = "store",
    [TRANSLATE_EXIT_ONE] = "one",         [TRANSLATE_EXIT_REST] = "rest",
    [TRANSLATE_EXIT_LINK] = "link",       [TRANSLATE_EXIT_GOTO] = "goto",
    [TRANSLATE_EXIT_POLL] = "poll",       [TRANSLATE_EXIT_VECTOR] = "vector",
    [TRANSLATE_EXIT_CAREFUL] = "careful", [TRANSLATE_EXIT_GUARD] = "guard",
    [TRANSLATE_EXIT_PAUSE] = "pause",
};

__attribute__((no_sanitize("thread"))) void translate_figures(struct soft_cpu *cpu,
                                                              cpu_figure_fn *fn, void *context)
{
    const struct translate *translate = cpu->translate;
    const struct translate_counts *counts;

    if (!translate)
        return;
    counts = &translate->counts;
    fn(context, "code", "instructions", counts->instructions);
    fn(context, "code", "bytes", counts->code_bytes);
    fn(context, "code", "killed", counts->killed);
    fn(context, "code", "flushes", counts->flushes);
    fn(context, "code", "jump_flushes", counts->jump_flushes);
    fn(context, "code", "link_cuts", counts->link_cuts);
    fn(context, "code", "memory_without_guard", guards_missing(cpu->vm));
    fn(context, "code", "flat_tables", translate->flat);
    fn(context, "code", "flat_touched", translate->nr_flat_touched);
    fn(context, "code", "used_bytes",
       translate->code.used + translate->code.size - translate->code.cold);
    fn(context, "code", "cap_bytes", translate->code.size);
    fn(context, "code", "side_used_bytes", translate->arena_used);
    fn(context, "code", "side_cap_bytes", translate->arena_size);
    fn(context, "window", "begun", translate->window.counts.begun);
    fn(context, "window", "resumed", translate->window.counts.resumed);
    fn(context, "window", "mapped", translate->window.counts.mapped);
    fn(context, "window", "faults", translate->window.counts.faults);
    for (unsigned i = 0; i < ARRAY_LEN(exit_names); i++)
        if (exit_names[i])
            fn(context, "exits", exit_names[i], counts->exits[i]);
    for (unsigned i = 0; i < INSN_NR_IDS; i++)
        if (counts->handbacks[i])
            fn(context, "handbacks", insn_name((enum insn_id)i), counts->handbacks[i]);
}
