/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine's options: which tier runs a VM's code, and with how much memory.
 *
 *   tier=translate | tier=interp   neither: translate, where the host can (translate_probe)
 *   runs=N                         blocks are translated after N runs by the interpreter (0 to 9)
 *   cache=KIB                      translated code and its tables, of all vCPUs together
 *   window=auto|off|always         guest programs at their own addresses in the host: translate/
 *                                  window.c; always: without waiting, for tests
 *
 * Separated by commas, in any order. runs and cache mean nothing to tier=interp.
 */
#ifndef LODGE_SOFT_TIER_H
#define LODGE_SOFT_TIER_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define SOFT_RUNS_DEFAULT  2
#define SOFT_CACHE_DEFAULT (64u << 20)
#define SOFT_CACHE_LEAST   (256u << 10)
#define SOFT_CACHE_MOST    (1024u << 20)

enum soft_tier {
    SOFT_TIER_BEST,
    SOFT_TIER_INTERPRET,
    SOFT_TIER_TRANSLATE,
};

enum soft_window {
    SOFT_WINDOW_AUTO,
    SOFT_WINDOW_OFF,
    SOFT_WINDOW_ALWAYS,
};

struct soft_options {
    enum soft_tier tier;
    enum soft_window window;
    int runs;
    size_t cache_size; /* bytes */
};

/* NULL or "": the defaults. -EINVAL says what is known. */
int soft_options_parse(const char *text, struct soft_options *ret, struct err *err);

/* Is the code of a VM with these options translated? why_not: what the host lacks for it, or NULL.
 * An error when it was asked for by name and cannot be. */
int soft_tier_choose(const struct soft_options *options, const char *why_not, bool *ret,
                     struct err *err);

#endif
